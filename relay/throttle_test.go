package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

var zero = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

func addrOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}), 25)
}

// A sign halves the limits and brings a pause that doubles in a row; good work raises the
// limits again, and in the end all is forgotten.
func TestStandingLowersAndRaises(t *testing.T) {
	t.Parallel()
	c := ceiling{conns: 20, messages: 100}
	s := &standing{}
	now := zero.Add(time.Hour)
	sign := func(g Sign) {
		t.Helper()
		if wait, ok := s.begin(c, now); !ok {
			t.Fatalf("not now but in %v: %+v", wait, s)
		}
		now = now.Add(time.Millisecond)
		s.end(g, now, c, now.Add(time.Millisecond))
	}
	wantConns, rest := []int{10, 5, 2, 1, 1, 1}, firstPause
	for i, want := range wantConns {
		sign(SignConnections)
		if got := s.connections(c); got != want {
			t.Errorf("after sign %d: %d connections, want %d", i+1, got, want)
		}
		if got := s.pause.Sub(now); got < rest || got > rest+time.Second {
			t.Errorf("after sign %d: a rest of %v, want %v", i+1, got, rest)
		}
		if _, ok := s.begin(c, now.Add(rest/2)); ok {
			t.Errorf("after sign %d: something begins in the pause", i+1)
		}
		now = s.pause.Add(time.Second)
		rest *= 2
	}
	for range 20 {
		now = now.Add(time.Second * 11)
		sign(SignBusy)
		now = s.pause
	}
	if got := s.pause.Sub(s.lowered); got != longPause {
		t.Errorf("the longest rest is %v, want %v", got, longPause)
	}
	if s.pace(c) != leastRate {
		t.Errorf("rate %v, want the least", s.pace(c))
	}
	for n := 0; s.limited; n++ {
		if now = now.Add(time.Second); n > 100_000 {
			t.Fatalf("never as before: %+v", s)
		}
		if _, ok := s.begin(c, now); ok {
			s.end(SignGood, now.Add(time.Millisecond), c, now.Add(time.Millisecond))
		}
	}
	if took := now.Sub(s.lowered); s.connections(c) != 20 || s.pace(c) != 0 {
		t.Errorf("%+v after %v", s, took)
	}
}

// What began before the limits were lowered is the same incident: it lowers nothing and
// raises nothing.
func TestStandingOneIncident(t *testing.T) {
	t.Parallel()
	c := ceiling{conns: 16}
	s := &standing{}
	for range 16 {
		s.begin(c, zero)
	}
	for range 16 {
		s.end(SignConnections, zero, c, zero.Add(time.Second))
	}
	if s.connections(c) != 8 || s.strikes != 1 {
		t.Errorf("%d connections after %d signs of one incident", s.connections(c), s.strikes)
	}
	s.end(SignGood, zero, c, zero.Add(time.Second))
	if s.strikes != 1 {
		t.Error("what began before counts as good")
	}
}

// Whatever happens: one connection at least and never more than allowed; no rate above
// the operator's; who is sent away comes back within the longest pause and not at once;
// nobody waits for longer than patience; what began is counted.
func TestStandingProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := ceiling{conns: 1 + r.IntN(30), rate: float64(r.IntN(3)) * 7}
		s, now := &standing{}, zero
		var flying []time.Time
		for range 400 {
			now = now.Add(time.Duration(r.Int64N(int64(3 * time.Second))))
			if r.IntN(3) > 0 {
				wait, ok := s.begin(c, now)
				switch {
				case ok && (wait < 0 || wait > patience), !ok && (wait < time.Second || wait > longPause):
					t.Fatalf("seed %d: begin says %v, %v: %+v", seed, wait, ok, s)
				case ok && s.limited && s.pause.After(now):
					t.Fatalf("seed %d: begins in a pause", seed)
				case ok:
					flying = append(flying, now.Add(wait))
				}
			} else if len(flying) > 0 {
				i := r.IntN(len(flying))
				s.end(Sign(r.IntN(int(signCount))), flying[i], c, now)
				flying = append(flying[:i], flying[i+1:]...)
			}
			if n := s.connections(c); n < 1 || n > c.conns {
				t.Fatalf("seed %d: %d connections of %d", seed, n, c.conns)
			}
			if p := s.pace(c); c.rate > 0 && (p > c.rate || p <= 0) || s.uses != len(flying) {
				t.Fatalf("seed %d: rate %v, %d uses of %d: %+v", seed, p, s.uses, len(flying), s)
			}
		}
	}
}

// A rate of the operator is kept to within a message, whoever asks.
func TestRateIsKept(t *testing.T) {
	t.Parallel()
	th := NewThrottle(Limits{Connections: 20, Rate: 20}, nil)
	now, begun, away := zero, 0, 0
	for now.Before(zero.Add(10 * time.Second)) {
		if p, wait, ok := th.begin("mx.one.example", addrOf(1), now); ok {
			if now.Add(wait).Before(zero.Add(10 * time.Second)) {
				begun++
			}
			th.end(p, SignGood, now)
		} else {
			away++
		}
		now = now.Add(5 * time.Millisecond)
	}
	if begun < 198 || begun > 201 || away == 0 {
		t.Errorf("%d messages in ten seconds at 20/s, %d sent away", begun, away)
	}
	if len(th.Throttled(now)) != 0 {
		t.Error("a host that keeps the operator's rate counts as throttled")
	}
}

// Who shares limits: a provider's hosts whatever their address, others by address.
func TestPlace(t *testing.T) {
	t.Parallel()
	th := NewThrottle(Limits{Connections: 20, Messages: 100, Providers: []Provider{
		{Match: []string{".google.com", ".googlemail.com"}, Connections: 5, Messages: 7},
		{Match: []string{"mx.one.example"}, Rate: 3},
	}}, nil)
	a, b := th.Place("aspmx.l.google.com", addrOf(1)), th.Place("alt1.x.googlemail.com", addrOf(2))
	if a != b || th.Connections(a) != 5 || th.Messages(a) != 7 {
		t.Errorf("%v, %v: %d connections", a, b, th.Connections(a))
	}
	if th.Place("notgoogle.com", addrOf(1)) != th.Place("mx.other.example", addrOf(1)) || th.Place("x.example", addrOf(1)) == th.Place("x.example", addrOf(2)) {
		t.Error("an address is not a place")
	}
	if p := th.Place("mx.one.example", addrOf(1)); p.Provider == "" || th.Connections(p) != 20 || th.limits.Load().ceiling(p).rate != 3 {
		t.Errorf("%v: %+v", p, th.limits.Load().ceiling(p))
	}
	p, _, _ := th.begin("aspmx.l.google.com", addrOf(1), zero.Add(time.Second))
	th.end(p, SignConnections, zero.Add(2*time.Second))
	if th.Connections(b) != 2 || th.Connections(th.Place("other.example", addrOf(1))) != 20 {
		t.Error("a provider's limits are not shared, or shared with others")
	}
	if _, _, ok := th.begin("alt2.x.googlemail.com", addrOf(9), zero.Add(3*time.Second)); ok {
		t.Error("another host of the provider is asked in the pause")
	}
	if d, ok := th.At("alt2.x.googlemail.com", addrOf(9), zero.Add(3*time.Second)); !ok || d.Place != ".google.com" || d.Until.IsZero() {
		t.Errorf("%+v, %v", d, ok)
	}
	th.Retune(Limits{Connections: 4})
	if got := th.Connections(Place{Addr: addrOf(7)}); got != 4 {
		t.Errorf("after a reload: %d connections", got)
	}
}

// Memory is bounded, and what was not used for an hour is forgotten.
func TestThrottleForgets(t *testing.T) {
	t.Parallel()
	th := NewThrottle(Limits{Connections: 20}, nil)
	now := zero
	for i := range maxPlaces + 100 {
		now = now.Add(time.Millisecond)
		p, _, _ := th.begin("mx.example", addrOf(i), now)
		th.end(p, SignBusy, now)
	}
	if n := len(th.Throttled(now)); n != maxPlaces {
		t.Errorf("%d places are remembered", n)
	}
	if _, ok := th.At("mx.example", addrOf(0), now); ok {
		t.Error("the longest unused is still there")
	}
	if n := len(th.Throttled(now.Add(2 * idleTime))); n != 0 || th.active.Load() != 0 {
		t.Errorf("%d places are remembered for ever", n)
	}
}

// A host that cannot be reached gets little until it answers, and then soon everything.
func TestDownAndBack(t *testing.T) {
	t.Parallel()
	th := NewThrottle(Limits{Connections: 20}, nil)
	at, now := addrOf(1), zero
	p, _, _ := th.begin("mx.example", at, now)
	th.end(p, SignDown, now.Add(time.Second))
	now = now.Add(2 * time.Second)
	begun := 0
	for range 1000 { // the herd
		if _, wait, ok := th.begin("mx.example", at, now); ok {
			if begun++; wait > 0 {
				t.Fatalf("somebody waits for %v to see a dead host", wait)
			}
		}
	}
	if begun > 1 || th.Connections(Place{Addr: at}) != trialConns {
		t.Fatalf("%d begin at once, %d connections", begun, th.Connections(Place{Addr: at}))
	}
	p = pass{place: Place{Addr: at}, began: now}
	for n := 0; len(th.Throttled(now)) > 0; n++ {
		th.end(p, SignGood, now)
		for ok := false; !ok; now = now.Add(10 * time.Millisecond) {
			p, _, ok = th.begin("mx.example", at, now)
		}
		if n > 1000 {
			t.Fatal("never as before")
		}
	}
	if took := now.Sub(zero); took > time.Minute {
		t.Errorf("it took %v to trust the host again", took)
	}
}

// BenchmarkThrottle is what a message costs while nobody is limited, and while others are.
func BenchmarkThrottle(b *testing.B) {
	for _, limited := range []int{0, 100} {
		b.Run(fmt.Sprintf("limited=%d", limited), func(b *testing.B) {
			th := NewThrottle(Limits{Connections: 20}, nil)
			for i := range limited {
				p, _, _ := th.begin("mx.example", addrOf(i), zero)
				th.end(p, SignBusy, zero)
			}
			host := policy.Domain("mx.other.example")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, _, _ := th.begin(host, addrOf(5000), zero)
					th.end(p, SignGood, zero)
				}
			})
		})
	}
}
