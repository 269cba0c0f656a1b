package smtpclient

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// shifting are limits that a test changes: one place for all hosts.
type shifting struct {
	connections, messages atomic.Int64
	limited               atomic.Bool
}

func (*shifting) Place(policy.Domain, netip.AddrPort) relay.Place {
	return relay.Place{Provider: "all"}
}
func (s *shifting) Connections(relay.Place) int { return int(s.connections.Load()) }
func (s *shifting) Messages(relay.Place) int    { return int(s.messages.Load()) }
func (s *shifting) Limited(relay.Place) bool    { return s.limited.Load() }

// Hosts that share a place share its connections; a limit that is lowered ends those
// beyond it when they come back, and one that is raised lets in who waits.
func TestLimitsOfAPlace(t *testing.T) {
	t.Parallel()
	one, two := startSink(t, greetAll+"STARTTLS"), startSink(t, greetAll+"STARTTLS")
	l := &shifting{}
	l.connections.Store(2)
	l.messages.Store(100)
	o := options()
	o.Limits = l
	w := &watcher{}
	o.Observer = w
	p := newPool(t, o)
	a, b := open1(t, p, step(one.addr, policy.Modern)), open1(t, p, step(two.addr, policy.Modern))
	got := make(chan *session, 2)
	other := step(two.addr, policy.Clear) // a key that nobody shares
	go func() {
		for range 2 {
			s, _, f := p.Open(t.Context(), other)
			if f != nil {
				t.Error(f)
				got <- nil
				continue
			}
			got <- s.(*session)
		}
	}()
	until(t, "the third waits, whatever its address", waitsWith(p, 2))
	l.connections.Store(1)
	a.Release()
	until(t, "the one beyond the limit has ended", func() bool { return w.counts()[1] == 1 })
	select {
	case <-got:
		t.Fatal("let in beyond the limit")
	default:
	}
	b.Release() // ends, as another key waits
	c := <-got
	if c == nil {
		return
	}
	until(t, "the fourth waits", waitsWith(p, 1))
	l.connections.Store(3)
	c.Release()
	if d := <-got; d != nil {
		d.Release()
	}
}

// waitsWith: one waits while so many connections are open.
func waitsWith(p *Pool, open int) func() bool {
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		h := p.hosts[relay.Place{Provider: "all"}]
		return h != nil && len(h.waiters) == 1 && h.open == open
	}
}

// A provider's messages over one connection.
func TestMessagesOfAPlace(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll+"STARTTLS")
	l := &shifting{}
	l.connections.Store(5)
	l.messages.Store(2)
	o := options()
	o.Limits = l
	p := newPool(t, o)
	for range 5 {
		s := open1(t, p, step(k.addr, policy.Modern))
		if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
			t.Error(got)
		}
		s.Release()
	}
	p.Close()
	if seen := k.wait(); seen.connections != 3 || seen.whole != 5 {
		t.Errorf("%d messages over %d connections, want 5 over 3", seen.whole, seen.connections)
	}
}

// What a refusal says of the command is how the courier knows the stage.
func TestRefusalNamesTheCommand(t *testing.T) {
	t.Parallel()
	x := &transaction{s: &session{step: policy.Step{Target: &policy.Target{Host: "mx.example.test"}}}, t: mail(hello, "b@example.test")}
	if _, f := x.refusal("MAIL", reply{code: 451, text: []byte("4.7.1 slow down")}); f.Detail != "MAIL: 451 4.7.1 slow down" {
		t.Errorf("detail %q", f.Detail)
	}
}
