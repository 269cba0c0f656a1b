package queue_test

import (
	"context"
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
		if most["bulk.example"] != 2 || mostTotal != 4 {
			t.Errorf("at most %d in the lane, %d in all: want 2 and 4: the last worker is for another group", most["bulk.example"], mostTotal)
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
