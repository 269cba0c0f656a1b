package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// courier carries by a function.
type courier func(context.Context, *queue.Lease) queue.Report

func (c courier) Deliver(ctx context.Context, l *queue.Lease) queue.Report { return c(ctx, l) }

// all is one kind of outcome for every pending recipient.
func all(l *queue.Lease, o queue.Outcome) queue.Report {
	var r queue.Report
	for i := range l.Envelope.Recipients {
		if l.Envelope.Recipients[i].State == queue.Pending {
			o.Recipient = i
			r.Outcomes = append(r.Outcomes, o)
		}
	}
	return r
}

func deliver(_ context.Context, l *queue.Lease) queue.Report {
	return all(l, queue.Outcome{Kind: queue.DeliveredNow})
}

func refuse(_ context.Context, l *queue.Lease) queue.Report {
	return all(l, queue.Outcome{Failure: &policy.Failure{Reason: policy.ReplyTemporary}})
}

func address(t testing.TB, s string) queue.Address {
	t.Helper()
	a, err := queue.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func draft(t testing.TB, to ...string) *queue.Draft {
	t.Helper()
	d := &queue.Draft{Message: queue.Message{Listener: "test", Sender: address(t, "app@sender.example")}, Body: strings.NewReader("Subject: hi\r\n\r\nhello\r\n")}
	for _, a := range to {
		d.Recipients = append(d.Recipients, queue.Recipient{Address: address(t, a)})
	}
	return d
}

// house is a queue that runs in a synctest bubble.
type house struct {
	t     *testing.T
	q     *queue.Queue
	store *storetest.Model
	stop  func() // ends Run and waits
	start time.Time
}

func run(t *testing.T, o queue.Options, c courier) *house {
	t.Helper()
	h := &house{t: t, start: time.Now()}
	if o.Store == nil {
		h.store = storetest.NewModel()
		o.Store = h.store
	}
	q, err := queue.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.q = q
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, c) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return h
}

func (h *house) enqueue(to ...string) queue.ID {
	h.t.Helper()
	id, err := h.q.Enqueue(h.t.Context(), draft(h.t, to...))
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

// journal returns the entries, which it checks: each accepted recipient has at most
// one final entry, and none is left out of those of messages that are gone.
func (h *house) journal() []queue.JournalEntry {
	h.t.Helper()
	var list []queue.JournalEntry
	accepted, final := make(map[string]int), make(map[string]int)
	err := h.store.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		var e queue.JournalEntry
		if err := json.Unmarshal(it.Entry, &e); err != nil {
			return err
		}
		list = append(list, e)
		for _, r := range e.Recipients {
			name := fmt.Sprint(e.Message, " ", r.Address)
			if e.Kind == queue.EntryAccepted {
				accepted[name]++
			} else if r.State != queue.Pending {
				final[name]++
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	pending := make(map[string]bool)
	err = h.q.List(context.Background(), queue.Filter{}, func(e queue.Entry) error {
		for _, r := range e.Envelope.Recipients {
			pending[fmt.Sprint(e.Message.ID, " ", r.Address)] = r.State == queue.Pending
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for name, n := range accepted {
		want := 1
		if pending[name] {
			want = 0
		}
		if n != 1 || final[name] != want {
			h.t.Errorf("%s: %d accepted and %d final entries, pending %v", name, n, final[name], pending[name])
		}
	}
	return list
}

func (h *house) entries() []queue.Entry {
	h.t.Helper()
	var list []queue.Entry
	if err := h.q.List(context.Background(), queue.Filter{}, func(e queue.Entry) error { list = append(list, e); return nil }); err != nil {
		h.t.Fatal(err)
	}
	return list
}

// postmaster composes notices that can be read by tests.
type postmaster struct {
	mu  sync.Mutex
	got []queue.Notice
}

func (p *postmaster) notices() []queue.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *postmaster) Compose(n queue.Notice) (*queue.Draft, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, n)
	return &queue.Draft{
		Recipients: []queue.Recipient{{Address: n.Message.Sender, Notify: queue.NotifyNever}},
		Body:       strings.NewReader("Subject: " + n.Kind.String() + "\r\n\r\n"),
	}, nil
}
