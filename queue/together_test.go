package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// steps is a store of which each commit takes a while. Rows of message "stale" are in other hands.
type steps struct {
	Store
	n, rows atomic.Int32
	busy    atomic.Bool
}

func (s *steps) Commit(_ context.Context, c *Change) error {
	if s.busy.Swap(true) {
		panic("two steps at once")
	}
	time.Sleep(time.Millisecond)
	s.busy.Store(false)
	s.n.Add(1)
	for _, r := range c.Update {
		if r.Message == "stale" {
			return ErrStale
		}
	}
	s.rows.Add(int32(len(c.Update)))
	return nil
}

// Changes that come side by side share steps, each is told what became of its own, and none
// is left behind.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &steps{}
		g := together{store: s}
		commit := func(id ID) error { return g.commit(t.Context(), &Change{Update: []Row{{Message: id}}}) }
		if err := commit("alone"); err != nil || s.n.Load() != 1 {
			t.Fatalf("%v after %d steps", err, s.n.Load())
		}
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				if err := commit(ID(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.rows.Load() != 1001 || s.n.Load() > 8 {
			t.Errorf("%d rows in %d steps", s.rows.Load(), s.n.Load())
		}
		for i := range 100 {
			wg.Go(func() {
				id := ID(fmt.Sprint(i))
				if i == 50 {
					id = "stale"
				}
				if err := commit(id); (err == ErrStale) != (i == 50) {
					t.Errorf("change %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if s.rows.Load() != 1100 {
			t.Errorf("%d rows are written, want 1100", s.rows.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.commit(ctx, &Change{}); err != context.Canceled {
			t.Errorf("ctx done: %v", err)
		}
	})
}
