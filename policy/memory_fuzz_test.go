package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// moment is a time around the start, seldom far off: clocks jump.
func (d *dealer) moment() time.Time {
	n := time.Duration(int8(d.next()))
	switch d.next() % 8 {
	case 0:
		return time.Time{}
	case 1:
		return start().Add(n * 30 * 24 * time.Hour)
	case 2, 3:
		return start().Add(n * 12 * time.Hour)
	default:
		return start().Add(n * 10 * time.Minute)
	}
}

// memory is any memory at all, not only one that sightings make.
func (d *dealer) memory() Memory {
	return Memory{
		Best: Level(d.next() % 7), BestAt: d.moment(), Last: Level(d.next() % 7), First: d.moment(), LastSeen: d.moment(),
		Good: int(int8(d.next())), GoodAt: d.moment(), GoodBefore: [2]time.Time{d.moment(), d.moment()},
		WeakSince: d.moment(), WeakAt: d.moment(),
		ClassicalUntil: d.moment(), BrokenUntil: d.moment(), DownUntil: d.moment(),
	}
}

func (d *dealer) sighting(at time.Time) Sighting {
	s := Sighting{At: at, Level: Level(d.next() % 7), Delivered: d.yes(), Version: uint16(d.next())}
	s.Delivered = s.Delivered && s.Level != Unset
	for range d.next() % 4 {
		s.Steps = append(s.Steps, Tried{Rung: Rung(d.next() % 5), Reason: Reason(d.next() % uint8(reasonCount)), Level: Level(d.next() % 7)})
	}
	return s
}

// FuzzMemory checks what memory may do: raise a floor, for a time.
func FuzzMemory(f *testing.F) {
	f.Add([]byte("any seed will do, the dealer makes memories, sightings, facts and rules of it, and more of them when it is long"))
	for n := range uint64(200) { // long enough for facts and rules behind all that
		seed, rng := make([]byte, 800), rand.New(rand.NewPCG(n, 1))
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		d := dealer(seed)
		m, now := d.memory(), start()
		checkHold(t, &m, now)
		for range 12 {
			switch step := d.next(); step % 16 {
			case 0:
				now = start().Add(time.Duration(int8(d.next())) * 24 * time.Hour) // the clock jumps
			default:
				now = now.Add(time.Duration(step) * 6 * time.Minute)
			}
			s := d.sighting(now)
			before := m
			m = m.After(s)
			checkAfter(t, &before, &m, &s)
			checkHold(t, &m, now)
		}
		checkFades(t, m, now, &d)
		checkRaises(t, &d, now)
	})
}

// checkHold: a hold ends at most hold after the first weaker answer, and at most a
// memory's life after now, whatever the clock did.
func checkHold(t *testing.T, m *Memory, now time.Time) {
	t.Helper()
	held, end := m.Held(now, testHold)
	switch {
	case !end.IsZero() && (end.After(m.WeakSince.Add(testHold)) || end.After(now.Add(testHold)) || held != now.Before(end)):
		t.Fatalf("held %v until %v, weak since %v", held, end, m.WeakSince)
	case held && m.Good < memoryGood:
		t.Fatalf("held by %d deliveries", m.Good)
	}
	if late, _ := m.Held(now.Add(2*MemoryLife), testHold); held && late {
		t.Fatal("held two lives later, and nothing was seen")
	}
	for _, rung := range []time.Time{m.ClassicalUntil, m.BrokenUntil, m.DownUntil} {
		if until(now, rung, classicalLife) && until(now.Add(classicalLife), rung, classicalLife) {
			t.Fatal("a mark stays on")
		}
	}
}

// checkAfter: only a good delivery makes good or ends a weakness, and weaker answers
// do not move its beginning forward.
func checkAfter(t *testing.T, before, after *Memory, s *Sighting) {
	t.Helper()
	if good := s.Delivered && s.Level >= Encrypted; !good {
		if after.Good > before.Good || after.GoodAt.After(before.GoodAt) {
			t.Fatalf("good by %+v", s)
		}
		if weak := before.weak(s.At); !weak.IsZero() && (after.weak(s.At).IsZero() || after.weak(s.At).After(weak)) {
			t.Fatalf("weak since %v became %v by %+v", before.WeakSince, after.WeakSince, s)
		}
	} else if !after.WeakSince.IsZero() {
		t.Fatalf("weak after %+v", s)
	}
	if again := before.After(*s); again != *after {
		t.Fatal("not a function of memory and sighting")
	}
	for _, at := range []time.Time{after.BestAt, after.LastSeen, after.GoodAt, after.GoodBefore[0], after.GoodBefore[1], after.WeakSince, after.WeakAt} {
		if (len(s.Steps) > 0 || s.Level != Unset) && at.After(s.At) {
			t.Fatalf("a time ahead of the sighting: %v", at)
		}
	}
}

// checkFades: a memory's life without a good delivery, and nothing is held, whatever
// else is seen meanwhile.
func checkFades(t *testing.T, m Memory, now time.Time, d *dealer) {
	t.Helper()
	m = m.After(Sighting{At: now, Level: Plaintext}) // what lies ahead is brought back
	for i := range 10 {
		s := d.sighting(now.Add(time.Duration(i) * MemoryLife / 10))
		s.Delivered = s.Delivered && s.Level < Encrypted
		m = m.After(s)
	}
	if held, _ := m.Held(now.Add(MemoryLife), testHold); held {
		t.Fatalf("held a life after the last good delivery: %+v", m)
	}
	if !m.Faded(now.Add(2 * MemoryLife)) {
		t.Fatalf("never fades: %+v", m)
	}
}

// checkRaises: with memory no floor is lower, no rung is below those without it, no
// promise is forgotten, and classical stands for TLS where modern does not.
func checkRaises(t *testing.T, d *dealer, now time.Time) {
	t.Helper()
	facts, rules := d.facts(), d.rules()
	rules.MTASTS, rules.Default.Hold = true, time.Duration(d.next())*10*time.Minute
	if d.yes() {
		facts.STS = STS{Mode: STSEnforce, Expires: now.Add(time.Hour)}
	}
	q := Query{Domain: "example.org", Age: time.Duration(d.next()) * time.Minute, Tries: int(d.next() % 5), Now: now, TLSOff: d.next()%8 == 1,
		RequireTLS: d.next()%8 == 1, Message: Level(d.next() % 7), Account: Level(d.next() % 7)}
	with := facts
	with.Hosts = slices.Clone(facts.Hosts)
	for i := range with.Hosts {
		with.Hosts[i].V4.Memory, with.Hosts[i].V6.Memory = d.memory(), d.memory()
	}
	facts.Hosts = slices.Clone(facts.Hosts)
	for i := range facts.Hosts {
		facts.Hosts[i].V4.Memory, facts.Hosts[i].V6.Memory = Memory{}, Memory{}
	}
	plain, plan := Decide(&facts, &rules, &q), Decide(&with, &rules, &q)
	for i := range plan.Targets {
		got := &plan.Targets[i]
		n := slices.IndexFunc(plain.Targets, func(t Target) bool { return t.Host == got.Host })
		if n < 0 {
			t.Fatalf("%s is in the plan by memory alone", got.Host)
		}
		checkStronger(t, &plain.Targets[n], got)
	}
	if plain.Refusal != nil && plan.Refusal == nil {
		t.Fatalf("memory lifts the refusal %v", plain.Refusal)
	}
}

func checkStronger(t *testing.T, want, got *Target) {
	t.Helper()
	addrs := func(t *Target) []netip.AddrPort {
		list := slices.Clone(t.Addrs)
		slices.SortFunc(list, netip.AddrPort.Compare)
		return list
	}
	switch {
	case got.Barred != nil:
		return
	case want.Barred != nil:
		t.Fatalf("memory lifts the bar %v", want.Barred)
	case got.Floor.Raise(want.Floor) != got.Floor:
		t.Fatalf("floor %v with memory, %v without", got.Floor, want.Floor)
	case !slices.Equal(addrs(got), addrs(want)):
		t.Fatalf("addresses %v with memory, %v without", got.Addrs, want.Addrs)
	case got.Preference != want.Preference || got.Route != want.Route || got.SNI != want.SNI || len(got.TLSA) != len(want.TLSA):
		t.Fatalf("%+v with memory, %+v without", got, want)
	case !slices.Contains(got.Rungs, Classical):
		t.Fatalf("rungs %v: no TLS", got.Rungs)
	}
	for _, r := range got.Rungs {
		if !slices.Contains(want.Rungs, r) {
			t.Fatalf("rung %v by memory: %v, without %v", r, got.Rungs, want.Rungs)
		}
	}
}
