package queue_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// valve is what Options.Paused is asked of.
type valve struct {
	mu      sync.Mutex
	shut    bool
	changed chan struct{} // nil: nobody is told of changes
}

func (v *valve) paused() (bool, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.shut, v.changed
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
	if v.changed != nil {
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

// During a pause nothing is claimed and no try is burned; the end of it wakes Run.
func TestPause(t *testing.T) {
	for name, changed := range map[string]chan struct{}{"told": make(chan struct{}), "not told": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &valve{shut: true}
				if changed != nil {
					v.changed = make(chan struct{})
				}
				s := &counting{Model: storetest.NewModel()}
				var mu sync.Mutex // two couriers set off at once
				var tries []int
				h := run(t, queue.Options{Store: s, Paused: v.paused}, func(ctx context.Context, l *queue.Lease) queue.Report {
					mu.Lock()
					tries = append(tries, l.Envelope.Tries)
					mu.Unlock()
					return deliver(ctx, l)
				})
				h.store = s.Model
				h.enqueue("a@one.example")
				time.Sleep(3*time.Hour + time.Second/2)
				h.enqueue("b@two.example") // what is accepted meanwhile does not end it
				synctest.Wait()
				if s.count() != 0 || len(tries) != 0 {
					t.Errorf("%d claims and %d tries during the pause", s.count(), len(tries))
				}
				left := h.entries()
				if len(left) != 2 || left[0].State != queue.RowWaiting || left[0].Envelope.Tries != 0 {
					t.Errorf("during the pause: %+v", left)
				}
				v.set(false)
				end := time.Now()
				if changed == nil {
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				if len(tries) != 2 || tries[0] != 0 || tries[1] != 0 {
					t.Errorf("after the pause: tries %v", tries)
				}
				for _, e := range h.journal() {
					if e.Kind == queue.EntrySettled && e.At.Sub(end) > time.Minute {
						t.Errorf("%s waited %v", e.Domain, e.At.Sub(end))
					}
				}
				h.stop()
			})
		})
	}
}

// What flies when a pause begins lands as always; its next try waits for the end.
func TestPauseInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{changed: make(chan struct{})}
		n := 0
		h := run(t, queue.Options{Paused: v.paused}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if n++; n > 1 {
				return deliver(ctx, l)
			}
			time.Sleep(10 * time.Minute)
			return refuse(ctx, l)
		})
		h.enqueue("a@one.example")
		time.Sleep(time.Minute)
		v.set(true)
		time.Sleep(5 * time.Hour)
		left := h.entries()
		if n != 1 || len(left) != 1 || left[0].Envelope.Tries != 1 || left[0].State != queue.RowWaiting {
			t.Errorf("%d tries, left %+v", n, left)
		}
		v.set(false)
		synctest.Wait()
		h.stop()
		if left := h.entries(); n != 2 || len(left) != 0 {
			t.Errorf("%d tries, %d left", n, len(left))
		}
		h.journal()
	})
}

// Expiry holds in every state: what is over during a pause is given up when it ends, and
// not tried.
func TestPauseAndExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{shut: true, changed: make(chan struct{})}
		n := 0
		p := &postmaster{}
		h := run(t, queue.Options{Paused: v.paused, GiveUp: 24 * time.Hour, Composer: p}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if l.Message.Sender.IsNull() { // the notice
				return deliver(ctx, l)
			}
			n++
			return refuse(ctx, l)
		})
		h.enqueue("a@one.example")
		time.Sleep(72 * time.Hour)
		if len(h.entries()) != 1 {
			t.Error("given up while nobody looks")
		}
		v.set(false)
		synctest.Wait()
		h.stop()
		var ends []queue.RecipientState
		for _, e := range h.journal() {
			if e.Kind == queue.EntrySettled && e.Domain == policy.Domain("one.example") {
				ends = append(ends, e.Recipients[0].State)
			}
		}
		if n != 0 || len(ends) != 1 || ends[0] != queue.Expired || len(p.notices()) != 1 {
			t.Errorf("%d tries, ends %v, %d notices", n, ends, len(p.notices()))
		}
	})
}

// A stop is obeyed during a pause too.
func TestPauseAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{shut: true}
		h := run(t, queue.Options{Paused: v.paused}, deliver)
		h.enqueue("a@one.example")
		synctest.Wait()
		h.stop()
		if time.Since(h.start) != 0 || len(h.entries()) != 1 {
			t.Errorf("it took %v, %d left", time.Since(h.start), len(h.entries()))
		}
	})
}
