package smtpclient

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/sealpost/sealpost/policy"
)

// profile returns a new TLS configuration for a rung, without ServerName; nil for
// rungs without TLS.
//
// Nothing is verified during the handshake (InsecureSkipVerify): policy.Inspect
// measures the certificate afterwards, against TLSA and WebPKI alike, so that one
// handshake serves every level and the proof is recorded also where it was not
// demanded. An explicit CipherSuites list is the only way to the old suites that
// depends on no GODEBUG setting, which would be process-wide.
func profile(r policy.Rung) *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify: true, // measured by policy.Inspect, see above
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       modernSuites(),
		// One record per flight, thus one system call: our flights are written
		// when they are complete, so small first records save no time.
		DynamicRecordSizingDisabled: true,
	}
	switch r {
	case policy.Modern:
		c.CurvePreferences = append([]tls.CurveID{
			tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
		}, classicalCurves()...)
	case policy.Classical:
		c.CurvePreferences = classicalCurves()
	case policy.LegacyTLS:
		c.MinVersion = tls.VersionTLS10
		// The hosts that need this rung have failed with a TLS 1.3 hello before;
		// some choke on the mere offer of it.
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = legacySuites()
		c.CurvePreferences = classicalCurves()
	default:
		return nil
	}
	return c
}

func classicalCurves() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}

// modernSuites are those of TLS 1.2 with forward secrecy and AEAD. (The suites of
// TLS 1.3 are not configurable and all good.)
func modernSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// legacySuites is everything that crypto/tls has: better than clear, where clear
// would be next (RFC 7435 3).
func legacySuites() []uint16 {
	var ids []uint16
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	for _, s := range tls.InsecureCipherSuites() {
		ids = append(ids, s.ID)
	}
	return ids
}

// profiles has one configuration for each rung with TLS. A connection uses a
// clone with its own ServerName; the rest is shared and never written.
type profiles map[policy.Rung]*tls.Config

func newProfiles(roots *x509.CertPool) profiles {
	p := profiles{}
	for _, r := range []policy.Rung{policy.Modern, policy.Classical, policy.LegacyTLS} {
		p[r] = profile(r)
		p[r].RootCAs = roots
	}
	return p
}
