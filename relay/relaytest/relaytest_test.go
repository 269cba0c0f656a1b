package relaytest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKinds calls every kind of host with a client that is not ours, and compares
// what comes of it with what the kind says of itself.
func TestKinds(t *testing.T) {
	a := newAuthority(t, "mx.test")
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Name] {
			t.Errorf("%s is there twice", k.Name)
		}
		seen[k.Name] = true
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			h := start(t, k.Behaviour(a.certs[k.Certificate]))
			if (h.behaviour.Load().TLS != nil) != (k.Certificate != NoCertificate) {
				t.Errorf("certificate %s", k.Certificate)
			}
			c := newCaller(a, "mx.test")
			if strings.Contains(k.Name, "stall") || strings.Contains(k.Name, "frozen") {
				c.wait = 2 * time.Second // the only kinds that are waited for
			}
			o := c.call(h.Addr().String())
			if o.kind != k.First || o.level != k.Level && k.Level != policy.Unset {
				t.Errorf("the first call: %v at %s (%v), want %v at %s", o.kind, o.level, o.err, k.First, k.Level)
			}
			if c.again = true; k.First != k.Later {
				tick, end := time.NewTicker(100*time.Millisecond), soon(t)
				defer tick.Stop()
				for o = c.call(h.Addr().String()); o.kind != k.Later && end.Err() == nil; <-tick.C { // some need more calls, or time
					o = c.call(h.Addr().String())
				}
				if o.kind != k.Later {
					t.Errorf("the later calls: %v (%v), want %v", o.kind, o.err, k.Later)
				}
			}
			wanted := 0
			if k.Later == queue.DeliveredNow {
				wanted = 1
			}
			if wanted > 0 { // a host records a message behind its reply
				if _, err := h.Await(soon(t), wanted); err != nil {
					t.Fatal(err)
				}
			}
			if got := h.Accepted(); len(got) != wanted {
				t.Fatalf("%d messages, want %d: %+v", len(got), wanted, got)
			} else if wanted == 1 && (string(got[0].Body) != c.body || got[0].From != c.from || !slices.Equal(got[0].Addresses(), c.to)) {
				t.Errorf("message %+v", got[0])
			}
			if b := h.Breaches(); len(b) > 0 {
				t.Errorf("a correct client is blamed: %q", b)
			}
			if k.Level > policy.Plaintext && k.Name != "tls-demanded" && len(h.ClearEnvelopes()) > 0 {
				t.Errorf("envelopes in clear: %v", h.ClearEnvelopes())
			}
		})
	}
}

// TestGoSMTP: go-smtp's client, which others wrote, gets through.
func TestGoSMTP(t *testing.T) {
	a := newAuthority(t, "mx.test")
	for _, name := range []string{"modern", "tls12-only", "lower-case", "bare", "multi-line", "no-chunking", "small-size", "no-tls", "helo-only"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, ok := KindNamed(name)
			if !ok {
				t.Fatal("unknown kind")
			}
			h := start(t, k.Behaviour(a.certs[k.Certificate]))
			conn, err := net.Dial("tcp", h.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			var c *smtp.Client
			if k.Certificate == NoCertificate {
				c = smtp.NewClient(conn)
			} else if c, err = smtp.NewClientStartTLS(conn, &tls.Config{ServerName: "mx.test", RootCAs: a.roots}); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const body = "Subject: test\r\n\r\n.dot\r\nend\r\n"
			if err := c.SendMail("a@client.test", []string{"b@example.test", "c@example.test"}, strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			if err := c.Quit(); err != nil {
				t.Fatal(err)
			}
			got, err := h.Await(soon(t), 1)
			if err != nil {
				t.Fatal(err)
			}
			if m := got[0]; string(m.Body) != body || m.From != "a@client.test" || len(m.Recipients) != 2 || m.TLS != 0 != (k.Certificate != NoCertificate) {
				t.Errorf("message %+v", m)
			}
			if err := h.AwaitIdle(soon(t)); err != nil {
				t.Fatal(err)
			}
			s := h.Sessions()
			if len(s) != 1 || !s[0].Quit || s[0].Open || (s[0].SNI == "mx.test") != (k.Certificate != NoCertificate) {
				t.Errorf("sessions %+v", s)
			}
			if b := h.Breaches(); len(b) > 0 {
				t.Errorf("breaches %q", b)
			}
		})
	}
}

// wire is a raw connection to a host.
type wire struct {
	t *testing.T
	*dialogue
}

func dial(t *testing.T, h *Host) wire {
	t.Helper()
	conn, err := net.Dial("tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	w := wire{t, &dialogue{}}
	w.over(conn)
	w.want("220")
	return w
}

// want reads reply lines and compares each with the beginning of what is wanted.
func (w wire) want(lines ...string) {
	w.t.Helper()
	for _, want := range lines {
		got, err := w.text.ReadLine()
		if err != nil || !strings.HasPrefix(got, want) {
			w.t.Fatalf("reply %q (%v), want %q", got, err, want)
		}
	}
}

func (w wire) say(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, text); err != nil {
		w.t.Fatal(err)
	}
}

// TestBreaches: each breach of the protocol is noted, and none else.
func TestBreaches(t *testing.T) {
	plain := []string{"PIPELINING", "CHUNKING"}
	for _, test := range []struct {
		name, send string
		extensions []string
		want       string
	}{
		{"RFC 5321 4.1.1.1 MAIL before EHLO", "MAIL FROM:<a@b.test>\r\n", plain, "MAIL before EHLO"},
		{"RFC 5321 2.3.8 bare LF in a command", "NOOP\n", plain, "bare LF"},
		{"RFC 5321 2.3.8 bare LF in the body", "HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n|a\nb\r\n.\r\n", plain, "bare LF"},
		{"RFC 5321 4.1.1.11 parameter", "EHLO x\r\n|MAIL FROM:<a@b.test> SMTPUTF8\r\n", plain, `parameter "SMTPUTF8" was not offered`},
		{"RFC 5321 4.1.1.2 syntax", "EHLO x\r\n|MAIL FROM: a@b.test\r\n", plain, "MAIL"},
		{"RFC 6152 3 8-bit content", "HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n|\xc3\xa9\r\n.\r\n", plain, "8BITMIME was not offered"},
		{"RFC 2920 3.1 group without PIPELINING", "EHLO x\r\n|MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n", []string{}, "PIPELINING was not offered"},
		{"RFC 2920 3.1 DATA within a group", "EHLO x\r\n|MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nbody\r\n.\r\n", plain, "DATA is not the last"},
		{"RFC 3030 2 BDAT unasked", "EHLO x\r\n|BDAT 2 LAST\r\nhi", []string{}, "BDAT was not offered"},
		{"RFC 3030 2 DATA after BDAT", "EHLO x\r\n|MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2\r\nhi|DATA\r\n", plain, "DATA after BDAT"},
		{"RFC 3207 4 STARTTLS unasked", "STARTTLS\r\n", plain, "STARTTLS was not offered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Behaviour{Extensions: test.extensions})
			w := dial(t, h)
			// The parts between | are sent each after a reply to what came before.
			for i, part := range strings.Split(test.send, "|") {
				if i > 0 {
					if err := h.record.await(soon(t), func() bool { return len(h.record.commands) > 0 }); err != nil {
						t.Fatal(err)
					}
					if _, err := w.text.ReadLine(); err != nil {
						t.Fatal(err)
					}
				}
				w.say(part)
			}
			err := h.record.await(soon(t), func() bool {
				return slices.ContainsFunc(h.record.breaches, func(b string) bool { return strings.Contains(b, test.want) })
			})
			if err != nil {
				t.Fatalf("breaches %q, want %q", h.Breaches(), test.want)
			}
		})
	}
}

// TestChunks: RFC 3030 bodies come in as they are, several chunks, pipelined.
func TestChunks(t *testing.T) {
	t.Parallel()
	h := start(t, Behaviour{})
	w := dial(t, h)
	w.say("EHLO x\r\n")
	w.want("250-", "250-PIPELINING", "250-8BITMIME", "250-SMTPUTF8", "250-DSN", "250-ENHANCEDSTATUSCODES", "250-CHUNKING", "250 SIZE")
	w.say("MAIL FROM:<> SIZE=12 BODY=8BITMIME RET=HDRS ENVID=x\r\nRCPT TO:<\"a>b\"@d.test> NOTIFY=NEVER\r\nBDAT 6\r\n.\r\n.\r\nBDAT 6 LAST\r\nbody\r\nRSET\r\n" +
		"MAIL FROM:<a@b.test>\r\nBDAT 4 LAST\r\nlostRSET\r\nNOOP\r\n")
	w.want("250", "250", "250", "250", "250", "250", "503", "250", "250")
	got, err := h.Await(soon(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	m := got[0]
	if string(m.Body) != ".\r\n.\r\nbody\r\n" || !m.BDAT || m.Recipients[0].Address != `"a>b"@d.test` ||
		!slices.Equal(m.FromParams, []string{"SIZE=12", "BODY=8BITMIME", "RET=HDRS", "ENVID=x"}) || !slices.Equal(m.Recipients[0].Params, []string{"NOTIFY=NEVER"}) {
		t.Errorf("message %+v", m)
	}
	if b := h.Breaches(); len(b) > 0 {
		t.Errorf("breaches %q", b)
	}
	// RFC 1870 6.1, 5321 4.1.1.4: a message above the limit is refused after it came in.
	small := start(t, Behaviour{Size: 10})
	w = dial(t, small)
	w.say("HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
	w.want("250", "250", "250", "354")
	w.say("123456789\r\n\n.\r\n..\r\n.\r\n")
	w.want("552")
	if err := small.AwaitStats(soon(t), func(s Stats) bool { return s.Finished == 1 }); err != nil { // recorded behind the reply
		t.Fatal(err)
	}
	if m := small.Messages(); len(m) != 1 || m[0].Accepted || string(m[0].Body) != "123456789\r\n\n.\r\n.\r\n" {
		t.Errorf("messages %+v", m)
	}
}

// TestClearEnvelopes: what comes in clear is told apart from what does not.
func TestClearEnvelopes(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "mx.test")
	k, _ := KindNamed("modern")
	h := start(t, k.Behaviour(a.certs[Trusted]))
	if o := newCaller(a, "mx.test").call(h.Addr().String()); o.err != nil {
		t.Fatal(o.err)
	}
	if c := h.ClearEnvelopes(); len(c) != 0 || h.Stats().ClearEnvelopes != 0 {
		t.Errorf("in clear: %v", c)
	}
	w := dial(t, h)
	w.say("HELO x\r\nmail from:<secret@b.test>\r\n")
	w.want("250", "250")
	if _, err := h.AwaitCommand(soon(t), "MAIL FROM:<secret"); err != nil {
		t.Fatal(err)
	}
	if c := h.ClearEnvelopes(); len(c) != 1 || c[0].Line != "mail from:<secret@b.test>" || c[0].Secure {
		t.Errorf("in clear: %v", c)
	}
}

// TestSink: a sink counts and keeps nothing.
func TestSink(t *testing.T) {
	t.Parallel()
	h := start(t, Behaviour{Sink: true})
	w := dial(t, h)
	for i := range 3 {
		w.say("HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n")
		w.want("250", "250", "250", "250", "354")
		w.say("..x\r\n.\r\n")
		w.want("250")
		if err := h.AwaitStats(soon(t), func(s Stats) bool { return s.Messages == i+1 }); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := h.Stats(), (Stats{Sessions: 1, Open: 1, Messages: 3, Finished: 3, Recipients: 6, Bytes: 12, ClearEnvelopes: 12}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if len(h.Messages()) != 0 || len(h.Commands()) != 0 {
		t.Error("a sink keeps messages")
	}
}

// TestScripts: counts by host, session and pair.
func TestScripts(t *testing.T) {
	t.Parallel()
	h := start(t, Behaviour{Script: Scripts(
		ForRecipient("twice@d.test", "450 4.0.0 once", "450 4.0.0 twice", "250 2.1.5 ok"),
		Greylist(1),
		Sequence(MAIL, Act{}, Act{Reply: "451 4.0.0 second of the session"}),
		Lifelong(NOOP, Act{}, Act{Reply: "250 second of the life"}),
	)})
	const hello, rset = "HELO x\r\n", "RSET\r\n"
	for i, dialogue := range []struct {
		send string
		want []string
	}{
		{hello + "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nRCPT TO:<twice@d.test>\r\nRCPT TO:<twice@d.test>\r\nRCPT TO:<twice@d.test>\r\nRCPT TO:<x@d.test>\r\n",
			[]string{"250", "250", "450", "450 4.0.0 once", "450 4.0.0 twice", "250", "250"}},
		{hello + "NOOP\r\nMAIL FROM:<c@b.test>\r\nRCPT TO:<x@d.test>\r\n" + rset + "MAIL FROM:<a@b.test>\r\nNOOP\r\n",
			[]string{"250", "250 2.0.0 ok", "250", "450", "250", "451 4.0.0 second", "250 second of the life"}},
	} {
		w := dial(t, h)
		w.say(dialogue.send)
		t.Log(i)
		w.want(dialogue.want...)
	}
	h.Become(Behaviour{})
	w := dial(t, h)
	w.say(hello + "MAIL FROM:<new@b.test>\r\nRCPT TO:<x@d.test>\r\n")
	w.want("250", "250", "250")
}

// TestEnds: a connection ends as the script says, at the octet that it says.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, then := range []Then{Drop, Reset} {
		h := start(t, Behaviour{Script: At(Body, Act{Then: then, Octets: 5000})})
		w := dial(t, h)
		w.say("HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
		w.want("250", "250", "250", "354")
		w.say(strings.Repeat("0123456\r\n", 555) + "1234") // 4999 octets
		if s := h.Stats(); s.Open != 1 {
			t.Errorf("the session ended early: %+v", s)
		}
		w.say("5")
		if err := h.AwaitIdle(soon(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.text.ReadLine(); err == nil || (then == Drop) != errors.Is(err, io.EOF) {
			t.Errorf("%v: the client sees %v", then, err)
		}
		if s := h.Stats(); s.Messages != 0 || s.Finished != 0 {
			t.Errorf("stats %+v", s)
		}
	}
}

// TestFarm: all hosts on one port, each on its own address.
func TestFarm(t *testing.T) {
	t.Parallel()
	var list []Behaviour
	for i := range 40 {
		list = append(list, Behaviour{Name: fmt.Sprintf("mx%d.test", i)})
	}
	f, err := StartFarm(list)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range f.Hosts {
		if h.Addr().Port() != f.Port || h.Addr().Addr().String() != fmt.Sprintf("127.0.0.%d", i+2) || f.Host(h.Name()) != h {
			t.Errorf("host %d at %s", i, h.Addr())
		}
		dial(t, h).want()
	}
	if f.Host("none") != nil {
		t.Error("a host that is not there")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := Start(Behaviour{Addr: "0.0.0.0:0"}); err == nil {
		t.Error("listens beyond loopback")
	}
}

// TestClose ends stalls, floods, delays and handshakes; goleak watches.
func TestClose(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "mx.test")
	for name, act := range map[string]Act{"stall": {Then: Stall}, "freeze": {Then: Freeze}, "flood": {Then: Flood}, "delay": {Delay: time.Hour}, "drip": {Reply: "220 x", Drip: time.Hour}} {
		h := start(t, Behaviour{Script: At(NOOP, act), TLS: &tls.Config{Certificates: []tls.Certificate{a.certs[Trusted]}}})
		w := dial(t, h)
		w.say("NOOP\r\n")
		if _, err := h.AwaitCommand(soon(t), "noop"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		shaking := dial(t, h)
		shaking.say("STARTTLS\r\n")
		shaking.want("220")
		h.Disconnect()
		if err := h.AwaitIdle(soon(t)); err != nil {
			t.Errorf("%s: still open: %v", name, err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAwaitEnds: nothing came, and the wait says so.
func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	h := start(t, Behaviour{})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	if _, err := h.Await(ctx, 1); err == nil || !strings.Contains(err.Error(), "0 of 1 messages: enough") {
		t.Errorf("error %v", err)
	}
}
