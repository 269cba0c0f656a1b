package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// maxShadowed bounds how many domains of one file are named that never reach their rule.
const maxShadowed = 10

// proof is a ruleset for the prover: what was complained of is left out of it, because
// nothing may be concluded from it.
type proof struct {
	*settler
	files map[int]domainFile
	rules policy.Ruleset
	// from is, by rule of the proof, its number in the text.
	from []int
	// steps are, by rule of the proof, the written steps; the last are those of [policy].
	steps [][]*policy.Fallback
	// shadowed counts the domains of a file that were named, by rule of the text.
	shadowed map[int]int
}

// prove hands the rules to the prover and reports what it finds, each in its place. A text
// without rules of its own has those that a test proves.
func (s *settler) prove(files map[int]domainFile) {
	if !s.given(s.config, "policy") {
		return
	}
	c := &s.config.Policy
	p := &proof{settler: s, files: files, rules: c.Ruleset, shadowed: map[int]int{}}
	p.rules.Rules = nil
	for i := range c.written {
		w := &c.written[i]
		if !p.soundMatch(w) {
			continue
		}
		r := c.Ruleset.Rules[i]
		p.soundTerms(w, w.Fallback, &r)
		r.Name = fmt.Sprintf("rule %d in line %d", i+1, s.at(w, "match").line)
		p.rules.Rules = append(p.rules.Rules, r)
		p.from = append(p.from, i)
	}
	p.soundTerms(c, c.Ruleset.Default.Fallback, &p.rules.Default)
	flaws := policy.Prove(&p.rules, time.Now())
	for i := range flaws {
		if !p.inherited(&flaws[i], flaws) {
			p.place(&flaws[i])
		}
	}
	for i, n := range p.shadowed {
		if n > maxShadowed {
			s.report.note(s.at(&c.written[i].match, "domain_file"), fmt.Sprintf("%d domains of this file can never match here, %d of them are named", n, maxShadowed),
				"put this rule before those that take them, or take them out")
		}
	}
}

// soundMatch reports whether it is known which deliveries a rule is for.
func (p *proof) soundMatch(r *writtenRule) bool {
	m := p.places[r].member("match")
	return (m == nil || !m.value.bad && m.value.shape == isTable) &&
		p.sound(&r.match, "domain", "sender", "credential", "stream", "domain_file", "mx")
}

// soundTerms puts something harmless in place of a rule's terms that were complained of.
func (p *proof) soundTerms(section any, written []policy.Fallback, r *policy.Rule) {
	if !p.sound(section, "floor") {
		r.Floor = policy.Plaintext
	}
	if !p.sound(section, "min_tls") || !p.sound(&p.config.Policy, "min_tls") {
		r.MinTLS = 0
	}
	if !p.sound(section, "ignore", "reason", "expires") {
		r.Ignore = 0
	}
	if !p.sound(section, "on_unmet") {
		r.OnUnmet = policy.Defer
	}
	r.Fallback = nil
	var steps []*policy.Fallback
	if p.sound(section, "floor", "fallback") && p.sound(&p.config.Policy, "floor") {
		for i := range written {
			f := &written[i]
			if n := p.places[f]; n != nil && n.bad || !p.sound(f, "to", "after", "min_tries") {
				// Without it the others would be judged as a ladder that nobody wrote.
				r.Fallback, steps = nil, nil
				break
			}
			r.Fallback, steps = append(r.Fallback, *f), append(steps, f)
		}
	}
	p.steps = append(p.steps, steps)
}

// inherited reports whether a flaw is that of a ladder of [policy], and told there.
func (p *proof) inherited(f *policy.Flaw, all []policy.Flaw) bool {
	if f.Rule < 0 || f.Kind != policy.FlawStep || p.given(&p.config.Policy.written[p.from[f.Rule]], "fallback") {
		return false
	}
	return slices.ContainsFunc(all, func(o policy.Flaw) bool { return o.Rule < 0 && o.What == f.What })
}

// place reports a flaw in its place: the step, the domain, the word or the rule.
func (p *proof) place(f *policy.Flaw) {
	c := &p.config.Policy
	if f.Rule < 0 {
		at := p.at(c, "floor")
		if f.Kind == policy.FlawStep {
			at = p.step(c, len(p.steps)-1, f.Item)
		}
		p.file(at, f, "policy")
		return
	}
	i := p.from[f.Rule]
	w := &c.written[i]
	subject := fmt.Sprintf("policy.rule %d", i+1)
	switch f.Kind {
	case policy.FlawDomain:
		p.domain(w, i, f)
	case policy.FlawStep:
		p.file(p.step(w, f.Rule, f.Item), f, subject)
	case policy.FlawOverride:
		p.file(p.at(w, "ignore"), f, subject)
	case policy.FlawHopeless:
		p.file(p.at(w, "floor"), f, subject)
	default:
		p.file(p.at(w, "match"), f, subject)
	}
}

// step is where a step of a ladder stands: the section for one that is inherited.
func (p *proof) step(section any, rule, item int) position {
	if p.given(section, "fallback") && item < len(p.steps[rule]) {
		return p.at(p.steps[rule][item], "to")
	}
	return p.at(section, "fallback")
}

// domain reports one domain that never reaches its rule. In a list that is written by hand
// it is a mistake; a file is made by programs, and an exception before its rule is usual.
func (p *proof) domain(w *writtenRule, i int, f *policy.Flaw) {
	if k := f.Item - len(w.match.Domains); k >= 0 {
		file := p.files[i]
		if p.shadowed[i]++; p.shadowed[i] <= maxShadowed {
			p.settler.report.note(file.place(k), f.Text(""), "nothing to do if that is an exception to this file")
		}
		return
	}
	p.file(p.item(&w.match, "domain", f.Item), f, "")
}

func (p *proof) file(at position, f *policy.Flaw, subject string) {
	if f.Note {
		p.settler.report.note(at, f.Text(subject), f.Mend)
		return
	}
	p.settler.report.add(at, f.Text(subject), f.Mend)
}
