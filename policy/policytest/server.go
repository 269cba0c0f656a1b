package policytest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// serving is the running server of a Zones.
type serving struct {
	mu      sync.Mutex
	ctx     context.Context // ends with Close: lets held answers go
	cancel  context.CancelFunc
	addr    string
	unwatch func() bool // stops watching the caller's context
	servers []*dns.Server
	wg      sync.WaitGroup
}

// Start serves on one free port of 127.0.0.1, UDP and TCP, until ctx ends or
// [Zones.Close] is called. It is called once.
func (z *Zones) Start(ctx context.Context) error {
	s := &z.serving
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil {
		return errors.New("policytest: started already")
	}
	udp, tcp, err := listenBoth()
	if err != nil {
		return fmt.Errorf("policytest: no port for DNS on 127.0.0.1: %w", err)
	}
	s.addr = tcp.Addr().String()
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	z.serve(&dns.Server{PacketConn: udp})
	z.serve(&dns.Server{Listener: tcp})
	s.unwatch = context.AfterFunc(ctx, func() { _ = z.Close() }) // nobody is left to hear of it
	return nil
}

// StartTLS serves DNS over TLS (RFC 7858) as well, with the given certificate, and
// returns its address. Start goes before.
func (z *Zones) StartTLS(cert tls.Certificate) (string, error) {
	s := &z.serving
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		return "", errors.New("policytest: not started")
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		return "", fmt.Errorf("policytest: no port for DNS over TLS: %w", err)
	}
	z.serve(&dns.Server{Listener: l})
	return l.Addr().String(), nil
}

// serve runs one server and returns when it is ready to be stopped. s.mu is held.
func (z *Zones) serve(srv *dns.Server) {
	s := &z.serving
	ready := make(chan struct{})
	srv.Handler = dns.HandlerFunc(z.handle)
	srv.NotifyStartedFunc = func() { close(ready) }
	srv.MaxTCPQueries = -1
	s.servers = append(s.servers, srv)
	s.wg.Go(func() {
		// An error here is that of a closed socket: the clients see it.
		_ = srv.ActivateAndServe()
	})
	<-ready
}

// Addr returns the server's address, "127.0.0.1:port".
func (z *Zones) Addr() string {
	z.serving.mu.Lock()
	defer z.serving.mu.Unlock()
	return z.serving.addr
}

// Close stops the server and waits until nothing of it runs any more.
func (z *Zones) Close() error {
	s := &z.serving
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	if s.cancel != nil {
		s.unwatch()
		s.cancel()
	}
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		errs = append(errs, srv.Shutdown())
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth() (net.PacketConn, net.Listener, error) {
	var last error
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp, nil
		}
		last = err
		_ = tcp.Close() // only a port that did not fit
	}
	return nil, nil, last
}

// handle answers one query.
func (z *Zones) handle(w dns.ResponseWriter, r *dns.Msg) {
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNotImplemented)) // the client sees a broken connection
		return
	}
	q := question{dns.CanonicalName(r.Question[0].Name), r.Question[0].Qtype}
	z.note(q)
	z.mu.RLock()
	f, mode := z.faultAt(q), z.mode
	z.mu.RUnlock()
	switch mode {
	case Silent:
		return
	case Failing:
		_ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)) // the client is left to time out when this fails
		return
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if f != nil {
		f.stall(z.serving.ctx)
		if f.kind.spoil(w, r) {
			return
		}
	}
	m := z.reply(r, q)
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := r.IsEdns0(); opt != nil { // RFC 6891 6.2.5
			size = min(max(int(opt.UDPSize()), size), 1232)
		}
		if f != nil && f.kind == Truncate {
			m.Answer, m.Ns, m.Truncated = nil, nil, true
		}
	}
	m.Truncate(size)
	_ = w.WriteMsg(m) // the client is left to time out when this fails
}
