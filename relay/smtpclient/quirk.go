package smtpclient

import (
	"sync"
	"time"
)

// style is how a transaction is sent, from the fastest to the plainest.
type style uint8

const (
	oneFlight style = iota // MAIL, RCPT, BDAT in one write
	twoFlight              // MAIL, RCPT, DATA in one write, then the content
	dialogue               // one command at a time, by the letter
)

// quirk is the style that a host was found to need, for a while.
type quirk struct {
	style style
	alone bool // one message after the other: something went wrong with several in flight
	until time.Time
}

const (
	quirkTime = time.Hour
	maxQuirks = 4096
)

// meant is how a host refused a sender on a fresh connection: who says the same on an old one means the
// sender there, too.
type meant struct {
	code  int
	until time.Time
}

// quirks remembers the hosts that stumble, and what they mean.
type quirks struct {
	mu    sync.Mutex
	seen  map[hostKey]quirk
	meant map[hostKey]meant
}

func newQuirks() quirks {
	return quirks{seen: map[hostKey]quirk{}, meant: map[hostKey]meant{}}
}

// meansSender remembers the code with which the host refused a sender on a fresh connection.
func (q *quirks) meansSender(k hostKey, code int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bound(q.meant)
	q.meant[k] = meant{code, time.Now().Add(quirkTime)}
}

// sender reports whether the code is about the sender, on whatever connection.
func (q *quirks) sender(k hostKey, code int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.meant[k]
	return m.code == code && time.Now().Before(m.until)
}

// bound makes room in a memory that is full. Which one goes does not matter: it is found again.
func bound[V any](of map[hostKey]V) {
	if len(of) < maxQuirks {
		return
	}
	for k := range of {
		delete(of, k)
		break
	}
}

// manner returns the style that the host offers, as far as it was not found to
// stumble, and whether more than one message may be in flight to it.
func (q *quirks) manner(k hostKey, ext extensions, o Options) (s style, share bool) {
	s = dialogue
	switch {
	case ext.pipelining && ext.chunking && !o.PlainData:
		s = oneFlight
	case ext.pipelining:
		s = twoFlight
	}
	share = s != dialogue && o.Window > 1
	q.mu.Lock()
	defer q.mu.Unlock()
	found, ok := q.seen[k]
	switch {
	case !ok:
		return s, share
	case time.Now().Before(found.until):
		return max(s, found.style), share && !found.alone
	}
	delete(q.seen, k)
	return s, share
}

// stumbled remembers that the host could not follow the style.
func (q *quirks) stumbled(k hostKey, s style) {
	q.remember(k, quirk{style: min(s+1, dialogue), alone: true})
}

// jostled remembers that something went wrong with several messages in flight.
func (q *quirks) jostled(k hostKey) {
	q.remember(k, quirk{alone: true})
}

func (q *quirks) remember(k hostKey, found quirk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	found.until = time.Now().Add(quirkTime)
	if old, ok := q.seen[k]; ok && old.until.After(time.Now()) {
		found.style = max(found.style, old.style)
	}
	bound(q.seen)
	q.seen[k] = found
}
