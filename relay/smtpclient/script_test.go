package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// A script is what one connection of a fake host does, a line at a time:
//
//	S: text     send the line; successive S: lines leave in one write
//	S> "text"   send octets, Go quoting
//	C: text     the client must send this line ("*" at the end: any rest)
//	TLS         take the client's handshake
//	TLS?        the same; when it fails, the script ends
//	HELLO       read the client's hello, and no more
//	BODY        read content up to the lone dot, into the host's bodies
//	CHUNK n     read n octets of content
//	KEEP        put the content read by CHUNK into the host's bodies
//	DROP        close the connection
//	RESET       close it with a reset
//	WAIT        wait until the test opens the gate
//	STALL       send nothing, read nothing until the test is over
//	IDLE        read until the client hangs up; anything but QUIT is an error
//	GONE        read until the client hangs up; any octet is an error
type fakeHost struct {
	t     *testing.T
	addr  netip.AddrPort
	tls   *tls.Config
	ln    net.Listener
	over  chan struct{} // closed when the test is over
	gate  chan struct{} // WAIT takes one token
	group sync.WaitGroup

	mu     sync.Mutex
	conns  int
	bodies []string
}

// startHost serves one script for each connection, in order.
func startHost(t *testing.T, scripts ...string) *fakeHost {
	t.Helper()
	return startHostTLS(t, nil, scripts...)
}

// startHostTLS is startHost with changes to the host's TLS.
func startHostTLS(t *testing.T, change func(*tls.Config), scripts ...string) *fakeHost {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{t: t, ln: ln, addr: netip.MustParseAddrPort(ln.Addr().String()), over: make(chan struct{}), gate: make(chan struct{})}
	h.tls = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	if change != nil {
		change(h.tls)
	}
	h.group.Go(func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns++
			h.mu.Unlock()
			if i >= len(scripts) {
				t.Errorf("connection %d: there is no script for it", i+1)
				_ = c.Close()
				continue
			}
			h.group.Go(func() { h.play(i+1, c, scripts[i]) })
		}
	})
	t.Cleanup(func() {
		close(h.over)
		_ = ln.Close()
		h.group.Wait()
	})
	return h
}

func (h *fakeHost) connections() int { h.mu.Lock(); defer h.mu.Unlock(); return h.conns }

func (h *fakeHost) received() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.bodies...)
}

type actor struct {
	h    *fakeHost
	raw  net.Conn
	conn net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

var errOver = errors.New("over")

func (h *fakeHost) play(n int, c net.Conn, script string) {
	defer func() { _ = c.Close() }()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-h.over:
			_ = c.Close()
		case <-stop:
		}
	}()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	a := &actor{h: h, raw: c, conn: c, r: bufio.NewReader(c)}
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		switch err := a.act(line); {
		case errors.Is(err, errOver):
			return
		case err != nil:
			select {
			case <-h.over:
			default:
				h.t.Errorf("connection %d, script line %d %q: %v", n, i+1, line, err)
			}
			return
		}
	}
	_ = a.flush()
}

func (a *actor) flush() error {
	_, err := a.conn.Write(a.out)
	a.out = nil
	return err
}

func (a *actor) act(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "S:" {
		a.out = append(a.out, rest+"\r\n"...)
		return nil
	}
	if verb == "S>" {
		s, err := strconv.Unquote(rest)
		a.out = append(a.out, s...)
		return err
	}
	if err := a.flush(); err != nil && verb != "DROP" && verb != "RESET" && verb != "STALL" {
		return err
	}
	switch verb {
	case "C:":
		return a.expect(rest)
	case "TLS":
		t := tls.Server(a.raw, a.h.tls)
		a.conn, a.r = t, bufio.NewReader(t)
		return t.Handshake()
	case "TLS?":
		t := tls.Server(a.raw, a.h.tls)
		a.conn, a.r = t, bufio.NewReader(t)
		err := t.Handshake()
		if err == nil {
			_, err = a.r.Peek(1) // a TLS 1.3 client's Finished or alert
		}
		if err != nil {
			return errOver
		}
	case "HELLO":
		head := make([]byte, 5)
		if _, err := io.ReadFull(a.r, head); err != nil {
			return err
		}
		_, err := a.r.Discard(int(head[3])<<8 | int(head[4]))
		return err
	case "BODY":
		return a.readBody()
	case "CHUNK":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		b := make([]byte, n)
		_, err = io.ReadFull(a.r, b)
		a.body = append(a.body, b...)
		return err
	case "KEEP":
		a.keep()
	case "WAIT":
		select {
		case <-a.h.gate:
		case <-a.h.over:
			return errOver
		}
	case "RESET":
		_ = a.raw.(*net.TCPConn).SetLinger(0)
		return errOver
	case "DROP":
		return errOver
	case "STALL":
		<-a.h.over
		return errOver
	case "IDLE":
		rest, err := io.ReadAll(a.r)
		if s := string(rest); s != "" && s != "QUIT\r\n" {
			return fmt.Errorf("the client said %q", s)
		}
		_ = err // a reset is as good an end as any
		return errOver
	case "GONE": // the client must have hung up without another word
		rest, _ := io.ReadAll(a.r)
		if len(rest) > 0 {
			return fmt.Errorf("the client said %q", rest)
		}
		return errOver
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return nil
}

func (a *actor) keep() {
	a.h.mu.Lock()
	a.h.bodies = append(a.h.bodies, string(a.body))
	a.h.mu.Unlock()
	a.body = nil
}

func (a *actor) expect(want string) error {
	got, err := a.r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("got %q, %w", got, err)
	}
	got = strings.TrimSuffix(got, "\r\n")
	if prefix, ok := strings.CutSuffix(want, "*"); ok && strings.HasPrefix(got, prefix) {
		return nil
	}
	if got != want {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (a *actor) readBody() error {
	for {
		line, err := a.r.ReadBytes('\n')
		if err != nil {
			return err
		}
		if string(line) == ".\r\n" {
			a.keep()
			return nil
		}
		a.body = append(a.body, bytes.TrimPrefix(line, []byte("."))...)
	}
}

// newCertificate makes a self-signed certificate for mx.example.test.
func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return selfSigned(t, k)
}

func newRSACertificate(t testing.TB) tls.Certificate {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return selfSigned(t, k)
}

func selfSigned(t testing.TB, k crypto.Signer) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.example.test"},
		DNSNames:     []string{"mx.example.test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// options are those of a test: short timeouts, our name.
func options() Options {
	return Options{
		Hostname: "relay.test",
		Timeouts: Timeouts{
			Connect: 5 * time.Second, Greeting: 5 * time.Second, Command: 5 * time.Second,
			TLS: 5 * time.Second, Data: 5 * time.Second,
		},
	}
}

// hasty are the options of a test in which the host stalls.
func hasty() Options {
	o := options()
	o.Timeouts = Timeouts{
		Connect: 100 * time.Millisecond, Greeting: 100 * time.Millisecond, Command: 100 * time.Millisecond,
		TLS: 100 * time.Millisecond, Data: 150 * time.Millisecond,
	}
	return o
}

func newPool(t testing.TB, o Options) *Pool {
	t.Helper()
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

func step(addr netip.AddrPort, r policy.Rung) policy.Step {
	return policy.Step{
		Target: &policy.Target{Host: "mx.example.test", SNI: "mx.example.test", Addrs: []netip.AddrPort{addr},
			Floor: policy.Floor{Level: policy.Plaintext}, Rungs: []policy.Rung{r}},
		Addr: addr,
		Rung: r,
	}
}

// sendNext sends the i-th message of a test to the host, over a connection that stands or a new one.
func sendNext(t *testing.T, p *Pool, h *fakeHost, i int, want string) {
	t.Helper()
	s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
	if f != nil {
		t.Fatal(f)
	}
	if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != want {
		t.Errorf("message %d: got %q, want %q", i+1, got[0], want)
	}
	s.Release()
}

// content is a queue.Body over a string.
type content struct {
	io.Reader
	size   int64
	closed *int
}

func (c *content) Size() int64 { return c.size }

func (c *content) Close() error {
	if c.closed != nil {
		*c.closed++
	}
	return nil
}

func addr(s string) queue.Address {
	a, err := queue.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

const hello = "Subject: hello\r\n\r\nhello\r\n" // 25 octets

// mail is a transaction from a@relay.test to the given recipients.
func mail(body string, rcpts ...string) *relay.Transaction {
	t := &relay.Transaction{
		Message: &queue.Message{ID: "m", Sender: addr("a@relay.test"), Size: int64(len(body))},
		Body: func(context.Context) (queue.Body, error) {
			return &content{Reader: strings.NewReader(body), size: int64(len(body))}, nil
		},
	}
	for _, r := range rcpts {
		t.Recipients = append(t.Recipients, queue.Recipient{Address: addr(r)})
	}
	return t
}

// results prints what came of each recipient: "ok 250", "reply-temporary 4.2.1 450".
func results(s relay.Sent) []string {
	var list []string
	for _, r := range s.Results {
		w := "ok"
		if r.Failure != nil {
			w = r.Failure.Reason.String()
			if r.Failure.Status != "" {
				w += " " + r.Failure.Status
			}
		}
		if r.Reply != nil {
			w += " " + strconv.Itoa(r.Reply.Code)
		}
		list = append(list, w)
	}
	return list
}
