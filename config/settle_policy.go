package config

import (
	"fmt"
	"strings"

	"github.com/sealpost/sealpost/policy"
)

// policy completes the rules from [policy] and judges them: a rule must be able to
// match, and a ladder must lead down to its floor.
func (s *settler) policy() {
	p := &s.config.Policy
	base := &p.Ruleset.Default
	base.Name = "default"
	s.unbuilt(p, base)
	if s.given(p, "fallback") {
		s.ladder(p, base, "policy")
	} else {
		base.Fallback = downTo(base.Floor, defaultFallback())
	}
	for i := range p.Ruleset.Rules {
		r := &p.Ruleset.Rules[i]
		r.Name = fmt.Sprintf("rule %d", i+1)
		if r.Note != "" {
			r.Name += " (" + r.Note + ")"
		}
		s.inherit(r, base)
		if s.given(r, "fallback") {
			s.ladder(r, r, "policy.rule")
		}
		s.known(r)
		s.reachable(i)
	}
}

// unbuilt notes what is asked for in so many words, does not exist yet, and does
// no harm by its absence: a floor is kept all the same.
func (s *settler) unbuilt(p *Policy, base *policy.Rule) {
	const mend = "nothing to do: it is for a later version"
	if s.given(p, "mta_sts") && p.Ruleset.MTASTS {
		s.report.note(s.at(p, "mta_sts"), "policy.mta_sts is not available in this version: MTA-STS policies are not fetched", mend)
	}
	if s.given(p, "downgrade_hold") && base.Hold > 0 {
		s.report.note(s.at(p, "downgrade_hold"), "policy.downgrade_hold holds within one message in this version: hosts are not remembered from one message to the next", mend)
	}
}

// inherit gives a rule what it leaves out.
func (s *settler) inherit(r, base *policy.Rule) {
	if !s.given(r, "floor") {
		r.Floor = base.Floor
	}
	if !s.given(r, "on_unmet") {
		r.OnUnmet = base.OnUnmet
	}
	if !s.given(r, "min_tls") {
		r.MinTLS = base.MinTLS
	}
	r.Hold = base.Hold
	if !s.given(r, "fallback") {
		r.Fallback = downTo(r.Floor, base.Fallback)
	}
}

// downTo leaves the steps of a ladder that do not go below a floor.
func downTo(floor policy.Level, ladder []policy.Fallback) []policy.Fallback {
	var left []policy.Fallback
	for _, f := range ladder {
		if f.To >= floor {
			left = append(left, f)
		}
	}
	return left
}

// ladder judges the written steps of a section, which are the rule's.
func (s *settler) ladder(section any, r *policy.Rule, name string) {
	sound := s.sound(section, "floor")
	for i := range r.Fallback {
		f := &r.Fallback[i]
		switch {
		case !s.sound(f, "to", "after", "min_tries"):
			continue
		case !s.given(f, "to"):
			s.wrong(f, "to", "the fallback does not say which level it goes to", `write to = "legacy" or "plaintext"`)
			continue
		case f.To > policy.Legacy:
			s.wrong(f, "to", fmt.Sprintf("%s.fallback to %q is no step down: the strongest protection is always tried first", name, f.To),
				`write to = "legacy" or "plaintext", or raise the floor`)
			continue
		case f.To < r.Floor && sound:
			s.wrong(f, "to", fmt.Sprintf("%s.fallback to %q is below the floor %q and would never be used", name, f.To, r.Floor),
				"take it out or lower the floor")
		}
		if i == 0 || !s.given(&r.Fallback[i-1], "to") || !s.sound(&r.Fallback[i-1], "to", "after", "min_tries") {
			continue
		}
		s.rung(f, &r.Fallback[i-1], name)
	}
}

// rung judges a step of a ladder against the one before it.
func (s *settler) rung(f, before *policy.Fallback, name string) {
	switch {
	case f.To == before.To:
		s.wrong(f, "to", fmt.Sprintf("%s.fallback to %q is there already", name, f.To), "take one of them out")
	case f.To > before.To:
		s.wrong(f, "to", fmt.Sprintf("%s.fallback to %q stands behind the weaker %q", name, f.To, before.To), "put the stronger step first")
	case f.After < before.After:
		s.wrong(f, "after", fmt.Sprintf("%s.fallback to %q is permitted after %s, before the stronger %q after %s",
			name, f.To, writeDuration(f.After), before.To, writeDuration(before.After)), "make the weaker step the later one")
	case f.MinTries < before.MinTries:
		s.wrong(f, "min_tries", fmt.Sprintf("%s.fallback to %q needs fewer tries than the stronger %q", name, f.To, before.To),
			"make the weaker step the later one")
	}
}

// known complains of a rule for a credential that this text does not have, when it
// is so near to one that a slip is likely; others may be in data_dir.
func (s *settler) known(r *policy.Rule) {
	var names []string
	for _, c := range s.config.Credentials {
		names = append(names, c.Name)
	}
	for i, want := range r.Match.Credentials {
		if meant := nearest(want, names); meant != "" && meant != want && !contains(names, want) {
			s.report.note(s.item(&r.Match, "credential", i), fmt.Sprintf("policy.rule.match.credential %q is not in this file", want),
				fmt.Sprintf("did you mean %q?", meant))
		}
	}
}

// item is where an item of a list stands.
func (s *settler) item(section any, name string, i int) position {
	m := s.places[section].member(name)
	if m == nil || i >= len(m.value.items) {
		return s.at(section, name)
	}
	return m.value.items[i].at
}

// reachable complains of rule number i when rules before it leave nothing to it,
// as a whole or for some of its domains.
func (s *settler) reachable(i int) {
	rules := s.config.Policy.Ruleset.Rules
	r := &rules[i]
	if !s.soundMatch(r) {
		return
	}
	for j := range i {
		first := &rules[j]
		if !s.soundMatch(first) || !coversOthers(first.Match, r.Match) {
			continue
		}
		line := s.at(first, "match").line
		if covers(first.Match.Domains, r.Match.Domains, within) {
			s.wrong(r, "match", fmt.Sprintf("policy.rule %d can never match: rule %d in line %d takes all that it is for%s",
				i+1, j+1, line, example(r.Match)), "put it before that rule, or take it out")
			return
		}
		for k, d := range r.Match.Domains {
			if anyCovers(first.Match.Domains, d, within) {
				s.report.add(s.item(&r.Match, "domain", k), fmt.Sprintf("the domain %q can never match here: rule %d in line %d takes it", d, j+1, line),
					"put this rule before that one, or take the domain out")
			}
		}
	}
}

func (s *settler) soundMatch(r *policy.Rule) bool {
	m := s.places[r].member("match")
	return (m == nil || !m.value.bad && m.value.shape == isTable) &&
		s.sound(&r.Match, "domain", "sender", "credential", "stream", "domain_file", "mx")
}

// example names a delivery that the rule was meant for.
func example(m policy.Match) string {
	if len(m.Domains) == 0 {
		return ""
	}
	d := m.Domains[0]
	if strings.HasPrefix(d, ".") {
		d = "mail" + d
	}
	return ", for example mail to " + d
}

// coversOthers reports whether a takes all that b takes, domains aside.
func coversOthers(a, b policy.Match) bool {
	return covers(a.Senders, b.Senders, within) && covers(a.Credentials, b.Credentials, same) && covers(a.Streams, b.Streams, same)
}

// covers reports whether a list of a match takes all that another takes. An empty
// list takes everything.
func covers(a, b []string, takes func(a, b string) bool) bool {
	if len(a) == 0 {
		return true
	}
	for _, x := range b {
		if !anyCovers(a, x, takes) {
			return false
		}
	}
	return len(b) > 0
}

func anyCovers(a []string, x string, takes func(a, b string) bool) bool {
	for _, y := range a {
		if takes(y, x) {
			return true
		}
	}
	return false
}

func same(a, b string) bool { return a == b }

// within reports whether domain pattern a takes all that b takes.
func within(a, b string) bool { return a == b || strings.HasPrefix(a, ".") && strings.HasSuffix(b, a) }

func contains(list []string, s string) bool { return anyCovers(list, s, same) }
