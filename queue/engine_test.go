package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		got := make(map[string][]string)
		h := run(t, queue.Options{}, func(ctx context.Context, l *queue.Lease) queue.Report {
			b, err := l.Body(ctx)
			if err != nil {
				t.Error(err)
			}
			defer b.Close()
			text, _ := io.ReadAll(b)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range l.Envelope.Recipients {
				got[string(l.Envelope.Lane)] = append(got[string(l.Envelope.Lane)], r.Address.Local)
			}
			if string(text) != "Subject: hi\r\n\r\nhello\r\n" || l.Message.Size != int64(len(text)) || l.Message.EightBit {
				t.Errorf("message %+v with body %q", l.Message, text)
			}
			return deliver(ctx, l)
		})
		id := h.enqueue("a@one.example", "b@TWO.example", "c@one.example", "a@one.example")
		synctest.Wait()
		h.stop()
		if fmt.Sprint(got) != "map[one.example:[a c] two.example:[b]]" {
			t.Errorf("delivered %v", got)
		}
		j := h.journal()
		if len(j) != 3 || j[0].Kind != queue.EntryAccepted || j[0].Message != id || len(j[0].Recipients) != 3 || j[1].Kind != queue.EntrySettled {
			t.Errorf("journal %+v", j)
		}
		if st := h.q.Stats(); st.Envelopes["waiting"]+st.Envelopes["leased"] != 0 {
			t.Errorf("stats %+v", st)
		}
		if time.Since(h.start) != 0 {
			t.Errorf("it took %v", time.Since(h.start))
		}
	})
}

func TestEnqueueRefuses(t *testing.T) {
	t.Parallel()
	full := false
	q, err := queue.New(queue.Options{Store: storetest.NewModel(), Gate: func() error {
		if full {
			return queue.ErrFull
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("client gone")
	bad := draft(t, "a@one.example")
	bad.Body = io.MultiReader(strings.NewReader("x"), &failing{gone})
	if _, err := q.Enqueue(t.Context(), bad); !errors.Is(err, gone) {
		t.Errorf("a body that fails: %v", err)
	}
	if _, err := q.Enqueue(t.Context(), draft(t)); err == nil {
		t.Error("accepted without recipients")
	}
	null := draft(t, "a@one.example", "")
	if _, err := q.Enqueue(t.Context(), null); err == nil {
		t.Error("accepted with a null recipient")
	}
	full = true
	if _, err := q.Enqueue(t.Context(), draft(t, "a@one.example")); !errors.Is(err, queue.ErrFull) {
		t.Errorf("gate closed: %v", err)
	}
	if st := q.Stats(); st.Envelopes["waiting"] != 0 {
		t.Errorf("stats %+v", st)
	}
	if _, err := queue.New(queue.Options{}); err == nil {
		t.Error("a queue without a store")
	}
	if _, err := queue.New(queue.Options{Store: storetest.NewModel(), Schedule: []time.Duration{0}}); err == nil {
		t.Error("a schedule with a delay of 0")
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// RFC 5321 4.5.3.1.8: at most 100 recipients in an envelope.
func TestEnqueueSplitsManyRecipients(t *testing.T) {
	t.Parallel()
	q, err := queue.New(queue.Options{Store: storetest.NewModel()})
	if err != nil {
		t.Fatal(err)
	}
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprintf("u%d@one.example", i))
	}
	id, err := q.Enqueue(t.Context(), draft(t, to...))
	if err != nil {
		t.Fatal(err)
	}
	list, err := q.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, e := range list {
		sizes = append(sizes, len(e.Envelope.Recipients))
	}
	if !slices.Equal(sizes, []int{100, 100, 50}) {
		t.Errorf("envelopes of %v recipients", sizes)
	}
}

func TestRetrySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		schedule := []time.Duration{time.Minute, 3 * time.Minute, 10 * time.Minute, time.Hour}
		var at []time.Duration
		start := time.Now()
		p := &postmaster{}
		h := run(t, queue.Options{Schedule: schedule, GiveUp: 24 * time.Hour, WarnAfter: 4 * time.Hour, Composer: p},
			func(ctx context.Context, l *queue.Lease) queue.Report {
				if l.Message.Sender.IsNull() {
					return deliver(ctx, l)
				}
				if l.Envelope.Tries != len(at) {
					t.Errorf("try %d says that it is number %d", len(at), l.Envelope.Tries)
				}
				at = append(at, time.Since(start))
				return refuse(ctx, l)
			})
		h.enqueue("a@one.example")
		time.Sleep(48 * time.Hour)
		h.stop()
		for i := 1; i < len(at); i++ {
			delay, want := at[i]-at[i-1], schedule[min(i, len(schedule))-1]
			if delay < want || delay > want+want/5 {
				t.Errorf("delay %d is %v, want %v and up to a fifth", i, delay, want)
			}
		}
		if n := len(at); n < 22 || n > 28 {
			t.Errorf("%d tries in a day", n)
		}
		var kinds []string
		for _, n := range p.notices() {
			kinds = append(kinds, fmt.Sprint(n.Kind, " ", n.Recipients[0].State, " ", n.Recipients[0].Last.Failure.Reason, " ",
				n.Now.Sub(start).Round(time.Hour), " ", string(n.Original[:11])))
		}
		want := []string{"delayed pending reply-temporary 4h0m0s Subject: hi", "failed expired reply-temporary 24h0m0s Subject: hi"}
		if len(kinds) != 2 || kinds[1] != want[1] || !strings.HasPrefix(kinds[0], "delayed pending reply-temporary") {
			t.Errorf("notices %q, want %q", kinds, want)
		}
		if d := p.notices()[0].Now.Sub(start); d < 4*time.Hour || d > 5*time.Hour+12*time.Minute {
			t.Errorf("the delay notice came after %v", d)
		}
		// Expired, its entry and its notice are one commit.
		j := h.journal()
		i := slices.IndexFunc(j, func(e queue.JournalEntry) bool {
			return len(e.Recipients) == 1 && e.Recipients[0].State == queue.Expired
		})
		if i < 0 || !slices.Equal(j[i].Notices, []queue.NoticeKind{queue.NoticeFailed}) || j[i].At.Sub(start) != 24*time.Hour {
			t.Errorf("no entry of the expiry, or not as it should be: %+v", j)
		}
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}

func TestRunSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counting{Model: storetest.NewModel()}
		h := run(t, queue.Options{Store: s}, deliver)
		time.Sleep(100 * 24 * time.Hour)
		if n := s.count(); n != 1 {
			t.Errorf("%d claims of an empty queue in 100 days, want 1", n)
		}
		h.enqueue("a@one.example")
		synctest.Wait()
		if n := s.count(); n > 4 {
			t.Errorf("%d claims for one message", n)
		}
		h.stop()
	})
}

// counting counts claims.
type counting struct {
	*storetest.Model
	mu sync.Mutex
	n  int
}

func (s *counting) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	s.mu.Lock()
	s.n++
	s.mu.Unlock()
	return s.Model.Claim(ctx, q)
}

func (s *counting) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := make(map[policy.Domain]int), make(map[policy.Domain]int)
		total, mostTotal := 0, 0
		h := run(t, queue.Options{Workers: 5, PerLane: 2}, func(ctx context.Context, l *queue.Lease) queue.Report {
			mu.Lock()
			now[l.Envelope.Lane]++
			total++
			most[l.Envelope.Lane] = max(most[l.Envelope.Lane], now[l.Envelope.Lane])
			mostTotal = max(mostTotal, total)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now[l.Envelope.Lane]--
			total--
			mu.Unlock()
			return deliver(ctx, l)
		})
		for i := range 20 {
			h.enqueue(fmt.Sprintf("u%d@bulk.example", i))
		}
		for i := range 4 {
			h.enqueue(fmt.Sprintf("x@%d.example", i))
		}
		time.Sleep(time.Minute)
		h.stop()
		if most["bulk.example"] != 2 || mostTotal != 5 {
			t.Errorf("at most %d in the lane, %d in all: want 2 and 5", most["bulk.example"], mostTotal)
		}
		for _, e := range h.journal() {
			if e.Kind == queue.EntrySettled && e.Domain != "bulk.example" && e.At.Sub(h.start) > 3*time.Second {
				t.Errorf("%s waited %v behind bulk", e.Domain, e.At.Sub(h.start))
			}
		}
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t, queue.Options{Workers: 1}, func(ctx context.Context, l *queue.Lease) queue.Report {
			<-ctx.Done()
			time.Sleep(time.Second) // a last reply
			r := deliver(ctx, l)
			r.Attempt = []byte(`{"v":1}`)
			return r
		})
		h.enqueue("a@one.example")
		h.enqueue("b@two.example")
		synctest.Wait()
		h.stop()
		if d := time.Since(h.start); d != time.Second {
			t.Errorf("stopping took %v", d)
		}
		// What the courier did is written; what had not begun waits.
		j := h.journal()
		if len(j) != 3 || j[2].Recipients[0].State != queue.Delivered || string(j[2].Attempt) != `{"v":1}` {
			t.Errorf("journal %+v", j)
		}
		if left := h.entries(); len(left) != 1 || left[0].State != queue.RowWaiting {
			t.Errorf("left %+v", left)
		}
	})
}

func TestCourierPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		h := run(t, queue.Options{}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if n++; n == 1 {
				panic("oops")
			}
			return deliver(ctx, l)
		})
		h.enqueue("a@one.example")
		synctest.Wait()
		left := h.entries()
		if len(left) != 1 || left[0].Envelope.Recipients[0].Last.Failure.Reason != policy.Internal || left[0].Envelope.Tries != 1 {
			t.Fatalf("left %+v", left)
		}
		time.Sleep(2 * time.Minute)
		h.stop()
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
		h.journal()
	})
}

// A courier that overruns its lease is late: the envelope is another's by then.
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		h := run(t, queue.Options{AttemptLimit: 10 * time.Minute}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if n++; n == 1 {
				<-ctx.Done()
				if d := time.Since(l.Message.AcceptedAt); d != 10*time.Minute {
					t.Errorf("ctx was done after %v", d)
				}
				time.Sleep(time.Hour)
				return all(l, queue.Outcome{Kind: queue.BouncedNow})
			}
			return deliver(ctx, l)
		})
		h.enqueue("a@one.example")
		time.Sleep(2 * time.Hour)
		h.stop()
		if n != 2 {
			t.Errorf("%d tries, want 2", n)
		}
		j := h.journal()
		if len(j) != 2 || j[1].Recipients[0].State != queue.Delivered || j[1].At.Sub(h.start) != 11*time.Minute {
			t.Errorf("journal %+v", j)
		}
	})
}

// Expiry holds in every state, and each message gets one final entry and a notice.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &postmaster{}
		tries := 0
		o := queue.Options{Store: storetest.NewModel(), GiveUp: 24 * time.Hour, Composer: p}
		h := run(t, o, func(ctx context.Context, l *queue.Lease) queue.Report {
			if l.Message.Sender.IsNull() {
				return deliver(ctx, l)
			}
			tries++
			return refuse(ctx, l)
		})
		h.store = o.Store.(*storetest.Model)
		h.enqueue("held@one.example")
		synctest.Wait()
		if n, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbHold}, queue.Filter{}); n != 1 || err != nil {
			t.Fatalf("held %d, %v", n, err)
		}
		own := draft(t, "own@one.example")
		own.Message.Expires = time.Now().Add(90 * time.Second)
		if _, err := h.q.Enqueue(t.Context(), own); err != nil {
			t.Fatal(err)
		}
		time.Sleep(91 * time.Second)
		synctest.Wait()
		if len(p.notices()) != 1 || p.notices()[0].Recipients[0].Address.Local != "own" || tries != 3 {
			t.Fatalf("after its own time: %d notices, %d tries", len(p.notices()), tries)
		}
		time.Sleep(24*time.Hour - 92*time.Second)
		synctest.Wait()
		if len(p.notices()) != 1 {
			t.Fatal("a held message expired early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(p.notices()) != 2 || p.notices()[1].Recipients[0].Last.Failure.Reason != policy.ReplyTemporary {
			t.Fatalf("a held message did not expire: %+v", p.notices())
		}
		h.stop()
		// Accepted, then nobody runs for longer than its time.
		if _, err := h.q.Enqueue(t.Context(), draft(t, "asleep@one.example")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		h2 := run(t, o, deliver)
		h2.store = h.store
		synctest.Wait()
		h2.stop()
		if len(p.notices()) != 3 || p.notices()[2].Recipients[0].State != queue.Expired {
			t.Errorf("%d notices, want a third one for what expired while nobody ran", len(p.notices()))
		}
		h2.journal()
		if left := h2.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}

// A notice that bounces makes no notice.
func TestNoticeOfNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &postmaster{}
		h := run(t, queue.Options{Composer: p}, func(_ context.Context, l *queue.Lease) queue.Report {
			if l.Message.Sender.IsNull() && l.Message.Listener != "dsn" {
				t.Errorf("listener of a notice: %q", l.Message.Listener)
			}
			return all(l, queue.Outcome{Kind: queue.BouncedNow, Failure: &policy.Failure{Reason: policy.ReplyPermanent}})
		})
		h.enqueue("a@one.example")
		synctest.Wait()
		h.stop()
		if len(p.notices()) != 1 {
			t.Errorf("%d notices, want 1", len(p.notices()))
		}
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
		if j := h.journal(); len(j) != 4 {
			t.Errorf("journal %+v", j)
		}
	})
}
