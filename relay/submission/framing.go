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
	none bool  // feed took no line that begins with a dot when it was called last
	tail uint8 // when bad: how many octets of CR LF . CR LF match
}

// feed reads on. n is the number of octets of p that are data, the end mark included.
func (f *framing) feed(p []byte) (n int, end bool) {
	n, ok := f.plain(p)
	if f.none = n == len(p) && !f.bad; f.none {
		return n, false
	}
	for n < len(p) && !f.bad {
		size, fine := f.line(p[n:])
		if !fine {
			f.spoil()
			break
		}
		n += size
		if f.col == 0 && f.dot { // line leaves dot set only for a lone one
			return n, true
		}
		if ok {
			size, ok = f.plain(p[n:])
			n += size
		}
	}
	for ; n < len(p); n++ {
		if f.tail = nextTail(f.tail, p[n]); f.tail == 5 {
			return n + 1, true
		}
	}
	return n, false
}

// plain takes lines up to the first one that begins with a dot: of most content, all, at the price of looking once for each LF.
// It takes nothing from inside a line with a dot or a CR LF. Not ok: there is a bare CR or LF, and line has to find it.
func (f *framing) plain(p []byte) (n int, ok bool) {
	if f.bad || f.dot || f.cr || len(p) == 0 {
		return 0, true
	}
	if f.col > 0 || p[0] != '.' {
		n = len(p)
	}
	ends, begin := 0, 0 // of lines, and of the last one
	for begin < n {
		i := bytes.IndexByte(p[begin:n], '\n')
		if i < 0 {
			break
		}
		if begin += i; begin == 0 || p[begin-1] != '\r' {
			return 0, false
		}
		ends++
		if begin++; begin < n && p[begin] == '.' {
			n = begin
		}
	}
	if n == 0 {
		return 0, true
	}
	cr := p[n-1] == '\r'
	if cr {
		ends++
	}
	if bytes.Count(p[:n], []byte{'\r'}) != ends { // every LF has its own, so another one is bare
		return 0, false
	}
	if begin > 0 {
		f.col = 0
	}
	f.col += n - begin
	f.cr = cr
	return n, true
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

// plain is copy for what begins no line with a dot, as framing says, and does not go on with one that does.
func (s *stuffing) plain(dst, src []byte) (n int) {
	if len(src) > 0 {
		s.inside = src[len(src)-1] != '\n'
	}
	return copy(dst, src)
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
