package relay

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// anyNumber stands for no limit on connections.
const anyNumber = 1 << 20

// Limits are what the operator allows. Zero numbers: no limit.
type Limits struct {
	Connections int     // at once, to one place
	Messages    int     // over one connection
	Rate        float64 // messages a second, to one place
	Providers   []Provider
}

// Provider is hosts that share their limits, whatever their names and addresses. Numbers
// that are zero are those for every host.
type Provider struct {
	// Match are names of MX hosts, or ".name" for all below it. The first is the
	// provider's name here.
	Match       []string
	Connections int
	Messages    int
	Rate        float64
}

// Place is who shares limits: the hosts of a configured provider, or else everybody
// behind one address, whatever the MX records call it.
type Place struct {
	Provider string // the first name of its Match; "": the address
	Addr     netip.AddrPort
}

// ThrottleObserver is told of throttling. Calls are concurrent and must not block.
type ThrottleObserver interface {
	// Throttled: a host wants less of us.
	Throttled(s Sign)
	// Waited: a message waited for its turn, or was sent back to the queue for so long.
	Waited(d time.Duration)
}

// Throttle keeps how much each place takes of us. While every place takes all that the operator
// allows, and no rate is configured, it costs a load of an atomic. It is safe for
// concurrent use; time is an argument.
type Throttle struct {
	limits   atomic.Pointer[Limits]
	active   atomic.Int32 // places in the list
	observer ThrottleObserver

	mu     sync.Mutex
	places map[Place]*standing // those that are limited, or have a rate to keep
	order  list.List           // of *standing, the longest unused first
}

// NewThrottle returns a throttle; observer may be nil.
func NewThrottle(l Limits, observer ThrottleObserver) *Throttle {
	t := &Throttle{observer: observer, places: make(map[Place]*standing)}
	t.Retune(l)
	return t
}

// Retune puts other limits in force; what was learned of hosts stays.
func (t *Throttle) Retune(l Limits) {
	if l.Connections <= 0 {
		l.Connections = anyNumber
	}
	t.limits.Store(&l)
}

// Place says with whom a host shares its limits.
func (t *Throttle) Place(host policy.Domain, addr netip.AddrPort) Place {
	for i := range t.limits.Load().Providers {
		p := &t.limits.Load().Providers[i]
		for _, m := range p.Match {
			if host.Within(m) {
				return Place{Provider: p.Match[0]}
			}
		}
	}
	return Place{Addr: addr}
}

// ceiling is what the operator allows a place.
func (l *Limits) ceiling(p Place) ceiling {
	c := ceiling{l.Connections, l.Messages, l.Rate}
	if p.Provider == "" {
		return c
	}
	for i := range l.Providers {
		if o := &l.Providers[i]; o.Match[0] == p.Provider {
			if o.Connections > 0 {
				c.conns = o.Connections
			}
			if o.Messages > 0 {
				c.messages = o.Messages
			}
			if o.Rate > 0 {
				c.rate = o.Rate
			}
			break
		}
	}
	return c
}

// Connections is how many connections a place may have open now.
func (t *Throttle) Connections(p Place) int {
	c := t.limits.Load().ceiling(p)
	if t.active.Load() == 0 {
		return c.conns
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.places[p]; s != nil {
		return s.connections(c)
	}
	return c.conns
}

// Messages is how many messages may go over one connection to a place.
func (t *Throttle) Messages(p Place) int { return t.limits.Load().ceiling(p).messages }

// Limited reports whether a place gets less now than the operator allows.
func (t *Throttle) Limited(p Place) bool {
	if t.active.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.places[p]
	return s != nil && s.limited
}

// pass is the right to begin one message. It ends with Throttle.end.
type pass struct {
	place Place
	began time.Time
	kept  *standing // nil: nobody counts
}

// begin asks to begin one message at a host: see standing.begin.
func (t *Throttle) begin(host policy.Domain, addr netip.AddrPort, now time.Time) (p pass, wait time.Duration, ok bool) {
	p = pass{place: t.Place(host, addr), began: now}
	c := t.limits.Load().ceiling(p.place)
	if c.rate <= 0 && t.active.Load() == 0 {
		return p, 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.places[p.place]
	if s == nil {
		if c.rate <= 0 {
			return p, 0, true
		}
		s = t.add(p.place)
	}
	t.order.MoveToBack(s.element)
	if wait, ok = s.begin(c, now); ok {
		p.kept = s
	}
	p.began = now.Add(wait)
	return p, wait, ok
}

// end gives a pass back, with what was learned. It returns how long the place rests; 0
// when it does not.
func (t *Throttle) end(p pass, sign Sign, now time.Time) time.Duration {
	if sign.Throttling() && t.observer != nil {
		t.observer.Throttled(sign)
	}
	if t.active.Load() == 0 && !sign.Throttling() && sign != SignDown {
		return 0
	}
	c := t.limits.Load().ceiling(p.place)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.places[p.place]
	if s == nil {
		if !sign.Throttling() && sign != SignDown {
			return 0
		}
		s = t.add(p.place)
	}
	if s != p.kept {
		s.uses++ // it was begun before anybody counted
	}
	s.end(sign, p.began, c, now)
	t.order.MoveToBack(s.element)
	if !s.limited && c.rate <= 0 && s.uses == 0 {
		t.drop(s)
	}
	return max(s.pause.Sub(now), 0)
}

// add begins to count a place. The lock is held.
func (t *Throttle) add(p Place) *standing {
	if len(t.places) >= maxPlaces {
		t.drop(t.order.Front().Value.(*standing))
	}
	s := &standing{place: p}
	s.element = t.order.PushBack(s)
	t.places[p] = s
	t.active.Store(int32(len(t.places)))
	return s
}

func (t *Throttle) drop(s *standing) {
	t.order.Remove(s.element)
	delete(t.places, s.place)
	t.active.Store(int32(len(t.places)))
}

// Throttled describes a place that gets less than the operator allows.
type Throttled struct {
	Place       string    `json:"place"` // a provider's name, or an address and port
	Provider    bool      `json:"provider,omitempty"`
	Connections int       `json:"connections"`
	Rate        float64   `json:"rate,omitempty"` // messages a second; 0: no limit
	Until       time.Time `json:"until,omitzero"` // it rests until then
	Signs       int       `json:"signs,omitempty"`
}

// Throttled lists the places that get less now than the operator allows, the longest
// unused first. Those that were not used for an hour are forgotten.
func (t *Throttle) Throttled(now time.Time) []Throttled {
	if t.active.Load() == 0 {
		return nil
	}
	l := t.limits.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Throttled
	for e := t.order.Front(); e != nil; {
		s := e.Value.(*standing)
		e = e.Next()
		switch {
		case now.Sub(s.used) > idleTime:
			t.drop(s)
		case s.limited:
			out = append(out, s.describe(l.ceiling(s.place), now))
		}
	}
	return out
}

func (s *standing) describe(c ceiling, now time.Time) Throttled {
	d := Throttled{Place: s.place.Provider, Provider: s.place.Provider != "", Connections: s.connections(c), Rate: s.pace(c), Signs: s.strikes}
	if d.Place == "" {
		d.Place = s.place.Addr.String()
	}
	if s.pause.After(now) {
		d.Until = s.pause
	}
	return d
}

// At is how a host stands now; ok is false when it gets all that the operator allows.
func (t *Throttle) At(host policy.Domain, addr netip.AddrPort, now time.Time) (d Throttled, ok bool) {
	p := t.Place(host, addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.places[p]
	if s == nil || !s.limited || now.Sub(s.used) > idleTime {
		return d, false
	}
	return s.describe(t.limits.Load().ceiling(p), now), true
}
