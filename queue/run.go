package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Bounds of the engine.
const (
	// clockStep bounds one sleep while something waits, so that a jump of the
	// wall clock is noticed.
	clockStep    = time.Minute
	claimRetry   = time.Second      // after an error of the store
	commitRetry  = 30 * time.Second // how long a result that cannot be written is kept
	originalSize = 64 << 10         // of Notice.Original, in octets
	// groupShare: one group alone gets three of four workers, two get six of seven.
	// What is left is for a group that has nothing in delivery yet.
	groupShare = 3
	// shortWorkers is how many envelopes fly at once on a disk that is nearly full (Options.Short).
	shortWorkers = 4
	laneTrial    = 2 // couriers for a domain that has not answered yet
)

// rowKey names a row.
type rowKey struct {
	id     ID
	number int
}

// flight is an envelope with a courier of this process.
type flight struct {
	verb    Verb          // what the operator wants at the end of the lease; "" nothing
	landing bool          // the verb is taken: too late for another
	done    chan struct{} // closed when the lease has ended
}

// Run claims due envelopes and has them delivered until ctx is done; then it
// waits for the couriers in flight (they see ctx done), writes what they report, and
// returns nil. It sleeps until something is due, is accepted or ends, or a pause does.
func (q *Queue) Run(ctx context.Context, c Courier) error {
	crew := newCrew()
	defer crew.end()
	crew.do(func() { q.keepSuspensions(ctx) })
	free := make(chan struct{}, q.o.Workers) // one token for each envelope in flight
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		pause := time.Duration(-1)
		paused, changed := q.paused()
		if paused {
			pause = clockStep // should nobody tell us of its end
		}
		now := q.now()
		room, next := q.room(free, now)
		if room > 0 && !paused {
			o := q.tuned.Load()
			rows, at, err := q.store.Claim(ctx, ClaimQuery{
				Now: now, Until: now.Add(o.AttemptLimit + leaseMargin), Limit: room, PerLane: o.PerLane, Share: groupShare, Trial: laneTrial,
				Known: func(id ID, number int) bool { return q.hot.has(rowKey{id, number}) },
			})
			for i := range rows {
				f := q.takeOff(&rows[i])
				free <- struct{}{}
				crew.do(func() {
					defer func() { <-free; q.rouse() }()
					q.carry(ctx, c, &rows[i], f)
				})
			}
			if err != nil && ctx.Err() == nil {
				q.log.Error("queue: claim failed", "err", err)
				pause = claimRetry
			}
			if len(rows) == room {
				at = time.Time{} // no hand is free: the next one that is wakes us
			}
			next = at
		}
		if !next.IsZero() {
			pause = min(max(next.Sub(q.now()), 0), clockStep)
		}
		if pause >= 0 {
			timer.Reset(pause)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-changed:
		case <-timer.C:
		}
	}
	return nil
}

// room is how many more envelopes may fly, and when that may change by itself (zero: never).
// On a disk that is nearly full it is few: what they write must not outrun what makes room, which
// is slower than they are.
func (q *Queue) room(free chan struct{}, now time.Time) (n int, next time.Time) {
	switch {
	case q.o.Short == nil:
	case q.o.Short():
		if q.o.Crowded != nil && q.o.Crowded(false) {
			return 0, now.Add(crowdedLook)
		}
		return q.lean.allow(now, shortWorkers, len(free))
	default:
		q.lean.over()
	}
	return cap(free) - len(free), time.Time{}
}

// paused asks Options.Paused, and whether everything is suspended. Outside a pause Run need
// not be woken by its beginning, so the channel is nil then.
func (q *Queue) paused() (bool, <-chan struct{}) {
	if q.halt.Load().all(q.now()) != nil {
		return true, nil // whoever ends it rouses us
	}
	if q.o.Paused == nil {
		return false, nil
	}
	paused, changed := q.o.Paused()
	if !paused {
		return false, nil
	}
	return true, changed
}

// takeOff enters a claimed row into the list of flights.
func (q *Queue) takeOff(r *Row) *flight {
	f := &flight{done: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying[rowKey{r.Message, r.Number}] = f
	return f
}

// carry takes one claimed row through its lease.
func (q *Queue) carry(ctx context.Context, c Courier, r *Row, f *flight) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		// After an overrun lease the row may fly again, as another flight.
		if key := (rowKey{r.Message, r.Number}); q.flying[key] == f {
			delete(q.flying, key)
		}
		close(f.done)
	}()
	m, e, body, ok := q.hot.take(rowKey{r.Message, r.Number})
	if !ok {
		var err error
		if m, e, err = q.recall(ctx, r); err != nil {
			// It stays leased, so it is out of the way until the lease runs out.
			q.log.Error("queue: a claimed envelope cannot be read", "msg", r.Message, "err", err)
			return
		}
	}
	e.Due = r.Due
	landing := func(ctx context.Context, r *Row, t trial) {
		q.mu.Lock()
		f.landing = true
		t.verb = f.verb
		q.mu.Unlock()
		// What the courier did must be written although we may be stopping.
		q.land(context.WithoutCancel(ctx), r, t)
	}
	var rep *Report
	// What the clock's own jump brought over its time gets one more try.
	now := q.now()
	if (now.Before(q.tuned.Load().deadline(m)) || q.clock.leaped(r.Due)) && !e.Held {
		if q.park(ctx, r, trial{message: m, envelope: *e, now: now.UTC()}, landing) {
			return
		}
		rep = q.deliver(ctx, c, &Lease{
			Message: *m, Envelope: *e, Until: r.Until, body: q.opener(m.ID, body),
		})
	}
	landing(ctx, r, trial{message: m, envelope: *e, report: rep, now: q.now().UTC(), jitter: rand.Float64()})
}

// recall reads a claimed row. One that came without data, because it was still kept in
// memory a moment ago, is read anew.
func (q *Queue) recall(ctx context.Context, r *Row) (*Message, *Envelope, error) {
	if r.Data == nil {
		record, rows, err := q.store.Read(ctx, r.Message)
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			if rows[i].Number == r.Number {
				r.Data, r.Record, r.Lane, r.Damage = rows[i].Data, record, rows[i].Lane, rows[i].Damage
			}
		}
	}
	if r.Damage != nil {
		return nil, nil, r.Damage
	}
	return decode(r)
}

// deliver calls the courier. One that panics has deferred its envelope.
func (q *Queue) deliver(ctx context.Context, c Courier, l *Lease) (rep *Report) {
	ctx, cancel := context.WithDeadline(ctx, l.Until.Add(-leaseMargin))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("queue: courier panicked", "msg", l.Message.ID, "env", l.Envelope.ID, "panic", p, "stack", string(debug.Stack()))
			rep = &Report{}
			for i := range l.Envelope.Recipients {
				rep.Outcomes = append(rep.Outcomes, Outcome{Recipient: i, Failure: &policy.Failure{Reason: policy.Internal}})
			}
		}
	}()
	// The courier gets slices of its own.
	own := *l
	own.Envelope.Recipients = append([]Recipient(nil), l.Envelope.Recipients...)
	r := c.Deliver(ctx, &own)
	return &r
}

// land settles and commits. An error of the store is waited out for a while; then
// the lease runs out and the envelope is tried again.
func (q *Queue) land(ctx context.Context, r *Row, t trial) {
	s := q.tuned.Load().settle(t)
	if t.report != nil && q.o.Short != nil && q.o.Short() {
		defer func() { q.lean.landed(s.done) }()
	}
	err := q.commit(ctx, r, &t, &s)
	if err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitRetry)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrStale):
			q.log.Warn("queue: the lease had run out: its result is void", "msg", r.Message, "env", s.envelope.ID)
			return
		}
		q.log.Error("queue: commit failed", "msg", r.Message, "env", s.envelope.ID, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err = q.commit(ctx, r, &t, &s)
	}
}

// commit writes a settlement with its notices and journal entry in one step and
// tells the observers. A terminal state, its entry and its notice cannot be apart.
func (q *Queue) commit(ctx context.Context, r *Row, t *trial, s *settlement) error {
	change, notices := &Change{}, q.compose(ctx, s)
	if err := q.write(change, r, s, notices); err != nil {
		return err
	}
	put := q.store.Commit
	if s.quiet() {
		put = q.together.commit
	}
	if err := put(ctx, change); err != nil {
		for _, n := range notices {
			q.hot.abandon(n.message.ID)
		}
		return err
	}
	q.settled(t.message, s)
	for _, n := range notices {
		q.accepted(n.message, n.recipients)
		if q.o.Observer != nil {
			q.o.Observer.Noticed(n.kind)
		}
	}
	return nil
}

// write adds a settlement with its notices to a change.
func (q *Queue) write(change *Change, r *Row, s *settlement, notices []composed) error {
	q.hot.drop(rowKey{r.Message, r.Number}) // before it can be claimed as it will be
	if s.done {
		change.Remove = append(change.Remove, Row{Message: r.Message, Number: r.Number, Lane: string(s.envelope.Lane), Group: r.Group, Fence: r.Fence})
	} else {
		next, err := row(&s.envelope, s.due, r.Number)
		if err != nil {
			return err
		}
		next.Group, next.Fence, next.Rest = r.Group, r.Fence, s.rest
		change.Update = append(change.Update, next)
	}
	entry := s.entry
	for _, n := range notices {
		change.Insert = append(change.Insert, n.in)
		entry.Notices = append(entry.Notices, n.kind)
	}
	if s.quiet() {
		return nil
	}
	line, err := marshalEntry(&entry)
	if err != nil {
		return err
	}
	change.Entries, change.Subjects = append(change.Entries, line), append(change.Subjects, r.Message)
	return nil
}

// marshalEntry writes an entry; a courier's record that is no JSON is left out.
func marshalEntry(j *JournalEntry) ([]byte, error) {
	if len(j.Attempt) > 0 && !json.Valid(j.Attempt) {
		j.Attempt = nil
	}
	return j.appendJSON(make([]byte, 0, 512+len(j.Attempt)))
}

// settled spreads the news of a settlement that is on disk.
func (q *Queue) settled(m *Message, s *settlement) {
	q.news.broadcast()
	q.rouse()
	if q.o.Observer != nil && len(s.changed) > 0 {
		q.o.Observer.Settled(m, &s.envelope, s.changed)
	}
	if q.log.Enabled(context.Background(), slog.LevelDebug) { // what nobody reads is not gathered
		q.log.Debug("settled", "msg", m.ID, "env", s.envelope.ID, "domain", s.envelope.Lane,
			"tries", s.envelope.Tries, "done", s.done, "due", s.due)
	}
}

// composed is a notice on its way into a commit.
type composed struct {
	kind       NoticeKind
	in         *Insertion
	message    *Message
	recipients int
}

// compose has the notices of a settlement written. A fault of the composer loses
// the notice, not the settlement.
func (q *Queue) compose(ctx context.Context, s *settlement) []composed {
	if q.o.Composer == nil || len(s.notices) == 0 {
		return nil
	}
	var list []composed
	original := q.original(ctx, s.envelope.Message)
	for _, n := range s.notices {
		n.Original = original
		c, err := q.composeOne(n)
		if err != nil {
			q.log.Error("queue: a notice could not be written", "msg", n.Message.ID, "env", n.Envelope.ID, "kind", n.Kind, "err", err)
			continue
		}
		if c != nil {
			list = append(list, *c)
		}
	}
	return list
}

func (q *Queue) composeOne(n Notice) (_ *composed, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the composer panicked: " + string(debug.Stack()))
		}
	}()
	d, err := q.o.Composer.Compose(n)
	if err != nil || d == nil {
		return nil, err
	}
	// Read now: a reader that fails must not fail the commit.
	body, err := io.ReadAll(d.Body)
	if err != nil {
		return nil, err
	}
	own := *d
	own.Body = bytes.NewReader(body)
	own.Message.Sender = Address{} // RFC 3464 2: a notice has the null reverse path
	if own.Message.Listener == "" {
		own.Message.Listener = "dsn"
	}
	in, m, count, err := q.insertion(&own)
	if err != nil {
		return nil, err
	}
	return &composed{n.Kind, in, m, count}, nil
}

// original returns the beginning of a message's content, nil when it cannot be read.
func (q *Queue) original(ctx context.Context, id ID) []byte {
	body, err := q.store.Body(ctx, id)
	if err != nil {
		q.log.Error("queue: no original for a notice", "msg", id, "err", err)
		return nil
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, originalSize))
	if err != nil {
		q.log.Error("queue: no original for a notice", "msg", id, "err", err)
		return nil
	}
	return b
}
