package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// forge makes certificates of every kind, good and bad, for the tests of this package.
// (policytest.CA imports policy, so these tests cannot.)
type forge struct {
	t   testing.TB
	now time.Time
	n   int64
}

// entity is a certificate and its key.
type entity struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

type change = func(*x509.Certificate)

func newForge(t testing.TB) *forge {
	return &forge{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
}

func (f *forge) newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

// issue makes a certificate for key; by nil: self-signed.
func (f *forge) issue(by *entity, key *ecdsa.PrivateKey, c *x509.Certificate, changes []change) *entity {
	f.t.Helper()
	f.n++
	c.SerialNumber = big.NewInt(f.n)
	c.NotBefore, c.NotAfter = f.now.Add(-time.Hour), f.now.Add(time.Hour)
	c.MaxPathLen = -1
	for _, ch := range changes {
		ch(c)
	}
	if by == nil {
		by = &entity{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.Certificate, key.Public(), by.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return &entity{f.parse(der), key}
}

func (f *forge) parse(der []byte) *x509.Certificate {
	f.t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true}
}

func (f *forge) root(name string, changes ...change) *entity {
	return f.issue(nil, f.newKey(), authority(name), changes)
}

func (f *forge) ca(by *entity, name string, changes ...change) *entity {
	return f.issue(by, f.newKey(), authority(name), changes)
}

// cross is one more certificate for an authority that has one.
func (f *forge) cross(by, of *entity, changes ...change) *entity {
	return f.issue(by, of.key, authority(of.Subject.CommonName), changes)
}

// leaf is for mx.example.org unless changed; by nil: self-signed.
func (f *forge) leaf(by *entity, changes ...change) *entity {
	return f.issue(by, f.newKey(), &x509.Certificate{Subject: pkix.Name{CommonName: "cn.example"}, DNSNames: []string{"mx.example.org"}}, changes)
}

// v1 is a version 1 certificate with the subject and key of c: it has no extensions,
// so it does not say that it is no authority (RFC 5280 4.1.2.1).
func (f *forge) v1(by, c *entity) *entity {
	f.t.Helper()
	var tbs asn1.RawValue
	if _, err := asn1.Unmarshal(c.RawTBSCertificate, &tbs); err != nil {
		f.t.Fatal(err)
	}
	var plain []asn1.RawValue
	for rest := tbs.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			f.t.Fatal(err)
		}
		if v.Class != asn1.ClassContextSpecific { // neither version nor extensions
			plain = append(plain, v)
		}
	}
	plain[2] = asn1.RawValue{FullBytes: by.RawSubject} // serial, algorithm, issuer
	signed, err := asn1.Marshal(plain)
	if err != nil {
		f.t.Fatal(err)
	}
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, by.key, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}{asn1.RawValue{FullBytes: signed}, plain[1], asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		f.t.Fatal(err)
	}
	return &entity{f.parse(der), c.key}
}

// broken is the certificate with a signature that does not verify.
func (f *forge) broken(c *entity) *entity {
	f.t.Helper()
	der := append([]byte(nil), c.Raw...)
	der[len(der)-1] ^= 1
	return &entity{f.parse(der), c.key}
}

func sent(list ...*entity) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, e := range list {
		chain = append(chain, e.Certificate)
	}
	return chain
}
