package smtpclient

import (
	"container/list"
	"crypto/tls"
	"sync"
	"time"
)

const (
	// maxTickets bounds the TLS sessions that are remembered; the longest unused goes.
	maxTickets = 2048
	// ticketAge is how long a TLS session may be resumed: then the host proves anew
	// that it has the key of its certificate. (RFC 8446 4.6.1 allows seven days.)
	ticketAge = time.Hour
)

// tickets are the TLS sessions that may be resumed, by pool key: never another rung's,
// another host's or another identity's. A resumed session shows the certificate of its
// first handshake, and is judged by the records, names and time of today like any
// other. It is safe for concurrent use.
type tickets struct {
	mu    sync.Mutex
	byKey map[key]*list.Element
	order list.List // of *ticket, the longest unused first
}

type ticket struct {
	key   key
	state *tls.ClientSessionState
	first time.Time // when the session behind it began with a whole handshake
}

// for1 is the cache of one handshake.
func (t *tickets) for1(k key, now time.Time) *ticketUse { return &ticketUse{t: t, key: k, began: now} }

// ticketUse gives crypto/tls the one session that fits. It implements
// tls.ClientSessionCache; the name that crypto/tls asks by is in the key already.
type ticketUse struct {
	t       *tickets
	key     key
	began   time.Time // of this connection, or of the session that it resumes
	offered bool      // a session was offered to the host
	barred  bool      // what this connection gets is not kept; guarded by t.mu
}

// Get implements tls.ClientSessionCache.
func (u *ticketUse) Get(string) (*tls.ClientSessionState, bool) {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	e := u.t.byKey[u.key]
	if e == nil {
		return nil, false
	}
	v := e.Value.(*ticket)
	if u.began.Sub(v.first) >= ticketAge {
		u.t.drop(e)
		return nil, false
	}
	u.t.order.MoveToBack(e)
	u.offered = true
	return v.state, true
}

// Put implements tls.ClientSessionCache. The host gives a new ticket for a resumed
// session, too; its age goes on.
func (u *ticketUse) Put(_ string, state *tls.ClientSessionState) {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	first := u.began
	if e := u.t.byKey[u.key]; e != nil {
		if u.offered { // whether it was taken up is not known here: the older one counts
			first = e.Value.(*ticket).first
		}
		u.t.drop(e)
	}
	if state == nil || u.barred {
		return
	}
	u.t.byKey[u.key] = u.t.order.PushBack(&ticket{u.key, state, first})
	if u.t.order.Len() > maxTickets {
		u.t.drop(u.t.order.Front())
	}
}

// forget drops what was offered, because the handshake failed.
func (u *ticketUse) forget() {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	u.dropOurs()
}

// bar keeps no session of a host that has not proved its name, so that it can do so with the next
// connection: its tickets would show the certificate of now for as long as they are good.
func (u *ticketUse) bar() {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	u.barred = true
	u.dropOurs()
}

// dropOurs takes out what is kept for the key. The lock is held.
func (u *ticketUse) dropOurs() {
	if e := u.t.byKey[u.key]; e != nil {
		u.t.drop(e)
	}
}

// drop takes an element out. The lock is held.
func (t *tickets) drop(e *list.Element) {
	delete(t.byKey, e.Value.(*ticket).key)
	t.order.Remove(e)
}

// turnstile bounds the handshakes that begin at once, since they cost processor's time on
// both sides. A handshake counts for yieldTime at most: a host that stalls must not keep
// others from being reached.
type turnstile chan struct{}

const yieldTime = time.Second

// enter waits for a place and returns what gives it back. done ends the wait without one.
func (s turnstile) enter(done <-chan struct{}) (leave func()) {
	select {
	case s <- struct{}{}:
	case <-done:
		return func() {}
	}
	var once sync.Once
	out := func() { once.Do(func() { <-s }) }
	timer := time.AfterFunc(yieldTime, out)
	return func() {
		timer.Stop()
		out()
	}
}
