package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// stocked is a queue that nobody runs, with four envelopes of three messages.
func stocked(t *testing.T) (*house, []queue.ID) {
	t.Helper()
	h := &house{t: t, store: storetest.NewModel(), start: time.Now()}
	var err error
	if h.q, err = queue.New(queue.Options{Store: h.store}); err != nil {
		t.Fatal(err)
	}
	var ids []queue.ID
	for _, to := range [][]string{{"a@one.example", "b@two.example"}, {"c@sub.one.example"}, {"d@one.example"}} {
		d := draft(t, to...)
		if len(ids) == 1 {
			d.Message.Sender = queue.Address{}
		}
		id, err := h.q.Enqueue(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		time.Sleep(time.Minute)
	}
	return h, ids
}

func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ids := stocked(t)
		if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbHold}, queue.Filter{Domain: "two.example"}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		for _, c := range []struct {
			name   string
			filter queue.Filter
			want   string
		}{
			{"all, by ID", queue.Filter{}, "a b c d"},
			{"limit", queue.Filter{Limit: 2}, "a b"},
			{"message", queue.Filter{ID: string(ids[0])}, "a b"},
			{"envelope", queue.Filter{ID: string(ids[0].EnvelopeID(1))}, "b"},
			{"envelope that is not there", queue.Filter{ID: string(ids[0].EnvelopeID(2))}, ""},
			{"message that is not there", queue.Filter{ID: string(queue.NewID(time.Now()))}, ""},
			{"domain", queue.Filter{Domain: "One.Example"}, "a d"},
			{"domains below", queue.Filter{Domain: ".one.example"}, "c"},
			{"sender", queue.Filter{Sender: "app@sender.example"}, "a b d"},
			{"sender's domain", queue.Filter{Sender: "@sender.example"}, "a b d"},
			{"null reverse path", queue.Filter{Sender: "<>"}, "c"},
			{"held", queue.Filter{State: "held"}, "b"},
			{"waiting", queue.Filter{State: "waiting"}, "a c d"},
			{"leased", queue.Filter{State: "leased"}, ""},
			{"older", queue.Filter{OlderThan: 2 * time.Minute}, "a b c"},
			{"reason", queue.Filter{Reason: "reply-temporary"}, ""},
			{"two at once", queue.Filter{Domain: "one.example", OlderThan: 2 * time.Minute}, "a"},
		} {
			var got []string
			err := h.q.List(t.Context(), c.filter, func(e queue.Entry) error {
				got = append(got, e.Envelope.Recipients[0].Address.Local)
				return nil
			})
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
			}
		}
		for _, bad := range []queue.Filter{{ID: "x"}, {State: "lost"}, {State: "unset"}, {Reason: "none"}, {Domain: "a..b"}, {Domain: "b\u00fc..de"}, {Sender: "x"}, {Sender: "@a..b"}} {
			var mistake *queue.FilterError
			if err := h.q.List(t.Context(), bad, func(queue.Entry) error { return nil }); !errors.As(err, &mistake) || mistake.Detail == "" {
				t.Errorf("filter %+v: %v, want a FilterError", bad, err)
			}
			if _, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbDrop}, bad); !errors.As(err, &mistake) || mistake.Detail == "" {
				t.Errorf("filter %+v for a drop: %v, want a FilterError", bad, err)
			}
		}
		if list, err := h.q.Show(t.Context(), ids[0]); err != nil || len(list) != 2 || list[1].State != queue.RowHeld || !list[1].Envelope.Held {
			t.Errorf("Show: %+v, %v", list, err)
		}
		if _, err := h.q.Show(t.Context(), queue.NewID(time.Now())); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Show: %v, want ErrNotFound", err)
		}
		var mistake *queue.FilterError
		if _, err := h.q.Show(t.Context(), "NOPE"); !errors.As(err, &mistake) || !strings.Contains(mistake.Detail, `"NOPE" is no message ID`) {
			t.Errorf("Show of what is no ID: %v", err)
		}
	})
}

func TestAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ids := stocked(t)
		act := func(v queue.Verb, f queue.Filter, want int) {
			t.Helper()
			for _, dry := range []bool{true, false} {
				n, err := h.q.Act(t.Context(), queue.Action{Verb: v, DryRun: dry}, f)
				if err != nil || n != want {
					t.Errorf("%s (dry run %v): %d, %v, want %d", v, dry, n, err, want)
				}
			}
		}
		states := func() string {
			var got []string
			for _, e := range h.entries() {
				got = append(got, e.State.String())
			}
			return strings.Join(got, " ")
		}
		act(queue.VerbHold, queue.Filter{}, 4)
		act(queue.VerbHold, queue.Filter{}, 0)
		act(queue.VerbRetry, queue.Filter{}, 0)
		if got := states(); got != "held held held held" {
			t.Errorf("states %s", got)
		}
		act(queue.VerbRelease, queue.Filter{Domain: "one.example"}, 2)
		act(queue.VerbRelease, queue.Filter{Domain: "one.example"}, 0)
		if got := states(); got != "waiting held held waiting" {
			t.Errorf("states %s", got)
		}
		act(queue.VerbDrop, queue.Filter{ID: string(ids[0])}, 2)
		act(queue.VerbDrop, queue.Filter{Limit: 1}, 1)
		if got := states(); got != "waiting" {
			t.Errorf("states %s", got)
		}
		act(queue.VerbRetry, queue.Filter{}, 1)
		var mistake *queue.FilterError
		if _, err := h.q.Act(t.Context(), queue.Action{Verb: "burn"}, queue.Filter{}); !errors.As(err, &mistake) {
			t.Errorf("an unknown verb: %v", err)
		}
		verbs := make(map[queue.Verb]int)
		for _, e := range h.journal() {
			if e.Kind == queue.EntryAction {
				verbs[e.Verb]++
			}
		}
		if fmt.Sprint(verbs) != "map[drop:3 hold:4 release:2 retry:1]" {
			t.Errorf("the journal tells %v", verbs)
		}
	})
}

// A retry is tried now, not when it is due.
func TestActRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		h := run(t, queue.Options{Schedule: []time.Duration{time.Hour}}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if tries++; tries == 2 {
				return deliver(ctx, l)
			}
			return refuse(ctx, l)
		})
		h.enqueue("a@one.example")
		synctest.Wait()
		if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{Reason: "reply-temporary"}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		synctest.Wait()
		if left := h.entries(); len(left) != 0 || tries != 2 || time.Since(h.start) != 0 {
			t.Errorf("%d tries, %d left, after %v", tries, len(left), time.Since(h.start))
		}
		h.stop()
	})
}

// What is done to a leased envelope is done when its lease ends.
func TestActOnLeased(t *testing.T) {
	for verb, want := range map[queue.Verb]string{
		queue.VerbHold: "held tries=1", queue.VerbDrop: "gone", queue.VerbRetry: "gone",
	} {
		t.Run(string(verb), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, finish := make(chan bool, 9), make(chan bool)
				n := 0
				h := run(t, queue.Options{Schedule: []time.Duration{time.Hour}}, func(ctx context.Context, l *queue.Lease) queue.Report {
					begun <- true
					<-finish
					if n++; n == 2 {
						return deliver(ctx, l)
					}
					return refuse(ctx, l)
				})
				h.enqueue("a@one.example")
				<-begun
				if n, err := h.q.Act(t.Context(), queue.Action{Verb: verb}, queue.Filter{}); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				if left := h.entries(); len(left) != 1 || left[0].State != queue.RowLeased {
					t.Fatalf("a leased envelope was not left alone: %+v", left)
				}
				close(finish)
				synctest.Wait()
				got := "gone"
				if left := h.entries(); len(left) == 1 {
					got = fmt.Sprintf("%s tries=%d", left[0].State, left[0].Envelope.Tries)
				}
				if got != want {
					t.Errorf("it is %s, want %s", got, want)
				}
				h.stop()
				h.journal()
			})
		})
	}
}

// The operator's hand while the engine works: nothing is lost or done twice.
func TestActInMotion(t *testing.T) {
	t.Parallel()
	s := storetest.NewModel()
	q, err := queue.New(queue.Options{Store: s, Workers: 8})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	delivered := make(map[queue.EnvelopeID]int)
	done := make(chan error, 1)
	go func() {
		done <- q.Run(ctx, courier(func(ctx context.Context, l *queue.Lease) queue.Report {
			mu.Lock()
			delivered[l.Envelope.ID]++
			mu.Unlock()
			return deliver(ctx, l)
		}))
	}()
	const n = 400
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if _, err := q.Enqueue(ctx, draft(t, fmt.Sprintf("u%d@%d.example", i, i%5))); err != nil {
				t.Error(err)
			}
		}
	})
	for _, v := range []queue.Verb{queue.VerbHold, queue.VerbRelease, queue.VerbRetry} {
		wg.Go(func() {
			for range 20 {
				if _, err := q.Act(ctx, queue.Action{Verb: v}, queue.Filter{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for left := 1; left > 0; {
		if _, err := q.Act(ctx, queue.Action{Verb: queue.VerbRelease}, queue.Filter{}); err != nil {
			t.Fatal(err)
		}
		st := q.Stats()
		left = st.Envelopes["waiting"] + st.Envelopes["leased"] + st.Envelopes["held"]
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(delivered) != n {
		t.Errorf("%d envelopes were delivered, want %d", len(delivered), n)
	}
	for id, k := range delivered {
		if k != 1 {
			t.Errorf("%s was delivered %d times", id, k)
		}
	}
	(&house{t: t, q: q, store: s}).journal()
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t, queue.Options{}, deliver)
		var got []string
		follow := func(ctx context.Context, fail error) error {
			return h.q.Follow(ctx, "reader", func(b []byte) error {
				var e queue.JournalEntry
				if err := json.Unmarshal(b, &e); err != nil {
					t.Error(err)
				}
				if fail != nil && e.Kind == queue.EntrySettled {
					return fail
				}
				got = append(got, string(e.Kind)+" "+e.Recipients[0].Address.Local)
				return nil
			})
		}
		h.enqueue("a@one.example")
		synctest.Wait()
		broken := errors.New("broken")
		if err := follow(t.Context(), broken); err != broken {
			t.Fatalf("Follow: %v, want fn's error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- follow(ctx, nil) }()
		synctest.Wait()
		h.enqueue("b@one.example")
		synctest.Wait()
		if want := []string{"accepted a", "settled a", "accepted b", "settled b"}; !slices.Equal(got, want) {
			t.Errorf("followed %q, want %q", got, want)
		}
		time.Sleep(2 * time.Second) // the cursor is saved although nothing happens
		before, _ := h.store.Cell(t.Context(), "follow/reader")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow: %v", err)
		}
		after, _ := h.store.Cell(t.Context(), "follow/reader")
		if len(before) == 0 || string(before) != string(after) {
			t.Errorf("cursor is %q while idle, %q at the end", before, after)
		}
		// Another time, nothing comes twice; another reader gets all.
		h.enqueue("c@one.example")
		synctest.Wait()
		got = nil
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- follow(ctx, nil) }()
		synctest.Wait()
		cancel()
		<-done
		if want := []string{"accepted c", "settled c"}; !slices.Equal(got, want) {
			t.Errorf("followed %q, want %q", got, want)
		}
		n := 0
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- h.q.Follow(ctx, "other", func([]byte) error { n++; return nil }) }()
		synctest.Wait()
		cancel()
		<-done
		if n != 6 {
			t.Errorf("another reader got %d entries, want 6", n)
		}
		h.stop()
	})
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &watcher{}
		h := run(t, queue.Options{Observer: o, Composer: &postmaster{}}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if l.Message.Sender.IsNull() {
				return deliver(ctx, l)
			}
			r := deliver(ctx, l)
			r.Outcomes[0] = queue.Outcome{Kind: queue.BouncedNow, Failure: &policy.Failure{Reason: policy.ReplyPermanent}}
			return r
		})
		h.enqueue("a@one.example", "b@one.example")
		synctest.Wait()
		h.stop()
		want := []string{"accepted test 2", "settled bounced delivered", "accepted dsn 1", "noticed failed", "settled delivered"}
		if slices.Sort(o.got); !slices.Equal(o.got, slices.Sorted(slices.Values(want))) {
			t.Errorf("observed %q, want %q", o.got, want)
		}
	})
}

type watcher struct {
	mu  sync.Mutex
	got []string
}

func (w *watcher) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, s)
}

func (w *watcher) Accepted(m *queue.Message, n int) {
	w.add(fmt.Sprint("accepted ", m.Listener, " ", n))
}
func (w *watcher) Noticed(k queue.NoticeKind) { w.add("noticed " + k.String()) }
func (w *watcher) Settled(_ *queue.Message, e *queue.Envelope, o []queue.Outcome) {
	s := "settled"
	for _, x := range o {
		s += " " + e.Recipients[x.Recipient].State.String()
	}
	w.add(s)
}

// An order with a limit does it to as many as it says, however its batches fall.
func TestActLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewModel()
		q, err := queue.New(queue.Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		h := &house{t: t, q: q, store: s}
		for i := range 700 {
			h.enqueue(fmt.Sprintf("u%d@one.example", i))
		}
		// Some are leased by nobody of this process: each is waited for.
		now := time.Now()
		if rows, _, err := h.store.Claim(t.Context(), queue.ClaimQuery{Now: now, Until: now.Add(time.Second / 2), Limit: 5}); err != nil || len(rows) != 5 {
			t.Fatal(rows, err)
		}
		go func() {
			time.Sleep(600 * time.Millisecond)
			_, _, _ = h.store.Claim(t.Context(), queue.ClaimQuery{Now: time.Now()}) // leases run out when somebody looks
		}()
		left := 700
		for _, limit := range []int{1, 7, 300, 256} {
			if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbDrop}, queue.Filter{Domain: "one.example", Limit: limit}); n != limit || err != nil {
				t.Errorf("limit %d: %d, %v", limit, n, err)
			}
			if left -= limit; len(h.entries()) != left {
				t.Errorf("limit %d: %d are left, want %d", limit, len(h.entries()), left)
			}
		}
	})
}
