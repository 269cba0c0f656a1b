package submission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/queue"
)

// rules are what content must keep to, and where findings go.
type rules struct {
	maxBytes    int64 // of the whole content
	maxHeader   int   // of the header section
	maxLine     int   // of a line
	maxReceived int
	utf8        bool                     // SMTPUTF8 was given (RFC 6531)
	allows      func(queue.Address) bool // nil: any From
	trace       string                   // the Received field to put on top, with its CR LF
	hostname    string
	now         time.Time
	message     *queue.Message // gets the wishes of the header, and EightBit at the end of the body
	buffer      *[]byte        // room for the header, used until the end of the content and kept as grown; nil: none
}

// content is a message on its way in: the header checked and edited at the
// beginning, the body checked as it streams past. It never holds more than the header.
type content struct {
	rules
	src    io.Reader
	lines  lineCheck
	head   []byte // edited header
	rest   []byte // what was read beyond it
	octets int64  // as received
	ended  bool   // src came to its end
	done   bool   // everything was handed out
	err    error  // why it was refused; sticky
}

// minRead is the least room that fill is given.
const minRead = 512

// Rooms for headers: what one begins with, and what is kept for the next message.
const (
	headerRoom = 8 << 10
	maxKept    = 32 << 10
)

// newContent reads and edits the header section. The error is a *reply.
func newContent(src io.Reader, r rules) (*content, error) {
	c := &content{rules: r, src: src, lines: lineCheck{max: r.maxLine}}
	_, c.lines.paired = src.(dataReader) // framing has looked
	if c.err = c.readHeader(); c.err != nil {
		return nil, c.err
	}
	return c, nil
}

// readHeader takes in the header section and a little more.
func (c *content) readHeader() error {
	if c.buffer == nil {
		c.buffer = new([]byte)
	}
	raw := (*c.buffer)[:0]
	h := header{fields: make([]field, 0, 16)}
	for {
		h.ended = c.ended
		end := h.scan(raw)
		switch {
		case end > c.maxHeader, end < 0 && len(raw) > c.maxHeader:
			return errHeaderTooBig(c.maxHeader)
		case end >= 0:
			edited, err := c.edit(&h, raw[:end])
			if err != nil {
				return err
			}
			c.head, c.rest = edited, raw[h.body:]
			if cap(raw) <= maxKept {
				*c.buffer = raw
			}
			return nil
		}
		raw = slices.Grow(raw, minRead)
		n, err := c.fill(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if err != nil {
			return err
		}
	}
}

// Read hands out the edited header, then the body.
func (c *content) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case len(c.head) > 0:
		n := copy(p, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head, c.rest = c.rest, nil
		}
		return n, nil
	case c.ended:
		c.done = true
		c.message.EightBit = c.lines.eightBit
		return 0, io.EOF
	case len(p) < minRead: // fill needs room for the CR LF that it may add
		b := make([]byte, minRead)
		n, err := c.fill(b)
		c.head, c.err = b[:n], err
		n = copy(p, c.head)
		c.head = c.head[n:]
		return n, err
	default:
		n, err := c.fill(p)
		c.err = err
		return n, err
	}
}

// fill reads and checks some octets. At the end it adds the CR LF that the last line
// lacks (possible with BDAT only).
func (c *content) fill(p []byte) (n int, err error) {
	n, err = c.src.Read(p[:len(p)-2])
	c.octets += int64(n)
	if c.octets > c.maxBytes {
		return 0, errTooBig()
	}
	if bad := c.lines.feed(p[:n]); bad != nil {
		return 0, bad
	}
	switch {
	case err == io.EOF:
		c.ended = true
		if c.lines.cr {
			return 0, errNewline()
		}
		if c.lines.col > 0 {
			n += copy(p[n:], "\r\n")
			c.lines.col = 0
		}
		return n, nil
	case err != nil:
		return 0, sourceFault(err)
	default:
		return n, nil
	}
}

// sourceFault makes a reply of what the gate or go-smtp's pipe said.
func sourceFault(err error) error {
	var s *smtp.SMTPError
	if !errors.As(err, &s) {
		return errAborted()
	}
	why := reasonBroken
	switch s.Code {
	case 552:
		why = reasonSize
	case 554:
		why = reasonNewline
	}
	return &reply{s.Code, status(s.EnhancedCode), s.Message, why}
}

// lineCheck looks at every octet of content once. It refuses bare CR and bare LF
// (RFC 5321 2.3.8, 4.1.1.4), NUL (RFC 2045 2.7 and 2.8 forbid it in 7bit and 8bit data,
// and receivers that drop it could join what it kept apart) and lines beyond max. Lines
// over 998 octets (RFC 5322 2.1.1) are let pass up to there: applications send them.
type lineCheck struct {
	max      int
	paired   bool // there are no bare CR and LF
	number   int  // of finished lines
	col      int  // octets of the present line so far, the CR included
	cr       bool // the last octet was CR
	eightBit bool
}

func (l *lineCheck) feed(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if !l.eightBit && queue.HasEightBit(p) {
		l.eightBit = true
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return errContent("NUL octet in the content")
	}
	if !l.paired && !l.pairs(p) {
		return errNewline()
	}
	return l.lengths(p)
}

// pairs reports whether every CR and LF of p stands in a CR LF. It looks once for each LF: where each of them has its
// CR, and there are no more CR than that, none is bare.
func (l *lineCheck) pairs(p []byte) bool {
	ends := 0
	for at := 0; ; at++ {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		if at += i; at > 0 && p[at-1] != '\r' || at == 0 && !l.cr {
			return false
		}
		ends++
	}
	if l.cr {
		if p[0] != '\n' {
			return false
		}
		ends-- // its CR was counted before
	}
	if l.cr = p[len(p)-1] == '\r'; l.cr {
		ends++
	}
	return bytes.Count(p, []byte{'\r'}) == ends
}

// lengths goes through lines by the longest step that no line is too long for.
func (l *lineCheck) lengths(p []byte) error {
	for {
		room := l.max - l.col // before the LF
		window := p[:min(len(p), room+1)]
		end := bytes.LastIndexByte(window, '\n') + 1
		l.number += bytes.Count(window[:end], []byte{'\n'})
		switch {
		case len(p) <= room && end == 0:
			l.col += len(p)
			return nil
		case len(p) <= room:
			l.col = len(p) - end
			return nil
		case end == 0:
			return errContent(fmt.Sprintf("line %d has more than %d octets: fold or encode it", l.number+1, l.max))
		}
		l.col, p = 0, p[end:]
	}
}
