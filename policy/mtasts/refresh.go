package mtasts

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sealpost/sealpost/policy"
)

const (
	refreshAtMost  = 24 * time.Hour  // RFC 8461 3.3 suggests daily
	refreshAtLeast = 2 * time.Second // a policy that does not live that long is fetched by deliveries
	maxRefreshes   = 32              // at once
	startSpread    = 10 * time.Minute
	retryFirst     = 15 * time.Minute
	retryMost      = 6 * time.Hour
	idleLife       = 30 * 24 * time.Hour // own: nobody asked for that long: no longer refreshed
	idleLives      = 30                  // max_ages, for those that are short
)

// schedule sets when a policy that was just fetched is refreshed: at a random 30-80 % of
// max_age, a day at most (own; RFC 8461 3.3 SHOULD), at an hour that who would like to be
// in the way cannot know (10.2).
func (e *entry) schedule(now time.Time) {
	part := time.Duration((0.3 + 0.5*rand.Float64()) * float64(e.maxAge))
	day := time.Duration((0.7 + 0.3*rand.Float64()) * float64(refreshAtMost))
	e.due = now.Add(max(min(part, day), refreshAtLeast))
}

// retry sets when a refresh that failed is tried again: later each time, but again
// before the policy expires while there is time for it; not sooner than the five minutes
// of RFC 8461 3.3.
func (e *entry) retry(now time.Time) {
	pause := retryMost
	if n := e.failures - 1; n < 5 {
		pause = min(retryFirst<<n, retryMost)
	}
	pause = min(pause, e.sts.Expires.Sub(now)/2)
	e.due = now.Add(max(time.Duration((0.75+0.25*rand.Float64())*float64(pause)), backOff))
}

// idle reports whether nobody has asked for the policy for so long that it may expire.
func (e *entry) idle(now time.Time) bool {
	return now.Sub(e.used) > min(max(e.maxAge, idleLife), idleLives*e.maxAge)
}

// Run refreshes policies before they expire and drops those that have expired, until
// ctx ends. RFC 8461 10.2: regularly, whatever the TXT record says, so that who wants a
// policy forgotten has to suppress every one of many attempts.
func (c *Cache) Run(ctx context.Context) error {
	for {
		dropped, next := c.tick()
		c.shelve(dropped...)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tick starts the refreshes that are due and takes out what has expired. It returns the
// domains to take off the shelf, and how long there is nothing to do.
func (c *Cache) tick() (dropped []policy.Domain, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	next = time.Hour
	for d, e := range c.entries {
		until := e.due
		switch {
		case e.flight != nil || e.renewal != nil:
			continue // it wakes us when it lands
		case !e.inForce(now):
			if until = e.lastFailure(); !now.Before(until) {
				if e.sts.Mode != policy.STSAbsent {
					dropped = append(dropped, d)
				}
				c.expired(e)
				continue
			}
		case e.idle(now) || !e.due.Before(e.sts.Expires):
			until = e.sts.Expires
		case now.Before(e.due):
		case c.closed || c.refreshing >= maxRefreshes:
			continue // the next one that lands wakes us
		default:
			c.refreshing++
			c.start(e, &flight{id: e.sts.ID, refresh: true, done: make(chan struct{})})
			continue
		}
		next = min(next, until.Sub(now))
	}
	return dropped, max(next, time.Millisecond)
}

// expired takes out a policy whose time is over. c.mu is held.
func (c *Cache) expired(e *entry) {
	if e.failures > 0 && e.sts.Mode != policy.STSNone {
		c.log.Warn("MTA-STS policy expired: every attempt to renew it failed", "domain", e.domain, "mode", e.sts.Mode, "failures", e.failures)
	}
	c.remove(e)
}

// lastFailure is when the last back-off of the domain is over.
func (e *entry) lastFailure() time.Time {
	if len(e.failed) == 0 {
		return time.Time{}
	}
	return e.failed[len(e.failed)-1].until
}
