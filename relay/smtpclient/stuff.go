package smtpclient

import (
	"bytes"
	"errors"
	"slices"
)

// stuffRoom is for the dots that a content gets, the last one, and a little.
const stuffRoom = 64

// Errors of the content. They are our own faults: such a content should have been
// refused at submission.
var (
	errBareCR    = errors.New("the content has a CR without LF")
	errBareLF    = errors.New("the content has a LF without CR")
	errNoLineEnd = errors.New("the content does not end with CRLF")
	errShort     = errors.New("the content is shorter than it said")
	errLong      = errors.New("the content is longer than it said")
)

// lines follows a content through any cuts and makes sure that each CR and LF
// stands in a CRLF (RFC 5321 2.3.8: both MUST NOT be sent otherwise). A receiver
// that sees an end of data in anything else would read the rest as commands.
type lines struct {
	midLine bool // the last octet was not the end of a line; false at the start
	cr      bool // the last octet was a CR
}

// check looks at the next octets.
func (l *lines) check(p []byte) error {
	for len(p) > 0 {
		if l.cr {
			if p[0] != '\n' {
				return errBareCR
			}
			l.cr, l.midLine = false, false
			p = p[1:]
			continue
		}
		i := bytes.IndexByte(p, '\r')
		upTo := i
		if i < 0 {
			upTo = len(p)
		}
		if bytes.IndexByte(p[:upTo], '\n') >= 0 {
			return errBareLF
		}
		l.midLine = true
		if i < 0 {
			return nil
		}
		l.cr = true
		p = p[i+1:]
	}
	return nil
}

// end is called after the last octet. An empty content is fine.
func (l *lines) end() error {
	switch {
	case l.cr:
		return errBareCR
	case l.midLine:
		return errNoLineEnd
	}
	return nil
}

// stuffer is the sender's half of RFC 5321 4.5.2: a line that begins with a dot
// gets another one. It changes nothing else, so that signatures stay good.
type stuffer struct{ lines }

// appendTo appends the next octets, stuffed, to dst. On an error nothing of p was
// appended.
func (s *stuffer) appendTo(dst, p []byte) ([]byte, error) {
	start := !s.midLine && !s.cr
	if err := s.check(p); err != nil {
		return dst, err
	}
	// On a new connection dst is new: it would double its way up to the content.
	dst = slices.Grow(dst, len(p)+stuffRoom)
	for len(p) > 0 {
		if start && p[0] == '.' {
			dst = append(dst, '.')
		}
		// The content was checked: an LF ends a line.
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return append(dst, p...), nil
		}
		dst = append(dst, p[:i+1]...)
		p = p[i+1:]
		start = true
	}
	return dst, nil
}
