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
	until time.Time
}

const (
	quirkTime = time.Hour
	maxQuirks = 4096
)

// quirks remembers the hosts that stumble.
type quirks struct {
	mu   sync.Mutex
	seen map[hostKey]quirk
}

// style returns what the host offers, as far as it was not found to stumble.
func (q *quirks) style(k hostKey, ext extensions, o Options) style {
	s := dialogue
	switch {
	case ext.pipelining && ext.chunking && !o.PlainData:
		s = oneFlight
	case ext.pipelining:
		s = twoFlight
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if found, ok := q.seen[k]; ok {
		if time.Now().Before(found.until) {
			return max(s, found.style)
		}
		delete(q.seen, k)
	}
	return s
}

// stumbled remembers that the host could not follow the style.
func (q *quirks) stumbled(k hostKey, s style) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.seen) >= maxQuirks { // which one goes does not matter: it is found again
		for old := range q.seen {
			delete(q.seen, old)
			break
		}
	}
	q.seen[k] = quirk{min(s+1, dialogue), time.Now().Add(quirkTime)}
}
