package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// policy completes the rules from [policy] and from their files and judges what is
// written; then the prover judges what would come of it (see prove).
func (s *settler) policy() {
	p := &s.config.Policy
	base := &p.Ruleset.Default
	base.Name = "default"
	if s.given(p, "fallback") {
		s.ladder(p, base.Fallback, "policy")
	} else {
		base.Fallback = downTo(base, defaultFallback())
	}
	files := map[int]domainFile{}
	for i := range p.written {
		r := &p.written[i]
		r.Name = fmt.Sprintf("rule %d", i+1)
		if r.Note != "" {
			r.Name += " (" + r.Note + ")"
		}
		s.inherit(r, base)
		if s.given(r, "fallback") {
			s.ladder(r, r.Fallback, "policy.rule")
		}
		s.override(r)
		s.known(r)
		rule := r.Rule
		rule.Match = r.match.Match
		if r.match.file != "" {
			files[i] = s.domainFile(r)
			rule.Match.Domains = append(rule.Match.Domains[:len(rule.Match.Domains):len(rule.Match.Domains)], files[i].domains...)
		}
		p.Ruleset.Rules = append(p.Ruleset.Rules, rule)
	}
	s.prove(files)
}

// inherit gives a rule what it leaves out.
func (s *settler) inherit(r *writtenRule, base *policy.Rule) {
	if !s.given(r, "floor") {
		r.Floor = base.Floor
	}
	if !s.given(r, "on_unmet") {
		r.OnUnmet = base.OnUnmet
	}
	if !s.given(r, "min_tls") {
		r.MinTLS = base.MinTLS
	}
	if !s.given(r, "downgrade_hold") {
		r.Hold = base.Hold
	}
	if !s.given(r, "fallback") {
		r.Fallback = downTo(&r.Rule, base.Fallback)
	}
}

// downTo leaves the steps of a ladder that a rule's floor and min_tls do not forbid.
func downTo(r *policy.Rule, ladder []policy.Fallback) []policy.Fallback {
	var left []policy.Fallback
	for _, f := range ladder {
		if f.To >= r.Floor && f.To >= r.Least(f.To) {
			left = append(left, f)
		}
	}
	return left
}

// ladder judges the written steps of a section, each by itself and against the one before
// it. What they mean for mail is the prover's.
func (s *settler) ladder(section any, steps []policy.Fallback, name string) {
	for i := range steps {
		f := &steps[i]
		switch {
		case !s.sound(f, "to", "after", "min_tries"):
			continue
		case !s.given(f, "to"):
			s.refuse(f, "the fallback does not say which level it goes to", `write to = "legacy" or "plaintext"`)
			continue
		case f.To > policy.Legacy:
			s.refuse(f, fmt.Sprintf("%s.fallback to %q is no step down: the strongest protection is always tried first", name, f.To),
				`write to = "legacy" or "plaintext", or raise the floor`)
			continue
		}
		if i == 0 || !s.given(&steps[i-1], "to") || !s.sound(&steps[i-1], "to", "after", "min_tries") {
			continue
		}
		switch before := steps[i-1].To; {
		case f.To == before:
			s.refuse(f, fmt.Sprintf("%s.fallback to %q is there already", name, f.To), "take one of them out")
		case f.To > before:
			s.refuse(f, fmt.Sprintf("%s.fallback to %q stands behind the weaker %q", name, f.To, before), "put the stronger step first")
		}
	}
}

// refuse complains of a step, from which nothing is concluded any more.
func (s *settler) refuse(f *policy.Fallback, what, mend string) {
	s.wrong(f, "to", what, mend)
	if m := s.places[f].member("to"); m != nil {
		m.value.bad = true
	}
	if n := s.places[f]; n != nil {
		n.bad = true
	}
}

// longOverride is for how long an override is still a temporary one.
const longOverride = 366 * 24 * time.Hour

// override judges the words around ignore. What it needs is the prover's.
func (s *settler) override(r *writtenRule) {
	if !s.sound(r, "ignore", "reason", "expires") {
		return
	}
	now := time.Now()
	switch {
	case r.Ignore == 0 && r.Reason != "":
		s.wrong(r, "reason", "policy.rule.reason stands without ignore", `write which promise is set aside, as in ignore = ["dane"]; a remark goes into note`)
	case r.Ignore == 0 && !r.Expires.IsZero():
		s.wrong(r, "expires", "policy.rule.expires stands without ignore", `write which promise is set aside, as in ignore = ["dane"]; a rule itself does not expire`)
	case r.Ignore == 0 || r.Expires.IsZero():
	case !now.Before(r.Expires):
		s.report.note(s.at(r, "expires"), fmt.Sprintf("the override expired on %s and has no effect any more", writeUntil(r.Expires)),
			"take ignore, reason and expires out")
	case r.Expires.After(now.Add(longOverride)):
		s.report.note(s.at(r, "expires"), fmt.Sprintf("the override holds until %s, which is more than a year", writeUntil(r.Expires)),
			"choose a date at which somebody looks again")
	}
}

// writeUntil is the last day of an override, or its time.
func writeUntil(t time.Time) string { return strings.Trim(writeDate(t), `"`) }

// known complains of a rule for a credential that this text does not have, when it
// is so near to one that a slip is likely; others may be in data_dir.
func (s *settler) known(r *writtenRule) {
	var names []string
	for _, c := range s.config.Credentials {
		names = append(names, c.Name)
	}
	for i, want := range r.match.Credentials {
		if meant := nearest(want, names); meant != "" && meant != want && !contains(names, want) {
			s.report.note(s.item(&r.match, "credential", i), fmt.Sprintf("policy.rule.match.credential %q is not in this file", want),
				fmt.Sprintf("did you mean %q?", meant))
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// item is where an item of a list stands.
func (s *settler) item(section any, name string, i int) position {
	m := s.places[section].member(name)
	if m == nil || i >= len(m.value.items) {
		return s.at(section, name)
	}
	return m.value.items[i].at
}
