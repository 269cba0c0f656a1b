package relaytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Host is one mail exchanger. Close it.
type Host struct {
	name      string
	listener  net.Listener
	behaviour atomic.Pointer[Behaviour] // what new sessions do
	record    record

	ctx  context.Context // done when the host closes: ends handshakes
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]chan struct{} // closed to end the connection; guarded by mu; nil once closed
}

// Start starts a host. The error is that of listening, or of an address that is
// not on loopback.
func Start(b Behaviour) (*Host, error) {
	if b.Addr == "" {
		b.Addr = "127.0.0.1:0"
	}
	if b.Name == "" {
		b.Name = "mx.test"
	}
	addr, err := netip.ParseAddrPort(b.Addr)
	if err != nil || !addr.Addr().IsLoopback() {
		return nil, fmt.Errorf("relaytest: %q is no loopback address with a port", b.Addr)
	}
	l, err := net.Listen("tcp", b.Addr)
	if err != nil {
		return nil, fmt.Errorf("relaytest: %w", err)
	}
	h := &Host{name: b.Name, listener: l, conns: map[net.Conn]chan struct{}{}}
	h.record.phases = map[Phase]int{}
	h.record.pairs = map[string]int{}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.behaviour.Store(&b)
	h.wg.Go(h.accept)
	return h, nil
}

// Name is what the host calls itself.
func (h *Host) Name() string { return h.name }

// Addr is where the host listens.
func (h *Host) Addr() netip.AddrPort { return h.listener.Addr().(*net.TCPAddr).AddrPort() }

// Become changes what sessions do that begin from now on. Address and name stay.
func (h *Host) Become(b Behaviour) {
	b.Name = h.name
	h.behaviour.Store(&b)
}

// Close ends the host and all of its connections, and waits for them.
func (h *Host) Close() error {
	h.stop()
	err := h.listener.Close()
	h.mu.Lock()
	h.disconnect()
	h.conns = nil // nobody is admitted any more
	h.mu.Unlock()
	h.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Disconnect ends all connections that are open, and keeps the host.
func (h *Host) Disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disconnect()
}

// disconnect is called with mu held.
func (h *Host) disconnect() {
	for c, ended := range h.conns {
		close(ended)
		delete(h.conns, c)
		_ = c.Close()
	}
}

func (h *Host) accept() {
	for {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		ended := h.admit(c)
		if ended == nil {
			_ = c.Close()
			return
		}
		h.wg.Go(func() {
			defer h.dismiss(c)
			h.serve(c, ended)
		})
	}
}

// admit keeps a connection; nil when the host is closed.
func (h *Host) admit(c net.Conn) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		return nil
	}
	ended := make(chan struct{})
	h.conns[c] = ended
	return ended
}

func (h *Host) dismiss(c net.Conn) {
	_ = c.Close()
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
}

// count gives an event its numbers.
func (h *Host) count(e *Event) {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	h.record.phases[e.Phase]++
	e.InHost, e.Open = h.record.phases[e.Phase], h.record.stats.Open
	if e.Phase == RCPT {
		pair := e.Sender + "\x00" + e.Recipient
		h.record.pairs[pair]++
		e.ForPair = h.record.pairs[pair]
	}
}
