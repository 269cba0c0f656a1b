package policy

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// trial is one situation: a message of some age, a domain of some kind. Every behaviour of
// its hosts is played through the real Decide, Walk and Judge.
type trial struct {
	says   string // what is special about the message: "", " with REQUIRETLS"
	query  Query
	domain *domainKind
	facts  Facts
	single bool // only the first host is of the domain's kind
}

// use is one session over which a walk sent mail.
type use struct {
	second   bool // at the second host of the facts
	level    Level
	evidence Evidence
}

// planKey is what a walk depends on. Plans with the same key are walked once.
type planKey struct {
	hold, first, equal bool
	count              int
	targets            [2]targetKey
}

type targetKey struct {
	second bool
	floor  Floor
	rungs  [4]Rung
	barred Reason
	route  Route
	tlsa   bool
	minTLS uint16
	expect Level
}

func (t *trial) key(p *Plan) planKey {
	k := planKey{hold: p.Hold, first: p.First, count: len(p.Targets), equal: true}
	for i := range p.Targets {
		at := &p.Targets[i]
		k.equal = k.equal && at.Preference == p.Targets[0].Preference
		k.targets[i] = targetKey{second: t.second(at.Host), floor: at.Floor, route: at.Route, tlsa: len(at.TLSA) > 0, minTLS: at.MinTLS, expect: at.Expect}
		copy(k.targets[i].rungs[:], at.Rungs)
		if at.Barred != nil {
			k.targets[i].barred = at.Barred.Reason
		}
	}
	return k
}

// play decides a trial by rules and walks the plan for each cast of hosts. The result is by
// cast: the sessions that were used.
func (p *prover) play(rules *Ruleset, t *trial) [][]use {
	p.decided++
	plan := Decide(&t.facts, rules, &t.query)
	if plan.Refusal != nil {
		return nil
	}
	casts := p.alone
	if len(plan.Targets) > 1 {
		casts = p.pairs
	}
	key := t.key(&plan)
	played, ok := p.played[key]
	if !ok {
		played = make([][]use, len(casts))
		for i, cast := range casts {
			played[i] = t.drive(&plan, cast)
		}
		p.played[key] = played
	}
	return played
}

// drive walks a plan as the courier does; the n-th host of the facts is the n-th of the cast.
func (t *trial) drive(plan *Plan, cast []*hostKind) (used []use) {
	w := plan.Walk()
	for step, ok := w.Next(); ok; step, ok = w.Next() {
		kind, second := cast[0], t.second(step.Target.Host)
		if second {
			kind = cast[1]
		}
		e, secured, f := kind.open(step)
		if f != nil {
			w.Report(step, Result{Failure: f, Secured: secured})
			continue
		}
		level, f := step.Judge(e)
		switch {
		case f != nil:
			w.Report(step, Result{Failure: f, Level: level})
			continue
		case w.Keep(step, level):
			w.Report(step, Result{Level: level, Kept: true})
			continue
		}
		used = append(used, use{second, level, e})
		if kind.after != ReasonUnset {
			f = &Failure{Reason: kind.after, Host: step.Target.Host}
		}
		w.Report(step, Result{Failure: f, Level: level, Opened: true})
	}
	return used
}

// second reports whether a host is the second one of the facts.
func (t *trial) second(host Domain) bool {
	return len(t.facts.Hosts) > 1 && t.facts.Hosts[1].Name == host
}

// broken says which demand a session breaks; "" for none. It is the judge of the judge: what
// policy.md demands, written down a second time. rule is the rule as the operator wrote it.
func (t *trial) broken(rules *Ruleset, rule *Rule, u *use) string {
	q := &t.query
	switch level := u.level; {
	case level < rule.Floor || rule.Floor == Unset:
		return "the floor is " + rule.Floor.String()
	case level < q.Message:
		return "the message asks for " + q.Message.String()
	case level < q.Account:
		return "the credential asks for " + q.Account.String()
	case q.RequireTLS && q.NullSender && level < Encrypted:
		return "REQUIRETLS asks for encrypted"
	case q.RequireTLS && !q.NullSender && (level < Verified || !u.evidence.RequireTLS || level < MTASTS && u.evidence.Route == RouteNone):
		return "REQUIRETLS asks for verified, a vouched route and the keyword"
	case u.evidence.Version != 0 && u.evidence.Version < rule.MinTLS:
		return leastTLS(rule)
	case level < Encrypted && rule.MinTLS > tls.VersionTLS12:
		return leastTLS(rule)
	case level < Encrypted && !allowed(rule, level, q):
		return "no fallback step permits that yet"
	case q.TLSOff:
		return ""
	case level < min(q.Seen, Encrypted) && q.Age < rule.Hold:
		return "an earlier attempt met it with TLS"
	}
	return t.promised(rules, rule, u)
}

func leastTLS(r *Rule) string {
	return "min_tls is " + strings.TrimPrefix(tls.VersionName(r.MinTLS), "TLS ")
}

// allowed reports whether a step to exactly this level is due.
func allowed(rule *Rule, level Level, q *Query) bool {
	for _, f := range rule.Fallback {
		if f.To == level && f.After <= q.Age && f.MinTries <= q.Tries {
			return true
		}
	}
	return false
}

// promised says which promise of the domain a session breaks; "" for none.
func (t *trial) promised(rules *Ruleset, rule *Rule, u *use) string {
	if t.single && u.second {
		return ""
	}
	aside := Promise(0)
	if rule.Reason != "" && len(rule.Match.Domains) > 0 && rule.Expires.After(t.query.Now) {
		aside = rule.Ignore
	}
	for _, g := range t.domain.promises {
		switch {
		case g.by&aside != 0, g.by == PromiseDANE && !rules.DANE, g.by == PromiseMTASTS && !rules.MTASTS,
			g.insecure && !rules.InsecureMXDANE, g.hold && rule.Hold <= 0:
			continue
		case g.never:
			return "its " + g.by.String() + " promise forbids this host now"
		case g.hold && u.level < g.level:
			return "the downgrade hold keeps it at " + g.level.String()
		case u.level < g.level, g.tlsa && u.evidence.Peer&PeerTLSA == 0:
			return "the domain promises " + g.by.String()
		}
		if g.decides {
			return ""
		}
	}
	return ""
}

// sentence tells a session of a trial as a counter-example.
func (t *trial) sentence(cast []*hostKind, u *use, broken string) string {
	s := fmt.Sprintf("a message%s of age %s", t.says, shortDuration(t.query.Age))
	if t.query.Tries > 0 {
		s += fmt.Sprintf(" after %d tries", t.query.Tries)
	}
	s += " to " + string(t.query.Domain)
	if t.domain.says != "" {
		s += " (" + t.domain.says + ")"
	}
	if s += " whose host " + cast[0].says; len(cast) > 1 {
		s += " and whose second host " + cast[1].says
	}
	return s + " would go out " + manner(u) + ", " + broken
}

func manner(u *use) string {
	switch u.level {
	case Plaintext:
		return "in clear text"
	case Legacy:
		if u.evidence.Version >= tls.VersionTLS12 {
			return "over TLS with a weak suite"
		}
		return "over " + u.evidence.VersionName()
	default:
		return "at level " + u.level.String()
	}
}

// shortDuration is d without the zero parts at its end: "1h", not "1h0m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}
