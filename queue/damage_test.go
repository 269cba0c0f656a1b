package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// damagedStore cannot read some messages.
type damagedStore struct {
	queue.Store
	bad []queue.ID
}

var errSeal = errors.New("the seal does not hold")

func (s *damagedStore) spoil(r *queue.Row) {
	if slices.Contains(s.bad, r.Message) {
		r.Damage, r.Data, r.Record, r.Lane = errSeal, nil, nil, ""
	}
}

func (s *damagedStore) Read(ctx context.Context, id queue.ID) ([]byte, []queue.Row, error) {
	record, rows, err := s.Store.Read(ctx, id)
	for i := range rows {
		s.spoil(&rows[i])
	}
	return record, rows, err
}

func (s *damagedStore) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	return s.Store.Scan(ctx, q, func(it queue.Item) error {
		s.spoil(&it.Row)
		return fn(it)
	})
}

// TestDamagedEnvelopes: an operator sees what cannot be read, by nothing but ID, age and state, and
// only a drop does something to it, under a lease too.
func TestDamagedEnvelopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ids := stocked(t)
		s := &damagedStore{h.store, ids[1:2]}
		q, err := queue.New(queue.Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.store.Claim(t.Context(), queue.ClaimQuery{Now: time.Now(), Until: time.Now().Add(time.Hour), Limit: 10}); err != nil {
			t.Fatal(err)
		}
		list := func(f queue.Filter) (list []queue.Entry) {
			if err := q.List(t.Context(), f, func(e queue.Entry) error { list = append(list, e); return nil }); err != nil {
				t.Error(err)
			}
			return list
		}
		for _, c := range []struct {
			name   string
			filter queue.Filter
			seen   bool
		}{
			{"all", queue.Filter{}, true},
			{"state", queue.Filter{State: "damaged"}, true},
			{"its ID", queue.Filter{ID: string(ids[1])}, true},
			{"its age", queue.Filter{OlderThan: time.Minute}, true},
			{"younger", queue.Filter{OlderThan: time.Hour}, false},
			{"another state", queue.Filter{State: "leased"}, false},
			{"its domain, which is not known", queue.Filter{Domain: ".one.example"}, false},
			{"its sender, which is not known", queue.Filter{Sender: "<>"}, false},
			{"a reason", queue.Filter{Reason: "internal"}, false},
		} {
			i := slices.IndexFunc(list(c.filter), func(e queue.Entry) bool { return e.State == queue.RowDamaged })
			if (i >= 0) != c.seen {
				t.Errorf("%s: at %d", c.name, i)
			}
		}
		shown, err := q.Show(t.Context(), ids[1])
		if err != nil || len(shown) != 1 || shown[0].Damage != errSeal.Error() || shown[0].Message.ID != ids[1] || shown[0].Message.AcceptedAt.IsZero() {
			t.Errorf("shown %+v, %v", shown, err)
		}
		for _, verb := range []queue.Verb{queue.VerbHold, queue.VerbRetry, queue.VerbRelease} {
			if n, err := q.Act(t.Context(), queue.Action{Verb: verb}, queue.Filter{State: "damaged"}); n != 0 || err != nil {
				t.Errorf("%s: %d, %v", verb, n, err)
			}
		}
		if n, err := q.Act(t.Context(), queue.Action{Verb: queue.VerbDrop}, queue.Filter{State: "damaged"}); n != 1 || err != nil {
			t.Errorf("dropped %d, %v", n, err)
		}
		if left := list(queue.Filter{}); len(left) != 3 {
			t.Errorf("%d are left", len(left))
		}
		var last queue.JournalEntry
		if err := h.store.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
			var e queue.JournalEntry
			err := json.Unmarshal(it.Entry, &e)
			if e.Kind != queue.EntryOperator { // that of the order as a whole
				last = e
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if last.Kind != queue.EntryAction || last.Verb != queue.VerbDrop || last.Envelope != ids[1].EnvelopeID(0) {
			t.Errorf("journal ends with %+v", last)
		}
	})
}
