package smtpclient

import (
	"bufio"
	"container/list"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// Pool opens sessions and keeps good ones for a few seconds. It implements
// relay.Opener and is safe for concurrent use.
type Pool struct {
	o        Options
	profiles profiles
	quirks   quirks
	tickets  tickets
	// inspector measures handshakes, with the pool's memory of chains.
	inspector policy.Inspector
	// handshakes has one place for each that may go on at once.
	handshakes turnstile
	buffers    sync.Pool // of *[flightSize]byte, for content on its way
	flights    sync.Pool // of *[]byte, for flights that are being composed
	readers    sync.Pool // of *bufio.Reader, of connections that are in use
	outs       sync.Pool // of *[]byte, likewise

	mu     sync.Mutex
	closed bool
	hosts  map[relay.Place]*host // who share their limits are one host here
	idle   list.List             // of *conn, the longest idle first
	shelf  shelf                 // the same, by key and face
	faces  faces
	faceOf func(*conn) face // faceOf, but in tests
}

var _ relay.Opener = (*Pool)(nil)

// hostKey names a host at an address.
type hostKey struct {
	host policy.Domain
	addr netip.AddrPort
}

// key is what two deliveries must have in common to share a connection: host,
// address, TLS profile and required identity; or else what the host shows of itself
// (coalesce.go). The level is not part of it: it is judged again for each use.
type key struct {
	hostKey
	place    relay.Place // who shares its limits
	rung     policy.Rung
	identity string // SNI, TLSA records, reference names
}

// host is the connections to one place.
type host struct {
	open    int     // connections that stand or are being made
	idle    row     // the longest idle first
	busy    []*conn // in use, by one session or more
	waiters []*waiter
	making  making
}

// New returns a pool. It must be closed.
func New(o Options) *Pool {
	o = o.withDefaults()
	return &Pool{
		o:          o,
		profiles:   newProfiles(o.Roots),
		quirks:     newQuirks(),
		tickets:    tickets{byKey: map[key]*list.Element{}},
		inspector:  policy.Inspector{Roots: o.Roots, Chains: newChains()},
		handshakes: make(turnstile, o.Handshakes),
		buffers:    sync.Pool{New: func() any { return new([flightSize]byte) }},
		flights:    sync.Pool{New: func() any { return new([]byte) }},
		readers:    sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }},
		outs:       sync.Pool{New: func() any { return new([]byte) }},
		hosts:      map[relay.Place]*host{},
		shelf:      shelf{keys: map[key]row{}, faces: map[face]row{}},
		faces:      faces{byKey: map[key]*list.Element{}},
		faceOf:     faceOf,
	}
}

func keyOf(s policy.Step) key {
	t := s.Target
	k := key{hostKey: hostKey{t.Host, s.Addr}, rung: s.Rung, identity: string(t.SNI)}
	if s.Rung == policy.Clear {
		k.identity = "" // nobody is asked who he is
		return k
	}
	if len(t.TLSA) == 0 && len(t.Names) == 0 {
		return k
	}
	var b strings.Builder
	b.WriteString(k.identity)
	for _, n := range t.Names {
		b.WriteByte(0)
		b.WriteString(string(n))
	}
	for _, r := range t.TLSA {
		b.Write([]byte{0, 0, r.Usage, r.Selector, r.Matching})
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(r.Data))))
		b.Write(r.Data)
	}
	k.identity = b.String()
	return k
}

// Open returns a session for the step, from the pool or a new one, and what it
// proved. It waits while the host has its number of connections open. The
// evidence of a session from the pool is measured anew against this step.
func (p *Pool) Open(ctx context.Context, s policy.Step) (relay.Session, policy.Evidence, *policy.Failure) {
	k := keyOf(s)
	k.place = p.o.Limits.Place(k.host, k.addr)
	n, e, f := p.open(ctx, s, k)
	if n == nil {
		return nil, e, f
	}
	return n, e, nil
}

func (p *Pool) open(ctx context.Context, s policy.Step, k key) (*session, policy.Evidence, *policy.Failure) {
	for {
		c, f := p.acquire(ctx, s, k, true)
		switch {
		case f != nil:
			return nil, policy.Evidence{}, f
		case c == nil:
			return p.openNew(ctx, s, k)
		case c.line.look(c.unexpected): // the host hung up, or said 421, while the session was idle
			p.discard(c)
			continue
		}
		n := &session{p: p, c: c, key: k, step: s, reused: true}
		if !n.borrowed() {
			n.evidence = p.inspect(c, s)
		} else if e, ok := p.borrow(c, s, k); ok {
			n.evidence = e
		} else {
			continue
		}
		p.o.Observer.ConnectionReused()
		return n, n.evidence, nil
	}
}

// openNew opens a connection in a slot that is ours, and booked for the key.
func (p *Pool) openNew(ctx context.Context, s policy.Step, k key) (*session, policy.Evidence, *policy.Failure) {
	c, e, f := p.dial(ctx, s, k)
	p.made(k)
	if f != nil {
		p.free(k)
		return nil, e, f
	}
	p.sit(c)
	return &session{p: p, c: c, key: k, step: s, evidence: e}, e, nil
}

// acquire takes an idle connection that serves the key, or (nil, nil) a slot to open one, or
// a seat beside others. The patient wait while the first connection of a name is being made.
func (p *Pool) acquire(ctx context.Context, s policy.Step, k key, patient bool) (*conn, *policy.Failure) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, p.failed(s, policy.Interrupted, "")
	}
	h := p.hosts[k.place]
	if h == nil {
		h = &host{making: making{}}
		p.hosts[k.place] = h
	}
	if over := p.trim(h, k.place); len(over) > 0 {
		p.mu.Unlock()
		for _, c := range over {
			p.hangUp(c)
		}
		return p.acquire(ctx, s, k, patient)
	}
	if c := p.find(k); c != nil {
		p.unpark(h, c)
		p.wake(c)
		h.seat(c)
		p.mu.Unlock()
		return c, nil
	}
	acquainting := patient && p.acquainting(h, k)
	if !acquainting && h.open < p.o.Limits.Connections(k.place) {
		h.reserve(k)
		p.mu.Unlock()
		return nil, nil
	}
	if c := h.idle.first; !acquainting && c != nil { // none for us: its place is taken over
		p.unpark(h, c)
		h.making.begin(k)
		p.mu.Unlock()
		p.hangUp(c)
		return nil, nil
	}
	if c := p.beside(h, k); c != nil {
		h.seat(c)
		p.mu.Unlock()
		return c, nil
	}
	w := &waiter{key: k, patient: patient, given: make(chan grant, 1)}
	h.waiters = append(h.waiters, w)
	p.mu.Unlock()
	return p.await(ctx, s, w)
}

func (p *Pool) await(ctx context.Context, s policy.Step, w *waiter) (*conn, *policy.Failure) {
	select {
	case g := <-w.given:
		if g.again {
			return p.acquire(ctx, s, w.key, false)
		}
		return g.c, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	h := p.hosts[w.key.place]
	queued := h != nil && h.withdraw(w)
	p.mu.Unlock()
	if !queued { // it came at the same moment: pass it on
		switch g := <-w.given; {
		case g.again:
		case g.c != nil:
			p.release(g.c)
		default:
			p.made(w.key)
			p.free(w.key)
		}
	}
	return nil, p.failed(s, policy.Interrupted, "no connection to the host became free in time")
}

func (h *host) withdraw(w *waiter) bool {
	for i := range h.waiters {
		if h.waiters[i] == w {
			h.leave(i)
			return true
		}
	}
	return false
}

// leave takes a waiter out of the line.
func (h *host) leave(i int) *waiter {
	w := h.waiters[i]
	h.waiters = slices.Delete(h.waiters, i, i+1)
	return w
}

// unpark takes a connection out of the idle ones. The lock is held.
func (p *Pool) unpark(h *host, c *conn) {
	h.idle.take(c, byPlace)
	p.shelf.take(c)
	p.idle.Remove(c.element)
	c.element = nil
	c.timer.Stop()
}

// release gives up a seat. The last one puts the connection back: to a waiter, among the
// idle ones, or it ends.
func (p *Pool) release(c *conn) {
	var gone []*conn
	p.mu.Lock()
	h := p.hosts[c.key.place]
	switch {
	case !h.rise(c):
		p.grow(h, c.key.place)
		p.invite(h, c)
	case p.closed || !c.fit():
		gone = append(gone, c)
		p.vacate(c.key.place)
	case h.open > p.o.Limits.Connections(c.key.place): // the limit was lowered
		gone = append(gone, c)
		p.vacate(c.key.place)
	case p.turn(h) >= 0:
		w := p.next(h)
		if p.serves(c, w.key) {
			h.seat(c)
			w.given <- grant{c: c}
			p.invite(h, c)
		} else {
			gone = append(gone, c)
			h.making.begin(w.key)
			w.given <- grant{}
		}
		p.grow(h, c.key.place)
	default:
		if p.idle.Len() >= p.o.MaxIdle {
			oldest := p.idle.Front().Value.(*conn)
			p.unpark(p.hosts[oldest.key.place], oldest)
			p.vacate(oldest.key.place)
			gone = append(gone, oldest)
		}
		p.park(h, c)
	}
	p.mu.Unlock()
	for _, c := range gone {
		p.hangUp(c)
	}
}

// park puts a connection among the idle ones. The lock is held.
func (p *Pool) park(h *host, c *conn) {
	p.rest(c)
	h.idle.put(c, byPlace)
	p.shelf.put(c)
	c.element = p.idle.PushBack(c)
	c.since = time.Now()
	if c.timer == nil {
		c.timer = time.AfterFunc(p.o.IdleTime, func() { p.expire(c) })
	} else {
		c.timer.Reset(p.o.IdleTime)
	}
}

// expire ends a connection that was idle for too long.
func (p *Pool) expire(c *conn) {
	p.mu.Lock()
	// A timer that fired while the connection was taken and put back is too early.
	due := c.element != nil && time.Since(c.since) >= p.o.IdleTime
	if due {
		p.unpark(p.hosts[c.key.place], c)
		p.vacate(c.key.place)
	}
	p.mu.Unlock()
	if due {
		p.hangUp(c)
	}
}

// vacate gives up one slot of a place, to a waiter where there is one and the limit
// allows it. The lock is held.
func (p *Pool) vacate(at relay.Place) {
	h := p.hosts[at]
	h.open--
	p.grow(h, at)
	if h.open == 0 {
		delete(p.hosts, at)
	}
}

// grow gives those who wait the slots that the limit leaves free now. The lock is held.
func (p *Pool) grow(h *host, at relay.Place) {
	for h.open == 0 || h.open < p.o.Limits.Connections(at) {
		w := p.next(h)
		if w == nil {
			return
		}
		h.reserve(w.key)
		w.given <- grant{}
	}
}

// trim takes the idle connections beyond a limit that was lowered out of the pool, the
// longest idle first. Those on which somebody sits end when the last one rises. The lock
// is held.
func (p *Pool) trim(h *host, at relay.Place) (gone []*conn) {
	for h.idle.n > 0 && h.open > p.o.Limits.Connections(at) {
		c := h.idle.first
		p.unpark(h, c)
		p.vacate(at)
		gone = append(gone, c)
	}
	return gone
}

// free is vacate for a slot whose connection is gone already.
func (p *Pool) free(k key) {
	p.mu.Lock()
	p.vacate(k.place)
	p.mu.Unlock()
}

// discard gives up a seat. The last one ends the connection, and gives up its slot.
func (p *Pool) discard(c *conn) {
	p.mu.Lock()
	last := p.hosts[c.key.place].rise(c)
	p.mu.Unlock()
	if last {
		p.hangUp(c)
		p.free(c.key)
	}
}

// hangUp ends a connection, politely where it still hears us.
func (p *Pool) hangUp(c *conn) {
	c.quit()
	p.o.Observer.ConnectionClosed()
}

// Close ends all idle sessions. Sessions in use end when they are released, and
// later calls of Open fail with Interrupted.
func (p *Pool) Close() {
	var gone []*conn
	p.mu.Lock()
	p.closed = true
	for e := p.idle.Front(); e != nil; e = p.idle.Front() {
		c := e.Value.(*conn)
		p.unpark(p.hosts[c.key.place], c)
		p.vacate(c.key.place)
		gone = append(gone, c)
	}
	p.mu.Unlock()
	for _, c := range gone {
		p.hangUp(c)
	}
}

// fit reports whether another transaction may begin on the connection, which nobody
// uses now.
func (c *conn) fit() bool {
	return c.dead() == nil && c.r.Buffered() == 0 && c.line.room()
}
