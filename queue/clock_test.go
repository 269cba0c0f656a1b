package queue_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// step is a wall clock that can be set.
type step struct{ by atomic.Int64 }

func (s *step) wall() time.Time      { return time.Now().Add(time.Duration(s.by.Load())) }
func (s *step) set(by time.Duration) { s.by.Add(int64(by)) }

// A clock that is set back does not hold the schedule up, and nothing is tried more often.
func TestClockBack(t *testing.T) {
	for _, by := range []time.Duration{30 * time.Second, time.Hour, 10 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Duration
			start := time.Now()
			clock := &step{}
			h := run(t, queue.Options{Schedule: []time.Duration{10 * time.Minute}, GiveUp: 2 * time.Hour}, func(ctx context.Context, l *queue.Lease) queue.Report {
				at = append(at, time.Since(start))
				return refuse(ctx, l)
			})
			h.q.SetClock(clock.wall)
			h.enqueue("a@one.example")
			synctest.Wait()
			time.Sleep(time.Minute)
			clock.set(-by)
			time.Sleep(3 * time.Hour)
			h.stop()
			for i := 1; i < len(at); i++ {
				if d := at[i] - at[i-1]; d < 10*time.Minute || d > 13*time.Minute {
					t.Errorf("back by %v: %v between two tries, want 10 to 12 minutes", by, d)
				}
			}
			if n := len(at); n < 9 || n > 13 {
				t.Errorf("back by %v: %d tries, at %v", by, n, at)
			}
			if left := h.entries(); len(left) != 0 {
				t.Errorf("back by %v: %d envelopes are left behind their time", by, len(left))
			}
		})
	}
}

// A clock that is set forward by more than a message's time brings one more try, not an
// end without one; what is held ends without, as it always does.
func TestClockForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := map[string]int{}
		clock := &step{}
		p := &postmaster{}
		h := run(t, queue.Options{Schedule: []time.Duration{time.Hour}, Composer: p}, func(ctx context.Context, l *queue.Lease) queue.Report {
			mu.Lock()
			defer mu.Unlock()
			who := l.Envelope.Recipients[0].Address.Local
			if tries[who]++; l.Message.Sender.IsNull() || who == "good" && tries[who] == 2 {
				return deliver(ctx, l)
			}
			return refuse(ctx, l)
		})
		h.q.SetClock(clock.wall)
		h.enqueue("good@one.example")
		h.enqueue("bad@two.example")
		h.enqueue("held@three.example")
		synctest.Wait()
		if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbHold}, queue.Filter{Domain: "three.example"}); n != 1 || err != nil {
			t.Fatalf("held %d, %v", n, err)
		}
		time.Sleep(10 * time.Minute)
		clock.set(30 * 24 * time.Hour)
		time.Sleep(2 * time.Minute) // it is noticed within one
		synctest.Wait()
		h.stop()
		if tries["good"] != 2 || tries["bad"] != 2 || tries["held"] != 1 {
			t.Errorf("tries %v", tries)
		}
		states := map[string]queue.RecipientState{}
		for _, e := range h.journal() {
			if e.Kind != queue.EntryAccepted && !e.Sender.IsNull() && len(e.Recipients) > 0 {
				states[e.Recipients[0].Address.Local] = e.Recipients[0].State
			}
		}
		if states["good"] != queue.Delivered || states["bad"] != queue.Expired || states["held"] != queue.Expired {
			t.Errorf("ends %v", states)
		}
	})
}
