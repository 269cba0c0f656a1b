package smtpclient

import (
	"io"
	"time"
)

// grouped sends MAIL, RCPT and DATA in one write (RFC 2920 3.1), unless they have gone
// behind the content before, and the content when the replies allow it.
func (x *transaction) grouped() outcome {
	c := x.s.c
	if !x.turn.rode {
		if x.owed {
			c.out = append(c.out, rset...)
		}
		c.out = append(c.out, x.flight...)
		// An error shows when the replies are read: those that came before still count.
		_ = c.flush(x.blockTimeout())
	}
	if o, ok := x.hear(); !ok {
		return o
	}
	x.recycle()
	if o, ok := x.readEnvelope(); !ok {
		return o
	}
	return x.readDATA()
}

// readDATA takes the reply to DATA and goes on as it says.
func (x *transaction) readDATA() outcome {
	rep, err := x.s.c.reply(x.s.p.o.Timeouts.Command)
	switch {
	case err != nil:
		return x.lost(err)
	case rep.closing():
		return x.closing("DATA", rep)
	case rep.code == 354 && x.any(accepted):
		return x.content()
	case rep.code == 354:
		return x.loneDot()
	case rep.code < 400:
		return x.protocol("DATA", rep)
	case rep.code == badSequence && x.style == twoFlight && x.any(accepted):
		// It has taken MAIL and RCPT and knows nothing of them: one at a time, then.
		x.s.c.reset = true
		x.stumble()
		x.reopen()
		return again
	}
	x.refuse("DATA", rep, accepted)
	return x.plainer()
}

// loneDot ends a DATA that was accepted though no recipient was (RFC 2920 3.1):
// the host must send this empty message to nobody (3.2).
func (x *transaction) loneDot() outcome {
	c := x.s.c
	c.line.soil(x.turn)
	rep, err := c.command(".", x.s.p.o.Timeouts.Data)
	if o, ok := x.usable("DATA", rep, err); !ok {
		return o // everybody has a result already
	}
	c.reset = true
	return x.plainer()
}

// dialogue sends one command at a time, by the letter of RFC 5321 alone.
func (x *transaction) dialogue() outcome {
	c, timeout := x.s.c, x.s.p.o.Timeouts.Command
	if o, ok := x.hear(); !ok {
		return o
	}
	if x.owed {
		c.out = append(c.out, rset...)
		_ = c.flush(x.blockTimeout()) // an error shows when the reply is read
		if o, ok := x.readReset(); !ok {
			return o
		}
	}
	c.out = x.appendMAIL(c.out)
	_ = c.flush(x.blockTimeout())
	rep, err := c.reply(timeout)
	if o, ok := x.usable("MAIL", rep, err); !ok {
		return o
	}
	if !rep.positive() {
		return x.refuseMAIL(rep)
	}
	for i := range x.batch {
		c.out = x.appendRCPT(c.out, i)
		_ = c.flush(x.blockTimeout())
		rep, err := c.reply(timeout)
		if o, ok := x.usable("RCPT", rep, err); !ok {
			return o
		}
		x.readRCPT(i, rep)
	}
	if !x.any(accepted) {
		c.reset = true
		return done
	}
	c.out = append(c.out, "DATA\r\n"...)
	_ = c.flush(x.blockTimeout())
	return x.readDATA()
}

// content streams the content, stuffed, and the end of data, and reads the reply.
func (x *transaction) content() outcome {
	c := x.s.c
	if err := x.stream(); err != nil {
		return x.contentBroken("DATA", err)
	}
	x.ended = true
	c.line.pass(x.turn)
	c.readBy = time.Time{} // the host has all of Timeouts.Data for its answer
	return x.final("DATA")
}

// stream writes the content and the final dot, and the commands of the next message. The dot goes out only behind a
// content that is whole.
func (x *transaction) stream() error {
	c := x.s.c
	var s stuffer
	buf := x.s.p.buffers.Get().(*[flightSize]byte)
	defer x.s.p.buffers.Put(buf)
	for left := x.body.Size(); left > 0; {
		n, err := x.body.Read(buf[:min(left, flightSize)])
		left -= int64(n)
		switch {
		case err == io.EOF && left > 0:
			return contentError{errShort}
		case err != nil && err != io.EOF:
			return contentError{err}
		}
		start := !s.midLine
		dotted, err := s.follow(buf[:n])
		if err != nil {
			return contentError{err}
		}
		if !dotted && n == flightSize && left > 0 && len(c.out) == 0 {
			err = c.write(buf[:n], x.blockTimeout()) // as it is
		} else if c.out = stuff(c.out, buf[:n], start, dotted); len(c.out) >= flightSize && left > 0 {
			err = c.flush(x.blockTimeout())
		}
		if err != nil {
			return err
		}
	}
	if err := s.end(); err != nil {
		return contentError{err}
	}
	if err := x.atEnd(); err != nil {
		return err
	}
	c.out = append(c.out, ".\r\n"...)
	x.closeBody()
	// RFC 2920 3.1: the content may be the first of a group.
	next := c.line.ride(x.turn)
	c.out = append(c.out, next...)
	err := c.flush(x.blockTimeout())
	if next != nil {
		return nil // what failed may be the commands behind: the reply, or its lack, will tell
	}
	return err
}

// blockTimeout bounds one write.
func (x *transaction) blockTimeout() time.Duration {
	return min(blockTimeout, x.s.p.o.Timeouts.Data)
}
