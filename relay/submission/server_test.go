package submission

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEHLO(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) { o.Listeners[0].MaxMessageBytes = 12345; o.Listeners[0].MaxRecipients = 7 })
	lines := func(r string) map[string]bool {
		out := map[string]bool{}
		for line := range strings.SplitSeq(r, "\n") {
			out[line[4:]] = true
		}
		return out
	}
	w := d.greeted(t)
	r := w.do("EHLO client.example", "250-relay.example\n") // RFC 5321 4.1.1.1
	for _, k := range []string{"STARTTLS", "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "SIZE 12345", "AUTH SCRAM-SHA-256 PLAIN LOGIN"} {
		if !lines(r)[k] {
			t.Errorf("no %s in clear: %q", k, r)
		}
	}
	if lines(r)["REQUIRETLS"] || strings.Contains(r, "BINARYMIME") { // RFC 8689 2
		t.Errorf("in clear: %q", r)
	}
	w.startTLS(d)
	r = w.do("EHLO client.example", "250-relay.example\n")
	if !lines(r)["REQUIRETLS"] || lines(r)["STARTTLS"] || !lines(r)["SIZE 12345"] {
		t.Errorf("under TLS: %q", r)
	}
	w.do("HELO client.example", "250 relay.example")
	w.do("STARTTLS", "503 5.5.1")
}

func TestReceived(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) { o.Listeners[0].RequireAuth = false })
	for _, c := range []struct {
		hello, from, with string
		tls, auth         bool
	}{
		{"HELO client.example", "client.example", "SMTP", false, false},
		{"EHLO client.example", "client.example", "ESMTP", false, false},
		{"EHLO [192.0.2.7]", "[192.0.2.7]", "ESMTPS", true, false},
		{"EHLO [IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", "ESMTPA", false, true},
		{"EHLO a_b", "a_b", "ESMTPSA", true, true},
		{"EHLO (evil)", "unknown", "ESMTP", false, false},
	} {
		w := d.greeted(t)
		if c.tls {
			w.do("EHLO x", "250")
			w.startTLS(d)
		}
		w.do(c.hello, "250")
		if c.auth {
			w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
		}
		w.send(plainMail)
		all := d.sink.all()
		m := all[len(all)-1]
		want := fmt.Sprintf("Received: from %s ([127.0.0.1]) by relay.example\r\n\twith %s id %s", c.from, c.with, m.message.ID)
		if c.tls { // RFC 8314 4.3
			want += "\r\n\ttls TLS_AES_128_GCM_SHA256 group X25519MLKEM768 (TLS1.3)"
		}
		if want += ";\r\n\t"; !strings.HasPrefix(m.body, want) {
			t.Errorf("%.200q, want %q", m.body, want)
		}
		if strings.Contains(strings.SplitN(m.body, "From:", 2)[0], "rcpt.example") {
			t.Error("the trace names a recipient")
		}
	}
}

func TestUTF8Submission(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.secured(t)
	w.do("MAIL FROM:<jürgen@bücher.example> SMTPUTF8 BODY=8BITMIME", "250")
	w.do("RCPT TO:<用户@例え.example> ORCPT=utf-8;用户@例え.example", "250")
	w.do("DATA", "354")
	w.raw("Subject: grüße\r\n\r\nä\r\n.\r\n")
	w.want("250")
	m := d.sink.only(t)
	if m.message.Sender.Local != "jürgen" || m.message.Sender.Domain != "xn--bcher-kva.example" || !m.message.UTF8 || !m.message.EightBit {
		t.Errorf("%+v", m.message)
	}
	if r := m.recipients[0]; r.Address.Local != "用户" || r.ORcpt != "utf-8;用户@例え.example" {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(m.body, "with UTF8SMTPS id ") { // RFC 6531 4.3
		t.Errorf("%q", m.body)
	}
	w.do("MAIL FROM:<a@sender.example>", "250") // the next one is without it again
	w.do("RCPT TO:<ä@rcpt.example>", "553 5.6.7")
}

// RFC 3461: wishes arrive decoded.
func TestDSNParameters(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.do("MAIL FROM:<a@sender.example> RET=hdrs ENVID=QQ+2B314159 AUTH=<> SIZE=100", "250")
	w.do("RCPT TO:<b@rcpt.example> NOTIFY=success,FAILURE,delay ORCPT=rfc822;b+2Bx@rcpt.example", "250")
	w.do("RCPT TO:<c@rcpt.example> NOTIFY=NEVER", "250")
	w.do("RCPT TO:<d@rcpt.example>", "250")
	w.do("DATA", "354")
	w.raw(plainMail + ".\r\n")
	w.want("250")
	m := d.sink.only(t)
	if m.message.Ret != "HDRS" || m.message.EnvelopeID != "QQ+314159" {
		t.Errorf("%+v", m.message)
	}
	if r := m.recipients; r[0].Notify != queue.NotifySuccess|queue.NotifyFailure|queue.NotifyDelay || r[0].ORcpt != "rfc822;b+x@rcpt.example" ||
		r[1].Notify != queue.NotifyNever || r[2].Notify != 0 || r[2].ORcpt != "" {
		t.Errorf("%+v", r)
	}
}

func TestRequireTLSUnderTLS(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.secured(t)
	w.do("MAIL FROM:<a@sender.example> REQUIRETLS", "250")
	w.do("RCPT TO:<b@rcpt.example>", "250")
	w.do("DATA", "354")
	w.raw("TLS-Required: No\r\n" + plainMail + ".\r\n")
	w.want("250")
	if m := d.sink.only(t).message; !m.RequireTLS || m.TLSOff {
		t.Errorf("%+v", m)
	}
}

func TestRecipientLimit(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Listeners[0].MaxRecipients = 2 })
	w := d.hello(t)
	w.envelope()
	w.do("RCPT TO:<c@rcpt.example>", "250")
	w.do("RCPT TO:<d@rcpt.example>", "452 4.5.3")
	w.do("DATA", "354")
	w.raw(plainMail + ".\r\n")
	w.want("250")
	if n := len(d.sink.only(t).recipients); n != 2 {
		t.Errorf("%d recipients", n)
	}
}

func TestSinkErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{queue.ErrFull, "452 4.3.1"}, {fmt.Errorf("wrapped: %w", queue.ErrFull), "452 4.3.1"},
		{errors.New("anything"), "451 4.3.0"}, {context.DeadlineExceeded, "451 4.3.0"},
	} {
		d := open(t, nil)
		d.sink.fail = c.err
		w := d.hello(t)
		if r := w.send(plainMail); !strings.HasPrefix(r, c.want) {
			t.Errorf("%v: %q", c.err, r)
		}
		w.do("NOOP", "250")
	}
}

// The content's own fault is told, however the sink has wrapped it.
func TestContentFaultComesFirst(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	if r := w.send("Subject: x\r\n\r\na\x00\r\n"); !strings.HasPrefix(r, "554 5.6.0") {
		t.Error(r)
	}
	d.sink.none(t)
}

func TestShutdownLetsContentEnd(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	data, chunks := d.secured(t), d.hello(t)
	data.data()
	chunks.envelope()
	chunks.do("BDAT 14\r\nSubject: x\r\n", "250")
	ended := make(chan error, 1)
	go func() { ended <- d.Shutdown(context.Background()) }()
	eventually(t, func() bool {
		c, err := net.Dial("tcp", d.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	data.raw(plainMail + ".\r\n")
	data.want("250 2.6.0")
	data.want("421 4.3.2")
	_ = data.Close()
	select {
	case err := <-ended:
		t.Fatalf("ended before the chunks did: %v", err)
	default:
	}
	chunks.raw("BDAT 8 LAST\r\n\r\nbody\r\n")
	chunks.want("250 2.6.0")
	chunks.want("421 4.3.2")
	_ = chunks.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(d.sink.all()); n != 2 {
		t.Errorf("%d accepted", n)
	}
}

func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.data()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_, _ = w.reply() // whatever it was, the connection is gone
	w.closed()
	d.sink.none(t)
}

func TestCancelledContextIs421(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	entered := make(chan struct{})
	d.sink.hold = func(ctx context.Context) { close(entered); <-ctx.Done() }
	d.sink.fail = context.Canceled
	w := d.hello(t)
	w.data()
	w.raw(plainMail + ".\r\n")
	<-entered
	d.cancel()
	w.want("421 4.3.2")
	d.sink.none(t)
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Hostname: "relay.example", Listeners: []Listener{{Addr: "127.0.0.1:0", TLS: TLSNone}}}, &fakeSink{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	eventually(t, func() bool { return len(s.Addrs()) == 1 })
	w := (&dock{Server: s, addr: s.Addrs()[0].String()}).hello(t)
	w.do("STARTTLS", "502 5.5.1")
	w.do("MAIL FROM:<a@sender.example> REQUIRETLS", "555 5.5.4")
	cancel()
	w.want("421 4.3.2")
	_ = w.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// Nothing of an address, a subject or a body is logged.
func TestLogsHoldNoAddresses(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	d := withApp(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Listeners[0].RequireAuth = false
	})
	w := d.secured(t)
	w.do("AUTH PLAIN "+b64("\x00somebody\x00hunter2"), "535")
	w.send(strings.Replace(plainMail, "hello", "tell nobody", 1))
	d.sink.fail = errors.New("disk")
	w.send(plainMail)
	for _, s := range []string{"sender.example", "rcpt.example", "tell nobody", "Subject", "hunter2", "somebody"} {
		if strings.Contains(log.String(), s) {
			t.Errorf("%q is in the log: %s", s, log.String())
		}
	}
	if !strings.Contains(log.String(), "msg=") {
		t.Error("nothing was logged")
	}
}

func TestProxyHeaderIsRequired(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) {
		o.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.Limits.PerAddress = 1
	})
	w := d.dial(t)
	w.raw("EHLO client.example\r\n")
	w.closed()
	one := d.dial(t)
	one.raw("PROXY TCP4 192.0.2.1 192.0.2.2 1 587\r\n")
	one.want("220")
	two := d.dial(t) // the limit is for the address in the header
	two.raw("PROXY TCP4 192.0.2.1 192.0.2.2 2 587\r\n")
	two.want("421 4.7.0")
	three := d.dial(t)
	three.raw("PROXY TCP6 2001:db8::1 2001:db8::2 1 587\r\nEHLO client.example\r\n")
	three.want("220")
	three.want("250")
	three.send(plainMail)
	if b := d.sink.only(t).body; !strings.Contains(b, "([IPv6:2001:db8::1])") {
		t.Errorf("%q", b)
	}
}

func TestProxyHeaderFromOthersIsNoCommand(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.greeted(t)
	w.do("PROXY TCP4 192.0.2.1 192.0.2.2 1 587", "500 5.5.2")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	sink := &fakeSink{}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"empty":      {Options{}, "hostname"},
		"no address": {Options{Hostname: "x", Listeners: []Listener{{TLS: TLSNone}}}, "no address"},
		"tls unset":  {Options{Hostname: "x", Listeners: []Listener{{Addr: "127.0.0.1:0"}}}, "tls is not set"},
		"no files":   {Options{Hostname: "x", Listeners: []Listener{{Addr: "127.0.0.1:0", TLS: TLSStart}}}, "needs cert_file"},
		"bad files":  {Options{Hostname: "x", Listeners: []Listener{{Addr: "127.0.0.1:0", TLS: TLSStart, CertFile: "/none", KeyFile: "/none"}}}, "/none"},
		"credential": {Options{Hostname: "x", Listeners: []Listener{{Addr: "127.0.0.1:0", TLS: TLSNone}}, Credentials: []Credential{{}}}, "name must"},
	} {
		if _, err := New(c.o, sink); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := New(Options{Hostname: "x", Listeners: []Listener{{Addr: "0.0.0.0:0", TLS: TLSNone}}}, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("tls = none off loopback: %v", err)
	}
	for _, m := range []TLSMode{TLSNone, TLSStart, TLSImplicit} {
		if got, err := ParseTLSMode(m.String()); err != nil || got != m {
			t.Errorf("%v: %v %v", m, got, err)
		}
	}
	if _, err := ParseTLSMode("unset"); err == nil {
		t.Error("unset is accepted")
	}
}

// counter counts what an Observer is told.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) add(s ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[strings.Join(s, " ")]++
}

func (c *counter) Connected(l string)    { c.add("connected", l) }
func (c *counter) Disconnected(l string) { c.add("disconnected", l) }
func (c *counter) Secured(l string, s tls.ConnectionState) {
	c.add("secured", l, tls.VersionName(s.Version))
}
func (c *counter) HandshakeFailed(l string)                { c.add("handshake failed", l) }
func (c *counter) Authenticated(m, r string)               { c.add("auth", m, r) }
func (c *counter) Accepted(l string, _ int64)              { c.add("accepted", l) }
func (c *counter) Rejected(l, r string)                    { c.add("rejected", l, r) }
func (c *counter) CertificateLoaded(l string, _ time.Time) { c.add("certificate", l) }

func TestObserver(t *testing.T) {
	t.Parallel()
	c := &counter{seen: map[string]int{}}
	d := withApp(t, func(o *Options) { o.Observer = c; o.Listeners[0].MaxMessageBytes = 1000 })
	w := d.secured(t)
	w.do("MAIL FROM:<a@sender.example>", "530")
	w.do("AUTH PLAIN "+b64("\x00app\x00no"), "535")
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
	w.do("MAIL FROM:<a..b@sender.example>", "501")
	w.do("MAIL FROM:<a@sender.example> SIZE=1001", "552")
	w.send(plainMail)
	w.send("Subject: x\r\n\r\na\x00b\r\n")
	w.do("QUIT", "221")
	bad := d.hello(t)
	bad.do("STARTTLS", "220")
	_ = bad.Close()
	want := map[string]int{
		"connected test": 2, "disconnected test": 2, "certificate test": 1, "secured test TLS 1.3": 1, "handshake failed test": 1,
		"rejected test auth": 1, "auth PLAIN refused": 1, "auth PLAIN ok": 1, "rejected test address": 1, "rejected test size": 1,
		"accepted test": 1, "rejected test content": 1,
	}
	eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return maps.Equal(c.seen, want)
	})
	for _, r := range Reasons() {
		if r == "" || strings.ToLower(r) != r {
			t.Errorf("label %q", r)
		}
	}
}
