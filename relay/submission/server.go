package submission

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/pires/go-proxyproto"
)

// Server is the inbound dock. Make one with New, then Serve.
type Server struct {
	hostname string
	sink     Sink
	limits   Limits
	log      *slog.Logger
	observer Observer
	room     func() error // Options.Gate
	doors    []*door
	conns    *registry
	accounts atomic.Pointer[accounts]
	hashing  chan struct{} // one slot for each argon2id computation
	failures *throttle
	headers  sync.Pool // *[]byte, for content.buffer
	wide     sync.Pool // *bufio.Reader of wideRoom, for large contents

	ctx       context.Context // done when everything must end now
	cancel    context.CancelFunc
	draining  chan struct{} // closed when Shutdown begins
	drainOnce sync.Once
	finished  chan struct{} // closed when Shutdown is done
	work      sync.WaitGroup
	listening sync.Mutex
}

// New checks the options and wires a server. It opens nothing but certificate files.
// The sink is not owned.
func New(o Options, sink Sink) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if sink == nil {
		return nil, errors.New("submission: no sink")
	}
	s := &Server{
		hostname: o.Hostname, sink: sink, limits: o.Limits.withDefaults(), log: o.Logger, observer: o.Observer,
		room: o.Gate, draining: make(chan struct{}), finished: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.observer == nil {
		s.observer = nobody{}
	}
	s.headers.New = func() any { b := make([]byte, headerRoom); return &b }
	s.wide.New = func() any { return bufio.NewReaderSize(nil, wideRoom) }
	s.conns = newRegistry(s.limits)
	s.hashing = make(chan struct{}, s.limits.Hashing)
	s.failures = newThrottle(s.limits)
	if err := s.SetCredentials(o.Credentials); err != nil {
		return nil, err
	}
	for i := range o.Listeners {
		d, err := newDoor(s, &o.Listeners[i])
		if err != nil {
			return nil, err
		}
		s.doors = append(s.doors, d)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Listen opens the listeners. Serve does it too; a caller that wants to know the
// addresses, or errors, first calls Listen. After an error nothing is open.
func (s *Server) Listen() error {
	s.listening.Lock()
	defer s.listening.Unlock()
	for _, d := range s.doors {
		if err := d.listen(); err != nil {
			for _, open := range s.doors {
				open.close()
				open.listener = nil
			}
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of the listeners, in the order of Options.Listeners, after Listen.
func (s *Server) Addrs() []net.Addr {
	s.listening.Lock()
	defer s.listening.Unlock()
	var out []net.Addr
	for _, d := range s.doors {
		if d.listener != nil {
			out = append(out, d.listener.Addr())
		}
	}
	return out
}

// Serve takes mail until ctx is done, then drains for at most Limits.Drain; or until
// Shutdown was called and is done. nil means that it ended as asked.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	failed := make(chan error, len(s.doors))
	for _, d := range s.doors {
		s.work.Go(func() { d.run() })
		s.work.Go(func() {
			if err := d.accept(); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	case <-s.draining:
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Drain)
	defer cancel()
	return errors.Join(err, ignoreDeadline(s.Shutdown(drain)))
}

func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Shutdown stops accepting, ends idle sessions with 421 4.3.2, lets open transactions
// (MAIL was accepted) come to their end, and closes; a client that gives no next command
// of its transaction within Limits.DrainIdle gets 421 too. When ctx is done before that,
// every connection is closed and ctx's error returned. Calls after the first wait for the
// first.
func (s *Server) Shutdown(ctx context.Context) (err error) {
	first := false
	s.drainOnce.Do(func() { first = true; close(s.draining) })
	if !first {
		select {
		case <-s.finished:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer close(s.finished)
	s.listening.Lock()
	for _, d := range s.doors {
		d.close()
	}
	s.listening.Unlock()
	empty := s.conns.drain()
	select {
	case <-empty:
	case <-ctx.Done():
		err = ctx.Err()
		s.cancel()
		s.conns.kill()
		select {
		case <-empty:
		case <-time.After(time.Second): // a sink that does not heed its context
		}
	}
	s.cancel()
	for _, d := range s.doors {
		close(d.done)
	}
	idle := make(chan struct{})
	go func() { s.work.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return err
}

// Reload reads certificates again whose files have changed (for SIGHUP).
func (s *Server) Reload() {
	for _, d := range s.doors {
		if d.certificate != nil {
			d.certificate.reload()
		}
	}
}

// door is one listener at work.
type door struct {
	server      *Server
	name        string
	mode        TLSMode
	options     Listener
	tls         *tls.Config // nil: no TLS
	certificate *certificate
	maxBytes    int64
	maxRcpts    int
	listener    net.Listener // nil before listen; guarded by Server.listening
	handoff     chan *gate
	done        chan struct{}
}

func newDoor(s *Server, l *Listener) (*door, error) {
	d := &door{
		server: s, name: l.name(), mode: l.TLS, options: *l, maxBytes: l.MaxMessageBytes, maxRcpts: l.MaxRecipients,
		handoff: make(chan *gate), done: make(chan struct{}),
	}
	set(&d.maxBytes, 25<<20)
	set(&d.maxRcpts, 1000)
	if l.TLS != TLSNone {
		c, err := newCertificate(l, s.log, s.observer)
		if err != nil {
			return nil, err
		}
		d.certificate, d.tls = c, serverTLS(c)
	}
	return d, nil
}

func (d *door) listen() error {
	if d.listener != nil {
		return nil
	}
	l := d.options.Listener
	if l == nil {
		var err error
		if l, err = net.Listen(family(d.options.Addr), d.options.Addr); err != nil {
			return fmt.Errorf("submission: listener %s: %w", d.name, err)
		}
	}
	if d.mode == TLSNone && !addrOf(l.Addr()).IsLoopback() {
		_ = l.Close()
		return fmt.Errorf("submission: listener %s: tls = \"none\" is for loopback addresses only: use starttls or implicit", d.name)
	}
	d.listener = l
	return nil
}

// family is the network to listen on: for an IPv4 literal IPv4 only, because Go
// makes 0.0.0.0 on "tcp" a dual-stack socket that is reached over IPv6 too.
func family(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "tcp" // Listen says what is wrong
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		return "tcp4"
	}
	return "tcp"
}

func (d *door) close() {
	if d.listener != nil {
		_ = d.listener.Close()
	}
}

// accept takes connections until the listener is closed.
func (d *door) accept() error {
	wait := 5 * time.Millisecond
	for {
		c, err := d.listener.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
			d.server.work.Go(func() { d.admit(c) })
		case errors.Is(err, net.ErrClosed):
			return nil
		default: // out of file descriptors, most likely: not the end
			d.server.log.Warn("cannot accept a connection", "listener", d.name, "err", err)
			select {
			case <-time.After(wait):
				wait = min(2*wait, time.Second)
			case <-d.server.draining:
				return nil
			}
		}
	}
}

// admit finds out who is there and lets the connection in, or not.
func (d *door) admit(c net.Conn) {
	p := peer{addr: addrOf(c.RemoteAddr()), implicit: d.mode == TLSImplicit}
	p.local = p.addr.IsLoopback()
	if inside(d.options.ProxyProtocolFrom, p.addr) {
		pc := proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(d.server.limits.Handshake))
		if pc.ProxyHeader() == nil {
			d.server.log.Warn("connection from a proxy without a PROXY header", "listener", d.name)
			_ = c.Close()
			return
		}
		c, p.addr = pc, addrOf(pc.RemoteAddr())
		p.local = p.local && p.addr.IsLoopback()
	}
	p.trusted = inside(d.options.TrustedNetworks, p.addr)
	g := newGate(d.server, d, c, p)
	if r := d.server.conns.add(g); r != nil {
		d.turnAway(c, r)
		return
	}
	d.server.observer.Connected(d.name)
	if !d.serve(g) {
		_ = g.Close()
	}
}

// turnAway says 421 before anything else. Behind implicit TLS nobody would
// understand it, and a handshake is what an overloaded server cannot afford.
func (d *door) turnAway(c net.Conn, r *reply) {
	if d.mode != TLSImplicit {
		_ = c.SetWriteDeadline(time.Now().Add(lingerTime))
		_, _ = c.Write([]byte(r.Error() + "\r\n"))
	}
	_ = c.Close()
}

// serve hands a gate to go-smtp. false: the server has ended.
func (d *door) serve(g *gate) bool {
	select {
	case d.handoff <- g:
		return true
	case <-d.done:
		return false
	}
}

// run is go-smtp at work on what serve hands over.
func (d *door) run() {
	gs := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		deepen(0)
		return newSession(c.Conn().(*gate)), nil
	}))
	gs.Domain = d.server.hostname
	gs.MaxRecipients = d.maxRcpts
	gs.MaxMessageBytes = 0      // the gate and the content reader count (libraries.md F10)
	gs.MaxLineLength = 0        // the gate limits lines (F6)
	gs.ReadTimeout = 0          // the gate keeps the time (F1, F4, F5)
	gs.AllowInsecureAuth = true // session.AuthMechanisms decides
	gs.EnableSMTPUTF8 = true
	gs.EnableREQUIRETLS = true
	gs.EnableDSN = true
	gs.ErrorLog = smtpLog{d.server.log}
	_ = gs.Serve(d)
}

// Accept, Close and Addr make a door the net.Listener of its go-smtp server.
func (d *door) Accept() (net.Conn, error) {
	select {
	case g := <-d.handoff:
		return g, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: Shutdown ends Accept.
func (d *door) Close() error { return nil }

// Addr is the listener's address.
func (d *door) Addr() net.Addr { return d.listener.Addr() }

// smtpLog takes go-smtp's own log. Its first value is the client's address, which
// is left out.
type smtpLog struct{ log *slog.Logger }

// Printf logs a fault inside go-smtp.
func (l smtpLog) Printf(format string, v ...any) {
	for i := range v {
		if _, ok := v[i].(net.Addr); ok {
			v[i] = "client"
		}
	}
	l.log.Error("go-smtp", "what", fmt.Sprintf(format, v...))
}

// Println logs a fault inside go-smtp.
func (l smtpLog) Println(v ...any) { l.log.Error("go-smtp", "what", fmt.Sprint(v...)) }

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

func inside(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}
