package policy

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const testHold = 4 * time.Hour

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// took is a delivery at a level, by a session on the rung that gives it.
func took(l Level) Sighting {
	s := Sighting{Level: l, Delivered: true, Version: 0x0304, Steps: []Tried{{Rung: Modern, Level: l}}}
	switch l {
	case Plaintext:
		s.Version, s.Steps = 0, append(failed(Modern, STARTTLSMissing).Steps, Tried{Rung: Clear, Level: l})
	case Legacy:
		s.Version, s.Steps = 0x0301, append(failed(Modern, HandshakeVersion).Steps, Tried{Rung: LegacyTLS, Level: l})
	}
	return s
}

// failed is an attempt in which nothing stood.
func failed(rung Rung, reason Reason) Sighting {
	return Sighting{Steps: []Tried{{Rung: rung, Reason: reason}}}
}

// both is an attempt whose modern and classical handshakes failed alike.
func both(reason Reason) Sighting {
	return Sighting{Steps: []Tried{{Rung: Modern, Reason: reason}, {Rung: Classical, Reason: reason}}}
}

// event is a sighting some time after the start.
type event struct {
	after time.Duration
	saw   Sighting
}

// at is what is seen after some time.
func at(after time.Duration, s Sighting) event { return event{after, s} }

// remember makes the memory of a history.
func remember(m Memory, events ...event) Memory {
	for _, e := range events {
		e.saw.At = start().Add(e.after)
		m = m.After(e.saw)
	}
	return m
}

// goodHost was good for TLS three times, the last time at the start.
func goodHost() Memory {
	const day = 24 * time.Hour
	return remember(Memory{}, at(-2*day, took(Encrypted)), at(-day, took(Encrypted)), at(0, took(Encrypted)))
}

func TestMemoryHold(t *testing.T) {
	const day = 24 * time.Hour
	weak := failed(Modern, STARTTLSMissing)
	tests := []struct {
		name   string
		from   Memory
		events []event
		at     time.Duration
		held   bool
		end    time.Duration // since the start; 0: open
	}{
		{"policy 2: never seen", Memory{}, nil, 0, false, 0},
		{"policy 2: good three times", goodHost(), nil, time.Hour, true, 0},
		{"policy 2: twice is not enough", Memory{}, []event{at(0, took(DANE)), at(1, took(DANE))}, time.Hour, false, 0},
		{"policy 2: legacy is not good", Memory{}, []event{at(0, took(Legacy)), at(1, took(Legacy)), at(2, took(Legacy))}, 3, false, 0},
		{"policy 2: a session that took no mail is no delivery", Memory{},
			[]event{at(0, Sighting{Level: DANE}), at(1, Sighting{Level: DANE}), at(2, Sighting{Level: DANE})}, 3, false, 0},
		{"policy 2: good in the last 30 days", goodHost(), nil, 28*day - 1, true, 0},
		{"policy 2: three deliveries in the last 30 days, not in the last 90", Memory{},
			[]event{at(0, took(Encrypted)), at(20*day, took(Encrypted)), at(40*day, took(Encrypted))}, 41 * day, false, 0},
		{"policy 2: it fades", goodHost(), nil, 30 * day, false, 0},
		{"policy 2: after 30 days it begins anew", goodHost(), []event{at(31*day, took(Verified))}, 31*day + 1, false, 0},
		{"policy 2: counted from the first weaker answer", goodHost(), []event{at(time.Hour, weak), at(3*time.Hour, weak)}, 5*time.Hour - 1, true, 5 * time.Hour},
		{"policy 2: then the fallback is allowed", goodHost(), []event{at(time.Hour, weak), at(4*time.Hour, weak)}, 5 * time.Hour, false, 5 * time.Hour},
		{"policy 2: a delivery with less counts as less", goodHost(), []event{at(time.Hour, took(Plaintext))}, 2 * time.Hour, true, 5 * time.Hour},
		{"policy 2: so does legacy", goodHost(), []event{at(time.Hour, took(Legacy))}, 2 * time.Hour, true, 5 * time.Hour},
		{"RFC 3207 4: 454 is less", goodHost(), []event{at(time.Hour, failed(Modern, STARTTLSTemporary))}, 2 * time.Hour, true, 5 * time.Hour},
		{"policy 3.4: a stalled handshake is less", goodHost(), []event{at(time.Hour, both(HandshakeStall))}, 2 * time.Hour, true, 5 * time.Hour},
		{"policy 3.4: so is a certificate that cannot be read", goodHost(), []event{at(time.Hour, both(HandshakeCertificate))}, 2 * time.Hour, true, 5 * time.Hour},
		{"policy 3.4: so is a weak suite on the modern rung", goodHost(),
			[]event{at(time.Hour, Sighting{Steps: []Tried{{Rung: Modern, Level: Legacy, Reason: BelowFloor}}})}, 2 * time.Hour, true, 5 * time.Hour},
		{"policy 3.4: connection trouble is not", goodHost(), []event{at(time.Hour, failed(Modern, ConnectTimeout))}, 9 * time.Hour, true, 0},
		{"policy 3.4: nor is a greeting with 4xx", goodHost(), []event{at(time.Hour, failed(Modern, GreetingTemporary))}, 9 * time.Hour, true, 0},
		{"a certificate that does not match is TLS all the same", goodHost(),
			[]event{at(time.Hour, Sighting{Steps: []Tried{{Rung: Modern, Level: Encrypted, Reason: CertificateMismatch}}})}, 9 * time.Hour, true, 0},
		{"classical cured modern", goodHost(),
			[]event{at(time.Hour, Sighting{Level: Encrypted, Steps: []Tried{{Rung: Modern, Reason: HandshakeEOF}, {Rung: Classical, Level: Encrypted}}})}, 9 * time.Hour, true, 0},
		{"a good delivery ends the weakness", goodHost(), []event{at(time.Hour, weak), at(2*time.Hour, took(Encrypted))}, 9 * time.Hour, true, 0},
		{"a good session that took no mail does not", goodHost(), []event{at(time.Hour, weak), at(2*time.Hour, Sighting{Level: Encrypted})}, 4 * time.Hour, true, 5 * time.Hour},
		{"seen weak first, then good", Memory{}, []event{at(0, took(Plaintext)), at(1, took(Encrypted)), at(2, took(Encrypted)), at(3, took(Encrypted))}, 9 * time.Hour, true, 0},
		{"good and bad in turn: each bad spell has its own hold", goodHost(),
			[]event{at(time.Hour, weak), at(2*time.Hour, took(Encrypted)), at(3*time.Hour, weak)}, 6 * time.Hour, true, 7 * time.Hour},
		{"one forged failure does not use up the hold of a month", goodHost(), []event{at(time.Hour, weak)}, 10 * day, true, 0},
		{"nor of the attack that follows", goodHost(), []event{at(time.Hour, weak), at(10*day, weak)}, 10*day + time.Hour, true, 10*day + 4*time.Hour},
		{"daily mail to a host that lost its TLS waits once", goodHost(), []event{at(time.Hour, weak), at(day, took(Plaintext)), at(2*day, took(Plaintext))}, 3 * day, false, 5 * time.Hour},
		{"an empty sighting says nothing", goodHost(), []event{at(time.Hour, Sighting{})}, 9 * time.Hour, true, 0},
		{"the clock was set back: a weaker answer from ahead counts from now", goodHost(), []event{at(day, weak)}, time.Hour, true, 5 * time.Hour},
		{"and the next one brings it back", goodHost(), []event{at(day, weak), at(time.Hour, weak)}, 5 * time.Hour, false, 5 * time.Hour},
		{"deliveries from a wrong year do not hold", Memory{},
			[]event{at(4000*day, took(Encrypted)), at(4000*day, took(Encrypted)), at(4000*day, took(Encrypted))}, 0, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := remember(tt.from, tt.events...)
			held, end := m.Held(start().Add(tt.at), testHold)
			if held != tt.held || (tt.end == 0) != end.IsZero() || tt.end != 0 && !end.Equal(start().Add(tt.end)) {
				t.Errorf("held %v until %v, want %v until %v\n%+v", held, end, tt.held, start().Add(tt.end), m)
			}
			if off, _ := m.Held(start().Add(tt.at), 0); off {
				t.Error("a hold of 0 holds")
			}
		})
	}
}

// The host is one: one family's hold ends by the other's weaker answer too.
func TestMemoryHoldFamilies(t *testing.T) {
	weak := remember(Memory{}, at(time.Hour, failed(Modern, STARTTLSMissing)))
	both := remember(goodHost(), at(2*time.Hour, failed(Modern, STARTTLSMissing)))
	tests := []struct {
		name   string
		v4, v6 Memory
		at     time.Duration
		held   bool
		end    time.Duration
	}{
		{"good by IPv6, IPv4 never used", Memory{}, goodHost(), time.Hour, true, 0},
		{"good by IPv6, which is out of reach; IPv4 is weak", weak, goodHost(), 2 * time.Hour, true, 5 * time.Hour},
		{"that ends too", weak, goodHost(), 5 * time.Hour, false, 5 * time.Hour},
		{"the first weaker answer counts", weak, both, 2 * time.Hour, true, 5 * time.Hour},
		{"whichever family it is", both, weak, 2 * time.Hour, true, 5 * time.Hour},
		{"TLS by IPv6 ends the weakness of IPv4", weak.AfterOther(Sighting{At: start().Add(2 * time.Hour), Level: Encrypted, Delivered: true}), goodHost(), 9 * time.Hour, true, 0},
		{"a session that took no mail does not", weak.AfterOther(Sighting{At: start().Add(2 * time.Hour), Level: Encrypted}), goodHost(), 2 * time.Hour, true, 5 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			held, end := HostHeld(&tt.v4, &tt.v6, start().Add(tt.at), testHold)
			if held != tt.held || (tt.end == 0) != end.IsZero() || tt.end != 0 && !end.Equal(start().Add(tt.end)) {
				t.Errorf("held %v until %v", held, end)
			}
		})
	}
}

func TestMemoryMarks(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:25"), netip.MustParseAddrPort("192.0.2.2:25")
	choke := Sighting{Level: Encrypted, Delivered: true, Steps: []Tried{
		{Addr: a, Rung: Modern, Reason: HandshakeStall}, {Addr: a, Rung: Classical, Level: Encrypted}}}
	tests := []struct {
		name                   string
		events                 []event
		at                     time.Duration
		classical, broken, off bool // off: the family is down
	}{
		{"field notes F27: chokes on the large ClientHello", []event{at(0, choke)}, 24*time.Hour - 1, true, false, false},
		{"field notes F24: tried anew when its time is over", []event{at(0, choke)}, 24 * time.Hour, false, false, false},
		{"modern works again", []event{at(0, choke), at(1, took(Encrypted))}, 2, false, false, false},
		{"modern works again, with the wrong certificate", []event{at(0, choke), at(1, Sighting{Steps: []Tried{{Rung: Modern, Reason: CertificateExpired}}})}, 2, false, false, false},
		{"classical does not help", []event{at(0, choke), at(1, both(HandshakeEOF))}, 2, false, true, false},
		{"classical at another address says nothing", []event{at(0, Sighting{Level: Encrypted, Steps: []Tried{
			{Addr: a, Rung: Modern, Reason: HandshakeStall}, {Addr: a, Rung: Classical, Reason: ConnectRefused}, {Addr: b, Rung: Classical, Level: Encrypted}}})}, 1, false, false, false},
		{"no common version is no choking", []event{at(0, Sighting{Level: Encrypted, Steps: []Tried{
			{Rung: Modern, Reason: HandshakeVersion}, {Rung: Classical, Level: Encrypted}}})}, 1, false, false, false},
		{"field notes F24: every handshake failed", []event{at(0, both(HandshakeAlert))}, time.Hour - 1, false, true, false},
		{"it fades after an hour", []event{at(0, both(HandshakeAlert))}, time.Hour, false, false, false},
		{"mail went in clear after a broken handshake", []event{at(0, Sighting{Level: Plaintext, Delivered: true, Steps: []Tried{
			{Rung: Modern, Reason: HandshakeAlert}, {Rung: Classical, Reason: HandshakeAlert}, {Rung: Clear, Level: Plaintext}}})}, 1, false, true, false},
		{"a legacy handshake is a handshake", []event{at(0, took(Legacy))}, 1, false, false, false},
		{"so is one at another address", []event{at(0, Sighting{Steps: []Tried{
			{Addr: a, Rung: Modern, Reason: HandshakeEOF}, {Addr: b, Rung: Modern, Level: Encrypted, Reason: BelowFloor}}})}, 1, false, false, false},
		{"no STARTTLS is not broken", []event{at(0, took(Plaintext))}, 1, false, false, false},
		{"a session heals", []event{at(0, both(HandshakeAlert)), at(1, took(Encrypted))}, 2, false, false, false},
		{"field notes F45: cannot be connected to", []event{at(0, failed(Modern, ConnectUnreachable))}, 10*time.Minute - 1, false, false, true},
		{"it fades after ten minutes", []event{at(0, failed(Modern, ConnectTimeout))}, 10 * time.Minute, false, false, false},
		{"one address answered", []event{at(0, Sighting{Steps: []Tried{
			{Addr: a, Rung: Modern, Reason: ConnectRefused}, {Addr: b, Rung: Modern, Reason: GreetingTemporary}}})}, 1, false, false, false},
		{"it is up again", []event{at(0, failed(Modern, ConnectRefused)), at(1, failed(Modern, EHLOTemporary))}, 2, false, false, false},
		{"a host that was passed over says nothing", []event{at(0, failed(Modern, ConnectRefused)), at(1, failed(RungUnset, TLSAUnknown))}, 2, false, false, true},
		{"the clock was set back: marks from ahead do not count", []event{at(9000*time.Hour, choke), at(9000*time.Hour, both(HandshakeStall)), at(9000*time.Hour, failed(Modern, ConnectRefused))}, 0, false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, now := remember(Memory{}, tt.events...), start().Add(tt.at)
			broken := until(now, m.BrokenUntil, brokenLife)
			if m.chokes(now) != tt.classical || broken != tt.broken || m.down(now) != tt.off {
				t.Errorf("classical %v, broken %v, down %v", m.chokes(now), broken, m.down(now))
			}
			if broken && m.expect(now) != Plaintext {
				t.Errorf("a broken host is expected at %v", m.expect(now))
			}
		})
	}
}

func TestMemoryLevels(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name         string
		events       []event
		at           time.Duration
		best, expect Level
		dane, faded  bool
	}{
		{"never seen", nil, 0, Unset, Unset, false, true},
		{"the best of the deliveries", []event{at(0, took(DANE)), at(1, took(Encrypted))}, 2, DANE, Encrypted, true, false},
		{"a session that took no mail is not the best", []event{at(0, Sighting{Level: DANE})}, 1, Unset, DANE, false, false},
		{"a session that was kept for nothing stood", []event{at(0, Sighting{Steps: []Tried{{Rung: Modern, Level: Encrypted, Kept: true}}})}, 1, Unset, Encrypted, false, false},
		{"what it offered last counts for a day", []event{at(0, took(DANE))}, day, DANE, Unset, true, false},
		{"the best fades: another takes its place", []event{at(0, took(DANE)), at(30*day, took(Verified))}, 30*day + 1, Verified, Verified, false, false},
		{"known for DANE for 30 days", []event{at(0, took(DANE))}, 30*day - 1, DANE, Unset, true, false},
		{"then it is forgotten", []event{at(0, took(DANE))}, 30 * day, DANE, Unset, false, true},
		{"mta-sts is not DANE", []event{at(0, took(MTASTS))}, 1, MTASTS, MTASTS, false, false},
		{"a broken host is forgotten soon", []event{at(0, both(HandshakeAlert))}, 2 * day, Unset, Unset, false, true},
		{"a weaker answer is kept while it counts", []event{at(0, failed(Modern, STARTTLSMissing))}, day, Unset, Unset, false, false},
		{"the clock was set back: it is neither believed nor lost", []event{at(400*day, took(DANE))}, 0, DANE, Unset, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, now := remember(Memory{}, tt.events...), start().Add(tt.at)
			if m.Best != tt.best || m.expect(now) != tt.expect || m.KnownDANE(now) != tt.dane || m.Faded(now) != tt.faded {
				t.Errorf("best %v, expected %v, dane %v, faded %v\n%+v", m.Best, m.expect(now), m.KnownDANE(now), m.Faded(now), m)
			}
		})
	}
	if m := (Memory{}).After(Sighting{Level: DANE, Delivered: true}); m != (Memory{}) {
		t.Errorf("a sighting without a time made %+v", m)
	}
}

// What the judge makes of memory.
func TestDecideMemory(t *testing.T) {
	full := []Rung{Modern, Classical, LegacyTLS, Clear}
	weak := remember(goodHost(), at(time.Hour, failed(Modern, STARTTLSMissing)))
	broken := remember(Memory{}, at(time.Hour, both(HandshakeEOF)))
	choking := Memory{ClassicalUntil: start().Add(3 * time.Hour)}
	tests := []struct {
		name   string
		v4, v6 Memory
		query  Query
		change func(*Rule)
		floor  Level
		basis  Basis
		rungs  []Rung
	}{
		{"nothing remembered", Memory{}, Memory{}, Query{}, nil, Plaintext, BasisDefault, full},
		{"policy 2: held", goodHost(), Memory{}, Query{}, nil, Encrypted, BasisHold, full[:2]},
		{"policy 2: held by the family that has no address now", Memory{}, goodHost(), Query{}, nil, Encrypted, BasisHold, full[:2]},
		{"policy 2: held while it offers less", weak, Memory{}, Query{}, nil, Encrypted, BasisHold, full[:2]},
		{"policy 2: the hold is over", weak, Memory{}, Query{Now: start().Add(5 * time.Hour)}, nil, Plaintext, BasisDefault, full},
		{"policy 2: the rule's hold counts", weak, Memory{}, Query{}, func(r *Rule) { r.Hold = time.Hour }, Plaintext, BasisDefault, full},
		{"policy 2: no hold by rule", goodHost(), Memory{}, Query{}, func(r *Rule) { r.Hold = 0 }, Plaintext, BasisDefault, full},
		{"policy 2: a higher floor stays as it is", goodHost(), Memory{}, Query{Message: Verified}, nil, Verified, BasisMessage, full[:2]},
		{"RFC 8689 4.2.2: the hold does not apply", goodHost(), Memory{}, Query{TLSOff: true}, nil, Plaintext, BasisDefault, full},
		{"peers: a broken host is no reason to go without TLS", broken, broken, Query{}, nil, Plaintext, BasisDefault, full},
		{"peers: nor is one that is held", remember(goodHost(), at(time.Hour, both(HandshakeEOF))), Memory{}, Query{}, nil, Encrypted, BasisHold, full[:2]},
		{"field notes F27: classical only, and no lower", choking, Memory{}, Query{Message: Encrypted}, nil, Encrypted, BasisMessage, full[1:2]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, r := happy(), lenient()
			r.Hold = testHold
			if tt.change != nil {
				tt.change(&r)
			}
			tt.query.Domain = "example.org"
			if tt.query.Now.IsZero() {
				tt.query.Now = start().Add(2 * time.Hour)
			}
			f.Hosts[0].V4.Memory, f.Hosts[0].V6.Memory = tt.v4, tt.v6
			p := Decide(&f, &Ruleset{Default: r}, &tt.query)
			got := p.Targets[0]
			if got.Floor.Level != tt.floor || got.Basis != tt.basis || !slices.Equal(got.Rungs, tt.rungs) {
				t.Errorf("floor %v by %v, rungs %v", got.Floor, got.Basis, got.Rungs)
			}
			if held := tt.basis == BasisHold; held != got.Later || held != slices.ContainsFunc(p.Why, func(n Note) bool { return strings.HasPrefix(n.Text, "remembered for TLS") }) {
				t.Errorf("later %v, why %v", got.Later, p.Why)
			}
		})
	}
}

// A family that is down goes last, a broken host behind its equals: never out of the plan.
func TestDecideMemoryOrder(t *testing.T) {
	f := happy()
	now := start().Add(time.Minute)
	f.Hosts[1].Preference = f.Hosts[0].Preference
	f.Hosts[0].V4.Memory = remember(Memory{}, at(0, both(HandshakeEOF)))
	f.Hosts[1].V6 = Addresses{Lookup: Lookup{Answer: Records}, IPs: []netip.Addr{netip.MustParseAddr("2001:db8::2")},
		Memory: remember(Memory{}, at(0, failed(Modern, ConnectUnreachable)))}
	rules := Ruleset{Default: lenient()}
	p := Decide(&f, &rules, &Query{Domain: "example.org", Now: now})
	if len(p.Targets) != 2 || p.Targets[0].Host != f.Hosts[1].Name || p.Targets[1].Barred != nil {
		t.Fatalf("targets %+v", p.Targets)
	}
	if a := p.Targets[0].Addrs; len(a) != 2 || a[0].Addr().Is6() {
		t.Errorf("addresses %v: IPv6 was down", a)
	}
	p = Decide(&f, &rules, &Query{Domain: "example.org", Now: now.Add(time.Hour)})
	if a := p.Targets[1].Addrs; p.Targets[0].Host != f.Hosts[0].Name || len(a) != 2 || !a[0].Addr().Is6() {
		t.Errorf("an hour later it is not as before: %+v", p.Targets)
	}
}

func TestMemoryJSON(t *testing.T) {
	m := remember(goodHost(), at(time.Hour, both(HandshakeAlert)), at(2*time.Hour, failed(Modern, ConnectRefused)))
	m.ClassicalUntil = start()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Memory
	if err := json.Unmarshal(b, &back); err != nil || back != m {
		t.Errorf("%s became %+v, %v", b, back, err)
	}
	if b, err := json.Marshal(Memory{}); err != nil || string(b) != "{}" {
		t.Errorf("nothing remembered is %s, %v", b, err)
	}
}
