package policy

import (
	"crypto/tls"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// anyRules are rulesets with every kind of mistake, each of them seldom, so that many have none.
func (d *dealer) anyRules() *Ruleset {
	seldom := func() bool { return d.next()%16 == 15 }
	rule := func(name string) Rule {
		r := Rule{Name: name, Floor: Level(d.next()%6 + 1), OnUnmet: OnUnmet(d.next()%2 + 1), Hold: time.Duration(d.next()%4) * time.Hour,
			MinTLS: [...]uint16{0, 0, tls.VersionTLS12, tls.VersionTLS13}[d.next()%4]}
		if seldom() {
			r.Floor, r.OnUnmet = Unset, OnUnmetUnset
		}
		due := Fallback{}
		for _, to := range [...]Level{Legacy, Plaintext} {
			if due.To = to; (to >= r.Floor && to >= r.Least(to)) == seldom() || d.next()%4 == 0 {
				continue
			}
			due.After, due.MinTries = due.After+time.Duration(d.next()%3)*time.Hour, due.MinTries+int(d.next()%3)
			if seldom() {
				due.After = 0
			}
			r.Fallback = append(r.Fallback, due)
		}
		if d.next()%3 == 0 {
			r.Ignore, r.Reason, r.Expires = Promise(d.next()%4), "any", proveNow().Add(time.Duration(d.next()%3)*time.Hour)
			if seldom() {
				r.Reason = ""
			}
		}
		return r
	}
	set := &Ruleset{Default: rule("default"), DANE: !seldom(), InsecureMXDANE: d.yes(), MTASTS: !seldom()}
	set.Default.Ignore = 0
	for range d.next() % 4 {
		r := rule("rule")
		r.Match = Match{Domains: [][]string{nil, {"example.org"}, {".org"}, {"a.example", "example.org"}}[d.next()%4], Senders: [][]string{nil, {"s.example"}}[d.next()%2],
			MX: [][]string{nil, {".example.org"}, {"mx1.example.org"}}[d.next()%3]}
		if len(r.Match.Domains) == 0 && !seldom() {
			r.Ignore = 0
		}
		set.Rules = append(set.Rules, r)
	}
	return set
}

// FuzzProve: when the prover finds nothing wrong with a ruleset, nothing that hosts and DNS
// do leads below the floor of the rule in force, the message's or the credential's, nor
// around a promise. The checks are a second time those of [trial.broken], by other means: a
// mistake in Decide would have to be made in both.
func FuzzProve(f *testing.F) {
	for i := range uint64(60) { // half of them make a ruleset without a flaw
		dice, seed := rand.New(rand.NewPCG(i, 3)), make([]byte, 90)
		for k := range seed {
			seed[k] = byte(dice.Uint32())
		}
		f.Add(seed, i)
	}
	f.Fuzz(func(t *testing.T, seed []byte, luck uint64) {
		d := dealer(seed)
		set := d.anyRules()
		if slices.ContainsFunc(Prove(set, proveNow()), func(f Flaw) bool { return !f.Note }) {
			return
		}
		dice := rand.New(rand.NewPCG(luck, 1))
		for range 200 {
			seed := make(dealer, 250)
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
		facts.Hosts[i].V4.Memory = Memory{Good: int(d.next() % 5), GoodAt: proveNow(), GoodBefore: [2]time.Time{proveNow(), proveNow()}, Last: Level(d.next() % 7), LastSeen: proveNow()}
	}
	facts.STS = STS{Mode: STSMode(d.next() % 4), MX: []string{[...]string{"*.example.org", "mx1.example.org", "no.example"}[d.next()%3]}}
	q := Query{Domain: "example.org", Sender: [...]string{"", "s.example"}[d.next()%2], Age: time.Duration(d.next()%5) * time.Hour, Tries: int(d.next() % 4),
		RequireTLS: d.next()%4 == 1, TLSOff: d.next()%4 == 1, Now: proveNow()}
	if d.next()%4 == 1 {
		q.Message, q.Account = Level(d.next()%7), Level(d.next()%7)
	}
	if d.next()%4 > 0 {
		facts.MX.Answer, facts.NullMX = Records, false
	}
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
		case s.Rung != Clear && d.next()%4 > 0: // mostly in a way that leads down
			reason := [...]Reason{STARTTLSMissing, HandshakeVersion, STARTTLSRefused, Reason(d.next()) % reasonCount}[d.next()%4]
			w.Report(s, Result{Failure: &Failure{Reason: reason}, Secured: d.next()%8 == 1})
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
