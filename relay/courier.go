package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Options of a Courier. Scout, Opener and Rules are needed.
type Options struct {
	Scout  Scout
	Opener Opener
	// Rules returns the ruleset in force; a reload swaps what it returns.
	Rules    func() *policy.Ruleset
	Observer Observer     // nil: nobody is told
	Logger   *slog.Logger // nil: discard
	// Grace is how long the step in flight may go on after the context of Deliver
	// is cancelled: a transaction that has begun is better ended than repeated.
	Grace time.Duration
}

// Courier implements queue.Courier. It is safe for concurrent use.
type Courier struct {
	o Options
}

// NewCourier returns a courier.
func NewCourier(o Options) *Courier {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Courier{o: o}
}

// Deliver tries once to deliver the envelope to its pending recipients.
func (c *Courier) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	t := newTrip(c, l)
	inner, cancel := graceful(ctx, c.o.Grace)
	defer cancel()

	facts, err := c.o.Scout.Facts(ctx, l.Envelope.Lane)
	t.attempt.FactsTook = time.Since(t.attempt.At)
	if err != nil {
		return t.end(interrupted(ctx, err), nil)
	}
	query := t.query()
	plan := policy.Decide(&facts, c.o.Rules(), &query)
	t.planned(&plan)
	walk := plan.Walk()
	for step, ok := walk.Next(); ok; step, ok = walk.Next() {
		if ctx.Err() != nil {
			return t.end(interrupted(ctx, ctx.Err()), walk.Trace())
		}
		walk.Report(step, t.try(inner, step))
	}
	return t.end(walk.Failure(), walk.Trace())
}

// graceful returns a context that outlives ctx by grace.
func graceful(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if grace <= 0 {
			cancel()
			return
		}
		late := time.AfterFunc(grace, cancel)
		context.AfterFunc(inner, func() { late.Stop() })
	})
	return inner, func() { stop(); cancel() }
}

func interrupted(ctx context.Context, err error) *policy.Failure {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &policy.Failure{Reason: policy.Interrupted}
	}
	return &policy.Failure{Reason: policy.ReplyTimeout, Detail: "the attempt took too long: " + err.Error()}
}
