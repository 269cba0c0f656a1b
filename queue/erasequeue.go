package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// lookAtQueue finds the envelopes of the person, counts them, and takes it out of them when
// it is told to. It returns their messages.
func (w *erasure) lookAtQueue(ctx context.Context, remove bool) (map[ID]bool, error) {
	m, err := Filter{}.compile(time.Now())
	if err != nil {
		return nil, err
	}
	messages, seen := make(map[ID]bool), 0
	err = w.q.each(ctx, m, func(r *Row, e *Entry) error {
		if seen++; seen%newsEach == 0 {
			w.o.News("queue", seen, w.res.Envelopes)
		}
		switch {
		case e.State == RowDamaged:
			w.res.Unreadable++
			return nil
		case !w.means(&e.Message, &e.Envelope):
			return nil
		}
		w.res.Envelopes++
		messages[e.Message.ID] = true
		if len(messages) > w.o.Limit || !remove {
			return nil
		}
		return w.takeOut(ctx, r)
	})
	return messages, err
}

const newsEach = 10_000 // things that are looked at between two news

func (w *erasure) means(m *Message, e *Envelope) bool {
	return w.p.is(m.Sender) || slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return w.p.has(&r) })
}

// left counts the messages that go on for others.
func (w *erasure) left(ctx context.Context, messages map[ID]bool) (n int, err error) {
	for id := range messages {
		rows, err := w.q.rows(ctx, string(id))
		if err != nil {
			return 0, err
		}
		if len(rows) > 0 {
			n++
		}
	}
	return n, nil
}

// takeOut takes the person out of one row, however that moves meanwhile.
func (w *erasure) takeOut(ctx context.Context, r *Row) error {
	for tries := 0; ; tries++ {
		if wait := w.inDelivery(r, tries); wait != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-wait:
			}
		} else if err := w.strike(ctx, r); !errors.Is(err, ErrStale) {
			return err
		}
		record, rows, err := w.q.store.Read(ctx, r.Message)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(x Row) bool { return x.Number == r.Number })
		if i < 0 {
			return nil
		}
		if tries > 10_000 {
			return fmt.Errorf("queue: envelope %s does not stand still", r.Message.EnvelopeID(r.Number))
		}
		r = &rows[i]
		r.Record = record
	}
}

// inDelivery returns what ends when a row may have come back; nil when nobody has it.
func (w *erasure) inDelivery(r *Row, tries int) <-chan struct{} {
	if r.State != RowLeased {
		return nil
	}
	w.q.mu.Lock()
	f := w.q.flying[rowKey{r.Message, r.Number}]
	w.q.mu.Unlock()
	switch {
	case f != nil:
		w.o.News("delivery", 0, w.res.Envelopes)
		return f.done
	case tries > 100:
		return nil // nobody of this process: its lease only runs out
	}
	// It may have been claimed a moment ago, or come back.
	soon := make(chan struct{})
	time.AfterFunc(10*time.Millisecond, func() { close(soon) })
	return soon
}

// strike takes the person out of a row. Recipients keep their numbers: the person's place
// stays, with a state and no name.
func (w *erasure) strike(ctx context.Context, r *Row) error {
	m, e, err := decode(r)
	if err != nil || !w.means(m, e) {
		return err
	}
	now := time.Now().UTC()
	j := JournalEntry{
		Version: JournalVersion, Kind: EntryErased, Was: EntryAction, At: now, Domain: e.Lane, AcceptedAt: m.AcceptedAt,
		Listener: m.Listener, Credential: m.Credential, Stream: m.Stream, Verb: VerbDrop,
	}
	all := w.p.is(m.Sender)
	var changed []Outcome
	for i := range e.Recipients {
		x := &e.Recipients[i]
		if !all && !w.p.has(x) {
			continue
		}
		state := x.State
		if state == Pending {
			state = Dropped
			changed = append(changed, Outcome{Recipient: i, At: now})
			j.Recipients = append(j.Recipients, JournalRecipient{Number: i, State: Dropped})
		}
		*x = Recipient{State: state}
	}
	next, err := row(e, r.Due, r.Number)
	if err != nil {
		return err
	}
	next.Group, next.Fence = r.Group, r.Fence
	c := &Change{}
	if slices.ContainsFunc(e.Recipients, func(x Recipient) bool { return x.State == Pending }) {
		c.Update = []Row{next}
	} else {
		c.Remove = []Row{next}
	}
	if len(changed) > 0 {
		line, err := marshalEntry(&j)
		if err != nil {
			return err
		}
		c.Entries = [][]byte{line}
	}
	w.q.hot.drop(rowKey{r.Message, r.Number}) // it has the envelope as it was
	if err := w.q.store.Commit(ctx, c); err != nil {
		return err
	}
	w.q.settled(m, &settlement{envelope: *e, done: len(c.Remove) > 0, due: r.Due, changed: changed})
	return nil
}
