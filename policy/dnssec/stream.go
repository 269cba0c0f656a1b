package dnssec

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// idleTime is how long a connection without queries stays open (RFC 7766 6.2.3: on
// the order of seconds).
const idleTime = 10 * time.Second

// stream is one connection for many queries at once: they are pipelined, and
// replies come in any order (RFC 7766 6.2.1.1 and 7). It ends by itself when idle.
type stream struct {
	conn net.Conn
	done chan struct{} // closed when the reader has ended

	writing sync.Mutex // one query is written at a time

	mu      sync.Mutex
	pending map[uint16]chan []byte // by id; owned by the asker, one place each
	err     error                  // why it is broken; nil while it works
	retired bool                   // a query timed out: no new ones
	idle    *time.Timer
}

func newStream(conn net.Conn) *stream {
	s := &stream{conn: conn, done: make(chan struct{}), pending: map[uint16]chan []byte{}}
	s.idle = time.AfterFunc(idleTime, s.retireIdle)
	go s.read()
	return s
}

// usable reports whether new queries may be sent.
func (s *stream) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.retired
}

// ask sends the query under an id that is free on this connection and random, and
// returns the reply and that id. The query itself is not changed.
func (s *stream) ask(ctx context.Context, query []byte) ([]byte, uint16, error) {
	id, reply, err := s.register()
	if err != nil {
		return nil, 0, err
	}
	defer s.unregister(ctx, id)
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, len(query)+2), uint16(len(query)))
	framed = append(framed, query...)
	binary.BigEndian.PutUint16(framed[2:], id)
	if err := s.write(ctx, framed); err != nil {
		s.close(err)
		return nil, 0, err
	}
	select {
	case raw, ok := <-reply:
		if !ok {
			s.mu.Lock()
			defer s.mu.Unlock()
			return nil, 0, s.err
		}
		return raw, id, nil
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// write sends one framed query in one segment (RFC 7766 8).
func (s *stream) write(ctx context.Context, framed []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	deadline, _ := ctx.Deadline() // the zero time is none
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := s.conn.Write(framed)
	return err
}

func (s *stream) register() (uint16, chan []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	id := dns.Id()
	for s.pending[id] != nil { // RFC 7766 6.2.1: not the id of one in flight; maxInFlight leaves enough
		id = dns.Id()
	}
	reply := make(chan []byte, 1)
	s.pending[id] = reply
	s.idle.Stop()
	return id, reply, nil
}

// unregister ends a query. One that timed out makes us leave the connection: a dead
// one looks just so.
func (s *stream) unregister(ctx context.Context, id uint16) {
	s.mu.Lock()
	delete(s.pending, id)
	if ctx.Err() != nil {
		s.retired = true
	}
	over := s.retired && len(s.pending) == 0
	if len(s.pending) == 0 && s.err == nil {
		s.idle.Reset(idleTime)
	}
	s.mu.Unlock()
	if over {
		s.close(net.ErrClosed)
	}
}

// retireIdle closes the connection unless a query has come in between.
func (s *stream) retireIdle() {
	s.mu.Lock()
	busy := len(s.pending) > 0
	if !busy {
		s.retired = true
	}
	s.mu.Unlock()
	if !busy {
		s.close(net.ErrClosed)
	}
}

// read hands the replies out until the connection ends. Replies that nobody waits
// for any more are dropped.
func (s *stream) read() {
	defer close(s.done)
	for {
		raw, err := readFrame(s.conn)
		if err != nil {
			s.close(err)
			return
		}
		s.mu.Lock()
		id := binary.BigEndian.Uint16(raw)
		if reply := s.pending[id]; reply != nil {
			select {
			case reply <- raw:
			default: // a second reply under the same id
			}
		}
		s.mu.Unlock()
	}
}

// readFrame reads one message with its length in front (RFC 1035 4.2.2).
func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n < 12 {
		return nil, fmt.Errorf("%w: %d octets are no DNS message", errMalformed, n)
	}
	raw := make([]byte, n)
	_, err := io.ReadFull(r, raw)
	return raw, err
}

// close breaks the connection: those who wait get err. Only the first call counts.
func (s *stream) close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	s.idle.Stop()
	for id, reply := range s.pending {
		delete(s.pending, id)
		close(reply)
	}
	_ = s.conn.Close() // it is given up
}
