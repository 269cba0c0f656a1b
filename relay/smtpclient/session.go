package smtpclient

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// batchLimit is how many recipients one SMTP transaction has at most: what every
// host must take (RFC 5321 4.5.3.1.8), and few enough that the replies to a
// group fit in the socket buffers while we still write (RFC 2920 3.1, deadlock).
const batchLimit = 100

// session is a use of a connection. It implements relay.Session; one goroutine
// uses it.
type session struct {
	p        *Pool
	c        *conn // nil when the use is over
	step     policy.Step
	evidence policy.Evidence
	reused   bool
	replaced bool // the connection was replaced by a fresh one already
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

// Quit ends the session (RFC 3207 4.1, RFC 8689 4.2.1).
func (s *session) Quit() {
	if s.c != nil {
		s.p.discard(s.c)
		s.c = nil
	}
}

// replace opens a fresh connection in place of one that died in the pool. It must
// prove no less: the caller has judged the old one (policy: a reused session is
// judged again).
func (s *session) replace(ctx context.Context) *policy.Failure {
	s.replaced = true
	old := s.c
	old.close()
	s.p.o.Observer.ConnectionClosed()
	s.c = nil
	fresh, evidence, f := s.p.dial(ctx, s.step, old.key)
	if f != nil {
		s.p.free(old.key)
		return f
	}
	before, _ := s.step.Judge(s.evidence)
	after, f := s.step.Judge(evidence)
	if f == nil && after < before {
		f = &policy.Failure{Reason: policy.ConnectionLost, Host: s.step.Target.Host,
			Detail: "the session was lost, and a new one is protected less"}
	}
	if f != nil {
		s.p.discard(fresh)
		return f
	}
	s.c, s.evidence, s.reused = fresh, evidence, false
	return nil
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
		if len(left) > 0 && (s.c == nil || !s.c.fit(s.p.o)) {
			x.begin(left)
			x.failOpen(x.sessionOver())
			return sent
		}
	}
	return sent
}

// run carries one batch through: usually in one go; again on a fresh connection
// when a pooled one was dead, and again more plainly when the host does not know
// BDAT after all.
func (x *transaction) run(batch []int) {
	x.begin(batch)
	for {
		switch x.once() {
		case again:
			continue
		case stale:
			if f := x.s.replace(x.ctx); f != nil {
				x.failOpen(f)
				return
			}
			continue
		case done:
			return
		}
	}
}

// once tries the batch on the connection at hand.
func (x *transaction) once() outcome {
	c := x.s.c
	body, err := x.t.Body(x.ctx)
	if err != nil {
		x.contentFault(err)
		return done // nothing was sent
	}
	defer func() { _ = body.Close() }() // it was read only
	x.body = body
	x.ended = false
	x.prior, x.mark = c.used > 0, c.replies
	x.style = x.s.p.quirks.style(c.key.hostKey, c.ext, x.s.p.o)
	o := x.s.p.o.Timeouts
	c.limit = time.Now().Add(3*o.Command + o.Data + time.Duration(body.Size()/slowest)*time.Second)
	stop := context.AfterFunc(x.ctx, func() { _ = c.raw.Close() }) // unblocks every read and write
	defer func() {
		c.limit = time.Time{}
		if !stop() {
			c.close()
		}
	}()
	if !c.quiet && c.unexpected() {
		return x.spokenTo()
	}
	c.quiet = false
	c.used++
	switch x.style {
	case oneFlight:
		return x.chunked()
	case twoFlight:
		return x.grouped()
	}
	return x.dialogue()
}

// spokenTo handles a host that hung up, or says something that no command of ours
// asked for: from here on, replies and commands could not be matched.
func (x *transaction) spokenTo() outcome {
	if x.first(0) {
		return stale
	}
	x.style = dialogue // nothing was sent that the host could have stumbled over
	rep, err := x.s.c.reply(lateTimeout)
	if o, ok := x.usable("no command", rep, err); !ok {
		return o
	}
	return x.protocol("no command", rep)
}

// sessionOver is the failure of recipients that could not be sent to any more.
func (x *transaction) sessionOver() *policy.Failure {
	if f := x.last; f != nil && (x.s.c == nil || x.s.c.broken != nil) {
		return f
	}
	return x.failure(policy.ConnectionLost, "the host's limits leave no room for more recipients in this session")
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
