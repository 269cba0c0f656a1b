package dnssec

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

var (
	// errMalformed: the server's reply cannot be read, or is no reply to the query.
	errMalformed = errors.New("malformed reply")
	// errForeign: what came was not from the server, or not for us.
	errForeign = errors.New("a reply that does not fit")
)

// maxForeign bounds how many packets that are not for us are looked at.
const maxForeign = 64

// upstream is one server and the connection to it. It is safe for concurrent use.
type upstream struct {
	Server
	trusted bool
	tls     *tls.Config   // nil: plain DNS
	dialing chan struct{} // holds one token: at most one dial at a time

	mu        sync.Mutex
	sickUntil time.Time
	stream    *stream // the open connection, or nil; owned by the upstream
}

func newUpstream(s Server, trusted bool, roots *x509.CertPool) *upstream {
	u := &upstream{Server: s, trusted: trusted, dialing: make(chan struct{}, 1)}
	if s.Name != "" {
		// RFC 8310 8.1: strict privacy profile. The name is verified or nothing is sent.
		u.tls = &tls.Config{ServerName: string(s.Name), RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return u
}

func (u *upstream) sick(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.sickUntil)
}

func (u *upstream) mark(silent bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sickUntil = time.Time{}
	if silent {
		u.sickUntil = now.Add(sickFor)
	}
}

// exchange sends one query and returns the reply that matches it.
func (u *upstream) exchange(ctx context.Context, q question, edns bool) (*dns.Msg, error) {
	query := newQuery(q, edns)
	wire, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("%w: %s cannot be asked: %w", errMalformed, q, err)
	}
	if u.tls == nil {
		m, err := u.overUDP(ctx, wire, q)
		if m != nil || err != nil {
			return m, err
		}
	}
	return u.overStream(ctx, wire, q)
}

// overUDP returns nil and no error when the reply must be fetched over TCP: it was
// cut off (RFC 7766 5), or cannot be read, and a datagram may be forged.
func (u *upstream) overUDP(ctx context.Context, wire []byte, q question) (*dns.Msg, error) {
	var d net.Dialer // a new socket for each query: a new random port (RFC 5452 9.2)
	conn, err := d.DialContext(ctx, "udp", u.Addr.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is buffered in a datagram socket
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	id := binary.BigEndian.Uint16(wire)
	buf := make([]byte, 4096)
	var foreign error
	for range maxForeign {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, errors.Join(foreign, err)
		}
		raw := buf[:n]
		// RFC 5452 9.1: what does not match is not for us; the true reply may still come.
		if n < 12 || binary.BigEndian.Uint16(raw) != id {
			foreign = fmt.Errorf("%w: another id", errForeign)
			continue
		}
		if raw[2]&0x02 != 0 { // TC
			return nil, nil
		}
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return nil, nil
		}
		if err := matches(m, q, id); err != nil {
			foreign = fmt.Errorf("%w: %w", errForeign, err)
			continue
		}
		return m, nil
	}
	return nil, foreign
}

// overStream asks over TCP or TLS. A connection that was open before may have been
// closed by the server meanwhile: then a new one is tried (RFC 7766 6.2.4).
func (u *upstream) overStream(ctx context.Context, wire []byte, q question) (*dns.Msg, error) {
	for {
		s, reused, err := u.connect(ctx)
		if err != nil {
			return nil, err
		}
		raw, id, err := s.ask(ctx, wire)
		if err != nil && reused && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			return nil, fmt.Errorf("%w for %s: %w", errMalformed, q, err)
		}
		if err := matches(m, q, id); err != nil {
			return nil, fmt.Errorf("%w for %s: %w", errMalformed, q, err)
		}
		if m.Truncated {
			return nil, fmt.Errorf("%w for %s: cut off over TCP", errMalformed, q)
		}
		return m, nil
	}
}

// connect returns the open connection, and whether it was open before, or dials.
func (u *upstream) connect(ctx context.Context) (*stream, bool, error) {
	select {
	case u.dialing <- struct{}{}:
		defer func() { <-u.dialing }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	u.mu.Lock()
	s := u.stream
	u.mu.Unlock()
	if s != nil && s.usable() {
		return s, true, nil
	}
	var conn net.Conn
	var err error
	if u.tls != nil {
		d := tls.Dialer{Config: u.tls}
		conn, err = d.DialContext(ctx, "tcp", u.Addr.String())
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp", u.Addr.String())
	}
	if err != nil {
		return nil, false, err
	}
	s = newStream(conn)
	u.mu.Lock()
	u.stream = s
	u.mu.Unlock()
	return s, false, nil
}

// close ends the connection and waits for its reader.
func (u *upstream) close() {
	u.mu.Lock()
	s := u.stream
	u.stream = nil
	u.mu.Unlock()
	if s != nil {
		s.close(net.ErrClosed)
		<-s.done
	}
}
