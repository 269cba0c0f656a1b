package mtasts

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

const (
	defaultFetchWait = 20 * time.Second
	defaultDomains   = 50000
	maxWeight        = 64 << 20 // octets that the patterns of all domains take
	patternCost      = 32       // octets that a pattern takes beside its text: header, rounding up
	maxFetches       = 64       // policy hosts that are asked at once
	recordPrefix     = "_mta-sts."

	backOff    = 5 * time.Minute // RFC 8461 3.3: after a failed fetch, per id
	maxFailed  = 8               // ids of a domain whose failures are kept; more are taken for one
	renewEvery = time.Minute     // of a domain, past the DNS cache (own)

	// Own: a domain whose id is another one at each question is not refetched without end.
	fetchWindow, fetchLimit = 10 * time.Minute, 10

	// Own: what a max_age of zero is good for: the deliveries that wait for the policy.
	leastLife = time.Second
)

// TextResolver asks for TXT records. Implemented by dnssec.Resolver, which keeps them
// for their TTL; FreshTXT goes past what is kept.
type TextResolver interface {
	TXT(ctx context.Context, name policy.Domain) dnssec.Reply[string]
	FreshTXT(ctx context.Context, name policy.Domain) dnssec.Reply[string]
}

// Observer is told what came of every [Cache.Get]: source is "mta-sts", result one of
// [Results]. Calls are concurrent and must not block.
type Observer interface {
	LookedUp(source, result string)
}

// source is what an Observer hears this package's lookups called.
const source = "mta-sts"

// Results returns every result that an Observer can hear of: the mode of the policy in
// force, or why there is none: no record (none), a record or policy that is invalid, no
// policy to be fetched, or DNS that did not answer (unknown).
func Results() []string {
	return []string{"none", "enforce", "testing", "mode-none", "fetch-failed", "invalid", "unknown"}
}

// Options says how policies are found and kept. Resolver and Fetch are needed.
type Options struct {
	Resolver TextResolver
	// Fetch is Fetcher.Fetch, or a test's.
	Fetch func(context.Context, policy.Domain) (Policy, *policy.Failure)
	// Shelf keeps policies across restarts; nil: nobody does.
	Shelf Shelf
	// FetchWait is how long a delivery waits for a policy that is being fetched; zero:
	// 20 seconds. The fetch goes on behind it.
	FetchWait time.Duration
	// MaxDomains bounds how many domains are kept; zero: 50000.
	MaxDomains int
	Logger     *slog.Logger // nil: discard
	Observer   Observer     // nil: nobody
}

// Cache knows the policies of domains. It is safe for concurrent use. Close ends it.
type Cache struct {
	o     Options // defaults filled in; read only
	log   *slog.Logger
	slots chan struct{} // bounds fetches
	wake  chan struct{} // tells Run that something is due earlier

	// lifetime ends with Close: fetches that several deliveries wait for obey it and not
	// one delivery's context.
	lifetime context.Context
	end      context.CancelFunc
	wg       sync.WaitGroup // fetches

	shelving sync.Mutex // one Put at a time, each of the newest state; taken before mu

	mu         sync.Mutex
	closed     bool
	entries    map[policy.Domain]*entry
	weight     int // of all entries
	refreshing int // refreshes under way
}

// entry is what is known of a domain. Cache.mu guards it.
type entry struct {
	domain policy.Domain
	sts    policy.STS // the last policy; Mode is STSAbsent when there never was one
	maxAge time.Duration
	used   time.Time // last asked for
	due    time.Time // when it is refreshed; zero: not at all
	// changed is when a policy with other terms took the place of one in force.
	changed time.Time
	// failures counts the refreshes that failed since the last good fetch.
	failures int
	failed   []failedFetch // not over yet, in order of time
	fetches  []time.Time   // when fetches began, in fetchWindow
	flight   *flight       // nil: nothing is being fetched
	renewed  time.Time     // when the record was asked for past the DNS cache
	renewal  *renewal      // nil: that is not going on
	gone     bool          // forgotten while something was going on
}

type failedFetch struct {
	id      string
	until   time.Time
	failure *policy.Failure
}

// flight is a fetch that is under way. done is closed when it has landed; the failure
// is read afterwards.
type flight struct {
	id      string // of the record; Cache.mu guards it until done
	refresh bool   // nobody's delivery asked for it
	done    chan struct{}
	failure *policy.Failure
	sts     policy.STS
}

// Open makes a cache with what the shelf holds. The error is about a missing option or
// that of the shelf.
func Open(ctx context.Context, o Options) (*Cache, error) {
	if o.Resolver == nil || o.Fetch == nil {
		return nil, errors.New("mtasts: a resolver and a fetch function are needed")
	}
	if o.FetchWait <= 0 {
		o.FetchWait = defaultFetchWait
	}
	if o.MaxDomains <= 0 {
		o.MaxDomains = defaultDomains
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		o: o, log: o.Logger, slots: make(chan struct{}, maxFetches), wake: make(chan struct{}, 1),
		entries: map[policy.Domain]*entry{},
	}
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	c.lifetime, c.end = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

// Close ends the fetches that are under way and waits for them. Afterwards Get answers
// from what is kept. Run ends by its own context.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.wg.Wait()
	return nil
}

// inForce reports whether the entry has a policy that has not expired.
func (e *entry) inForce(now time.Time) bool { return e != nil && e.sts.In(now) != policy.STSAbsent }

// answer is what a delivery is told: the policy in force, or none.
func (e *entry) answer(now time.Time, record policy.Lookup) policy.STS {
	out := policy.STS{}
	if e.inForce(now) {
		out = e.sts
	}
	out.Record = record
	return out
}

// barred returns why a fetch for the id must wait, or nil.
func (e *entry) barred(id string, now time.Time) *policy.Failure {
	kept := e.failed[:0]
	for _, f := range e.failed {
		if now.Before(f.until) {
			kept = append(kept, f)
		}
	}
	e.failed = kept
	for _, f := range kept {
		if f.id == id || len(kept) >= maxFailed {
			return f.failure // RFC 8461 3.3: not again for five minutes per id
		}
	}
	started := e.fetches[:0]
	for _, t := range e.fetches {
		if now.Sub(t) < fetchWindow {
			started = append(started, t)
		}
	}
	e.fetches = started
	if len(started) >= fetchLimit && e.inForce(now) {
		return failed("the record has had too many ids in a short time: the policy at hand is kept for now")
	}
	return nil
}

// weight is what the entry takes of the cache's memory beyond the usual.
func (e *entry) weight() (n int) {
	for _, mx := range e.sts.MX {
		n += len(mx) + patternCost
	}
	return n
}

// entryFor returns the domain's entry, a new one if need be, and the domains whose policy
// had to go for it. c.mu is held.
func (c *Cache) entryFor(d policy.Domain) (e *entry, dropped []policy.Domain) {
	if e = c.entries[d]; e != nil {
		return e, nil
	}
	e = &entry{domain: d}
	c.entries[d] = e
	return e, c.makeRoom(e)
}

// makeRoom takes entries out until there is room for all, but never keep. What has no
// policy in force goes first, then what was not asked for the longest. c.mu is held. It
// returns the domains whose policy is to leave the shelf.
func (c *Cache) makeRoom(keep *entry) (dropped []policy.Domain) {
	now := time.Now()
	rank := func(e *entry) int {
		switch {
		case e.flight != nil || e.renewal != nil:
			return 2
		case e.inForce(now):
			return 1
		}
		return 0
	}
	for len(c.entries) > 1 && (len(c.entries) > c.o.MaxDomains || c.weight > maxWeight) {
		var victim *entry
		for _, e := range c.entries {
			if e != keep && (victim == nil || rank(e) < rank(victim) || rank(e) == rank(victim) && e.used.Before(victim.used)) {
				victim = e
			}
		}
		if victim.sts.Mode != policy.STSAbsent {
			dropped = append(dropped, victim.domain)
		}
		c.remove(victim)
	}
	return dropped
}

// remove takes an entry out. c.mu is held.
func (c *Cache) remove(e *entry) {
	c.weight -= e.weight()
	e.gone = true
	delete(c.entries, e.domain)
}

// poke wakes Run up.
func (c *Cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
