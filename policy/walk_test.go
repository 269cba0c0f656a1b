package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// mx makes a target at 127.0.0.n with all rungs of the opportunistic default.
func mx(n byte, pref uint16) Target {
	return Target{
		Host: Domain("mx" + string('0'+rune(n)) + ".example"), Preference: pref,
		Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, n}), 25)},
		Floor: Floor{Level: Plaintext}, Basis: BasisDefault,
		Rungs: []Rung{Modern, Classical, LegacyTLS, Clear},
	}
}

// farm maps "mx1/modern" to what comes of that step; a step that is not in it succeeds.
type farm map[string]Reason

const (
	opened  = Reason(200) // in a farm: a session stood, and the transaction was deferred
	secured = Reason(201) // in a farm: a handshake stood, and then the connection was lost
)

func (f farm) run(p *Plan) (steps []string, w *Walk) {
	w = p.Walk()
	for s, ok := w.Next(); ok; s, ok = w.Next() {
		key := strings.TrimSuffix(string(s.Target.Host), ".example") + "/" + s.Rung.String()
		if len(s.Target.Addrs) > 1 {
			key += "@" + s.Addr.Addr().String()
		}
		steps = append(steps, key)
		switch reason, bad := f[key]; {
		case !bad:
			w.Report(s, Result{Level: s.Rung.Ceiling()})
		case reason == secured:
			w.Report(s, Result{Secured: true, Failure: &Failure{Reason: ConnectionLost}})
		case reason == opened:
			w.Report(s, Result{Level: s.Rung.Ceiling(), Opened: true, Failure: &Failure{Reason: ReplyTemporary}})
		default:
			w.Report(s, Result{Failure: &Failure{Reason: reason, Host: s.Target.Host}})
		}
		if len(steps) > 1000 {
			panic("the walk does not end")
		}
	}
	return steps, w
}

func TestWalk(t *testing.T) {
	two := []Target{mx(1, 10), mx(2, 20)}
	tests := []struct {
		clause  string
		targets []Target
		farm    farm
		want    string
		reason  Reason // of the failure; ReasonUnset: success
	}{
		{"RFC 5321 5.1 best preference first, and enough", two, farm{}, "mx1/modern", ReasonUnset},
		{"policy 3.2 modern and classical are one step", two,
			farm{"mx1/modern": HandshakeStall}, "mx1/modern mx1/classical", ReasonUnset},
		{"policy 3.3 wide before down: no STARTTLS at the best host", two,
			farm{"mx1/modern": STARTTLSMissing}, "mx1/modern mx2/modern", ReasonUnset},
		{"policy 3.3 down in order of preference once all were tried wide", two,
			farm{"mx1/modern": STARTTLSMissing, "mx2/modern": STARTTLSMissing}, "mx1/modern mx2/modern mx1/clear", ReasonUnset},
		{"policy 3.3 legacy everywhere before clear anywhere", two,
			farm{"mx1/modern": STARTTLSMissing, "mx2/modern": HandshakeVersion},
			"mx1/modern mx2/modern mx2/legacy", ReasonUnset},
		{"policy 3.4 refused connection never lowers", two,
			farm{"mx1/modern": ConnectRefused, "mx2/modern": ConnectTimeout}, "mx1/modern mx2/modern", ConnectTimeout},
		{"policy 3.4 4xx greeting never lowers", two,
			farm{"mx1/modern": GreetingTemporary, "mx2/modern": STARTTLSMissing}, "mx1/modern mx2/modern mx2/clear", ReasonUnset},
		{"RFC 7672 2.2 handshake EOF may lower", two[:1],
			farm{"mx1/modern": HandshakeEOF, "mx1/classical": HandshakeEOF, "mx1/legacy": HandshakeEOF},
			"mx1/modern mx1/classical mx1/legacy mx1/clear", ReasonUnset},
		{"RFC 3207 4 454: other hosts first", two,
			farm{"mx1/modern": STARTTLSTemporary}, "mx1/modern mx2/modern", ReasonUnset},
		{"policy 3.5 454 lowers like any TLS failure at a later try", two[:1],
			farm{"mx1/modern": STARTTLSTemporary}, "mx1/modern mx1/clear", ReasonUnset},
		{"own: injected bytes are an attack, not a reason for clear text", two[:1],
			farm{"mx1/modern": BytesInjected}, "mx1/modern", BytesInjected},
		{"own: nor elsewhere", two,
			farm{"mx1/modern": BytesInjected, "mx2/modern": STARTTLSMissing}, "mx1/modern mx2/modern", BytesInjected},
		{"own: a session that stood forbids lower rungs elsewhere (4xx never lowers)", two,
			farm{"mx1/modern": opened, "mx2/modern": STARTTLSMissing}, "mx1/modern mx2/modern", ReplyTemporary},
		{"own: a handshake that stood does so too, whatever came behind it", two,
			farm{"mx1/modern": secured, "mx2/modern": STARTTLSMissing}, "mx1/modern mx2/modern", ConnectionLost},
		{"own: legacy TLS that stood forbids clear text, not legacy", two,
			farm{"mx1/modern": STARTTLSMissing, "mx2/modern": HandshakeVersion, "mx2/legacy": secured}, "mx1/modern mx2/modern mx2/legacy", ConnectionLost},
		{"RFC 5321 5.1 a deferred transaction goes to the next host on the same rung", two,
			farm{"mx1/modern": opened}, "mx1/modern mx2/modern", ReasonUnset},
		{"own: a clear session that was deferred may go to another in clear", two,
			farm{"mx1/modern": STARTTLSMissing, "mx2/modern": STARTTLSMissing, "mx1/clear": opened},
			"mx1/modern mx2/modern mx1/clear mx2/clear", ReasonUnset},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			p := Plan{Targets: tt.targets, OnUnmet: Defer, Hold: true}
			steps, w := tt.farm.run(&p)
			if got := strings.Join(steps, " "); got != tt.want {
				t.Errorf("walked %s\nwant   %s", got, tt.want)
			}
			got := ReasonUnset
			if f := w.Failure(); f != nil {
				got = f.Reason
			}
			if got != tt.reason {
				t.Errorf("failure %v, want %v", got, tt.reason)
			}
			if len(w.Trace()) != len(steps) {
				t.Errorf("trace has %d entries for %d steps", len(w.Trace()), len(steps))
			}
		})
	}
}

func TestWalkAddresses(t *testing.T) {
	m := mx(1, 10)
	m.Addrs = append([]netip.AddrPort{netip.MustParseAddrPort("[::1]:25")}, m.Addrs...)
	p := Plan{Targets: []Target{m, mx(2, 20)}}
	steps, _ := farm{"mx1/modern@::1": ConnectUnreachable}.run(&p)
	if got := strings.Join(steps, " "); got != "mx1/modern@::1 mx1/modern@127.0.0.1" {
		t.Errorf("walked %s", got)
	}
	// A transaction that was deferred is the host's word: its other address is not asked.
	steps, _ = farm{"mx1/modern@::1": opened}.run(&p)
	if got := strings.Join(steps, " "); got != "mx1/modern@::1 mx2/modern" {
		t.Errorf("walked %s", got)
	}
}

// policy 3.5: 454 is temporary, so the first attempt waits; another host may serve.
func TestWalkFirst(t *testing.T) {
	p := Plan{Targets: []Target{mx(1, 10), mx(2, 20)}, First: true}
	steps, w := farm{"mx1/modern": STARTTLSTemporary, "mx2/modern": STARTTLSMissing}.run(&p)
	if got := strings.Join(steps, " "); got != "mx1/modern mx2/modern" || w.Failure() == nil || w.Failure().Permanent() {
		t.Errorf("walked %s, failure %v", got, w.Failure())
	}
}

// The hold ends: a host whose TLS never leads to a session does not block the mail.
func TestWalkHoldEnds(t *testing.T) {
	p := Plan{Targets: []Target{mx(1, 10), mx(2, 20)}}
	steps, _ := farm{"mx1/modern": secured, "mx2/modern": STARTTLSMissing}.run(&p)
	if got := strings.Join(steps, " "); got != "mx1/modern mx2/modern mx2/clear" {
		t.Errorf("walked %s", got)
	}
}

func TestWalkUnmet(t *testing.T) {
	strict := func(later bool, targets ...Target) Plan {
		for i := range targets {
			targets[i].Floor.Level = Verified
			targets[i].Rungs = []Rung{Modern, Classical}
			targets[i].Later = later
		}
		return Plan{Targets: targets, OnUnmet: Bounce, Basis: BasisRule}
	}
	tests := []struct {
		name      string
		plan      Plan
		farm      farm
		permanent bool
		code      string
	}{
		{"judged: bounce", strict(false, mx(1, 10)), farm{"mx1/modern": CertificateExpired}, true, "5.7.10"},
		{"RFC 8689 4.2.1: 5.7.30 when one lacked only the keyword", strict(false, mx(1, 10), mx(2, 20)),
			farm{"mx1/modern": RequireTLSMissing, "mx2/modern": STARTTLSMissing}, true, "5.7.30"},
		{"a host that was not reached may do better later", strict(false, mx(1, 10), mx(2, 20)),
			farm{"mx1/modern": CertificateExpired, "mx2/modern": ConnectTimeout}, false, "4.4.1"},
		{"454 is no verdict", strict(false, mx(1, 10)), farm{"mx1/modern": STARTTLSTemporary}, false, "4.7.4"},
		{"a stalled handshake is no verdict", strict(false, mx(1, 10)),
			farm{"mx1/modern": HandshakeStall, "mx1/classical": HandshakeStall}, false, "4.7.5"},
		{"the rule allows a lower rung later: wait", strict(true, mx(1, 10)), farm{"mx1/modern": STARTTLSMissing}, false, "4.7.4"},
		{"a hold ends by itself: wait", func() Plan {
			p := strict(false, mx(1, 10))
			p.Targets[0].Basis = BasisHold
			return p
		}(), farm{"mx1/modern": STARTTLSMissing}, false, "4.7.4"},
		{"a domain's promise is waited for (RFC 7672 2.2)", func() Plan {
			p := strict(false, mx(1, 10))
			p.Targets[0].Basis = BasisDANE
			return p
		}(), farm{"mx1/modern": TLSAMismatch}, false, "4.7.5"},
		{"every greeting refused: permanent", Plan{Targets: []Target{mx(1, 10), mx(2, 20)}, OnUnmet: Defer},
			farm{"mx1/modern": GreetingPermanent, "mx2/modern": GreetingPermanent}, true, "5.3.2"},
		{"one greeting refused, one not reached: temporary", Plan{Targets: []Target{mx(1, 10), mx(2, 20)}, OnUnmet: Defer},
			farm{"mx1/modern": ConnectRefused, "mx2/modern": GreetingPermanent}, false, "4.4.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, w := tt.farm.run(&tt.plan)
			f := w.Failure()
			if f == nil || f.Permanent() != tt.permanent || f.Code() != tt.code {
				t.Fatalf("failure %+v: want permanent=%t code=%s", f, tt.permanent, tt.code)
			}
		})
	}
}

func TestZeroPlanRefuses(t *testing.T) {
	var p Plan
	w := p.Walk()
	if s, ok := w.Next(); ok {
		t.Fatalf("the zero plan has a step: %+v", s)
	}
	if f := w.Failure(); f == nil || f.Permanent() {
		t.Fatalf("failure %v: want a temporary one", f)
	}
}

// FuzzWalk checks properties 1, 4, 5 and 6 of the package comment on plans and
// hosts that the fuzzer makes up.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{2, 0, 0, 1, 2, 3}, []byte{byte(STARTTLSMissing), byte(HandshakeEOF)})
	f.Add([]byte{3, 1, 0, 2, 1, 0, 3}, []byte{byte(ConnectRefused), 200, 0})
	f.Fuzz(func(t *testing.T, shape, results []byte) {
		p, rungs := shapePlan(shape)
		w := p.Walk()
		var steps []Step
		var reported []Reason
		for s, ok := w.Next(); ok; s, ok = w.Next() {
			if s.Rung.Ceiling() < s.Target.Floor.Level {
				t.Fatalf("property 1: step %v under floor %v", s.Rung, s.Target.Floor)
			}
			if len(steps) > rungs {
				t.Fatalf("property 6: more than %d steps", rungs)
			}
			r := ReasonUnset
			if len(results) > 0 {
				r, results = Reason(results[0]), results[1:]
			}
			steps, reported = append(steps, s), append(reported, r)
			switch {
			case r == ReasonUnset:
				w.Report(s, Result{})
			case r == secured:
				w.Report(s, Result{Secured: true, Failure: &Failure{Reason: ConnectionLost}})
			case r == opened:
				w.Report(s, Result{Opened: true, Failure: &Failure{Reason: ReplyTemporary}})
			default:
				w.Report(s, Result{Failure: &Failure{Reason: r % reasonCount}})
			}
		}
		checkWalk(t, &p, steps, reported)
	})
}

func shapePlan(shape []byte) (p Plan, rungs int) {
	p.Hold = true
	take := func() byte {
		if len(shape) == 0 {
			return 0
		}
		b := shape[0]
		shape = shape[1:]
		return b
	}
	for i := range int(take()%5) + 1 {
		m := mx(byte(i+1), uint16(i)*10)
		full := m.Rungs
		m.Rungs = nil
		m.Floor.Level = Levels()[take()%6]
		drop := take()
		for j, r := range full {
			if r.Ceiling() >= m.Floor.Level && drop&(1<<j) == 0 {
				m.Rungs = append(m.Rungs, r)
			}
		}
		rungs += len(m.Rungs)
		p.Targets = append(p.Targets, m)
	}
	return p, rungs
}

func checkWalk(t *testing.T, p *Plan, steps []Step, reported []Reason) {
	t.Helper()
	for i, s := range steps {
		for j := range i {
			earlier := steps[j]
			if earlier.Target == s.Target && earlier.Rung.pass() < s.Rung.pass() && !(reported[j] % reasonCount).MayLower() {
				t.Fatalf("property 4: %v after %v at %s", s.Rung, reported[j], s.Target.Host)
			}
			if (reported[j] == opened || reported[j] == secured) && earlier.Rung.pass() < s.Rung.pass() {
				t.Fatalf("a deferred session was followed by a lower rung")
			}
			if earlier.Rung.pass() > s.Rung.pass() {
				t.Fatalf("property 5: %v at %s after %v", s.Rung, s.Target.Host, earlier.Rung)
			}
		}
		if i == 0 {
			continue
		}
		// Property 5: going down here, every host with a rung of a higher pass was asked on it.
		for k := range p.Targets {
			o := &p.Targets[k]
			if len(o.Rungs) > 0 && o.Rungs[0].pass() < s.Rung.pass() &&
				!slices.ContainsFunc(steps[:i], func(e Step) bool { return e.Target == o }) {
				t.Fatalf("property 5: %s was never asked before %v at %s", o.Host, s.Rung, s.Target.Host)
			}
		}
	}
}
