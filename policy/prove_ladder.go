package policy

import (
	"fmt"
	"slices"
	"time"
)

// moment is an age and a number of earlier tries.
type moment struct {
	age   time.Duration
	tries int
}

// moments are those at and around the boundaries of a rule's steps, the last one with
// every step due.
func moments(r *Rule) []moment {
	list := []moment{{}}
	last := moment{}
	for _, f := range r.Fallback {
		list = append(list, moment{f.After - 1, f.MinTries}, moment{f.After, f.MinTries - 1}, moment{f.After, f.MinTries})
		last.age, last.tries = max(last.age, f.After), max(last.tries, f.MinTries)
	}
	list = slices.DeleteFunc(append(list, last), func(m moment) bool { return m.age < 0 || m.tries < 0 })
	slices.SortFunc(list, func(a, b moment) int {
		if a.age != b.age {
			return int(min(max(a.age-b.age, -1), 1))
		}
		return a.tries - b.tries
	})
	return slices.Compact(list)
}

// subject is a rule under proof, with a delivery that it is for.
type subject struct {
	number int // of the rule; -1: the default
	rule   *Rule
	query  Query
	host   Domain
}

// only is a ruleset in which the rule, or a changed copy of it, is the only one.
func (p *prover) only(r Rule) *Ruleset {
	return &Ruleset{Default: r, DANE: p.rules.DANE, InsecureMXDANE: p.rules.InsecureMXDANE, MTASTS: p.rules.MTASTS}
}

// trial makes a situation for a rule; two hosts where second is set.
func (p *prover) trial(s *subject, m moment, d *domainKind, hosts ...Domain) *trial {
	t := &trial{query: s.query, domain: d}
	t.query.Age, t.query.Tries, t.query.Now = m.age, m.tries, p.now
	t.facts = domainFacts(s.query.Domain, p.now, false, append([]Domain{s.host}, hosts...)...)
	if d.change != nil {
		d.change(&t.facts, s.rule)
	}
	return t
}

// trials yields every situation for a rule.
func (p *prover) trials(s *subject, yield func(*trial) bool) {
	all := moments(s.rule)
	for _, m := range all {
		for i := range p.domains {
			if !yield(p.trial(s, m, &p.domains[i])) {
				return
			}
		}
	}
	last := all[len(all)-1]
	for _, v := range messages(s.rule) {
		for i := range p.domains {
			t := p.trial(s, last, &p.domains[i])
			t.says = v.says
			v.change(&t.query)
			if !yield(t) {
				return
			}
		}
	}
	second := "second." + s.host
	for i := range p.domains[:5] {
		for _, equal := range [...]bool{false, true} {
			t := p.trial(s, last, &p.domains[i], second)
			if equal {
				t.facts.Hosts[1].Preference = t.facts.Hosts[0].Preference
			}
			if t.single = equal; equal {
				t.facts.Hosts[1].TLSA = TLSAFacts{}
			}
			if t.facts.STS.Mode != STSAbsent {
				t.single = false // the policy is for all hosts
			}
			if !yield(t) {
				return
			}
		}
	}
}

// variant is a message that asks for something of its own.
type variant struct {
	says   string
	change func(*Query)
}

func messages(r *Rule) []variant {
	return []variant{
		{" that asks for verified", func(q *Query) { q.Message = Verified }},
		{" of a credential that asks for encrypted", func(q *Query) { q.Account = Encrypted }},
		{" with REQUIRETLS", func(q *Query) { q.RequireTLS = true }},
		{" with REQUIRETLS and the empty reverse path", func(q *Query) { q.RequireTLS, q.NullSender = true, true }},
		{" with TLS-Required: No", func(q *Query) { q.TLSOff = true }},
		{" that an earlier attempt met with TLS", func(q *Query) { q.Seen, q.Age, q.Tries = Verified, max(r.Hold-1, 0), max(q.Tries, 1) }},
		{" that an earlier attempt met with TLS", func(q *Query) { q.Seen, q.Age, q.Tries = Verified, max(q.Age, r.Hold), max(q.Tries, 1) }},
	}
}

// sound proves a rule: no behaviour of a remote party leads below its floor.
func (p *prover) sound(s *subject) {
	if p.terms(s) {
		return
	}
	key := fmt.Sprint(s.rule.Floor, s.rule.OnUnmet, s.rule.Fallback, s.rule.MinTLS, s.rule.Hold, s.rule.Ignore,
		s.rule.Reason != "", s.rule.Expires, len(s.rule.Match.Domains) > 0)
	if p.clean[key] {
		return
	}
	before := len(p.flaws)
	p.override(s)
	reached := p.exhaust(s)
	p.steps(s, reached)
	p.clean[key] = !slices.ContainsFunc(p.flaws[before:], func(f Flaw) bool { return !f.Note })
}

// exhaust plays every trial by the rule as it stands. It returns the levels at which mail
// went out without a promise or a wish that forbade it.
func (p *prover) exhaust(s *subject) (reached [DANE + 1]bool) {
	rules, delivered, breach := p.only(*s.rule), false, false
	p.trials(s, func(t *trial) bool {
		casts := p.alone
		if len(t.facts.Hosts) > 1 {
			casts = p.pairs
		}
		for i, used := range p.play(rules, t) {
			for j := range used {
				u := &used[j]
				delivered = true
				if t.domain.says == "" && t.says == "" {
					reached[u.level] = true
				}
				if broken := t.broken(rules, s.rule, u); broken != "" {
					p.add(s, Flaw{Kind: FlawUnsound, What: "does not keep what it says", Example: t.sentence(casts[i], u, broken),
						Mend: "this is a fault of the relay: please report it"})
					breach = true
					return false
				}
			}
		}
		return true
	})
	if !delivered && !breach {
		p.hopeless(s)
	}
	return reached
}

// hopeless reports a rule whose floor nobody can reach.
func (p *prover) hopeless(s *subject) {
	f := Flaw{Kind: FlawHopeless, What: fmt.Sprintf("has the floor %q, which no host can reach", s.rule.Floor),
		Example: "mail to " + string(s.query.Domain) + " would wait until its time is over, whatever its hosts do", Mend: "lower the floor"}
	if s.rule.Floor >= MTASTS && !p.rules.DANE {
		f.Mend = "set policy.dane = true, or lower the floor"
	}
	p.add(s, f)
}

// steps judges each step of the ladder by what would come of it alone.
func (p *prover) steps(s *subject, reached [DANE + 1]bool) {
	barred := false
	for i, f := range s.rule.Fallback {
		flaw := Flaw{Kind: FlawStep, Item: i}
		lifted := *s.rule
		lifted.Fallback, lifted.MinTLS = []Fallback{f}, 0
		lifted.Floor = min(f.To, s.rule.Floor)
		switch {
		case f.To < s.rule.Floor:
			flaw.What = fmt.Sprintf("falls back to %q, below its floor %q", f.To, s.rule.Floor)
			flaw.Example = p.example(s, lifted, func(*trial, *hostKind, *use) string { return "the floor is " + s.rule.Floor.String() })
			flaw.Mend = "take the step out or lower the floor"
		case !reached[f.To]:
			flaw.What = fmt.Sprintf("falls back to %q, which its min_tls forbids", f.To)
			flaw.Example = p.example(s, lifted, func(*trial, *hostKind, *use) string { return leastTLS(s.rule) })
			flaw.Mend = "take the step out or lower min_tls"
		default:
			continue
		}
		p.add(s, flaw)
		barred = true
	}
	if !barred {
		p.monotone(s, reached)
	}
}

// monotone looks for a host that gets less than it offers: because the weaker step is due
// before the stronger one, which is a flaw, or because there is no stronger one (field
// notes: who forbids old TLS gets clear text), which is worth a note.
func (p *prover) monotone(s *subject, reached [DANE + 1]bool) {
	example := p.example(s, *s.rule, func(_ *trial, k *hostKind, u *use) string {
		if u.level >= k.best {
			return ""
		}
		return "and it could have been of level " + k.best.String()
	})
	if example == "" {
		return
	}
	for i, f := range s.rule.Fallback {
		if f.To == Plaintext && reached[Legacy] {
			p.add(s, Flaw{Kind: FlawStep, Item: i, What: fmt.Sprintf("permits %q before the stronger %q", Plaintext, Legacy), Example: example,
				Mend: "make the weaker step the later one"})
			return
		}
	}
	p.add(s, Flaw{Kind: FlawStep, Note: true, What: "goes from TLS 1.2 to clear text, without old TLS between them", Example: example,
		Mend: `permit "legacy" before "plaintext" if any TLS is better than none`})
}

// example plays the rule, or a changed copy, against a domain without promises, and tells
// the first session in which wrong sees something.
func (p *prover) example(s *subject, changed Rule, wrong func(*trial, *hostKind, *use) string) string {
	rules := p.only(changed)
	for _, m := range moments(&changed) {
		t := p.trial(s, m, &p.domains[0])
		for i, used := range p.play(rules, t) {
			for j := range used {
				if used[j].level >= Encrypted {
					continue
				}
				if broken := wrong(t, p.alone[i][0], &used[j]); broken != "" {
					return t.sentence(p.alone[i], &used[j], broken)
				}
			}
		}
	}
	return ""
}

// override reports a rule that sets promises aside without saying for whom, why and until
// when, with what would come of it if that were no condition.
func (p *prover) override(s *subject) {
	r := s.rule
	if r.Ignore == 0 {
		return
	}
	lifted := *r
	lifted.Reason, lifted.Expires, lifted.Match.Domains = "any", p.now.Add(time.Hour), []string{string(s.query.Domain)}
	example := p.unpromised(s, lifted)
	for _, missing := range []struct {
		is         bool
		what, mend string
	}{
		{r.Reason == "", "without a reason", `write reason = "..."`},
		{r.Expires.IsZero(), "without an end", "write expires with a date, as in expires = 2027-01-31"},
		{len(r.Match.Domains) == 0, "without naming a domain", "name the domains in match.domain; for all of them there are policy.dane and policy.mta_sts"},
	} {
		if missing.is {
			p.add(s, Flaw{Kind: FlawOverride, What: "sets " + r.Ignore.String() + " aside " + missing.what, Example: example, Mend: missing.mend})
		}
	}
}

// unpromised tells how a promise of the domain is broken by a changed copy of the rule.
func (p *prover) unpromised(s *subject, lifted Rule) string {
	rules, strict := p.only(lifted), *s.rule
	strict.Ignore = 0
	for _, m := range moments(s.rule) {
		for i := range p.domains {
			t := p.trial(s, m, &p.domains[i])
			for k, used := range p.play(rules, t) {
				for j := range used {
					if broken := t.promised(rules, &strict, &used[j]); broken != "" {
						return t.sentence(p.alone[k], &used[j], broken)
					}
				}
			}
		}
	}
	return ""
}
