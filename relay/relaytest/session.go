package relaytest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// errOver ends a session: the script wanted it, or the client is gone.
var errOver = errors.New("relaytest: the session is over")

// maxLine is the longest command line that is taken: RFC 5321 4.5.3.1.4 says 512,
// RFC 4954 and long parameters ask for more.
const maxLine = 16 << 10

// maxBreaches bounds what is noted: a sink lives long.
const maxBreaches = 1000

// session is one connection. It belongs to one goroutine.
type session struct {
	host   *Host
	b      *Behaviour
	number int
	ended  <-chan struct{} // closed when the host ends the connection
	raw    net.Conn        // the TCP connection
	conn   net.Conn        // raw, or TLS over it
	state  *tls.ConnectionState
	r      *bufio.Reader
	w      *bufio.Writer
	counts [Unknown + 1]int

	helo    bool     // EHLO or HELO was accepted since the start or the handshake
	offered []string // keywords of the EHLO reply; nil after HELO
	open    bool     // MAIL was accepted
	chunked bool     // a BDAT of this transaction was accepted
	draft   Message
}

func (h *Host) serve(c net.Conn, ended <-chan struct{}) {
	s := &session{host: h, ended: ended, b: h.behaviour.Load(), raw: c, conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 16<<10)}
	h.record.change(func() {
		h.record.stats.Sessions++
		h.record.stats.Open++
		s.number = h.record.stats.Sessions
		h.record.sessions = append(h.record.sessions, SessionRecord{Number: s.number, Remote: c.RemoteAddr().String(), Open: true})
	})
	defer h.record.change(func() {
		h.record.stats.Open--
		h.record.sessions[s.number-1].Open = false
	})
	if s.step(Event{Phase: Greeting}, fmt.Sprintf("220 %s ESMTP", s.b.Name)) != nil {
		return
	}
	for {
		line, err := s.readLine()
		if err != nil || s.command(line) != nil {
			return
		}
	}
}

// edit changes the session's record.
func (s *session) edit(fn func(*SessionRecord)) {
	s.host.record.change(func() { fn(&s.host.record.sessions[s.number-1]) })
}

// breach notes what the client did against the protocol.
func (s *session) breach(format string, args ...any) {
	text := fmt.Sprintf("session %d: ", s.number) + fmt.Sprintf(format, args...)
	s.host.record.change(func() {
		if len(s.host.record.breaches) < maxBreaches {
			s.host.record.breaches = append(s.host.record.breaches, text)
		}
	})
}

// readLine reads a command. It flushes the replies before it waits (RFC 2920 3.2).
func (s *session) readLine() (string, error) {
	if s.r.Buffered() == 0 {
		if err := s.w.Flush(); err != nil {
			return "", err
		}
	}
	var line []byte
	for {
		part, err := s.r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
			return "", err
		}
		_ = s.w.Flush()
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		s.breach("a command ends in a bare LF: %q", line)
		text = bytes.TrimSuffix(line, []byte("\n"))
	}
	if len(text) > maxLine {
		s.breach("a command has %d octets", len(text))
	}
	return string(text), nil
}

// step asks the script about an event, and does what it says or replies as usual.
// The error is errOver when the session must end.
func (s *session) step(e Event, usual string) error {
	_, err := s.reply(s.ask(e), usual)
	return err
}

// ask completes an event and asks the script.
func (s *session) ask(e Event) Act {
	s.counts[e.Phase]++
	if s.b.Script == nil {
		return Act{}
	}
	e.Session, e.InSession, e.Secure = s.number, s.counts[e.Phase], s.state != nil
	if e.Sender == "" {
		e.Sender = s.draft.From
	}
	s.host.count(&e)
	return s.b.Script(e)
}

// reply does an act. It returns the reply that was sent, "" for none.
func (s *session) reply(a Act, usual string) (string, error) {
	if a.Delay > 0 {
		_ = s.w.Flush()
		if !s.pause(a.Delay) {
			return "", errOver
		}
	}
	text := a.Reply
	if text == "" && a.Then == GoOn && a.Raw == "" {
		text = usual
	}
	out := a.Raw
	if text != "" {
		out = strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\r\n") + "\r\n" + out
	}
	if a.Drip > 0 {
		_ = s.w.Flush()
		for i := range len(out) {
			if _, err := io.WriteString(s.conn, out[i:i+1]); err != nil || !s.pause(a.Drip) {
				return "", errOver
			}
		}
	} else if _, err := s.w.WriteString(out); err != nil {
		return "", errOver
	}
	return text, s.then(a.Then)
}

// then does what follows a reply.
func (s *session) then(t Then) error {
	if t == GoOn {
		return nil
	}
	_ = s.w.Flush()
	switch t {
	case Reset:
		if c, ok := s.raw.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
	case Stall:
		_, _ = io.Copy(io.Discard, s.raw)
	case Freeze:
		<-s.ended
	case Flood:
		line := []byte("250-" + strings.Repeat("x", 60) + "\r\n")
		for {
			if _, err := s.conn.Write(line); err != nil {
				break
			}
		}
	}
	_ = s.raw.Close()
	return errOver
}

// pause waits; false when the connection is ended by the host.
func (s *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ended:
		return false
	}
}

// phaseOf tells a command line's phase.
func phaseOf(line string) Phase {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return EHLO
	case "HELO":
		return HELO
	case "STARTTLS":
		return STARTTLS
	case "MAIL":
		return MAIL
	case "RCPT":
		return RCPT
	case "DATA":
		return DATA
	case "BDAT":
		return BDAT
	case "RSET":
		return RSET
	case "NOOP":
		return NOOP
	case "QUIT":
		return QUIT
	default:
		return Unknown
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// command carries out one command line.
func (s *session) command(line string) error {
	p := phaseOf(line)
	_, arg, _ := strings.Cut(line, " ")
	index := s.note(line, p)
	s.grouping(p, line)
	secure := s.state
	said, err := s.dispatch(p, arg)
	if index >= 0 {
		s.host.record.change(func() { s.host.record.commands[index].Reply = said })
	}
	if err == nil && p == STARTTLS && secure == nil && strings.HasPrefix(said, "220") {
		err = s.handshake()
	}
	return err
}

// note records a command; -1 in a sink.
func (s *session) note(line string, p Phase) (index int) {
	index = -1
	inClear := s.state == nil && ofEnvelope(p)
	if s.b.Sink && !inClear {
		return index
	}
	r := &s.host.record
	r.change(func() {
		if inClear {
			r.stats.ClearEnvelopes++
		}
		if !s.b.Sink {
			index = len(r.commands)
			r.commands = append(r.commands, Command{Session: s.number, Secure: s.state != nil, Line: line})
		}
	})
	return index
}

// grouping notes commands that may not be followed at once (RFC 2920 3.1), and any
// group where PIPELINING was not offered.
func (s *session) grouping(p Phase, line string) {
	if s.r.Buffered() == 0 || p == BDAT {
		return
	}
	switch {
	case p == EHLO || p == HELO || p == DATA || p == STARTTLS || p == NOOP || p == QUIT || p == Unknown:
		s.breach("%s is not the last command of its group (RFC 2920 3.1)", p)
	case !s.offers("PIPELINING"):
		s.breach("%q is followed at once, and PIPELINING was not offered", line)
	}
}

func (s *session) dispatch(p Phase, arg string) (string, error) {
	switch p {
	case EHLO, HELO:
		return s.hello(p, arg)
	case STARTTLS:
		return s.startTLS(arg)
	case MAIL:
		return s.mail(arg)
	case RCPT:
		return s.rcpt(arg)
	case DATA:
		return s.data()
	case BDAT:
		return s.bdat(arg)
	case RSET:
		said, err := s.say(p, arg, "250 2.0.0 reset")
		s.reset()
		return said, err
	case NOOP:
		return s.say(p, arg, "250 2.0.0 ok")
	case QUIT:
		said, err := s.say(p, arg, "221 2.0.0 bye")
		s.edit(func(r *SessionRecord) { r.Quit = true })
		if err == nil {
			_ = s.w.Flush()
			_ = s.conn.Close()
			err = errOver
		}
		return said, err
	default:
		return s.say(p, arg, "500 5.5.2 what?")
	}
}

// say is one event with its usual reply.
func (s *session) say(p Phase, arg, usual string) (string, error) {
	return s.reply(s.ask(Event{Phase: p, Argument: arg}), usual)
}

func (s *session) reset() {
	s.open, s.chunked = false, false
	s.draft = Message{}
}

// offers reports whether the EHLO reply had a keyword.
func (s *session) offers(keyword string) bool {
	for _, k := range s.offered {
		if strings.EqualFold(k, keyword) {
			return true
		}
	}
	return false
}

// words takes the keywords out of an EHLO reply as it was sent.
func words(reply string) []string {
	var list []string
	for i, line := range strings.Split(reply, "\n") {
		if i > 0 && len(line) > 4 {
			word, _, _ := strings.Cut(strings.TrimSpace(line[4:]), " ")
			list = append(list, word)
		}
	}
	return list
}

func (s *session) keywords() []string {
	list := s.b.Extensions
	if list == nil {
		list = DefaultExtensions()
	}
	list = list[:len(list):len(list)]
	switch {
	case s.b.Size > 0:
		list = append(list, "SIZE "+strconv.FormatInt(s.b.Size, 10))
	case s.b.Size == 0:
		list = append(list, "SIZE")
	}
	if s.state != nil {
		return append(list, s.b.TLSExtensions...)
	}
	if s.b.TLS != nil {
		list = append(list, "STARTTLS")
	}
	return list
}

func (s *session) hello(p Phase, name string) (string, error) {
	if name == "" {
		s.breach("%s without a name (RFC 5321 4.1.1.1)", p)
	}
	usual := "250 " + s.b.Name
	if p == EHLO {
		if s.b.HELOOnly {
			return s.say(p, name, "502 5.5.1 EHLO is unknown")
		}
		lines := append([]string{s.b.Name + " greets you"}, s.keywords()...)
		usual = "250-" + strings.Join(lines[:len(lines)-1], "\n250-") + "\n250 " + lines[len(lines)-1]
		if len(lines) == 1 {
			usual = "250 " + lines[0]
		}
	}
	said, err := s.say(p, name, usual)
	if err == nil && strings.HasPrefix(said, "2") {
		s.helo, s.offered = true, nil
		if p == EHLO {
			s.offered = words(said)
		}
		s.reset()
	}
	return said, err
}
