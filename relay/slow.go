package relay

import (
	"context"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// This file is the trip's side of the throttle.

// ask waits for the host's turn. A failure says that it is not to be asked now.
func (t *trip) ask(ctx context.Context, step policy.Step) (pass, *policy.Failure) {
	th := t.c.o.Throttle
	if th == nil {
		return pass{}, nil
	}
	now := time.Now()
	p, wait, ok := th.begin(step.Target.Host, step.Addr, now)
	if wait > 0 && th.observer != nil {
		th.observer.Waited(wait)
	}
	if !ok {
		t.slow(wait)
		return pass{}, &policy.Failure{Reason: policy.HostThrottled, Host: step.Target.Host,
			Detail: "throttled by host, next try at " + now.Add(wait).UTC().Format("15:04:05 MST")}
	}
	if wait <= 0 {
		return p, nil
	}
	turn := time.NewTimer(wait)
	defer turn.Stop()
	select {
	case <-turn.C:
		return p, nil
	case <-ctx.Done():
		th.end(p, SignNone, time.Now())
		return pass{}, &policy.Failure{Reason: policy.Interrupted, Host: step.Target.Host}
	}
}

// slow notes that the envelope has to wait for a host. The first one that can be asked
// again counts.
func (t *trip) slow(rest time.Duration) {
	if !t.throttled || rest < t.rest {
		t.rest = rest
	}
	t.throttled = true
}

// learn gives a pass back with what the host's conduct says.
func (t *trip) learn(p pass, sign Sign) {
	if th := t.c.o.Throttle; th != nil {
		rest := th.end(p, sign, time.Now())
		if sign.Throttling() {
			t.slow(rest)
		}
	}
}

// burnsNone reports whether the attempt burns no try: a host throttled us, and nobody
// said anything else that speaks about a recipient who still waits.
func (t *trip) burnsNone() bool {
	if !t.throttled {
		return false
	}
	waiting := false
	for _, o := range t.outcomes {
		if o.Kind != queue.DeferredNow {
			continue
		}
		waiting = true
		if o.Reply != nil && !signOfReply(o.Reply, o.Failure).Throttling() || o.Failure != nil && o.Failure.Reason == policy.Uncertain {
			return false
		}
	}
	return waiting
}

// hint is the longest wait that a host asks for: then all recipients may come back.
func (t *trip) hint() (d time.Duration) {
	for _, o := range t.outcomes {
		if o.Kind == queue.DeferredNow {
			d = max(d, hintOf(o.Reply))
		}
	}
	return d
}

// ThrottledAt is how a host of a plan stands.
type ThrottledAt struct {
	Host policy.Domain  `json:"host"`
	Addr netip.AddrPort `json:"addr"`
	Throttled
}

// throttled lists the addresses of a plan that get less than the operator allows.
func (c *Courier) throttled(p *policy.Plan) (list []ThrottledAt) {
	if c.o.Throttle == nil {
		return nil
	}
	for i := range p.Targets {
		for _, a := range p.Targets[i].Addrs {
			if d, ok := c.o.Throttle.At(p.Targets[i].Host, a, time.Now()); ok {
				list = append(list, ThrottledAt{p.Targets[i].Host, a, d})
			}
		}
	}
	return list
}
