package submission

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Listeners[0].TLS = TLSImplicit; o.Limits.Handshake = 200 * time.Millisecond })
	c, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: d.pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	w := d.wire(t, c)
	w.want("220 relay.example")
	if r := w.do("EHLO client.example", "250"); strings.Contains(r, "STARTTLS") || !strings.Contains(r, "REQUIRETLS") {
		t.Errorf("%q", r)
	}
	w.do("STARTTLS", "503")
	w.send(plainMail)
	if !strings.Contains(d.sink.only(t).body, "with ESMTPS id ") {
		t.Error("not ESMTPS")
	}
	plain := d.dial(t)
	plain.raw("EHLO x\r\n")
	b := make([]byte, 100)
	n, _ := plain.Conn.Read(b)
	if bytes.Contains(b[:n], []byte("250")) {
		t.Errorf("spoke SMTP in clear: %q", b[:n])
	}
	silent := d.dial(t) // ends by the handshake deadline
	if n, err := silent.Conn.Read(b); err == nil {
		t.Errorf("%q", b[:n])
	}
}

// Only TLS 1.2 and 1.3, forward secrecy, AEAD (RFC 8314 4.1).
func TestTLSOffers(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	try := func(c *tls.Config) error {
		w := d.hello(t)
		w.do("STARTTLS", "220")
		c.RootCAs, c.ServerName = d.pool, "localhost"
		return tls.Client(w.Conn, c).Handshake()
	}
	for name, c := range map[string]*tls.Config{
		"TLS 1.1":          {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC":              {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"RSA key exchange": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
		"P-521":            {CurvePreferences: []tls.CurveID{tls.CurveP521}},
	} {
		if try(c) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, c := range map[string]*tls.Config{
		"TLS 1.2": {MaxVersion: tls.VersionTLS12}, "TLS 1.3": {MinVersion: tls.VersionTLS13},
		"ML-KEM": {CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}, "P-256": {CurvePreferences: []tls.CurveID{tls.CurveP256}},
	} {
		if err := try(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// writePair writes a certificate and its key as PEM.
func writePair(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	c, _ := testCertificate(t)
	key, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", c.Certificate[0])
	writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", key)
	return c.Leaf
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := writePair(t, dir)
	var log syncBuffer
	d := open(t, func(o *Options) {
		o.Listeners[0].Certificate = nil
		o.Listeners[0].CertFile, o.Listeners[0].KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	serial := func() string {
		w := d.hello(t)
		w.do("STARTTLS", "220")
		c := tls.Client(w.Conn, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if serial() != first.SerialNumber.String() {
		t.Fatal("another certificate")
	}
	writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", []byte("broken"))
	d.Reload()
	if serial() != first.SerialNumber.String() || !strings.Contains(log.String(), "not usable") {
		t.Fatalf("a bad pair must change nothing and be told: %s", log.String())
	}
	second := writePair(t, dir)
	eventually(t, func() bool { return serial() == second.SerialNumber.String() }) // noticed at a handshake
	third := writePair(t, dir)
	d.Reload()
	if serial() != third.SerialNumber.String() {
		t.Error("Reload did not")
	}
}
