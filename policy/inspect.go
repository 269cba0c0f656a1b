package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"
)

// Inspect turns a finished handshake into evidence. The certificate is always
// measured against WebPKI and against the TLSA records, whatever the floor, so that the level is what the
// evidence proves and not what was asked for. roots nil means the system's roots.
func Inspect(cs tls.ConnectionState, s Step, roots *x509.CertPool, now time.Time) Evidence {
	e := Evidence{
		Rung: s.Rung, Route: s.Target.Route,
		Version: cs.Version, Suite: cs.CipherSuite, Group: uint16(cs.CurveID), Resumed: cs.DidResume,
	}
	if !cs.HandshakeComplete {
		e.Version, e.Suite = 0, 0 // proves nothing
		return e
	}
	if len(cs.PeerCertificates) == 0 {
		e.WebPKI = &Failure{Reason: CertificateUntrusted, Host: s.Target.Host, Detail: "the host sent no certificate"}
		return e
	}
	leaf := cs.PeerCertificates[0]
	e.Certificate = digest(leaf.Raw)
	e.SPKI = digest(leaf.RawSubjectPublicKeyInfo)
	e.NotAfter = leaf.NotAfter.UTC().Format(time.RFC3339)
	if e.WebPKI = verifyWebPKI(cs.PeerCertificates, s.Target.Host, roots, now); e.WebPKI == nil {
		e.Peer |= PeerWebPKI
	}
	if len(s.Target.TLSA) > 0 {
		if e.TLSA = s.Target.verifyTLSA(cs.PeerCertificates, now); e.TLSA == nil {
			e.Peer |= PeerTLSA
		}
	}
	return e
}

// InClear is the evidence of a session without TLS on the clear rung.
func InClear(s Step) Evidence { return Evidence{Rung: s.Rung, Route: s.Target.Route} }

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// verifyWebPKI checks the chain and the MX name as RFC 8461 4.2 asks: DNS-IDs
// only, never the CN, a wildcard as the whole left-most label, not expired. The
// reference name is the host as in the MX record.
func verifyWebPKI(chain []*x509.Certificate, host Domain, roots *x509.CertPool, now time.Time) *Failure {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: string(host), Roots: roots, Intermediates: between, CurrentTime: now,
	})
	if err == nil {
		return nil
	}
	f := Failure{Reason: CertificateUntrusted, Host: host, Detail: err.Error()}
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.Reason = CertificateExpired
	case errors.As(err, new(x509.HostnameError)):
		f.Reason = CertificateMismatch
	}
	return &f
}
