package queue

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Bounds of the keeper.
const (
	keepRetry  = 10 * time.Second
	sweepEvery = time.Hour   // while everything is suspended; sooner when something expires
	sweepPause = time.Minute // at least
)

// keepSuspensions ends suspensions in time, and frees what waited for the ended ones.
func (q *Queue) keepSuspensions(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := q.tend(ctx)
		if err != nil && ctx.Err() == nil {
			q.log.Error("queue: suspensions", "err", err)
			wait = keepRetry
		}
		if timer.Stop(); wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-q.haltNews:
		case <-timer.C:
		}
	}
}

// tend does what is to be done about suspensions now, and says when to come again; 0:
// there is nothing to wait for.
func (q *Queue) tend(ctx context.Context) (wait time.Duration, err error) {
	if err := q.endSuspensions(ctx); err != nil {
		return 0, err
	}
	s := q.halt.Load()
	if s.Stale {
		if err := q.unpark(ctx, s); err != nil {
			return 0, err
		}
	}
	next := time.Time{}
	if s.all(q.now()) != nil {
		if next, err = q.expireAll(ctx); err != nil {
			return 0, err
		}
		now := q.now()
		if next = earlier(next, now.Add(sweepEvery)); next.Before(now.Add(sweepPause)) {
			next = now.Add(sweepPause)
		}
	}
	for i := range s.List {
		if t := s.List[i].Until; !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return 0, nil
	}
	// The clock may be set: a minute is the most that is believed.
	return min(max(next.Sub(q.now()), time.Millisecond), clockStep), nil
}

// endSuspensions takes those out whose time is over. What waited for them is due by now.
func (q *Queue) endSuspensions(ctx context.Context) error {
	q.halting.Lock()
	defer q.halting.Unlock()
	now, old := q.now(), q.halt.Load()
	next := old.emptied()
	for _, s := range old.List {
		if s.holds(now) {
			next.List = append(next.List, s)
			continue
		}
		if err := q.Note(ctx, OperatorAction{Verb: "resume", By: "time", Target: s.Target, Reason: s.Reason}); err != nil {
			return err
		}
		q.log.Info("queue: deliveries are resumed", "domain", s.Target, "by", "time")
	}
	if len(next.List) == len(old.List) {
		return nil
	}
	return q.setSuspensions(ctx, next)
}

// unpark makes what waits for a suspension that is no more due when it would have been.
func (q *Queue) unpark(ctx context.Context, s *suspended) error {
	o := q.tuned.Load()
	var page []Row
	var failed error
	write := func() bool {
		failed = q.rewrite(ctx, page)
		page = nil
		return failed == nil
	}
	err := q.store.Scan(ctx, ScanQuery{Kind: ScanRows, Lanes: s.lanes()}, func(it Item) error {
		next, err := o.unparked(s, &it.Row, q.now())
		if err != nil {
			return err
		}
		if next != nil {
			page = append(page, *next)
		}
		if len(page) >= scanPage && !write() {
			return ErrStop
		}
		return ctx.Err()
	})
	if err == nil && failed == nil {
		write()
	}
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	q.halting.Lock()
	defer q.halting.Unlock()
	if q.halt.Load() != s {
		return nil // there is more to do, and somebody has said so
	}
	return q.setSuspensions(ctx, &suspended{List: slices.Clone(s.List)})
}

// unparked is a row as it is to be written when it waits for a suspension that is no more;
// nil when it does not.
func (o *Options) unparked(s *suspended, r *Row, now time.Time) (*Row, error) {
	if r.State != RowWaiting || r.Damage != nil {
		return nil, nil
	}
	m, e, err := decode(r)
	if err != nil || e.Suspended.IsZero() {
		return nil, nil // one that cannot be read is found when it is due
	}
	due := e.Suspended
	if over := s.over(e.Lane, now); over != nil {
		due = o.parkedUntil(over, m, e)
	} else {
		e.Suspended = time.Time{}
	}
	if !due.Before(r.Due) {
		return nil, nil
	}
	e.Due = due
	next, err := row(e, due, r.Number)
	next.Group, next.Fence = r.Group, r.Fence
	return &next, err
}

// rewrite commits rows at once, or one by one when some have moved: those are in
// other hands.
func (q *Queue) rewrite(ctx context.Context, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	err := q.store.Commit(ctx, &Change{Update: rows})
	for i := range rows {
		if !errors.Is(err, ErrStale) || len(rows) == 1 {
			break
		}
		if e := q.store.Commit(ctx, &Change{Update: rows[i : i+1]}); e != nil && !errors.Is(e, ErrStale) {
			return e
		}
	}
	q.rouse()
	if errors.Is(err, ErrStale) {
		return nil
	}
	return err
}

// expireAll gives up what is over while everything is suspended, when nothing is claimed.
// It returns when the next envelope will be over, of those that are there.
func (q *Queue) expireAll(ctx context.Context) (next time.Time, err error) {
	o, now := q.tuned.Load(), q.now()
	next = now.Add(sweepEvery)
	err = q.each(ctx, &matcher{now: now}, func(r *Row, e *Entry) error {
		if e.State != RowWaiting && e.State != RowHeld {
			return nil
		}
		if end := o.deadline(&e.Message); now.Before(end) {
			next = earlier(next, end)
			return nil
		}
		if err := q.strike(ctx, "", r); !errors.Is(err, ErrStale) {
			return err
		}
		return nil
	})
	return next, err
}
