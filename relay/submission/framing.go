package submission

import "bytes"

// framing finds the end of DATA, CR LF . CR LF and nothing else (RFC 5321
// 4.1.1.4), in the raw octets, and notices the first bare CR or LF. After that
// it only looks for the end, so that what follows is never taken for commands
// (the smuggling class, field notes S13).
//
// It is needed in front of go-smtp, whose reader loses the CR of CR LF . CR X and does
// not see the end after CR CR LF (libraries.md F3). The zero value is the state
// after the CR LF of the DATA command.
type framing struct {
	col  int   // octets of the present line so far
	dot  bool  // the present line begins with a dot
	cr   bool  // the last octet was CR
	bad  bool  // a bare CR or LF was seen
	tail uint8 // when bad: how many octets of CR LF . CR LF match
}

// feed reads on. n is the number of octets of p that are data, the end mark included.
func (f *framing) feed(p []byte) (n int, end bool) {
	for n < len(p) && !f.bad {
		size, ok := f.line(p[n:])
		if !ok {
			f.spoil()
			break
		}
		n += size
		if f.col == 0 && f.dot { // line leaves dot set only for a lone one
			return n, true
		}
	}
	for ; n < len(p); n++ {
		if f.tail = nextTail(f.tail, p[n]); f.tail == 5 {
			return n + 1, true
		}
	}
	return n, false
}

// line takes the rest of one line, or all of p when it does not end there. Not ok:
// a bare CR or LF is in it, and nothing was taken.
func (f *framing) line(p []byte) (size int, ok bool) {
	nl := bytes.IndexByte(p, '\n')
	body := p
	if nl >= 0 {
		body = p[:nl]
	}
	cr := f.cr
	if len(body) > 0 {
		if f.cr {
			return 0, false
		}
		i := bytes.IndexByte(body, '\r')
		if i >= 0 && i != len(body)-1 {
			return 0, false
		}
		cr = i >= 0
	}
	if nl >= 0 && !cr {
		return 0, false
	}
	if f.col == 0 && len(body) > 0 {
		f.dot = body[0] == '.'
	}
	f.col += len(body)
	f.cr = cr
	if nl < 0 {
		return len(p), true
	}
	f.dot = f.dot && f.col == 2
	f.col, f.cr = 0, false
	return nl + 1, true
}

// spoil goes over to looking for the end only.
func (f *framing) spoil() {
	f.bad = true
	switch {
	case f.col == 0:
		f.tail = 2
	case f.dot && f.col == 1:
		f.tail = 3
	case f.dot && f.col == 2 && f.cr:
		f.tail = 4
	case f.cr:
		f.tail = 1
	}
}

// nextTail is the automaton for CR LF . CR LF.
func nextTail(state uint8, c byte) uint8 {
	const mark = "\r\n.\r\n"
	switch {
	case c == mark[state]:
		return state + 1
	case c == '\r':
		return 1
	default:
		return 0
	}
}

// stuffing takes the dots away that transparency has put before lines (RFC 5321 4.5.2),
// and the end mark. It is for octets that framing has passed: a CR behind a line's first dot
// is that of the end mark. The zero value is the beginning of a line.
type stuffing struct {
	inside bool // of a line
	lone   bool // its first dot was taken away, and nothing has followed yet
}

// copy copies what is content of src into dst, which has room for all of it.
func (s *stuffing) copy(dst, src []byte) (n int) {
	for len(src) > 0 {
		switch {
		case s.lone && (src[0] == '\r' || src[0] == '\n'):
			return n
		case !s.inside && src[0] == '.':
			s.inside, s.lone = true, true
			src = src[1:]
			continue
		}
		s.lone = false
		next := bytes.Index(src, []byte("\n.")) + 1
		if next == 0 {
			s.inside = src[len(src)-1] != '\n'
			return n + copy(dst[n:], src)
		}
		n += copy(dst[n:], src[:next])
		s.inside = false
		src = src[next:]
	}
	return n
}
