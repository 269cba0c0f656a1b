package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// dealer hands out the fuzzer's octets.
type dealer []byte

func (d *dealer) next() byte {
	if len(*d) == 0 {
		return 0
	}
	b := (*d)[0]
	*d = (*d)[1:]
	return b
}

func (d *dealer) yes() bool { return d.next()&1 == 1 }

func (d *dealer) lookup() Lookup {
	l := Lookup{Answer: Answer(d.next() % 4)}
	l.Secure = l.Answer != Unknown && d.yes()
	return l
}

func (d *dealer) facts() Facts {
	f := Facts{Domain: "example.org", DNSSEC: d.next()%4 != 1, MX: d.lookup(), NullMX: d.next()%16 == 1, Implicit: d.yes(), Operator: d.next()%8 == 1, Self: d.next()%8 == 1}
	for i := range d.next() % 5 {
		h := Host{Name: Domain("mx" + string('0'+rune(i)) + ".example.org"), Preference: uint16(i), Port: 25}
		for _, a := range []*Addresses{&h.V4, &h.V6} {
			if a.Lookup = d.lookup(); a.Answer == Records {
				a.IPs = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, i})}
			}
		}
		h.TLSA = TLSAFacts{Asked: d.yes(), Lookup: d.lookup()}
		if h.TLSA.Answer == Records {
			h.TLSA.Records = []TLSARecord{{Usage: d.next() % 5, Selector: d.next() % 3, Matching: d.next() % 4, Data: make([]byte, 32)}}
		}
		h.V4.Memory, h.V6.Memory = d.memory(), d.memory()
		f.Hosts = append(f.Hosts, h)
	}
	if f.STS.Mode = STSMode(d.next() % 4); f.STS.Mode != STSAbsent {
		f.STS.Expires = noon().Add(time.Duration(int(d.next())-64) * time.Minute)
		for i := range d.next() % 3 {
			f.STS.MX = append(f.STS.MX, "mx"+string('0'+rune(i))+".example.org")
		}
	}
	return f
}

func (d *dealer) rules() Ruleset {
	r := Ruleset{DANE: true, MTASTS: true, InsecureMXDANE: d.yes()}
	r.Default = Rule{Name: "default", Floor: Level(d.next() % 7), OnUnmet: OnUnmet(d.next()%2 + 1)}
	for range d.next() % 3 {
		r.Default.Fallback = append(r.Default.Fallback, Fallback{To: Level(d.next()%3 + 1), After: time.Duration(d.next()) * time.Minute, MinTries: int(d.next() % 4)})
	}
	return r
}

// FuzzDecide checks properties 1, 3 and 7 of the package comment, and that a plan
// is either a refusal or has something to try.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{1, 1, 0, 1, 0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1})
	f.Add([]byte("any seed will do, the dealer makes facts and rules of it"))
	f.Fuzz(func(t *testing.T, seed []byte) {
		d := dealer(seed)
		facts, rules := d.facts(), d.rules()
		rules.Default.Hold = time.Duration(d.next()%5) * time.Hour
		q := Query{Domain: "example.org", Now: noon(), Age: time.Duration(d.next()) * time.Minute, Tries: int(d.next() % 5),
			RequireTLS: d.next()%4 == 1, NullSender: d.yes(), Message: Level(d.next() % 7), Account: Level(d.next() % 7)}
		p := Decide(&facts, &rules, &q)
		if (p.Refusal == nil) != slices.ContainsFunc(p.Targets, func(t Target) bool { return t.Barred == nil }) {
			t.Fatalf("refusal %v with %d targets", p.Refusal, len(p.Targets))
		}
		if rules.Default.Floor == Unset && p.Refusal == nil {
			t.Fatal("an unset floor sends mail")
		}
		for i := range p.Targets {
			if p.Targets[i].Barred != nil {
				continue
			}
			checkTarget(t, &facts, &rules, q, &p.Targets[i])
		}
	})
}

func checkTarget(t *testing.T, facts *Facts, rules *Ruleset, q Query, target *Target) {
	t.Helper()
	least := max(rules.Default.Floor, q.Message, q.Account)
	if target.Floor.Level < least {
		t.Fatalf("floor %v under %v", target.Floor, least)
	}
	for _, r := range target.Rungs {
		if r.Ceiling() < target.Floor.Level {
			t.Fatalf("property 1: rung %v under floor %v", r, target.Floor)
		}
	}
	var h *Host
	for i := range facts.Hosts {
		if facts.Hosts[i].Name == target.Host {
			h = &facts.Hosts[i]
		}
	}
	vouched := facts.MX.Secure || facts.Implicit || facts.Operator
	if !h.TLSA.Asked || !vouched && !rules.InsecureMXDANE || h.TLSA.Answer != Unknown && (h.TLSA.Answer != Records || !h.TLSA.Secure || len(usable(h.TLSA.Records)) == 0) {
		if facts.STS.In(q.Now) == STSEnforce && (!facts.STS.Matches(h.Name) || target.Floor.Level < MTASTS) {
			t.Fatalf("property 3: an enforced policy, match %t, and floor %v", facts.STS.Matches(h.Name), target.Floor)
		}
	}
	if !h.TLSA.Asked || !vouched && !rules.InsecureMXDANE {
		return
	}
	switch {
	case h.TLSA.Answer == Unknown:
		t.Fatal("property 7: a host whose TLSA lookup failed is used")
	case h.TLSA.Answer == Records && h.TLSA.Secure && len(usable(h.TLSA.Records)) > 0 && target.Floor.Needs&NeedTLSA == 0:
		t.Fatal("property 3: usable TLSA records, and the floor does not ask for a match")
	case h.TLSA.Answer == Records && h.TLSA.Secure && target.Floor.Level < Encrypted:
		t.Fatalf("property 7: TLSA records and floor %v", target.Floor)
	}
}
