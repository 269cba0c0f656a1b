package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// policy 2, downgrade hold; policy 1.5, host memory; peers: a memory that can only raise a floor.
func TestDecideHold(t *testing.T) {
	now := noon()
	good := Memory{Best: Verified, BestAt: now.Add(-24 * time.Hour), Last: Verified, LastSeen: now.Add(-24 * time.Hour), Good: 3, GoodAt: now.Add(-24 * time.Hour)}
	good.GoodBefore = [2]time.Time{good.GoodAt, good.GoodAt}
	with := func(change func(*Memory)) Memory { m := good; change(&m); return m }
	tests := []struct {
		name   string
		memory Memory // of the first host, IPv4
		query  Query
		floors [2]Level // of both hosts
		basis  Basis    // of the first
	}{
		{"never seen", Memory{}, Query{}, [2]Level{Plaintext, Plaintext}, BasisDefault},
		{"good: both hosts are held", good, Query{}, [2]Level{Encrypted, Encrypted}, BasisHold},
		{"two deliveries are not enough", with(func(m *Memory) { m.Good = 2 }), Query{}, [2]Level{Plaintext, Plaintext}, BasisDefault},
		{"thirty days later it has faded", with(func(m *Memory) { m.GoodAt = now.Add(-MemoryLife) }), Query{}, [2]Level{Plaintext, Plaintext}, BasisDefault},
		{"weak since an hour: held", with(func(m *Memory) { m.WeakSince, m.WeakAt = now.Add(-time.Hour), now }), Query{}, [2]Level{Encrypted, Encrypted}, BasisHold},
		{"weak since four hours: the hold is over", with(func(m *Memory) { m.WeakSince, m.WeakAt = now.Add(-4*time.Hour), now }), Query{}, [2]Level{Plaintext, Plaintext}, BasisDefault},
		{"its companion is held by the age of the message only", good, Query{Age: 4 * time.Hour}, [2]Level{Encrypted, Plaintext}, BasisHold},
		{"RFC 8689 4.2.2: TLS-Required: No is not held", good, Query{TLSOff: true}, [2]Level{Plaintext, Plaintext}, BasisDefault},
		{"a higher floor stays", good, Query{Message: Verified}, [2]Level{Verified, Verified}, BasisMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := happy()
			f.Hosts[0].V4.Memory = tt.memory
			r := lenient()
			r.Hold = 4 * time.Hour
			tt.query.Domain, tt.query.Now = "example.org", now
			p := Decide(&f, &Ruleset{Default: r}, &tt.query)
			if got := [2]Level{p.Targets[0].Floor.Level, p.Targets[1].Floor.Level}; got != tt.floors || p.Targets[0].Basis != tt.basis {
				t.Errorf("floors %v by %v, want %v by %v", got, p.Targets[0].Basis, tt.floors, tt.basis)
			}
			if tt.basis == BasisHold && !p.Targets[0].Later {
				t.Error("a hold ends: the plan must say so, or on_unmet = bounce would give up")
			}
		})
	}
}

func TestDecideOrder(t *testing.T) {
	now := noon()
	seen := func(l Level) Memory { return Memory{Last: l, LastSeen: now.Add(-time.Hour)} }
	tests := []struct {
		name   string
		change func(*Facts)
		hosts  string
		addrs  string // of the first
	}{
		{"as it came", func(*Facts) {}, "mx1 mx2", "192.0.2.1 "},
		{"stronger first within one preference", func(f *Facts) { f.Hosts[1].V4.Memory = seen(DANE) }, "mx2 mx1", "192.0.2.2 "},
		{"RFC 5321 5.1: preference goes before memory", func(f *Facts) { f.Hosts[1].V4.Memory, f.Hosts[1].Preference = seen(DANE), 20 }, "mx1 mx2", "192.0.2.1 "},
		{"weaker last", func(f *Facts) { f.Hosts[0].V4.Memory = seen(Plaintext) }, "mx2 mx1", "192.0.2.2 "},
		{"broken TLS goes behind its equals and keeps its rungs", func(f *Facts) { f.Hosts[0].V4.Memory.BrokenUntil = now.Add(time.Minute) }, "mx2 mx1", "192.0.2.2 "},
		{"IPv6 first", func(f *Facts) { f.Hosts[0].V6 = twoIPv6() }, "mx1 mx2", "2001:db8::1 192.0.2.1 2001:db8::2 "},
		{"a family that is down goes last", func(f *Facts) {
			f.Hosts[0].V6 = twoIPv6()
			f.Hosts[0].V6.Memory.DownUntil = now.Add(time.Minute)
		}, "mx1 mx2", "192.0.2.1 2001:db8::1 2001:db8::2 "},
		{"until its time is over", func(f *Facts) { f.Hosts[0].V6 = twoIPv6(); f.Hosts[0].V6.Memory.DownUntil = now }, "mx1 mx2", "2001:db8::1 192.0.2.1 2001:db8::2 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := happy()
			f.Hosts[1].Preference = f.Hosts[0].Preference
			tt.change(&f)
			p := Decide(&f, &Ruleset{Default: lenient()}, &Query{Domain: "example.org", Now: now})
			var hosts, addrs strings.Builder
			for i := range p.Targets {
				hosts.WriteString(strings.TrimSuffix(string(p.Targets[i].Host), ".example.org") + " ")
				if len(p.Targets[i].Rungs) != 4 {
					t.Errorf("%s has rungs %v: memory must not take any away", p.Targets[i].Host, p.Targets[i].Rungs)
				}
			}
			for _, a := range p.Targets[0].Addrs {
				addrs.WriteString(a.Addr().String() + " ")
			}
			if strings.TrimSpace(hosts.String()) != tt.hosts || addrs.String() != tt.addrs {
				t.Errorf("hosts %s, addresses %s: want %s, %s", hosts.String(), addrs.String(), tt.hosts, tt.addrs)
			}
		})
	}
}

func twoIPv6() Addresses {
	return Addresses{Lookup: Lookup{Answer: Records}, IPs: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}}
}

// policy 1.5: a host that chokes on the large ClientHello is asked on the classical rung at
// once, until the memory fades and modern is tried anew.
func TestDecideClassical(t *testing.T) {
	f := happy()
	f.Hosts[0].V4.Memory.ClassicalUntil = noon()
	for _, tt := range []struct {
		now  time.Time
		want Rung
	}{{noon().Add(-time.Second), Classical}, {noon(), Modern}} {
		p := Decide(&f, &Ruleset{Default: lenient()}, &Query{Domain: "example.org", Now: tt.now})
		if got := p.Targets[0].Rungs[0]; got != tt.want {
			t.Errorf("at %v the first rung is %v, want %v", tt.now, got, tt.want)
		}
	}
}

// policy 4: rules for mail exchangers, overrides with reason and end.
func TestDecideHostRules(t *testing.T) {
	now := noon()
	f := happy()
	f.MX.Secure = true
	f.Hosts[0].TLSA = TLSAFacts{Asked: true, Lookup: Lookup{Answer: Records, Secure: true}, Records: []TLSARecord{{3, 1, 1, make([]byte, 32)}}}
	f.STS = STS{Mode: STSEnforce, MX: []string{"mx2.example.org"}, Expires: now.Add(time.Hour)}
	override := func(change func(*Rule)) Ruleset {
		r := lenient()
		r.Name, r.Match.Domains = "rule 1", []string{"example.org"}
		r.Ignore, r.Reason, r.Expires = PromiseDANE|PromiseMTASTS, "renewal under way", now.Add(time.Hour)
		change(&r)
		return Ruleset{Default: lenient(), Rules: []Rule{r}, DANE: true, MTASTS: true}
	}
	tests := []struct {
		name   string
		rules  Ruleset
		floors [2]Level
		uses   int // overrides
	}{
		{"the domain's promises", override(func(r *Rule) { r.Ignore = 0 }), [2]Level{DANE, MTASTS}, 0},
		{"both set aside", override(func(*Rule) {}), [2]Level{Plaintext, Plaintext}, 3},
		{"one of them", override(func(r *Rule) { r.Ignore = PromiseMTASTS }), [2]Level{DANE, Plaintext}, 1},
		{"DANE set aside at a host that the policy does not list: barred", override(func(r *Rule) { r.Ignore, r.Match.MX = PromiseDANE, []string{"mx1.example.org"} }), [2]Level{Unset, MTASTS}, 1},
		{"for one mail exchanger", override(func(r *Rule) { r.Match.MX = []string{"mx1.example.org"} }), [2]Level{Plaintext, MTASTS}, 2},
		{"expired: no override", override(func(r *Rule) { r.Expires = now }), [2]Level{DANE, MTASTS}, 0},
		{"without an end: no override", override(func(r *Rule) { r.Expires = time.Time{} }), [2]Level{DANE, MTASTS}, 0},
		{"without a reason: no override", override(func(r *Rule) { r.Reason = "" }), [2]Level{DANE, MTASTS}, 0},
		{"that names no domain: no override", override(func(r *Rule) { r.Match.Domains, r.Match.Senders = nil, nil }), [2]Level{DANE, MTASTS}, 0},
		{"a floor for a provider's hosts", override(func(r *Rule) { r.Ignore, r.Match.MX, r.Floor = 0, []string{".example.org"}, Verified }), [2]Level{DANE, MTASTS}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Decide(&f, &tt.rules, &Query{Domain: "example.org", Now: now})
			got := [2]Level{p.Targets[0].Floor.Level, p.Targets[1].Floor.Level}
			if p.Targets[0].Barred != nil {
				got[0] = Unset
			}
			if got != tt.floors || len(p.Overrides) != tt.uses {
				t.Errorf("floors %v, %d overrides: want %v, %d (%v)", got, len(p.Overrides), tt.floors, tt.uses, p.Why)
			}
		})
	}
}
