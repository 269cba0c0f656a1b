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
	Memory   Memory       // nil: hosts are not remembered
	Observer Observer     // nil: nobody is told
	Logger   *slog.Logger // nil: discard
	// Outage reports whether the DNS resolver is down: an attempt that knows nothing
	// because of that burns no try. nil: never.
	Outage func() bool
	// Throttle keeps how much each host takes of us; nil: everything at once.
	Throttle *Throttle
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
		return t.end(interrupted(ctx, err))
	}
	f := t.walk(ctx, inner, &facts)
	if t.missedSTS(&facts, f) {
		// RFC 8461 5.1: the policy may be out of date; asked before the attempt has failed.
		if facts, changed, err := c.o.Scout.Renew(inner, l.Envelope.Lane); err == nil && changed {
			f = t.walk(ctx, inner, &facts)
		}
	}
	return t.end(f)
}

// walk makes a plan of the facts and carries out its steps. It returns why not everybody
// was served; nil when all were.
func (t *trip) walk(ctx, inner context.Context, facts *policy.Facts) *policy.Failure {
	query := t.query()
	plan := policy.Decide(facts, t.c.o.Rules(), &query)
	t.planned(facts, &plan)
	walk := plan.Walk()
	defer t.letGo()
	defer func() { t.attempt.Trace = append(t.attempt.Trace, walk.Trace()...) }()
	for step, ok := walk.Next(); ok; step, ok = walk.Next() {
		if ctx.Err() != nil {
			return interrupted(ctx, ctx.Err())
		}
		walk.Report(step, t.try(inner, walk, step))
	}
	return walk.Failure()
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
