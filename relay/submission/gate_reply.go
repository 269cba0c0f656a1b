package submission

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/pires/go-proxyproto"
)

// Write takes go-smtp's replies. They are kept until the gate must wait for input.
func (g *gate) Write(b []byte) (int, error) {
	if g.phase == phaseOver {
		return len(b), nil
	}
	g.line = append(g.line, b...)
	for {
		end := bytes.Index(g.line, []byte("\r\n"))
		if end < 0 {
			return len(b), nil
		}
		g.onReply(g.line[:end])
		g.line = append(g.line[:0], g.line[end+2:]...)
	}
}

// onReply looks at one reply line of go-smtp, says it or what operator.md wants
// said in its place, and keeps track of the session.
func (g *gate) onReply(line []byte) {
	if len(line) < 4 {
		return
	}
	code, _ := strconv.Atoi(string(line[:3]))
	sep := string(line[3:4]) // "-": more lines follow
	switch {
	case (g.verb == verbEHLO || g.verb == verbHELO) && code == 250:
		g.greet(sep, string(line[4:]))
		return
	case sep == "-":
		g.put(line)
		return
	case g.override != nil:
		g.say(g.override)
		g.override = nil
	case g.hush:
		g.hush = false
	default:
		g.putFinal(code, line)
	}
	g.follow(code)
}

// greet writes a line of the EHLO reply. go-smtp knows nothing of TLS here and has
// no size limit of its own, so those lines are ours (RFC 3207 4.2, 8689 2, 1870 4).
func (g *gate) greet(sep, text string) {
	g.helloLines++
	switch {
	case g.helloLines == 1:
		g.say250(sep, g.server.hostname) // RFC 5321 4.1.1.1: the first word is our name
		if g.verb == verbEHLO && g.tls != nil {
			g.say250(sep, "REQUIRETLS")
		} else if g.verb == verbEHLO && g.door.mode == TLSStart {
			g.say250(sep, "STARTTLS")
		}
	case text == "SIZE":
		g.say250(sep, "SIZE "+strconv.FormatInt(g.door.maxBytes, 10))
	default:
		g.say250(sep, text)
	}
	if sep != "-" {
		g.hello, g.extended = true, g.verb == verbEHLO
		g.endTransaction(0)
	}
}

func (g *gate) say250(sep, text string) { g.put([]byte("250" + sep + text)) }

// putFinal says the last line of a reply.
func (g *gate) putFinal(code int, line []byte) {
	switch {
	case g.verb == verbMAIL && code == 250:
		line = []byte("250 2.1.0 sender ok")
	case g.verb == verbRCPT && code == 250:
		line = []byte("250 2.1.5 recipient ok")
	case g.verb == verbAUTH && code == 235:
		line = []byte("235 2.7.0 authenticated") // RFC 4954 6
	case g.verb == verbRCPT && code == 452: // go-smtp's own: RFC 5321 4.5.3.1.10
		g.server.observer.Rejected(g.door.name, string(reasonRcpts))
	case code == errNewline().code && string(line) == errNewline().Error():
		// Others may see the end of such content elsewhere, and a client that fell for that has
		// commands behind it (S13). In a chunk only the content reader sees it, hence here.
		g.ending = true
	case (g.verb == verbMAIL || g.verb == verbRCPT) && code == 500:
		line = []byte("501" + string(line[3:])) // field notes S35
	}
	g.put(line)
	g.judge(code)
}

// follow keeps track of what a final reply means.
func (g *gate) follow(code int) {
	switch g.verb {
	case verbMAIL:
		if g.tx.open = code == 250; g.tx.open {
			g.messages++
		}
	case verbRCPT:
		if code == 250 {
			g.tx.rcpts++
		}
	case verbDATA:
		if code == 354 {
			g.beginContent(-1)
			return
		}
		// go-smtp reads content to its end; spoilt content ends the connection whatever the reply is.
		g.ending = g.ending || g.phase == phaseData || g.phase == phaseDot || g.frame.bad
		g.endTransaction(code)
	case verbBDAT:
		g.skip, g.left = g.left, 0
		if code != 250 || g.last {
			g.taken = nil
			g.endTransaction(code)
		}
	case verbRSET:
		g.endTransaction(0)
	case verbAUTH:
		g.authed = g.authed || code == 235
		if code == 334 {
			g.phase = phaseAuth
			return
		}
	}
	if g.phase != phaseOver {
		g.phase = phaseCommand
	}
}

func (g *gate) endTransaction(code int) {
	if code == 250 {
		g.commands, g.errors = 0, 0
	}
	g.tx, g.began, g.fail = envelope{}, time.Time{}, nil
}

// say gives a reply of ours. What is refused of a message is counted.
func (g *gate) say(r *reply) {
	switch g.verb {
	case verbMAIL, verbRCPT, verbDATA, verbBDAT:
		g.server.observer.Rejected(g.door.name, string(r.why))
	}
	g.put([]byte(r.Error()))
	g.judge(r.code)
}

// judge counts errors and ends what must end: 421 is always the last word (RFC 5321 3.8).
func (g *gate) judge(code int) {
	if code >= 500 {
		g.errors++
	}
	if code == 421 {
		g.ending = true
	}
	if g.errors > g.server.limits.Errors && !g.ending {
		g.say(errTooManyErrors())
	}
}

func (g *gate) put(line []byte) {
	g.out = append(append(g.out, line...), '\r', '\n')
	if len(g.out) > maxReplies {
		_ = g.flush()
	}
}

// flush sends the replies. When it fails the connection is over.
func (g *gate) flush() error {
	if len(g.out) == 0 {
		return nil
	}
	_ = g.tcp.SetWriteDeadline(time.Now().Add(g.server.limits.Write))
	_, err := g.conn.Write(g.out)
	g.out = g.out[:0]
	if err != nil {
		g.phase = phaseOver
		return fmt.Errorf("submission: writing replies: %w", err)
	}
	return nil
}

// Close sends what is left and closes the connection, unless another gate has it.
func (g *gate) Close() error {
	if g.moved {
		return nil
	}
	g.closing.Do(func() {
		_ = g.flush()
		g.phase = phaseOver
		if g.ending {
			g.linger()
		}
		_ = g.conn.Close()
		g.server.conns.remove(g)
		g.server.observer.Disconnected(g.door.name)
	})
	return nil
}

// linger reads a little of what the client still sends: a reset, which follows the
// closing of a socket with unread input, could take our last reply away from it.
func (g *gate) linger() {
	if tc, ok := g.conn.(*tls.Conn); ok {
		_ = tc.CloseWrite()
	}
	c := g.tcp
	if p, ok := c.(*proxyproto.Conn); ok {
		c = p.Raw()
	}
	if h, ok := c.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c, lingerBytes)
}

// LocalAddr is our end.
func (g *gate) LocalAddr() net.Addr { return g.tcp.LocalAddr() }

// RemoteAddr is the client's end.
func (g *gate) RemoteAddr() net.Addr { return g.tcp.RemoteAddr() }

// SetDeadline, SetReadDeadline and SetWriteDeadline do nothing: the gate sets its own.
func (g *gate) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (g *gate) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (g *gate) SetWriteDeadline(time.Time) error { return nil }
