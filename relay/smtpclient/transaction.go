package smtpclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

const (
	// chunkSize bounds the content that goes out before the replies to MAIL and RCPT
	// are in: a refused recipient must not cost megabytes.
	chunkSize = 64 << 10
	// slowest is the rate in octets a second below which a content takes too long.
	slowest = 16 << 10
)

// outcome is what a try of a batch came to.
type outcome uint8

const (
	done  outcome = iota
	stale         // the pooled connection was dead: nothing was accepted
	again         // the host must be served more plainly, on the same connection
	more          // a chunk was taken, the next may go
)

// state is where a recipient stands in its transaction.
type state uint8

const (
	open     state = iota // nothing is known
	accepted              // RCPT was accepted, the content is not decided
	decided               // its result is there
)

// transaction is one use of Send.
type transaction struct {
	ctx     context.Context
	s       *session
	t       *relay.Transaction
	results []relay.RecipientResult
	last    *policy.Failure // the last one that was not about one recipient

	batch  []int   // indices of the recipients of the SMTP transaction
	states []state // of the batch
	body   queue.Body
	style  style
	utf8   bool // MAIL has SMTPUTF8
	ended  bool // the end of data is out: the host may have the message
	prior  bool // the connection has carried a transaction before
	mark   int  // replies of the connection before this transaction
}

func (x *transaction) begin(batch []int) {
	x.batch, x.states = batch, make([]state, len(batch))
}

func (x *transaction) failure(r policy.Reason, detail string) *policy.Failure {
	return &policy.Failure{Reason: r, Host: x.s.step.Target.Host, Detail: detail}
}

// decide gives the i-th recipient of the batch its result.
func (x *transaction) decide(i int, r *queue.Reply, f *policy.Failure) {
	x.states[i] = decided
	x.results[x.batch[i]] = relay.RecipientResult{Reply: r, Failure: f}
}

// each calls fn for each recipient of the batch in one of the states.
func (x *transaction) each(fn func(i int), in ...state) {
	for i, s := range x.states {
		for _, want := range in {
			if s == want {
				fn(i)
				break
			}
		}
	}
}

func (x *transaction) any(want state) bool {
	for _, s := range x.states {
		if s == want {
			return true
		}
	}
	return false
}

// failOpen gives everybody without a result this one.
func (x *transaction) failOpen(f *policy.Failure) {
	x.last = f
	x.each(func(i int) { x.decide(i, nil, f) }, open, accepted)
}

// contentFault: our own content cannot be sent. What went wrong is for the log.
func (x *transaction) contentFault(err error) {
	if x.ctx.Err() != nil {
		x.failOpen(x.failure(lostReason(x.ctx, err), ""))
		return
	}
	x.s.p.o.Logger.Error("content cannot be sent", "msg", x.t.Message.ID, "err", err)
	x.failOpen(x.failure(policy.Internal, "the content cannot be sent as it is"))
}

// addresses are those that must not show in recorded replies.
func (x *transaction) addresses() []string {
	hide := []string{x.t.Message.Sender.String()}
	for i := range x.t.Recipients {
		a := x.t.Recipients[i].Address
		hide = append(hide, a.String(), a.Local+"@"+string(a.Domain))
	}
	return hide
}

// refusal turns a refusing reply into reply and failure, with the host's own
// enhanced status code, or that of the class alone.
func (x *transaction) refusal(command string, rep reply) (*queue.Reply, *policy.Failure) {
	said := rep.record(x.addresses)
	f := x.failure(byClass(rep, policy.ReplyTemporary, policy.ReplyPermanent), command+": "+printReply(said))
	if f.Reason != policy.ProtocolError {
		f.Status = said.Status
		if f.Status == "" {
			f.Status = strconv.Itoa(rep.code/100) + ".0.0"
		}
	}
	return said, f
}

func printReply(r *queue.Reply) string {
	s := strconv.Itoa(r.Code)
	if r.Status != "" {
		s += " " + r.Status
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	return s
}

// refuse decides everybody in the given states by one reply; it also ends the
// session when the reply says so.
func (x *transaction) refuse(command string, rep reply, in ...state) {
	said, f := x.refusal(command, rep)
	x.last = f
	x.s.c.reset = true
	x.each(func(i int) { x.decide(i, said, f) }, in...)
}

// closing handles 421, which can come in place of any reply (RFC 5321 3.8): what
// is not decided was not done.
func (x *transaction) closing(command string, rep reply) outcome {
	if x.first(1) {
		return stale
	}
	x.refuse(command, rep, open, accepted)
	x.s.c.close()
	return done
}

// first reports whether the connection is an old one that may have been dead
// from the start: at most n replies were seen since. Only one is replaced.
func (x *transaction) first(n int) bool {
	s := x.s
	return !s.replaced && (s.reused || x.prior) && s.c.replies-x.mark <= n && x.ctx.Err() == nil
}

// lost handles the end of the connection, a reply that is none, or none in time.
func (x *transaction) lost(err error) outcome {
	c := x.s.c
	// A reset says that the host did not read all that we sent. A plain end of file
	// after a whole message in one flight says nothing, unless the reset follows.
	if x.first(0) && (isReset(err) || isEOF(err) && (!x.ended || c.sys.refusedBytes(x.ctx))) {
		return stale
	}
	r := lostReason(x.ctx, err)
	if r != policy.Interrupted && (x.style == oneFlight || x.style == twoFlight && !x.ended) {
		x.s.p.quirks.stumbled(c.key.hostKey, x.style)
	}
	f := x.failure(r, detail(err))
	if x.ended {
		f.Reason = policy.Uncertain
	}
	c.close()
	x.failOpen(f)
	return done
}

// protocol handles a well-formed reply that makes no sense here.
func (x *transaction) protocol(command string, rep reply) outcome {
	x.s.c.broken = &protocolError{"the reply " + strconv.Itoa(rep.code) + " to " + command}
	return x.lost(x.s.c.broken)
}

// readEnvelope reads the replies to RSET (where owed), MAIL and all RCPT of a
// group. ok is false when the try is over.
func (x *transaction) readEnvelope(resetOwed resetOwed) (o outcome, ok bool) {
	if resetOwed {
		if o, ok := x.readReset(); !ok {
			return o, false
		}
	}
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
	if o, ok := x.usable("MAIL", rep, err); !ok {
		return o, false
	}
	if !rep.positive() {
		if x.refuseMAIL(rep) == stale {
			return stale, false
		}
	}
	for i := range x.batch {
		rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
		if o, ok := x.usable("RCPT", rep, err); !ok {
			return o, false
		}
		x.readRCPT(i, rep)
	}
	return done, true
}

// refuseMAIL handles a refused sender. Some hosts mean the connection (too many
// messages on it), and say so without 421: an old connection is replaced once, and
// none goes back to the pool.
func (x *transaction) refuseMAIL(rep reply) outcome {
	if x.first(1) {
		return stale
	}
	x.refuse("MAIL", rep, open)
	x.s.c.spent = true
	return done
}

// readRCPT takes the reply to one RCPT, unless MAIL has decided already.
func (x *transaction) readRCPT(i int, rep reply) {
	switch {
	case x.states[i] == decided:
	case rep.positive():
		x.states[i] = accepted
	default:
		said, f := x.refusal("RCPT", rep)
		// RFC 5321 4.5.3.1.10: 552 is to be taken for 452, too many recipients, unless the
		// enhanced code says that it is about something else (mailbox full, too big).
		if rep.code == 552 && (said.Status == "" || said.Status == "5.5.3") {
			f.Reason, f.Status = policy.ReplyTemporary, "4.5.3"
		}
		x.decide(i, said, f)
	}
}

// resetOwed: a RSET is in the flight, and its reply comes first.
type resetOwed bool

func (x *transaction) readReset() (outcome, bool) {
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
	if o, ok := x.usable("RSET", rep, err); !ok {
		return o, false
	}
	if !rep.positive() { // RFC 5321 4.3.2 knows only 250 here
		return x.protocol("RSET", rep), false
	}
	return done, true
}

// usable sorts out what ends a try: no reply, 421, a reply that makes no sense.
func (x *transaction) usable(command string, rep reply, err error) (outcome, bool) {
	switch {
	case err != nil:
		return x.lost(err), false
	case rep.closing():
		return x.closing(command, rep), false
	case rep.code/100 == 3:
		return x.protocol(command, rep), false
	}
	return done, true
}

// final reads the reply to the end of data, which decides everybody accepted.
func (x *transaction) final(command string) outcome {
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Data)
	if o, ok := x.usable(command, rep, err); !ok {
		return o
	}
	if !rep.positive() {
		x.refuse(command, rep, accepted)
		return done
	}
	said := rep.record(x.addresses)
	// The instant at which the host has taken responsibility (RFC 5321 4.2.5).
	x.each(func(i int) { x.decide(i, said, nil) }, accepted)
	return done
}

// contentError: an error of our own content, not of the connection.
type contentError struct{ error }

// broken sorts out an error in the middle of the content. The host may have said
// why it stopped listening; without an end of data nothing was accepted.
func (x *transaction) contentBroken(command string, err error) outcome {
	c := x.s.c
	var ours contentError
	if errors.As(err, &ours) {
		c.abort() // never QUIT or RSET: the host might take what it has for the whole
		x.contentFault(ours.error)
		return done
	}
	rep, rerr := c.reply(lateTimeout)
	if rerr != nil || rep.code < 400 {
		return x.lost(err)
	}
	x.refuse(command, rep, open, accepted)
	c.close()
	return done
}

// fill appends exactly n octets of the content to dst.
func (x *transaction) fill(dst []byte, n int) ([]byte, error) {
	from := len(dst)
	dst = slices.Grow(dst, n)[:from+n]
	if _, err := io.ReadFull(x.body, dst[from:]); err != nil {
		if isEOF(err) {
			err = errShort
		}
		return dst[:from], contentError{err}
	}
	return dst, nil
}

// atEnd makes sure that the content is over, as its size says.
func (x *transaction) atEnd() error {
	var one [1]byte
	switch n, err := io.ReadFull(x.body, one[:]); {
	case n > 0:
		return contentError{errLong}
	case err != io.EOF:
		return contentError{err}
	}
	return nil
}
