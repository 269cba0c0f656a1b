package smtpclient

import (
	"strconv"
	"time"
)

// compose makes what can be made before the pen is there: of a small message the
// whole flight, MAIL, RCPT and BDAT LAST (RFC 2920, 3030); of one that begins
// with a group, that group, which may ride behind the one before. RSET is in front of
// a flight, and left out where it is not due.
func (x *transaction) compose() error {
	size := x.body.Size()
	switch {
	case x.style == twoFlight:
		x.turn.kind = groupKind
		x.flight = append(x.appendEnvelope(x.buffer()), "DATA\r\n"...)
		x.turn.head = x.flight
	case x.style == oneFlight && size <= chunkSize:
		x.turn.kind, x.turn.octets = chunkKind, int(size)
		out := appendBDAT(x.appendEnvelope(append(x.buffer(), rset...)), size, true)
		head := len(out)
		out, err := x.fill(out, int(size))
		if err == nil {
			var check lines
			err = x.checkChunk(&check, out[head:], true)
		}
		x.flight, x.turn.head = out, out
		x.closeBody() // it is all there
		return err
	}
	return nil
}

// chunked sends the batch as one flight. A large content has its first chunk in the
// flight, and the rest when the replies are in. The first chunk before the replies goes
// beyond the letter of RFC 3030 2; a host with PIPELINING must discard chunks of a
// failed transaction.
func (x *transaction) chunked() outcome {
	if x.flight == nil {
		return x.large()
	}
	c := x.s.c
	if x.turn.carried {
		x.ended = x.turn.sent
	} else {
		out := x.flight
		if !x.owed {
			out = out[len(rset):]
		}
		x.sendFlight(out)
	}
	x.recycle()
	if o, ok := x.hear(); !ok {
		return o
	}
	if o, ok := x.readEnvelope(); !ok {
		return o
	}
	if x.ended {
		c.readBy = time.Time{}
	}
	return x.chunkReply(x.s.p.o.Timeouts.Data, true)
}

// sendFlight writes our flight, and those of others that may go with it. An error shows
// when the replies are read: those that came before still count.
func (x *transaction) sendFlight(out []byte) {
	c := x.s.c
	defer c.line.pass(x.turn)
	others := c.line.ride(x.turn)
	if others == nil {
		x.ended = c.write(out, x.blockTimeout()) == nil
		return
	}
	went := nothing
	if c.dead() == nil {
		went = everything
		c.out = append(append(c.out, out...), others...)
		if c.flush(x.blockTimeout()) != nil {
			went = some
		}
	}
	x.ended = went != nothing
	c.line.carry(x.turn, went)
}

// large sends a content in two chunks.
func (x *transaction) large() outcome {
	c, size := x.s.c, x.body.Size()
	var check lines
	if x.owed {
		c.out = append(c.out, rset...)
	}
	out := appendBDAT(x.appendEnvelope(c.out), chunkSize, false)
	head := len(out)
	out, err := x.fill(out, chunkSize)
	if err == nil {
		err = x.checkChunk(&check, out[head:], false)
	}
	c.out = out
	if err != nil { // nothing was sent
		c.out = c.out[:0]
		x.contentFault(err)
		return done
	}
	_ = c.flush(x.blockTimeout())
	if o, ok := x.hear(); !ok {
		return o
	}
	if o, ok := x.readEnvelope(); !ok {
		return o
	}
	if o := x.chunkReply(x.s.p.o.Timeouts.Command, false); o != more {
		return o
	}
	return x.restInChunk(&check, size-chunkSize)
}

// lastChunk: the chunk has LAST, and its reply is the message's.
type lastChunk bool

// chunkReply reads the reply to a first chunk.
func (x *transaction) chunkReply(timeout time.Duration, last lastChunk) outcome {
	rep, err := x.s.c.reply(timeout)
	if o, ok := x.usable("BDAT", rep, err); !ok {
		return o
	}
	switch {
	case !x.any(accepted):
		// Nobody was accepted: the host was to refuse the chunk. Whatever it says, the
		// next transaction begins with RSET (RFC 3030 2).
		x.s.c.reset = true
		return x.plainer()
	case rep.positive() && bool(last):
		x.taken(rep)
	case rep.positive():
		return more
	case rep.code >= 500 && rep.code <= 504:
		// It offers CHUNKING and does not know BDAT, or not so early: DATA will do.
		x.s.c.reset = true
		x.stumble()
		x.reopen()
		return again
	default:
		x.refuse("BDAT", rep, accepted)
	}
	return x.plainer()
}

// restInChunk sends the rest of a large content as one chunk.
func (x *transaction) restInChunk(check *lines, rest int64) outcome {
	c := x.s.c
	c.out = appendBDAT(c.out, rest, true)
	for rest > 0 {
		n := int(min(rest, flightSize))
		from := len(c.out)
		out, err := x.fill(c.out, n)
		c.out = out
		if err == nil {
			rest -= int64(n)
			err = x.checkChunk(check, c.out[from:], lastChunk(rest == 0))
		}
		if err == nil {
			err = c.flush(x.blockTimeout())
		}
		if err != nil {
			return x.contentBroken("BDAT", err)
		}
	}
	x.ended = true
	c.line.pass(x.turn)
	c.readBy = time.Time{}
	return x.final("BDAT")
}

// reopen makes the accepted recipients open again, for another try.
func (x *transaction) reopen() {
	var batch []int
	x.each(func(i int) { batch = append(batch, x.batch[i]) }, open, accepted)
	x.begin(batch)
}

// checkChunk follows the content; at its end it makes sure that it is whole.
func (x *transaction) checkChunk(l *lines, p []byte, last lastChunk) error {
	if err := l.check(p); err != nil {
		return contentError{err}
	}
	if !last {
		return nil
	}
	if err := l.end(); err != nil {
		return contentError{err}
	}
	return x.atEnd()
}

func appendBDAT(b []byte, n int64, last lastChunk) []byte {
	b = append(b, "BDAT "...)
	b = strconv.AppendInt(b, n, 10)
	if last {
		b = append(b, " LAST"...)
	}
	return append(b, "\r\n"...)
}
