package submission

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// phase is what the octets that go-smtp reads next are.
type phase uint8

const (
	phaseCommand phase = iota
	phaseAuth          // a response to 334 (RFC 4954 4)
	phaseData          // content up to the lone dot, which the session reads past go-smtp
	phaseDot           // the session has it all, go-smtp must hear of the end
	phaseChunk         // the octets of a BDAT chunk
	phaseFailed        // content was refused or broke off: reads fail until that is answered
	phaseOver          // nothing more is read or written
)

// Sizes that are nobody's to set.
const (
	maxCommand  = 4096    // octets of a command line; RFC 5321 4.5.3.1.4 and the parameters
	maxAuthLine = 12288   // RFC 4954 4
	maxFlood    = 1 << 20 // octets of one line before the connection is given up
	maxReplies  = 16 << 10
	spoiltIdle  = 5 * time.Second // idle limit once content is refused anyway
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// gate is the net.Conn that go-smtp talks to: guardConn of libraries.md, but above
// TLS, where commands can be seen. It hands over one checked command line at a
// time, and of content exactly what belongs to it, so that go-smtp never parses
// content as commands and never sees a fragment. It keeps the deadlines, collects
// the replies until it must wait for input (RFC 2920 3.2), and says 421 itself.
//
// A gate belongs to the goroutine of its connection. drain and kill may be called
// from others.
type gate struct {
	server *Server
	door   *door
	conn   net.Conn // TCP, or TLS over it; owned, closed by Close
	tcp    net.Conn // below TLS
	br     *bufio.Reader
	narrow *bufio.Reader // br of before, while that is the server's, with more room
	peer   peer
	tls    *tls.ConnectionState // nil in clear

	tlsClause string // of Received; "" in clear

	phase   phase
	pending []byte // what is left of the line being handed over; aliases buf
	buf     []byte // the present command line
	line    []byte // a reply line in the making
	out     []byte // replies not sent yet

	verb       verb
	hello      bool // HELO or EHLO was accepted
	extended   bool // it was EHLO
	name       string
	from       string // beginning of Received; "": not written since EHLO
	helloLines int
	authed     bool
	tx         envelope
	frame      framing
	dots       stuffing
	override   *reply        // said in place of go-smtp's next final reply
	hush       bool          // go-smtp's next final reply is not said
	abort      bool          // go-smtp must forget its transaction
	skip       int64         // octets of a refused chunk to throw away
	left       int64         // octets of the present chunk
	last       bool          // it is BDAT LAST
	taken      chan struct{} // closed when session.Data has the transaction; nil: nothing to wait for
	fail       *reply        // why content failed, in phaseFailed
	ending     bool          // close when the replies are out
	moved      bool          // another gate carries on, after STARTTLS

	commands, errors, messages, logins int

	began      time.Time // first octet of this message's content
	pieceBegan time.Time // of this DATA or chunk
	pieceBytes int64

	mu         sync.Mutex // guards the next ones and the read deadline
	draining   bool
	drainBegan time.Time
	waiting    wait      // how drain may interrupt the present wait
	deadline   time.Time // of the present wait, as if nothing drained
	lineBegan  time.Time // when the wait for the present command line began

	closing sync.Once
}

// peer is the other end.
type peer struct {
	addr     netip.Addr // as the PROXY header says, if there is one
	local    bool       // loopback by all that we know
	trusted  bool       // in TrustedNetworks
	implicit bool       // TLS comes first
}

func newGate(s *Server, d *door, conn net.Conn, p peer) *gate {
	return &gate{server: s, door: d, conn: conn, tcp: conn, br: bufio.NewReaderSize(conn, 4096), peer: p}
}

// Read gives go-smtp its next octets.
func (g *gate) Read(b []byte) (n int, err error) {
	defer func() {
		// go-smtp recovers inside commands only; a fault here must not end the relay.
		if p := recover(); p != nil {
			g.server.log.Error("panic in a submission session", "panic", p, "stack", string(debug.Stack()))
			g.phase = phaseOver
			n, err = 0, io.EOF
		}
	}()
	if g.peer.implicit && g.tls == nil && g.phase != phaseOver && !g.secure() {
		g.phase, g.out = phaseOver, nil // the greeting is not for eyes in clear
	}
	for {
		if len(g.pending) > 0 {
			n = copy(b, g.pending)
			g.pending = g.pending[n:]
			return n, nil
		}
		if g.taken != nil {
			// go-smtp runs Data for BDAT on another goroutine, and would call it on a session
			// that is gone when we went on at once (field notes S31).
			<-g.taken
			g.taken = nil
		}
		switch g.phase {
		case phaseData, phaseDot:
			if err := g.finishData(); err != nil {
				return 0, err
			}
			continue
		case phaseChunk:
			return g.readChunk(b)
		case phaseFailed:
			return 0, g.fail.smtp()
		case phaseOver:
			return 0, io.EOF
		}
		if g.pending = g.next(); g.pending == nil {
			_ = g.flush()
			g.phase = phaseOver
		}
	}
}

// next returns the next line for go-smtp with its CR LF, nil at the end.
func (g *gate) next() []byte {
	for !g.ending {
		if g.skip > 0 && !g.skipChunk() {
			return nil
		}
		if g.abort {
			g.abort, g.hush, g.verb = false, true, verbRSET
			return []byte("RSET\r\n")
		}
		limit := maxAuthLine
		if g.phase != phaseAuth {
			limit, g.verb = maxCommand, verbNone
		}
		line, r := g.readLine(limit)
		switch {
		case g.phase == phaseOver:
			return nil
		case g.phase == phaseAuth:
			return g.screenResponse(line, r)
		case r == nil:
			line, r = g.screen(line)
		}
		switch {
		case r != nil:
			g.say(r)
		case g.verb == verbSTARTTLS:
			g.startTLS()
			return nil
		default:
			return append(line, '\r', '\n')
		}
	}
	return nil
}

// readLine reads one line within the command time, and takes its CR LF off.
func (g *gate) readLine(limit int) ([]byte, *reply) {
	g.buf = g.buf[:0]
	var deadline time.Time
	for size := 0; size < maxFlood; {
		have, _ := g.br.Peek(g.br.Buffered())
		end := bytes.IndexByte(have, '\n') + 1
		if end > 0 {
			have = have[:end]
		}
		if size += len(have); size <= maxAuthLine+2 {
			g.buf = append(g.buf, have...)
		}
		_, _ = g.br.Discard(len(have))
		if end > 0 {
			return g.checkLine(size, limit)
		}
		if deadline.IsZero() {
			deadline = g.beginLine()
		}
		if err := g.await(deadline, g.idle()); err != nil {
			g.hangUp(err)
			return nil, nil
		}
	}
	g.ending = true
	return nil, errLineTooLong()
}

func (g *gate) checkLine(size, limit int) ([]byte, *reply) {
	auth := len(g.buf) > 5 && bytes.EqualFold(g.buf[:5], []byte("AUTH "))
	switch {
	case g.phase == phaseAuth && size > limit+2, auth && size > maxAuthLine+2:
		return nil, errAuthTooLong()
	case !auth && size > limit+2:
		return nil, errLineTooLong()
	}
	line, ok := bytes.CutSuffix(g.buf, []byte("\r\n"))
	if !ok {
		return nil, errLineEnd() // RFC 5321 2.3.8: a bare LF ends nothing
	}
	return line, nil
}

// screenResponse checks a response inside AUTH. What go-smtp would answer wrongly
// becomes a cancellation for it and our reply for the client.
func (g *gate) screenResponse(line []byte, r *reply) []byte {
	switch {
	case r == nil && string(line) == "*":
		r = errCancelled() // RFC 4954 4
	case r == nil && string(line) != "=" && !validBase64(line):
		r = errBase64()
	}
	if r != nil {
		g.override = r
		line = append(g.buf[:0], '*')
	}
	return append(line, '\r', '\n')
}

// count keeps a connection from being busy for nothing (libraries.md F13).
func (g *gate) count(v verb) *reply {
	l := &g.server.limits
	if g.isDraining() && !g.carriesOn(v) {
		return errGoingDown()
	}
	switch v {
	case verbRCPT, verbDATA, verbBDAT, verbQUIT:
		return nil
	}
	if g.commands++; g.commands > l.Junk || v == verbMAIL && g.messages >= l.Transactions {
		return errTooManyCommands()
	}
	return nil
}

// carriesOn says whether a command belongs to an open transaction: those come to
// their end while the server drains; what would drop one or begin another does not.
func (g *gate) carriesOn(v verb) bool {
	switch v {
	case verbMAIL, verbRSET, verbEHLO, verbHELO, verbSTARTTLS:
		return false
	}
	return g.tx.open
}

// hangUp says why the connection ends, if the client can hear it.
func (g *gate) hangUp(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && g.isDraining():
		g.say(errGoingDown())
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.say(errIdle())
	}
	g.ending = true
	_ = g.flush()
	g.phase = phaseOver
}

// kill ends the connection under the session's feet.
func (g *gate) kill() { _ = g.tcp.Close() }
