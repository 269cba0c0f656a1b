package queue

import (
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"
)

// Most messages are sent within a moment of their acceptance. Until their first try they
// are kept in memory as well, so that nobody reads, decrypts and decodes what was just
// written. The disk stays the truth: what is kept here is what was inserted, and an
// envelope is dropped before anything changes it.

// Bounds of what is kept.
const (
	hotBody  = 64 << 10         // octets of a body
	hotBytes = 16 << 20         // octets in all
	hotCost  = 2 << 10          // of a message beside its body, about
	hotAge   = 30 * time.Second // a message that waits for longer makes room for others
)

// hot keeps the messages that were just accepted. Make one with newHot.
type hot struct {
	mu     sync.Mutex
	known  map[ID]*list.Element // of fresh
	order  list.List            // in which they came
	octets int
}

// fresh is a message that nobody has tried yet. Nobody changes what it points to.
type fresh struct {
	message   *Message
	envelopes []Envelope
	body      []byte
	since     time.Time
	gone      []bool // envelopes that are not as they were inserted
	left      int    // that are
}

func newHot() *hot { return &hot{known: make(map[ID]*list.Element)} }

func (f *fresh) cost() int { return hotCost + cap(f.body) }

// put keeps a message, if there is room. It is called before the message can be claimed.
func (h *hot) put(f fresh) {
	f.gone, f.left, f.since = make([]bool, len(f.envelopes)), len(f.envelopes), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.order.Front(); e != nil && h.octets+f.cost() > hotBytes; e = h.order.Front() {
		if f.since.Sub(e.Value.(*fresh).since) < hotAge {
			return // those whose turn comes before its have the room
		}
		h.forget(e)
	}
	h.known[f.message.ID] = h.order.PushBack(&f)
	h.octets += f.cost()
}

// open reports whether there is room for a message, so that no copy is made in vain of
// one that will not be kept: with deliveries behind or paused that is every one.
func (h *hot) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.order.Front()
	return oldest == nil || h.octets+hotCost+hotBody <= hotBytes || time.Since(oldest.Value.(*fresh).since) >= hotAge
}

// forget drops a message. The lock is held.
func (h *hot) forget(e *list.Element) {
	f := h.order.Remove(e).(*fresh)
	delete(h.known, f.message.ID)
	h.octets -= f.cost()
}

// find returns a message of which the envelope is kept. The lock is held.
func (h *hot) find(k rowKey) (*list.Element, *fresh) {
	e := h.known[k.id]
	if e == nil {
		return nil, nil
	}
	f := e.Value.(*fresh)
	if k.number >= len(f.gone) || f.gone[k.number] {
		return nil, nil
	}
	return e, f
}

// has reports whether an envelope is kept.
func (h *hot) has(k rowKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, _ := h.find(k)
	return e != nil
}

// take returns a kept envelope with its message and body and forgets it; ok is false when it is not kept.
func (h *hot) take(k rowKey) (m *Message, e *Envelope, body []byte, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	el, f := h.find(k)
	if el == nil {
		return nil, nil, nil, false
	}
	own := f.envelopes[k.number]
	m, e, body = f.message, &own, f.body
	h.leave(el, f, k)
	return m, e, body, true
}

// drop forgets an envelope.
func (h *hot) drop(k rowKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, f := h.find(k); e != nil {
		h.leave(e, f, k)
	}
}

func (h *hot) leave(e *list.Element, f *fresh, k rowKey) {
	f.gone[k.number] = true
	if f.left--; f.left == 0 {
		h.forget(e)
	}
}

// abandon forgets a message that did not become ours.
func (h *hot) abandon(id ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.known[id]; e != nil {
		h.forget(e)
	}
}

// copier reads a body, notices octets above 127 on their way (RFC 6152), and keeps a
// copy of a small one.
type copier struct {
	r        io.Reader
	copy     []byte
	large    bool // there is no copy
	eightBit bool
}

func (c *copier) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.eightBit = c.eightBit || HasEightBit(p[:n])
	switch {
	case c.large:
	case len(c.copy)+n > hotBody:
		c.copy, c.large = nil, true
	default:
		c.copy = append(c.copy, p[:n]...)
	}
	return n, err
}

// HasEightBit reports whether there is an octet above 127 (RFC 6152). It looks at 32
// octets at a time.
func HasEightBit(p []byte) bool {
	const high = 0x8080808080808080
	for ; len(p) >= 32; p = p[32:] {
		e := binary.NativeEndian
		if (e.Uint64(p)|e.Uint64(p[8:])|e.Uint64(p[16:])|e.Uint64(p[24:]))&high != 0 {
			return true
		}
	}
	for ; len(p) >= 8; p = p[8:] {
		if binary.NativeEndian.Uint64(p)&high != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// memoryBody is a body that is in memory.
type memoryBody struct {
	bytes.Reader
}

func newMemoryBody(b []byte) *memoryBody {
	m := new(memoryBody)
	m.Reset(b)
	return m
}

// Close does nothing.
func (*memoryBody) Close() error { return nil }

// opener returns how a lease opens its body.
func (q *Queue) opener(id ID, body []byte) func(context.Context) (Body, error) {
	if body != nil {
		return func(context.Context) (Body, error) { return newMemoryBody(body), nil }
	}
	return func(ctx context.Context) (Body, error) { return q.store.Body(ctx, id) }
}
