package relay

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// warm is a world that can open connections early.
type warm struct {
	*world
	warmed []string
}

func (w *warm) Warm(_ context.Context, s policy.Step) {
	w.warmed = append(w.warmed, string(s.Target.Host)+"/"+s.Rung.String())
}

// What is opened before Deliver is what Deliver opens first.
func TestExpect(t *testing.T) {
	strict := opportunistic()
	strict.Default.Floor = policy.DANE
	deaf := newWorld()
	deaf.facts.MX = policy.Lookup{Answer: policy.NoName}
	for _, tt := range []struct {
		name  string
		world *world
		rules *policy.Ruleset
		busy  bool // the host has put us off
		want  []string
	}{
		{"the first host of two", newWorld(&fakeHost{}, &fakeHost{}), opportunistic(), false, []string{"mx1.example.org/modern"}},
		{"no host may be used", newWorld(&fakeHost{}), strict, false, nil},
		{"no such domain", deaf, opportunistic(), false, nil},
		{"a host that put us off", newWorld(&fakeHost{}), opportunistic(), true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &warm{world: tt.world}
			th := NewThrottle(Limits{Connections: 20}, nil)
			if tt.busy {
				p, _, _ := th.begin("mx1.example.org", netip.AddrPortFrom(tt.world.facts.Hosts[0].V4.IPs[0], 25), time.Now())
				th.end(p, SignConnections, time.Now())
			}
			c := NewCourier(Options{Scout: w, Opener: w, Throttle: th, Rules: func() *policy.Ruleset { return tt.rules }})
			l := lease("ann")
			c.Expect(t.Context(), &l.Message, &l.Envelope)
			if !slices.Equal(w.warmed, tt.want) {
				t.Errorf("opened %v, want %v", w.warmed, tt.want)
			}
			if len(tt.want) == 0 {
				return
			}
			c.Deliver(t.Context(), l)
			if w.sent[0] != tt.want[0] {
				t.Errorf("delivered to %v", w.sent)
			}
		})
	}
}
