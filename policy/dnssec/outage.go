package dnssec

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// downProblem is what a lookup says that is not even sent.
const downProblem = "the DNS resolver is down"

// maxProbe bounds how long a probe waits for one server.
const maxProbe = 3 * time.Second

// outage is the breaker of a resolver with what is around it.
type outage struct {
	mu      sync.Mutex
	breaker breaker
	probing bool          // attend runs
	changed chan struct{} // closed and replaced when the phase changes
}

// Outage reports whether the resolver itself is down: many names of several domains
// have failed, none was answered, and neither was the self-test's signed name. What is
// not known now says nothing about a domain then.
func (r *Resolver) Outage() bool {
	o := &r.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.breaker.phase != flowing
}

// Paused reports whether lookups are not sent now, because the resolver is down, and
// returns a channel that is closed when that may have changed. During an outage there
// is a short trial now and then in which it is false although Outage is true.
func (r *Resolver) Paused() (bool, <-chan struct{}) {
	o := &r.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.breaker.phase == down, o.changed
}

// Epoch grows when what was learned before is worth less than what can be learned now:
// after an outage, and when DNSSEC has become available again. Whoever keeps
// what was made of replies throws it away then.
func (r *Resolver) Epoch() uint64 { return r.epoch.Load() }

// hear tells the breaker of a lookup, and has the witness asked when it is suspicious.
func (r *Resolver) hear(name string, h hearing) {
	if r.lifetime.Err() != nil { // we failed, not the resolver
		return
	}
	o := &r.outage
	o.mu.Lock()
	before := o.breaker.phase
	start := o.breaker.heard(time.Now(), name, h) && !o.probing
	start = start && r.enter()
	o.probing = o.probing || start
	r.turn(before)
	o.mu.Unlock()
	if start {
		go func() {
			defer r.wg.Done()
			r.attend()
		}()
	}
}

// witness tells the breaker what was heard of the signed name.
func (r *Resolver) witness(h hearing) {
	o := &r.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.breaker.phase
	o.breaker.probed(time.Now(), h)
	r.turn(before)
}

// turn spreads the news of another phase. r.outage.mu is held.
func (r *Resolver) turn(before phase) {
	o := &r.outage
	now := o.breaker.phase
	if now == before {
		return
	}
	switch {
	case now == flowing:
		r.epoch.Add(1)
		r.log.Info("the DNS resolver answers again")
	case before == flowing:
		r.log.Warn("the DNS resolver is down: lookups wait until it answers; see that it runs and reaches the network",
			"resolvers", r.Servers(), "failed_names", len(o.breaker.failed))
	case now == trial:
		r.log.Debug("the DNS resolver is still down: lookups are sent for a while to see")
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// attend asks the witness again and again until the resolver works.
func (r *Resolver) attend() {
	o := &r.outage
	for {
		h := r.callOut()
		if r.lifetime.Err() != nil {
			return
		}
		if h == answered && !r.Available() {
			// Before the world is told: what is decided from now on shall know of DNSSEC.
			_ = r.Selftest(r.lifetime) // it logs what it finds
		}
		r.witness(h)
		o.mu.Lock()
		over := o.breaker.phase == flowing
		o.probing = !over // under the lock: a suspicion from here on starts anew
		pause := o.breaker.probe
		o.mu.Unlock()
		if over {
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-r.lifetime.Done():
			t.Stop()
			return
		}
	}
}

// callOut asks every server for the signed name at once.
func (r *Resolver) callOut() hearing {
	ctx, cancel := context.WithTimeout(r.lifetime, min(r.timeout, maxProbe))
	defer cancel()
	heard := make(chan hearing, len(r.servers))
	for _, u := range r.servers {
		go func() { heard <- hearingOf(r.query(ctx, u, r.signed()).outcome) }()
	}
	best := gone
	for range r.servers {
		best = min(best, <-heard)
	}
	return best
}

// signed is the question of the self-test that must be answered, and securely.
func (r *Resolver) signed() question {
	return question{dns.CanonicalName(r.test.names.Signed), dns.TypeSOA}
}
