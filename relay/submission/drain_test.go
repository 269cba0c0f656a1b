package submission

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// shutdown begins to drain, and returns when every session knows of it.
func (d *dock) shutdown(t *testing.T) (ended <-chan error) {
	t.Helper()
	c := make(chan error, 1)
	go func() { c <- d.Shutdown(context.Background()) }()
	eventually(t, func() bool {
		d.conns.mu.Lock()
		defer d.conns.mu.Unlock()
		return d.conns.draining
	})
	return c
}

// A transaction that is open when draining begins may come to its end, and none after it.
func TestShutdownLetsTransactionsEnd(t *testing.T) {
	t.Parallel()
	content := plainMail + ".\r\n"
	data := []string{"DATA", "354", content, "250 2.6.0", "", "421 4.3.2"}
	for _, c := range []struct {
		name   string
		before func(*wire)
		after  []string // what is sent ("" for nothing) and the reply that is wanted, in turn
		mail   int
	}{
		{"idle", func(*wire) {}, []string{"", "421 4.3.2"}, 0},
		{"MAIL", func(w *wire) { w.do("MAIL FROM:<a@sender.example>", "250") }, append([]string{"RCPT TO:<b@rcpt.example>", "250", "NOOP", "250"}, data...), 1},
		{"RCPT", (*wire).envelope, append([]string{"RCPT TO:<c@rcpt.example>", "250"}, data...), 1},
		{"RCPT, then BDAT", (*wire).envelope, []string{
			"BDAT 12\r\nSubject: x", "250", "BDAT 8 LAST\r\n\r\nbody", "250 2.6.0", "", "421 4.3.2"}, 1},
		{"BDAT", func(w *wire) { w.envelope(); w.do("BDAT 12\r\nSubject: x", "250") }, []string{
			"BDAT 8 LAST\r\n\r\nbody", "250 2.6.0", "", "421 4.3.2"}, 1},
		{"half a command", func(w *wire) { w.envelope(); w.raw("DA") }, []string{
			"TA", "354", content, "250 2.6.0", "", "421 4.3.2"}, 1},
		{"a refused message", (*wire).envelope, []string{"DATA", "354", "a\x00b\r\n.\r\n", "554 5.6.0", "", "421 4.3.2"}, 0},
		{"pipelined behind it", (*wire).envelope, []string{"DATA", "354", content + injected, "250 2.6.0", "", "421 4.3.2"}, 1},
		{"RSET", (*wire).envelope, []string{"RSET", "421 4.3.2"}, 0},
		{"EHLO", (*wire).envelope, []string{"EHLO again.example", "421 4.3.2"}, 0},
		{"HELO", (*wire).envelope, []string{"HELO again.example", "421 4.3.2"}, 0},
		{"STARTTLS", (*wire).envelope, []string{"STARTTLS", "421 4.3.2"}, 0},
		{"another MAIL", (*wire).envelope, []string{"MAIL FROM:<c@sender.example>", "421 4.3.2"}, 0},
		{"QUIT", (*wire).envelope, []string{"QUIT", "221"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, func(o *Options) { o.Limits.DrainIdle = patience })
			w := d.hello(t)
			c.before(w)
			ended := d.shutdown(t)
			for i := 0; i < len(c.after); i += 2 {
				if s := c.after[i]; s != "" {
					w.raw(strings.TrimSuffix(s, "\r\n") + "\r\n")
				}
				w.want(c.after[i+1])
			}
			w.closed()
			_ = w.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if n := len(d.sink.all()); n != c.mail {
				t.Errorf("%d accepted, want %d", n, c.mail)
			}
		})
	}
}

// A client that says nothing more in its transaction does not hold the drain: it would
// last for ever here.
func TestShutdownDoesNotWaitForSilentTransactions(t *testing.T) {
	t.Parallel()
	d := open(t, func(o *Options) { o.Limits.DrainIdle = 20 * time.Millisecond })
	mail, chunks, half := d.hello(t), d.hello(t), d.secured(t)
	mail.do("MAIL FROM:<a@sender.example>", "250")
	chunks.envelope()
	chunks.do("BDAT 12\r\nSubject: x", "250")
	half.envelope()
	half.raw("DAT")
	ended := d.shutdown(t)
	for _, w := range []*wire{mail, chunks, half} {
		w.want("421 4.3.2")
		w.closed()
		_ = w.Close()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	d.sink.none(t)
}

// The grace counts from the later of the two beginnings, and lengthens no deadline.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1000, 0).Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		name        string
		waiting     wait
		draining    bool
		drain, line time.Time
		want        time.Time
	}{
		{"not draining", waitGrace, false, time.Time{}, at(0), at(300)},
		{"content", waitFirm, true, at(100), at(0), at(300)},
		{"idle", waitYielding, true, at(100), at(0), time.Unix(1, 0)},
		{"silent since before", waitGrace, true, at(100), at(0), at(105)},
		{"a command came since", waitGrace, true, at(100), at(103), at(108)},
		{"the command time is over first", waitGrace, true, at(298), at(0), at(300)},
	} {
		g := &gate{
			server: &Server{limits: Limits{}.withDefaults()}, draining: c.draining, drainBegan: c.drain,
			waiting: c.waiting, deadline: at(300), lineBegan: c.line,
		}
		if got := g.due(); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got.Sub(at(0)), c.want.Sub(at(0)))
		}
	}
}

// RFC 1870 6.1: no room is told at MAIL, not after the message was sent.
func TestGateIsAskedAtMAIL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"full", queue.ErrFull, "452 4.3.1"},
		{"full, wrapped", fmt.Errorf("disk: %w", queue.ErrFull), "452 4.3.1"},
		{"room", nil, "250 2.1.0"},
		{"another error", errors.New("secret"), "250 2.1.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seen := &counter{seen: map[string]int{}}
			asked := make(chan struct{}, 10)
			d := withApp(t, func(o *Options) {
				o.Observer = seen
				o.Gate = func() error { asked <- struct{}{}; return c.err }
			})
			w := d.secured(t)
			w.do("MAIL FROM:<a@sender.example>", "530") // who may not send is not told how full it is
			w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
			w.do("MAIL FROM:<a@sender.example> SIZE=100", c.want)
			want := 0
			if c.want[0] == '4' {
				want = 1
				w.do("RCPT TO:<b@rcpt.example>", "503")
				w.do("DATA", "503")
			}
			w.do("RSET", "250")
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if got := seen.seen["rejected test full"]; got != want {
				t.Errorf("counted %d times, want %d", got, want)
			}
			if len(asked) != 1 {
				t.Errorf("asked %d times", len(asked))
			}
		})
	}
}

// Without authentication too; and the check at the end of the content stays.
func TestGateWithoutCredentials(t *testing.T) {
	t.Parallel()
	full := make(chan error, 2)
	d := open(t, func(o *Options) { o.Gate = func() error { return <-full } })
	w := d.hello(t)
	full <- queue.ErrFull
	w.do("MAIL FROM:<a@sender.example>", "452 4.3.1")
	full <- nil
	d.sink.fail = queue.ErrFull
	if r := w.send(plainMail); !strings.HasPrefix(r, "452 4.3.1") {
		t.Error(r)
	}
}

// An IPv4 literal is IPv4 only.
func TestListenFamily(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"0.0.0.0:587": "tcp4", "127.0.0.1:0": "tcp4", "[::]:587": "tcp", "[::1]:587": "tcp", "[::ffff:127.0.0.1]:587": "tcp",
		":587": "tcp", "localhost:587": "tcp", "nonsense": "tcp",
	} {
		if got := family(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	d := open(t, func(o *Options) { o.Listeners[0].Addr = "0.0.0.0:0" })
	host, port, err := net.SplitHostPort(d.addr)
	if err != nil || host != "0.0.0.0" {
		t.Fatalf("listens on %s, IPv6 too: %v", d.addr, err)
	}
	d.addr = net.JoinHostPort("127.0.0.1", port)
	d.hello(t)
}
