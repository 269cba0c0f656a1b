package smtpclient

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// Seats are given where one more is of use, and as far as messages are left.
func TestSeatsOfALine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		style          style
		window, most   int
		limited, over  bool
		used, flying   int
		taken          int
		silent, seated bool
	}{
		{name: "a new connection", window: 1, used: 1, flying: 1, taken: 1},
		{name: "one more flight than fly", window: 4, used: 9, flying: 3, taken: 4, seated: true},
		{name: "all flights, and one that stands by", window: 4, used: 9, flying: 4, taken: 5},
		{name: "DATA: one flies, one rides", style: twoFlight, window: 8, used: 9, flying: 2, taken: 2, seated: true},
		{name: "DATA: that is all", style: twoFlight, window: 8, used: 9, flying: 2, taken: 3},
		{name: "limited", window: 4, limited: true, used: 9, flying: 1, taken: 1},
		{name: "over", window: 4, over: true, used: 9, flying: 1, taken: 1},
		{name: "nothing but silence", window: 4, used: 9, flying: 1, taken: 1, silent: true},
		{name: "one message is left", window: 4, most: 10, used: 9, flying: 3, taken: 3, seated: true},
		{name: "it is taken", window: 4, most: 10, used: 9, flying: 3, taken: 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lim := &shifting{}
			lim.messages.Store(int64(tt.most))
			lim.limited.Store(tt.limited)
			l := &line{window: tt.window, max: 8, limits: lim, used: tt.used, over: tt.over, moved: time.Now()}
			if tt.silent {
				l.moved = time.Now().Add(-stuck)
			}
			for range tt.flying {
				l.flying = append(l.flying, &turn{})
			}
			if got := l.hasSeat(tt.style, tt.taken); got != tt.seated {
				t.Errorf("a seat: %v, want %v", got, tt.seated)
			}
		})
	}
}

// A window opens by one with each message that went well, is shut while the place gets
// less, and begins with one again behind that.
func TestWindowOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lim := &shifting{}
		l := &line{}
		l.open(Options{Limits: lim, Window: 4}, relay.Place{}, extensions{})
		one := func(took time.Duration, good bool) int {
			x := &turn{kind: chunkKind}
			l.join(x)
			if !l.await(t.Context(), x) {
				t.Fatal("no pen")
			}
			l.pass(x)
			time.Sleep(took)
			l.listen(x)
			l.leave(x, left{good: good})
			return l.width()
		}
		for i, tt := range []struct {
			took    time.Duration
			good    bool
			limited bool
			want    int
		}{
			{took: distant - 1, good: true, want: 1},
			{took: distant, good: false, want: 1},
			{took: distant, good: true, want: 2},
			{took: 0, good: true, want: 3}, // it is known to be far
			{took: 0, good: false, want: 3},
			{took: 0, good: true, want: 4},
			{took: 0, good: true, want: 4},
			{took: distant, good: true, limited: true, want: 1},
			{took: distant, good: true, limited: true, want: 1},
			{took: distant, good: false, want: 1},
			{took: distant, good: true, want: 2},
		} {
			lim.limited.Store(tt.limited)
			if got := one(tt.took, tt.good); got != tt.want {
				t.Errorf("step %d: window %d, want %d", i, got, tt.want)
			}
		}
	})
}

// What is given to one who stops waiting at the same moment goes back.
func TestGivenTooLate(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"a seat", "a slot"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, f, l, p, _ := distantHost(t, "PIPELINING CHUNKING", 1, 1000)
				s := open1(t, p, step(somewhere, policy.Clear))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan *policy.Failure)
				go func() {
					_, _, f := p.Open(ctx, step(somewhere, policy.Clear))
					done <- f
				}()
				synctest.Wait()
				p.mu.Lock()
				h := p.hosts[relay.Place{Provider: "all"}]
				cancel() // it has stopped waiting, and cannot say so before the lock is free
				if what == "a slot" {
					l.connections.Store(2)
					p.grow(h, s.c.key.place)
				} else {
					h.seat(s.c)
					p.next(h).given <- grant{c: s.c}
				}
				p.mu.Unlock()
				if f := <-done; f == nil || f.Reason != policy.Interrupted {
					t.Errorf("failure %v", f)
				}
				if open, seats, _, waiters := p.atPlace(); open != 1 || seats != 1 || waiters != 0 {
					t.Errorf("%d are open, %d seats taken, %d wait", open, seats, waiters)
				}
				s.Release()
				p.Close()
				f.group.Wait()
				if held := p.held(); held != 0 {
					t.Errorf("%d slots are held", held)
				}
			})
		})
	}
}

// Connections that die while the limit is lower than their number are not all replaced.
func TestLimitLoweredAndLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, f, l, p, _ := distantHost(t, "PIPELINING CHUNKING", 2, 1000)
		h.buffer = 16 // what it leaves unread is answered by a reset
		var now, most atomic.Int64
		var dying atomic.Bool
		dial := f.dial
		p.o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if n := now.Add(1); dying.Load() && n > most.Load() {
				most.Store(n)
			}
			c, err := dial(ctx, network, address)
			return &counted{Conn: c, open: &now}, err
		}
		h.reply = func(n int, _, _ string) string {
			if dying.Load() && n <= 2 {
				return "-"
			}
			return ""
		}
		carry(t, p, 2, 10, 500)
		a, b := open1(t, p, step(somewhere, policy.Clear)), open1(t, p, step(somewhere, policy.Clear))
		if a.c == b.c || now.Load() != 2 {
			t.Fatal("they share")
		}
		l.connections.Store(1)
		dying.Store(true)
		done := make(chan string)
		for _, s := range []*session{a, b} {
			go func() {
				came := results(s.Send(t.Context(), mail(hello, "b@example.test")))[0]
				s.Release()
				done <- came
			}()
		}
		for range 2 {
			if came := <-done; came != "ok 250" {
				t.Error(came)
			}
		}
		if most.Load() != 1 {
			t.Errorf("%d connections at once, when one is allowed", most.Load())
		}
		p.Close()
		f.group.Wait()
		if held := p.held(); held != 0 {
			t.Errorf("%d slots are held", held)
		}
	})
}
