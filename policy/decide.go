package policy

import (
	"net/netip"
	"time"
)

// Decide is the judge: pure and total. A delivery that must not or cannot be
// tried is a Plan with Refusal set. Targets are in the order of preference
// (RFC 5321 5.1); within one preference in that of the facts, hosts that are
// remembered as stronger first. Nothing that it is given is changed; the plan
// shares what is in the facts.
func Decide(f *Facts, r *Ruleset, q *Query) Plan {
	d := decider{facts: f, rules: r, query: q, rule: r.For(q, "")}
	d.byHost = r.namesHosts()
	d.asked = d.ask(d.rule, true)
	d.plan.Domain, d.plan.Rule, d.plan.First = q.Domain, d.rule.Name, q.Tries == 0
	d.plan.Hold = !q.TLSOff && q.Age < d.rule.Hold
	d.plan.Floor, d.plan.Basis, d.plan.OnUnmet = d.asked.floor, d.asked.basis, d.asked.onUnmet
	switch {
	case d.rule.Floor == Unset:
		// Forgetting fails closed: an empty ruleset sends nothing.
		d.plan.Refusal = &Failure{Reason: Internal, Detail: "no rule sets a floor"}
	default:
		d.plan.Refusal = refuse(f)
	}
	if d.plan.Refusal == nil {
		d.plan.Targets = make([]Target, 0, len(f.Hosts))
		for i := range f.Hosts {
			d.plan.Targets = append(d.plan.Targets, d.target(&f.Hosts[i]))
		}
		d.plan.order()
		d.plan.Refusal = d.plan.noTarget()
	}
	if d.plan.Refusal != nil {
		d.note("", d.plan.Refusal.Reason.English())
	}
	return d.plan
}

// decider is one decision in the making. It changes nothing but its plan.
type decider struct {
	facts *Facts
	rules *Ruleset
	query *Query
	rule  *Rule // for hosts that no rule names
	asked asked // by that rule
	plan  Plan
	// byHost: some rule names mail exchangers, so the rule is not the same for every host.
	byHost bool
}

// ruleFor is the rule for one host.
func (d *decider) ruleFor(host Domain) *Rule {
	if !d.byHost {
		return d.rule
	}
	return d.rules.For(d.query, host)
}

// asked is what operator, credential and message ask for, whatever the domain promises.
type asked struct {
	floor   Floor
	basis   Basis
	onUnmet OnUnmet
}

func (d *decider) note(host Domain, text string) {
	if d.plan.Why == nil {
		d.plan.Why = make([]Note, 0, 4+2*len(d.facts.Hosts))
	}
	d.plan.Why = append(d.plan.Why, Note{Host: host, Text: text})
}

// ask raises the rule's floor by the credential's and the message's own. A
// message can only raise the floor (policy: floors).
func (d *decider) ask(rule *Rule, explain bool) asked {
	q := d.query
	a := asked{floor: Floor{Level: rule.Floor}, basis: BasisDefault, onUnmet: rule.OnUnmet}
	if !rule.isDefault() {
		a.basis = BasisRule
	}
	say := func(what string, f Floor) {
		if explain {
			d.note("", what+f.String())
		}
	}
	say(rule.name()+" asks for ", a.floor)
	raise := func(to Floor, by Basis, why string) {
		if raised := a.floor.Raise(to); raised != a.floor {
			a.floor, a.basis = raised, by
			say(why, to)
		}
	}
	if !q.TLSOff && q.Age < rule.Hold {
		// Own, downgrade hold within one message: what an earlier attempt found, an
		// attacker or a bad moment does not take away at once. It never blocks for ever.
		raise(Floor{Level: min(q.Seen, Encrypted)}, BasisHold, "an earlier attempt met the domain with TLS: held for now at ")
	}
	raise(Floor{Level: q.Account}, BasisCredential, "the credential asks for ")
	raise(Floor{Level: q.Message}, BasisMessage, "the message asks for ")
	if q.OnUnmet != OnUnmetUnset && a.basis == BasisMessage {
		a.onUnmet = q.OnUnmet
	}
	switch {
	case q.RequireTLS && q.NullSender:
		// RFC 8689 4.2.1 exempts the empty reverse path; own: encrypted all the same
		raise(Floor{Level: Encrypted}, BasisMessage, "a notice about REQUIRETLS mail asks for ")
	case q.RequireTLS:
		raise(Floor{Level: Verified, Needs: NeedRoute | NeedRequireTLS}, BasisMessage, "REQUIRETLS asks for ")
		a.onUnmet = Bounce // RFC 8689 4.2.1: MUST bounce
	}
	return a
}

func (r *Rule) isDefault() bool { return r.Name == "default" || r.Name == "" }

func (r *Rule) name() string {
	if r.isDefault() {
		return "the default rule"
	}
	return r.Name
}

// refuse looks for what forbids every delivery to the domain.
func refuse(f *Facts) *Failure {
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

// order sorts the targets of one preference by what their hosts are remembered for,
// stronger first (own: RFC 5321 5.1 wants a clear reason); a host that nobody knows
// stands with the encrypted ones. The order of preference is kept.
func (p *Plan) order() {
	rank := func(t *Target) Level {
		if t.Expect == Unset {
			return Encrypted
		}
		return t.Expect
	}
	// By insertion: a handful of targets, which are in order most of the time.
	for i := 1; i < len(p.Targets); i++ {
		for j := i; j > 0; j-- {
			a, b := &p.Targets[j-1], &p.Targets[j]
			if a.Preference < b.Preference || a.Preference == b.Preference && rank(a) >= rank(b) {
				break
			}
			*a, *b = *b, *a
		}
	}
}

// noTarget says why no host can be tried, nil when one can. Whatever may pass goes
// before what will not: defer (policy: addresses).
func (p *Plan) noTarget() *Failure {
	var chosen *Failure
	for i := range p.Targets {
		f := p.Targets[i].Barred
		switch {
		case f == nil:
			return nil
		case chosen == nil, chosen.Permanent() && !f.Permanent(), chosen.Reason == NoAddress && f.Reason == AddressRefused:
			chosen = f
		}
	}
	if chosen == nil {
		return &Failure{Reason: NoAddress}
	}
	if chosen.Reason.ownFloor() && p.mayBounce() {
		final := *chosen
		final.Final, final.Status = true, "5.7.10" // encryption needed (RFC 8689 4.2.1)
		return &final
	}
	if chosen.Reason == NoAddress || chosen.Reason == AddressRefused {
		return &Failure{Reason: chosen.Reason} // every host, not one
	}
	return chosen
}

// ownFloor reports whether the facts alone show that a host cannot reach a floor that
// the domain did not promise.
func (r Reason) ownFloor() bool {
	return r == DNSSECMissing || r == TLSAUnusable || r == STSMissing || r == RouteUnproven
}

// target makes the target for one host; a host that is not used now is barred.
func (d *decider) target(h *Host) Target {
	rule, a := d.rule, d.asked
	if r := d.ruleFor(h.Name); r != rule {
		rule, a = r, d.ask(r, false)
		d.note(h.Name, rule.name()+" is for this host: "+a.floor.String())
	}
	t := Target{
		Host: h.Name, Preference: h.Preference, Addrs: h.addrs(d.query.Now), Floor: a.floor, Basis: a.basis, OnUnmet: a.onUnmet,
		Rule: rule.Name, Route: d.route(h), SNI: h.Name, MinTLS: rule.MinTLS, RequireTLS: d.query.RequireTLS,
		Expect: max(h.V4.Memory.expect(d.query.Now), h.V6.Memory.expect(d.query.Now)),
	}
	if len(t.Addrs) == 0 {
		t.Barred = h.noAddress()
	} else {
		d.promises(&t, h, rule)
	}
	if t.Barred == nil {
		d.hold(&t, h, rule)
		t.Barred = d.outOfReach(&t)
	}
	if t.Barred != nil {
		d.note(h.Name, "not used now: "+t.Barred.Reason.English()+because(t.Barred.Detail))
		return t
	}
	d.setRungs(&t, h, rule)
	return t
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return " (" + detail + ")"
}

// route says what the facts prove about the host's right to take the mail.
func (d *decider) route(h *Host) Route {
	f := d.facts
	var r Route
	switch {
	case f.Operator:
		r |= RouteOperator
	case f.Implicit:
		r |= RouteSelf
	case f.MX.Secure && f.DNSSEC:
		r |= RouteDNSSEC
	}
	if mode := f.STS.In(d.query.Now); d.rules.MTASTS && (mode == STSTesting || mode == STSEnforce) && f.STS.Matches(h.Name) {
		r |= RouteSTS // RFC 8461 4.1 knows no mode
		if mode == STSEnforce {
			r |= RouteSTSEnforce
		}
	}
	return r
}

// hold raises the floor of a host that was good for TLS before, and of the domain's
// other hosts with it (policy: downgrade hold).
func (d *decider) hold(t *Target, h *Host, rule *Rule) {
	if d.query.TLSOff || t.Floor.Level >= Encrypted {
		return // RFC 8689 3: the sender prefers delivery
	}
	text := ""
	held, until := h.held(d.query.Now, rule.Hold)
	switch {
	case held && until.IsZero():
		text = "remembered for TLS: held at encrypted"
	case held:
		text = "remembered for TLS, which it does not offer now: held at encrypted until " + until.UTC().Format(time.RFC3339)
	case !until.IsZero():
		d.note(h.Name, "the hold is over: it was good for TLS, and does not offer it any more")
		return
	case d.query.Age < rule.Hold && d.companyHeld():
		// Own: else who can silence the host with TLS has what he wants at the other one.
		// By the message's age, because a host that is gone never gives a weaker answer.
		text = "another host of the domain is remembered for TLS: held at encrypted for now"
	default:
		return
	}
	t.Floor, t.Basis, t.Later = t.Floor.Raise(Floor{Level: Encrypted}), BasisHold, true
	d.note(h.Name, text)
}

// companyHeld reports whether any host of the domain is held by its memory.
func (d *decider) companyHeld() bool {
	for i := range d.facts.Hosts {
		h := &d.facts.Hosts[i]
		if held, _ := h.held(d.query.Now, d.ruleFor(h.Name).Hold); held {
			return true
		}
	}
	return false
}

// held is [HostHeld] for what the host is remembered for.
func (h *Host) held(now time.Time, hold time.Duration) (held bool, until time.Time) {
	return HostHeld(&h.V4.Memory, &h.V6.Memory, now, hold)
}

// outOfReach says why the facts alone show that no session with the host can reach
// its floor; nil when one may. It spares the host a connection.
func (d *decider) outOfReach(t *Target) *Failure {
	f := Failure{Host: t.Host}
	sts := t.Route&RouteSTSEnforce != 0
	if t.Floor.Needs&NeedRoute != 0 && t.Route == RouteNone {
		return d.routeUnknown(t)
	}
	switch {
	case t.Floor.Level < MTASTS, len(t.TLSA) > 0 && t.Route.Vouched(), t.Floor.Level == MTASTS && sts:
		return nil
	case t.Floor.Level == MTASTS && d.facts.STS.Failure != ReasonUnset:
		f.Reason, f.Detail = d.facts.STS.Failure, d.facts.STS.Problem
	case t.Floor.Level == MTASTS:
		f.Reason = STSMissing
	case !t.Route.Vouched():
		f.Reason = DNSSECMissing // RFC 7672 2.2.1: an insecure MX answer cannot give DANE
	default:
		f.Reason = TLSAUnusable
	}
	return &f
}

// routeUnknown says why it cannot be known now whether the host's route is
// authenticated (RFC 8689 4.2.1); nil when it is known, for the verdict on the host.
func (d *decider) routeUnknown(t *Target) *Failure {
	f := d.facts
	switch {
	case f.MX.Secure && !f.DNSSEC:
		return &Failure{Reason: DNSSECUnavailable, Host: t.Host}
	case !d.rules.MTASTS || f.STS.In(d.query.Now) != STSAbsent:
		return nil
	case f.STS.Failure != ReasonUnset:
		return &Failure{Reason: f.STS.Failure, Host: t.Host, Detail: f.STS.Problem}
	case f.STS.Record.Answer == Unknown && f.STS.Record.Problem != "":
		return &Failure{Reason: DNSUnknown, Host: t.Host, Detail: f.STS.Record.Problem}
	}
	return nil
}

// setRungs lists the rungs whose ceiling reaches the floor and that the rule's
// fallback steps allow now, strongest first. Property 1: no rung below the floor.
func (d *decider) setRungs(t *Target, h *Host, rule *Rule) {
	t.Rungs = make([]Rung, 0, 4)
	now := d.query.Now
	if !h.V4.Memory.chokes(now) && !h.V6.Memory.chokes(now) {
		t.Rungs = append(t.Rungs, Modern)
	}
	t.Rungs = append(t.Rungs, Classical)
	for _, down := range [...]Rung{LegacyTLS, Clear} {
		to := down.Ceiling()
		if to < t.Floor.Level || to < rule.Least(to) {
			continue
		}
		now, later := rule.permits(to, d.query)
		if now {
			t.Rungs = append(t.Rungs, down)
		}
		if later {
			t.Later = true
			d.note(h.Name, to.String()+" is allowed later by "+rule.name()+", not yet")
		}
	}
}

// addrs are the host's addresses in the order to try, IPv6 and IPv4 in turn; a family
// that could not be connected to lately comes last (own: RFC 5321 5.1 leaves it open).
// A family that is unknown does not hurt the other (policy: facts).
func (h *Host) addrs(now time.Time) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, len(h.V4.IPs)+len(h.V6.IPs))
	first, second := h.V6.IPs, h.V4.IPs
	down4, down6 := h.V4.Memory.down(now), h.V6.Memory.down(now)
	if down4 != down6 {
		if down6 {
			first, second = second, first
		}
		for _, ip := range first {
			list = append(list, netip.AddrPortFrom(ip, h.Port))
		}
		first = nil
	}
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			list = append(list, netip.AddrPortFrom(first[i], h.Port))
		}
		if i < len(second) {
			list = append(list, netip.AddrPortFrom(second[i], h.Port))
		}
	}
	return list
}

// noAddress says why a host without a usable address has none.
func (h *Host) noAddress() *Failure {
	f := &Failure{Host: h.Name}
	switch {
	case h.V4.Answer == Unknown:
		f.Reason, f.Detail = DNSUnknown, h.V4.Problem
	case h.V6.Answer == Unknown:
		f.Reason, f.Detail = DNSUnknown, h.V6.Problem
	case h.Refused > 0:
		f.Reason = AddressRefused
	default:
		f.Reason = NoAddress
	}
	return f
}
