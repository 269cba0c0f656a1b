package policy

import (
	"net/netip"
	"testing"
	"time"
)

// BenchmarkDecideAndWalk is a decision about a cached domain with two hosts, MTA-STS and TLSA, and
// the walk to its first step: what policy costs beside the network. Aim: 5 µs and 20 allocations.
func BenchmarkDecideAndWalk(b *testing.B) {
	plain, dane, sts := happy(), happy(), happy()
	dane.MX.Secure = true
	for i := range dane.Hosts {
		dane.Hosts[i].TLSA = TLSAFacts{Asked: true, Lookup: Lookup{Answer: Records, Secure: true}, Base: dane.Hosts[i].Name,
			Records: []TLSARecord{{3, 1, 1, make([]byte, 32)}, {2, 1, 1, make([]byte, 32)}}}
	}
	sts.STS = STS{Mode: STSEnforce, MX: []string{"*.example.org"}, Expires: noon().Add(time.Hour)}
	for _, f := range []*Facts{&plain, &dane, &sts} {
		for i := range f.Hosts {
			f.Hosts[i].V6 = Addresses{Lookup: Lookup{Answer: Records}, IPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
			f.Hosts[i].V4.Memory = Memory{Best: Verified, BestAt: noon(), Last: Verified, LastSeen: noon(), Good: 9, GoodAt: noon()}
		}
	}
	r := lenient()
	r.Hold = 4 * time.Hour
	rules := Ruleset{Default: r, DANE: true, InsecureMXDANE: true, MTASTS: true}
	for range 20 {
		rules.Rules = append(rules.Rules, Rule{Name: "rule", Match: Match{Domains: []string{".bank.example"}}, Floor: Verified})
	}
	q := Query{Domain: "example.org", Now: noon()}
	for _, c := range []struct {
		name string
		f    *Facts
	}{{"plain", &plain}, {"dane", &dane}, {"mta-sts", &sts}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := Decide(c.f, &rules, &q)
				w := p.Walk()
				s, ok := w.Next()
				if !ok {
					b.Fatal("no step")
				}
				w.Report(s, Result{Level: Verified, Opened: true})
			}
		})
	}
}
