package metrics

import (
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// Positions on the axis phases.
const (
	phaseFacts = iota
	phaseOpen
	phaseConnect
	phaseTLS
	phaseTransaction
)

// Attempted counts one attempt. It implements relay.Observer.
func (m *Metrics) Attempted(a *relay.Attempt) {
	if a == nil {
		return
	}
	basis := position(m.basis, a.Basis)
	delivered := false
	for i := range a.Outcomes {
		if o := &a.Outcomes[i]; o.Kind == queue.DeliveredNow {
			delivered = true
			m.delivered.at2(levelIndex(o.Level), basis).Inc()
			m.deliveryTime.at1(levelIndex(o.Level)).Observe(max(a.Age, 0).Seconds())
		}
	}
	for i := range a.Trace {
		if r := a.Trace[i].Reason; r != policy.ReasonUnset && isProtection(r) {
			m.tlsFailures.at2(basis, position(m.report, r)).Inc()
		}
	}
	// Kept back: nobody was delivered, and the reason is protection.
	if !delivered && a.Failure != nil && isProtection(a.Failure.Reason) {
		m.refusals.at2(basis, position(m.protection, a.Failure.Reason)).Inc()
	}
	for i := range a.Overrides {
		for bit, p := range []policy.Promise{policy.PromiseDANE, policy.PromiseMTASTS} {
			if a.Overrides[i].Ignored&p != 0 {
				m.overrides.at1(bit).Inc()
			}
		}
	}
	m.stepsDown(a)
	m.phase(phaseFacts, a.FactsTook)
	m.phase(phaseOpen, a.OpenTook)
	m.phase(phaseTransaction, a.SendTook)
}

// phase observes a phase that took place.
func (m *Metrics) phase(i int, took time.Duration) {
	if took > 0 {
		m.attemptTime.at1(i).Observe(took.Seconds())
	}
}

// stepsDown counts each host's steps to a lower rung; and a delivery below what
// was tried first that no such step explains.
func (m *Metrics) stepsDown(a *relay.Attempt) {
	explained := policy.Unset // lowest level that a counted step led to
	for i := range a.Trace {
		now := &a.Trace[i]
		if now.Rung == policy.RungUnset {
			continue // passed over
		}
		before := previous(a.Trace[:i], now.Host)
		if before == nil {
			continue
		}
		from, to := aim(before.Rung), aim(now.Rung)
		if to < from {
			m.downgrade(from, to, before.Reason)
			if explained == policy.Unset || to < explained {
				explained = to
			}
		}
	}
	began := slices.IndexFunc(a.Trace, func(t policy.Tried) bool { return t.Rung != policy.RungUnset })
	if began < 0 || a.Achieved == policy.Unset {
		return
	}
	first := &a.Trace[began]
	if from := aim(first.Rung); a.Achieved < from && (explained == policy.Unset || a.Achieved < explained) {
		m.downgrade(from, a.Achieved, first.Reason)
	}
}

func (m *Metrics) downgrade(from, to policy.Level, why policy.Reason) {
	if c := m.downgrades.at3(levelIndex(from), levelIndex(to), position(m.lowering, why)); c != nil {
		c.Inc()
	}
}

// previous is the last try at the same host, nil when there was none. Traces are
// short: a few hosts, at most four rungs.
func previous(t policy.Trace, host policy.Domain) *policy.Tried {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].Host == host && t[i].Rung != policy.RungUnset {
			return &t[i]
		}
	}
	return nil
}

// aim is the level that a rung reaches whatever the peer proves: modern and
// classical are one step (policy: the walk), and encrypted is what they are sure of.
func aim(r policy.Rung) policy.Level { return min(r.Ceiling(), policy.Encrypted) }

// Throttled counts a reply by which a host asks for less. It implements
// relay.ThrottleObserver, as Waited does.
func (m *Metrics) Throttled(s relay.Sign) { m.throttling.at1(int(s - relay.SignBusy)).Inc() }

// Waited observes how long a message had to wait for its turn at a host.
func (m *Metrics) Waited(d time.Duration) { m.throttleWait.cells[0].Observe(max(d, 0).Seconds()) }
