package relaytest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// path takes <address> and the parameters from an argument.
func path(arg, prefix string) (address string, params []string, ok bool) {
	if !hasPrefixFold(arg, prefix) {
		return "", nil, false
	}
	rest := strings.TrimLeft(arg[len(prefix):], " ")
	if !strings.HasPrefix(rest, "<") {
		return "", nil, false
	}
	quoted := false
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return rest[1:i], strings.Fields(rest[i+1:]), i+1 == len(rest) || rest[i+1] == ' '
		}
	}
	return "", nil, false
}

// unoffered returns the first parameter that belongs to no extension on offer.
func (s *session) unoffered(params []string, owners map[string]string) string {
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		owner, known := owners[strings.ToUpper(name)]
		if strings.EqualFold(p, "BODY=7BIT") || strings.EqualFold(p, "BODY=8BITMIME") {
			owner = "8BITMIME"
		}
		if !known || !s.offers(owner) || strings.EqualFold(value, "BINARYMIME") && !s.offers("BINARYMIME") {
			return p
		}
	}
	return ""
}

func (s *session) mail(arg string) (string, error) {
	from, params, ok := path(arg, "FROM:")
	usual := "250 2.1.0 sender ok"
	bad := s.unoffered(params, map[string]string{"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN",
		"REQUIRETLS": "REQUIRETLS", "AUTH": "AUTH", "BY": "DELIVERBY", "MT-PRIORITY": "MT-PRIORITY"})
	switch {
	case !s.helo:
		s.breach("MAIL before EHLO")
		usual = "503 5.5.1 EHLO first"
	case s.open:
		s.breach("MAIL within a transaction")
		usual = "503 5.5.1 there is a transaction already"
	case !ok:
		s.breach("MAIL %q", arg)
		usual = "501 5.5.4 FROM:<address>"
	case bad != "":
		s.breach("MAIL parameter %q was not offered", bad)
		usual = "555 5.5.4 unknown parameter"
	case s.tooLarge(params):
		usual = "552 5.3.4 the message is too large"
	}
	said, err := s.reply(s.ask(Event{Phase: MAIL, Argument: arg, Sender: from}), usual)
	if err == nil && strings.HasPrefix(said, "2") {
		s.open = true
		s.draft = Message{Session: s.number, From: from, FromParams: params}
		if s.state != nil {
			s.draft.TLS, s.draft.Suite = s.state.Version, s.state.CipherSuite
		}
	}
	return said, err
}

// tooLarge reports whether the size is declared and above the limit (RFC 1870 6.1).
func (s *session) tooLarge(params []string) bool {
	for _, p := range params {
		if name, value, _ := strings.Cut(p, "="); strings.EqualFold(name, "SIZE") {
			n, err := strconv.ParseInt(value, 10, 64)
			return s.b.Size > 0 && (err != nil || n > s.b.Size)
		}
	}
	return false
}

func (s *session) rcpt(arg string) (string, error) {
	to, params, ok := path(arg, "TO:")
	usual := "250 2.1.5 recipient ok"
	bad := s.unoffered(params, map[string]string{"NOTIFY": "DSN", "ORCPT": "DSN", "RRVS": "RRVS"})
	switch {
	case !s.open:
		usual = "503 5.5.1 MAIL first"
	case !ok || to == "":
		s.breach("RCPT %q", arg)
		usual = "501 5.5.4 TO:<address>"
	case bad != "":
		s.breach("RCPT parameter %q was not offered", bad)
		usual = "555 5.5.4 unknown parameter"
	}
	said, err := s.reply(s.ask(Event{Phase: RCPT, Argument: arg, Recipient: to}), usual)
	if err == nil && strings.HasPrefix(said, "2") && s.open {
		s.draft.Recipients = append(s.draft.Recipients, Recipient{to, params})
	}
	return said, err
}

func (s *session) data() (string, error) {
	usual := "354 go ahead"
	switch {
	case s.chunked:
		s.breach("DATA after BDAT (RFC 3030 2)")
		usual = "503 5.5.1 BDAT has begun"
	case !s.open || len(s.draft.Recipients) == 0:
		usual = "503 5.5.1 no recipients"
	}
	said, err := s.say(DATA, "", usual)
	if err != nil || !strings.HasPrefix(said, "3") {
		return said, err
	}
	body := s.ask(Event{Phase: Body})
	if err := s.readBody(body); err != nil {
		return said, err
	}
	if !body.ordinary() && body.Then != GoOn {
		// The body was shorter than the script wanted.
		_ = s.then(body.Then)
		return said, errOver
	}
	return said, s.finish()
}

// finish answers a whole body and records the message.
func (s *session) finish() error {
	usual := "250 2.0.0 taken"
	if s.b.Size > 0 && s.draft.Size > s.b.Size {
		usual = "552 5.3.4 the message is too large"
	}
	s.eightBit()
	said, err := s.say(Dot, "", usual)
	m := s.draft
	m.Reply, m.Accepted = strings.ReplaceAll(said, "\n", "\r\n"), strings.HasPrefix(said, "2")
	r := &s.host.record
	r.change(func() {
		if !s.b.Sink {
			// Under the lock: who hears the reply finds the message here, and who finds the message
			// may end the host at once.
			_ = s.w.Flush()
		}
		r.stats.Finished++
		if m.Accepted {
			r.stats.Messages++
			r.stats.Recipients += len(m.Recipients)
			r.stats.Bytes += m.Size
		}
		if !s.b.Sink {
			r.messages = append(r.messages, m)
		}
	})
	s.reset()
	return err
}

// eightBit notes 8-bit content that was not declared or not on offer (RFC 6152 3).
func (s *session) eightBit() {
	for _, c := range s.draft.Body {
		if c < 0x80 {
			continue
		}
		if !s.offers("8BITMIME") {
			s.breach("8-bit content, and 8BITMIME was not offered")
		}
		return
	}
}

// readBody reads until the final dot, which is CRLF . CRLF and nothing else
// (RFC 5321 4.1.1.4). The error is errOver when the script or the client ended it.
func (s *session) readBody(a Act) error {
	if err := s.w.Flush(); err != nil {
		return errOver
	}
	if a.Delay > 0 && !s.pause(a.Delay) {
		return errOver
	}
	atStart, seen := true, 0
	for {
		if a.Then != GoOn && seen >= a.Octets {
			return s.then(a.Then)
		}
		if a.Then != GoOn && a.Octets-seen < 1000 {
			// Near the end: octet by octet, so that it comes at the right one.
			n, err := io.CopyN(io.Discard, s.r, int64(a.Octets-seen))
			seen += int(n)
			if err != nil {
				return errOver
			}
			continue
		}
		line, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return errOver
		}
		seen += len(line)
		if atStart && string(line) == ".\r\n" {
			return nil
		}
		if atStart && line[0] == '.' {
			line = line[1:]
		}
		atStart = bytes.HasSuffix(line, []byte("\r\n"))
		if !atStart && err == nil {
			s.breach("a line of the body ends in a bare LF")
		}
		s.keep(line)
	}
}

func (s *session) keep(b []byte) {
	s.draft.Size += int64(len(b))
	if !s.b.Sink {
		s.draft.Body = append(s.draft.Body, b...)
	}
}

// bdat reads one chunk (RFC 3030 2). Chunks of a transaction that failed are read
// and thrown away.
func (s *session) bdat(arg string) (string, error) {
	size, last, err := chunkSize(arg)
	if err != nil {
		s.breach("BDAT %q", arg)
		_, _ = s.say(BDAT, arg, "501 5.5.4 BDAT size [LAST]")
		return "", errOver // where the next command begins, nobody knows
	}
	if !s.offers("CHUNKING") {
		s.breach("BDAT was not offered")
	}
	a := s.ask(Event{Phase: Body})
	if a.Delay > 0 && !s.pause(a.Delay) {
		return "", errOver
	}
	if a.Then != GoOn {
		_, _ = io.CopyN(io.Discard, s.r, min(size, int64(a.Octets)))
		_ = s.w.Flush()
		return "", s.then(a.Then)
	}
	usual := fmt.Sprintf("250 2.0.0 %d octets received", size)
	ok := s.open && len(s.draft.Recipients) > 0 && s.offers("CHUNKING")
	switch {
	case !s.offers("CHUNKING"):
		usual = "502 5.5.1 not here"
	case !ok:
		usual = "503 5.5.1 no recipients"
	}
	take := s.keep
	if !ok {
		take = func([]byte) {}
	}
	if err := s.chunk(size, take); err != nil {
		return "", errOver
	}
	if ok && last {
		s.draft.BDAT = true
		if a := s.ask(Event{Phase: BDAT, Argument: arg}); !a.ordinary() {
			said, err := s.reply(a, usual)
			s.reset()
			return said, err
		}
		return "", s.finish()
	}
	said, err := s.say(BDAT, arg, usual)
	if ok && strings.HasPrefix(said, "2") {
		s.chunked = true
	} else {
		s.reset()
	}
	return said, err
}

// chunkSize reads "size [LAST]" (RFC 3030 2).
func chunkSize(arg string) (size int64, last bool, err error) {
	words := strings.Fields(arg)
	if len(words) == 2 && strings.EqualFold(words[1], "LAST") {
		words, last = words[:1], true
	}
	if len(words) != 1 {
		return 0, false, errors.New("relaytest: BDAT size [LAST]")
	}
	n, err := strconv.ParseUint(words[0], 10, 62)
	return int64(n), last, err
}

// chunk reads the octets of a chunk.
func (s *session) chunk(size int64, take func([]byte)) error {
	if s.r.Buffered() == 0 {
		if err := s.w.Flush(); err != nil {
			return err
		}
	}
	for size > 0 {
		part, err := s.r.Peek(int(min(size, 32<<10)))
		if len(part) == 0 {
			return err
		}
		take(part)
		n, _ := s.r.Discard(len(part))
		size -= int64(n)
	}
	return nil
}
