package policytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// KeyType is the kind of a certificate's key.
type KeyType uint8

// The kinds. The zero value is taken as P256.
const (
	KeyUnset KeyType = iota
	P256
	P384
	RSA2048
	Ed25519
)

// CA is a certificate authority that exists only in memory. Its certificates are
// good for nothing but names of tests. Methods are safe for concurrent use.
type CA struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain [][]byte // DER, from this CA up to and without the root
}

// NewCA makes a root.
func NewCA() *CA {
	key := newKey(P256)
	t := authority("Sealpost test root")
	return &CA{cert: issue(t, t, key.Public(), key), key: key}
}

// Intermediate makes an authority below this one. It is part of the chain of the
// leaves that it issues (RFC 7671 5.2.3: the anchor may be one of these).
func (ca *CA) Intermediate() *CA {
	key := newKey(P256)
	cert := issue(authority("Sealpost test intermediate"), ca.cert, key.Public(), ca.key)
	return &CA{cert: cert, key: key, chain: append([][]byte{cert.Raw}, ca.chain...)}
}

// Certificate returns the authority's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Pool returns a new pool that holds this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// PEM returns the authority's certificate for a CA file.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// LeafOptions says what a server's certificate looks like. The zero value is a
// certificate without a name, valid from an hour ago for a day.
type LeafOptions struct {
	// Names are its DNS names (subjectAltName dNSName), wildcards included.
	Names []string
	// IPs are its addresses (subjectAltName iPAddress).
	IPs []netip.Addr
	// CommonName is the subject's CN; empty: none.
	CommonName string
	// NotBefore and NotAfter bound its validity; zero: an hour ago, and a day later.
	NotBefore, NotAfter time.Time
	// Key is the kind of its key.
	Key KeyType
	// Signer is its key, to renew a certificate with the same one; nil: a new one of kind Key.
	Signer crypto.Signer
	// SelfSigned makes it its own issuer; the CA has no part in it.
	SelfSigned bool
	// WithRoot sends the root's certificate along (RFC 7672 3.1.2 asks servers to for DANE-TA).
	WithRoot bool
	// WithoutChain leaves the intermediates out, as careless servers do.
	WithoutChain bool
}

// Leaf issues a server's certificate. Its chain holds the intermediates; Leaf is
// filled in.
func (ca *CA) Leaf(o LeafOptions) tls.Certificate {
	key := o.Signer
	if key == nil {
		key = newKey(o.Key)
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: o.CommonName},
		DNSNames:     o.Names,
		NotBefore:    o.NotBefore,
		NotAfter:     o.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range o.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = t.NotBefore.Add(24 * time.Hour)
	}
	if o.SelfSigned {
		leaf := issue(t, t, key.Public(), key)
		return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	}
	leaf := issue(t, ca.cert, key.Public(), ca.key)
	c := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	if !o.WithoutChain {
		c.Certificate = append(c.Certificate, ca.chain...)
	}
	if o.WithRoot && len(ca.chain) == 0 {
		c.Certificate = append(c.Certificate, ca.cert.Raw)
	}
	return c
}

// PEM returns a certificate's chain and its key for a cert_file and a key_file.
func PEM(c tls.Certificate) (chain, key []byte) {
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(err)
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TLSA returns the record that a certificate is published with (RFC 6698 2.1).
// Selector 0 is the whole certificate, 1 its key; matching 0 is the full data, 1
// SHA-256, 2 SHA-512. Other numbers give a record with full data that nobody can use.
func TLSA(cert *x509.Certificate, usage, selector, matching uint8) policy.TLSARecord {
	data := cert.Raw
	if selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return policy.TLSARecord{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newKey(t KeyType) (key crypto.Signer) {
	var err error
	switch t {
	case P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(err)
	return key
}

func issue(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return cert
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(err)
	return n.Add(n, big.NewInt(1)) // RFC 5280 4.1.2.2: positive
}

// must is for what fails only when a fixture asks for the impossible.
func must(err error) {
	if err != nil {
		panic("policytest: " + err.Error())
	}
}
