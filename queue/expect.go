package queue

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
)

// Expecter is a Courier that can make ready for an envelope: find out about its domain, and open
// a connection, while the message is being written to the disk. Delivery then takes as long
// as the slower of the two, not as both.
type Expecter interface {
	Courier
	// Expect is told of an envelope that Deliver will get within a moment, unless its message
	// cannot be written. It returns when it is ready or cannot be; ctx is done when Run's is.
	// What both arguments point to must not be changed.
	Expect(ctx context.Context, m *Message, e *Envelope)
}

// quiet is how many envelopes may fly, those that are expected included, for one more to be
// expected. Under load there is nothing to gain by it: connections stand already, and no
// processor is idle.
const quiet = 4

// outlook is the Expecter of a Run. Its fields are guarded by the lock of the queue.
type outlook struct {
	ctx      context.Context
	courier  Expecter
	expected int // calls of Expect that have not returned
	all      sync.WaitGroup
}

// look makes c the one that is told of what is expected, until the function that it returns is
// called, which waits for the last of it.
func (q *Queue) look(ctx context.Context, c Courier) (end func()) {
	e, ok := c.(Expecter)
	if !ok {
		return func() {}
	}
	o := &outlook{ctx: ctx, courier: e}
	q.mu.Lock()
	q.outlook = o
	q.mu.Unlock()
	return func() {
		q.mu.Lock()
		q.outlook = nil
		q.mu.Unlock()
		o.all.Wait()
	}
}

// expect tells the courier of a message of which all but the writing is done: its content has come
// in whole, so hardly anything can keep it from being accepted.
func (q *Queue) expect(m *Message, envelopes []Envelope) {
	now := q.now()
	for i := range envelopes {
		e := &envelopes[i]
		if q.halt.Load().over(e.Lane, now) != nil {
			continue
		}
		o := q.foresee()
		if o == nil {
			return
		}
		go func() {
			defer func() {
				if p := recover(); p != nil { // as for Deliver: it must not end the relay
					q.log.Error("queue: courier panicked while it made ready", slog.Any("msg", m.ID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				}
				q.mu.Lock()
				o.expected--
				q.mu.Unlock()
				o.all.Done()
			}()
			o.courier.Expect(o.ctx, m, e)
		}()
	}
}

// foresee enters one more that is expected; nil: nobody is told of it.
func (q *Queue) foresee() *outlook {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := q.outlook
	if o == nil || len(q.flying)+o.expected >= quiet {
		return nil
	}
	if paused, _ := q.paused(); paused {
		return nil
	}
	o.expected++
	o.all.Add(1)
	return o
}
