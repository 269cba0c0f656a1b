package metrics

import (
	"crypto/tls"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Positions on the axis directions.
const (
	directionIn = iota
	directionOut
)

// Submission counts what happens at the inbound dock; it implements
// submission.Observer. Get one from [Metrics.Submission]; it is safe for concurrent use.
type Submission struct {
	m *Metrics

	mu      sync.Mutex
	expires map[string]time.Time // by listener
}

// Submission returns the view for the inbound dock. One is enough.
func (m *Metrics) Submission() *Submission {
	return &Submission{m: m, expires: map[string]time.Time{}}
}

// Connected counts a connection in.
func (s *Submission) Connected(string) { s.m.connsIn.Inc() }

// Disconnected counts a connection out.
func (s *Submission) Disconnected(string) { s.m.connsIn.Dec() }

// Secured counts a TLS handshake.
func (s *Submission) Secured(_ string, cs tls.ConnectionState) { s.m.handshake(directionIn, cs) }

// HandshakeFailed counts one that did not succeed.
func (s *Submission) HandshakeFailed(string) { s.m.handshakesFailed.Inc() }

// Authenticated counts an AUTH exchange that came to an end.
func (s *Submission) Authenticated(mechanism, result string) {
	s.m.auth.at2(s.m.auth.axes[0].index(mechanism), s.m.auth.axes[1].index(result)).Inc()
}

// Accepted counts a message for which a client got its 250. (That of queue.Observer
// counts nothing: a message is counted once, at the door.)
func (s *Submission) Accepted(listener string, octets int64) {
	i := s.m.accepted.axes[0].index(listener)
	s.m.accepted.at1(i).Inc()
	s.m.acceptedBytes.at1(i).Add(float64(max(octets, 0)))
}

// Rejected counts a refused sender, recipient or content.
func (s *Submission) Rejected(_, reason string) {
	s.m.rejected.at1(s.m.rejected.axes[0].index(reason)).Inc()
}

// CertificateLoaded keeps the first expiry of all listeners.
func (s *Submission) CertificateLoaded(listener string, notAfter time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires[listener] = notAfter
	first := notAfter
	for _, t := range s.expires {
		if t.Before(first) {
			first = t
		}
	}
	s.m.certExpiry.Set(seconds(first))
}

// Client counts what happens at the outbound dock; it implements
// smtpclient.Observer. Get one from [Metrics.Client]; it is safe for concurrent use.
type Client struct{ m *Metrics }

// Client returns the view for the outbound dock.
func (m *Metrics) Client() *Client { return &Client{m} }

// ConnectionOpened counts a connection that stands, and the time that it took.
func (c *Client) ConnectionOpened(took time.Duration) {
	c.m.connsOut.Inc()
	c.m.phase(phaseConnect, took)
}

// ConnectionClosed counts one that is gone.
func (c *Client) ConnectionClosed() { c.m.connsOut.Dec() }

// ConnectionReused counts a session taken from the pool.
func (c *Client) ConnectionReused() { c.m.reused.Inc() }

// HandshakeDone counts a TLS handshake, and the time that it took.
func (c *Client) HandshakeDone(cs tls.ConnectionState, took time.Duration) {
	c.m.handshake(directionOut, cs)
	c.m.phase(phaseTLS, took)
}

// OpenFailed counts a session that could not be opened.
func (c *Client) OpenFailed(reason policy.Reason) { c.m.openFailures.at1(int(reason) - 1).Inc() }

func (m *Metrics) handshake(direction int, cs tls.ConnectionState) {
	m.tlsConns.at4(direction, versionIndex(cs.Version), exchangeIndex(uint16(cs.CurveID)), cipherIndex(cs.CipherSuite)).Inc()
}

// Facts counts what is asked of DNS; it implements the observers of policy/discover
// and policy/dnssec. Get one from [Metrics.Facts]; it is safe for concurrent use.
type Facts struct{ m *Metrics }

// Facts returns the view for what gathers facts.
func (m *Metrics) Facts() *Facts { return &Facts{m} }

// LookedUp counts a lookup of a policy's part; see sources and results for the words.
func (f *Facts) LookedUp(source, result string) {
	axes := f.m.lookups.axes
	i, j := axes[0].index(source), axes[1].index(result)
	c := f.m.lookups.at2(i, j)
	if c == nil { // a combination that cannot be
		c = f.m.lookups.at2(i, -1)
	}
	c.Inc()
}

// Queried counts one query to a resolver, and the time that it took.
func (f *Facts) Queried(outcome string, took time.Duration) {
	i := f.m.dnsQueries.axes[0].index(outcome)
	f.m.dnsQueries.at1(i).Inc()
	f.m.dnsTime.at1(i).Observe(max(took, 0).Seconds())
}
