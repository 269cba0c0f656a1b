package smtpclient

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// F26: the ladder against an independent TLS of old versions and suites, so that
// a newer Go cannot take a rung away in silence.
func TestRungsAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cert := filepath.Join(t.TempDir(), "cert.pem")
	writeRSACertificate(t, cert)
	const weak = "DEFAULT@SECLEVEL=0"
	tests := []struct {
		name     string
		args     []string
		modern   policy.Reason // ReasonUnset: it works
		legacy   policy.Reason
		versions [2]uint16 // on modern and on legacy
	}{
		{"TLS 1.0", []string{"-tls1", "-cipher", weak}, policy.HandshakeVersion, policy.ReasonUnset, [2]uint16{0, tls.VersionTLS10}},
		{"TLS 1.1", []string{"-tls1_1", "-cipher", weak}, policy.HandshakeVersion, policy.ReasonUnset, [2]uint16{0, tls.VersionTLS11}},
		{"TLS 1.0, RSA key exchange", []string{"-tls1", "-cipher", "AES128-SHA:@SECLEVEL=0"}, policy.HandshakeVersion, policy.ReasonUnset, [2]uint16{0, tls.VersionTLS10}},
		{"TLS 1.2, RSA key exchange", []string{"-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"}, policy.HandshakeVersion, policy.ReasonUnset, [2]uint16{0, tls.VersionTLS12}},
		{"TLS 1.2, ECDHE with CBC", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"}, policy.HandshakeVersion, policy.ReasonUnset, [2]uint16{0, tls.VersionTLS12}},
		{"TLS 1.2, ECDHE with GCM", []string{"-tls1_2"}, policy.ReasonUnset, policy.ReasonUnset, [2]uint16{tls.VersionTLS12, tls.VersionTLS12}},
		{"TLS 1.3, P-521", []string{"-tls1_3", "-groups", "P-521"}, policy.ReasonUnset, policy.HandshakeVersion, [2]uint16{tls.VersionTLS13, 0}},
		{"DHE only: Go has none", []string{"-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"}, policy.HandshakeVersion, policy.HandshakeVersion, [2]uint16{}},
	}
	for _, tt := range tests {
		for i, rung := range []policy.Rung{policy.Modern, policy.Classical, policy.LegacyTLS} {
			t.Run(tt.name+", "+rung.String(), func(t *testing.T) {
				t.Parallel()
				want, version := tt.modern, tt.versions[0]
				if i == 2 {
					want, version = tt.legacy, tt.versions[1]
				}
				h := startOpenSSL(t, openssl, append([]string{"-cert", cert}, tt.args...))
				p := newPool(t, options())
				s, e, f := p.Open(t.Context(), step(h, rung))
				if f != nil {
					if f.Reason != want {
						t.Errorf("got %v, want %v", f, want)
					}
					return
				}
				if want != policy.ReasonUnset {
					t.Errorf("a session, want %v", want)
				}
				if e.Version != version {
					t.Errorf("got %s, want %s", tls.VersionName(e.Version), tls.VersionName(version))
				}
				if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
					t.Error(got)
				}
				s.Release()
			})
		}
	}
}

// startOpenSSL is a host whose clear part is ours, and whose TLS is openssl
// s_server, with SMTP spoken through its standard input and output.
func startOpenSSL(t *testing.T, openssl string, args []string) netip.AddrPort {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // t.TempDir is too long for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(openssl, append([]string{"s_server", "-quiet", "-naccept", "1", "-unix", socket}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var server net.Conn
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ln.Close()
		if server != nil {
			_ = server.Close()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, "openssl to listen", func() bool { server, err = net.DialTimeout("unix", socket, time.Second); return err == nil })
	go speakSMTP(in, out)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for _, say := range []string{"220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n", "220 go\r\n"} {
			if _, err := io.WriteString(c, say); err != nil {
				return
			}
			if say[:3] == "220" && say != "220 mx\r\n" {
				break
			}
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
		go func() {
			_, _ = io.Copy(server, r)
			_ = server.Close()
		}()
		_, _ = io.Copy(c, server)
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// speakSMTP is the least of a host.
func speakSMTP(w io.Writer, r io.Reader) {
	lines := bufio.NewScanner(r)
	data := false
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		say := "250 ok"
		switch {
		case data && line != ".":
			continue
		case line == "DATA":
			say = "354 go"
		}
		data = line == "DATA"
		if _, err := io.WriteString(w, say+"\r\n"); err != nil {
			return
		}
	}
}

func writeRSACertificate(t *testing.T, path string) {
	t.Helper()
	c := newRSACertificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
}
