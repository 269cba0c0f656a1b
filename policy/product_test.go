package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// oneState is one state of a thing that a decision depends on.
type oneState struct {
	name string
	set  func(*scene)
}

// scene is one decision with a single host.
type scene struct {
	facts Facts
	rules Ruleset
	query Query
}

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// tlsaStates are the lookup outcomes of TLSA (RFC 7672 2.1, 2.2).
func tlsaStates() []oneState {
	with := func(l Lookup, records ...TLSARecord) func(*scene) {
		return func(s *scene) { s.facts.Hosts[0].TLSA = TLSAFacts{Asked: true, Lookup: l, Records: records} }
	}
	good, bad := TLSARecord{3, 1, 1, make([]byte, 32)}, TLSARecord{1, 1, 1, make([]byte, 32)}
	secure := Lookup{Answer: Records, Secure: true}
	signed := func(f func(*scene)) func(*scene) {
		return func(s *scene) { s.facts.MX.Secure = true; f(s) }
	}
	return []oneState{
		{"tlsa=not-asked", func(*scene) {}},
		{"tlsa=absent", signed(with(Lookup{Answer: NoData, Secure: true}))},
		{"tlsa=insecure", signed(with(Lookup{Answer: Records}, good))},
		{"tlsa=unknown", signed(with(Lookup{Problem: "SERVFAIL"}))},
		{"tlsa=unusable", signed(with(secure, bad))},
		{"tlsa=usable", signed(with(secure, good))},
		{"tlsa=usable,mx-insecure", with(secure, good)},
		{"tlsa=usable,selftest-failed", signed(func(s *scene) { with(secure, good)(s); s.facts.DNSSEC = false })},
		{"tlsa=gone,selftest-failed,known", func(s *scene) {
			s.facts.DNSSEC = false
			s.facts.Hosts[0].V4.Memory = Memory{Best: DANE, BestAt: noon().Add(-time.Hour)}
		}},
	}
}

// stsStates are modes, matches and fetch states of MTA-STS (RFC 8461 3.3, 4.1, 5).
func stsStates() []oneState {
	policy := func(m STSMode, pattern string, left time.Duration) func(*scene) {
		return func(s *scene) {
			s.facts.STS = STS{Mode: m, ID: "1", MX: []string{pattern}, Expires: noon().Add(left)}
		}
	}
	return []oneState{
		{"sts=absent", func(*scene) {}},
		{"sts=none", policy(STSNone, "mx1.example.org", time.Hour)},
		{"sts=testing", policy(STSTesting, "*.example.org", time.Hour)},
		{"sts=testing,mismatch", policy(STSTesting, "*.example.net", time.Hour)},
		{"sts=enforce", policy(STSEnforce, "mx1.example.org", time.Hour)},
		{"sts=enforce,mismatch", policy(STSEnforce, "mx9.example.org", time.Hour)},
		{"sts=enforce,expired", policy(STSEnforce, "mx9.example.org", -time.Second)},
		{"sts=fetch-failed", func(s *scene) { s.facts.STS = STS{Failure: STSFetchFailed, Problem: "404"} }},
	}
}

func floorStates() []oneState {
	var list []oneState
	for _, l := range []Level{Plaintext, Encrypted, Verified, MTASTS, DANE} {
		list = append(list, oneState{"floor=" + l.String(), func(s *scene) { s.rules.Rules[0].Floor = l }})
	}
	return list
}

func messageStates() []oneState {
	return []oneState{
		{"", func(*scene) {}},
		{"requiretls", func(s *scene) { s.query.RequireTLS = true }},
		{"tls-required-no", func(s *scene) { s.query.TLSOff = true }},
	}
}

func ruleStates() []oneState {
	ignore := func(p Promise) func(*scene) {
		return func(s *scene) {
			r := &s.rules.Rules[0]
			r.Ignore, r.Reason, r.Expires = p, "renewal", noon().Add(time.Hour)
		}
	}
	return []oneState{
		{"", func(*scene) {}},
		{"ignore=dane", ignore(PromiseDANE)},
		{"ignore=mta-sts", ignore(PromiseMTASTS)},
	}
}

// TestProduct holds the whole product of what DNS says, what the policy host says, what
// the operator asks for and what the message asks for: one line for each, in a golden
// file that a person can read. SEALPOST_UPDATE_GOLDEN=1 writes it anew; read the diff.
func TestProduct(t *testing.T) {
	var b strings.Builder
	count := 0
	for _, tlsa := range tlsaStates() {
		for _, sts := range stsStates() {
			for _, floor := range floorStates() {
				for _, message := range messageStates() {
					for _, rule := range ruleStates() {
						s := newScene()
						names := make([]string, 0, 5)
						for _, v := range []oneState{tlsa, sts, floor, message, rule} {
							v.set(&s)
							if v.name != "" {
								names = append(names, v.name)
							}
						}
						p := Decide(&s.facts, &s.rules, &s.query)
						checkPromises(t, &s, &p, strings.Join(names, " "))
						fmt.Fprintf(&b, "%s: %s\n", strings.Join(names, " "), judged(&p))
						count++
					}
				}
			}
		}
	}
	t.Logf("%d decisions", count)
	const file = "testdata/decisions.golden"
	if os.Getenv("SEALPOST_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
	if len(wantLines) != len(gotLines) {
		t.Fatalf("%d lines, the golden file has %d", len(gotLines), len(wantLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Errorf("got  %s\nwant %s", gotLines[i], wantLines[i])
		}
	}
}

func newScene() scene {
	s := scene{facts: happy(), query: Query{Domain: "example.org", Now: noon()}}
	s.facts.Hosts = s.facts.Hosts[:1]
	r := lenient()
	r.Name, r.Match.Domains = "rule 1", []string{"example.org"}
	s.rules = Ruleset{Default: lenient(), Rules: []Rule{r}, DANE: true, InsecureMXDANE: true, MTASTS: true}
	return s
}

// judged is a decision about the only host in a few words.
func judged(p *Plan) string {
	t := &p.Targets[0]
	if p.Refusal != nil {
		until := "defer"
		if p.Refusal.Permanent() {
			until = "bounce " + p.Refusal.Code()
		}
		return fmt.Sprintf("%s: %s (floor %s by %s)", until, p.Refusal.Reason, t.Floor, t.Basis)
	}
	return fmt.Sprintf("floor %s by %s, route %s, down to %s", t.Floor, t.Basis, t.Route, t.Rungs[len(t.Rungs)-1])
}

// checkPromises says in code what no line of the product may break, so that a golden
// file that was updated without being read cannot hide it.
func checkPromises(t *testing.T, s *scene, p *Plan, name string) {
	t.Helper()
	target := &p.Targets[0]
	ignored, off := s.rules.Rules[0].Ignore, s.query.TLSOff
	if target.Barred == nil && target.Floor.Level < s.rules.Rules[0].Floor {
		t.Errorf("%s: floor %v under the rule's", name, target.Floor)
	}
	for _, r := range target.Rungs {
		if r.Ceiling() < target.Floor.Level {
			t.Errorf("%s: rung %v under floor %v", name, r, target.Floor)
		}
	}
	clear := len(target.Rungs) > 0 && target.Rungs[len(target.Rungs)-1] == Clear
	tlsa := s.facts.Hosts[0].TLSA
	secure := tlsa.Asked && tlsa.Answer == Records && tlsa.Secure
	enforce := s.facts.STS.In(noon()) == STSEnforce
	switch {
	case off:
	case ignored&PromiseDANE == 0 && (secure || tlsa.Asked && tlsa.Answer == Unknown) && clear:
		t.Errorf("%s: RFC 7672 2.2: clear text against TLSA records", name)
	case ignored&PromiseMTASTS == 0 && enforce && clear:
		t.Errorf("%s: RFC 8461 5: clear text against an enforced policy", name)
	case ignored&PromiseMTASTS == 0 && enforce && target.Barred == nil && target.Floor.Level != DANE && target.Route&RouteSTS == 0:
		t.Errorf("%s: RFC 8461 5: a host that the policy does not list, and no DANE", name)
	case ignored&PromiseMTASTS == 0 && enforce && target.Barred == nil && target.Floor.Level < Verified:
		t.Errorf("%s: RFC 8461 5: floor %v against an enforced policy", name, target.Floor)
	}
}
