package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// forgetful is the model with a key for each message's entries, which it can lose.
type forgetful struct {
	*storetest.Model
	lost   map[string]bool
	during func() // called while entries are erased
}

func (s *forgetful) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	return s.Model.Scan(ctx, q, func(it queue.Item) error {
		if q.Kind == queue.ScanJournal {
			var j queue.JournalEntry
			if err := json.Unmarshal(it.Entry, &j); err != nil {
				return err
			}
			if it.Key = string(j.Message); it.Key == "" {
				it.Key = "entry " + it.Pos
			}
			if s.lost[it.Key] {
				return nil
			}
		}
		return fn(it)
	})
}

func (s *forgetful) Retire(context.Context, []string) error { return nil }
func (s *forgetful) Mark(text string) string                { return "mark of " + text }

func (s *forgetful) EraseEntries(_ context.Context, keys []string) (uint64, error) {
	if s.during != nil {
		s.during()
	}
	for _, k := range keys {
		s.lost[k] = true
	}
	return 1, nil
}

// TestErasureRefused: what cannot be erased, or should not at once, is left as it is.
func TestErasureRefused(t *testing.T) {
	t.Parallel()
	s := &forgetful{Model: storetest.NewModel(), lost: map[string]bool{}}
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	const limit = 50
	shop, ann := address(t, "reviews@shop.example"), address(t, "ann@a.example")
	for i := range limit + 1 {
		d := draft(t, fmt.Sprintf("customer%d@a.example", i))
		d.Message.Sender = shop
		if _, err := q.Enqueue(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if res, err := q.Erase(t.Context(), shop, queue.EraseOptions{Limit: limit}); !errors.Is(err, queue.ErrNotAPerson) || res.Done {
		t.Errorf("an application's address: %+v, %v", res, err)
	}
	if n := q.Stats().Envelopes["waiting"]; n != limit+1 {
		t.Errorf("%d envelopes wait", n)
	}
	if res, err := q.Erase(t.Context(), ann, queue.EraseOptions{}); !errors.Is(err, queue.ErrNobody) || res.Done || len(res.Before) != 0 {
		t.Errorf("nobody: %+v, %v", res, err)
	}
	var bad *queue.FilterError
	if _, err := q.Erase(t.Context(), queue.Address{}, queue.EraseOptions{}); !errors.As(err, &bad) {
		t.Errorf("the null address: %v", err)
	}
	if err := q.Export(t.Context(), queue.Address{}, nil); !errors.As(err, &bad) {
		t.Errorf("export of the null address: %v", err)
	}
	s.during = func() {
		if _, err := q.Erase(t.Context(), ann, queue.EraseOptions{}); !errors.Is(err, queue.ErrErasing) {
			t.Errorf("two at once: %v", err)
		}
	}
	res, err := q.Erase(t.Context(), address(t, "Customer7@a.example"), queue.EraseOptions{By: "uid 7"})
	if err != nil || !res.Done || res.Messages != 1 || res.Entries != 1 || res.StandIns != 1 || res.By != "uid 7" || res.Subject != "mark of customer7@a.example" {
		t.Errorf("erased %+v, %v", res, err)
	}
	// Who did it stands in the journal, and what was refused does not.
	var deeds []queue.OperatorAction
	err = s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		var e queue.JournalEntry
		err := json.Unmarshal(it.Entry, &e)
		if e.Kind == queue.EntryOperator {
			deeds = append(deeds, *e.Operator)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(deeds) != 1 || deeds[0].Verb != "erase" || deeds[0].By != "uid 7" || deeds[0].Target != "receipt "+res.ID || deeds[0].Done != 2 || deeds[0].Failed != "" {
		t.Errorf("the journal has %+v", deeds)
	}
	plain, err := queue.New(queue.Options{Store: s.Model})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Erase(t.Context(), ann, queue.EraseOptions{}); !errors.Is(err, queue.ErrNoEraser) {
		t.Errorf("without encryption: %v", err)
	}
}

// TestErasureFindsAliases: the address before an alias names a person, too.
func TestErasureFindsAliases(t *testing.T) {
	t.Parallel()
	s := &forgetful{Model: storetest.NewModel(), lost: map[string]bool{}}
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	d := draft(t, "box17@hosting.example", "bob@hosting.example")
	d.Recipients[0].ORcpt = "rfc822;Ann@a.example"
	id, err := q.Enqueue(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	res, err := q.Erase(t.Context(), address(t, "ann@a.example"), queue.EraseOptions{})
	if err != nil || res.Envelopes != 1 || res.Waiting != 1 {
		t.Errorf("erased %+v, %v", res, err)
	}
	list, err := q.Show(t.Context(), id)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if r := list[0].Envelope.Recipients; len(r) != 2 || r[0] != (queue.Recipient{State: queue.Dropped}) || r[1].Address.Local != "bob" {
		t.Errorf("recipients %+v", r)
	}
}
