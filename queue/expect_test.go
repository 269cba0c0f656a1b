package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// foreseeing is a courier that is told of what is expected.
type foreseeing struct {
	told    atomic.Int32
	hangs   chan struct{}
	panics  bool
	deliver courier
}

func (f *foreseeing) Expect(ctx context.Context, m *queue.Message, e *queue.Envelope) {
	f.told.Add(1)
	if m.ID == "" || m.Size == 0 {
		panic("a message that is not complete")
	}
	if f.panics {
		panic("oops")
	}
	if f.hangs != nil {
		select {
		case <-f.hangs:
		case <-ctx.Done():
		}
	}
}

func (f *foreseeing) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	return f.deliver(ctx, l)
}

func TestExpect(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(h *house, f *foreseeing, v *valve)
		told   int32
		panics bool
	}{
		{name: "at a quiet hour", do: func(h *house, _ *foreseeing, _ *valve) { h.enqueue("a@one.example") }, told: 1},
		{name: "each domain of a message", do: func(h *house, _ *foreseeing, _ *valve) { h.enqueue("a@one.example", "b@two.example", "c@two.example") }, told: 2},
		{name: "one that panics", do: func(h *house, _ *foreseeing, _ *valve) { h.enqueue("a@one.example") }, told: 1, panics: true},
		{name: "its content never came", do: func(h *house, _ *foreseeing, _ *valve) {
			d := draft(h.t, "a@one.example")
			d.Body = io.MultiReader(d.Body, broken{})
			if _, err := h.q.Enqueue(h.t.Context(), d); err == nil {
				h.t.Error("accepted")
			}
		}},
		{name: "in a pause", do: func(h *house, _ *foreseeing, v *valve) { v.set(true); synctest.Wait(); h.enqueue("a@one.example") }},
		{name: "to a suspended domain", do: func(h *house, _ *foreseeing, _ *valve) {
			if _, err := h.q.Suspend(h.t.Context(), queue.Suspension{Target: "one.example", Reason: "test"}); err != nil {
				h.t.Error(err)
			}
			h.enqueue("a@one.example")
		}},
		{name: "while much is in the air", do: func(h *house, f *foreseeing, _ *valve) {
			gate := make(chan struct{})
			f.deliver = func(ctx context.Context, l *queue.Lease) queue.Report { <-gate; return deliver(ctx, l) }
			for i := range 20 {
				h.enqueue(fmt.Sprintf("a@d%d.example", i))
				synctest.Wait()
			}
			close(gate)
		}, told: 4},
		{name: "while much is expected", do: func(h *house, f *foreseeing, _ *valve) {
			f.hangs = make(chan struct{})
			h.enqueue("a@d1.example", "a@d2.example", "a@d3.example", "a@d4.example", "a@d5.example", "a@d6.example")
		}, told: 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := &valve{changed: make(chan struct{})}, &foreseeing{deliver: deliver, panics: c.panics}
				h := runWith(t, queue.Options{Store: storetest.NewModel(), Paused: v.paused}, f)
				synctest.Wait()
				c.do(h, f, v)
				time.Sleep(time.Second)
				if n := f.told.Load(); n != c.told {
					t.Errorf("told of %d, want %d", n, c.told)
				}
				h.stop() // ends what hangs, and waits for it
			})
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the client hung up") }
