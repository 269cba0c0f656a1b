package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	// good is TLS 1.3 with a proven route and peer; each row spoils or raises one thing.
	good := Evidence{Rung: Modern, Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256}
	with := func(change func(*Evidence)) Evidence { e := good; change(&e); return e }
	untrusted := &Failure{Reason: CertificateUntrusted}
	tests := []struct {
		clause string
		e      Evidence
		floor  Floor
		level  Level
		reason Reason
	}{
		{"nobody vouches: encrypted", with(func(e *Evidence) { e.WebPKI = untrusted }), Floor{Level: Plaintext}, Encrypted, ReasonUnset},
		{"webpki: verified", with(func(e *Evidence) { e.Peer = PeerWebPKI }), Floor{Level: Verified}, Verified, ReasonUnset},
		{"webpki, testing policy: verified (RFC 8461 5)", with(func(e *Evidence) { e.Peer, e.Route = PeerWebPKI, RouteSTS }), Floor{Level: Verified}, Verified, ReasonUnset},
		{"webpki, enforced policy: mta-sts", with(func(e *Evidence) { e.Peer, e.Route = PeerWebPKI, RouteSTSEnforce }), Floor{Level: MTASTS}, MTASTS, ReasonUnset},
		{"tlsa behind insecure MX: verified (RFC 7672 2.2.1)", with(func(e *Evidence) { e.Peer = PeerTLSA }), Floor{Level: DANE}, Verified, BelowFloor},
		{"tlsa behind secure MX: dane", with(func(e *Evidence) { e.Peer, e.Route = PeerTLSA, RouteDNSSEC }), Floor{Level: DANE}, DANE, ReasonUnset},
		{"TLS 1.1 is legacy whatever the certificate", with(func(e *Evidence) { e.Version, e.Peer = tls.VersionTLS11, PeerWebPKI }), Floor{Level: Encrypted}, Legacy, BelowFloor},
		{"a weak suite is legacy", with(func(e *Evidence) { e.Version, e.Suite = tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA }), Floor{Level: Legacy}, Legacy, ReasonUnset},
		{"never above the rung's ceiling", with(func(e *Evidence) { e.Rung, e.Peer = LegacyTLS, PeerWebPKI }), Floor{Level: Encrypted}, Legacy, BelowFloor},
		{"in clear", Evidence{Rung: Clear}, Floor{Level: Plaintext}, Plaintext, ReasonUnset},
		{"in clear under a floor", Evidence{Rung: Clear}, Floor{Level: Legacy}, Plaintext, BelowFloor},
		{"no handshake on a TLS rung proves nothing", Evidence{Rung: Modern}, Floor{}, Unset, BelowFloor},
		{"the zero evidence satisfies nothing", Evidence{}, Floor{}, Unset, BelowFloor},
		{"the missing proof is named", with(func(e *Evidence) { e.WebPKI = &Failure{Reason: CertificateExpired} }), Floor{Level: Verified}, Encrypted, CertificateExpired},
		{"RFC 8689 4.2.1 no route", with(func(e *Evidence) { e.Peer, e.RequireTLS = PeerWebPKI, true }), Floor{Verified, NeedRoute | NeedRequireTLS}, Verified, RouteUnproven},
		{"RFC 8689 4.2.1 no keyword", with(func(e *Evidence) { e.Peer, e.Route = PeerWebPKI, RouteDNSSEC }), Floor{Verified, NeedRoute | NeedRequireTLS}, Verified, RequireTLSMissing},
		{"RFC 8689 4.1 a testing policy proves a route", with(func(e *Evidence) { e.Peer, e.Route, e.RequireTLS = PeerWebPKI, RouteSTS, true }),
			Floor{Verified, NeedRoute | NeedRequireTLS}, Verified, ReasonUnset},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			s := Step{Target: &Target{Host: "mx.example.org", Floor: tt.floor}, Rung: tt.e.Rung}
			level, f := s.Judge(tt.e)
			reason := ReasonUnset
			if f != nil {
				reason = f.Reason
			}
			if level != tt.level || reason != tt.reason {
				t.Fatalf("judged %v, %v: want %v, %v", level, reason, tt.level, tt.reason)
			}
		})
	}
	min13 := Step{Target: &Target{Floor: Floor{Level: Encrypted}, MinTLS: tls.VersionTLS13}}
	if _, f := min13.Judge(Evidence{Rung: Modern, Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}); f == nil {
		t.Error("TLS 1.2 passed min_tls 1.3")
	}
}

// issue makes a certificate for a name under a fresh root.
func issue(t *testing.T, name string, notAfter time.Time) (leaf *x509.Certificate, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(c, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter.Add(48 * time.Hour)}
	root := sign(ca, ca)
	// The name is in the CN too: it must not count (RFC 8461 4.2).
	leaf = sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{name},
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter}, root)
	roots = x509.NewCertPool()
	roots.AddCert(root)
	return leaf, roots
}

func TestInspect(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	step := Step{Target: &Target{Host: "mx.example.org", Route: RouteDNSSEC}, Rung: Modern}
	tests := []struct {
		clause string
		name   string
		until  time.Time
		roots  bool
		reason Reason
	}{
		{"RFC 8461 4.2 the MX name", "mx.example.org", now.Add(time.Hour), true, ReasonUnset},
		{"RFC 8461 4.2 a wildcard is the whole left-most label", "*.example.org", now.Add(time.Hour), true, ReasonUnset},
		{"RFC 8461 4.2 a wildcard stands for one label", "*.org", now.Add(time.Hour), true, CertificateMismatch},
		{"RFC 8461 4.2 another name, CN does not count", "www.example.org", now.Add(time.Hour), true, CertificateMismatch},
		{"RFC 8461 4.2 expired", "mx.example.org", now.Add(-time.Hour), true, CertificateExpired},
		{"RFC 8461 4.2 unknown root", "mx.example.org", now.Add(time.Hour), false, CertificateUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			leaf, roots := issue(t, tt.name, tt.until)
			if !tt.roots {
				roots = x509.NewCertPool()
			}
			cs := tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, PeerCertificates: []*x509.Certificate{leaf}}
			e := Inspect(cs, step, roots, now)
			reason := ReasonUnset
			if e.WebPKI != nil {
				reason = e.WebPKI.Reason
			}
			if reason != tt.reason || (e.Peer == PeerWebPKI) != (tt.reason == ReasonUnset) {
				t.Fatalf("evidence %+v, reason %v: want %v", e, reason, tt.reason)
			}
			if e.Certificate == "" || e.SPKI == "" || e.Route != RouteDNSSEC {
				t.Fatalf("evidence is not complete: %+v", e)
			}
		})
	}
	if e := Inspect(tls.ConnectionState{Version: tls.VersionTLS13}, step, nil, now); e.Level() != Unset {
		t.Errorf("a handshake that is not complete proves %v", e.Level())
	}
}

// FuzzJudge checks property 2: the level is never more than the evidence proves.
func FuzzJudge(f *testing.F) {
	f.Add(uint8(Modern), uint8(RouteDNSSEC), uint8(PeerTLSA), uint16(tls.VersionTLS13), uint16(tls.TLS_AES_128_GCM_SHA256), uint8(DANE))
	f.Fuzz(func(t *testing.T, rung, route, peer uint8, version, suite uint16, floor uint8) {
		e := Evidence{Rung: Rung(rung), Route: Route(route), Peer: Peer(peer), Version: version, Suite: suite}
		s := Step{Target: &Target{Floor: Floor{Level: Level(floor)}}, Rung: e.Rung}
		level, failure := s.Judge(e)
		switch {
		case level > e.Rung.Ceiling():
			t.Fatalf("%v on rung %v", level, e.Rung)
		case level > Plaintext && version == 0:
			t.Fatalf("%v without TLS", level)
		case level > Legacy && version < tls.VersionTLS12:
			t.Fatalf("%v with version %#x", level, version)
		case level > Encrypted && e.Peer == PeerNone:
			t.Fatalf("%v without a proven peer", level)
		case level == DANE && (e.Peer != PeerTLSA || e.Route == RouteNone):
			t.Fatalf("dane by %v, %v", e.Route, e.Peer)
		case failure == nil && (level == Unset || level < Level(floor)):
			t.Fatalf("level %v passed floor %v", level, Level(floor))
		}
	})
}
