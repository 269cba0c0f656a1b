package policytest_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// What a client makes of each kind of certificate.
func TestLeaf(t *testing.T) {
	t.Parallel()
	ca, other := policytest.NewCA(), policytest.NewCA()
	names := []string{"mx.example", "*.wild.example"}
	now := time.Now()
	cases := []struct {
		name string
		by   *policytest.CA
		o    policytest.LeafOptions
		want bool
	}{
		{"good", ca, policytest.LeafOptions{Names: names}, true},
		{"by an intermediate", ca.Intermediate(), policytest.LeafOptions{Names: names}, true},
		{"by an intermediate of an intermediate", ca.Intermediate().Intermediate(), policytest.LeafOptions{Names: names}, true},
		{"intermediates left out", ca.Intermediate(), policytest.LeafOptions{Names: names, WithoutChain: true}, false},
		{"P-384", ca, policytest.LeafOptions{Names: names, Key: policytest.P384}, true},
		{"RSA", ca, policytest.LeafOptions{Names: names, Key: policytest.RSA2048}, true},
		{"Ed25519", ca, policytest.LeafOptions{Names: names, Key: policytest.Ed25519}, true},
		{"self-signed", ca, policytest.LeafOptions{Names: names, SelfSigned: true}, false},
		{"expired", ca, policytest.LeafOptions{Names: names, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}, false},
		{"not yet valid", ca, policytest.LeafOptions{Names: names, NotBefore: now.Add(time.Hour)}, false},
		{"wrong name", ca, policytest.LeafOptions{Names: []string{"other.example"}}, false},
		{"name in the CN alone", ca, policytest.LeafOptions{CommonName: "mx.example"}, false},
		{"another issuer", other, policytest.LeafOptions{Names: names}, false},
	}
	for _, c := range cases {
		cert := c.by.Leaf(c.o)
		between := x509.NewCertPool()
		for _, der := range cert.Certificate[1:] {
			parsed, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			between.AddCert(parsed)
		}
		_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "mx.example", Roots: ca.Pool(), Intermediates: between})
		if (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		chain, key := policytest.PEM(cert)
		again, err := tls.X509KeyPair(chain, key)
		if err != nil || len(again.Certificate) != len(cert.Certificate) {
			t.Errorf("%s: PEM does not come back: %v", c.name, err)
		}
	}
	withRoot := ca.Leaf(policytest.LeafOptions{Names: names, WithRoot: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if len(withRoot.Certificate) != 2 || !bytes.Equal(withRoot.Certificate[1], ca.Certificate().Raw) || withRoot.Leaf.VerifyHostname("127.0.0.1") != nil {
		t.Error("the root is not sent along, or the address is missing")
	}
	renewed := ca.Leaf(policytest.LeafOptions{Names: names, Signer: withRoot.PrivateKey.(crypto.Signer)})
	if !bytes.Equal(renewed.Leaf.RawSubjectPublicKeyInfo, withRoot.Leaf.RawSubjectPublicKeyInfo) || bytes.Equal(renewed.Leaf.Raw, withRoot.Leaf.Raw) {
		t.Error("a renewed certificate has another key, or is the same")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM()) || !pool.Equal(ca.Pool()) {
		t.Error("the CA file is not the CA")
	}
}

// RFC 6698 2.1: what the record of a certificate holds.
func TestTLSA(t *testing.T) {
	t.Parallel()
	cert := policytest.NewCA().Certificate()
	for _, c := range []struct {
		selector, matching uint8
		octets             int
		full               []byte
	}{{0, 0, 0, cert.Raw}, {1, 0, 0, cert.RawSubjectPublicKeyInfo}, {0, 1, 32, nil}, {1, 1, 32, nil}, {0, 2, 64, nil}, {1, 2, 64, nil}} {
		r := policytest.TLSA(cert, 3, c.selector, c.matching)
		if r.Usage != 3 || r.Selector != c.selector || r.Matching != c.matching {
			t.Errorf("%+v", r)
		}
		if c.full != nil && !bytes.Equal(r.Data, c.full) || c.full == nil && len(r.Data) != c.octets {
			t.Errorf("%d %d: %d octets", c.selector, c.matching, len(r.Data))
		}
	}
}
