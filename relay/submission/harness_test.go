package submission

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// patience bounds every wait in these tests.
const patience = 10 * time.Second

// fakeSink keeps what it is given.
type fakeSink struct {
	mu   sync.Mutex
	mail []*accepted
	fail error                 // returned in place of acceptance
	hold func(context.Context) // called before the body is read
}

type accepted struct {
	message    queue.Message
	recipients []queue.Recipient
	body       string
}

func (s *fakeSink) Enqueue(ctx context.Context, d *queue.Draft) (queue.ID, error) {
	if s.hold != nil {
		s.hold(ctx)
	}
	b, err := io.ReadAll(d.Body)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return "", s.fail
	}
	s.mail = append(s.mail, &accepted{d.Message, d.Recipients, string(b)})
	return d.Message.ID, nil
}

func (s *fakeSink) all() []*accepted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*accepted(nil), s.mail...)
}

// only returns the one message that was accepted.
func (s *fakeSink) only(t *testing.T) *accepted {
	t.Helper()
	all := s.all()
	if len(all) != 1 {
		t.Fatalf("%d messages accepted, want 1", len(all))
	}
	return all[0]
}

func (s *fakeSink) none(t *testing.T) {
	t.Helper()
	if all := s.all(); len(all) != 0 {
		t.Fatalf("%d messages accepted, want none; the first: %q", len(all), all[0].body)
	}
}

// testCertificate makes a certificate for localhost, and the pool that trusts it.
func testCertificate(t testing.TB) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// dock is a running server with one listener.
type dock struct {
	*Server
	addr string
	sink *fakeSink
	pool *x509.CertPool
}

// open starts a server on loopback with STARTTLS; change may alter its options.
func open(t testing.TB, change func(*Options)) *dock {
	t.Helper()
	cert, pool := testCertificate(t)
	o := Options{
		Hostname:  "relay.example",
		Listeners: []Listener{{Name: "test", Addr: "127.0.0.1:0", TLS: TLSStart, Certificate: cert}},
		Limits:    Limits{AuthDelay: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	sink := &fakeSink{}
	s, err := New(o, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop, done := context.WithCancel(context.Background())
		done() // hard: tests of draining call Shutdown themselves
		_ = s.Shutdown(stop)
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve did not end")
		}
	})
	return &dock{Server: s, addr: s.Addrs()[0].String(), sink: sink, pool: pool}
}

// wire is a client that writes octets and reads replies.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (d *dock) dial(t testing.TB) *wire {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	return d.wire(t, c)
}

func (d *dock) wire(t testing.TB, c net.Conn) *wire {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &wire{t, c, bufio.NewReader(c)}
}

// greeted dials and reads the greeting.
func (d *dock) greeted(t testing.TB) *wire {
	t.Helper()
	w := d.dial(t)
	w.want("220")
	return w
}

// hello is a session after EHLO, in clear.
func (d *dock) hello(t testing.TB) *wire {
	t.Helper()
	w := d.greeted(t)
	w.do("EHLO client.example", "250")
	return w
}

// secured is a session after STARTTLS and EHLO.
func (d *dock) secured(t testing.TB) *wire {
	t.Helper()
	w := d.hello(t)
	w.startTLS(d)
	w.do("EHLO client.example", "250")
	return w
}

func (w *wire) startTLS(d *dock) {
	w.t.Helper()
	w.do("STARTTLS", "220")
	tc := tls.Client(w.Conn, &tls.Config{RootCAs: d.pool, ServerName: "localhost"})
	if err := tc.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	w.Conn, w.r = tc, bufio.NewReader(tc)
}

// raw writes octets as they are.
func (w *wire) raw(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, s); err != nil {
		w.t.Fatalf("writing: %v", err)
	}
}

// reply reads one reply, all lines of it, joined by "\n".
func (w *wire) reply() (string, error) {
	var all []string
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			return strings.Join(all, "\n"), err
		}
		all = append(all, strings.TrimRight(line, "\r\n"))
		if len(line) > 3 && line[3] != '-' {
			return strings.Join(all, "\n"), nil
		}
	}
}

// want reads a reply that must begin so.
func (w *wire) want(prefix string) string {
	w.t.Helper()
	r, err := w.reply()
	if err != nil {
		w.t.Fatalf("waiting for %q: %v (had %q)", prefix, err, r)
	}
	if !strings.HasPrefix(r, prefix) {
		w.t.Fatalf("reply %q, want %q", r, prefix)
	}
	return r
}

// do sends a command and wants a reply.
func (w *wire) do(command, prefix string) string {
	w.t.Helper()
	w.raw(command + "\r\n")
	return w.want(prefix)
}

// closed wants the connection to be closed without another word.
func (w *wire) closed() {
	w.t.Helper()
	rest, err := io.ReadAll(w.r)
	if err != nil && !isReset(err) {
		w.t.Fatalf("connection not closed: %v (had %q)", err, rest)
	}
	if len(rest) > 0 {
		w.t.Fatalf("more before the end: %q", rest)
	}
}

func isReset(err error) bool {
	return strings.Contains(err.Error(), "reset by peer") || err == io.ErrUnexpectedEOF
}

// envelope begins a transaction up to RCPT.
func (w *wire) envelope() {
	w.t.Helper()
	w.do("MAIL FROM:<a@sender.example>", "250 2.1.0")
	w.do("RCPT TO:<b@rcpt.example>", "250 2.1.5")
}

// data begins a transaction up to the 354.
func (w *wire) data() {
	w.t.Helper()
	w.envelope()
	w.do("DATA", "354")
}

const plainMail = "From: a@sender.example\r\nTo: b@rcpt.example\r\nSubject: hi\r\n\r\nhello\r\n"

// send sends one message by DATA and returns the final reply.
func (w *wire) send(content string) string {
	w.t.Helper()
	w.data()
	w.raw(strings.ReplaceAll(content, "\r\n.", "\r\n..") + ".\r\n")
	return w.want("")
}

// withoutTrace takes the Received field off that we put on top.
func withoutTrace(t testing.TB, body string) string {
	t.Helper()
	rest, ok := strings.CutPrefix(body, "Received: ")
	if !ok {
		t.Fatalf("no Received on top: %q", body)
	}
	for {
		line, after, ok := strings.Cut(rest, "\r\n")
		_ = line
		if !ok {
			t.Fatalf("Received does not end: %q", body)
		}
		rest = after
		if !bytes.HasPrefix([]byte(rest), []byte("\t")) {
			return rest
		}
	}
}

// withPassword is a credential as a test needs it: cheap to check.
func withPassword(t testing.TB, name, password string) Credential {
	t.Helper()
	h := Hash{time: 1, memory: 64, threads: 1, salt: []byte("saltsaltsaltsalt")}
	h.key = h.derive(password, keyLength)
	v, err := DeriveSCRAM(password)
	if err != nil {
		t.Fatal(err)
	}
	return Credential{Name: name, PasswordHash: h.String(), SCRAM: v}
}
