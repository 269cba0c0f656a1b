package smtpclient

import (
	"strconv"
	"time"
)

// chunked sends the batch as one flight: MAIL, RCPT and the first chunk (RFC
// 2920, 3030), of a small message with LAST; the rest of a large one when the
// replies are in. The first chunk before the replies goes beyond the letter of
// RFC 3030 2; a host with PIPELINING must discard chunks of a failed transaction.
func (x *transaction) chunked() outcome {
	c, size := x.s.c, x.body.Size()
	var check lines
	n := int(min(size, chunkSize))
	whole := lastChunk(int64(n) == size)
	out := appendBDAT(x.appendEnvelope(c.out), int64(n), whole)
	head := len(out)
	out, err := x.fill(out, n)
	if err == nil {
		err = x.checkChunk(&check, out[head:], whole)
	}
	if err != nil { // nothing was sent
		c.used--
		c.out = c.out[:0]
		x.contentFault(err)
		return done
	}
	owed := resetOwed(c.reset)
	c.reset = false
	c.out = out
	err = c.flush(x.blockTimeout())
	x.ended = bool(whole) && err == nil
	if o, ok := x.readEnvelope(owed); !ok {
		return o
	}
	if x.ended {
		c.limit = time.Time{}
	}
	if whole {
		return x.chunkReply(x.s.p.o.Timeouts.Data, whole)
	}
	if o := x.chunkReply(x.s.p.o.Timeouts.Command, whole); o != more {
		return o
	}
	return x.restInChunk(&check, size-int64(n))
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
	case rep.positive() && bool(last):
		said := rep.record(x.addresses)
		// The instant at which the host has taken responsibility (RFC 5321 4.2.5).
		x.each(func(i int) { x.decide(i, said, nil) }, accepted)
	case rep.positive():
		return more
	case rep.code >= 500 && rep.code <= 504:
		// It offers CHUNKING and does not know BDAT, or not so early: DATA will do.
		x.s.p.quirks.stumbled(x.s.c.key.hostKey, oneFlight)
		x.s.c.reset = true
		x.reopen()
		return again
	default:
		x.refuse("BDAT", rep, accepted)
	}
	return done
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
	c.limit = time.Time{}
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
