package mtasts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

// Get returns the policy of a domain for a delivery: of the next hop, that is the
// recipient's domain or a configured smart host (RFC 8461 3.4). It never asks a parent
// domain. Without a policy in force the mode is STSAbsent, and the delivery goes on as
// if there were no MTA-STS (3.3 MUST).
func (c *Cache) Get(ctx context.Context, d policy.Domain) policy.STS {
	sts := c.find(ctx, d, c.o.Resolver.TXT)
	if c.o.Observer != nil {
		c.o.Observer.LookedUp(source, word(&sts))
	}
	return sts
}

// word is the result of a lookup, one of Results.
func word(s *policy.STS) string {
	switch mode := s.In(time.Now()); {
	case mode == policy.STSNone:
		return "mode-none"
	case mode != policy.STSAbsent:
		return mode.String()
	case s.Failure == policy.STSInvalid:
		return "invalid"
	case s.Failure != policy.ReasonUnset:
		return "fetch-failed"
	case s.Record.Answer == policy.Unknown:
		return "unknown"
	case s.Problem != "":
		return "invalid" // the record
	}
	return "none"
}

// published is what the record says.
type published struct {
	policy.Lookup
	id      string // empty: no record that counts
	problem string // why not, where somebody seems to want one
}

func read(r dnssec.Reply[string]) published {
	p := published{Lookup: r.Lookup}
	switch r.Answer {
	case policy.Unknown:
		p.problem = "the MTA-STS record is unknown: " + r.Problem
	case policy.Records:
		rec, err := ParseRecords(r.Records)
		if p.id = rec.ID; err != nil && !errors.Is(err, ErrNoRecord) {
			p.problem = oneLine("the MTA-STS record is invalid: " + err.Error())
		}
	}
	return p
}

type asker func(context.Context, policy.Domain) dnssec.Reply[string]

// find asks for the record and decides what applies (policy: facts, MTA-STS).
func (c *Cache) find(ctx context.Context, d policy.Domain, ask asker) policy.STS {
	if d == "" || len(recordPrefix)+len(d) > 253 {
		return policy.STS{Record: policy.Lookup{Answer: policy.NoName}} // RFC 1035 2.3.4: there can be no such name
	}
	record := read(ask(ctx, recordPrefix+d))
	wait, cancel := context.WithTimeout(ctx, c.o.FetchWait)
	defer cancel()
	for {
		sts, f := c.decide(d, &record)
		if f == nil {
			return sts
		}
		select {
		case <-f.done:
			if f.id == record.id && f.failure == nil {
				sts = f.sts // also when its max_age is over by now: it was fetched for this delivery
				sts.Record = record.Lookup
				return sts
			}
		case <-wait.Done():
			sts.Problem, sts.Failure = "the policy is still being fetched", policy.STSFetchFailed
			return sts
		}
	}
}

// decide says what applies by what is known now; or, with a flight, that it is worth
// waiting for: what applies if the wait is too long is returned all the same.
func (c *Cache) decide(d policy.Domain, record *published) (policy.STS, *flight) {
	sts, f, dropped := c.decideLocked(d, record)
	c.shelve(dropped...)
	return sts, f
}

func (c *Cache) decideLocked(d policy.Domain, record *published) (sts policy.STS, f *flight, dropped []policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e := c.entries[d]
	if e != nil {
		e.used = now
	}
	switch {
	case record.id == "":
		// RFC 8461 3.3 MUST: what is cached applies when the record is gone, broken or
		// unknown. Own: unknown and nothing cached is as if there were none.
		sts = e.answer(now, record.Lookup)
		sts.Problem = record.problem
		return sts, nil, nil
	case e.inForce(now) && e.sts.ID == record.id:
		return e.answer(now, record.Lookup), nil, nil
	}
	// RFC 8461 3.1, 5.1: a first policy, a new id, or an expired one.
	if e == nil {
		e, dropped = c.entryFor(d)
		e.used = now
	}
	sts = e.answer(now, record.Lookup)
	if e.flight == nil {
		failure := e.barred(record.id, now)
		if failure == nil && c.closed {
			failure = failed("we are stopping")
		}
		if failure != nil {
			sts.Problem, sts.Failure = failure.Detail, failure.Reason
			return sts, nil, dropped
		}
		c.start(e, &flight{id: record.id, done: make(chan struct{})})
	}
	return sts, e.flight, dropped
}

// start begins a fetch. c.mu is held and c is not closed.
func (c *Cache) start(e *entry, f *flight) {
	e.flight = f
	c.wg.Go(func() {
		p, failure := c.fly(e, f)
		written := c.land(e, f, p, failure)
		close(f.done)
		c.shelve(written...)
		c.poke()
	})
}

// fly makes the fetch of a flight when it is its turn.
func (c *Cache) fly(e *entry, f *flight) (Policy, *policy.Failure) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-c.lifetime.Done():
		return Policy{}, failed("we are stopping")
	}
	if f.refresh {
		// The record before the policy: when both change in between, the id at hand is the
		// old one, and the new one will be seen (RFC 8461 8.1).
		record := read(c.o.Resolver.TXT(c.lifetime, recordPrefix+e.domain))
		if record.id != "" {
			c.mu.Lock()
			f.id = record.id
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	e.fetches = append(e.fetches, time.Now())
	c.mu.Unlock()
	return c.o.Fetch(c.lifetime, e.domain)
}

// land takes in what a fetch came to, and returns the domains to write to the shelf.
func (c *Cache) land(e *entry, f *flight, p Policy, failure *policy.Failure) []policy.Domain {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e.flight = nil
	if f.refresh {
		c.refreshing--
	}
	if failure != nil {
		f.failure = failure
		if c.lifetime.Err() == nil { // else we broke it off ourselves
			c.missed(e, f, now)
		}
		return nil
	}
	if e.inForce(now) && (e.sts.Mode != p.Mode || !slices.Equal(e.sts.MX, p.MX)) {
		e.changed = now
	}
	old := e.weight()
	// RFC 8461 3.3: max_age counts from the last successful fetch; 8.3: none is a policy
	// like any other and takes the place of the one before it.
	e.sts = policy.STS{Mode: p.Mode, ID: f.id, MX: p.MX, Fetched: now, Expires: now.Add(max(p.MaxAge, leastLife))}
	e.maxAge, e.failures, e.failed = p.MaxAge, 0, nil
	e.schedule(now)
	f.sts = e.sts
	c.log.Debug("MTA-STS policy fetched", "domain", e.domain, "mode", p.Mode, "id", f.id, "expires", e.sts.Expires)
	if e.gone {
		return nil
	}
	c.weight += e.weight() - old
	return append(c.makeRoom(e), e.domain)
}

// missed takes in that a fetch failed. c.mu is held.
func (c *Cache) missed(e *entry, f *flight, now time.Time) {
	e.failed = append(e.failed, failedFetch{f.id, now.Add(backOff), f.failure})
	if f.refresh {
		e.failures++
		e.retry(now)
	}
	attrs := []any{"domain", e.domain, "reason", f.failure.Reason, "problem", f.failure.Detail}
	switch mode := e.sts.In(now); mode {
	case policy.STSAbsent:
		c.log.Info("the domain announces an MTA-STS policy that cannot be had: it counts as having none", attrs...)
	case policy.STSNone: // RFC 8461 3.3, 10.2: no alarm, this is how MTA-STS is taken down (8.3)
		c.log.Debug("MTA-STS policy not renewed", attrs...)
	default:
		c.log.Warn("MTA-STS policy not renewed: the old one stays in force until it expires",
			append(attrs, "mode", mode, "failures", e.failures, "expires", e.sts.Expires.UTC().Format(time.RFC3339))...)
	}
}
