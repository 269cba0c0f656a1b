package smtpclient

import (
	"context"
	"net"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// batchLimit is how many recipients one SMTP transaction has at most: what every
// host must take (RFC 5321 4.5.3.1.8), and few enough that the replies to a
// group fit in the socket buffers while we still write (RFC 2920 3.1, deadlock).
const batchLimit = 100

// maxMoves is how many connections may be lost before a message's turn comes. A host that hangs
// up after each message loses those who sit beside it, until it is known for that: each
// time one of them gets through, and four times is not rare.
const maxMoves = 10

// session is a use of a connection, a seat on it where others use it too. It
// implements relay.Session; one goroutine uses it.
type session struct {
	p        *Pool
	c        *conn // nil when the use is over
	key      key   // that of the step; the connection may have another one (coalesce.go)
	step     policy.Step
	evidence policy.Evidence
	reused   bool
	replaced bool // a dead connection was replaced by a fresh one already
	moves    int  // connections that were lost before our turn came
}

var _ relay.Session = (*session)(nil)

// Reused reports whether the session came from the pool.
func (s *session) Reused() bool { return s.reused }

// Evidence is what the connection in use proved: that of Open, unless the
// connection had died in the pool and was replaced during Send.
func (s *session) Evidence() policy.Evidence { return s.evidence }

// Release ends our use; the connection goes back to the pool when it is fit.
func (s *session) Release() {
	if s.c != nil {
		s.p.release(s.c)
		s.c = nil
	}
}

// Quit ends the session (RFC 3207 4.1, RFC 8689 4.2.1). Where others use the
// connection, for whom it is good enough, the last of them ends it.
func (s *session) Quit() {
	if s.c != nil {
		s.p.discard(s.c)
		s.c = nil
	}
}

// Send runs one mail transaction, or several where the host limits recipients
// (RFC 9422 RCPTMAX). Each recipient gets one result.
func (s *session) Send(ctx context.Context, t *relay.Transaction) relay.Sent {
	sent := relay.Sent{Results: make([]relay.RecipientResult, len(t.Recipients))}
	if s.c == nil {
		x := &transaction{ctx: ctx, s: s, t: t, results: sent.Results}
		x.begin(all(len(t.Recipients)))
		x.failOpen(x.failure(policy.Internal, "the session is over"))
		return sent
	}
	sent.DSN = s.c.ext.dsn
	x := &transaction{ctx: ctx, s: s, t: t, results: sent.Results}
	left := x.admit()
	for len(left) > 0 {
		n := min(len(left), batchLimit)
		if limit := s.c.ext.rcptMax; limit > 0 {
			n = min(n, limit)
		}
		x.run(left[:n])
		left = left[n:]
		if len(left) > 0 && (s.c == nil || s.c.dead() != nil) {
			x.begin(left)
			x.failOpen(x.sessionOver())
			return sent
		}
	}
	return sent
}

// run carries one batch through: usually in one go; again on another connection
// when a pooled one was dead, or lost before it was our turn; and again more plainly
// when the host does not know BDAT after all. What another name's connection refused is
// sent again on one of the host's own.
func (x *transaction) run(batch []int) {
	x.begin(batch)
	for {
		var f *policy.Failure
		switch x.once() {
		case again:
			continue
		case stale:
			x.s.replaced = true
			x.s.notThere()
			f = x.s.move(x.ctx, true)
		case unsent:
			if x.s.c.dead() != nil {
				x.s.moves++
			}
			if x.s.moves > maxMoves {
				x.failOpen(x.failure(policy.ConnectionLost, "the connection was lost before the message was sent, more than once"))
				return
			}
			f = x.s.move(x.ctx, false)
		case full:
			f = x.s.move(x.ctx, true)
		case done:
			refused := x.takeBack()
			if refused == nil {
				return
			}
			x.begin(refused)
			f = x.s.move(x.ctx, true)
		}
		if f != nil {
			x.failOpen(f)
			return
		}
	}
}

// once tries the batch on the connection at hand.
func (x *transaction) once() outcome {
	c := x.s.c
	// An envelope has recipients at one domain.
	if !c.line.admit(x.t.Recipients[x.batch[0]].Address.Domain, c.ext.domMax) {
		return full
	}
	body, err := x.t.Body(x.ctx)
	if err != nil {
		x.contentFault(err)
		return done // nothing was sent
	}
	x.body, x.size = body, body.Size()
	defer x.closeBody()
	x.ended, x.good, x.sequence, x.moving = false, false, false, false
	style, share := x.s.manner()
	x.style, x.turn = style, &turn{}
	defer x.recycle()
	if err := x.compose(); err != nil {
		x.contentFault(err)
		return done // nothing was sent
	}
	if !share {
		x.turn.kind = aloneKind
	}
	c.line.join(x.turn)
	if !c.line.await(x.ctx, x.turn) {
		if x.ctx.Err() != nil {
			x.failOpen(x.failure(lostReason(x.ctx, x.ctx.Err()), ""))
			return done
		}
		return unsent
	}
	if !x.turn.carried {
		c.writeBy = x.limit()
	}
	stop := context.AfterFunc(x.ctx, func() { _ = c.raw.Close() }) // unblocks every read and write
	defer func() {
		c.line.listen(x.turn)
		if !stop() {
			c.close()
		}
		if c.dead() != nil {
			c.line.end()
		}
		c.line.leave(x.turn, left{good: x.good, more: c.dead() == nil && c.r.Buffered() > 0})
	}()
	x.owed = x.turn.reset
	if !x.turn.behind {
		x.owed = c.reset
		if !x.turn.quiet && c.unexpected() {
			return x.spokenTo()
		}
	}
	switch x.style {
	case oneFlight:
		return x.chunked()
	case twoFlight:
		return x.grouped()
	}
	return x.dialogue()
}

// closeBody closes the content, which was read only.
func (x *transaction) closeBody() {
	if x.body != nil {
		_ = x.body.Close()
		x.body = nil
	}
}

// buffer returns an empty buffer for a flight.
func (x *transaction) buffer() []byte {
	x.lent = x.s.p.flights.Get().(*[]byte)
	return (*x.lent)[:0]
}

// recycle gives the buffer of the flight back, when the flight is out.
func (x *transaction) recycle() {
	if x.lent != nil {
		*x.lent = x.flight
		x.s.p.flights.Put(x.lent)
		x.lent, x.flight = nil, nil
	}
}

// spokenTo handles a host that hung up, or says something that no command of ours
// asked for: from here on, replies and commands could not be matched.
func (x *transaction) spokenTo() outcome {
	c := x.s.c
	x.mark, c.readBy = c.replies, x.limit()
	if x.first(0) {
		_ = c.fail(net.ErrClosed) // whatever it says, QUIT is no answer
		return stale
	}
	x.style = dialogue // nothing was sent that the host could have stumbled over
	rep, err := c.reply(lateTimeout)
	if o, ok := x.usable("no command", rep, err); !ok {
		return o
	}
	return x.protocol("no command", rep)
}

// sessionOver is the failure of recipients that could not be sent to any more.
func (x *transaction) sessionOver() *policy.Failure {
	if x.last != nil {
		return x.last
	}
	return x.failure(policy.ConnectionLost, "the connection was lost before these recipients were sent")
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
