package queue

import (
	"context"
	"time"
)

// RowDamaged is the state in which an operator sees an envelope that cannot be read. No
// store knows it: the row waits or is leased, and nothing but its name is known.
const RowDamaged = RowHeld + 1

// entry reads a row for an operator. Of one that cannot be read it tells why.
func entry(r *Row) *Entry {
	var m *Message
	var e *Envelope
	err := r.Damage
	if err == nil {
		m, e, err = decode(r)
	}
	if err != nil {
		r.Damage = err
		return &Entry{
			Message:  Message{ID: r.Message, AcceptedAt: r.Message.Time()},
			Envelope: Envelope{ID: r.Message.EnvelopeID(r.Number), Message: r.Message, Due: r.Due},
			State:    RowDamaged, Damage: err.Error(),
		}
	}
	e.Due = r.Due
	return &Entry{Message: *m, Envelope: *e, State: r.State}
}

// dropDamaged removes a row that cannot be read, with what the journal can say of it. There
// is no notice: to whom is not known.
func (q *Queue) dropDamaged(ctx context.Context, r *Row) error {
	j := JournalEntry{
		Version: JournalVersion, Kind: EntryAction, At: time.Now().UTC(), Verb: VerbDrop,
		Message: r.Message, Envelope: r.Message.EnvelopeID(r.Number), AcceptedAt: r.Message.Time(),
	}
	q.hot.drop(rowKey{r.Message, r.Number})
	line, err := marshalEntry(&j)
	if err != nil {
		return err
	}
	if err := q.store.Commit(ctx, &Change{Remove: []Row{*r}, Entries: [][]byte{line}}); err != nil {
		return err
	}
	q.news.broadcast()
	return nil
}
