package mtasts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Shelf keeps policies across restarts, each under its domain's name. Calls of Put do
// not overlap.
type Shelf interface {
	// Each calls fn with every value that was put, until fn returns an error.
	Each(ctx context.Context, fn func(name string, value []byte) error) error
	// Put keeps a value, durably when the error is nil; a nil value takes it away.
	Put(ctx context.Context, name string, value []byte) error
}

const (
	shelfVersion = 1
	shelfTimeout = 30 * time.Second
)

// shelved is a policy on the shelf.
type shelved struct {
	Version int            `json:"v"`
	ID      string         `json:"id,omitempty"`
	Mode    policy.STSMode `json:"mode"`
	MX      []string       `json:"mx,omitempty"`
	MaxAge  int64          `json:"max_age"` // seconds
	Fetched time.Time      `json:"fetched"`
	Expires time.Time      `json:"expires"`
	Used    time.Time      `json:"used"`
}

// shelve writes the newest state of domains: the policy, or that there is none any more.
func (c *Cache) shelve(domains ...policy.Domain) {
	if c.o.Shelf == nil {
		return
	}
	for _, d := range domains {
		c.shelveOne(d)
	}
}

func (c *Cache) shelveOne(d policy.Domain) {
	c.shelving.Lock()
	defer c.shelving.Unlock()
	c.mu.Lock()
	e := c.entries[d]
	var s shelved
	if e != nil {
		s = shelved{
			Version: shelfVersion, ID: e.sts.ID, Mode: e.sts.Mode, MX: e.sts.MX, MaxAge: int64(e.maxAge / time.Second),
			Fetched: e.sts.Fetched, Expires: e.sts.Expires, Used: e.used,
		}
	}
	c.mu.Unlock()
	var value []byte
	var err error
	if s.Mode != policy.STSAbsent {
		value, err = json.Marshal(s)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.lifetime), shelfTimeout)
		defer cancel()
		err = c.o.Shelf.Put(ctx, string(d), value)
	}
	if err != nil {
		c.log.Error("MTA-STS policy not written: it is in force until we stop, and then fetched anew", "domain", d, "error", err)
	}
}

// load reads the shelf. What cannot be understood is left there and left out: a newer
// version may have written it.
func (c *Cache) load(ctx context.Context) error {
	if c.o.Shelf == nil {
		return nil
	}
	now := time.Now()
	var over []string
	err := c.o.Shelf.Each(ctx, func(name string, value []byte) error {
		e, err := unshelve(name, value, now)
		switch {
		case err != nil:
			c.log.Warn("MTA-STS policy on the shelf left out", "domain", name, "error", err)
		case !e.inForce(now) || len(c.entries) >= c.o.MaxDomains || c.weight > maxWeight:
			over = append(over, name)
		default:
			c.entries[e.domain] = e
			c.weight += e.weight()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading MTA-STS policies: %w", err)
	}
	for _, name := range over {
		if err := c.o.Shelf.Put(ctx, name, nil); err != nil {
			return fmt.Errorf("dropping the expired MTA-STS policy of %s: %w", name, err)
		}
	}
	return nil
}

func unshelve(name string, value []byte, now time.Time) (*entry, error) {
	var s shelved
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	d, err := policy.ParseDomain(name)
	switch {
	case err != nil || string(d) != name:
		return nil, fmt.Errorf("%s is no domain", quoted(name))
	case s.Version != shelfVersion:
		return nil, fmt.Errorf("version %d is not known here", s.Version)
	case s.Mode == policy.STSAbsent || s.Mode != policy.STSNone && len(s.MX) == 0:
		return nil, fmt.Errorf("a policy of mode %s with %d mx patterns", s.Mode, len(s.MX))
	}
	for _, mx := range s.MX {
		if err := checkPattern(mx); err != nil {
			return nil, err
		}
	}
	age := min(max(time.Duration(s.MaxAge)*time.Second, 0), maxAge)
	e := &entry{
		domain: d, maxAge: age, used: s.Used,
		sts: policy.STS{Mode: s.Mode, ID: s.ID, MX: s.MX, Fetched: s.Fetched, Expires: s.Expires},
	}
	if latest := now.Add(max(age, leastLife)); e.sts.Expires.IsZero() || e.sts.Expires.After(latest) {
		e.sts.Expires = latest // own: the clock was set back; max_age is the most
	}
	if s.Fetched.After(now) { // the clock was set back: it must not put the refresh off
		e.sts.Fetched = now
	}
	if e.schedule(e.sts.Fetched); e.due.Before(now) { // what became due meanwhile is not done all at once
		e.due = now.Add(time.Duration(rand.Float64() * float64(min(startSpread, e.sts.Expires.Sub(now)/2))))
	}
	return e, nil
}

// Entry is what the operator is shown of a domain.
type Entry struct {
	Domain policy.Domain `json:"domain"`
	// STS is the policy in force; with its Problem when the last fetch failed.
	STS policy.STS `json:"sts"`
	// Used is when a delivery last asked for it.
	Used time.Time `json:"used,omitzero"`
	// Refresh is when it will be fetched again; zero: not by itself.
	Refresh time.Time `json:"refresh,omitzero"`
	// Failures counts the refreshes that failed since the last good fetch.
	Failures int `json:"failures,omitempty"`
}

// List returns what is kept, sorted by domain: policies in force, and domains whose
// policy could not be had in the last five minutes.
func (c *Cache) List() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	out := make([]Entry, 0, len(c.entries))
	for _, e := range c.entries {
		item := Entry{Domain: e.domain, STS: e.answer(now, policy.Lookup{}), Used: e.used, Failures: e.failures}
		if n := len(e.failed); n > 0 && now.Before(e.failed[n-1].until) {
			item.STS.Problem, item.STS.Failure = e.failed[n-1].failure.Detail, e.failed[n-1].failure.Reason
		}
		if e.inForce(now) && e.due.Before(e.sts.Expires) && !e.idle(now) {
			item.Refresh = e.due
		}
		if item.STS.Mode != policy.STSAbsent || item.STS.Problem != "" {
			out = append(out, item)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

// Forget drops what is kept about a domain, at the operator's word, and reports whether
// there was something: the next delivery starts anew.
func (c *Cache) Forget(d policy.Domain) bool {
	c.mu.Lock()
	e := c.entries[d]
	if e != nil {
		c.remove(e)
	}
	c.mu.Unlock()
	if e == nil {
		return false
	}
	c.shelve(d)
	return true
}
