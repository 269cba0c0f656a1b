package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// levels maps "mx1" to the level that a session there proves; a host that is not in it
// proves encrypted. walkKeeping walks as the courier does, and returns the steps: "=mx1" is the
// use of a kept session.
type levels map[string]Level

func (l levels) walk(p *Plan, fail map[string]Reason) (steps []string, w *Walk) {
	w = p.Walk()
	for s, ok := w.Next(); ok; s, ok = w.Next() {
		name := strings.TrimSuffix(string(s.Target.Host), ".example")
		level, known := l[name]
		if !known {
			level = Encrypted
		}
		reason, bad := fail[name]
		switch {
		case s.Kept && bad:
			steps = append(steps, "="+name)
			w.Report(s, Result{Level: level, Opened: true, Failure: &Failure{Reason: reason}})
		case s.Kept:
			steps = append(steps, "="+name)
			w.Report(s, Result{Level: level, Opened: true})
		case bad && reason != ReplyTemporary:
			steps = append(steps, name)
			w.Report(s, Result{Failure: &Failure{Reason: reason}})
		case w.Keep(s, level):
			steps = append(steps, name)
			w.Report(s, Result{Level: level, Kept: true})
		case bad:
			steps = append(steps, name)
			w.Report(s, Result{Level: level, Opened: true, Failure: &Failure{Reason: reason}})
		default:
			steps = append(steps, name)
			w.Report(s, Result{Level: level, Opened: true})
		}
		if len(steps) > 100 {
			panic("the walk does not end")
		}
	}
	return steps, w
}

// policy 3.2: within equal preference a session weaker than verified is kept open while the
// others of that preference are tried, and the best is used; no worse preference is asked.
func TestWalkKeeps(t *testing.T) {
	remembered := func(m Target, l Level) Target { m.Expect = l; return m }
	tests := []struct {
		name    string
		targets []Target
		levels  levels
		fail    map[string]Reason
		want    string
	}{
		{"the other one is better", []Target{mx(1, 10), mx(2, 10)}, levels{"mx2": Verified}, nil, "mx1 mx2"},
		{"the other one is as good, and open: it is used", []Target{mx(1, 10), mx(2, 10)}, levels{}, nil, "mx1 mx2"},
		{"the other one is worse: the first is used", []Target{mx(1, 10), mx(2, 10)}, levels{"mx2": Legacy}, nil, "mx1 mx2 =mx1"},
		{"verified is good enough at once", []Target{mx(1, 10), mx(2, 10)}, levels{"mx1": Verified}, nil, "mx1"},
		{"a worse preference is not asked whether it could do better", []Target{mx(1, 10), mx(2, 20)}, levels{"mx2": DANE}, nil, "mx1"},
		{"nor the worse one behind equals", []Target{mx(1, 10), mx(2, 10), mx(3, 20)}, levels{"mx3": DANE}, nil, "mx1 mx2"},
		{"the other one cannot be reached", []Target{mx(1, 10), mx(2, 10)}, levels{}, map[string]Reason{"mx2": ConnectRefused}, "mx1 mx2 =mx1"},
		{"the better one defers: the kept one is used", []Target{mx(1, 10), mx(2, 10)}, levels{"mx2": Verified}, map[string]Reason{"mx2": ReplyTemporary}, "mx1 mx2 =mx1"},
		{"the kept one defers: the other kept one", []Target{mx(1, 10), mx(2, 10), mx(3, 10)}, levels{}, map[string]Reason{"mx1": ReplyTemporary}, "mx1 mx2 mx3"},
		{"bounded: two are kept at most", []Target{mx(1, 10), mx(2, 10), mx(3, 10), mx(4, 10)}, levels{"mx4": Verified}, nil, "mx1 mx2 mx3"},
		{"memory: a host that is known to be no better is not asked", []Target{mx(1, 10), remembered(mx(2, 10), Encrypted)}, levels{}, nil, "mx1"},
		{"memory: a host that is known to be better is", []Target{mx(1, 10), remembered(mx(2, 10), Verified)}, levels{"mx2": Verified}, nil, "mx1 mx2"},
		{"no STARTTLS at one: the other one, on the same rung", []Target{mx(1, 10), mx(2, 10)}, levels{}, map[string]Reason{"mx1": STARTTLSMissing}, "mx1 mx2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Plan{Targets: tt.targets, OnUnmet: Defer}
			steps, w := tt.levels.walk(&p, tt.fail)
			if got := strings.Join(steps, " "); got != tt.want {
				t.Errorf("walked %s\nwant   %s", got, tt.want)
			}
			if w.Failure() != nil {
				t.Errorf("failure %v", w.Failure())
			}
		})
	}
}

// A kept session stood: what comes after it never leads to a lower rung (rule 4), and a host
// with two addresses is not opened twice.
func TestWalkKeptForbidsLower(t *testing.T) {
	one, two := mx(1, 10), mx(2, 10)
	one.Addrs = append(one.Addrs, netip.MustParseAddrPort("[::1]:25"))
	p := Plan{Targets: []Target{one, two}, OnUnmet: Defer}
	steps, w := levels{}.walk(&p, map[string]Reason{"mx1": ReplyTemporary, "mx2": STARTTLSMissing})
	if got := strings.Join(steps, " "); got != "mx1 mx2 =mx1" || w.Failure() == nil || w.Failure().Reason != ReplyTemporary {
		t.Errorf("walked %s, failure %v", got, w.Failure())
	}
}

// RFC 8461 8.4: a host that is barred is passed over in its turn, and stands in the trace.
func TestWalkPassesOver(t *testing.T) {
	barred := mx(1, 10)
	barred.Rungs, barred.Barred = nil, &Failure{Reason: STSMismatch, Host: barred.Host}
	p := Plan{Targets: []Target{barred, mx(2, 20)}, OnUnmet: Defer}
	steps, w := levels{}.walk(&p, nil)
	if got := strings.Join(steps, " "); got != "mx2" || w.Failure() != nil {
		t.Errorf("walked %s, failure %v", got, w.Failure())
	}
	want := []Reason{STSMismatch, ReasonUnset}
	var got []Reason
	for _, tried := range w.Trace() {
		got = append(got, tried.Reason)
	}
	if !slices.Equal(got, want) {
		t.Errorf("trace %v, want %v", got, want)
	}
	// Nothing else left: the failure is the worst news that may pass.
	steps, w = levels{}.walk(&p, map[string]Reason{"mx2": GreetingPermanent})
	if got := strings.Join(steps, " "); got != "mx2" || w.Failure() == nil || w.Failure().Permanent() {
		t.Errorf("walked %s, failure %v: a host that was passed over may do better later", got, w.Failure())
	}
}

// FuzzKeep: whatever hosts do, no session of a worse preference is opened while one of a better
// preference is kept, each kept session is used or given back once, and the best one is used.
func FuzzKeep(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 2, 3, 4, 5})
	f.Add([]byte{4, 0, 0, 0, 0, 3, 3, 5, 200})
	f.Fuzz(func(t *testing.T, seed []byte) {
		d := dealer(seed)
		var p Plan
		for i := range d.next()%4 + 1 {
			m := mx(i+1, uint16(d.next()%2)*10)
			m.Expect = []Level{Unset, Unset, Encrypted, Verified}[d.next()%4]
			p.Targets = append(p.Targets, m)
		}
		p.order()
		w := p.Walk()
		open := map[*Target]Level{}
		n := 0
		for s, ok := w.Next(); ok; s, ok = w.Next() {
			if n++; n > 64 {
				t.Fatal("property 6: the walk does not end")
			}
			if s.Kept {
				if open[s.Target] == Unset {
					t.Fatalf("%s is to be used and is not open", s.Target.Host)
				}
				for o, l := range open {
					if l > open[s.Target] {
						t.Fatalf("%s at %v is used and %s at %v is kept", s.Target.Host, open[s.Target], o.Host, l)
					}
				}
				delete(open, s.Target)
			}
			for o := range open {
				if o.Preference < s.Target.Preference || o == s.Target {
					t.Fatalf("%s is opened while %s is kept", s.Target.Host, o.Host)
				}
			}
			if s.Rung.pass() > 0 && len(open) > 0 {
				t.Fatal("a lower rung while a session is kept")
			}
			level := min([]Level{Encrypted, Verified, MTASTS, DANE}[d.next()%4], s.Rung.Ceiling())
			switch reason := Reason(d.next()) % (reasonCount + 8); {
			case !s.Kept && reason < reasonCount && reason != ReasonUnset:
				w.Report(s, Result{Failure: &Failure{Reason: reason}})
			case !s.Kept && w.Keep(s, level):
				open[s.Target] = level
				w.Report(s, Result{Level: level, Kept: true})
			case reason%2 == 0:
				w.Report(s, Result{Level: level, Opened: true, Failure: &Failure{Reason: ReplyTemporary}})
			default:
				w.Report(s, Result{Level: level, Opened: true})
			}
		}
		if w.Failure() != nil && len(open) > 0 {
			t.Fatalf("the walk failed with %d sessions kept", len(open))
		}
	})
}
