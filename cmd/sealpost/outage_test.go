package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/queue"
)

// The resolver goes down and comes back: mail is accepted and kept, the outage is told from broken
// zones, what is tried meanwhile burns no try, and everything goes out by itself afterwards.
func TestResolverOutage(t *testing.T) {
	t.Parallel()
	var list []exchanger
	for i := range 6 {
		list = append(list, one(t, fmt.Sprintf("d%d.example", i), "modern"))
	}
	w := newWorld(t, list, "[retry]\nschedule = [\"1h\"]\n")
	w.zones.SetMode(policytest.Silent)
	for i := range list {
		w.submit(t, "a@shop.example", "", "ann@"+list[i].domain)
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("not in time: %s", what)
			}
		}
	}
	await("the outage is seen", w.house.resolver.Outage)
	late := w.submit(t, "a@shop.example", "", "late@d0.example")
	w.zones.SetMode(policytest.Validating)
	await("the outage is over", func() bool { return !w.house.resolver.Outage() })
	await("everything is delivered", func() bool {
		for _, h := range w.farm.Hosts {
			if len(h.Accepted()) == 0 {
				return false
			}
		}
		return len(w.farm.Hosts[0].Accepted()) == 2
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		if a.Message == late && a.Tries != 1 {
			t.Errorf("what came in during the outage was tried %d times", a.Tries)
		}
		for _, o := range a.Outcomes {
			if o.Kind == queue.DeferredNow && a.Tries > 1 {
				t.Errorf("%s: a try was burnt: %+v", a.Domain, a)
			}
		}
	}
}
