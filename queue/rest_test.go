package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// A lane at rest is not claimed, others are; afterwards it begins with one lease and
// comes back gradually. Nothing of it burns a try.
func TestLaneRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, claims, throttling := 0, 0, 0, true
		h := run(t, queue.Options{Workers: 100, PerLane: 20}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if l.Envelope.Lane != "slow.example" {
				return deliver(ctx, l)
			}
			mu.Lock()
			claims++
			now++
			most = max(most, now)
			refuses := throttling
			mu.Unlock()
			defer func() { mu.Lock(); now--; mu.Unlock() }()
			if refuses {
				rep := all(l, queue.Outcome{Failure: &policy.Failure{Reason: policy.GreetingTemporary}})
				rep.Free, rep.RetryAfter, rep.Rest = true, 5*time.Minute, 5*time.Minute
				return rep
			}
			time.Sleep(time.Second)
			return deliver(ctx, l)
		})
		count := func() int { mu.Lock(); defer mu.Unlock(); return claims }
		for i := range 1000 {
			h.accept(draft(t, fmt.Sprintf("u%d@slow.example", i)))
		}
		synctest.Wait()
		first := count()
		if first > 20 {
			t.Errorf("%d couriers ran into the wall before the lane rested", first)
		}
		time.Sleep(5*time.Minute - time.Second)
		if n := count() - first; n != 0 {
			t.Errorf("%d claims while the lane rests", n)
		}
		h.accept(draft(t, "one@fast.example"))
		synctest.Wait()
		for _, e := range h.entries() {
			if e.Envelope.Lane == "fast.example" {
				t.Error("a lane at rest holds up another")
			}
			if e.Envelope.Tries != 0 {
				t.Errorf("%s burned %d tries", e.Envelope.ID, e.Envelope.Tries)
			}
		}
		time.Sleep(2 * time.Second)
		if n := count() - first; n != 1 {
			t.Errorf("%d claims as soon as the rest is over, want 1", n)
		}
		mu.Lock()
		throttling, most = false, 0
		mu.Unlock()
		time.Sleep(5*time.Minute + 500*time.Millisecond)
		mu.Lock()
		atFirst := most
		mu.Unlock()
		if atFirst > 2 {
			t.Errorf("%d couriers at once in the first moment, want the lane to come back gradually", atFirst)
		}
		time.Sleep(time.Hour)
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
		h.stop()
	})
}

// A host that throttles for ever: with thousands of envelopes in its lane each of them is given
// up in time, and each is warned about.
func TestThrottledForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, giveUp, warn = 500, 8 * time.Hour, 2 * time.Hour
		var mu sync.Mutex
		claims := 0
		h := run(t, queue.Options{GiveUp: giveUp, WarnAfter: warn, PerLane: 20}, func(_ context.Context, l *queue.Lease) queue.Report {
			mu.Lock()
			claims++
			mu.Unlock()
			rep := all(l, queue.Outcome{Failure: &policy.Failure{Reason: policy.HostThrottled}})
			rep.Free, rep.RetryAfter, rep.Rest = true, 10*time.Minute, 10*time.Minute
			return rep
		})
		for i := range n {
			h.accept(draft(t, fmt.Sprintf("u%d@slow.example", i)))
		}
		time.Sleep(warn + time.Hour)
		for _, e := range h.entries() {
			if !e.Envelope.Warned || e.Envelope.Tries != 0 {
				t.Fatalf("after %v: warned %v, %d tries", warn+time.Hour, e.Envelope.Warned, e.Envelope.Tries)
			}
		}
		time.Sleep(giveUp - warn - time.Hour + 45*time.Minute)
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d of %d envelopes outlive give_up", len(left), n)
		}
		mu.Lock()
		if claims > 40*n {
			t.Errorf("%d claims for %d envelopes in %v", claims, n, giveUp)
		}
		t.Logf("%.1f claims an envelope in %v", float64(claims)/n, giveUp)
		mu.Unlock()
		h.stop()
	})
}

// A hint is followed once, whatever the host says later; then the schedule holds. It
// burns a try each time.
func TestHintOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		h := run(t, queue.Options{Schedule: []time.Duration{time.Hour}}, func(_ context.Context, l *queue.Lease) queue.Report {
			at = append(at, time.Since(start))
			rep := all(l, queue.Outcome{Failure: &policy.Failure{Reason: policy.ReplyTemporary}})
			rep.Hint = 5 * time.Minute
			return rep
		})
		h.accept(draft(t, "ann@grey.example"))
		time.Sleep(3 * time.Hour)
		h.stop()
		if len(at) < 3 || at[1] < 5*time.Minute || at[1] > 6*time.Minute || at[2]-at[1] < time.Hour {
			t.Errorf("tried after %v: want a hint once, then the schedule", at)
		}
		if e := h.entries()[0].Envelope; e.Tries != len(at) || !e.Hinted {
			t.Errorf("%d tries, hinted %v after %d attempts", e.Tries, e.Hinted, len(at))
		}
	})
}
