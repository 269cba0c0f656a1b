package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/policy"
)

const (
	// blockTimeout bounds one write of content (RFC 5321 4.5.3.2.5: data block, 3 min).
	blockTimeout = 3 * time.Minute
	// lateTimeout bounds the reading of what a host said before it stopped
	// listening to us.
	lateTimeout = 2 * time.Second
	// quitTimeout bounds the writing of a QUIT, whose reply nobody waits for.
	quitTimeout = time.Second
	// ticketTimeout bounds the taking in of a TLS record that is there already.
	ticketTimeout = 20 * time.Millisecond
	// resetTimeout is how long the answer of a closed socket to our bytes may take.
	resetTimeout = 500 * time.Millisecond
	// readerSize is how many octets of replies are read at once.
	readerSize = 4 << 10
	// flightSize is how many octets gather before they are written.
	flightSize = 32 << 10
)

// wire is a connection with deadlines on everything: commands gather in out and
// leave in one write; replies are read within bounds. One goroutine may write while
// another one reads (see line).
type wire struct {
	raw  net.Conn // the TCP connection; owned
	sys  socket   // its socket
	conn net.Conn // raw, or TLS over it

	// Owned by who writes.
	out     []byte    // commands and content not yet written
	writeBy time.Time // no deadline of a write goes beyond this one; zero: no limit

	// Owned by who reads.
	r       *bufio.Reader
	text    []byte        // buffer of replies
	timeout time.Duration // of the reply that is read now
	armed   bool          // its deadline is set
	readBy  time.Time     // no deadline of a reply goes beyond this one; zero: no limit
	replies int           // how many were read
	dry     func()        // is called when nothing is left to be read; nil: nobody cares

	mu sync.Mutex // guards what follows
	// broken is the error that made the connection unusable.
	broken error
	// late: a write failed, so only what the host said before is still to be read.
	late bool
}

// fault is the error that made the connection unusable; hearing: what the host said
// before may still be read.
func (w *wire) fault() (err error, hearing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken, w.late
}

// dead is the error that made the connection unusable, or nil.
func (w *wire) dead() error {
	err, _ := w.fault()
	return err
}

// fail makes the connection unusable. The first trouble is the cause, unless a write
// failed and a read says better.
func (w *wire) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == nil {
		w.broken = err
	}
	w.late = false
	return w.broken
}

func newWire(raw net.Conn) *wire {
	w := &wire{raw: raw, sys: socketOf(raw), conn: raw}
	w.r = bufio.NewReaderSize(w, readerSize)
	return w
}

// Read is what the reply reader reads from. The deadline of a reply is absolute:
// a host cannot stretch it by sending one octet at a time.
func (w *wire) Read(p []byte) (int, error) {
	if w.dry != nil {
		w.dry()
	}
	if !w.armed {
		if err := w.conn.SetReadDeadline(deadline(w.timeout, w.readBy)); err != nil {
			return 0, err
		}
		w.armed = true
	}
	return w.conn.Read(p)
}

// deadline is in d, but not after limit.
func deadline(d time.Duration, limit time.Time) time.Time {
	t := time.Now().Add(d)
	if !limit.IsZero() && limit.Before(t) {
		return limit
	}
	return t
}

// reply reads the next reply. After an error the connection is unusable.
func (w *wire) reply(timeout time.Duration) (reply, error) {
	broken, late := w.fault()
	if broken != nil && !late {
		return reply{}, broken
	}
	w.timeout, w.armed = timeout, false
	if late {
		w.timeout = min(timeout, lateTimeout)
	}
	rep, err := readReply(w.r, w.text)
	if err != nil {
		return reply{}, w.fail(err)
	}
	w.text = rep.text
	w.replies++
	if rep.closing() { // it explains any other trouble
		w.mu.Lock()
		w.broken, w.late = errClosing, false
		w.mu.Unlock()
	}
	return rep, nil
}

// errClosing: the host said 421 and hangs up (RFC 5321 3.8).
var errClosing = errors.New("the host is closing the connection")

// command sends one line and reads its reply.
func (w *wire) command(line string, timeout time.Duration) (reply, error) {
	w.out = append(append(w.out, line...), "\r\n"...)
	if err := w.flush(timeout); err != nil {
		return reply{}, err
	}
	return w.reply(timeout)
}

// flush writes out in one write. After an error the connection is unusable,
// but replies that came before may still be read.
func (w *wire) flush(timeout time.Duration) error {
	out := w.out
	w.out = w.out[:0]
	return w.write(out, timeout)
}

// write writes b, as flush does.
func (w *wire) write(b []byte, timeout time.Duration) error {
	if err := w.dead(); err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	err := w.conn.SetWriteDeadline(deadline(timeout, w.writeBy))
	if err == nil {
		_, err = w.conn.Write(b)
	}
	if err != nil {
		w.mu.Lock()
		if w.broken == nil {
			w.broken, w.late = err, true
		}
		w.mu.Unlock()
	}
	return err
}

// unexpected reports bytes from the host that no command of ours asked for, or
// that the host has hung up. It waits only for the rest of what is there already,
// and what it sees stays to be read.
func (w *wire) unexpected() bool {
	if w.r.Buffered() > 0 {
		return true
	}
	if !w.sys.pending() {
		return false
	}
	if w.conn == w.raw {
		return true
	}
	// TLS has records of its own, such as a late session ticket: they are taken in.
	w.timeout, w.armed = ticketTimeout, false
	dry := w.dry
	w.dry = nil // no reply is waited for
	_, err := w.r.Peek(1)
	w.dry = dry
	if err != nil && !isTimeout(err) {
		_ = w.fail(err) // it would not hear a QUIT
	}
	return !isTimeout(err)
}

// abort ends the connection at once. The peer sees a reset, not an end of file,
// which some receivers take for the end of the content.
func (w *wire) abort() {
	if tcp, ok := w.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close that follows is all that matters
	}
	w.close()
}

// close ends the TCP connection. (Closing tls.Conn could block for seconds on its
// close_notify; QUIT has ended the session.)
func (w *wire) close() {
	_ = w.raw.Close() // nothing can be done about it
	_ = w.fail(net.ErrClosed)
}

// quit says QUIT where the session is in a state to hear it, and closes. The
// reply is not waited for (RFC 5321 4.1.1.10 wants that; it never matters).
func (w *wire) quit() {
	if w.dead() == nil {
		w.writeBy = time.Time{}
		w.out = append(w.out[:0], "QUIT\r\n"...)
		_ = w.flush(quitTimeout)
	}
	w.close()
}

// lostReason says what an error of the connection means before the end of data.
// A context that ended is the cause when it did.
func lostReason(ctx context.Context, err error) policy.Reason {
	var bad *protocolError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return policy.Interrupted
	case ctx.Err() != nil, isTimeout(err):
		return policy.ReplyTimeout
	case errors.As(err, &bad):
		return policy.ProtocolError
	}
	return policy.ConnectionLost
}

// detail is the text of an error for a person, without addresses of ours.
func detail(err error) string {
	var bad *protocolError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &bad):
		return bad.text
	case isTimeout(err):
		return "no answer in time"
	case isEOF(err):
		return "the host closed the connection"
	case isReset(err):
		return "the host reset the connection"
	case errors.Is(err, errClosing):
		return errClosing.Error()
	}
	return "the connection failed"
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		(errors.As(err, &ne) && ne.Timeout())
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
