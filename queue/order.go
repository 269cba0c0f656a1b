package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Bounds of an order.
const (
	hands       = 16 // leased rows that are waited for at once
	batches     = 4  // batches that are written at once, so that they share syncs
	batchOctets = 1 << 20
	tellEvery   = 200 * time.Millisecond
)

// Order is an action on all envelopes that a filter means.
type Order struct {
	Action
	Filter Filter
	// Tell is called as the work goes on, a few times a second at most; nil: nobody is told.
	// It must not block.
	Tell func(Progress)
}

// Progress is how far an order has come.
type Progress struct {
	Scanned int `json:"scanned"` // envelopes that were looked at
	Total   int `json:"total"`   // about so many there are to look at; 0: not known
	Matched int `json:"matched"`
	Done    int `json:"done"`
}

// Act does the verb to each envelope that matches and to which it applies, and
// returns how many there were: Do without news of the work.
func (q *Queue) Act(ctx context.Context, a Action, f Filter) (int, error) {
	p, err := q.Do(ctx, Order{Action: a, Filter: f})
	if a.DryRun {
		return p.Matched, err
	}
	return p.Done, err
}

// Do carries out an order. A leased envelope is left alone until its lease ends, then acted
// on, unless this process ends before. When ctx ends, what is in hand is ended; Progress
// says what was done, and so does the journal. A bad filter or verb is a *FilterError, and
// nothing is done.
func (q *Queue) Do(ctx context.Context, o Order) (Progress, error) {
	if !slices.Contains(verbs(), o.Verb) {
		return Progress{}, badFilter("verb %.80q is unknown: use retry, hold, release or drop", o.Verb)
	}
	m, err := o.Filter.compile(q.now())
	if err != nil {
		return Progress{}, err
	}
	w := &work{q: q, o: o, m: m, places: make(chan struct{}, hands), writers: make(chan struct{}, batches), told: time.Now()}
	if m.ids == nil && m.lanes == nil {
		for _, n := range q.Stats().Envelopes {
			w.p.Total += n
		}
	}
	m.tick = func() { w.count(func() { w.p.Scanned++ }) }
	p, err := w.run(ctx)
	if o.DryRun {
		return p, err
	}
	note := OperatorAction{Verb: string(o.Verb), By: o.By, Target: o.Filter.String(), Matched: p.Matched, Done: p.Done}
	switch {
	case ctx.Err() != nil:
		note.Failed = "interrupted"
	case errors.Is(err, ErrFull):
		note.Failed = "the disk is too full"
	case err != nil:
		note.Failed = "a fault of the relay: its log says more"
	}
	return p, errors.Join(err, q.Note(context.WithoutCancel(ctx), note))
}

func verbs() []Verb { return []Verb{VerbRetry, VerbHold, VerbRelease, VerbDrop} }

// work is an order that is being carried out.
type work struct {
	q       *Queue
	o       Order
	m       *matcher
	crew    sync.WaitGroup
	places  chan struct{} // one for each leased row in hand
	writers chan struct{} // one for each batch in hand
	batch   []struck
	octets  int // of the batch's rows

	mu   sync.Mutex
	p    Progress
	err  error // the first one of a row
	told time.Time
}

// struck is a row that an order means.
type struck struct {
	row   *Row
	entry *Entry
}

// run looks at all rows. Those that match are written in batches; one that is leased is
// waited for beside them. With a limit a batch is done before the next row is looked at, for
// some may have moved on.
func (w *work) run(ctx context.Context) (Progress, error) {
	err := w.q.each(ctx, w.m, func(r *Row, e *Entry) error {
		if !w.o.Verb.fits(e.State) {
			return nil
		}
		w.count(func() { w.p.Matched++ })
		switch {
		case w.o.DryRun:
		case r.State == RowLeased || e.State == RowDamaged:
			if w.m.Limit > 0 {
				w.flush(ctx)
			}
			w.places <- struct{}{}
			w.crew.Go(func() {
				defer func() { <-w.places }()
				w.one(ctx, r)
			})
			if w.m.Limit > 0 {
				w.crew.Wait()
			}
		default:
			w.batch = append(w.batch, struck{r, e})
			if w.octets += len(r.Data); w.octets >= batchOctets || len(w.batch) >= w.room() {
				w.flush(ctx)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		n := w.p.Done
		if w.o.DryRun {
			n = w.p.Matched
		}
		if w.err == nil && w.m.Limit > 0 && n >= w.m.Limit {
			return ErrStop
		}
		return w.err
	})
	w.flush(ctx)
	w.crew.Wait()
	if errors.Is(err, ErrStop) {
		err = nil
	}
	if err == nil {
		err = w.err
	}
	return w.p, err
}

// room is how many rows a batch may have.
func (w *work) room() int {
	if w.m.Limit == 0 {
		return scanPage
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(scanPage, w.m.Limit-w.p.Done)
}

// flush has the batch written.
func (w *work) flush(ctx context.Context) {
	list := w.batch
	if len(list) == 0 {
		return
	}
	w.batch, w.octets = nil, 0
	w.writers <- struct{}{}
	if err := w.q.uncrowded(ctx, w.o.Verb); err != nil {
		<-w.writers
		w.done(0, err)
		return
	}
	w.crew.Go(func() {
		defer func() { <-w.writers }()
		w.many(ctx, list)
	})
	if w.m.Limit > 0 {
		w.crew.Wait()
	}
}

// many acts on rows that were not leased: on all in one step, or one by one when some of
// them have moved.
func (w *work) many(ctx context.Context, list []struck) {
	if err := ctx.Err(); err != nil {
		w.done(0, err)
		return
	}
	rest, err := w.q.strikeAll(ctx, w.o.Verb, list)
	w.done(len(list)-len(rest), err)
	for _, s := range rest {
		if err != nil || ctx.Err() != nil {
			return
		}
		w.one(ctx, s.row)
	}
}

// one acts on one row.
func (w *work) one(ctx context.Context, r *Row) {
	done, err := w.q.act(ctx, w.o.Verb, w.m, r)
	n := 0
	if done {
		n = 1
	}
	w.done(n, err)
}

// done counts rows that were acted on, and keeps the first error.
func (w *work) done(n int, err error) {
	w.count(func() {
		w.p.Done += n
		if w.err == nil {
			w.err = err
		}
	})
}

// count changes the progress and tells of it, unless that was done a moment ago.
func (w *work) count(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	if now := time.Now(); w.o.Tell != nil && now.Sub(w.told) >= tellEvery {
		w.told = now
		w.o.Tell(w.p)
	}
}

// act does the verb to one row, however it moves meanwhile. It reports false when the
// row is gone or the filter does not mean it any more.
func (q *Queue) act(ctx context.Context, v Verb, m *matcher, r *Row) (bool, error) {
	for tries := range 1000 {
		if r.State == RowLeased && r.Damage == nil {
			done, wait := q.intend(v, r)
			if done {
				return true, nil
			}
			select {
			case <-ctx.Done():
				return false, ctx.Err()
			case <-wait:
			case <-time.After(10 * time.Millisecond):
			}
		} else if err := q.strike(ctx, v, r); !errors.Is(err, ErrStale) {
			return err == nil, err
		} else if tries > 0 { // somebody is writing it: that ends with a sync
			select {
			case <-ctx.Done():
				return false, ctx.Err()
			case <-time.After(time.Duration(min(tries, 20)) * time.Millisecond):
			}
		}
		record, rows, err := q.store.Read(ctx, r.Message)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(rows, func(x Row) bool { return x.Number == r.Number })
		if i < 0 {
			return false, nil
		}
		r = &rows[i]
		r.Record = record
		if e := entry(r); !v.fits(e.State) || !m.match(e) && m.state == 0 {
			return false, nil
		}
	}
	return false, fmt.Errorf("queue: envelope %s does not stand still", r.Message.EnvelopeID(r.Number))
}

// intend leaves a word for the courier's return. When it is too late for that, the
// channel says when to look again; nil when the lease is not ours.
func (q *Queue) intend(v Verb, r *Row) (done bool, wait <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.flying[rowKey{r.Message, r.Number}]
	switch {
	case f == nil:
		return false, nil
	case f.landing:
		return false, f.done
	}
	f.verb = v
	return true, nil
}

// strike does the verb to a row that is not leased. ErrStale when it moved.
func (q *Queue) strike(ctx context.Context, v Verb, r *Row) error {
	if r.Damage != nil {
		return q.dropDamaged(ctx, r)
	}
	m, e, err := decode(r)
	if err != nil {
		return err
	}
	t := trial{message: m, envelope: *e, verb: v, now: q.now().UTC()}
	s := q.tuned.Load().settle(t)
	return q.commit(ctx, r, &t, &s)
}

// strikeAll does the verb to rows that are not leased, all in one step. It returns those that
// it left alone: all when one has moved, and those that bring a notice.
func (q *Queue) strikeAll(ctx context.Context, v Verb, list []struck) (rest []struck, err error) {
	o, now := q.tuned.Load(), q.now().UTC()
	change := &Change{}
	type done struct {
		m *Message
		s settlement
	}
	var all []done
	for _, x := range list {
		s := o.settle(trial{message: &x.entry.Message, envelope: x.entry.Envelope, verb: v, now: now})
		if len(s.notices) > 0 {
			rest = append(rest, x)
			continue
		}
		if err := q.write(change, x.row, &s, nil); err != nil {
			return list, err
		}
		all = append(all, done{&x.entry.Message, s})
	}
	if len(all) == 0 {
		return rest, nil
	}
	if err := q.store.Commit(ctx, change); err != nil {
		if errors.Is(err, ErrStale) {
			err = nil
		}
		return list, err
	}
	for i := range all {
		q.settled(all[i].m, &all[i].s)
	}
	return rest, nil
}
