package smtpclient

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// maxChains bounds the chains that are remembered.
	maxChains = 4096
	// chainAge is for how long, at most, a chain is believed without checking its
	// signatures again.
	chainAge = time.Hour
)

// chains is policy.Chains for one set of roots: thousands of domains share a host, or the
// certificate of one who has many. What it keeps are digests of whole chains, octet by
// octet; it can only forget. It is safe for concurrent use.
type chains struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]span
}

// span is when a chain leads to a root.
type span struct {
	from, until time.Time
	checked     time.Time // when that was found out
}

func newChains() *chains { return &chains{known: map[[sha256.Size]byte]span{}} }

// digest of a chain is that of its certificates in order, each with its length.
func digest(chain []*x509.Certificate) (d [sha256.Size]byte) {
	h := sha256.New()
	var length [4]byte
	for _, c := range chain {
		binary.BigEndian.PutUint32(length[:], uint32(len(c.Raw)))
		h.Write(length[:])
		h.Write(c.Raw)
	}
	h.Sum(d[:0])
	return d
}

// Leads implements policy.Chains.
func (c *chains) Leads(chain []*x509.Certificate, now time.Time) bool {
	d := digest(chain)
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.known[d]
	return ok && s.holds(now)
}

func (s span) holds(now time.Time) bool {
	age := now.Sub(s.checked)
	return age >= 0 && age < chainAge && !now.Before(s.from) && !now.After(s.until)
}

// Led implements policy.Chains. When there are too many, any other one goes.
func (c *chains) Led(chain []*x509.Certificate, now, from, until time.Time) {
	d := digest(chain)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[d] = span{from, until, now}
	for old := range c.known {
		if len(c.known) <= maxChains {
			return
		}
		if old != d {
			delete(c.known, old)
		}
	}
}
