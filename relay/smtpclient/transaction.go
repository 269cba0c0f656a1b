package smtpclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

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
	done   outcome = iota
	stale          // the pooled connection was dead: nothing was accepted
	unsent         // the connection was lost before anything of the content was sent on it
	full           // the host takes no more domains on this connection
	again          // the host must be served more plainly, on the same connection
	more           // a chunk was taken, the next may go
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

	batch  []int      // indices of the recipients of the SMTP transaction
	states []state    // of the batch
	body   queue.Body // nil when it is closed
	size   int64
	style  style
	utf8   bool // MAIL has SMTPUTF8
	ended  bool // the end of data is out: the host may have the message
	mark   int  // replies of the connection before this transaction

	turn   *turn
	flight []byte  // what was composed before the turn came
	lent   *[]byte // its buffer
	owed   bool    // RSET is in the flight, and its reply comes first
	good   bool    // the host took the message
	// sequence: the host said 503 to what was in order. It reads no groups.
	sequence bool
	moving   bool // the host refused us the connection
}

// errRefused: the host wants no more messages on the connection.
var errRefused = errors.New("the host refuses the connection")

// badSequence is what a host says that has lost a command of a group (RFC 5321 4.2.2).
const badSequence = 503

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
	if x.shared() {
		x.s.p.quirks.jostled(x.s.c.key.hostKey)
	}
	if x.first(1) {
		return stale
	}
	x.refuse(command, rep, open, accepted)
	x.s.c.close()
	return done
}

// shared reports whether others flew with this transaction.
func (x *transaction) shared() bool { return x.s.c.line.mixed(x.turn) }

// first reports whether the connection is an old one that may have been dead
// from the start: at most n replies were seen since. Only one is replaced.
func (x *transaction) first(n int) bool {
	s := x.s
	return !s.replaced && (s.reused || x.turn.prior) && s.c.replies-x.mark <= n && x.ctx.Err() == nil
}

// lost handles the end of the connection, a reply that is none, or none in time.
func (x *transaction) lost(err error) outcome {
	c := x.s.c
	// A reset says that the host did not read all that we sent. A plain end of file
	// after a whole message in one flight says nothing, unless the reset follows. What it
	// did not read is the last that we sent: where others were sent behind, theirs.
	if x.first(0) && (!x.ended || c.line.last(x.turn)) &&
		(isReset(err) || isEOF(err) && (!x.ended || c.sys.refusedBytes(x.ctx))) {
		if x.shared() {
			x.s.p.quirks.jostled(c.key.hostKey)
		}
		return stale
	}
	r := lostReason(x.ctx, err)
	if r != policy.Interrupted {
		x.blame()
	}
	f := x.failure(r, detail(err))
	if x.ended {
		f.Reason = policy.Uncertain
	}
	c.close()
	x.failOpen(f)
	return done
}

// blame remembers what the host could not follow.
func (x *transaction) blame() {
	k := x.s.c.key.hostKey
	switch {
	case x.shared():
		x.s.p.quirks.jostled(k)
	case x.style == oneFlight || x.style == twoFlight && !x.ended:
		x.s.p.quirks.stumbled(k, x.style)
	}
}

// stumble is blame for a host that said so, and is asked again on this connection: the
// retry is plainer in any case.
func (x *transaction) stumble() {
	if x.shared() {
		x.s.p.quirks.jostled(x.s.c.key.hostKey)
	}
	x.s.p.quirks.stumbled(x.s.c.key.hostKey, x.style)
}

// plainer ends a transaction in which the host lost track of our commands: those that
// are left are sent again by the letter.
func (x *transaction) plainer() outcome {
	switch {
	case x.moving:
		return stale
	case !x.sequence:
		return done
	}
	x.s.c.reset = true
	x.s.p.quirks.stumbled(x.s.c.key.hostKey, twoFlight)
	x.reopen()
	return again
}

// protocol handles a well-formed reply that makes no sense here.
func (x *transaction) protocol(command string, rep reply) outcome {
	return x.lost(x.s.c.fail(&protocolError{"the reply " + strconv.Itoa(rep.code) + " to " + command}))
}

// hear waits until the replies are ours to read. ok is false when the try is over.
func (x *transaction) hear() (o outcome, ok bool) {
	c := x.s.c
	c.line.listen(x.turn)
	c.reset = false
	x.mark = c.replies
	c.readBy = x.limit()
	err, hearing := c.fault()
	switch {
	case err == nil, hearing && (x.ended || !x.turn.behind):
		return done, true
	case errors.Is(err, errClosing):
		// RFC 5321 3.8: the host said 421 to one before this, and hung up: what was
		// sent behind that was never looked at.
		return unsent, false
	case !x.ended:
		return unsent, false
	}
	return x.lost(err), false
}

// limit is when the transaction must be over, but for the last reply.
func (x *transaction) limit() time.Time {
	o := x.s.p.o.Timeouts
	return time.Now().Add(3*o.Command + o.Data + time.Duration(x.size/slowest)*time.Second)
}

// readEnvelope reads the replies to RSET (where owed), MAIL and all RCPT of a
// group. ok is false when the try is over.
func (x *transaction) readEnvelope() (o outcome, ok bool) {
	if x.owed {
		if o, ok := x.readReset(); !ok {
			return o, false
		}
	}
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
	if o, ok := x.usable("MAIL", rep, err); !ok {
		return o, false
	}
	sender := rep.positive()
	switch {
	case sender:
	case rep.code == badSequence && x.turn.behind:
		x.sequence = true // it is not done with the message before
	case x.refuseMAIL(rep) == stale:
		return stale, false
	}
	for i := range x.batch {
		rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
		if o, ok := x.usable("RCPT", rep, err); !ok {
			return o, false
		}
		if rep.code == badSequence && (sender || x.sequence) {
			x.sequence = true // after a MAIL that it took
			continue
		}
		x.readRCPT(i, rep)
	}
	return done, true
}

// refuseMAIL handles a refused sender. Some hosts mean the connection (too many
// messages on it), and say so without 421: an old connection is replaced once. Who refuses a sender in the same way
// on a fresh one is believed.
func (x *transaction) refuseMAIL(rep reply) outcome {
	k := x.s.c.key.hostKey
	switch {
	case !x.turn.prior && (!x.s.reused || x.s.replaced):
		x.s.p.quirks.meansSender(k, rep.code)
	case x.first(1) && !x.s.p.quirks.sender(k, rep.code):
		if x.s.c.line.last(x.turn) {
			_ = x.s.c.fail(errRefused) // its other replies are not read
			return stale
		}
		x.moving = true // when the replies are read, for others fly behind
		x.s.c.line.end()
		x.s.p.quirks.jostled(k)
		return done
	}
	x.refuse("MAIL", rep, open)
	return done
}

// readRCPT takes the reply to one RCPT, unless MAIL has decided already.
func (x *transaction) readRCPT(i int, rep reply) {
	switch {
	case x.states[i] == decided, x.moving:
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

func (x *transaction) readReset() (outcome, bool) {
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
	if o, ok := x.usable("RSET", rep, err); !ok {
		return o, false
	}
	if !rep.positive() { // RFC 5321 4.3.2 knows only 250 here
		if !x.ended {
			return x.protocol("RSET", rep), false
		}
		// The whole flight is out. What the host did with it, the replies to its other commands say;
		// behind those that fly nothing more is sent here.
		x.s.c.line.end()
		x.s.p.quirks.jostled(x.s.c.key.hostKey)
	}
	x.mark = x.s.c.replies // it says nothing of the message
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
		return x.plainer()
	}
	x.taken(rep)
	return x.plainer()
}

// taken: the instant at which the host has taken responsibility (RFC 5321 4.2.5).
func (x *transaction) taken(rep reply) {
	said := rep.record(x.addresses)
	x.each(func(i int) { x.decide(i, said, nil) }, accepted)
	x.good = true
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
