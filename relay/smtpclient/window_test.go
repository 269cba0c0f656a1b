package smtpclient

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Hosts that behave badly with several messages in flight. Message 20 is the one that
// something happens to, in the middle of a window; 16 couriers share one connection.
func TestTroubleInTheWindow(t *testing.T) {
	t.Parallel()
	const n, victim = 60, 20
	const all = "PIPELINING CHUNKING"
	// at does something once, at a command of the victim, or behind its RCPT.
	at := func(verb, what string) func(int, string, string) string {
		var mine, done bool
		return func(_ int, v, line string) string {
			if strings.Contains(line, fmt.Sprintf("<%d@", victim)) {
				mine = true
			}
			if mine && !done && v == verb {
				done = true
				return what
			}
			return ""
		}
	}
	tests := []struct {
		name  string
		caps  string
		reply func(n int, verb, line string) string
		// What may come of the messages, and of how many at most; the others are "ok 250".
		came  map[string]int
		least int // of those that are not ok
		alone bool
	}{
		{"RCPT refused", all, at("RCPT", "550 5.1.1 no"), map[string]int{"reply-permanent 5.1.1 550": 1}, 1, false},
		{"RCPT refused for now", all, at("RCPT", "450 4.2.1 no"), map[string]int{"reply-temporary 4.2.1 450": 1}, 1, false},
		{"content refused", all, at("BDAT", "554 5.6.0 no"), map[string]int{"reply-permanent 5.6.0 554": 1}, 1, false},
		{"BDAT not known", all, at("BDAT", "502 5.5.1 what"), nil, 0, true},
		{"RCPT 503", all, at("RCPT", "503 5.5.1 what"), nil, 0, true},
		{"421 at RCPT", all, at("RCPT", "421 4.3.2 enough"), map[string]int{"reply-temporary 4.3.2 421": 1}, 0, true},
		{"421 at the content", all, at("BDAT", "421 4.3.2 enough"), map[string]int{"reply-temporary 4.3.2 421": 1}, 1, true},
		{"hangs up at RCPT", all, at("RCPT", "-"), map[string]int{"uncertain": 8}, 1, true},
		{"takes it and hangs up", all, at("BDAT", "take"), map[string]int{"uncertain": 8}, 1, true},
		{"falls asleep", all, at("BDAT", "sleep"), map[string]int{"uncertain": 8}, 1, true},
		{"DATA: RCPT refused", "PIPELINING", at("RCPT", "550 5.1.1 no"), map[string]int{"reply-permanent 5.1.1 550": 1}, 1, false},
		{"DATA: refused", "PIPELINING", at("DATA", "451 4.3.0 no"), map[string]int{"reply-temporary 4.3.0 451": 1}, 1, false},
		{"DATA: 503", "PIPELINING", at("DATA", "503 5.5.1 what"), nil, 0, true},
		{"DATA: 421", "PIPELINING", at("DATA", "421 4.3.2 enough"), map[string]int{"reply-temporary 4.3.2 421": 1}, 1, true},
		{"DATA: hangs up", "PIPELINING", at("DATA", "-"), map[string]int{"connection-lost": 1, "uncertain": 1}, 1, true},
		{"DATA: hangs up at MAIL", "PIPELINING", hangUpAfter(victim, "MAIL"), map[string]int{"connection-lost": 1, "uncertain": 1}, 0, true},
		{"MAIL 421 after ten", all, tooMany(10, "421 4.7.0 too many"), map[string]int{"reply-temporary 4.7.0 421": 1}, 0, true},
		{"MAIL 452 after ten", all, tooMany(10, "452 4.7.0 too many"), nil, 0, true},
		{"hangs up after ten", all, tooMany(10, "-"), map[string]int{"uncertain": 8}, 0, true},
		{"hangs up after each", all, tooMany(1, "-"), map[string]int{"uncertain": 8}, 0, true},
		{"DATA: hangs up after each", "PIPELINING", tooMany(1, "-"), nil, 0, false},
		{"503 to MAIL behind another", all, nested(), nil, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tp := &tape{}
				var mu sync.Mutex
				h := &strict{tape: tp, caps: strings.Fields(tt.caps), reply: func(n int, verb, line string) string {
					mu.Lock()
					defer mu.Unlock()
					return tt.reply(n, verb, line)
				}}
				f := &far{oneWay: 25 * time.Millisecond, serve: h.serve}
				o := options()
				o.ConnectionsPerHost, o.MessagesPerConnection, o.Dial = 1, 1000, f.dial
				p := newPool(t, o)
				_, came := carry(t, p, 16, n, 1000)
				count := map[string]int{}
				for i, c := range came {
					if c == "ok 250" {
						continue
					}
					count[c]++
					if count[c] > tt.came[c] {
						t.Errorf("message %d: %s, once too often", i, c)
					}
				}
				rest := 0
				for _, k := range count {
					rest += k
				}
				if rest < tt.least {
					t.Errorf("%v: too good to be true", count)
				}
				has := map[string]int{}
				for _, m := range tp.parcels() {
					has[m.body]++
				}
				for i, c := range came {
					switch k := has[numbered(i, 1000)]; {
					case c == "ok 250" && k != 1, c == "uncertain" && k > 1, c != "ok 250" && c != "uncertain" && k != 0:
						t.Errorf("message %d: %s, and the host has it %d times", i, c, k)
					}
				}
				if _, share := p.quirks.manner(hostKey{"mx.example.test", somewhere}, extensions{pipelining: true, chunking: true}, p.o); share == tt.alone {
					t.Errorf("more than one message in flight: %v", share)
				}
				p.Close()
				f.group.Wait()
				if held := p.held(); held != 0 {
					t.Errorf("%d slots are held", held)
				}
			})
		})
	}
}

// hangUpAfter hangs up at the command of the message behind the victim.
func hangUpAfter(victim int, verb string) func(int, string, string) string {
	var armed, done bool
	return func(_ int, v, line string) string {
		if armed && !done && v == verb {
			done = true
			return "-"
		}
		armed = armed || strings.Contains(line, fmt.Sprintf("<%d@", victim))
		return ""
	}
}

// tooMany says what to each MAIL beyond the first n of a connection.
func tooMany(n int, what string) func(int, string, string) string {
	seen := map[int]int{}
	return func(conn int, v, _ string) string {
		if v != "MAIL" {
			return ""
		}
		if seen[conn]++; seen[conn] > n {
			return what
		}
		return ""
	}
}

// nested says 503 to a MAIL that came behind RSET, once.
func nested() func(int, string, string) string {
	last := map[int]string{}
	done := false
	return func(conn int, v, _ string) string {
		before := last[conn]
		last[conn] = v
		if v == "MAIL" && before == "RSET" && !done {
			done = true
			return "503 5.5.1 not so fast"
		}
		return ""
	}
}

// A host that trouble was had with gets one message after the other, on connections
// that were open before, too.
func TestAloneAfterTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var phase atomic.Int32
		tp := &tape{}
		h := &strict{tape: tp, caps: []string{"PIPELINING", "CHUNKING"}}
		h.reply = func(_ int, verb, line string) string {
			if phase.Load() == 1 && verb == "RCPT" {
				phase.Store(2)
				return "421 4.3.2 enough"
			}
			return ""
		}
		f := &far{oneWay: 25 * time.Millisecond, serve: h.serve}
		o := options()
		o.ConnectionsPerHost, o.MessagesPerConnection, o.Dial = 2, 1000, f.dial
		p := newPool(t, o)
		took, _ := carry(t, p, 20, 200, 500)
		if perTrip := took.Seconds() / 0.05; perTrip > 40 {
			t.Errorf("%.0f round trips for 200 messages: there was no window", perTrip)
		}
		phase.Store(1)
		carry(t, p, 20, 40, 500)
		took, _ = carry(t, p, 20, 40, 500)
		if trips := took.Seconds() / 0.05; trips < 19.9 {
			t.Errorf("%.1f round trips for 40 messages on two connections: they did not go one by one", trips)
		}
		p.Close()
		f.group.Wait()
	})
}

// Who waits behind others on a connection that is stuck goes elsewhere, and nothing of
// his is uncertain.
func TestStuckConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stuck atomic.Bool
		tp := &tape{}
		h := &strict{tape: tp, caps: []string{"PIPELINING", "CHUNKING"}}
		h.reply = func(n int, verb, _ string) string {
			if n == 1 && verb == "BDAT" && stuck.Load() {
				return "sleep"
			}
			return ""
		}
		f := &far{oneWay: 25 * time.Millisecond, serve: h.serve}
		o := options()
		o.ConnectionsPerHost, o.MessagesPerConnection, o.Dial = 2, 1000, f.dial
		o.Timeouts.Command, o.Timeouts.Data, o.IdleTime = time.Minute, time.Minute, time.Hour
		p := newPool(t, o)
		carry(t, p, 20, 100, 500)
		stuck.Store(true)
		began := time.Now()
		done := make(chan time.Duration, 40)
		uncertain := 0
		came := make(chan string, 40)
		for i := range 40 {
			go func() {
				_, got := carry(t, p, 1, 1, 500+i)
				done <- time.Since(began)
				came <- got[0]
			}()
		}
		late := 0
		for range 40 {
			if <-done > 2*patience+time.Second {
				late++
			}
			switch c := <-came; c {
			case "ok 250":
			case "uncertain":
				uncertain++
			default:
				t.Errorf("%s", c)
			}
		}
		if uncertain == 0 || uncertain > 8 || late != uncertain {
			t.Errorf("%d are uncertain, %d were late", uncertain, late)
		}
		p.Close()
		f.group.Wait()
	})
}

// cutting fails a write in which several messages meet, with all but its end sent.
type cutting struct {
	net.Conn
	cut *atomic.Int32
}

func (c cutting) Write(p []byte) (int, error) {
	if bytes.Count(p, []byte("MAIL FROM")) > 1 || bytes.Contains(p, []byte("\r\n.\r\nMAIL FROM")) {
		if c.cut.Add(1) == 3 {
			n, _ := c.Conn.Write(p[:len(p)-4])
			return n, os.ErrDeadlineExceeded
		}
	}
	return c.Conn.Write(p)
}

// A write that fails says nothing of the messages before its end: they may have arrived.
// Only what was at its end is sent again.
func TestWriteFailsBetweenMessages(t *testing.T) {
	t.Parallel()
	for _, caps := range []string{"PIPELINING CHUNKING", "PIPELINING"} {
		t.Run(caps, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tp := &tape{}
				h := &strict{tape: tp, caps: strings.Fields(caps)}
				f := &far{oneWay: 25 * time.Millisecond, serve: h.serve}
				var cut atomic.Int32
				o := options()
				o.ConnectionsPerHost, o.MessagesPerConnection = 1, 1000
				o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := f.dial(ctx, network, address)
					return cutting{c, &cut}, err
				}
				p := newPool(t, o)
				_, came := carry(t, p, 24, 100, 500)
				has := map[string]int{}
				for _, m := range tp.parcels() {
					has[m.body]++
				}
				uncertain := 0
				for i, c := range came {
					k := has[numbered(i, 500)]
					if c == "uncertain" {
						uncertain++
					} else if c != "ok 250" {
						t.Errorf("message %d: %s", i, c)
					}
					if k != 1 {
						t.Errorf("message %d: %s, and the host has it %d times", i, c, k)
					}
				}
				if uncertain == 0 || uncertain > 8 {
					t.Errorf("%d are uncertain", uncertain)
				}
				if cut.Load() < 3 {
					t.Errorf("%d writes with several messages", cut.Load())
				}
				p.Close()
				f.group.Wait()
			})
		})
	}
}
