package queue

import (
	"context"
	"errors"
	"sync"
)

// together brings small changes of rows that come side by side into one step of the store: a
// step costs more than what is in it. It is for changes without entries and notices, of which
// none needs to be told from the others. Who comes while a step is being written waits for the
// next one, with all who came meanwhile.
type together struct {
	store Store
	mu    sync.Mutex
	busy  bool
	wait  []*joined
}

// joined is a change that waits for its step.
type joined struct {
	rows []Row
	err  error
	lead bool          // this one writes the next step
	done chan struct{} // closed when err is known, or when lead is set
}

// commit is Store.Commit of a change that has updates only.
func (t *together) commit(ctx context.Context, c *Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	own := &joined{rows: c.Update, done: make(chan struct{})}
	t.mu.Lock()
	t.wait = append(t.wait, own)
	if t.busy {
		t.mu.Unlock()
		if <-own.done; !own.lead {
			return own.err
		}
		t.mu.Lock()
	}
	t.busy = true
	var list []*joined
	n := 0
	for n < len(t.wait) && n < scanPage {
		list = append(list, t.wait[n])
		n++
	}
	t.wait = t.wait[n:]
	t.mu.Unlock()
	t.step(context.WithoutCancel(ctx), list)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy = len(t.wait) > 0; t.busy {
		next := t.wait[0]
		next.lead = true
		close(next.done)
	} else {
		t.wait = nil
	}
	for _, j := range list {
		if j != own && !j.lead {
			close(j.done)
		}
	}
	return own.err
}

// step writes changes at once, or one by one when some are of rows that have moved.
func (t *together) step(ctx context.Context, list []*joined) {
	all := &Change{}
	for _, j := range list {
		all.Update = append(all.Update, j.rows...)
	}
	err := t.store.Commit(ctx, all)
	for _, j := range list {
		if j.err = err; errors.Is(err, ErrStale) && len(list) > 1 {
			j.err = t.store.Commit(ctx, &Change{Update: j.rows})
		}
	}
}
