package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

// FuzzTLSA: any record against one good chain. It never panics, and it matches only
// when it names a certificate or a key of the chain: a digest that is equal, or full
// data with the same key.
func FuzzTLSA(f *testing.F) {
	g := newForge(f)
	root := g.root("root")
	inter := g.ca(root, "inter")
	leaf := g.leaf(inter)
	chain := sent(leaf, inter, root)
	for _, c := range chain {
		for i := range uint8(12) {
			r := record(2+i/6, i/3%2, i%3, c)
			f.Add(r.Usage, r.Selector, r.Matching, r.Data)
			f.Add(r.Usage, r.Selector, (r.Matching+1)%3, r.Data)
			f.Add(r.Usage, r.Selector, r.Matching, r.Data[:len(r.Data)-1])
		}
	}
	f.Add(uint8(0), uint8(0), uint8(0), []byte(nil))
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		r := TLSARecord{usage, selector, matching, data}
		s := Step{Target: &Target{Host: "mx.example.org", TLSA: usable([]TLSARecord{r}), Names: []Domain{"mx.example.org"}}, Rung: Modern}
		if len(s.Target.TLSA) == 0 {
			return
		}
		e := Inspect(finished(chain), s, x509.NewCertPool(), g.now)
		if matched := e.Peer&PeerTLSA != 0; matched != (e.TLSA == nil) || matched != named(r, chain) {
			t.Fatalf("%d %d %d %x: matched %t (%+v), the chain's: %t", usage, selector, matching, data, matched, e.TLSA, named(r, chain))
		}
	})
}

// named says whether a usable record is about the leaf (usage 3) or an authority
// (usage 2) of a good chain. An authority only in DNS is the domain's own word: its
// name and key must lead to the chain, nothing vouches for the rest of it.
func named(r TLSARecord, chain []*x509.Certificate) bool {
	who := chain[1:]
	if r.Usage == 3 {
		who = chain[:1]
	}
	for _, c := range who {
		whole := [2][]byte{c.Raw, c.RawSubjectPublicKeyInfo}[r.Selector]
		d2, d5 := sha256.Sum256(whole), sha512.Sum512(whole)
		if bytes.Equal(r.Data, [3][]byte{whole, d2[:], d5[:]}[r.Matching]) {
			return true
		}
		// Anything else that stands for the same key, spelled another way, or in another
		// certificate that is good now.
		if r.Usage != 2 || r.Matching != 0 {
			continue
		}
		if key, err := x509.ParsePKIXPublicKey(r.Data); err == nil && r.Selector == 1 && sameKey(c, key) {
			return true
		}
		if a, err := x509.ParseCertificate(r.Data); err == nil && r.Selector == 0 && leadsTo(a, c, chain) {
			return true
		}
	}
	return false
}

func sameKey(c *x509.Certificate, key any) bool {
	k, ok := c.PublicKey.(interface{ Equal(x any) bool })
	return ok && k.Equal(key)
}

// leadsTo reports whether a, which only DNS has, can stand in for c of the chain.
func leadsTo(a, c *x509.Certificate, chain []*x509.Certificate) bool {
	roots := poolOf([]*x509.Certificate{a})
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: poolOf(chain[1:]), CurrentTime: chain[0].NotAfter})
	return err == nil && sameKey(c, a.PublicKey) && bytes.Equal(a.RawSubject, c.RawSubject)
}

// A resumed session shows the certificate of the handshake that it resumes: it is
// judged by the records, the names and the time of today.
func TestInspectResumed(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	root, old, other := f.root("root"), f.root("old"), f.root("other")
	leaf := f.leaf(root)
	cs := finished(sent(leaf, root))
	cs.DidResume = true
	day := f.now.Add(24 * time.Hour)
	tests := []struct {
		clause string
		record TLSARecord
		names  []Domain
		now    time.Time
		ok     bool
	}{
		{"RFC 7672 3.2 the record is still there", record(3, 1, 1, leaf.Certificate), nil, f.now, true},
		{"RFC 7672 3.2 the record was changed", record(3, 1, 1, old.Certificate), nil, f.now, false},
		{"RFC 7671 5.1 the certificate has run out since, DANE-EE", record(3, 1, 1, leaf.Certificate), nil, day, true},
		{"RFC 7672 3.1.2 the anchor", record(2, 0, 1, root.Certificate), []Domain{"mx.example.org"}, f.now, true},
		{"RFC 7672 3.1.2 the anchor was changed", record(2, 0, 1, other.Certificate), []Domain{"mx.example.org"}, f.now, false},
		{"RFC 7672 3.1.2 it has run out since, DANE-TA", record(2, 0, 1, root.Certificate), []Domain{"mx.example.org"}, day, false},
		{"RFC 7672 3.2.2 it is for another name", record(2, 0, 1, root.Certificate), []Domain{"other.example.org"}, f.now, false},
	}
	for _, tt := range tests {
		s := Step{Target: &Target{Host: "mx.example.org", Route: RouteDNSSEC, TLSA: []TLSARecord{tt.record}, Names: tt.names, Floor: Floor{DANE, NeedTLSA}}, Rung: Modern}
		e := Inspect(cs, s, x509.NewCertPool(), tt.now)
		level, failure := s.Judge(e)
		if (failure == nil) != tt.ok || (level == DANE) != tt.ok || !e.Resumed {
			t.Errorf("%s: level %v, %v, resumed %t; want ok=%t", tt.clause, level, failure, e.Resumed, tt.ok)
		}
	}
	cs.HandshakeComplete = false
	s := Step{Target: &Target{Host: "mx.example.org", TLSA: []TLSARecord{record(3, 1, 1, leaf.Certificate)}}, Rung: Modern}
	if e := Inspect(cs, s, nil, f.now); e.Peer != PeerNone {
		t.Errorf("a handshake that is not complete proves %v", e.Peer)
	}
	s.Target.TLSA = []TLSARecord{record(3, 1, 1, leaf.Certificate)}
	if e := Inspect(tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13}, s, nil, f.now); e.Peer != PeerNone {
		t.Errorf("no certificate proves %v", e.Peer)
	}
}

// BenchmarkInspect is what a measurement of a chain of three costs.
func BenchmarkInspect(b *testing.B) {
	f := newForge(b)
	root := f.root("root")
	inter := f.ca(root, "inter")
	leaf := f.leaf(inter)
	cs := finished(sent(leaf, inter, root))
	roots := poolOf(sent(root))
	for name, r := range map[string][]TLSARecord{
		"WebPKI": nil,
		"3 1 1":  rrs(record(3, 1, 1, leaf.Certificate)),
		"2 0 1":  rrs(record(2, 0, 1, root.Certificate)),
		"2 0 0":  rrs(record(2, 0, 0, root.Certificate)),
		"2 1 0":  rrs(record(2, 1, 0, root.Certificate)),
	} {
		b.Run(name, func(b *testing.B) {
			s := Step{Target: &Target{Host: "mx.example.org", TLSA: r, Names: []Domain{"mx.example.org"}}, Rung: Modern}
			b.ReportAllocs()
			for b.Loop() {
				if e := Inspect(cs, s, roots, f.now); e.Peer&PeerWebPKI == 0 || e.TLSA != nil {
					b.Fatalf("%+v", e)
				}
			}
		})
	}
}
