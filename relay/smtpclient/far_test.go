package smtpclient

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// far is a network in memory on which everything takes time, that of the bubble of
// testing/synctest: so round trips can be counted on the clock.
type far struct {
	oneWay time.Duration
	serve  func(n int, c *farConn) // n counts connections from 1
	group  sync.WaitGroup

	mu    sync.Mutex
	conns int
}

func (f *far) dial(context.Context, string, string) (net.Conn, error) {
	up, down := newStream(f.oneWay), newStream(f.oneWay)
	client, server := &farConn{in: down, out: up}, &farConn{in: up, out: down}
	f.mu.Lock()
	f.conns++
	n := f.conns
	f.mu.Unlock()
	f.group.Go(func() {
		defer func() { _ = server.Close() }()
		f.serve(n, server)
	})
	return client, nil
}

// stream is one direction.
type stream struct {
	oneWay time.Duration

	mu      sync.Mutex
	parts   []part
	end     error // what is read behind the parts; nil: nothing yet
	endAt   time.Time
	readBy  time.Time
	closed  bool          // by the reader
	changed chan struct{} // closed at the next change
}

type part struct {
	data []byte
	due  time.Time
}

func newStream(oneWay time.Duration) *stream {
	return &stream{oneWay: oneWay, changed: make(chan struct{})}
}

// change tells who waits. The lock is held.
func (s *stream) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		now := time.Now()
		var next time.Time
		switch {
		case s.closed:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case !s.readBy.IsZero() && !now.Before(s.readBy):
			s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(s.parts) > 0 && !now.Before(s.parts[0].due):
			n := copy(p, s.parts[0].data)
			s.parts[0].data = s.parts[0].data[n:]
			if len(s.parts[0].data) == 0 {
				s.parts = s.parts[1:]
			}
			s.mu.Unlock()
			return n, nil
		case len(s.parts) > 0:
			next = s.parts[0].due
		case s.end != nil && !now.Before(s.endAt):
			s.mu.Unlock()
			return 0, s.end
		case s.end != nil:
			next = s.endAt
		}
		if !s.readBy.IsZero() && (next.IsZero() || s.readBy.Before(next)) {
			next = s.readBy
		}
		changed := s.changed
		s.mu.Unlock()
		var timer <-chan time.Time
		if !next.IsZero() {
			t := time.NewTimer(time.Until(next))
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-changed:
		case <-timer:
		}
	}
}

// farConn is one end of a connection.
type farConn struct {
	in, out *stream
	once    sync.Once
}

func (c *farConn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *farConn) Write(p []byte) (int, error) {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return 0, net.ErrClosed
	}
	if s.closed {
		return 0, syscall.EPIPE
	}
	s.parts = append(s.parts, part{slices.Clone(p), time.Now().Add(s.oneWay)})
	s.change()
	return len(p), nil
}

// Close ends both directions: with a reset when something is unread, as sockets do.
func (c *farConn) Close() error {
	c.once.Do(func() {
		c.in.mu.Lock()
		unread := len(c.in.parts) > 0
		c.in.closed = true
		c.in.change()
		c.in.mu.Unlock()
		c.out.mu.Lock()
		c.out.end, c.out.endAt = io.EOF, time.Now().Add(c.out.oneWay)
		if unread {
			c.out.end = syscall.ECONNRESET
		}
		c.out.change()
		c.out.mu.Unlock()
	})
	return nil
}

func (c *farConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.readBy = t
	c.in.change()
	c.in.mu.Unlock()
	return nil
}

func (c *farConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *farConn) SetWriteDeadline(time.Time) error { return nil }
func (c *farConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *farConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// tape is what a host took, and how it went: the messages in order with their
// recipients, and how often the host had to wait for us in the middle of things.
type tape struct {
	mu    sync.Mutex
	taken []parcel
	waits int // how often the host had answered all there was, and had to wait for us
}

// parcel is one message as a host took it.
type parcel struct {
	conn int
	rcpt []string
	body string
}

func (t *tape) parcels() []parcel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.taken)
}

// strict is a host that takes everything, by the letter of RFC 5321, 2920 and 3030: it
// wants RSET after a failed BDAT, MAIL before RCPT, and RCPT before content.
type strict struct {
	tape *tape
	caps []string
	tls  *tls.Config
	// buffer is how much it reads ahead; 0: much.
	buffer int
	greet  func(n int) string // what it says in place of 220; nil, "": nothing else
	// reply is asked first; "" for the usual one, "-" to hang up, "take" to hang up behind
	// having taken a message, "sleep" to say nothing any more, "mute" to take one message
	// without a word and hang up on what came behind.
	reply func(n int, verb string, line string) string
}

func (h *strict) serve(n int, raw *farConn) {
	var c net.Conn = raw
	r := bufio.NewReaderSize(c, cmp.Or(h.buffer, 256<<10))
	var out []byte
	say := func(s string) { out = append(out, s+"\r\n"...) }
	flush := func() {
		if len(out) > 0 {
			h.tape.mu.Lock()
			h.tape.waits++
			h.tape.mu.Unlock()
			_, _ = c.Write(out)
			out = nil
		}
	}
	defer func() { flush() }()
	var rcpt []string
	var body strings.Builder
	mail, soiled := false, false
	clear := func() { rcpt, mail = nil, false; body.Reset() }
	if h.greet != nil && h.greet(n) != "" {
		say(h.greet(n))
		return
	}
	say("220 far")
	for {
		if r.Buffered() == 0 {
			flush()
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, _, _ := strings.Cut(line, " ")
		if special := ""; h.reply != nil {
			switch special = h.reply(n, verb, line); special {
			case "-":
				flush()
				return
			case "take":
				size, _, _ := bdat(line)
				b := make([]byte, size)
				_, _ = io.ReadFull(r, b)
				h.took(n, rcpt, string(b))
				out = nil
				return
			case "sleep":
				_, _ = io.Copy(io.Discard, r)
				return
			case "mute":
				flush()
				h.takeOne(n, r)
				return
			}
			if special != "" {
				if size, _, ok := bdat(line); ok {
					_, _ = r.Discard(size)
					soiled = true
				}
				say(special)
				if strings.HasPrefix(special, "421") {
					return
				}
				continue
			}
		}
		switch {
		case verb == "EHLO":
			say("250-far")
			for _, cap := range h.caps {
				say("250-" + cap)
			}
			say("250 8BITMIME")
		case verb == "STARTTLS":
			say("220 go")
			flush()
			c = tls.Server(raw, h.tls)
			r = bufio.NewReaderSize(c, cmp.Or(h.buffer, 256<<10))
		case verb == "QUIT":
			say("221 bye")
			return
		case verb == "RSET":
			clear()
			soiled = false
			say("250 clean")
		case verb == "MAIL" && (mail || soiled):
			say("503 5.5.1 nested MAIL")
		case verb == "MAIL":
			mail = true
			say("250 sender")
		case verb == "RCPT" && mail:
			rcpt = append(rcpt, line)
			say("250 recipient")
		case verb == "DATA" && len(rcpt) > 0:
			say("354 go")
			flush()
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				body.WriteString(strings.TrimPrefix(line, "."))
			}
			h.took(n, rcpt, body.String())
			clear()
			say("250 2.0.0 queued")
		case verb == "BDAT":
			size, last, ok := bdat(line)
			if !ok {
				say("501 what")
				return
			}
			b := make([]byte, size)
			if _, err := io.ReadFull(r, b); err != nil {
				return
			}
			switch {
			case len(rcpt) == 0 || soiled:
				soiled = true
				say("503 5.5.1 nobody")
				continue
			case last:
				body.Write(b)
				h.took(n, rcpt, body.String())
				clear()
			default:
				body.Write(b)
			}
			say("250 2.0.0 taken")
		default:
			say("503 5.5.1 bad sequence")
		}
	}
}

func bdat(line string) (size int, last, ok bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "BDAT" {
		return 0, false, false
	}
	size, err := strconv.Atoi(f[1])
	return size, len(f) == 3, err == nil
}

// takeOne takes the next message, once there is time for others to come behind it.
func (h *strict) takeOne(n int, r *bufio.Reader) {
	time.Sleep(time.Second)
	var rcpt []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		if strings.HasPrefix(line, "RCPT") {
			rcpt = append(rcpt, line)
		}
		if size, _, ok := bdat(line); ok {
			b := make([]byte, size)
			_, _ = io.ReadFull(r, b)
			h.took(n, rcpt, string(b))
			return
		}
	}
}

func (h *strict) took(n int, rcpt []string, body string) {
	h.tape.mu.Lock()
	defer h.tape.mu.Unlock()
	h.tape.taken = append(h.tape.taken, parcel{n, slices.Clone(rcpt), body})
}

// numbered is a content that says whose it is.
func numbered(i, size int) string {
	head := fmt.Sprintf("Subject: %d\r\n\r\n.%d\r\n", i, i)
	return head + strings.Repeat(strings.Repeat("x", 62)+"\r\n", max(0, size-len(head))/64)
}
