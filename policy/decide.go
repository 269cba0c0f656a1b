package policy

import (
	"fmt"
	"net/netip"
)

// Decide is the judge: pure and total. A delivery that must not or cannot be
// tried is a Plan with Refusal set. Targets are in the order of the facts, which
// is by preference (RFC 5321 5.1).
func Decide(f Facts, r Ruleset, q Query) Plan {
	d := decider{facts: &f, rules: &r, rule: r.For(q), query: &q}
	d.plan = Plan{Domain: q.Domain, Rule: d.rule.Name, OnUnmet: d.rule.OnUnmet, First: q.Tries == 0, Hold: !q.TLSOff && q.Age < r.Hold}
	d.note("", "%s asks for %s", d.rule.Name, d.rule.Floor)
	d.setFloor()
	if d.rule.Floor == Unset {
		// Forgetting fails closed: an empty ruleset sends nothing.
		d.plan.Refusal = &Failure{Reason: Internal, Detail: "no rule sets a floor"}
		return d.plan
	}
	if d.plan.Refusal = refuse(f); d.plan.Refusal == nil {
		for i := range f.Hosts {
			if t, ok := d.target(&f.Hosts[i]); ok {
				d.plan.Targets = append(d.plan.Targets, t)
			}
		}
		if len(d.plan.Targets) == 0 {
			d.plan.Refusal = noTarget(f)
		}
	}
	if d.plan.Refusal != nil {
		d.note("", "%s", d.plan.Refusal.Reason.English())
	}
	return d.plan
}

// decider is one decision in the making. It changes nothing but its plan.
type decider struct {
	facts *Facts
	rules *Ruleset
	rule  *Rule
	query *Query
	plan  Plan
}

func (d *decider) note(host Domain, format string, args ...any) {
	d.plan.Why = append(d.plan.Why, Note{Host: host, Text: fmt.Sprintf(format, args...)})
}

// setFloor raises the rule's floor by the credential's and the message's own. A
// message can only raise the floor (policy: floors).
func (d *decider) setFloor() {
	p, q := &d.plan, d.query
	p.Floor = Floor{Level: d.rule.Floor}
	p.Basis = BasisDefault
	if !d.rule.isDefault() {
		p.Basis = BasisRule
	}
	if p.Hold {
		// Own, downgrade hold within one message: what an earlier attempt found, an
		// attacker or a bad moment does not take away at once. It never blocks for ever.
		d.raise(Floor{Level: min(q.Seen, Encrypted)}, BasisHold, "an earlier attempt met the domain with TLS: held at %s for now")
	}
	d.raise(Floor{Level: q.Account}, BasisCredential, "the credential asks for %s")
	d.raise(Floor{Level: q.Message}, BasisMessage, "the message asks for %s")
	if q.OnUnmet != OnUnmetUnset && p.Basis == BasisMessage {
		p.OnUnmet = q.OnUnmet
	}
	switch {
	case q.RequireTLS && q.NullSender:
		// RFC 8689 4.2.1 exempts the empty reverse path; own: encrypted all the same
		d.raise(Floor{Level: Encrypted}, BasisMessage, "a notice about REQUIRETLS mail asks for %s")
	case q.RequireTLS:
		d.raise(Floor{Level: Verified, Needs: NeedRoute | NeedRequireTLS}, BasisMessage, "REQUIRETLS asks for %s")
		p.OnUnmet = Bounce // RFC 8689 4.2.1: MUST bounce
	}
}

func (r *Rule) isDefault() bool { return r.Name == "default" || r.Name == "" }

func (d *decider) raise(to Floor, by Basis, why string) {
	raised := d.plan.Floor.Raise(to)
	if raised == d.plan.Floor {
		return
	}
	d.plan.Floor, d.plan.Basis = raised, by
	d.note("", why, to)
}

// refuse looks for what forbids every delivery to the domain.
func refuse(f Facts) *Failure {
	switch {
	case f.NullMX:
		return &Failure{Reason: NullMX} // RFC 7505 3: bounce at once
	case f.Operator:
		return nil
	case f.MX.Answer == Unknown:
		return &Failure{Reason: DNSUnknown, Detail: f.MX.Problem}
	case f.MX.Answer == NoName:
		return &Failure{Reason: DomainNotFound}
	case f.Self && len(f.Hosts) == 0:
		return &Failure{Reason: LoopsToSelf} // RFC 5321 5.1: all MUST
	default:
		return nil
	}
}

// noTarget says why no host can be tried. Any unknown among them means that we
// do not know yet: defer (policy: addresses).
func noTarget(f Facts) *Failure {
	refused := false
	for _, h := range f.Hosts {
		if h.V4.Answer == Unknown || h.V6.Answer == Unknown {
			problem := h.V4.Problem
			if problem == "" {
				problem = h.V6.Problem
			}
			return &Failure{Reason: DNSUnknown, Host: h.Name, Detail: problem}
		}
		if h.TLSA.Asked && h.TLSA.Answer == Unknown {
			return &Failure{Reason: TLSAUnknown, Host: h.Name, Detail: h.TLSA.Problem}
		}
		refused = refused || h.Refused > 0
	}
	if refused {
		return &Failure{Reason: AddressRefused}
	}
	return &Failure{Reason: NoAddress}
}

// target makes the target for one host; false when the host is not used now.
func (d *decider) target(h *Host) (Target, bool) {
	addrs := h.addrs()
	if len(addrs) == 0 {
		d.note(h.Name, "no usable address: %s", h.whyNoAddress())
		return Target{}, false
	}
	t := Target{
		Host: h.Name, Preference: h.Preference, Addrs: addrs, Floor: d.plan.Floor, Basis: d.plan.Basis,
		Route: d.facts.route(), SNI: h.Name, MinTLS: d.rule.MinTLS, RequireTLS: d.query.RequireTLS,
	}
	if !d.promise(&t, h) {
		return Target{}, false
	}
	d.setRungs(&t, h)
	return t, true
}

// route says what the facts prove about the host's right to take the mail.
func (f *Facts) route() Route {
	switch {
	case f.Operator:
		return RouteOperator
	case f.MX.Secure && !f.Implicit:
		return RouteDNSSEC
	case f.Implicit:
		return RouteSelf
	default:
		return RouteNone
	}
}

// setRungs lists the rungs whose ceiling reaches the floor and that the rule's
// fallback steps allow now, strongest first. Property 1: no rung below the floor.
func (d *decider) setRungs(t *Target, h *Host) {
	t.Rungs = make([]Rung, 0, 4)
	if !h.Memory.Classical {
		t.Rungs = append(t.Rungs, Modern)
	}
	t.Rungs = append(t.Rungs, Classical)
	for _, down := range []Rung{LegacyTLS, Clear} {
		to := down.Ceiling()
		if to < t.Floor.Level || to < d.rule.least(down) {
			continue
		}
		now, later := d.rule.permits(to, d.query)
		if now {
			t.Rungs = append(t.Rungs, down)
		}
		if later {
			t.Later = true
			d.note(h.Name, "%s is allowed later by %s, not yet", to, d.rule.Name)
		}
	}
}

// addrs are the host's addresses in the order to try, IPv6 and IPv4 in turn. A
// family that is unknown does not hurt the other (policy: facts).
func (h *Host) addrs() []netip.AddrPort {
	list := make([]netip.AddrPort, 0, len(h.V4.IPs)+len(h.V6.IPs))
	for i := range max(len(h.V4.IPs), len(h.V6.IPs)) {
		if i < len(h.V6.IPs) {
			list = append(list, netip.AddrPortFrom(h.V6.IPs[i], h.Port))
		}
		if i < len(h.V4.IPs) {
			list = append(list, netip.AddrPortFrom(h.V4.IPs[i], h.Port))
		}
	}
	return list
}

func (h *Host) whyNoAddress() string {
	switch {
	case h.V4.Answer == Unknown || h.V6.Answer == Unknown:
		return "DNS did not answer"
	case h.Refused > 0:
		return "private, loopback or own addresses only"
	default:
		return "it has none"
	}
}
