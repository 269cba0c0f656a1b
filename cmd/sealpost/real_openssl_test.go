package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// startOpenSSL is a mail host whose TLS is OpenSSL's s_server, for versions and suites that Go's own
// server would not speak. s_server knows no SMTP: the clear part is played by mailHost, then the
// connection's octets go to an s_server of its own, and its standard input and output are the session's
// plaintext.
func startOpenSSL(t *testing.T, args ...string) *mailHost {
	t.Helper()
	s := sServer{openssl: part(t, "openssl"), args: args}
	return startMailHost(t, s.serveTLS)
}

// sServer starts OpenSSL's s_server.
type sServer struct {
	openssl string
	args    []string // certificate, version, suites
}

// serveTLS gives the connection to a new s_server and speaks SMTP inside.
func (s sServer) serveTLS(ctx context.Context, c net.Conn, speak func(io.Reader, io.Writer) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// -quiet: no talk of its own, and no commands in what it reads.
	cmd := exec.CommandContext(ctx, s.openssl, append([]string{"s_server", "-quiet", "-naccept", "1", "-accept", addr}, s.args...)...)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF=/dev/null") // Debian's file sets a minimum
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed, or ended by a handshake that failed: both are what a row wants
	}()
	server, err := dialSoon(ctx, addr)
	if err != nil {
		return err
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, c) // the end of either side ends the other
		server.Close()
	}()
	go func() {
		_, _ = io.Copy(c, server)
		c.Close()
		out.Close()
	}()
	return speak(out, in)
}

// dialSoon connects to a server that is just starting.
func dialSoon(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// mailHost is the least mail host that a sender can be content with. It takes everything and keeps it.
type mailHost struct {
	host string // loopback address
	port int
	// upgrade does the TLS after STARTTLS and has speak talk inside.
	upgrade func(ctx context.Context, c net.Conn, speak func(io.Reader, io.Writer) error) error

	mu     sync.Mutex
	taken  []taken
	failed []string // sessions that went wrong here, for the log
}

// taken is one message with how it came.
type taken struct {
	overTLS bool
	data    string // dots unstuffed
}

func startMailHost(t *testing.T, upgrade func(context.Context, net.Conn, func(io.Reader, io.Writer) error) error) *mailHost {
	t.Helper()
	h := &mailHost{upgrade: upgrade}
	h.host, h.port = freeAddr(t)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", h.host, h.port))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				h.session(ctx, c)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
		if t.Failed() {
			t.Logf("mail host: sessions that failed: %q", h.failed)
		}
	})
	return h
}

// mail returns what was taken so far.
func (h *mailHost) mail() []taken {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

// session serves one connection: clear until STARTTLS, then inside TLS.
func (h *mailHost) session(ctx context.Context, c net.Conn) {
	upgrade, err := h.dialogue(c, c, false)
	if upgrade {
		err = h.upgrade(ctx, c, func(r io.Reader, w io.Writer) error {
			_, err := h.dialogue(r, w, true)
			return err
		})
	}
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.failed = append(h.failed, err.Error())
	}
}

// dialogue is the server's side of SMTP, as little as a sender needs. It returns true after STARTTLS.
func (h *mailHost) dialogue(in io.Reader, w io.Writer, overTLS bool) (upgrade bool, err error) {
	r := bufio.NewReader(in)
	reply := func(s string) { _, _ = io.WriteString(w, s+"\r\n") } // the next read tells of a lost connection
	if !overTLS {
		reply("220 mx.openssl.test ESMTP")
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false, err
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO":
			if overTLS {
				reply("250-mx.openssl.test\r\n250 8BITMIME")
			} else {
				reply("250-mx.openssl.test\r\n250-8BITMIME\r\n250 STARTTLS")
			}
		case "STARTTLS":
			reply("220 go ahead")
			return true, nil
		case "DATA":
			reply("354 go on")
			data, err := readData(r)
			if err != nil {
				return false, err
			}
			h.mu.Lock()
			h.taken = append(h.taken, taken{overTLS, data})
			h.mu.Unlock()
			reply("250 taken")
		case "QUIT":
			reply("221 bye")
			return false, nil
		default:
			reply("250 fine")
		}
	}
}

// readData reads up to the final dot and takes the stuffed dots away (RFC 5321 4.5.2).
func readData(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// TestRealOpenSSL delivers to hosts with the TLS of other times: each gets the mail at the level that
// it can give, and in clear only when no TLS was to be had.
func TestRealOpenSSL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		key   policytest.KeyType
		args  []string
		level string
	}{
		{"TLS 1.3", policytest.P256, []string{"-tls1_3"}, "encrypted"},
		{"TLS 1.2 with ECDHE", policytest.P256, []string{"-tls1_2"}, "encrypted"},
		{"TLS 1.2 with ECDHE and an RSA certificate", policytest.RSA2048, []string{"-tls1_2", "-cipher", "ECDHE"}, "encrypted"},
		{"TLS 1.2 with RSA key exchange", policytest.RSA2048, []string{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, "legacy"},
		{"TLS 1.2 with RSA key exchange and CBC", policytest.RSA2048, []string{"-tls1_2", "-cipher", "AES128-SHA"}, "legacy"},
		{"TLS 1.1", policytest.P256, []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, "legacy"},
		{"TLS 1.0", policytest.P256, []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, "legacy"},
		{"TLS 1.0 with RSA key exchange", policytest.RSA2048, []string{"-tls1", "-cipher", "AES256-SHA:@SECLEVEL=0"}, "legacy"},
		// Go has no DHE: there is no TLS to be had with this one.
		{"TLS 1.2 with DHE only", policytest.RSA2048, []string{"-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"}, "plaintext"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca := policytest.NewCA() // the hosts' certificates are self-signed: no level above encrypted
			chain, key := policytest.PEM(ca.Leaf(policytest.LeafOptions{Names: []string{"mx.openssl.test"}, Key: test.key, SelfSigned: true}))
			dir := t.TempDir()
			args := append([]string{"-cert", write(t, dir, "cert.pem", chain), "-key", write(t, dir, "key.pem", key)}, test.args...)
			h := startOpenSSL(t, args...)
			z := zones(t)
			z.MX("openssl.test", 10, "mx.openssl.test")
			z.A("mx.openssl.test", h.host)
			s, submission := serveTo(t, z, ca, h.port)
			want := invitation("a@sealpost.test", "b@openssl.test")
			submitPlain(t, submission, "b@openssl.test", want)
			eventually(t, "the delivery is counted", func() bool { return len(s.delivered(t)) > 0 })
			if got := s.delivered(t); got[test.level] != 1 || len(got) != 1 {
				t.Errorf("delivered by level: %v, want one at %s", got, test.level)
			}
			mail := h.mail()
			if len(mail) != 1 {
				t.Fatalf("%d messages have come, want 1", len(mail))
			}
			if mail[0].overTLS != (test.level != "plaintext") {
				t.Errorf("the message came over TLS: %v", mail[0].overTLS)
			}
			checkArrival(t, mail[0].data, []string{want})
		})
	}
}
