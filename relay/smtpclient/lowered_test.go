package smtpclient

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// distantHost is a strict host behind 50 ms, and a pool with limits that a test changes.
func distantHost(t *testing.T, caps string, connections, messages int) (*strict, *far, *shifting, *Pool, *watcher) {
	t.Helper()
	h := &strict{tape: &tape{}, caps: strings.Fields(caps)}
	f := &far{oneWay: 25 * time.Millisecond, serve: h.serve}
	l, w := &shifting{}, &watcher{}
	l.connections.Store(int64(connections))
	l.messages.Store(int64(messages))
	o := options()
	o.Limits, o.Dial, o.Observer, o.IdleTime = l, f.dial, w, time.Hour
	o.Timeouts.Data = time.Hour
	return h, f, l, newPool(t, o), w
}

// atPlace looks at what the pool knows of the place of shifting limits.
func (p *Pool) atPlace() (open, seats, idle, waiters int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[relay.Place{Provider: "all"}]
	if h == nil {
		return 0, 0, 0, 0
	}
	for _, c := range h.busy {
		seats += c.seats
	}
	return h.open, seats, h.idle.n, len(h.waiters)
}

// Of idle connections those beyond a limit that was lowered end at the next Open.
func TestLimitLoweredIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, f, l, p, w := distantHost(t, "PIPELINING CHUNKING", 5, 1000)
		carry(t, p, 5, 50, 500)
		if open, _, idle, _ := p.atPlace(); open != 5 || idle != 5 {
			t.Fatalf("%d are open, %d idle", open, idle)
		}
		l.connections.Store(2)
		s := open1(t, p, step(somewhere, policy.Clear))
		if open, seats, idle, _ := p.atPlace(); open != 2 || seats != 1 || idle != 1 || !s.Reused() {
			t.Errorf("%d are open, %d in use, %d idle, reused %v", open, seats, idle, s.Reused())
		}
		if n := w.counts(); n[0] != 5 || n[1] != 3 {
			t.Errorf("%d opened, %d closed", n[0], n[1])
		}
		// One for a key of its own may not be opened beside: the idle one's place is taken over.
		other := open1(t, p, step(netip.MustParseAddrPort("192.0.2.2:25"), policy.Clear))
		if open, seats, idle, _ := p.atPlace(); open != 2 || seats != 2 || idle != 0 {
			t.Errorf("%d are open, %d in use, %d idle", open, seats, idle)
		}
		s.Release()
		other.Release()
		p.Close()
		f.group.Wait()
	})
}

// Those who sit on connections beyond a lowered limit finish there, and nobody is seated
// beside them: neither who comes nor who waits.
func TestLimitLoweredBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, f, l, p, w := distantHost(t, "PIPELINING CHUNKING", 3, 1000)
		var held atomic.Bool
		gate := make(chan struct{})
		h.reply = func(_ int, verb, _ string) string {
			if verb == "BDAT" && held.Load() {
				<-gate
			}
			return ""
		}
		carry(t, p, 30, 200, 500) // windows are open
		held.Store(true)
		var crew sync.WaitGroup
		send := func(n int) {
			for range n {
				crew.Go(func() {
					if _, came := carry(t, p, 1, 1, 500); came[0] != "ok 250" {
						t.Error(came[0])
					}
				})
			}
			time.Sleep(time.Second) // of the bubble: they are where they will be
			synctest.Wait()
		}
		send(3)
		if open, seats, _, _ := p.atPlace(); open != 3 || seats != 3 {
			t.Fatalf("%d are open, with %d seats taken", open, seats)
		}
		l.connections.Store(1)
		send(6)
		if open, seats, _, waiters := p.atPlace(); open != 3 || seats != 3 || waiters != 6 {
			t.Errorf("%d are open beyond the limit, with %d seats taken; %d wait", open, seats, waiters)
		}
		close(gate)
		crew.Wait()
		if open, _, _, waiters := p.atPlace(); open != 1 || waiters != 0 {
			t.Errorf("%d are open, %d wait", open, waiters)
		}
		if n := w.counts(); n[0] != 3 || n[1] != 2 {
			t.Errorf("%d opened, %d closed", n[0], n[1])
		}
		if got := len(h.tape.parcels()); got != 209 {
			t.Errorf("the host has %d messages", got)
		}
		p.Close()
		f.group.Wait()
	})
}

// A place that takes less than the operator allows gets one message after the other on a
// connection; its windows open anew when it takes all again.
func TestLimitedHasNoWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		caps            string
		free, throttled float64 // round trips per message: at most, and at least
	}{{"PIPELINING CHUNKING", 0.3, 0.99}, {"PIPELINING", 1.1, 1.99}} {
		t.Run(tt.caps, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, f, l, p, _ := distantHost(t, tt.caps, 1, 1000)
				trips := func() float64 {
					took, came := carry(t, p, 16, 100, 500)
					for _, c := range came {
						if c != "ok 250" {
							t.Error(c)
						}
					}
					return took.Seconds() / 0.05 / 100
				}
				trips()
				if n := trips(); n > tt.free {
					t.Errorf("%.2f round trips per message: there was no window", n)
				}
				l.limited.Store(true)
				if n := trips(); n < tt.throttled {
					t.Errorf("%.2f round trips per message at a host that wants less", n)
				}
				l.limited.Store(false)
				trips()
				if n := trips(); n > tt.free {
					t.Errorf("%.2f round trips per message when the host takes all again", n)
				}
				p.Close()
				f.group.Wait()
			})
		})
	}
}

// The number of messages over one connection is lowered while it is shared: those in
// flight finish, the others go over new connections, each of which keeps to it.
func TestMessagesLowered(t *testing.T) {
	t.Parallel()
	for _, caps := range []string{"PIPELINING CHUNKING", "PIPELINING"} {
		t.Run(caps, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const most, inFlight = 7, 8
				h, f, l, p, _ := distantHost(t, caps, 2, 1000)
				begun := map[int]int{}
				var mu sync.Mutex
				h.reply = func(n int, verb, line string) string {
					mu.Lock()
					defer mu.Unlock()
					if verb == "MAIL" {
						begun[n]++
					}
					if strings.Contains(line, "<60@") {
						l.messages.Store(most)
						begun[1], begun[2] = 0, 0
					}
					return ""
				}
				_, came := carry(t, p, 20, 150, 500)
				for i, c := range came {
					if c != "ok 250" {
						t.Errorf("message %d: %s", i, c)
					}
				}
				if f.conns < 2+(150-60-2*inFlight)/most {
					t.Errorf("%d connections", f.conns)
				}
				for n, k := range begun {
					if limit := most; n > 2 && k > limit || n <= 2 && k > 2*inFlight { // of the old ones: what was under way
						t.Errorf("%d messages over connection %d", k, n)
					}
				}
				if got := len(h.tape.parcels()); got != 150 {
					t.Errorf("the host has %d messages", got)
				}
				p.Close()
				f.group.Wait()
			})
		})
	}
}

// Who loses the connection before its turn, and is refused another one for being too
// many, reports that, though no command of the message was answered.
func TestRefusedOnTheMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, f, _, p, _ := distantHost(t, "PIPELINING CHUNKING", 1, 1000)
		h.greet = func(n int) string {
			if n > 1 {
				return "421 4.7.0 too many connections from you"
			}
			return ""
		}
		h.reply = func(_ int, _, line string) string {
			if strings.Contains(line, "<50@") {
				return "421 4.3.2 enough"
			}
			return ""
		}
		_, came := carry(t, p, 16, 80, 500)
		count := map[string]int{}
		for _, c := range came {
			count[c]++
		}
		if count["greeting-temporary 4.7.0"] == 0 || count["ok 250"] != len(h.tape.parcels()) || count["uncertain"] > 0 {
			t.Errorf("%v, and the host has %d", count, len(h.tape.parcels()))
		}
		p.Close()
		f.group.Wait()
		if held := p.held(); held != 0 {
			t.Errorf("%d slots are held", held)
		}
	})
}

// A host that takes a message without a word, and hangs up with the next ones unread,
// answers with a reset. It may have read all but the last: that one alone is sent again.
func TestResetBehindWhatWasTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, f, _, p, _ := distantHost(t, "PIPELINING CHUNKING", 1, 1000)
		h.buffer = 16
		resets := 0
		h.reply = func(n int, verb, _ string) string {
			if n == 1 && verb == "RSET" {
				if resets++; resets == 40 {
					return "mute"
				}
			}
			return ""
		}
		_, came := carry(t, p, 16, 100, 500)
		has := map[string]int{}
		for _, m := range h.tape.parcels() {
			has[m.body]++
		}
		uncertain, there := 0, 0
		for i, c := range came {
			k := has[numbered(i, 500)]
			switch {
			case c == "uncertain":
				uncertain++
				there += k
			case c != "ok 250" || k != 1:
				t.Errorf("message %d: %s, and the host has it %d times", i, c, k)
			}
		}
		if there != 1 || uncertain < 2 || uncertain > 8 {
			t.Errorf("%d are uncertain, of which the host has %d", uncertain, there)
		}
		p.Close()
		f.group.Wait()
	})
}

// A BDAT that failed leaves what only RSET clears (RFC 3030 2): each flight behind
// another one begins with it, and so the window stays open.
func TestResetBetweenFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, f, _, p, _ := distantHost(t, "PIPELINING CHUNKING", 1, 1000)
		order := []string{}
		h.reply = func(_ int, verb, line string) string {
			if verb != "RCPT" && verb != "EHLO" && verb != "QUIT" {
				order = append(order, verb)
			}
			if verb == "BDAT" && len(order)%5 == 0 {
				return "452 4.3.1 no room"
			}
			return ""
		}
		_, came := carry(t, p, 16, 100, 500)
		refused := 0
		for i, c := range came {
			switch c {
			case "ok 250":
			case "reply-temporary 4.3.1 452":
				refused++
			default:
				t.Errorf("message %d: %s", i, c)
			}
		}
		if refused < 10 || refused+len(h.tape.parcels()) != 100 {
			t.Errorf("%d were refused, the host has %d", refused, len(h.tape.parcels()))
		}
		if s := fmt.Sprint(order); strings.Contains(s, "DATA DATA") || strings.Count(s, "BDAT RSET MAIL BDAT") < 40 {
			t.Errorf("the order of the commands: %s", s)
		}
		if _, share := p.quirks.manner(hostKey{"mx.example.test", somewhere}, extensions{pipelining: true, chunking: true}, p.o); !share {
			t.Error("it gets one after the other now")
		}
		p.Close()
		f.group.Wait()
	})
}
