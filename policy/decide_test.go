package policy

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// happy is a domain with two hosts, both fine: each row of a table overrides one thing.
func happy() Facts {
	host := func(n byte) Host {
		return Host{
			Name: Domain("mx" + string('0'+rune(n)) + ".example.org"), Preference: uint16(n) * 10, Port: 25,
			V4: Addresses{Lookup: Lookup{Answer: Records}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, n})}},
			V6: Addresses{Lookup: Lookup{Answer: NoData}},
		}
	}
	return Facts{Domain: "example.org", DNSSEC: true, MX: Lookup{Answer: Records}, Hosts: []Host{host(1), host(2)}}
}

// usable returns the targets that are not barred.
func (p Plan) usable() []Target {
	return slices.DeleteFunc(slices.Clone(p.Targets), func(t Target) bool { return t.Barred != nil })
}

func lenient() Rule {
	return Rule{Name: "default", Floor: Plaintext, OnUnmet: Defer, Fallback: []Fallback{{To: Legacy}, {To: Plaintext}}}
}

func TestDecideFacts(t *testing.T) {
	unknown := Addresses{Lookup: Lookup{Answer: Unknown, Problem: "SERVFAIL"}}
	none := Addresses{Lookup: Lookup{Answer: NoData}}
	tests := []struct {
		clause  string
		change  func(*Facts)
		targets int
		refusal Reason
	}{
		{"happy", func(*Facts) {}, 2, ReasonUnset},
		{"RFC 7505 3 null MX", func(f *Facts) { f.NullMX, f.Hosts = true, nil }, 0, NullMX},
		{"RFC 7672 2.1.2 MX unknown", func(f *Facts) { f.MX, f.Hosts = Lookup{Problem: "timeout"}, nil }, 0, DNSUnknown},
		{"no such domain", func(f *Facts) { f.MX, f.Hosts = Lookup{Answer: NoName}, nil }, 0, DomainNotFound},
		{"RFC 5321 5.1 only ourselves", func(f *Facts) { f.Self, f.Hosts = true, nil }, 0, LoopsToSelf},
		{"no host is left (addresses in place of names)", func(f *Facts) { f.Hosts = nil }, 0, NoAddress},
		{"RFC 7672 2.1.2 one host unknown: not used now", func(f *Facts) { f.Hosts[0].V4, f.Hosts[0].V6 = unknown, unknown }, 1, ReasonUnset},
		{"field notes F5 a broken family does not hurt the other", func(f *Facts) { f.Hosts[0].V6 = unknown }, 2, ReasonUnset},
		{"no A, AAAA unknown: not used now, and we do not know", func(f *Facts) {
			for i := range f.Hosts {
				f.Hosts[i].V4, f.Hosts[i].V6 = none, unknown
			}
		}, 0, DNSUnknown},
		{"one definite absence, one unknown: defer", func(f *Facts) { f.Hosts[0].V4 = none; f.Hosts[1].V4 = unknown }, 0, DNSUnknown},
		{"RFC 5321 5.1 no address anywhere: an error", func(f *Facts) { f.Hosts[0].V4, f.Hosts[1].V4 = none, none }, 0, NoAddress},
		{"own: private addresses only", func(f *Facts) {
			f.Hosts = f.Hosts[:1]
			f.Hosts[0].V4, f.Hosts[0].Refused = none, 1
		}, 0, AddressRefused},
		{"a configured relay needs no MX", func(f *Facts) { f.Operator, f.MX = true, Lookup{} }, 2, ReasonUnset},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			f := happy()
			tt.change(&f)
			p := Decide(&f, &Ruleset{Default: lenient()}, &Query{Domain: "example.org"})
			got := ReasonUnset
			if p.Refusal != nil {
				got = p.Refusal.Reason
			}
			if got != tt.refusal || len(p.usable()) != tt.targets {
				t.Fatalf("%d targets, refusal %v: want %d, %v", len(p.Targets), got, tt.targets, tt.refusal)
			}
		})
	}
}

func TestDecideFloors(t *testing.T) {
	all := []Rung{Modern, Classical, LegacyTLS, Clear}
	tests := []struct {
		name  string
		rule  func(*Rule)
		query Query
		floor Floor
		basis Basis
		rungs []Rung
	}{
		{"opportunistic", func(*Rule) {}, Query{}, Floor{Level: Plaintext}, BasisDefault, all},
		{"the rule's floor ends the lower rungs", func(r *Rule) { r.Floor = Encrypted }, Query{}, Floor{Level: Encrypted}, BasisDefault, all[:2]},
		{"floor legacy ends clear", func(r *Rule) { r.Floor = Legacy }, Query{}, Floor{Level: Legacy}, BasisDefault, all[:3]},
		{"the message raises", func(*Rule) {}, Query{Message: Verified}, Floor{Level: Verified}, BasisMessage, all[:2]},
		{"the message cannot lower", func(r *Rule) { r.Floor = Verified }, Query{Message: Plaintext}, Floor{Level: Verified}, BasisDefault, all[:2]},
		{"the credential raises", func(*Rule) {}, Query{Account: Encrypted}, Floor{Level: Encrypted}, BasisCredential, all[:2]},
		{"RFC 8689 4.2.1 REQUIRETLS", func(*Rule) {}, Query{RequireTLS: true},
			Floor{Level: Verified, Needs: NeedRoute | NeedRequireTLS}, BasisMessage, all[:2]},
		{"RFC 8689 4.2.1 the empty reverse path is exempt", func(*Rule) {}, Query{RequireTLS: true, NullSender: true},
			Floor{Level: Encrypted}, BasisMessage, all[:2]},
		{"own: what an earlier attempt met is held", func(*Rule) {}, Query{Tries: 1, Seen: Verified, Age: time.Minute}, Floor{Level: Encrypted}, BasisHold, all[:2]},
		{"own: legacy is held as legacy", func(*Rule) {}, Query{Tries: 1, Seen: Legacy, Age: time.Minute}, Floor{Level: Legacy}, BasisHold, all[:3]},
		{"own: the hold ends", func(*Rule) {}, Query{Tries: 9, Seen: Verified, Age: 4 * time.Hour}, Floor{Level: Plaintext}, BasisDefault, all},
		{"own: a higher floor is the floor's", func(r *Rule) { r.Floor = Verified }, Query{Tries: 1, Seen: Verified}, Floor{Level: Verified}, BasisDefault, all[:2]},
		{"RFC 8689 4.2.2 the hold does not apply", func(*Rule) {}, Query{Tries: 1, Seen: Verified, TLSOff: true}, Floor{Level: Plaintext}, BasisDefault, all},
		{"no fallback, no lower rung", func(r *Rule) { r.Fallback = nil }, Query{}, Floor{Level: Plaintext}, BasisDefault, all[:2]},
		{"step not due by age", func(r *Rule) { r.Fallback[1].After = time.Hour }, Query{Age: time.Minute}, Floor{Level: Plaintext}, BasisDefault, all[:3]},
		{"step due by age", func(r *Rule) { r.Fallback[1].After = time.Hour }, Query{Age: time.Hour}, Floor{Level: Plaintext}, BasisDefault, all},
		{"step not due by tries", func(r *Rule) { r.Fallback[1].MinTries = 2 }, Query{Tries: 1}, Floor{Level: Plaintext}, BasisDefault, all[:3]},
		{"min_tls 1.2 ends legacy, not clear", func(r *Rule) { r.MinTLS = tls.VersionTLS12 }, Query{}, Floor{Level: Plaintext}, BasisDefault, []Rung{Modern, Classical, Clear}},
		{"min_tls 1.3 ends both", func(r *Rule) { r.MinTLS = tls.VersionTLS13 }, Query{}, Floor{Level: Plaintext}, BasisDefault, all[:2]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := lenient()
			tt.rule(&r)
			tt.query.Domain = "example.org"
			r.Hold = 4 * time.Hour
			f := happy()
			p := Decide(&f, &Ruleset{Default: r}, &tt.query)
			if p.Floor != tt.floor || p.Basis != tt.basis {
				t.Errorf("floor %v by %v, want %v by %v", p.Floor, p.Basis, tt.floor, tt.basis)
			}
			if got := p.Targets[0].Rungs; !slices.Equal(got, tt.rungs) {
				t.Errorf("rungs %v, want %v", got, tt.rungs)
			}
			if len(p.Why) == 0 {
				t.Error("a decision without a reason")
			}
		})
	}
}

func TestDecideRules(t *testing.T) {
	set := Ruleset{Default: lenient(), Rules: []Rule{
		{Name: "bank", Match: Match{Domains: []string{"bank.example", ".gov.example"}}, Floor: Verified, OnUnmet: Bounce},
		{Name: "shop", Match: Match{Senders: []string{"shop.example"}, Credentials: []string{"invitations"}}, Floor: Encrypted},
	}}
	tests := []struct {
		query Query
		rule  string
	}{
		{Query{Domain: "bank.example"}, "bank"},
		{Query{Domain: "www.bank.example"}, "default"},
		{Query{Domain: "tax.gov.example"}, "bank"},
		{Query{Domain: "gov.example"}, "default"},
		{Query{Domain: "bank.example", Sender: "shop.example", Credential: "invitations"}, "bank"},
		{Query{Domain: "a.example", Sender: "shop.example", Credential: "invitations"}, "shop"},
		{Query{Domain: "a.example", Sender: "shop.example"}, "default"},
	}
	for _, tt := range tests {
		f := happy()
		if p := Decide(&f, &set, &tt.query); p.Rule != tt.rule {
			t.Errorf("%+v: rule %s, want %s", tt.query, p.Rule, tt.rule)
		}
	}
}

func TestDecideEmptyRulesetRefuses(t *testing.T) {
	f := happy()
	p := Decide(&f, &Ruleset{}, &Query{Domain: "example.org"})
	if p.Refusal == nil || p.Refusal.Permanent() || len(p.Targets) != 0 {
		t.Fatalf("plan %+v: want a temporary refusal (house rule 3)", p)
	}
}

func TestReasonTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		row := r.row()
		if row.label == "" || row.english == "" || seen[row.label] {
			t.Errorf("reason %d: label %q is empty or double", r, row.label)
		}
		seen[row.label] = true
		if want := byte('4'); row.permanent {
			want = '5'
			if row.status[0] != want {
				t.Errorf("%s: permanent with status %s", r, row.status)
			}
		} else if row.status[0] != want {
			t.Errorf("%s: temporary with status %s", r, row.status)
		}
		if row.mayLower && row.permanent {
			t.Errorf("%s: a reason that lowers a rung cannot be permanent by itself", r)
		}
		b, _ := r.MarshalText()
		var back Reason
		if err := back.UnmarshalText(b); err != nil || back != r {
			t.Errorf("%s does not survive its text", r)
		}
	}
}
