package policy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Flaw is what is wrong with a ruleset, with an example.
type Flaw struct {
	Kind FlawKind
	Rule int // index into Rules; -1: the default rule
	// Item is the step of Fallback, or for FlawDomain the domain of Match.Domains, that is
	// to blame; -1: the whole rule.
	Item int
	By   []int // the earlier rules that take what this one is for
	// What is wrong: behind the rule's name, FlawDomain is a sentence of its own. Example is
	// the counter-example: a delivery that would go wrong; and how to Mend it.
	What, Example, Mend string
	// Note: it is worth knowing, and the ruleset may be meant so.
	Note bool
}

// FlawKind says what kind of flaw it is.
type FlawKind uint8

// The kinds.
const (
	FlawUnreachable FlawKind = iota + 1 // the rule can never match
	FlawDomain                          // one of its domains can never match
	FlawTerms                           // a term is missing or makes no sense
	FlawStep                            // a fallback step contradicts the rest of the rule
	FlawOverride                        // a promise is set aside without a word that is needed
	FlawHopeless                        // nothing can ever be delivered
	FlawUnsound                         // mail would go out below the floor
	FlawHost                            // a remote party chooses a weaker rule by naming a host
)

// Text is the flaw in words, with a name for the rule.
func (f *Flaw) Text(rule string) string {
	s := f.What
	if f.Kind != FlawDomain {
		s = rule + " " + s
	}
	switch {
	case f.Example == "":
		return s
	case strings.HasPrefix(f.Example, "for example"):
		return s + ", " + f.Example
	}
	return s + ": " + f.Example
}

// Prove looks for what is wrong with a ruleset, before it is in force: rules that can never
// match, and rules under which something that a remote party can do leads below the floor.
// It goes through all of them: each rule against every kind of host and domain there is
// (hostKinds, domainKinds), at and around the boundaries of its steps, by the real [Decide],
// [Walk] and [Step.Judge]. It holds the text of a rule to itself, too: a step that only the
// floor keeps from doing harm is a flaw. The flaws are in the order of the rules, the
// default last.
func Prove(r *Ruleset, now time.Time) []Flaw {
	return newProver(r, now).prove()
}

// prove goes through the rules in order.
func (p *prover) prove() []Flaw {
	for i := range p.rules.Rules {
		rule := &p.rules.Rules[i]
		if s, ok := p.match(i, rule); ok {
			p.sound(s)
			p.embedded(s)
			p.choice(s)
		}
	}
	q, host := p.reach.delivery(&point{{fresh: true}, {fresh: true}, {fresh: true}, {fresh: true}, {fresh: true}})
	p.sound(&subject{number: -1, rule: &p.rules.Default, query: q, host: host})
	return p.flaws
}

// prover is one proof.
type prover struct {
	rules   *Ruleset
	now     time.Time
	reach   *reach
	domains []domainKind
	alone   [][]*hostKind // casts of one host, and of two
	pairs   [][]*hostKind
	played  map[planKey][][]use
	clean   map[string]bool // terms that were proved
	flaws   []Flaw
	decided int // decisions so far, for the test that the work is bounded
}

func newProver(r *Ruleset, now time.Time) *prover {
	rules := *r
	rules.Rules = slices.Clone(r.Rules)
	rules.Index()
	p := &prover{rules: &rules, now: now, reach: newReach(rules.Rules), domains: domainKinds(), played: map[planKey][][]use{}, clean: map[string]bool{}}
	kinds := hostKinds()
	for i := range kinds {
		p.alone = append(p.alone, []*hostKind{&kinds[i]})
	}
	for i := range kinds {
		for j := range kinds {
			if kinds[i].paired && kinds[j].paired {
				p.pairs = append(p.pairs, []*hostKind{&kinds[i], &kinds[j]})
			}
		}
	}
	return p
}

func (p *prover) add(s *subject, f Flaw) {
	f.Rule = s.number
	if f.Kind != FlawStep && f.Kind != FlawDomain {
		f.Item = -1
	}
	p.flaws = append(p.flaws, f)
}

// name is how others speak of a rule.
func (p *prover) name(i int) string {
	if n := p.rules.Rules[i].Name; n != "" {
		return n
	}
	return fmt.Sprintf("rule %d", i+1)
}

// match proves that a rule can match, and each of its domains; it returns a delivery that
// reaches the rule.
func (p *prover) match(i int, rule *Rule) (*subject, bool) {
	s := &subject{number: i, rule: rule}
	groups := p.reach.groups(i)
	var left *point
	var gone []leaf
	gaveUp := false
	for _, g := range groups {
		switch {
		case g.cover.left != nil && left == nil:
			left = g.cover.left
		case g.cover.left == nil:
			gone = append(gone, g.cover.takers()...)
			gaveUp = gaveUp || g.cover.gaveUp
		}
	}
	switch {
	case left == nil && gaveUp:
		p.add(s, Flaw{Kind: FlawUnreachable, Note: true, What: "is for so many combinations that it is not known whether it can match",
			Mend: "part it into rules with shorter lists"})
		return nil, false
	case left == nil:
		p.unreachable(s, groups, distinct(gone))
		return nil, false
	}
	p.shadowed(s, groups)
	s.query, s.host = p.reach.delivery(left)
	return s, true
}

// unreachable reports a rule that can never match, with an example for each rule that
// takes something from it.
func (p *prover) unreachable(s *subject, groups []*group, gone []leaf) {
	common := groups[0].cover.common.clone()
	for _, g := range groups[1:] {
		common.keep(g.cover.common)
	}
	if one := common.first(); one >= 0 {
		gone = []leaf{{at: gone[0].at, by: one}}
	}
	f := Flaw{Kind: FlawUnreachable, Mend: "put it before that rule, or take it out"}
	var examples []string
	for _, l := range gone {
		f.By = append(f.By, l.by)
		example := p.reach.say(&l.at)
		if len(gone) > 1 {
			example += " (" + p.name(l.by) + ")"
		}
		examples = append(examples, example)
	}
	f.What = "can never match: " + p.take(f.By) + " all that it is for"
	f.Example = "for example " + strings.Join(examples, " and ")
	if len(gone) > 1 {
		f.Mend = "put it before those rules, or take it out"
	}
	p.add(s, f)
}

// take is "rule 1 takes", or "rule 1 and rule 2 together take".
func (p *prover) take(by []int) string {
	names := make([]string, len(by))
	for k, i := range by {
		names[k] = p.name(i)
	}
	if len(names) == 1 {
		return names[0] + " takes"
	}
	return strings.Join(names, " and ") + " together take"
}

// shadowed reports the domains of a rule that never reach it.
func (p *prover) shadowed(s *subject, groups []*group) {
	for _, g := range groups {
		if g.cover.left != nil || g.cover.gaveUp {
			continue
		}
		var by []int
		for _, l := range g.cover.takers() {
			by = append(by, l.by)
		}
		for _, k := range g.items {
			p.add(s, Flaw{Kind: FlawDomain, Item: k, By: by,
				What: fmt.Sprintf("the domain %q can never match here: %s it", s.rule.Match.Domains[k], p.take(by)),
				Mend: "put this rule before that one, or take the domain out"})
		}
	}
}

// terms reports words of a rule that are missing or make no sense. It reports whether
// there are any: nothing more can be proved then.
func (p *prover) terms(s *subject) bool {
	r := s.rule
	before := len(p.flaws)
	wrong := func(what, example, mend string) {
		p.add(s, Flaw{Kind: FlawTerms, What: what, Example: example, Mend: mend})
	}
	waits := "mail to " + string(s.query.Domain) + " would wait until its time is over, whatever its hosts do"
	if r.Floor == Unset || r.Floor > DANE {
		wrong("sets no floor", waits, "set one, plaintext at least")
	}
	if r.OnUnmet != Defer && r.OnUnmet != Bounce {
		wrong("does not say what becomes of mail whose floor is not reached", "a message to "+string(s.query.Domain)+
			" whose host is too weak would neither be waited with nor returned by any rule", "set on_unmet to defer or bounce")
	}
	if r.Hold < 0 {
		wrong("has a negative downgrade hold", "a message of age 0s to "+string(s.query.Domain)+
			" whose host offers less TLS than yesterday would not be held", "write 0 for no hold")
	}
	if len(r.Fallback) > maxSteps {
		wrong(fmt.Sprintf("has %d fallback steps", len(r.Fallback)), "", "one for each level is enough")
	}
	if r.MinTLS > tls.VersionTLS13 {
		wrong("asks for a TLS version that does not exist", waits, "set min_tls to 1.2 or 1.3")
	}
	for i, f := range r.Fallback {
		switch {
		case f.To == Unset || f.To > Legacy:
			p.add(s, Flaw{Kind: FlawStep, Item: i, What: fmt.Sprintf("falls back to %q, which is no step down", f.To),
				Mend: "fall back to legacy or plaintext"})
		case f.After < 0 || f.MinTries < 0:
			p.add(s, Flaw{Kind: FlawStep, Item: i, What: fmt.Sprintf("permits %q from a negative age or number of tries", f.To),
				Example: "a message of age 0s to " + string(s.query.Domain) + " would be past it", Mend: "make after and min_tries 0 or more"})
		}
	}
	return len(p.flaws) > before
}

// maxSteps bounds the ladder: only two levels can be stepped down to.
const maxSteps = 16

// embedded plays a rule where it stands, among the others: the first that matches counts.
func (p *prover) embedded(s *subject) {
	if s.rule.Floor == Unset {
		return
	}
	t := p.trial(s, moment{}, &p.domains[0])
	for i, used := range p.play(p.rules, t) {
		for j := range used {
			if broken := t.broken(p.rules, s.rule, &used[j]); broken != "" {
				p.add(s, Flaw{Kind: FlawUnsound, What: "does not get what it is for", Example: t.sentence(p.alone[i], &used[j], broken),
					Mend: "this is a fault of the relay: please report it"})
				return
			}
		}
	}
}

// choice notes a rule for hosts of any domain whose floor is below that of the domain's own
// rule: who can forge an MX record chooses between them.
func (p *prover) choice(s *subject) {
	if len(s.rule.Match.MX) == 0 || len(s.rule.Match.Domains) > 0 {
		return
	}
	for i := s.number + 1; i <= len(p.rules.Rules); i++ {
		base, q := &p.rules.Default, s.query
		if i < len(p.rules.Rules) {
			base = &p.rules.Rules[i]
			if d := base.Match.Domains; len(d) > 0 {
				q.Domain = Domain(p.reach.indexes[inDomain].sample(pattern{text: d[0]}))
			}
		}
		if base.Floor <= s.rule.Floor || p.rules.For(&q, "") != base || p.rules.For(&q, s.host) != s.rule {
			continue
		}
		by := "the default floor"
		if base != &p.rules.Default {
			by = "the floor of " + p.name(i)
		}
		p.add(s, Flaw{Kind: FlawHost, Note: true, What: fmt.Sprintf("lowers %s %q for hosts that an MX record names", by, base.Floor),
			Example: fmt.Sprintf("mail to %s whose MX record names %s, forged or not, would go out by the floor %q", q.Domain, s.host, s.rule.Floor),
			Mend:    "name the domains in match.domain, too, if only some are meant"})
		return
	}
}
