package policy

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func proveNow() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// ruleset is one with the default of an empty configuration, and these rules.
func ruleset(rules ...Rule) *Ruleset {
	r := &Ruleset{Default: lenient(), DANE: true, InsecureMXDANE: true, MTASTS: true, Rules: rules}
	r.Default.Hold = 4 * time.Hour
	for i := range r.Rules {
		if r.Rules[i].Name = fmt.Sprintf("rule %d", i+1); r.Rules[i].OnUnmet == OnUnmetUnset {
			r.Rules[i].OnUnmet = Defer
		}
		if r.Rules[i].Floor == Unset {
			r.Rules[i].Floor = Plaintext
		}
	}
	return r
}

// told writes flaws one a line, notes marked.
func told(r *Ruleset, flaws []Flaw) string {
	var b strings.Builder
	for i := range flaws {
		name := "default"
		if f := &flaws[i]; f.Rule >= 0 {
			name = r.Rules[f.Rule].Name
		}
		if flaws[i].Note {
			b.WriteString("note: ")
		}
		fmt.Fprintf(&b, "%s: %s\n", flaws[i].Text(name), flaws[i].Mend)
	}
	return b.String()
}

func forDomains(list ...string) Match { return Match{Domains: list} }

// TestProve: rulesets with holes, each with all that is to be said of it. A good one gets
// no word.
func TestProve(t *testing.T) {
	later := proveNow().Add(24 * time.Hour)
	tests := []struct {
		name string
		set  *Ruleset
		want string
	}{
		{"the default", ruleset(), ""},
		{"the manual's rule", ruleset(Rule{Match: forDomains("bank.example", ".gov.example"), Floor: Verified, OnUnmet: Bounce}), ""},
		{"a good override", ruleset(Rule{Match: forDomains("a.example"), Ignore: PromiseDANE | PromiseMTASTS, Reason: "key lost", Expires: later}), ""},
		{"an override that has ended sets nothing aside", ruleset(Rule{Match: forDomains("a.example"), Ignore: PromiseDANE, Reason: "key lost", Expires: proveNow()}), ""},
		{"a step below the floor", ruleset(Rule{Match: forDomains("x.example"), Floor: Verified, Fallback: []Fallback{{To: Plaintext}}}),
			`rule 1 falls back to "plaintext", below its floor "verified": a message of age 0s to x.example whose host offers no STARTTLS would go out in clear text, the floor is verified: take the step out or lower the floor`},
		{"a late step below the floor", ruleset(Rule{Match: forDomains("x.example"), Floor: Encrypted, Fallback: []Fallback{{To: Legacy, After: 90 * time.Minute, MinTries: 3}}}),
			`rule 1 falls back to "legacy", below its floor "encrypted": a message of age 1h30m after 3 tries to x.example whose host speaks TLS 1.1 at most would go out over TLS 1.1, the floor is encrypted: take the step out or lower the floor`},
		{"steps that are not monotone in age", ruleset(Rule{Match: forDomains("x.example"), Fallback: []Fallback{{To: Legacy, After: 2 * time.Hour}, {To: Plaintext, After: time.Hour}}}),
			`rule 1 permits "plaintext" before the stronger "legacy": a message of age 1h to x.example whose host speaks TLS 1.1 at most would go out in clear text, and it could have been of level legacy: make the weaker step the later one`},
		{"steps that are not monotone in tries", ruleset(Rule{Match: forDomains("x.example"), Fallback: []Fallback{{To: Legacy, MinTries: 5}, {To: Plaintext, MinTries: 1}}}),
			`rule 1 permits "plaintext" before the stronger "legacy": a message of age 0s after 1 tries to x.example whose host speaks TLS 1.1 at most would go out in clear text, and it could have been of level legacy: make the weaker step the later one`},
		{"min_tls forbids a step", ruleset(Rule{Match: forDomains("x.example"), MinTLS: tls.VersionTLS13, Fallback: []Fallback{{To: Plaintext}}}),
			`rule 1 falls back to "plaintext", which its min_tls forbids: a message of age 0s to x.example whose host offers no STARTTLS would go out in clear text, min_tls is 1.3: take the step out or lower min_tls`},
		{"field notes F25: old TLS forbidden, clear text permitted", ruleset(Rule{Match: forDomains("x.example"), MinTLS: tls.VersionTLS12, Fallback: []Fallback{{To: Plaintext, After: time.Hour}}}),
			`note: rule 1 goes from TLS 1.2 to clear text, without old TLS between them: a message of age 1h to x.example whose host speaks TLS 1.1 at most would go out in clear text, and it could have been of level legacy: permit "legacy" before "plaintext" if any TLS is better than none`},
		{"an override without an end", ruleset(Rule{Match: forDomains("x.example"), Ignore: PromiseDANE, Reason: "key lost", Fallback: []Fallback{{To: Legacy}, {To: Plaintext}}}),
			`rule 1 sets dane aside without an end: a message of age 0s to x.example (with TLSA records) whose host offers no STARTTLS would go out in clear text, the domain promises dane: write expires with a date, as in expires = 2027-01-31`},
		{"an override without a reason", ruleset(Rule{Match: forDomains("x.example"), Ignore: PromiseMTASTS, Expires: later}),
			`rule 1 sets mta-sts aside without a reason: a message of age 0s to x.example (with an MTA-STS policy in enforce mode) whose host sends a certificate that nobody vouches for would go out at level encrypted, the domain promises mta-sts: write reason = "..."`},
		{"an override of everybody", ruleset(Rule{Match: Match{Senders: []string{"s.example"}}, Ignore: PromiseDANE, Reason: "no", Expires: later}),
			`rule 1 sets dane aside without naming a domain: a message of age 0s to x.example (with TLSA records) whose host sends a certificate that nobody vouches for would go out at level encrypted, the domain promises dane: name the domains in match.domain; for all of them there are policy.dane and policy.mta_sts`},
		{"nobody can reach the floor", func() *Ruleset {
			r := ruleset(Rule{Match: forDomains("x.example"), Floor: DANE})
			r.DANE = false
			return r
		}(), `rule 1 has the floor "dane", which no host can reach: mail to x.example would wait until its time is over, whatever its hosts do: set policy.dane = true, or lower the floor`},
		{"terms of rules made in code", &Ruleset{Rules: []Rule{{Name: "rule 1", Match: forDomains("x.example"), Hold: -1, Fallback: []Fallback{{To: Verified}, {To: Plaintext, After: -1}}}}, Default: lenient()},
			`rule 1 sets no floor: mail to x.example would wait until its time is over, whatever its hosts do: set one, plaintext at least
rule 1 does not say what becomes of mail whose floor is not reached: a message to x.example whose host is too weak would neither be waited with nor returned by any rule: set on_unmet to defer or bounce
rule 1 has a negative downgrade hold: a message of age 0s to x.example whose host offers less TLS than yesterday would not be held: write 0 for no hold
rule 1 falls back to "verified", which is no step down: fall back to legacy or plaintext
rule 1 permits "plaintext" from a negative age or number of tries: a message of age 0s to x.example would be past it: make after and min_tries 0 or more`},
		{"the empty ruleset", &Ruleset{}, `default sets no floor: mail to x.example would wait until its time is over, whatever its hosts do: set one, plaintext at least
default does not say what becomes of mail whose floor is not reached: a message to x.example whose host is too weak would neither be waited with nor returned by any rule: set on_unmet to defer or bounce`},
		{"behind everything", ruleset(Rule{Floor: Encrypted}, Rule{Floor: Verified}),
			`rule 2 can never match: rule 1 takes all that it is for, for example mail to x.example: put it before that rule, or take it out`},
		{"behind a suffix", ruleset(Rule{Match: forDomains(".gov.example")}, Rule{Match: Match{Domains: []string{".tax.gov.example", "a.gov.example"}, Senders: []string{"s.example"}}}),
			`rule 2 can never match: rule 1 takes all that it is for, for example mail to mail.tax.gov.example from s.example: put it before that rule, or take it out`},
		{"behind two rules together, by domains", ruleset(Rule{Match: forDomains("a.example")}, Rule{Match: forDomains(".b.example")}, Rule{Match: forDomains("a.example", "c.b.example")}),
			`rule 3 can never match: rule 1 and rule 2 together take all that it is for, for example mail to a.example (rule 1) and mail to c.b.example (rule 2): put it before those rules, or take it out`},
		{"behind two rules together, by domain and sender", ruleset(
			Rule{Match: Match{Domains: []string{"a.example"}, Senders: []string{"s.example"}}},
			Rule{Match: Match{Domains: []string{".example"}, Senders: []string{"t.example"}}},
			Rule{Match: Match{Domains: []string{"a.example"}, Senders: []string{"s.example", "t.example"}, Streams: []string{"codes"}}}),
			`rule 3 can never match: rule 1 and rule 2 together take all that it is for, for example mail to a.example from s.example in stream "codes" (rule 1) and mail to a.example from t.example in stream "codes" (rule 2): put it before those rules, or take it out`},
		{"a name is not all below it", ruleset(Rule{Match: forDomains(".a.example")}, Rule{Match: forDomains("a.example")}), ""},
		{"two rules that leave a gap", ruleset(
			Rule{Match: Match{Domains: []string{"a.example"}, Senders: []string{"s.example"}}},
			Rule{Match: Match{Domains: []string{"b.example"}, Senders: []string{"t.example"}}},
			Rule{Match: Match{Domains: []string{"a.example", "b.example"}, Senders: []string{"s.example", "t.example"}}}), ""},
		{"a rule for hosts does not take what has no host", ruleset(Rule{Match: Match{MX: []string{".mx.example"}}}, Rule{Match: forDomains("a.example")}), ""},
		{"hosts behind all hosts", ruleset(Rule{Match: forDomains("a.example")}, Rule{Match: Match{Domains: []string{"a.example"}, MX: []string{".mx.example"}}}),
			`rule 2 can never match: rule 1 takes all that it is for, for example mail to a.example at the host mail.mx.example: put it before that rule, or take it out`},
		{"one domain of several", ruleset(Rule{Match: forDomains("a.example")}, Rule{Match: forDomains("b.example", "a.example")}),
			`the domain "a.example" can never match here: rule 1 takes it: put this rule before that one, or take the domain out`},
		{"an MX record chooses the weaker rule", ruleset(Rule{Match: Match{MX: []string{".weak.example"}}, Floor: Legacy}, Rule{Match: forDomains("bank.example"), Floor: Verified}),
			`note: rule 1 lowers the floor of rule 2 "verified" for hosts that an MX record names: mail to bank.example whose MX record names mail.weak.example, forged or not, would go out by the floor "legacy": name the domains in match.domain, too, if only some are meant`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.TrimSuffix(told(tt.set, Prove(tt.set, proveNow())), "\n"); got != tt.want {
				t.Errorf("flaws:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// TestProveReach: the prover and a search through everything agree on which rules can match.
func TestProveReach(t *testing.T) {
	dice := rand.New(rand.NewPCG(8461, 7672))
	pick := func(from ...string) []string {
		dice.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		return from[:dice.IntN(len(from)+2)%len(from)]
	}
	domains := func() []string { return pick(".e", "a.e", "b.e", ".a.e", "c.a.e", ".b.e") }
	rarely := func(from ...string) []string {
		if dice.IntN(3) > 0 {
			return nil
		}
		return pick(from...)
	}
	var unreached, together int
	for range 2000 {
		set := ruleset(make([]Rule, 1+dice.IntN(9))...)
		for i := range set.Rules {
			set.Rules[i].Match = Match{Domains: domains(), Senders: rarely(".s", "t.s", "u.s"), Credentials: rarely("k", "l", "o"), Streams: pick("m", "n", "o"), MX: rarely("h.e", ".e")}
		}
		p := newProver(set, proveNow())
		for i := range set.Rules {
			p.match(i, &set.Rules[i])
		}
		flaws, reached := p.flaws, everyRule(set)
		for i := range set.Rules {
			at := slices.IndexFunc(flaws, func(f Flaw) bool { return f.Kind == FlawUnreachable && f.Rule == i })
			if (at < 0) != reached[i] {
				t.Fatalf("rule %d: reached %t by search\n%s\n%+v", i+1, reached[i], told(set, flaws), set.Rules)
			}
			if at >= 0 {
				if unreached++; len(flaws[at].By) > 1 {
					together++
				}
			}
		}
	}
	if unreached < 100 || together < 50 {
		t.Errorf("%d rules were unreachable, %d by several others: too few to learn from", unreached, together)
	}
}

// everyRule says which rules some delivery out of a small universe reaches.
func everyRule(set *Ruleset) map[int]bool {
	reached := map[int]bool{}
	for _, d := range []Domain{"x", "x.e", "a.e", "b.e", "x.a.e", "c.a.e", "x.b.e"} {
		for _, s := range []string{"x", "x.s", "t.s", "u.s"} {
			for _, k := range []string{"x", "k", "l", "o"} {
				for _, m := range []string{"x", "m", "n", "o"} {
					for _, h := range []Domain{"", "x.e", "h.e"} {
						rule := set.For(&Query{Domain: d, Sender: s, Credential: k, Stream: m}, h)
						for i := range set.Rules {
							reached[i] = reached[i] || rule == &set.Rules[i]
						}
					}
				}
			}
		}
	}
	return reached
}

// TestProveBounded: the work grows with the rules, not with their combinations, and a list
// of many domains costs little more than reading it.
func TestProveBounded(t *testing.T) {
	many := make([]Rule, 200)
	for i := range many {
		many[i] = Rule{Match: Match{Domains: []string{fmt.Sprintf("d%d.example", i)}, Senders: words("s", i), Credentials: words("c", i), Streams: words("t", i), MX: words("m", i)},
			Floor: Levels()[i%3], Hold: time.Duration(i) * time.Minute, Fallback: []Fallback{
				{To: Legacy, After: time.Duration(i) * time.Minute, MinTries: 1}, {To: Plaintext, After: time.Duration(i+1) * time.Hour, MinTries: 2}}[:2-i%3]}
	}
	p := newProver(ruleset(many...), proveNow())
	if flaws := p.prove(); len(flaws) > 0 {
		t.Errorf("flaws: %s", told(p.rules, flaws))
	}
	if most := 201 * 400; p.decided > most {
		t.Errorf("%d decisions for 200 different rules, want %d at most", p.decided, most)
	}
	if most := 3000; len(p.played) > most {
		t.Errorf("%d walks were played, want %d at most", len(p.played), most)
	}

	// Lists that overlap in as many ways as they can.
	for i := range many {
		many[i].Match.Domains = nil
	}
	s := newReach(ruleset(many...).Rules)
	for i := range many {
		for _, g := range s.groups(i) {
			if g.cover.gaveUp {
				t.Errorf("rule %d: too many combinations", i+1)
			}
		}
	}

	domains := make([]string, 100_000)
	for i := range domains {
		domains[i] = fmt.Sprintf("customer-%d.shop%d.example", i, i%100)
	}
	big := ruleset(Rule{Match: forDomains(".shop7.example")}, Rule{Match: forDomains(domains...), Floor: Encrypted}, Rule{Match: Match{Domains: domains, Streams: []string{"codes"}}})
	p = newProver(big, proveNow())
	shadowed, unreachable := 0, 0
	for _, f := range p.prove() {
		switch f.Kind {
		case FlawDomain:
			shadowed++
		case FlawUnreachable:
			unreachable++
		}
	}
	if shadowed != 1000 || unreachable != 1 {
		t.Errorf("%d domains and %d rules never match, want 1000 and 1", shadowed, unreachable)
	}
	if most := 2000; p.decided > most {
		t.Errorf("%d decisions for 3 rules, want %d at most", p.decided, most)
	}
}

// words are ten names of which two rules share some.
func words(letter string, i int) []string {
	var list []string
	for k := range 10 {
		list = append(list, fmt.Sprintf("%s%d.example", letter, (i+k*k)%40))
	}
	return list
}

func BenchmarkProve(b *testing.B) {
	rules := make([]Rule, 200)
	for i := range rules {
		rules[i] = Rule{Match: forDomains(fmt.Sprintf("d%d.example", i)), Floor: Encrypted, Hold: time.Duration(i) * time.Minute}
	}
	set := ruleset(rules...)
	for b.Loop() {
		Prove(set, proveNow())
	}
}
