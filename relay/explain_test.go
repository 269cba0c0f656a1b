package relay

import (
	"context"
	"encoding/json"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// lab is a scout and an opener for probes: goroutines share it.
type lab struct {
	*world
	mu    sync.Mutex
	opens []string // host/rung
	now   int      // sessions that are being opened
	most  int
}

func (l *lab) Open(ctx context.Context, s policy.Step) (Session, policy.Evidence, *policy.Failure) {
	l.mu.Lock()
	l.opens = append(l.opens, string(s.Target.Host)+"/"+s.Rung.String())
	l.now++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	if l.wait != nil {
		select {
		case <-l.wait:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
	if ctx.Err() != nil {
		return nil, policy.Evidence{}, &policy.Failure{Reason: policy.Interrupted, Host: s.Target.Host}
	}
	session, e, f := l.world.Open(ctx, s)
	if f == nil {
		session = &lockedSession{session, &l.mu}
	}
	return session, e, f
}

type lockedSession struct {
	Session
	mu *sync.Mutex
}

func (s *lockedSession) Quit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Session.Quit()
}

func (l *lab) explain(t *testing.T, r *policy.Ruleset, q Inquiry) Explanation {
	t.Helper()
	if q.Domain == "" {
		q.Domain = "example.org"
	}
	x, err := NewCourier(Options{Scout: l, Opener: l, Rules: func() *policy.Ruleset { return r }}).Explain(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func noTLS() map[policy.Rung]policy.Reason {
	return map[policy.Rung]policy.Reason{policy.Modern: policy.STARTTLSMissing, policy.Classical: policy.STARTTLSMissing, policy.LegacyTLS: policy.STARTTLSMissing}
}

// Whatever is foreseen is what a delivery to the same hosts comes to.
func TestForecastIsWhatDeliverDoes(t *testing.T) {
	t.Parallel()
	floor := func(l policy.Level, u policy.OnUnmet) *policy.Ruleset {
		r := opportunistic()
		r.Default.Floor, r.Default.OnUnmet = l, u
		return r
	}
	gated := opportunistic()
	gated.Default.Fallback = []policy.Fallback{{To: policy.Plaintext, MinTries: 1}}
	stall := map[policy.Rung]policy.Reason{policy.Modern: policy.HandshakeStall}
	down := map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectRefused}
	tests := []struct {
		name  string
		hosts []*fakeHost
		rules *policy.Ruleset
		want  string // host/rung, or the reason why not
	}{
		{"TLS at the first host", []*fakeHost{{}, {}}, opportunistic(), "mx1.example.org/modern"},
		{"wide before down", []*fakeHost{{open: noTLS()}, {}}, opportunistic(), "mx2.example.org/modern"},
		{"nobody has TLS", []*fakeHost{{open: noTLS()}, {open: noTLS()}}, opportunistic(), "mx1.example.org/clear"},
		{"classical helps", []*fakeHost{{open: stall}}, opportunistic(), "mx1.example.org/classical"},
		{"old TLS", []*fakeHost{{open: map[policy.Rung]policy.Reason{policy.Modern: policy.HandshakeVersion}, version: 0x0301}}, opportunistic(), "mx1.example.org/legacy"},
		{"the first host is down", []*fakeHost{{open: down}, {open: noTLS()}}, opportunistic(), "mx2.example.org/clear"},
		{"a floor that no host reaches", []*fakeHost{{open: noTLS()}}, floor(policy.Encrypted, policy.Defer), "starttls-missing"},
		{"the same, to bounce", []*fakeHost{{open: noTLS()}}, floor(policy.Encrypted, policy.Bounce), "starttls-missing"},
		{"clear text is not due", []*fakeHost{{open: noTLS()}}, gated, "starttls-missing"},
		{"injected bytes are waited for (own)", []*fakeHost{{open: map[policy.Rung]policy.Reason{policy.Modern: policy.BytesInjected}}}, opportunistic(), "bytes-injected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &lab{world: newWorld(tt.hosts...)}
			x := l.explain(t, tt.rules, Inquiry{Probe: true})
			if len(l.sent) != 0 {
				t.Fatalf("a probe sent mail: %v", l.sent)
			}
			got := string(x.Forecast.Host) + "/" + x.Forecast.Rung.String()
			if x.Forecast.Failure != nil {
				got = x.Forecast.Failure.Reason.String()
			}
			if got != tt.want {
				t.Errorf("foreseen %s, want %s", got, tt.want)
			}
			report := l.courier(tt.rules).Deliver(t.Context(), lease("ann"))
			if f := report.Outcomes[0].Failure; f != nil {
				if x.Forecast.Failure == nil || x.Forecast.Failure.Code() != f.Code() || x.Forecast.Failure.Permanent() != f.Permanent() {
					t.Errorf("foreseen %+v, delivered %v", x.Forecast, f)
				}
			} else if len(l.sent) != 1 || l.sent[0] != got || report.Outcomes[0].Level != x.Forecast.Level {
				t.Errorf("foreseen %s at %v, delivered to %v at %v", got, x.Forecast.Level, l.sent, report.Outcomes[0].Level)
			}
		})
	}
}

// A probe measures hosts that the plan bars or cuts off, and says that they are not used.
func TestProbeMeasuresWhatIsNotUsed(t *testing.T) {
	t.Parallel()
	clear, barred, good := &fakeHost{open: noTLS()}, &fakeHost{}, &fakeHost{}
	l := &lab{world: newWorld(clear, barred, good)}
	l.facts.Hosts[1].TLSA = policy.TLSAFacts{Asked: true, Lookup: policy.Lookup{Problem: "SERVFAIL"}}
	rules := opportunistic()
	rules.DANE, rules.InsecureMXDANE, rules.Default.Floor = true, true, policy.Encrypted
	x := l.explain(t, rules, Inquiry{Probe: true})
	if len(x.Probed) != 3 {
		t.Fatalf("probed %d addresses, want 3", len(x.Probed))
	}
	for i, want := range []struct {
		rung    policy.Rung
		refused policy.Reason
	}{{policy.Clear, policy.STARTTLSMissing}, {policy.Modern, policy.TLSAUnknown}, {policy.Modern, policy.ReasonUnset}} {
		p := &x.Probed[i]
		refused := policy.ReasonUnset
		if p.Refused != nil {
			refused = p.Refused.Reason
		}
		if p.Rung != want.rung || refused != want.refused {
			t.Errorf("%s: %v, refused for %v; want %v, %v", p.Host, p.Rung, refused, want.rung, want.refused)
		}
	}
	if x.Forecast.Host != "mx3.example.org" {
		t.Errorf("foreseen %+v", x.Forecast)
	}
	if clear.quits+barred.quits+good.quits != 3 || clear.released+barred.released+good.released != 0 {
		t.Error("each session ends with QUIT and none goes back to the pool")
	}
}

func TestProbeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{world: newWorld(&fakeHost{}, &fakeHost{})}
		l.wait = make(chan struct{}) // no host ever answers
		for n := range 12 {
			l.facts.Hosts[0].V4.IPs = append(l.facts.Hosts[0].V4.IPs, netip.AddrFrom4([4]byte{127, 1, 0, byte(n + 1)}))
		}
		begin := time.Now()
		x := l.explain(t, opportunistic(), Inquiry{Probe: true})
		if took := time.Since(begin); took != probeTime {
			t.Errorf("the probe took %v", took)
		}
		if len(x.Probed) != probeAddresses || l.most > probesPerHost {
			t.Errorf("%d addresses, %d at once", len(x.Probed), l.most)
		}
		for i := range x.Probed {
			if f := x.Probed[i].Failure; f == nil || f.Reason != policy.ReplyTimeout {
				t.Errorf("%v: %v", x.Probed[i].Addr, f)
			}
		}
		if f := x.Forecast.Failure; f == nil || f.Permanent() {
			t.Errorf("foreseen %+v: what was not seen is no reason to give up", x.Forecast)
		}
	})
}

func TestExplainWithoutProbeOpensNothing(t *testing.T) {
	t.Parallel()
	l := &lab{world: newWorld(&fakeHost{})}
	x := l.explain(t, opportunistic(), Inquiry{})
	if len(l.opens) != 0 || x.Probed != nil || x.Forecast != nil {
		t.Errorf("opened %v: %+v", l.opens, x.Forecast)
	}
	if x.Unmet != nil {
		t.Errorf("any host is good enough for plaintext, not %v", x.Unmet)
	}
	// RFC 8689 4.2.1: MUST bounce.
	x = l.explain(t, opportunistic(), Inquiry{Query: policy.Query{RequireTLS: true}})
	if x.Unmet == nil || !x.Unmet.Permanent() || x.Unmet.Code() != "5.7.10" {
		t.Errorf("REQUIRETLS that no host can do: %v", x.Unmet)
	}
}

func TestExplanationSurvivesJSON(t *testing.T) {
	t.Parallel()
	l := &lab{world: newWorld(&fakeHost{open: noTLS()}, &fakeHost{})}
	rules := opportunistic()
	rules.Rules = []policy.Rule{{Name: "rule 1 (mx)", Match: policy.Match{MX: []string{"mx2.example.org"}}, Floor: policy.Encrypted, OnUnmet: policy.Bounce}}
	x := l.explain(t, rules, Inquiry{Query: policy.Query{Sender: "example.com", Message: policy.Legacy, Now: time.Unix(1e9, 0).UTC()}, Probe: true})
	if x.Rules.ByHost["mx2.example.org"].Name != "rule 1 (mx)" {
		t.Errorf("rules %+v", x.Rules)
	}
	first, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	var back Explanation
	if err := json.Unmarshal(first, &back); err != nil {
		t.Fatal(err)
	}
	second, err := json.Marshal(back)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("%v\n%s\ncame back as\n%s", err, first, second)
	}
}
