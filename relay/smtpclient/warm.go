package smtpclient

import (
	"context"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

var _ relay.Warmer = (*Pool)(nil)

// warming is a connection that is being made for a delivery that has not come yet. Its fields
// are guarded by the pool's lock until done is closed, and belong to who took it afterwards.
type warming struct {
	taken bool // a delivery waits for it
	done  chan struct{}
	c     *conn // nil: the opening failed
	e     policy.Evidence
	f     *policy.Failure
}

// Warm implements relay.Warmer.
func (p *Pool) Warm(ctx context.Context, s policy.Step) {
	k := keyOf(s)
	k.place = p.o.Limits.Place(k.host, k.addr)
	w := p.kindle(k)
	if w == nil {
		return
	}
	c, e, f := p.dial(ctx, s, k)
	p.mu.Lock()
	delete(p.warm, k)
	p.warmings.Store(int32(len(p.warm)))
	w.c, w.e, w.f = c, e, f
	if c == nil {
		p.vacate(k.place)
	} else {
		p.hosts[k.place].seat(c)
	}
	taken := w.taken
	close(w.done)
	p.mu.Unlock()
	if c != nil && !taken {
		p.release(c)
	}
}

// kindle takes a slot for a connection with the key; nil when there is none to spare, or no
// need.
func (p *Pool) kindle(k key) *warming {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[k.place]
	switch {
	case p.closed || p.warm[k] != nil || p.idle.Len() >= p.o.MaxIdle:
		return nil
	case h == nil:
		h = &host{}
		p.hosts[k.place] = h
	case len(h.waiters) > 0 || p.find(k) != nil || p.working(h, k) || h.open >= p.o.Limits.Connections(k.place):
		return nil
	}
	h.open++
	w := &warming{done: make(chan struct{})}
	p.warm[k] = w
	p.warmings.Store(int32(len(p.warm)))
	return w
}

// working reports whether a connection that serves the key is in use: it will be free soon, or has
// a seat. The lock is held.
func (p *Pool) working(h *host, k key) bool {
	for _, c := range h.busy {
		if p.serves(c, k) {
			return true
		}
	}
	return false
}

// join waits for the connection with the key that is being made; nil when there is none, or it
// is somebody else's.
func (p *Pool) join(ctx context.Context, k key) *warming {
	if p.warmings.Load() == 0 {
		return nil
	}
	p.mu.Lock()
	w := p.warm[k]
	if w == nil || w.taken {
		p.mu.Unlock()
		return nil
	}
	w.taken = true
	p.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		if p.leave(w) {
			return nil
		}
	}
	if w.c == nil && w.f.Reason == policy.Interrupted {
		return nil // whoever made it was stopped, we are not
	}
	return w
}

// session is the delivery's that took the connection, or the failure to open it.
func (w *warming) session(p *Pool, s policy.Step, k key) (*session, policy.Evidence, *policy.Failure) {
	if w.c == nil {
		return nil, w.e, w.f
	}
	e := p.inspect(w.c, s)
	return &session{p: p, c: w.c, key: k, step: s, evidence: e}, e, nil
}

// leave gives up waiting for a connection, which will be idle then. It reports false when it was
// made at the same moment, for us.
func (p *Pool) leave(w *warming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.done:
		return false
	default:
		w.taken = false
		return true
	}
}
