package policytest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const stsPrefix = "mta-sts."

// STSPath is where a policy host serves the policy (RFC 8461 3.3).
const STSPath = "/.well-known/mta-sts.txt"

// STSHost is a web host that serves MTA-STS policies for any number of domains
// (RFC 8461 3.3), on one loopback port. It issues the certificate of mta-sts.DOMAIN when
// it is asked for by SNI. Methods are safe for concurrent use.
type STSHost struct {
	ca       *CA
	listener net.Listener
	server   *http.Server
	unwatch  func() bool // stops watching the caller's context
	ctx      context.Context
	cancel   context.CancelFunc // lets stalled answers go
	wg       sync.WaitGroup

	mu    sync.Mutex
	sites map[string]*stsSite
	news  chan struct{} // closed and replaced at each request
}

type stsSite struct {
	body   string
	fault  STSFault
	hold   chan struct{} // nil, or closed when released
	count  int           // requests for the policy
	shakes int           // handshakes begun
	strays int           // requests for anything else
	cert   *tls.Certificate
	header http.Header // of the last request
}

// StartSTS serves on a free port of 127.0.0.1 until ctx ends or Close is called.
func StartSTS(ctx context.Context, ca *CA) (*STSHost, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("policytest: no port for HTTPS on 127.0.0.1: %w", err)
	}
	h := &STSHost{ca: ca, listener: l, sites: map[string]*stsSite{}, news: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	h.server = &http.Server{
		Handler: http.HandlerFunc(h.serve), ErrorLog: log.New(discard{}, "", 0), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{GetConfigForClient: h.config, MinVersion: tls.VersionTLS10},
	}
	h.wg.Go(func() {
		// An error here is that of a closed socket: the clients see it.
		_ = h.server.ServeTLS(l, "", "")
	})
	h.unwatch = context.AfterFunc(ctx, func() { _ = h.Close() }) // nobody is left to hear of it
	return h, nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Addr returns where it listens.
func (h *STSHost) Addr() netip.AddrPort {
	return h.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Close stops the server and waits until nothing of it runs any more.
func (h *STSHost) Close() error {
	h.unwatch()
	h.cancel()
	err := h.server.Close()
	h.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Set serves a policy for the domain from now on, without a fault. An empty text is 404.
func (h *STSHost) Set(domain, policy string) { h.SetFault(domain, policy, STSGood) }

// SetFault serves a policy for the domain with a fault.
func (h *STSHost) SetFault(domain, policy string, f STSFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.site(domain)
	s.body, s.fault, s.cert = policy, f, nil
}

// Hold keeps the answers for the domain back until release is called. It is what a test
// uses in place of sleeping.
func (h *STSHost) Hold(domain string) (release func()) {
	hold := make(chan struct{})
	h.mu.Lock()
	h.site(domain).hold = hold
	h.mu.Unlock()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		if s := h.site(domain); s.hold == hold {
			s.hold = nil
		}
		h.mu.Unlock()
		close(hold)
	})
}

// Count returns how many requests for the domain's policy were made.
func (h *STSHost) Count(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.site(domain).count
}

// Handshakes returns how many TLS handshakes were begun for the domain.
func (h *STSHost) Handshakes(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.site(domain).shakes
}

// Strays returns how many requests for anything but the policy were made: a redirect
// that somebody followed, for one.
func (h *STSHost) Strays(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.site(domain).strays
}

// Header returns the header of the last request for the domain's policy.
func (h *STSHost) Header(domain string) http.Header {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.site(domain).header.Clone()
}

// Await waits until n requests for the domain's policy were made.
func (h *STSHost) Await(ctx context.Context, domain string, n int) error {
	for {
		h.mu.Lock()
		have, news := h.site(domain).count, h.news
		h.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("policytest: %d of %d requests for the policy of %s: %w", have, n, domain, ctx.Err())
		}
	}
}

// site returns what is served for the domain. h.mu is held.
func (h *STSHost) site(domain string) *stsSite {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	s := h.sites[domain]
	if s == nil {
		s = &stsSite{}
		h.sites[domain] = s
	}
	return s
}

// config chooses the certificate by SNI (RFC 8461 7.1), or aborts the handshake.
func (h *STSHost) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	domain, ok := strings.CutPrefix(hello.ServerName, stsPrefix)
	if !ok {
		return nil, fmt.Errorf("policytest: SNI %q names no policy host", hello.ServerName)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.site(domain)
	s.shakes++
	if s.fault == STSNoSNIMatch {
		return nil, fmt.Errorf("policytest: nobody is %q here", hello.ServerName)
	}
	if s.cert == nil {
		cert := s.fault.leaf(h.ca, hello.ServerName)
		s.cert = &cert
	}
	c := &tls.Config{Certificates: []tls.Certificate{*s.cert}, MinVersion: tls.VersionTLS10}
	if s.fault == STSOldTLS {
		c.MaxVersion = tls.VersionTLS11
	}
	return c, nil
}

func (h *STSHost) serve(w http.ResponseWriter, r *http.Request) {
	domain, _ := strings.CutPrefix(r.TLS.ServerName, stsPrefix)
	h.mu.Lock()
	s := h.site(domain)
	if r.Host != stsPrefix+domain || r.URL.RequestURI() != STSPath || r.Method != http.MethodGet {
		s.strays++
		body := s.body
		h.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(body)) // the client sees it when this fails
		return
	}
	s.count++
	s.header = r.Header.Clone()
	body, fault, hold := s.body, s.fault, s.hold
	close(h.news)
	h.news = make(chan struct{})
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-h.ctx.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
	fault.answer(h.ctx, w, r, body)
}
