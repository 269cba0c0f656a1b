package relay

import (
	"context"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Warmer is an Opener that can open a connection before there is a session for it.
type Warmer interface {
	Opener
	// Warm opens a connection for the step, unless one stands that would do or the host has all
	// that it may have. Open finds it, waits for it while it is being made, and gets its failure
	// should it fail meanwhile. It blocks until the connection stands.
	Warm(ctx context.Context, s policy.Step)
}

// Expect implements queue.Expecter: it looks up the facts and has the connection opened that
// Deliver will ask for first. Nothing of the message is said on it, and nothing is judged:
// that is for Deliver, which makes its own plan.
func (c *Courier) Expect(ctx context.Context, m *queue.Message, e *queue.Envelope) {
	w, ok := c.o.Opener.(Warmer)
	if !ok {
		return
	}
	t := newTrip(c, &queue.Lease{Message: *m, Envelope: *e})
	inner, cancel := graceful(ctx, c.o.Grace)
	defer cancel()
	facts, err := c.o.Scout.Facts(ctx, e.Lane)
	if err != nil {
		return
	}
	query := t.query()
	plan := policy.Decide(&facts, c.o.Rules(), &query)
	step, ok := plan.Walk().Next()
	if !ok || c.waits(step) {
		return
	}
	w.Warm(inner, step)
}

// waits reports whether a message for the step's host may have to wait for its turn.
func (c *Courier) waits(s policy.Step) bool {
	return c.o.Throttle != nil && c.o.Throttle.Limited(c.o.Throttle.Place(s.Target.Host, s.Addr))
}
