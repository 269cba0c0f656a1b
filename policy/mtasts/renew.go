package mtasts

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// renewal is a question for the record past the DNS cache. changed is read when done is
// closed.
type renewal struct {
	done    chan struct{}
	changed bool
}

// Renew asks for the record past the DNS cache, because a host has just failed the
// policy, and refetches the policy when the id is another one (RFC 8461 5, 5.1: before a
// permanent failure; own: at once). It reports whether a policy with other terms is in
// force now. Own: one renewal a minute for a domain; who comes within that minute is told
// what the last one found, because the policy that failed may be from before it.
func (c *Cache) Renew(ctx context.Context, d policy.Domain) (policy.STS, bool) {
	c.mu.Lock()
	now := time.Now()
	e := c.entries[d]
	if e == nil { // nothing is remembered: there is nothing that could have failed
		c.mu.Unlock()
		sts := c.find(ctx, d, c.o.Resolver.FreshTXT)
		return sts, sts.In(time.Now()) != policy.STSAbsent
	}
	if r := e.renewal; r != nil {
		c.mu.Unlock()
		select {
		case <-r.done:
			sts, lately := c.told(e)
			return sts, r.changed || lately
		case <-ctx.Done():
			return c.told(e)
		}
	}
	if !e.renewed.IsZero() && now.Sub(e.renewed) < renewEvery {
		c.mu.Unlock()
		return c.told(e)
	}
	r := &renewal{done: make(chan struct{})}
	e.renewal, e.renewed = r, now
	before := e.answer(now, policy.Lookup{})
	c.mu.Unlock()

	sts := c.find(ctx, d, c.o.Resolver.FreshTXT)
	after := time.Now()
	r.changed = before.In(now) != sts.In(after) || !slices.Equal(before.MX, sts.MX)
	c.mu.Lock()
	e.renewal = nil
	c.mu.Unlock()
	close(r.done)
	return sts, r.changed
}

// told is the answer to who comes while or soon after somebody else renewed.
func (c *Cache) told(e *entry) (policy.STS, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return e.answer(now, e.sts.Record), !e.changed.IsZero() && now.Sub(e.changed) < renewEvery
}
