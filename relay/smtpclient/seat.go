package smtpclient

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Seats: when all connections that a host may have are in use, a delivery need not
// wait for one to be free. It gets a seat on one that serves its key, judges it like any
// other, and its transaction goes into the line behind those of the others (line.go).
// Which connection it is makes no difference to what may be sent on it: the key holds
// all that the level depends on, and so does the face (coalesce.go).

// standby is how many more seats than flights a connection has, so that the next
// transaction is there when its time comes.
const standby = 1

// stuck is how long a connection with nothing but silence gets no more seats.
const stuck = 2 * time.Second

// seat gives a use of c away. The lock is held.
func (h *host) seat(c *conn) {
	if c.seats == 0 {
		h.busy = append(h.busy, c)
	}
	c.seats++
}

// rise ends a use of c, and reports whether it was the last one. The lock is held.
func (h *host) rise(c *conn) bool {
	c.seats--
	if c.seats > 0 {
		return false
	}
	if i := slices.Index(h.busy, c); i >= 0 {
		h.busy = slices.Delete(h.busy, i, i+1)
	}
	return true
}

// sit is seat for a connection that has just been opened.
func (p *Pool) sit(c *conn) {
	p.mu.Lock()
	p.hosts[c.key.place].seat(c)
	p.mu.Unlock()
}

// beside returns the connection in use on which there is a free seat, and the fewest
// are taken; nil when there is none, or others wait already. The lock is held.
func (p *Pool) beside(h *host, k key) *conn {
	if p.o.Window == 1 || p.turn(h) >= 0 {
		return nil
	}
	var best *conn
	f := p.faces.of(k, p.o.Now())
	for _, c := range h.busy {
		if c.serves(k, f) && (best == nil || c.seats < best.seats) && p.hasSeat(h, c) {
			best = c
		}
	}
	return best
}

// hasSeat reports whether one more session may use c. While more connections are open than
// the limit allows, there is none: one of them has to empty first. The lock is held.
func (p *Pool) hasSeat(h *host, c *conn) bool {
	if h.open > p.o.Limits.Connections(c.key.place) {
		return false
	}
	style, share := p.quirks.manner(c.key.hostKey, c.ext, p.o)
	return share && c.dead() == nil && c.line.hasSeat(style, c.seats)
}

// hasSeat reports whether one more than taken is of use.
func (l *line) hasSeat(s style, taken int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	flights, most := l.width(), l.most()
	if s == twoFlight { // one whose content is out, and one whose commands are
		flights = min(flights, 2)
	}
	switch {
	case l.over || flights <= 1 || taken >= flights+standby:
		return false
	case most > 0 && l.used-len(l.flying)+taken >= most:
		return false
	}
	return len(l.flying) == 0 || time.Since(l.moved) < stuck
}

// invite gives free seats on c to those who wait, as long as it is their turn. One who
// waits for another kind of connection gets this one's place when it has emptied. The
// lock is held.
func (p *Pool) invite(h *host, c *conn) {
	for i := p.turn(h); i >= 0 && p.serves(c, h.waiters[i].key) && p.hasSeat(h, c); i = p.turn(h) {
		h.seat(c)
		h.leave(i).given <- grant{c: c}
	}
}

// move takes another connection in place of one that died; a fresh one where the
// message was sent already and must not meet another dead one. It must prove no less:
// the caller has judged the old one (policy: a reused session is judged again).
func (s *session) move(ctx context.Context, fresh freshOnly) *policy.Failure {
	old := s.c
	s.c = nil
	n, f := s.elsewhere(ctx, old, fresh)
	if f != nil {
		return f
	}
	before, _ := s.step.Judge(s.evidence)
	after, f := s.step.Judge(n.evidence)
	if f == nil && after < before {
		f = &policy.Failure{Reason: policy.ConnectionLost, Host: s.step.Target.Host,
			Detail: "the session was lost, and a new one is protected less"}
	}
	if f != nil {
		n.Quit()
		return f
	}
	s.c, s.evidence, s.reused = n.c, n.evidence, n.reused
	return nil
}

// freshOnly: no connection will do that has carried anything.
type freshOnly bool

// elsewhere opens a connection in the place of the old one, where we are the last to
// give that up and the limit was not lowered; else in the next place that is free.
func (s *session) elsewhere(ctx context.Context, old *conn, fresh freshOnly) (*session, *policy.Failure) {
	p, k := s.p, s.key
	p.mu.Lock()
	h := p.hosts[k.place]
	last := h.rise(old)
	over := last && h.open > p.o.Limits.Connections(k.place)
	if over {
		p.vacate(k.place)
	} else if last {
		h.making.begin(k)
	}
	p.mu.Unlock()
	if last {
		p.hangUp(old)
	}
	if last && !over {
		n, _, f := p.openNew(ctx, s.step, k)
		return n, f
	}
	if !fresh {
		n, _, f := p.open(ctx, s.step, k)
		return n, f
	}
	none := k
	none.rung = noRung // no connection has this key, so what comes is a place
	if _, f := p.acquire(ctx, s.step, none, false); f != nil {
		return nil, f
	}
	p.rebook(k.place, none, k)
	n, _, f := p.openNew(ctx, s.step, k)
	return n, f
}

// noRung is the rung of no connection.
const noRung = policy.Rung(0xff)
