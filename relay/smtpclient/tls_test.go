package smtpclient

import (
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
)

const (
	offerTLS = "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n"
	afterTLS = "C: EHLO relay.test\nS: 250 mx\nIDLE"
)

// startTLSHost is a fake host whose TLS is configured by fn.
func startTLSHost(t *testing.T, fn func(*tls.Config)) *fakeHost {
	t.Helper()
	return startHostTLS(t, fn, offerTLS+"TLS?\n"+afterTLS)
}

// F23: each way of failing has its reason.
func TestHandshakeReasons(t *testing.T) {
	t.Parallel()
	alert := func(n string) string {
		return offerTLS + "HELLO\nS> \"\\x15\\x03\\x01\\x00\\x02\\x02\\x" + n + "\"\nDROP"
	}
	tests := []struct {
		name   string
		script string
		want   policy.Reason
	}{
		{"RFC 8446 6.2 handshake_failure", alert("28"), policy.HandshakeVersion},
		{"RFC 8446 6.2 protocol_version", alert("46"), policy.HandshakeVersion},
		{"RFC 8446 6.2 insufficient_security", alert("47"), policy.HandshakeVersion},
		{"RFC 8446 6.2 internal_error", alert("50"), policy.HandshakeAlert},
		{"RFC 8446 6.2 decode_error", alert("32"), policy.HandshakeAlert},
		{"RFC 8446 6.2 unrecognized_name", alert("70"), policy.HandshakeAlert},
		{"RFC 8446 6.2 access_denied", alert("31"), policy.HandshakeAlert},
		{"a reply in clear instead of a ServerHello", offerTLS + "HELLO\nS: 500 what?\nDROP", policy.HandshakeAlert},
		{"garbage", offerTLS + "HELLO\nS: hm, hm, hm, hm\nDROP", policy.HandshakeAlert},
		{"end of file", offerTLS + "HELLO\nDROP", policy.HandshakeEOF},
		{"half a record", offerTLS + "HELLO\nS> \"\\x16\\x03\\x03\\x00\"\nDROP", policy.HandshakeEOF},
		{"reset", offerTLS + "HELLO\nRESET", policy.HandshakeEOF},
		{"stall", offerTLS + "HELLO\nSTALL", policy.HandshakeStall},
		{"half a record and stall", offerTLS + "HELLO\nS> \"\\x16\\x03\\x03\\x00\"\nSTALL", policy.HandshakeStall},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			o := options()
			o.Timeouts.TLS = hasty().Timeouts.TLS
			checkFails(t, o, step(h.addr, policy.Modern), tt.want)
		})
	}
}

func checkFails(t *testing.T, o Options, s policy.Step, want policy.Reason) {
	t.Helper()
	p := newPool(t, o)
	n, _, f := p.Open(t.Context(), s)
	if f == nil {
		n.Quit()
		t.Fatal("a session, want a failure")
	}
	if f.Reason != want {
		t.Errorf("got %v, want %v", f, want)
	}
	if !f.Reason.MayLower() {
		t.Error("the reason does not let the walk go on")
	}
}

// The words of crypto/tls that handshakeReason depends on, from real handshakes.
func TestHandshakeReasonsOfServers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		rung policy.Rung
		tls  func(*tls.Config)
		want policy.Reason
	}{
		{"TLS 1.1 only", policy.Modern, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, policy.HandshakeVersion},
		{"TLS 1.3 only, legacy rung", policy.LegacyTLS, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, policy.HandshakeVersion},
		{"CBC only", policy.Modern, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, policy.HandshakeVersion},
		{"certificate that is none, TLS 1.3", policy.Modern, badCertificate, policy.HandshakeCertificate},
		{"certificate that is none, TLS 1.2", policy.Modern, func(c *tls.Config) { badCertificate(c); c.MaxVersion = tls.VersionTLS12 }, policy.HandshakeCertificate},
		{"client certificate wanted, TLS 1.2", policy.Modern, func(c *tls.Config) {
			c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}, policy.HandshakeVersion}, // it says handshake_failure, like a host without a common suite
		{"RFC 8446 2, client certificate wanted, TLS 1.3: the alert comes instead of the EHLO reply", policy.Modern,
			func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, policy.HandshakeAlert},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startTLSHost(t, tt.tls)
			checkFails(t, options(), step(h.addr, tt.rung), tt.want)
		})
	}
}

func badCertificate(c *tls.Config) {
	c.Certificates = []tls.Certificate{{Certificate: [][]byte{{0x30, 0x01, 0x00}}, PrivateKey: c.Certificates[0].PrivateKey}}
}

// What each rung says in its ClientHello.
func TestHello(t *testing.T) {
	t.Parallel()
	for _, rung := range []policy.Rung{policy.Modern, policy.Classical, policy.LegacyTLS} {
		t.Run(rung.String(), func(t *testing.T) {
			t.Parallel()
			var hello *tls.ClientHelloInfo
			h := startTLSHost(t, func(c *tls.Config) {
				c.MinVersion = tls.VersionTLS10
				c.GetConfigForClient = func(i *tls.ClientHelloInfo) (*tls.Config, error) { hello = i; return nil, nil }
			})
			p := newPool(t, options())
			s, e, f := p.Open(t.Context(), step(h.addr, rung))
			if f != nil {
				t.Fatal(f)
			}
			s.Release()
			if hello.ServerName != "mx.example.test" {
				t.Errorf("SNI %q", hello.ServerName)
			}
			hybrid := slices.Contains(hello.SupportedCurves, tls.X25519MLKEM768)
			if want := rung == policy.Modern; hybrid != want {
				t.Errorf("hybrid key exchange: %v, want %v", hybrid, want)
			}
			old := slices.Contains(hello.SupportedVersions, tls.VersionTLS10)
			if want := rung == policy.LegacyTLS; old != want {
				t.Errorf("TLS 1.0: %v, want %v", old, want)
			}
			for _, id := range hello.CipherSuites {
				name := tls.CipherSuiteName(id)
				good := strings.Contains(name, "GCM") || strings.Contains(name, "POLY1305")
				if rung != policy.LegacyTLS && (!good || strings.HasPrefix(name, "TLS_RSA_")) {
					t.Errorf("offers %s", name)
				}
			}
			if e.Rung != rung || e.Version == 0 || e.Certificate == "" {
				t.Errorf("evidence %+v", e)
			}
		})
	}
}

// The evidence is that of this session, and WebPKI is measured though nobody asked.
func TestEvidence(t *testing.T) {
	t.Parallel()
	h := startTLSHost(t, nil)
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(h.tls.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	o := options()
	o.Roots = roots
	p := newPool(t, o)
	st := step(h.addr, policy.Modern)
	s, e, f := p.Open(t.Context(), st)
	if f != nil {
		t.Fatal(f)
	}
	s.Release()
	if e.Peer != policy.PeerWebPKI || e.WebPKI != nil || e.Route != policy.RouteNone {
		t.Errorf("%+v", e)
	}
	// The same connection, in a step with another route.
	target := *st.Target
	target.Route = policy.RouteDNSSEC
	st.Target = &target
	s, e, f = p.Open(t.Context(), st)
	if f != nil {
		t.Fatal(f)
	}
	if !s.Reused() || e.Route != policy.RouteDNSSEC || e.Peer != policy.PeerWebPKI {
		t.Errorf("reused %v, %+v", s.Reused(), e)
	}
	s.Release()
}

// inspect uses a measurement again for steps with one key: it may depend on nothing
// of a target that is neither in the key nor taken from the step. A new field must
// be thought about there.
func TestTargetFieldsAreKnown(t *testing.T) {
	t.Parallel()
	known := map[string]string{
		"Host": "key", "SNI": "key", "TLSA": "key", "Names": "key", "Addrs": "key: the step's",
		"Rungs": "key: the step's", "Route": "taken from the step",
		"Floor": "not looked at", "Basis": "not looked at", "Preference": "not looked at", "RequireTLS": "not looked at",
		"Later": "not looked at", "MinTLS": "not looked at: Judge does",
		"Rule": "not looked at", "OnUnmet": "not looked at", "Barred": "never opened", "Expect": "not looked at",
	}
	for f := range reflect.TypeFor[policy.Target]().Fields() {
		if name := f.Name; known[name] == "" {
			t.Errorf("policy.Target has the new field %s: does policy.Inspect look at it? Then it belongs into keyOf", name)
		}
	}
}
