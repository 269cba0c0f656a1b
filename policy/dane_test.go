package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// chain is a leaf, the authority that signed it, and the root above.
type chain struct{ leaf, inter, root *x509.Certificate }

func newChain(t *testing.T, now time.Time, change func(*x509.Certificate)) chain {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, 3)
	for i := range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	sign := func(n int, c, parent *x509.Certificate, by int) *x509.Certificate {
		c.SerialNumber = big.NewInt(int64(n + 1))
		c.NotBefore = now.Add(-time.Hour)
		if c.NotAfter.IsZero() {
			c.NotAfter = now.Add(time.Hour)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, keys[n].Public(), keys[by])
		if err != nil {
			t.Fatal(err)
		}
		out, _ := x509.ParseCertificate(der)
		return out
	}
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true}
	}
	root := ca("root")
	r := sign(0, root, root, 0)
	i := sign(1, ca("inter"), r, 0)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "cn.example"}, DNSNames: []string{"mx.example.org"}}
	change(leaf)
	return chain{sign(2, leaf, i, 1), i, r}
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

func TestVerifyTLSA(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	good := newChain(t, now, func(*x509.Certificate) {})
	expired := newChain(t, now, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	cnOnly := newChain(t, now, func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "mx.example.org" })
	other := newChain(t, now, func(*x509.Certificate) {})
	sent := func(c chain) []*x509.Certificate { return []*x509.Certificate{c.leaf, c.inter} }
	tests := []struct {
		clause string
		record TLSARecord
		sent   []*x509.Certificate
		names  []Domain
		ok     bool
	}{
		{"RFC 7672 3.1.1 3 1 1", record(3, 1, 1, good.leaf), sent(good), nil, true},
		{"RFC 7672 3.1.1 3 0 2", record(3, 0, 2, good.leaf), sent(good), nil, true},
		{"RFC 7672 3.1.1 3 1 0", record(3, 1, 0, good.leaf), sent(good), nil, true},
		{"RFC 7672 3.1.1 names and dates are ignored", record(3, 1, 1, expired.leaf), sent(expired), []Domain{"other.example"}, true},
		{"3 1 1 of another key", record(3, 1, 1, other.leaf), sent(good), nil, false},
		{"3 1 1 of the authority is not the leaf", record(3, 1, 1, good.inter), sent(good), nil, false},
		{"RFC 7672 3.1.2 2 0 1", record(2, 0, 1, good.inter), sent(good), []Domain{"mx.example.org"}, true},
		{"RFC 7672 3.1.2 2 1 2", record(2, 1, 2, good.inter), sent(good), []Domain{"mx.example.org"}, true},
		{"RFC 7671 5.2.2 2 0 0 only in DNS", record(2, 0, 0, good.root), sent(good), []Domain{"mx.example.org"}, true},
		{"RFC 7671 5.2.3 2 1 0 signed the topmost", record(2, 1, 0, good.root), sent(good), []Domain{"mx.example.org"}, true},
		{"2 1 0 of another key", record(2, 1, 0, other.root), sent(good), []Domain{"mx.example.org"}, false},
		{"2 0 1 that is not sent", record(2, 0, 1, good.root), sent(good), []Domain{"mx.example.org"}, false},
		{"RFC 7672 3.1.2 dates count for 2", record(2, 0, 1, expired.inter), sent(expired), []Domain{"mx.example.org"}, false},
		{"RFC 7672 3.2.2 names count for 2", record(2, 0, 1, good.inter), sent(good), []Domain{"www.example.org"}, false},
		{"RFC 7672 3.2.2 any reference name", record(2, 0, 1, good.inter), sent(good), []Domain{"www.example.org", "mx.example.org"}, true},
		{"RFC 7672 3.2.3 the CN only without DNS-IDs", record(2, 0, 1, cnOnly.inter), sent(cnOnly), []Domain{"mx.example.org"}, true},
		{"RFC 7672 3.2.3 the CN not beside DNS-IDs", record(2, 0, 1, good.inter), sent(good), []Domain{"cn.example"}, false},
		{"the authority of another", record(2, 0, 1, other.inter), []*x509.Certificate{good.leaf, other.inter}, []Domain{"mx.example.org"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			target := Target{Host: "mx.example.org", TLSA: []TLSARecord{tt.record}, Names: tt.names}
			if f := target.verifyTLSA(tt.sent, now); (f == nil) != tt.ok {
				t.Fatalf("failure %v: want ok=%t", f, tt.ok)
			}
		})
	}
}

func TestUsable(t *testing.T) {
	c := newChain(t, time.Now(), func(*x509.Certificate) {})
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
	c := newChain(t, time.Now(), func(*x509.Certificate) {})
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
