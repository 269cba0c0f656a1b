package smtpclient

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/sealpost/sealpost/policy"
)

// gated is a dialler that waits at a gate.
type gated struct {
	began, gate chan struct{}
	err         error
}

func newGated() *gated { return &gated{began: make(chan struct{}, 8), gate: make(chan struct{})} }

func (g *gated) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.began <- struct{}{}
	select {
	case <-g.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if g.err != nil {
		return nil, g.err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func TestWarm(t *testing.T) {
	t.Parallel()
	t.Run("what was opened before is used", func(t *testing.T) {
		t.Parallel()
		k, w, o := startSink(t, greetAll+"STARTTLS"), &watcher{}, options()
		o.Observer = w
		p := newPool(t, o)
		st := step(k.addr, policy.Modern)
		p.Warm(t.Context(), st)
		p.Warm(t.Context(), st) // one is enough
		s := open1(t, p, st)
		p.Warm(t.Context(), st) // and while it is in use
		s.Release()
		if got := w.counts(); got != [4]int{1, 0, 1, 1} {
			t.Errorf("opened, closed, reused, handshakes: %v", got)
		}
	})
	t.Run("what is being opened is waited for", func(t *testing.T) {
		t.Parallel()
		k, w, o, g := startSink(t, greetAll+"STARTTLS"), &watcher{}, options(), newGated()
		o.Observer, o.Dial = w, g.dial
		p := newPool(t, o)
		st := step(k.addr, policy.Modern)
		go p.Warm(t.Context(), st)
		<-g.began
		opened := make(chan *session)
		go func() { opened <- open1(t, p, st) }()
		until(t, "somebody waits", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.warm[keyed(p, st)].taken })
		close(g.gate)
		s := <-opened
		if s.Reused() {
			t.Error("a new connection counts as reused")
		}
		if s.key != keyed(p, st) || s.Evidence().Version == 0 {
			t.Errorf("the session is not the step's: %+v", s.Evidence())
		}
		s.Release()
		if got := w.counts(); got != [4]int{1, 0, 0, 1} {
			t.Errorf("opened, closed, reused, handshakes: %v", got)
		}
	})
	t.Run("its failure is that of the delivery which waits", func(t *testing.T) {
		t.Parallel()
		k, w, o, g := startSink(t, greetAll+"STARTTLS"), &watcher{}, options(), newGated()
		g.err = errors.New("no way")
		o.Observer, o.Dial = w, g.dial
		p := newPool(t, o)
		st := step(k.addr, policy.Modern)
		go p.Warm(t.Context(), st)
		<-g.began
		failed := make(chan *policy.Failure)
		go func() { _, _, f := p.Open(t.Context(), st); failed <- f }()
		until(t, "somebody waits", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.warm[keyed(p, st)].taken })
		close(g.gate)
		if f := <-failed; f == nil || f.Reason != policy.ConnectUnreachable {
			t.Errorf("failure %v", f)
		}
		if len(g.began) != 0 {
			t.Error("it was dialled again")
		}
		p.mu.Lock()
		if len(p.hosts) != 0 || len(p.warm) != 0 {
			t.Errorf("left: hosts %v, warm %v", p.hosts, p.warm)
		}
		p.mu.Unlock()
	})
	t.Run("who gives up waiting leaves it for the next", func(t *testing.T) {
		t.Parallel()
		k, w, o, g := startSink(t, greetAll+"STARTTLS"), &watcher{}, options(), newGated()
		o.Observer, o.Dial = w, g.dial
		p := newPool(t, o)
		st := step(k.addr, policy.Modern)
		warmed := make(chan struct{})
		go func() { p.Warm(t.Context(), st); close(warmed) }()
		<-g.began
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, f := p.Open(gone, st); f == nil || f.Reason != policy.Interrupted {
			t.Errorf("failure %v", f)
		}
		close(g.gate)
		<-warmed
		s := open1(t, p, st)
		s.Release()
		if w.counts()[2] != 1 {
			t.Errorf("opened, closed, reused, handshakes: %v", w.counts())
		}
	})
	t.Run("who was stopped has not failed for others", func(t *testing.T) {
		t.Parallel()
		k, o, g := startSink(t, greetAll+"STARTTLS"), options(), newGated()
		o.Dial = g.dial
		p := newPool(t, o)
		st := step(k.addr, policy.Modern)
		ctx, stop := context.WithCancel(t.Context())
		go p.Warm(ctx, st)
		<-g.began
		opened := make(chan *session)
		go func() { opened <- open1(t, p, st) }()
		until(t, "somebody waits", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.warm[keyed(p, st)].taken })
		stop()
		<-g.began // the delivery's own
		close(g.gate)
		(<-opened).Release()
	})
	t.Run("a host has no more connections for it", func(t *testing.T) {
		t.Parallel()
		k, w, o := startSink(t, greetAll+"STARTTLS"), &watcher{}, options()
		o.Observer, o.ConnectionsPerHost = w, 1
		p := newPool(t, o)
		s := open1(t, p, step(k.addr, policy.Modern))
		other := step(k.addr, policy.Modern)
		target := *other.Target
		target.Host, target.SNI = "mx2.example", "mx2.example"
		other.Target = &target
		p.Warm(t.Context(), other)
		s.Release()
		if w.counts()[0] != 1 {
			t.Errorf("opened, closed, reused, handshakes: %v", w.counts())
		}
	})
	t.Run("the pool closes meanwhile", func(t *testing.T) {
		t.Parallel()
		k, w, o, g := startSink(t, greetAll+"STARTTLS"), &watcher{}, options(), newGated()
		o.Observer, o.Dial = w, g.dial
		p := newPool(t, o)
		warmed := make(chan struct{})
		go func() { p.Warm(t.Context(), step(k.addr, policy.Modern)); close(warmed) }()
		<-g.began
		p.Close()
		close(g.gate)
		<-warmed
		if got := w.counts(); got[0] != 1 || got[1] != 1 {
			t.Errorf("opened, closed, reused, handshakes: %v", got)
		}
	})
}

func keyed(p *Pool, s policy.Step) key {
	k := keyOf(s)
	k.place = p.o.Limits.Place(k.host, k.addr)
	return k
}
