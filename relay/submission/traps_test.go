package submission

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// The faults of go-smtp v0.25.1 that are closed here, by their numbers in
// libraries.md section 1 (F) and field-notes.md section 14 (S). Each over a raw socket.

const injected = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<victim@rcpt.example>\r\nDATA\r\nowned\r\n.\r\n"

// fast shortens the clocks of content.
func fast(idle time.Duration) func(*Options) {
	return func(o *Options) { o.Limits.DataIdle = idle }
}

func TestF1StalledDataIsNeverReadAsCommands(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"DATA", "BDAT 4000 LAST"} {
		d := open(t, fast(50*time.Millisecond))
		w := d.hello(t)
		w.envelope()
		w.raw(start + "\r\n")
		if start == "DATA" {
			w.want("354")
		}
		w.raw("Subject: x\r\n\r\nbody\r\n")
		w.want("421 4.4.2")
		_, _ = io.WriteString(w.Conn, injected)
		w.closed()
		d.sink.none(t)
	}
}

func TestS7SlowDataIsNotCut(t *testing.T) { testSteady(t) }
func TestF4SlowDataIsNotCut(t *testing.T) { testSteady(t) }

// testSteady sends content for several times the idle limit without a pause of that length.
func testSteady(t *testing.T) {
	t.Parallel()
	const idle = time.Second // a loaded machine must not look like a slow client
	d := open(t, fast(idle))
	w := d.hello(t)
	w.data()
	begun := time.Now()
	tick := time.NewTicker(idle / 10)
	defer tick.Stop()
	for i := 0; time.Since(begun) < 3*idle; i++ {
		w.raw(fmt.Sprintf("line %d\r\n", i))
		<-tick.C
	}
	w.raw(".\r\n")
	w.want("250 2.6.0")
	d.sink.only(t)
}

func TestF4TotalTimeAndRateAreBounded(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"total": func(o *Options) { o.Limits.DataTotal = 100 * time.Millisecond },
		"rate":  func(o *Options) { o.Limits.RateGrace, o.Limits.MinRate = 100*time.Millisecond, 1<<20 },
	} {
		d := open(t, change)
		w := d.hello(t)
		w.data()
		stop := make(chan struct{})
		go func() { // never idle
			defer close(stop)
			for {
				if _, err := io.WriteString(w.Conn, "x\r\n"); err != nil {
					return
				}
				select {
				case <-time.After(5 * time.Millisecond):
				case <-t.Context().Done():
					return
				}
			}
		}()
		if r := w.want("421 4.4.2"); !strings.Contains(r, "slowly") {
			t.Errorf("%s: %q", name, r)
		}
		_ = w.Close()
		<-stop
		d.sink.none(t)
	}
}

func TestF2TruncatedChunkIsRefused(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*wire){
		"close_notify":  func(w *wire) { _ = w.Conn.(*tls.Conn).CloseWrite() },
		"FIN under TLS": func(w *wire) { _ = w.Conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite() },
		"FIN in clear":  func(w *wire) { _ = w.Conn.(*net.TCPConn).CloseWrite() },
	} {
		d := open(t, nil)
		var w *wire
		if strings.HasSuffix(name, "clear") {
			w = d.hello(t)
		} else {
			w = d.secured(t)
		}
		w.envelope()
		w.raw("BDAT 1000 LAST\r\nSubject: x\r\n\r\n0123456789")
		end(w)
		if r, err := w.reply(); err == nil && !strings.HasPrefix(r, "421 4.4.2") {
			t.Errorf("%s: %q", name, r)
		}
		_ = d.Shutdown(t.Context())
		d.sink.none(t)
	}
}

func TestF3EndOfDataAfterCRCRLF(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.data()
	w.raw("Subject: x\r\n\r\nbody\r\r\n.\r\n")
	w.want("554 5.6.0")
	w.closed()
	d.sink.none(t)
}

func TestF5FragmentIsNotACommand(t *testing.T) {
	t.Parallel()
	t.Run("timeout", func(t *testing.T) {
		d := open(t, func(o *Options) { o.Limits.Command = 100 * time.Millisecond })
		w := d.hello(t)
		w.raw("MAIL FROM:<a@sender.example>")
		w.want("421 4.4.2")
		w.closed()
	})
	t.Run("slowloris", func(t *testing.T) { // the time is for the whole line
		d := open(t, func(o *Options) { o.Limits.Command = 150 * time.Millisecond })
		w := d.hello(t)
		begun := time.Now()
		go func() {
			for range 1000 {
				if _, err := io.WriteString(w.Conn, "N"); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		}()
		w.want("421 4.4.2")
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("lived %v", took)
		}
	})
	t.Run("EOF", func(t *testing.T) {
		d := open(t, nil)
		w := d.hello(t)
		w.raw("MAIL FROM:<a@sender.example>")
		_ = w.Conn.(*net.TCPConn).CloseWrite()
		w.closed()
	})
}

func TestF6PipelinedChunkWithLongLines(t *testing.T)  { testLongChunk(t) }
func TestS12PipelinedChunkWithLongLines(t *testing.T) { testLongChunk(t) }

func testLongChunk(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	body := "Subject: x\r\n\r\n" + strings.Repeat("y", 30000) + "\r\n"
	w.raw(fmt.Sprintf("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\nBDAT %d LAST\r\n%sNOOP\r\n", len(body), body))
	w.want("250 2.1.0")
	w.want("250 2.1.5")
	w.want("250 2.6.0")
	w.want("250")
	if m := d.sink.only(t); !strings.HasSuffix(m.body, body[len("Subject: x\r\n"):]) {
		t.Error("the body has changed")
	}
}

// The rows of libraries.md F7, and more of its kind: MAIL, RCPT and what answers them.
func TestF7CommandsAreStrict(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	for _, c := range []struct{ name, command, want string }{
		{"bare LF", "NOOP\nNOOP", "500 5.5.2"},
		{"CR inside", "MAIL FROM:<a@sender.example\r>", "501 5.1.7"},
		{"NUL in sender", "MAIL FROM:<a\x00@sender.example>", "501 5.1.7"},
		{"0x01 in sender", "MAIL FROM:<a\x01@sender.example>", "501 5.1.7"},
		{"DEL in verb", "NOO\x7fP", "500 5.5.2"},
		{"non-ASCII sender", "MAIL FROM:<ä@sender.example>", "550 5.6.7"},
		{"non-ASCII domain", "MAIL FROM:<a@bücher.example>", "550 5.6.7"},
		{"no brackets", "MAIL FROM:a@sender.example", "501 5.1.7"},
		{"dots", "MAIL FROM:<a..b@sender.example>", "501 5.1.7"},
		{"dots in domain", "MAIL FROM:<a@sender..example>", "501 5.1.7"},
		{"two at", "MAIL FROM:<a@b@sender.example>", "501 5.1.7"},
		{"address literal", "MAIL FROM:<a@[127.0.0.1]>", "501 5.1.7"},
		{"no domain", "MAIL FROM:<a>", "501 5.1.7"},
		{"trailing text", "MAIL FROM:<a@sender.example>SIZE=1", "501 5.1.7"},
		{"route without mailbox", "MAIL FROM:<@x.example:>", "501 5.1.7"},
		{"REQUIRETLS in clear", "MAIL FROM:<a@sender.example> REQUIRETLS", "530 5.7.0"},
		{"unknown parameter", "MAIL FROM:<a@sender.example> FOO=bar", "555 5.5.4"},
		{"parameter of RCPT", "MAIL FROM:<a@sender.example> NOTIFY=NEVER", "555 5.5.4"},
		{"BINARYMIME", "MAIL FROM:<a@sender.example> BODY=BINARYMIME", "501 5.5.4"},
		{"value twice", "MAIL FROM:<a@sender.example> SIZE=1 SIZE=2", "501 5.5.4"},
		{"= twice", "MAIL FROM:<a@sender.example> SIZE=1=2", "501 5.5.4"},
		{"SIZE of letters", "MAIL FROM:<a@sender.example> SIZE=x", "501 5.5.4"},
		{"SIZE too big", "MAIL FROM:<a@sender.example> SIZE=26214401", "552 5.3.4"},
		{"SIZE beyond 64 bits", "MAIL FROM:<a@sender.example> SIZE=99999999999999999999", "552 5.3.4"},
		{"SMTPUTF8 with a value", "MAIL FROM:<a@sender.example> SMTPUTF8=yes", "501 5.5.4"},
		{"RET", "MAIL FROM:<a@sender.example> RET=ALL", "501 5.5.4"},
		{"ENVID not xtext", "MAIL FROM:<a@sender.example> ENVID=a+zz", "501 5.5.4"},
		{"ENVID too long", "MAIL FROM:<a@sender.example> ENVID=" + strings.Repeat("a", 101), "501 5.5.4"},
		{"AUTH not xtext", "MAIL FROM:<a@sender.example> AUTH=+0", "501 5.5.4"},
		{"unknown command", "FROB", "500 5.5.2"},
		{"short", "X", "500 5.5.2"},
		{"empty", "", "500 5.5.2"},
		{"long", "NOOP " + strings.Repeat("x", 5000), "500 5.5.2"},
		{"RCPT first", "RCPT TO:<b@rcpt.example>", "503 5.5.1"},
		{"DATA first", "DATA", "503 5.5.1"},
		{"STARTTLS with argument", "STARTTLS now", "501 5.5.4"},
		{"STARTTLSx", "STARTTLSx", "500 5.5.2"},
		{"EHLO without name", "EHLO", "501 5.5.4"},
		{"EHLO with two names", "EHLO a b", "501 5.5.4"},
		{"EHLO with a control octet", "EHLO a\x1bb", "500 5.5.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := d.hello(t)
			w.do(c.command, c.want)
		})
	}
	for _, c := range []struct{ name, command, want string }{
		{"address literal", "RCPT TO:<b@[127.0.0.1]>", "501 5.1.3"},
		{"IPv6 literal", "RCPT TO:<b@[IPv6:::1]>", "501 5.1.3"},
		{"null", "RCPT TO:<>", "501 5.1.3"},
		{"non-ASCII", "RCPT TO:<ä@rcpt.example>", "553 5.6.7"},
		{"two at", "RCPT TO:<b@c@rcpt.example>", "501 5.1.3"},
		{"bare CR", "RCPT TO:<b@rcpt.example\r>", "501 5.1.3"},
		{"no brackets", "RCPT TO:b@rcpt.example", "501 5.1.3"},
		{"unclosed quote", `RCPT TO:<"b@rcpt.example>`, "501 5.1.3"},
		{"NOTIFY", "RCPT TO:<b@rcpt.example> NOTIFY=SOMETIMES", "501 5.5.4"},
		{"NOTIFY NEVER and more", "RCPT TO:<b@rcpt.example> NOTIFY=NEVER,SUCCESS", "501 5.5.4"},
		{"ORCPT without type", "RCPT TO:<b@rcpt.example> ORCPT=b@rcpt.example", "501 5.5.4"},
		{"unknown parameter", "RCPT TO:<b@rcpt.example> SIZE=1", "555 5.5.4"},
		{"AUTH inside", "AUTH PLAIN", "503 5.5.1"},
		{"DATA without recipient", "DATA", "503 5.5.1"},
		{"postmaster", "RCPT TO:<PostMaster>", "250 2.1.5"},
		{"source route", "RCPT TO:<@x.example,@y.example:b@rcpt.example>", "250 2.1.5"},
	} {
		t.Run("RCPT "+c.name, func(t *testing.T) {
			t.Parallel()
			w := d.hello(t)
			w.do("MAIL FROM:<a@sender.example>", "250")
			w.do(c.command, c.want)
		})
	}
}

func TestS10QuotingIsKept(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	for _, c := range []struct{ path, local, domain string }{
		{`"x> NOTIFY=NEVER y"@rcpt.example`, "x> NOTIFY=NEVER y", "rcpt.example"},
		{`"v@evil.example"@rcpt.example`, "v@evil.example", "rcpt.example"},
		{`"a\"b\\c"@rcpt.example`, `a"b\c`, "rcpt.example"},
	} {
		w := d.hello(t)
		w.do("MAIL FROM:<>", "250")
		w.do("RCPT TO:<"+c.path+">", "250")
		w.do("DATA", "354")
		w.raw(plainMail + ".\r\n")
		w.want("250")
		all := d.sink.all()
		got := all[len(all)-1].recipients
		if len(got) != 1 || got[0].Address.Local != c.local || string(got[0].Address.Domain) != c.domain || got[0].Notify != 0 {
			t.Errorf("%s: %+v", c.path, got)
		}
		if s := got[0].Address.String(); s != c.path {
			t.Errorf("%s goes out as %s", c.path, s)
		}
	}
}

func TestS11HelloNameCannotInject(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.greeted(t)
	w.do("EHLO <b>(x);for=<evil@evil.example>", "250")
	w.send(plainMail)
	if b := d.sink.only(t).body; !strings.HasPrefix(b, "Received: from unknown ([127.0.0.1]) by relay.example\r\n") {
		t.Errorf("%q", b)
	}
}

func TestF8FailedLoginsAreCountedAndCutOff(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Credentials = []Credential{withPassword(t, "app", "secret")} })
	w := d.hello(t)
	w.raw(strings.Repeat("AUTH PLAIN AGFwcAB3cm9uZw==\r\n", 12)) // in one packet
	for range 3 {
		w.want("535 5.7.8")
	}
	w.want("421 4.7.0")
	w.closed()
}

func TestF9FailedHandshakeEndsTheConnection(t *testing.T)  { testFailedHandshake(t) }
func TestS36FailedHandshakeEndsTheConnection(t *testing.T) { testFailedHandshake(t) }

func testFailedHandshake(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.do("STARTTLS", "220")
	w.raw("this is no ClientHello\r\n" + injected)
	rest, _ := io.ReadAll(w.r) // an alert perhaps, but no reply
	if s := string(rest); strings.Contains(s, "250") || strings.Contains(s, "550") {
		t.Errorf("went on in clear: %q", s)
	}
	d.sink.none(t)
}

func TestS36HandshakeHasADeadline(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Limits.Handshake = 50 * time.Millisecond })
	w := d.hello(t)
	w.do("STARTTLS", "220")
	_, _ = io.ReadAll(w.r) // returns because the server gives up
}

func TestF10SizeLimitIsExact(t *testing.T) {
	t.Parallel()
	const limit = 1000
	change := func(o *Options) { o.Listeners[0].MaxMessageBytes = limit }
	for _, over := range []int{0, 1} {
		for _, how := range []string{"DATA", "BDAT"} {
			d := open(t, change)
			w := d.hello(t)
			body := "Subject: x\r\n\r\n"
			body += strings.Repeat("y", limit+over-len(body)-2) + "\r\n"
			w.envelope()
			if how == "DATA" {
				w.do("DATA", "354")
				w.raw(body + ".\r\n")
			} else {
				w.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body))
			}
			if over == 0 {
				w.want("250 2.6.0")
			} else {
				w.want("552 5.3.4")
				d.sink.none(t)
			}
			w.do("NOOP", "250")
		}
	}
}

func TestS33EndlessDataIsCutOff(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Listeners[0].MaxMessageBytes = 1000 })
	w := d.hello(t)
	w.data()
	go func() {
		for {
			if _, err := io.WriteString(w.Conn, strings.Repeat("0123456789\r\n", 1000)); err != nil {
				return
			}
		}
	}()
	w.want("552 5.3.4")
	d.sink.none(t)
}

func TestF11RepliesShareAPacket(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.raw("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\nRCPT TO:<c@rcpt.example>\r\nDATA\r\n")
	buf := make([]byte, 4096)
	n, err := w.Conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(buf[:n]), "\r\n"); got != 4 {
		t.Errorf("%d replies in the first read, want all 4: %q", got, buf[:n])
	}
}

func TestF12ShutdownEndsIdleSessions(t *testing.T) { testIdleShutdown(t) }
func TestS9ShutdownEndsIdleSessions(t *testing.T)  { testIdleShutdown(t) }

func testIdleShutdown(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	idle, secured, after := d.hello(t), d.secured(t), d.hello(t)
	after.send(plainMail)
	ended := make(chan error, 1)
	go func() { ended <- d.Shutdown(context.Background()) }()
	for _, w := range []*wire{idle, secured, after} {
		w.want("421 4.3.2")
		_ = w.Close()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestF13ConnectionsAreLimited(t *testing.T) { testConnections(t) }
func TestS14ConnectionsAreLimited(t *testing.T) { testConnections(t) }

func testConnections(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Options){
		func(o *Options) { o.Limits.Connections = 2 },
		func(o *Options) { o.Limits.PerAddress = 2 },
	} {
		d := open(t, change)
		first := d.greeted(t)
		d.greeted(t)
		w := d.dial(t)
		w.want("421 4.7.0")
		w.closed()
		first.do("QUIT", "221")
		first.closed()
		eventually(t, func() bool {
			c, err := net.Dial("tcp", d.addr)
			if err != nil {
				return false
			}
			defer c.Close()
			b := make([]byte, 3)
			_, _ = io.ReadFull(c, b)
			return string(b) == "220"
		})
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatal("did not come true")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestF13CommandsAndTransactionsAreLimited(t *testing.T) {
	t.Parallel()
	t.Run("junk", func(t *testing.T) {
		d := open(t, func(o *Options) { o.Limits.Junk = 10 })
		w := d.hello(t)
		for range 9 {
			w.do("NOOP", "250")
		}
		w.do("RSET", "421 4.7.0")
		w.closed()
	})
	t.Run("a message clears the junk", func(t *testing.T) {
		d := open(t, func(o *Options) { o.Limits.Junk = 10 })
		w := d.hello(t)
		for range 30 {
			w.do("NOOP", "250")
			w.send(plainMail)
		}
	})
	t.Run("errors", func(t *testing.T) {
		d := open(t, func(o *Options) { o.Limits.Errors = 3 })
		w := d.hello(t)
		for range 4 {
			w.do("FROB", "500")
		}
		w.want("421 4.7.0")
		w.closed()
	})
	t.Run("transactions", func(t *testing.T) {
		d := open(t, func(o *Options) { o.Limits.Transactions = 2 })
		w := d.hello(t)
		w.send(plainMail)
		w.send(plainMail)
		w.do("MAIL FROM:<a@sender.example>", "421 4.7.0")
	})
}
