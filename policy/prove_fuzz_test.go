package policy

import (
	"crypto/tls"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// anyRules are rulesets with as many mistakes as they can have.
func (d *dealer) anyRules() *Ruleset {
	rule := func(name string) Rule {
		r := Rule{Name: name, Floor: Level(d.next() % 7), OnUnmet: OnUnmet(d.next() % 3), Hold: time.Duration(d.next()%4) * time.Hour,
			MinTLS: [...]uint16{0, 0, tls.VersionTLS12, tls.VersionTLS13}[d.next()%4]}
		for range d.next() % 3 {
			r.Fallback = append(r.Fallback, Fallback{To: Level(d.next()%3 + 1), After: time.Duration(d.next()%4) * time.Hour, MinTries: int(d.next() % 3)})
		}
		if d.next()%3 == 0 {
			r.Ignore, r.Reason, r.Expires = Promise(d.next()%4), [...]string{"", "any"}[d.next()%2], proveNow().Add(time.Duration(d.next()%3)*time.Hour)
		}
		return r
	}
	set := &Ruleset{Default: rule("default"), DANE: d.yes(), InsecureMXDANE: d.yes(), MTASTS: d.yes()}
	for range d.next() % 4 {
		r := rule("rule")
		r.Match = Match{Domains: [][]string{nil, {"example.org"}, {".org"}, {"a.example"}}[d.next()%4], Senders: [][]string{nil, {"s.example"}}[d.next()%2],
			MX: [][]string{nil, {".example.org"}, {"mx1.example.org"}}[d.next()%3]}
		set.Rules = append(set.Rules, r)
	}
	return set
}

// FuzzProve: when the prover finds nothing wrong with a ruleset, nothing that hosts and DNS
// do leads below the floor of the rule in force, the message's or the credential's, nor
// around a promise. The checks are a second time those of [trial.broken], by other means: a
// mistake in Decide would have to be made in both.
func FuzzProve(f *testing.F) {
	f.Add([]byte("whatever this is made into, it must hold"), uint64(1))
	f.Add([]byte{1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0}, uint64(2))
	f.Add([]byte{3, 1, 1, 0, 0, 1, 1, 1, 1, 2, 1, 1, 4, 1, 0, 0, 1}, uint64(3))
	f.Fuzz(func(t *testing.T, seed []byte, luck uint64) {
		d := dealer(seed)
		set := d.anyRules()
		if slices.ContainsFunc(Prove(set, proveNow()), func(f Flaw) bool { return !f.Note }) {
			return
		}
		dice := rand.New(rand.NewPCG(luck, 1))
		for range 200 {
			seed := make(dealer, 80)
			for i := range seed {
				seed[i] = byte(dice.Uint32())
			}
			misbehave(t, set, &seed)
		}
	})
}

// misbehave plays one attempt with facts and sessions out of the dealer's hand.
func misbehave(t *testing.T, set *Ruleset, d *dealer) {
	facts := d.facts()
	for i := range facts.Hosts {
		facts.Hosts[i].TLSA.Asked = facts.Hosts[i].TLSA.Asked && facts.Hosts[i].TLSA.Answer != NoName
		facts.Hosts[i].V4.Memory = Memory{Good: int(d.next() % 5), GoodAt: proveNow(), Last: Level(d.next() % 7), LastSeen: proveNow()}
	}
	facts.STS = STS{Mode: STSMode(d.next() % 4), MX: []string{[...]string{"*.example.org", "mx1.example.org", "no.example"}[d.next()%3]}}
	q := Query{Domain: "example.org", Sender: [...]string{"", "s.example"}[d.next()%2], Age: time.Duration(d.next()%5) * time.Hour, Tries: int(d.next() % 4),
		Message: Level(d.next() % 7), Account: Level(d.next() % 7), RequireTLS: d.next()%4 == 0, TLSOff: d.next()%4 == 0, Now: proveNow()}
	plan := Decide(&facts, set, &q)
	w := plan.Walk()
	for s, ok := w.Next(); ok; s, ok = w.Next() {
		e := Evidence{Rung: s.Rung, Route: s.Target.Route, Peer: Peer(d.next() % 4), RequireTLS: d.yes(),
			Version: tls.VersionTLS10 + uint16(d.next()%4), Suite: [...]uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}[d.next()%2]}
		if len(s.Target.TLSA) == 0 {
			e.Peer &^= PeerTLSA
		}
		switch s.Rung {
		case Clear:
			e = InClear(s)
		case Modern, Classical: // these rungs offer nothing weaker
			e.Version, e.Suite = max(e.Version, tls.VersionTLS12), tls.TLS_AES_128_GCM_SHA256
		}
		level, failure := s.Judge(e)
		switch {
		case d.next()%3 == 0:
			w.Report(s, Result{Failure: &Failure{Reason: Reason(d.next()) % reasonCount}, Secured: d.yes() && s.Rung != Clear})
			continue
		case failure != nil:
			w.Report(s, Result{Failure: failure, Level: level})
			continue
		}
		harmless(t, set, &facts, &q, s, e)
		w.Report(s, Result{Level: level, Opened: true})
	}
}

// harmless checks a session that mail went over.
func harmless(t *testing.T, set *Ruleset, facts *Facts, q *Query, s Step, e Evidence) {
	t.Helper()
	rule, level := set.For(q, s.Target.Host), e.Level()
	h := &facts.Hosts[slices.IndexFunc(facts.Hosts, func(h Host) bool { return h.Name == s.Target.Host })]
	if least := max(rule.Floor, q.Message, q.Account, Plaintext); level < least || rule.Floor == Unset {
		t.Fatalf("level %v, want %v by %+v", level, least, rule)
	}
	due := func(f Fallback) bool { return f.To == level && q.Age >= f.After && q.Tries >= f.MinTries }
	if level < Encrypted && (!slices.ContainsFunc(rule.Fallback, due) || rule.MinTLS == tls.VersionTLS13) || e.Version != 0 && e.Version < rule.MinTLS {
		t.Fatalf("level %v with %#x is not permitted by %+v", level, e.Version, rule)
	}
	if q.RequireTLS && (level < Verified || !e.RequireTLS) {
		t.Fatalf("REQUIRETLS at level %v, keyword %t", level, e.RequireTLS)
	}
	if q.TLSOff {
		return
	}
	ignored := rule.Ignore
	if rule.Reason == "" || len(rule.Match.Domains) == 0 || !rule.Expires.After(q.Now) {
		ignored = 0
	}
	if rule.Hold > 0 && h.V4.Memory.Good >= memoryGood && len(h.V4.IPs) > 0 && level < Encrypted {
		t.Fatalf("level %v while %+v is held", level, h.V4.Memory)
	}
	signed := facts.MX.Secure || facts.Implicit || facts.Operator
	dane := set.DANE && ignored&PromiseDANE == 0 && h.TLSA.Asked && (signed || set.InsecureMXDANE)
	if dane && h.TLSA.Answer == Unknown {
		t.Fatal("sent while the TLSA lookup failed")
	}
	decided := false
	if dane && h.TLSA.Answer == Records && h.TLSA.Secure {
		decided = len(usable(h.TLSA.Records)) > 0
		if level < Encrypted || decided && e.Peer&PeerTLSA == 0 || decided && signed && facts.DNSSEC && level < DANE {
			t.Fatalf("TLSA records, and level %v by %v", level, e.Peer)
		}
	}
	if set.MTASTS && ignored&PromiseMTASTS == 0 && facts.STS.Mode == STSEnforce && !decided && (level < MTASTS || !facts.STS.Matches(h.Name)) {
		t.Fatalf("an enforced policy, and level %v", level)
	}
}
