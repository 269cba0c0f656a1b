package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"
)

// Inspector turns finished handshakes into evidence.
type Inspector struct {
	Roots  *x509.CertPool // trusted roots of WebPKI; nil: the system's
	Chains Chains         // remembers chains that led to one of Roots; nil: each is verified anew
}

// Chains remembers the times at which chains lead to a root. Signatures are what costs time
// in verifying a chain, and they do not change: within the validity of all certificates on
// the way from leaf to root the same chain leads to the same root, whoever sends it. Names
// are no part of it, and are compared each time. Calls are concurrent.
type Chains interface {
	// Leads reports whether the chain is known to lead to a root at that time.
	Leads(chain []*x509.Certificate, now time.Time) bool
	// Led says that it was found now to lead to one, at any time of those from one to another.
	Led(chain []*x509.Certificate, now, from, until time.Time)
}

// Inspect is Inspector.Inspect without a memory.
func Inspect(cs tls.ConnectionState, s Step, roots *x509.CertPool, now time.Time) Evidence {
	return Inspector{Roots: roots}.Inspect(cs, s, now)
}

// Inspect turns a finished handshake into evidence. The certificate is always
// measured against WebPKI and against the TLSA records, whatever the floor, so that the level is what the
// evidence proves and not what was asked for.
func (i Inspector) Inspect(cs tls.ConnectionState, s Step, now time.Time) Evidence {
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
	if e.WebPKI = i.verifyWebPKI(cs.PeerCertificates, s.Target.Host, now); e.WebPKI == nil {
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
func (i Inspector) verifyWebPKI(chain []*x509.Certificate, host Domain, now time.Time) *Failure {
	err := i.verify(chain, string(host), now)
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

// verify is Certificate.Verify with a memory of chains. What does not lead to a root is not
// remembered, so an error is always that of the library.
func (i Inspector) verify(chain []*x509.Certificate, name string, now time.Time) error {
	if i.Chains != nil && i.Chains.Leads(chain, now) {
		return chain[0].VerifyHostname(name)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	ways, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: name, Roots: i.Roots, Intermediates: between, CurrentTime: now,
	})
	if err == nil && i.Chains != nil {
		from, until := valid(ways)
		i.Chains.Led(chain, now, from, until)
	}
	return err
}

// valid is when all certificates on the way that is good for the longest are valid.
func valid(ways [][]*x509.Certificate) (from, until time.Time) {
	for _, way := range ways {
		begin, end := way[0].NotBefore, way[0].NotAfter
		for _, c := range way[1:] {
			if c.NotBefore.After(begin) {
				begin = c.NotBefore
			}
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(until) {
			from, until = begin, end
		}
	}
	return from, until
}
