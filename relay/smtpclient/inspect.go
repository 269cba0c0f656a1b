package smtpclient

import (
	"time"

	"github.com/sealpost/sealpost/policy"
)

// proofAge is how long a measurement of a connection stands for steps with the
// same key. Verifying a chain costs more than sending a message does.
const proofAge = time.Minute

// proof is what a connection proved when it was last measured.
type proof struct {
	at       time.Time
	evidence policy.Evidence
}

// inspect measures a connection against a step. What was measured within the last
// minute is used again: all that an Inspector looks at is either fixed (the
// handshake, the roots), or part of the pool's key (host, SNI, TLSA, names,
// rung; another name's connection is measured in borrow), or taken from the step at hand (route), or time; and a certificate that
// has run out since is noticed at once.
func (p *Pool) inspect(c *conn, s policy.Step) policy.Evidence {
	if c.tls == nil {
		return policy.InClear(s)
	}
	c.proving.Lock()
	defer c.proving.Unlock()
	now := p.o.Now()
	if age := now.Sub(c.proof.at); age < 0 || age >= proofAge || c.expired(now) {
		c.proof.evidence, c.proof.at = p.measure(c, s, now), now
	}
	e := c.proof.evidence
	e.Route = s.Target.Route
	return e
}

// measure is the measurement itself.
func (p *Pool) measure(c *conn, s policy.Step, now time.Time) policy.Evidence {
	if c.tls == nil {
		return policy.InClear(s)
	}
	e := p.inspector.Inspect(*c.tls, s, now)
	e.RequireTLS = c.ext.requireTLS // RFC 8689 2: of the EHLO after TLS
	return e
}

// expired reports whether a certificate of the chain ran out since the last measurement.
func (c *conn) expired(now time.Time) bool {
	for _, cert := range c.tls.PeerCertificates {
		if now.After(cert.NotAfter) && !c.proof.at.After(cert.NotAfter) {
			return true
		}
	}
	return false
}
