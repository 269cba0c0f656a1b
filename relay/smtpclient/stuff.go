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

// check looks at the next octets, once for each LF. Where each of them has its CR, and there are no more CR than
// that, none is bare.
func (l *lines) check(p []byte) error {
	_, err := l.follow(p)
	return err
}

// follow is check that says whether a line of p begins with a dot.
func (l *lines) follow(p []byte) (dotted bool, err error) {
	if len(p) == 0 {
		return false, nil
	}
	if l.cr && p[0] != '\n' {
		return false, errBareCR
	}
	dotted = !l.midLine && p[0] == '.'
	begin, crs := 0, 0 // of the line; CRs that stand where they should
	for {
		i := bytes.IndexByte(p[begin:], '\n')
		if i < 0 {
			break
		}
		end := begin + i
		switch {
		case end > 0 && p[end-1] == '\r':
			crs++
		case end > 0 || !l.cr:
			return false, errBareLF
		}
		if begin = end + 1; begin < len(p) && p[begin] == '.' {
			dotted = true
		}
	}
	cr := p[len(p)-1] == '\r'
	if cr {
		crs++
	}
	if bytes.Count(p, []byte{'\r'}) != crs {
		return false, errBareCR
	}
	l.cr, l.midLine = cr, begin < len(p)
	return dotted, nil
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

// stuff appends what was checked. start: p begins with a line; dotted: one in it begins with a dot.
func stuff(dst, p []byte, start, dotted bool) []byte {
	// On a new connection dst is new: it would double its way up to the content.
	dst = slices.Grow(dst, len(p)+stuffRoom)
	if !dotted {
		return append(dst, p...)
	}
	if start && p[0] == '.' {
		dst = append(dst, '.')
	}
	for {
		// The content was checked: an LF ends a line.
		i := bytes.Index(p, []byte("\n.")) + 1
		if i == 0 {
			return append(dst, p...)
		}
		dst = append(append(dst, p[:i]...), '.')
		p = p[i:]
	}
}
