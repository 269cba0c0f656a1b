package smtpclient

import "github.com/sealpost/sealpost/relay"

// A name that nothing is known of may turn out to be one of many behind its address, and to need
// no connection of its own from then on (coalesce.go). While its first one is being made it is better
// to wait for what that shows than to make a second: many names mean many first deliveries at once. Who
// has waited once does not wait again. Where no other name has shown a face at the place, nobody waits.

// making counts the connections that are being made, by what they are for.
type making map[key]int

func (m making) begin(k key) { m[k]++ }

func (m making) end(k key) {
	if m[k]--; m[k] == 0 {
		delete(m, k)
	}
}

// grant is what a waiter gets: a seat on a connection that serves the key; the place of a new one, without c; or
// the advice to look again, for more is known now.
type grant struct {
	c     *conn
	again bool
}

// waiter waits for a connection, or for the right to open one.
type waiter struct {
	key     key
	patient bool       // and for what the name's first connection shows
	given   chan grant // gets exactly one value
}

// acquainting reports whether it may save a connection to wait for one that is being made
// for the key. The lock is held.
func (p *Pool) acquainting(h *host, k key) bool {
	return h.making[k] > 0 && h.otherFace(k) && p.faces.unknown(k, p.o.Now())
}

// otherFace reports whether a connection for something else has a face that others may have too.
func (h *host) otherFace(k key) bool {
	for _, c := range h.busy {
		if c.key != k && !c.face.none() {
			return true
		}
	}
	c := h.idle.last
	return c != nil && c.key != k && !c.face.none()
}

// turn returns the place in the line of the waiter whose turn it is: the first that does not wait for a
// name's first connection. -1: there is none. The lock is held.
func (p *Pool) turn(h *host) int {
	for i, w := range h.waiters {
		if !w.patient || !p.acquainting(h, w.key) {
			return i
		}
	}
	return -1
}

// next takes the waiter whose turn it is out of the line; nil: there is none. The lock is held.
func (p *Pool) next(h *host) *waiter {
	i := p.turn(h)
	if i < 0 {
		return nil
	}
	return h.leave(i)
}

// made ends the making of a connection, whatever came of it. Those who waited for what it shows look again.
func (p *Pool) made(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[k.place]
	h.making.end(k)
	for i := 0; i < len(h.waiters); {
		if w := h.waiters[i]; w.patient && w.key == k {
			h.leave(i).given <- grant{again: true}
			continue
		}
		i++
	}
}

// reserve books the place of a connection that is to be made for the key, beside those that there are.
// The lock is held.
func (h *host) reserve(k key) {
	h.open++
	h.making.begin(k)
}

// rebook has a place that was got for one key used for another one.
func (p *Pool) rebook(at relay.Place, from, to key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[at]
	h.making.end(from)
	h.making.begin(to)
}
