package main_test

import (
	"encoding/xml"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
)

// scan is the part of sslscan's XML that the test reads.
type scan struct {
	Tests []struct {
		Protocols []struct {
			Type    string `xml:"type,attr"`
			Version string `xml:"version,attr"`
			Enabled int    `xml:"enabled,attr"`
		} `xml:"protocol"`
		Ciphers []struct {
			Version  string `xml:"sslversion,attr"`
			Cipher   string `xml:"cipher,attr"`
			Bits     int    `xml:"bits,attr"`
			Strength string `xml:"strength,attr"`
			Curve    string `xml:"curve,attr"`
		} `xml:"cipher"`
		Heartbleed []struct {
			Vulnerable int `xml:"vulnerable,attr"`
		} `xml:"heartbleed"`
		Renegotiation []struct {
			Supported int `xml:"supported,attr"`
			Secure    int `xml:"secure,attr"`
		} `xml:"renegotiation"`
		Compression []struct {
			Supported int `xml:"supported,attr"`
		} `xml:"compression"`
	} `xml:"ssltest"`
}

// TestRealScan lets sslscan try the submission listeners: TLS 1.2 and 1.3 only, forward secrecy only,
// AEAD only, no compression, no insecure renegotiation.
func TestRealScan(t *testing.T) {
	t.Parallel()
	sslscan := part(t, "sslscan")
	ca := policytest.NewCA()
	dir := t.TempDir()
	z := zones(t)
	listeners := []struct {
		mode string
		key  policytest.KeyType
		args []string
		addr string
	}{
		{mode: "starttls", key: policytest.P256, args: []string{"--starttls-smtp"}},
		{mode: "implicit", key: policytest.RSA2048}, // brings the suites of RSA certificates into play
	}
	config := deliverySection(z, 25, write(t, dir, "ca.pem", ca.PEM()))
	for i := range listeners {
		chain, key := policytest.PEM(ca.Leaf(policytest.LeafOptions{Names: []string{submissionName}, Key: listeners[i].key}))
		cert, keyFile := write(t, dir, fmt.Sprintf("cert%d.pem", i), chain), write(t, dir, fmt.Sprintf("key%d.pem", i), key)
		host, port := freeAddr(t)
		listeners[i].addr = fmt.Sprintf("%s:%d", host, port)
		config += fmt.Sprintf("[[submission]]\nlisten = %q\ntls = %q\ncert_file = %q\nkey_file = %q\n",
			listeners[i].addr, listeners[i].mode, cert, keyFile)
	}
	serve(t, config)
	for _, l := range listeners {
		t.Run(l.mode, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), sslscan, append(l.args, "--xml=-", "--no-colour", "--sni-name="+submissionName, l.addr)...)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("sslscan: %v\n%s", err, out)
			}
			var s scan
			if err := xml.Unmarshal(out, &s); err != nil || len(s.Tests) != 1 {
				t.Fatalf("sslscan's report: %d tests, %v\n%s", len(s.Tests), err, out)
			}
			checkScan(t, s)
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}

func checkScan(t *testing.T, s scan) {
	t.Helper()
	r := s.Tests[0]
	var enabled []string
	for _, p := range r.Protocols {
		if p.Enabled == 1 {
			enabled = append(enabled, strings.ToUpper(p.Type)+" "+p.Version)
		}
	}
	if got := strings.Join(enabled, ", "); got != "TLS 1.2, TLS 1.3" {
		t.Errorf("protocols: %s; want TLS 1.2, TLS 1.3", got)
	}
	if len(r.Ciphers) < 4 {
		t.Errorf("%d suites only: the scan has not seen the listener", len(r.Ciphers))
	}
	for _, c := range r.Ciphers {
		forward := c.Version == "TLSv1.3" || strings.HasPrefix(c.Cipher, "ECDHE-")
		aead := strings.Contains(c.Cipher, "GCM") || strings.Contains(c.Cipher, "CHACHA20")
		if !forward || !aead || c.Bits < 128 || c.Strength != "strong" && c.Strength != "acceptable" {
			t.Errorf("suite %s %s, %d bits, %s", c.Version, c.Cipher, c.Bits, c.Strength)
		}
	}
	for _, h := range r.Heartbleed {
		if h.Vulnerable != 0 {
			t.Error("heartbleed")
		}
	}
	for _, n := range r.Renegotiation {
		if n.Supported == 1 && n.Secure == 0 {
			t.Error("insecure renegotiation")
		}
	}
	for _, c := range r.Compression {
		if c.Supported == 1 {
			t.Error("compression")
		}
	}
}
