package smtpclient

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

const (
	// flyingOctets bounds the content that is out on a connection without a reply.
	flyingOctets = 256 << 10
	// distant is how long a reply must take before a window pays: nearer hosts answer
	// before the next flight is made, and every message in flight may become uncertain.
	distant = 4 * time.Millisecond
	// patience is how long a transaction waits behind others on a connection on which
	// nothing moves before it looks for another one.
	patience = 3 * time.Second
)

// line is the order of the transactions on one connection. Two things go from hand to
// hand, always in the same order: the pen (who has it writes, nobody else does) and
// the ear (who has it reads). So each reply is read by the one whose command it
// answers, and nothing needs a goroutine of its own. A transaction has the pen until
// its last octet is out, and the ear from when all before it have read their replies;
// in between it flies. It is safe for concurrent use.
type line struct {
	mu      sync.Mutex
	waiting []*turn // for the pen, in order
	pen     *turn   // who writes; nil: nobody
	flying  []*turn // who has written or has the pen, in order; the first one has the ear
	octets  int     // of content, of those that fly
	// window is how many may fly at once. It begins with one and grows by one with
	// each message that went well.
	window int
	max    int // of window
	used   int // transactions begun
	limits Limits
	place  relay.Place
	mail   int  // how many the host said there may be (RFC 9422 MAILMAX); 0: it did not
	over   bool // nobody gets the pen any more
	// corked: replies are there to be read, and some more flights may go when they are,
	// in one write.
	corked bool
	quiet  bool // nothing was said since the connection was looked at
	moved  time.Time
	// domains are those that recipients were at, where the host limits them.
	domains []policy.Domain
}

// open makes the line that of a new connection.
func (l *line) open(o Options, at relay.Place, ext extensions) {
	l.window, l.max, l.limits, l.place, l.mail = 1, o.Window, o.Limits, at, ext.mailMax
}

// most is how many transactions there may be; 0: no limit. It can change at any time.
func (l *line) most() int {
	n := l.mail
	if l.limits != nil {
		if m := l.limits.Messages(l.place); m > 0 && (n == 0 || m < n) {
			n = m
		}
	}
	return n
}

// full reports whether there were as many transactions as may be. The lock is held.
func (l *line) full() bool {
	most := l.most()
	return most > 0 && l.used >= most
}

// width is the window now: one where the host wants less of us. The lock is held.
func (l *line) width() int {
	if l.window > 1 && l.limits != nil && l.limits.Limited(l.place) {
		return 1
	}
	return l.window
}

// kind is what a transaction needs of the line.
type kind uint8

const (
	aloneKind kind = iota // everybody before it must be done
	groupKind             // MAIL, RCPT, DATA: may go behind a final dot
	chunkKind             // MAIL, RCPT, BDAT LAST: may go behind others of its kind
)

// turn is one transaction's place in a line.
type turn struct {
	kind   kind
	octets int    // of content, where it flies as a whole
	head   []byte // what may ride in a write of the one before: a group, or a flight with its RSET

	// Set when it gets the pen.
	granted bool
	refused bool // the line is over: nothing was sent
	behind  bool // others were flying then
	reset   bool // the one before may leave something that only RSET clears
	prior   bool // the connection has carried a transaction before
	quiet   bool // nothing needs to be looked at before
	rode    bool // head is out, or on its way: the one before writes it
	carried bool // of a flight that rode: that write has ended
	sent    bool // and it may be out as a whole
	at      time.Time

	followed bool // another one was written behind it
	unclean  bool // its end leaves the host's state to be cleared
	wake     chan struct{}
}

// join puts t at the end of the line.
func (l *line) join(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, t)
	l.next()
}

// next gives the pen to the first that waits, when it may have it. The lock is held.
func (l *line) next() {
	if l.over || l.full() {
		for _, t := range l.waiting {
			t.refused = true
			t.rouse()
		}
		l.waiting = nil
		return
	}
	if l.corked || l.pen != nil || len(l.waiting) == 0 || !l.may(l.waiting[0]) {
		return
	}
	t := l.waiting[0]
	l.take(t)
	l.pen, t.granted = t, true
	t.rouse()
}

// may reports whether t may be written now, though there are some whose replies are
// not in. The lock is held.
func (l *line) may(t *turn) bool {
	n := len(l.flying)
	if n == 0 {
		return true
	}
	if l.flying[n-1].kind != t.kind {
		return false
	}
	switch t.kind {
	case groupKind: // RFC 2920 3.1: DATA is the last of its group, so there is one
		return n == 1 && l.width() > 1
	case chunkKind:
		return n < l.width() && l.octets+t.octets <= flyingOctets
	}
	return false
}

// take moves t from those that wait to those that fly. The lock is held.
func (l *line) take(t *turn) {
	l.waiting = slices.Delete(l.waiting, 0, 1)
	if n := len(l.flying); n > 0 {
		before := l.flying[n-1]
		t.behind, before.followed = true, true
		// RFC 3030 2: a failed BDAT leaves what only RSET clears, and whether this one
		// fails is not known. RFC 5321 4.1.1.4: the end of data consumes a DATA in any case.
		t.reset = t.kind == chunkKind || before.unclean
	}
	t.prior, t.quiet = l.used > 0, l.quiet
	l.used++
	l.quiet = false
	l.octets += t.octets
	t.at = time.Now()
	l.flying = append(l.flying, t)
	if len(l.flying) == 1 {
		l.moved = t.at
	}
}

// await waits until t has the pen, and reports whether it has; otherwise nothing of
// it was sent, and t is out of the line.
func (l *line) await(ctx context.Context, t *turn) bool {
	var tick *time.Ticker
	for {
		l.mu.Lock()
		if t.granted || t.carried || t.refused {
			l.mu.Unlock()
			return !t.refused
		}
		// Once its commands are out it is one of those that fly, whatever it waits for.
		if !t.rode && (ctx.Err() != nil || tick != nil && time.Since(l.moved) >= patience) {
			l.withdraw(t)
			l.mu.Unlock()
			return false
		}
		wake, done := t.bed(), ctx.Done()
		if t.rode {
			done = nil
		}
		l.mu.Unlock()
		if tick == nil {
			tick = time.NewTicker(patience)
			defer tick.Stop()
		}
		select {
		case <-wake:
		case <-done:
		case <-tick.C:
		}
	}
}

// withdraw takes t out of those that wait. The lock is held.
func (l *line) withdraw(t *turn) {
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.next()
	}
}

// bed returns what t waits on. The lock is held.
func (t *turn) bed() chan struct{} {
	if t.wake == nil {
		t.wake = make(chan struct{}, 1)
	}
	return t.wake
}

// rouse wakes t up to look again. The lock is held.
func (t *turn) rouse() {
	if t.wake == nil {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// ride returns what goes in the same write behind what t, which has the pen, writes
// last: behind the end of a content the group of the next in line, which gets the pen
// after t; behind a flight those flights that may fly, while all is short enough that
// the replies find room while nobody reads them (RFC 2920 3.1). From then on they fly.
func (l *line) ride(t *turn) (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.over && len(l.waiting) > 0 && !l.full() {
		r := l.waiting[0]
		if r.head == nil || t.unclean || t.octets+len(b)+len(r.head) > flightSize || !l.may(r) {
			break
		}
		l.take(r)
		r.rode = true
		b = append(b, r.head...)
	}
	return b
}

// wrote is how much of a write has gone out.
type wrote uint8

const (
	nothing wrote = iota
	some          // all but the end, perhaps: the last flight is not whole
	everything
)

// carry tells the flights that rode with t what came of the write.
func (l *line) carry(t *turn, w wrote) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.flying) - 1; i >= 0 && l.flying[i] != t; i-- {
		r := l.flying[i]
		r.carried, r.sent = true, w == everything || w == some && r.followed
		r.rouse()
	}
}

// pass gives the pen on: t has written its last octet, or nothing.
func (l *line) pass(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pen != t {
		return
	}
	l.pen = nil
	l.penToRider(t)
	l.next()
}

// penToRider gives the pen to the group that rode with t, if any. The lock is held.
func (l *line) penToRider(t *turn) {
	if last := l.flying[len(l.flying)-1]; last != t && last.kind == groupKind {
		l.pen, last.granted = last, true
		last.rouse()
	}
}

// listen waits for the ear. It always comes: everybody before t has deadlines.
func (l *line) listen(t *turn) {
	l.mu.Lock()
	for len(l.flying) == 0 || l.flying[0] != t {
		wake := t.bed()
		l.mu.Unlock()
		<-wake
		l.mu.Lock()
	}
	l.mu.Unlock()
}

// left is how a transaction ended.
type left struct {
	good bool // the message went well
	more bool // there is more to be read
}

// leave ends t, which has the ear: all that it was owed is read, or never will be.
func (l *line) leave(t *turn, how left) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if how.good && l.window < l.max && (t.kind == groupKind || t.kind == chunkKind && (l.window > 1 || now.Sub(t.at) >= distant)) {
		l.window++
	}
	l.window = l.width() // opened anew when the host is throttled no more
	if l.pen == t {
		l.pen = nil
		l.penToRider(t)
	}
	l.moved = now
	l.octets -= t.octets
	l.flying = slices.Delete(l.flying, 0, 1)
	if len(l.flying) > 0 {
		l.flying[0].rouse()
	}
	l.corked = how.more && len(l.flying) > 0
	l.next()
}

// uncork lets flights go: nothing is left to be read, so the next reply is waited for.
func (l *line) uncork() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.corked {
		l.corked = false
		l.next()
	}
}

// end gives nobody the pen any more: the connection is lost, or the host has had enough.
func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.next()
}

// soil says that the end of t leaves something behind that only RSET clears.
func (l *line) soil(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.unclean = true
}

// admit reports whether recipients at a domain may be sent on the connection, on which
// there may be at most so many domains (RFC 9422 RCPTDOMAINMAX, for a session).
func (l *line) admit(d policy.Domain, most int) bool {
	if most == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case slices.Contains(l.domains, d):
		return true
	case len(l.domains) >= most:
		return false
	}
	l.domains = append(l.domains, d)
	return true
}

// last reports whether nothing was written behind t.
func (l *line) last(t *turn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !t.followed
}

// mixed reports whether t shared the connection with others.
func (l *line) mixed(t *turn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.followed || t.behind
}

// look runs fn while nobody can have the pen or the ear; when somebody has one, the
// connection is alive, and fn is not run. What fn reports is returned.
func (l *line) look(fn func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.flying) > 0 {
		return false
	}
	said := fn()
	l.quiet = !said
	return said
}

// room reports whether another transaction may begin.
func (l *line) room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over && !l.full()
}
