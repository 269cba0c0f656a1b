package relay

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Limits of a probe: hosts are asked at an operator's pleasure, not for mail.
const (
	probeTime      = 30 * time.Second
	probeAddresses = 10 // of all hosts together, in the plan's order
	probesPerHost  = 4  // at once
)

// Probed is what one address really offers: the best rung on which a session stood.
type Probed struct {
	Host policy.Domain  `json:"host"`
	Addr netip.AddrPort `json:"addr"`
	// Rung is RungUnset when no session stood.
	Rung     policy.Rung     `json:"rung,omitempty"`
	Evidence policy.Evidence `json:"evidence"`
	Level    policy.Level    `json:"level,omitempty"` // what the evidence proves to the plan; Unset: no session
	// Failure is why no session stood; nil when one did.
	Failure *policy.Failure `json:"failure,omitempty"`
	// Refused is why the plan would not use this address now; nil: it is good enough.
	Refused *policy.Failure `json:"refused,omitempty"`
	// Tried are the rungs, in order, and what came of each.
	Tried policy.Trace  `json:"tried"`
	Took  time.Duration `json:"took_ns"`
}

// Forecast is what the plan's walk comes to when every address does what it did when it
// was probed. Recipients are not asked for: a host may refuse them all the same.
type Forecast struct {
	Host    policy.Domain   `json:"host,omitempty"` // where the mail would go
	Addr    netip.AddrPort  `json:"addr,omitzero"`
	Rung    policy.Rung     `json:"rung,omitempty"`
	Level   policy.Level    `json:"level,omitempty"`
	Failure *policy.Failure `json:"failure,omitempty"` // why it would go nowhere now
}

// probe opens a session with each address and ends it, without a MAIL. It follows a plan
// that bars nobody and has every rung, so that hosts which a rule cuts off are measured too.
func (c *Courier) probe(ctx context.Context, f *policy.Facts, q *policy.Query) []Probed {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	plan := policy.Decide(f, permissive(), &policy.Query{
		Domain: q.Domain, Now: q.Now, TLSOff: true, // promises are measured and not insisted on
		Tries: 1, // a 454 is waited for only once
	})
	var out []Probed
	var targets []*policy.Target
	for i := range plan.Targets {
		t := &plan.Targets[i]
		for _, a := range t.Addrs {
			if t.Barred == nil && len(out) < probeAddresses {
				out, targets = append(out, Probed{Host: t.Host, Addr: a}), append(targets, t)
			}
		}
	}
	turns := map[policy.Domain]chan struct{}{}
	for i := range out {
		turns[out[i].Host] = make(chan struct{}, probesPerHost)
	}
	var wg sync.WaitGroup
	for i := range out {
		turn := turns[out[i].Host]
		wg.Go(func() {
			turn <- struct{}{} // the one before gives it back by the deadline
			defer func() { <-turn }()
			c.measure(ctx, &out[i], targets[i])
		})
	}
	wg.Wait()
	return out
}

// permissive is a ruleset that asks for nothing and lets every rung be tried.
func permissive() *policy.Ruleset {
	return &policy.Ruleset{
		Default: policy.Rule{Name: "probe", Floor: policy.Plaintext, OnUnmet: policy.Defer,
			Fallback: []policy.Fallback{{To: policy.Legacy}, {To: policy.Plaintext}}},
		DANE: true, InsecureMXDANE: true, MTASTS: true,
	}
}

// measure walks the rungs at one address until a session stands.
func (c *Courier) measure(ctx context.Context, p *Probed, t *policy.Target) {
	began := time.Now()
	one := *t
	one.Addrs = []netip.AddrPort{p.Addr}
	plan := policy.Plan{Targets: []policy.Target{one}}
	walk := plan.Walk()
	for step, ok := walk.Next(); ok; step, ok = walk.Next() {
		walk.Report(step, c.look(ctx, p, step))
	}
	p.Tried, p.Took = walk.Trace(), time.Since(began)
	if p.Rung == policy.RungUnset {
		p.Failure = walk.Failure()
	}
}

// look opens one session, measures it and ends it.
func (c *Courier) look(ctx context.Context, p *Probed, step policy.Step) policy.Result {
	began := time.Now()
	session, evidence, failure := c.o.Opener.Open(ctx, step)
	r := policy.Result{Failure: failure, Took: time.Since(began)}
	if failure == nil {
		session.Quit()
		p.Rung, p.Evidence, p.Level = step.Rung, evidence, evidence.Level()
		r.Level, r.Opened = p.Level, true
		return r
	}
	if ctx.Err() != nil {
		r.Failure = &policy.Failure{Reason: policy.ReplyTimeout, Host: step.Target.Host, Detail: "no result in the time of a probe"}
	}
	return r
}

// judge measures what was probed against the real plan.
func (x *Explanation) judge() {
	for i := range x.Probed {
		p := &x.Probed[i]
		t := targetOf(&x.Plan, p.Host)
		switch {
		case x.Plan.Refusal != nil && (t == nil || t.Barred == nil):
			p.Refused = x.Plan.Refusal
		case t == nil:
			p.Refused = &policy.Failure{Reason: policy.Internal, Host: p.Host, Detail: "the host is not in the plan"}
		case t.Barred != nil:
			p.Refused = t.Barred
		case p.Failure != nil:
			p.Refused = p.Failure
		default:
			p.Evidence = as(p.Evidence, t)
			p.Level, p.Refused = good(t, p)
		}
	}
}

func targetOf(p *policy.Plan, host policy.Domain) *policy.Target {
	for i := range p.Targets {
		if p.Targets[i].Host == host {
			return &p.Targets[i]
		}
	}
	return nil
}

// as is the evidence as a session of the real plan's step would have given it.
func as(e policy.Evidence, t *policy.Target) policy.Evidence {
	e.Route = t.Route
	if len(t.TLSA) == 0 {
		e.TLSA, e.Peer = nil, e.Peer&^policy.PeerTLSA
	}
	return e
}

// good judges a session that stood; a rung that the rule does not allow is too weak.
func good(t *policy.Target, p *Probed) (policy.Level, *policy.Failure) {
	level, failure := policy.Step{Target: t, Addr: p.Addr, Rung: p.Rung}.Judge(p.Evidence)
	if failure == nil && !slices.Contains(t.Rungs, p.Rung) {
		failure = &policy.Failure{Reason: policy.BelowFloor, Host: t.Host, Detail: "the rule has no fallback to " + level.String()}
		if t.Later {
			failure = &policy.Failure{Reason: policy.FallbackNotYet, Host: t.Host}
		}
	}
	if failure != nil && failure.Reason == policy.BelowFloor && len(p.Tried) > 1 {
		failure.Reason = p.Tried[0].Reason // what brought the session down to its rung is to blame
	}
	return level, failure
}

// foresee walks the real plan over what was probed.
func foresee(plan *policy.Plan, probed []Probed) *Forecast {
	var f Forecast
	w := plan.Walk()
	for step, ok := w.Next(); ok; step, ok = w.Next() {
		r := foreseen(step, probed)
		if r.Failure == nil && !r.Kept && w.Keep(step, r.Level) {
			r.Kept, r.Opened = true, false
		}
		w.Report(step, r)
		if r.Failure == nil && !r.Kept {
			f = Forecast{Host: step.Target.Host, Addr: step.Addr, Rung: step.Rung, Level: r.Level}
		}
	}
	f.Failure = w.Failure()
	return &f
}

// foreseen is the result of a step by what was probed at its address.
func foreseen(step policy.Step, probed []Probed) policy.Result {
	for i := range probed {
		p := &probed[i]
		if p.Host != step.Target.Host || p.Addr != step.Addr {
			continue
		}
		if p.Rung == step.Rung {
			level, failure := step.Judge(as(p.Evidence, step.Target))
			return policy.Result{Failure: failure, Level: level, Opened: failure == nil}
		}
		for _, t := range p.Tried {
			if t.Rung == step.Rung && t.Reason != policy.ReasonUnset {
				return policy.Result{Failure: &policy.Failure{Reason: t.Reason, Host: p.Host, Detail: t.Detail}, Level: t.Level}
			}
		}
	}
	return policy.Result{Failure: &policy.Failure{Reason: policy.Interrupted, Host: step.Target.Host, Detail: "not probed"}}
}
