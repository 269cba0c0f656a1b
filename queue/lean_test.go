package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// On a disk that is nearly full a host that takes nothing costs a bounded number of tries, and one
// that takes mail again is found and gets all of it.
func TestLean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var short, well atomic.Bool
		var tries, delivered atomic.Int32
		h := run(t, queue.Options{Store: storetest.NewModel(), Short: short.Load, GiveUp: 48 * time.Hour}, func(ctx context.Context, l *queue.Lease) queue.Report {
			tries.Add(1)
			if well.Load() {
				delivered.Add(1)
				return deliver(ctx, l)
			}
			return refuse(ctx, l)
		})
		short.Store(true)
		const mails = 2000
		for i := range mails {
			h.enqueue(fmt.Sprintf("a@d%d.example", i%20))
		}
		synctest.Wait()
		if n := tries.Load(); n < 4 || n > 40 {
			t.Fatalf("%d tries at once: want 32, and some that flew already", n)
		}
		time.Sleep(time.Hour)
		if n := tries.Load(); n < 300 || n > 32+360+8 {
			t.Fatalf("%d tries in an hour: want one in ten seconds, and 32 at first", n)
		}
		if _, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{}); !errors.Is(err, queue.ErrFull) {
			t.Errorf("retry on a full disk: %v", err)
		}
		if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbDrop}, queue.Filter{Domain: "d1.example"}); err != nil || n != mails/20 {
			t.Errorf("drop on a full disk: %d, %v", n, err)
		}
		well.Store(true)
		time.Sleep(30 * time.Minute) // what was deferred comes back after its time
		if n := delivered.Load(); n < mails-mails/20-400 {
			t.Fatalf("%d of %d delivered once the host was well", n, mails)
		}
		well.Store(false)
		before := tries.Load()
		for i := range mails {
			h.enqueue(fmt.Sprintf("b@d%d.example", i%20))
		}
		time.Sleep(time.Second)
		if n := tries.Load() - before; n > 64+4 {
			t.Fatalf("%d tries at once after what was earned: want 64 at most", n)
		}
		short.Store(false) // there is room: nobody holds back
		h.enqueue("c@last.example")
		synctest.Wait()
		if n := tries.Load() - before; n < mails {
			t.Fatalf("%d tries on a disk with room: want all %d", n, mails)
		}
	})
}
