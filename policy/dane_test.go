package policy

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"testing"
)

// chain is a leaf, the authority that signed it, and the root above.
type chain struct{ leaf, inter, root *x509.Certificate }

func newChain(t *testing.T) chain {
	f := newForge(t)
	root := f.root("root")
	inter := f.ca(root, "inter")
	return chain{f.leaf(inter).Certificate, inter.Certificate, root.Certificate}
}

func record(usage, selector, matching uint8, c *x509.Certificate) TLSARecord {
	data := c.Raw
	if selector == selectorSPKI {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case matchingSHA2:
		sum := sha256.Sum256(data)
		data = sum[:]
	case matchingSHA5:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return TLSARecord{usage, selector, matching, data}
}

func TestUsable(t *testing.T) {
	c := newChain(t)
	tests := []struct {
		clause string
		in     []TLSARecord
		want   int
	}{
		{"RFC 7672 3.1.3 usages 0 and 1", []TLSARecord{record(0, 0, 1, c.leaf), record(1, 1, 1, c.leaf)}, 0},
		{"unknown selector and matching type", []TLSARecord{{3, 2, 1, make([]byte, 32)}, {3, 1, 3, make([]byte, 32)}}, 0},
		{"RFC 6698 4.1 digest of the wrong length", []TLSARecord{{3, 1, 1, make([]byte, 31)}, {3, 1, 2, make([]byte, 32)}}, 0},
		{"RFC 6698 4.1 data that does not parse", []TLSARecord{{3, 0, 0, []byte("x")}, {3, 1, 0, []byte("x")}}, 0},
		{"RFC 7671 9 the strongest digest", []TLSARecord{record(3, 1, 1, c.leaf), record(3, 1, 2, c.leaf)}, 1},
		{"RFC 7671 9 a malformed stronger digest does not count", []TLSARecord{record(3, 1, 1, c.leaf), {3, 1, 2, make([]byte, 63)}}, 1},
		{"RFC 7671 9 the strongest digest of several keys", []TLSARecord{record(3, 1, 1, c.leaf), record(3, 1, 2, c.inter), record(3, 1, 1, c.inter), record(3, 1, 2, c.leaf)}, 2},
		{"RFC 7671 9 per usage and selector", []TLSARecord{record(3, 1, 1, c.leaf), record(3, 0, 2, c.leaf), record(2, 1, 2, c.inter)}, 3},
		{"RFC 7671 9 matching 0 beside a digest", []TLSARecord{record(3, 1, 0, c.leaf), record(3, 1, 1, c.leaf)}, 2},
	}
	for _, tt := range tests {
		if got := usable(tt.in); len(got) != tt.want {
			t.Errorf("%s: %d usable, want %d", tt.clause, len(got), tt.want)
		}
	}
}

func TestDecideDANE(t *testing.T) {
	c := newChain(t)
	secure := Lookup{Answer: Records, Secure: true}
	good := TLSAFacts{Asked: true, Lookup: secure, Base: "mx1.example.org", Records: []TLSARecord{record(3, 1, 1, c.leaf)}}
	tests := []struct {
		clause  string
		change  func(*Facts)
		query   Query
		targets int
		floor   Floor // of the first target
	}{
		{"RFC 7672 2.2 secure MX, usable TLSA", func(*Facts) {}, Query{}, 2, Floor{DANE, NeedTLSA}},
		{"RFC 7672 2.2.1 insecure MX, secure TLSA", func(f *Facts) { f.MX.Secure = false }, Query{}, 2, Floor{Verified, NeedTLSA}},
		{"RFC 7672 2.2 secure and none usable", func(f *Facts) { f.Hosts[0].TLSA.Records = []TLSARecord{{0, 0, 1, nil}} }, Query{}, 2, Floor{Level: Encrypted}},
		{"insecure TLSA is none", func(f *Facts) { f.Hosts[0].TLSA.Secure = false }, Query{}, 2, Floor{Level: Plaintext}},
		{"secure denial: no DANE", func(f *Facts) { f.Hosts[0].TLSA.Lookup = Lookup{Answer: NoData, Secure: true} }, Query{}, 2, Floor{Level: Plaintext}},
		{"RFC 7672 2.1.2 TLSA unknown: host not used now", func(f *Facts) { f.Hosts[0].TLSA.Lookup = Lookup{} }, Query{}, 1, Floor{Level: Plaintext}},
		{"RFC 7672 2.2.2 not asked: no DANE", func(f *Facts) { f.Hosts[0].TLSA = TLSAFacts{} }, Query{}, 2, Floor{Level: Plaintext}},
		{"RFC 8689 4.2.2 TLS-Required: No does not insist", func(*Facts) {}, Query{TLSOff: true}, 2, Floor{Level: Plaintext}},
		{"RFC 8689 4.2.2 nor on the lookup", func(f *Facts) { f.Hosts[0].TLSA.Lookup = Lookup{} }, Query{TLSOff: true}, 2, Floor{Level: Plaintext}},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			f := happy()
			f.MX.Secure = true
			f.Hosts[0].TLSA = good
			tt.change(&f)
			tt.query.Domain = "example.org"
			p := Decide(&f, &Ruleset{Default: lenient(), DANE: true, InsecureMXDANE: true}, &tt.query)
			targets := p.usable()
			if len(targets) != tt.targets || targets[0].Floor != tt.floor {
				t.Fatalf("%d targets, floor %v: want %d, %v", len(targets), targets[0].Floor, tt.targets, tt.floor)
			}
			for _, r := range targets[0].Rungs {
				if tt.floor.Level >= Encrypted && r.Ceiling() < Encrypted {
					t.Errorf("property 3: rung %v under a promise", r)
				}
			}
		})
	}
	f := happy()
	for i := range f.Hosts {
		f.Hosts[i].TLSA = TLSAFacts{Asked: true}
	}
	p := Decide(&f, &Ruleset{Default: lenient(), DANE: true, InsecureMXDANE: true}, &Query{})
	if p.Refusal == nil || p.Refusal.Reason != TLSAUnknown || p.Refusal.Permanent() {
		t.Errorf("refusal %+v: want tlsa-unknown, temporary", p.Refusal)
	}
}

// RFC 8461 2, RFC 7672 2.2.1: where TLSA decides, a WebPKI certificate is no substitute.
func TestJudgeTLSAOnly(t *testing.T) {
	e := Evidence{Rung: Modern, Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Peer: PeerWebPKI,
		TLSA: &Failure{Reason: TLSAMismatch}}
	for _, floor := range []Floor{{Verified, NeedTLSA}, {DANE, NeedTLSA}} {
		s := Step{Target: &Target{Floor: floor, Basis: BasisDANE}, Rung: Modern}
		if _, f := s.Judge(e); f == nil || f.Reason != TLSAMismatch {
			t.Errorf("floor %v: failure %v, want tlsa-mismatch", floor, f)
		}
	}
}
