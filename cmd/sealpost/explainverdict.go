package main

import (
	"fmt"
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// verdict is the explanation in one sentence.
func (e *explained) verdict() string {
	to := "Mail to " + string(e.Asked.Domain)
	f := e.Forecast
	switch {
	case e.Plan.Refusal != nil:
		return to + " " + becomes(e.Plan.Refusal) + ": " + e.cause(e.Plan.Refusal) + "."
	case f == nil:
		return e.promise()
	case f.Failure != nil:
		return to + " " + becomes(f.Failure) + ", as the hosts were probed just now: " + e.cause(f.Failure) + "."
	}
	return fmt.Sprintf("%s goes out at level %s to %s, as the hosts were probed just now%s.", to, f.Level, f.Host, e.noBetter())
}

// becomes says what a failure means for the mail.
func becomes(f *policy.Failure) string {
	if f.Permanent() {
		return "bounces at once (" + f.Code() + ")"
	}
	return "waits (" + f.Code() + ")"
}

// noBetter says why the foreseen delivery is at no higher level, as far as a fault is known.
func (e *explained) noBetter() string {
	p := e.probed(e.Forecast.Host, e.Forecast.Addr.String())
	switch {
	case p == nil || e.Forecast.Level >= policy.Verified:
		return ""
	case e.Forecast.Level == policy.Encrypted && p.Evidence.WebPKI != nil:
		return "; no better, because " + p.Evidence.WebPKI.Reason.English()
	}
	for i := range p.Tried {
		if r := p.Tried[i].Reason; r != policy.ReasonUnset {
			return "; no better, because " + r.English()
		}
	}
	return ""
}

func (e *explained) probed(host policy.Domain, addr string) *relay.Probed {
	for i := range e.Probed {
		if p := &e.Probed[i]; p.Host == host && p.Addr.String() == addr {
			return p
		}
	}
	return nil
}

// promise says what the plan asks for, whatever the hosts offer.
func (e *explained) promise() string {
	to := "Mail to " + string(e.Asked.Domain)
	usable := e.usable()
	if t := e.unprovenRoute(usable); t != nil {
		return to + " bounces (5.7.10): " + e.setBy(t) + ", and nobody vouches that its hosts may take the domain's mail" +
			" (the MX answer is not signed, and no MTA-STS policy names them)."
	}
	var parts []string
	seen := map[string]bool{}
	for _, t := range usable {
		if text := levelWords(t); !seen[text] {
			seen[text] = true
			parts = append(parts, text)
		}
	}
	if len(parts) > 1 {
		parts = parts[:0]
		for _, t := range usable {
			parts = append(parts, string(t.Host)+" "+alone(t))
		}
		return to + " goes out as each host's floor demands, or " + e.otherwise() + ": " + strings.Join(parts, "; ") + e.overridden() + "."
	}
	t := usable[0]
	if least(t) > policy.Legacy {
		return to + " goes out " + parts[0] + ", or " + e.otherwise() + ": " + e.setBy(t) + e.overridden() + "."
	}
	return to + " goes out at the best level that its hosts offer, " + parts[0] + ": " + e.setBy(t) + e.overridden() + "."
}

// usable are the targets that are not barred; there is one at least in a plan that is not refused.
func (e *explained) usable() []*policy.Target {
	var list []*policy.Target
	for i := range e.Plan.Targets {
		if t := &e.Plan.Targets[i]; t.Barred == nil {
			list = append(list, t)
		}
	}
	return list
}

// unprovenRoute returns a target when all of them need a route that nobody vouches for
// (RFC 8689 4.2.1): no session can change that.
func (e *explained) unprovenRoute(list []*policy.Target) *policy.Target {
	for _, t := range list {
		if t.Floor.Needs&policy.NeedRoute == 0 || t.Route != policy.RouteNone || t.Floor.Level >= policy.MTASTS {
			return nil
		}
	}
	return list[0]
}

// least is the lowest level at which mail may go to a target now: its floor, or what its
// lowest rung can reach.
func least(t *policy.Target) policy.Level {
	low := policy.Encrypted
	for _, r := range t.Rungs {
		low = min(low, r.Ceiling())
	}
	return max(low, t.Floor.Level)
}

func levelWords(t *policy.Target) string {
	switch l := least(t); l {
	case policy.Plaintext:
		return "and in clear text (level plaintext) only when none of them has TLS"
	case policy.Legacy:
		return "old TLS (level legacy) included, never in clear text"
	default:
		return "at " + relay.FloorWords(policy.Floor{Level: l, Needs: t.Floor.Needs})
	}
}

// alone is levelWords in a list of hosts that differ.
func alone(t *policy.Target) string {
	if least(t) > policy.Legacy {
		return levelWords(t)
	}
	return "at the best level that it offers, level " + least(t).String() + " included"
}

// otherwise says what becomes of mail for which nothing is good enough.
func (e *explained) otherwise() string {
	if e.Unmet != nil && e.Unmet.Permanent() {
		return "bounces (" + e.Unmet.Code() + ")"
	}
	return "waits"
}

// overridden says that a promise is set aside.
func (e *explained) overridden() string {
	if len(e.Plan.Overrides) == 0 {
		return ""
	}
	o := &e.Plan.Overrides[0]
	return fmt.Sprintf(" (an operator's override is in force: %s sets %s aside until %s, because: %s)", o.Rule, o.Ignored, onDate(o.Expires), o.Reason)
}

// setBy says who set a target's floor, as a clause.
func (e *explained) setBy(t *policy.Target) string {
	insecure := !t.Route.Vouched()
	switch t.Basis {
	case policy.BasisDANE:
		switch {
		case t.Floor.Level == policy.DANE:
			return "its hosts have TLSA records, and DNSSEC vouches for them and for the MX answer (DANE, RFC 7672)"
		case t.Floor.Level == policy.Encrypted:
			return "its hosts have TLSA records (DANE), of which none can be used for mail, so TLS is required and the certificate is not checked (RFC 7672 2.2)"
		case insecure && !e.Facts.DNSSEC:
			return "its hosts have TLSA records (DANE), which must match, although DNSSEC cannot be checked now"
		}
		return "its hosts have TLSA records (DANE), which must match, but the MX answer that names the hosts is not signed, so it is not level dane (RFC 7672 2.2.1)"
	case policy.BasisMTASTS:
		return "its MTA-STS policy is in enforce mode, which requires a valid certificate at a listed host (RFC 8461)"
	case policy.BasisRule:
		if s := nothingWeaker(t); s != "" {
			return s
		}
		return "the operator's " + t.Rule + " asks for " + relay.FloorWords(t.Floor)
	case policy.BasisCredential:
		return "the credential asks for level " + e.Asked.Account.String()
	case policy.BasisMessage:
		switch {
		case e.Asked.RequireTLS && e.Asked.NullSender:
			return "a bounce of REQUIRETLS mail is at least encrypted"
		case e.Asked.RequireTLS:
			return "the message has REQUIRETLS (RFC 8689)"
		}
		return "the message asks for level " + e.Asked.Message.String()
	case policy.BasisHold:
		return "its hosts did TLS reliably before, and a weaker answer is not accepted at once (downgrade hold)"
	}
	if s := nothingWeaker(t); s != "" {
		return s
	}
	if t.Floor.Level <= policy.Plaintext {
		return "neither domain, message nor a rule of the operator asks for more (the default rule)"
	}
	return "the operator's default rule asks for " + relay.FloorWords(t.Floor)
}

// nothingWeaker says that the floor is low, and the rule permits no step down to it now.
func nothingWeaker(t *policy.Target) string {
	rule, yet := "the operator's "+t.Rule, ""
	if t.Basis == policy.BasisDefault {
		rule = "the default rule"
	}
	if t.Later {
		yet = " yet: it permits them later"
	}
	if low := least(t); t.Floor.Level < policy.Encrypted && low > t.Floor.Level {
		return rule + " permits no weaker levels than " + low.String() + yet
	}
	return ""
}
