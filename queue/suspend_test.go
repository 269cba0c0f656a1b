package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// log notes who is tried when, since a start.
type tried struct {
	mu    sync.Mutex
	start time.Time
	list  []string
}

func (l *tried) note(e *queue.Envelope) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprint(e.Recipients[0].Address.Local, "@", time.Since(l.start)))
}

func (l *tried) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.list)
	s := strings.Join(l.list, " ")
	l.list = nil
	return s
}

// suspension is a queue that runs, with a courier that notes what it is given.
func suspension(t *testing.T, o queue.Options, c courier) (*house, *tried) {
	l := &tried{start: time.Now()}
	h := run(t, o, func(ctx context.Context, lease *queue.Lease) queue.Report {
		if !lease.Message.Sender.IsNull() {
			l.note(&lease.Envelope)
		}
		return c(ctx, lease)
	})
	return h, l
}

func (h *house) suspend(target string, d time.Duration) {
	h.t.Helper()
	s := queue.Suspension{Target: target, Reason: "moving", By: "test"}
	if d > 0 {
		s.Until = time.Now().Add(d)
	}
	if _, err := h.q.Suspend(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
}

// A suspended destination is not tried, others are; it goes on by itself when its time
// has come, or when it is resumed, at once.
func TestSuspend(t *testing.T) {
	for _, c := range []struct {
		name, target string
		lasts        time.Duration
		resume       string // after an hour
		first, last  string // what is tried within the hour, and afterwards
	}{
		{"a domain, for a time", "one.example", 3 * time.Hour, "", "b@0s c@0s", "a@3h0m0s"},
		{"a domain, resumed", "ONE.example", 0, "one.example", "b@0s c@0s", "a@1h0m0s"},
		{"a domain, resumed before its time", "one.example", 3 * time.Hour, "one.example", "b@0s c@0s", "a@1h0m0s"},
		{"all below a domain", ".one.example", 0, "*", "a@0s c@0s", "b@1h0m0s"},
		{"all", "*", 0, "*", "", "a@1h0m0s b@1h0m0s c@1h0m0s"},
		{"all, for a time", "*", 90 * time.Second, "", "a@1m30s b@1m30s c@1m30s", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, l := suspension(t, queue.Options{}, deliver)
				h.suspend(c.target, c.lasts)
				h.enqueue("a@one.example")
				h.enqueue("b@sub.one.example")
				h.enqueue("c@other.example")
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := l.take(); got != c.first {
					t.Errorf("in the first hour: %q, want %q", got, c.first)
				}
				if c.resume != "" {
					if ended, err := h.q.Resume(t.Context(), c.resume, "test"); err != nil || len(ended) != 1 || ended[0].Reason != "moving" {
						t.Errorf("Resume: %v, %v", ended, err)
					}
				}
				time.Sleep(12 * time.Hour)
				synctest.Wait()
				if got := l.take(); got != c.last {
					t.Errorf("later: %q, want %q", got, c.last)
				}
				if left := h.entries(); len(left) != 0 || len(h.q.Suspensions()) != 0 {
					t.Errorf("%d envelopes and %v are left", len(left), h.q.Suspensions())
				}
				h.stop()
				var told []string
				for _, e := range h.journal() {
					if e.Kind == queue.EntryOperator {
						told = append(told, e.Operator.Verb+" "+e.Operator.Target+" by "+e.Operator.By)
					}
				}
				by := "test"
				if c.resume == "" {
					by = "time"
				}
				target := strings.ToLower(c.target)
				if want := []string{"suspend " + target + " by test", "resume " + target + " by " + by}; !slices.Equal(told, want) {
					t.Errorf("the journal tells %q, want %q", told, want)
				}
				if cell, _ := h.store.Cell(context.Background(), "suspend/list"); cell != nil {
					t.Errorf("the cell is still %s", cell)
				}
			})
		})
	}
}

// What waits for its next try keeps its place: the end of a suspension makes nothing due
// before its time, and burns no try.
func TestSuspendKeepsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		h, l := suspension(t, queue.Options{Schedule: []time.Duration{4 * time.Hour}}, func(ctx context.Context, lease *queue.Lease) queue.Report {
			if n++; lease.Envelope.Tries != n-1 {
				t.Errorf("try %d is counted as %d", n, lease.Envelope.Tries+1)
			}
			return refuse(ctx, lease)
		})
		h.enqueue("a@one.example")
		synctest.Wait()
		l.take()
		due := h.entries()[0].Envelope.Due
		h.suspend("one.example", 0)
		time.Sleep(time.Hour)
		if _, err := h.q.Resume(t.Context(), "one.example", "test"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e := h.entries()[0]; !e.Envelope.Due.Equal(due) || l.take() != "" {
			t.Errorf("due %v, was %v", e.Envelope.Due, due)
		}
		h.suspend("one.example", 0)
		time.Sleep(10 * time.Hour) // it would have been tried meanwhile
		if e := h.entries()[0]; !e.Envelope.Suspended.Equal(due) || e.Envelope.Tries != 1 {
			t.Errorf("put aside: %+v", e.Envelope)
		}
		if _, err := h.q.Resume(t.Context(), "one.example", "test"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := l.take(); got != "a@11h0m0s" {
			t.Errorf("tried %q", got)
		}
		if e := h.entries()[0]; !e.Envelope.Suspended.IsZero() {
			t.Errorf("afterwards: %+v", e.Envelope)
		}
		h.stop()
	})
}

// Time goes on under a suspension: the sender hears of the delay, then of the end.
func TestSuspendAndExpiry(t *testing.T) {
	for target, slack := range map[string]time.Duration{"one.example": 0, "*": 2 * time.Minute} {
		t.Run(target, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &postmaster{}
				h, l := suspension(t, queue.Options{GiveUp: 24 * time.Hour, WarnAfter: 4 * time.Hour, Composer: p}, deliver)
				h.suspend(target, 72*time.Hour)
				h.enqueue("a@one.example")
				short := draft(t, "b@one.example")
				short.Message.Expires = time.Now().Add(10 * time.Hour)
				h.accept(short)
				time.Sleep(71 * time.Hour)
				var got []string
				for _, n := range p.notices() {
					got = append(got, fmt.Sprint(n.Kind, " ", n.Recipients[0].Address.Local, " ", n.Now.Sub(h.start).Truncate(slack+1)))
				}
				want := []string{"delayed a 4h0m0s", "delayed b 4h0m0s", "failed b 10h0m0s", "failed a 24h0m0s"}
				if target == queue.Everything { // nothing is claimed then: no notice of delay, and a look once in a while
					if len(got) != 2 || p.notices()[0].Now.Sub(h.start) > 11*time.Hour || p.notices()[1].Now.Sub(h.start) > 25*time.Hour {
						t.Errorf("notices %q", got)
					}
				} else if slices.Sort(got[:min(2, len(got))]); !slices.Equal(got, want) {
					t.Errorf("notices %q, want %q", got, want)
				}
				if l.take() != "" {
					t.Error("tried although suspended")
				}
				h.stop()
				h.journal()
			})
		})
	}
}

// Suspensions, and what waits for their end, come through a restart; also a restart
// while the ended ones' mail is not free yet.
func TestSuspendAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := suspension(t, queue.Options{}, deliver)
		h.suspend("one.example", 0)
		h.suspend(".two.example", 5*time.Hour)
		h.enqueue("a@one.example", "b@sub.two.example")
		time.Sleep(time.Hour)
		h.stop()
		// Nobody runs: it is resumed, and the process ends.
		idle, err := queue.New(queue.Options{Store: h.store})
		if err != nil {
			t.Fatal(err)
		}
		if got := idle.Suspensions(); len(got) != 2 || got[0].Target != ".two.example" || got[1].Reason != "moving" {
			t.Errorf("after a restart: %+v", got)
		}
		if _, err := idle.Resume(t.Context(), "one.example", "test"); err != nil {
			t.Fatal(err)
		}
		again, l2 := suspension(t, queue.Options{Store: h.store}, deliver) // an hour after the start
		again.store = h.store
		synctest.Wait()
		if got := l.take() + l2.take(); got != "a@0s" {
			t.Errorf("tried %q", got)
		}
		time.Sleep(10 * time.Hour)
		if got := l2.take(); got != "b@4h0m0s" {
			t.Errorf("tried %q", got)
		}
		again.stop()
		again.journal()
	})
}

// A second suspension of the same target replaces the first, shorter or longer; several
// of one lane hold until the last has ended.
func TestSuspendAgain(t *testing.T) {
	for name, c := range map[string]struct {
		then func(h *house)
		want string
	}{
		"shorter": {func(h *house) { h.suspend("a.one.example", 2*time.Hour) }, "a@3h0m0s"},
		"longer":  {func(h *house) { h.suspend("a.one.example", 20*time.Hour) }, "a@21h0m0s"},
		"for ever, then resumed": {func(h *house) {
			h.suspend("a.one.example", 0)
			time.Sleep(30 * time.Hour)
			if _, err := h.q.Resume(h.t.Context(), "a.one.example", ""); err != nil {
				h.t.Error(err)
			}
		}, "a@31h0m0s"},
		"below, longer": {func(h *house) { h.suspend(".example", 20*time.Hour) }, "a@21h0m0s"},
		"below, longer, then resumed": {func(h *house) {
			h.suspend(".example", 20*time.Hour)
			time.Sleep(time.Hour)
			if _, err := h.q.Resume(h.t.Context(), ".example", ""); err != nil {
				h.t.Error(err)
			}
		}, "a@10h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, l := suspension(t, queue.Options{}, deliver)
				h.suspend("a.one.example", 10*time.Hour)
				h.enqueue("a@a.one.example")
				time.Sleep(time.Hour)
				c.then(h)
				time.Sleep(40 * time.Hour)
				if got := l.take(); got != c.want {
					t.Errorf("tried %q, want %q", got, c.want)
				}
				h.stop()
			})
		})
	}
}

// The operator's hand reaches what is put aside.
func TestSuspendAndAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := suspension(t, queue.Options{}, deliver)
		h.suspend("one.example", 5*time.Hour)
		for _, to := range []string{"a", "b", "c"} {
			h.enqueue(to + "@one.example")
		}
		synctest.Wait()
		act := func(v queue.Verb, f queue.Filter) {
			t.Helper()
			if n, err := h.q.Act(t.Context(), queue.Action{Verb: v}, f); n != 1 || err != nil {
				t.Errorf("%s: %d, %v", v, n, err)
			}
			synctest.Wait()
		}
		act(queue.VerbDrop, queue.Filter{Recipient: "a@one.example"})
		act(queue.VerbHold, queue.Filter{Recipient: "b@one.example"})
		act(queue.VerbRetry, queue.Filter{Recipient: "c@one.example"})
		if got := l.take(); got != "" {
			t.Errorf("tried %q", got)
		}
		time.Sleep(6 * time.Hour)
		if got := l.take(); got != "c@5h0m0s" {
			t.Errorf("tried %q", got)
		}
		if left := h.entries(); len(left) != 1 || left[0].State != queue.RowHeld {
			t.Errorf("left %+v", left)
		}
		h.stop()
	})
}

func TestSuspendMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := stocked(t)
		h.suspend(".one.example", 0)
		for name, err := range map[string]error{
			"domain": second(h.q.Suspend(t.Context(), queue.Suspension{Target: "a..b"})),
			"none":   second(h.q.Suspend(t.Context(), queue.Suspension{})),
			"past":   second(h.q.Suspend(t.Context(), queue.Suspension{Target: "x.example", Until: time.Now()})),
			"other":  second(h.q.Resume(t.Context(), "two.example", "")),
			"below":  second(h.q.Resume(t.Context(), "a.one.example", "")),
		} {
			var mistake *queue.FilterError
			if !errors.As(err, &mistake) {
				t.Errorf("%s: %v, want a FilterError", name, err)
			}
		}
		if err := second(h.q.Resume(t.Context(), "a.one.example", "")); !strings.Contains(err.Error(), "under that of .one.example") {
			t.Errorf("below: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// However suspensions come and go while mail is accepted, tried and settled: nothing is
// tried while its destination is suspended, and all of it goes in the end.
func TestSuspendInMotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *queue.Queue
		lanes := []string{"a.example", "b.example", "c.b.example", "d.example"}
		o := queue.Options{Store: storetest.NewModel(), Schedule: []time.Duration{time.Minute}}
		h := run(t, o, func(ctx context.Context, l *queue.Lease) queue.Report {
			for _, s := range q.Suspensions() {
				// Who set off in this very moment may still be on its way.
				if s.Covers(l.Envelope.Lane) && time.Since(s.Since) > 0 {
					t.Errorf("%s is tried under the suspension of %s since %v", l.Envelope.Lane, s.Target, time.Since(s.Since))
				}
			}
			if l.Envelope.Tries < 3 {
				return refuse(ctx, l)
			}
			return deliver(ctx, l)
		})
		q, h.store = h.q, o.Store.(*storetest.Model)
		synctest.Wait()
		targets := []string{"a.example", ".b.example", "b.example", ".example", "*"}
		for i := range 300 {
			h.enqueue(fmt.Sprintf("u%d@%s", i, lanes[i%len(lanes)]))
			target := targets[i*7%len(targets)]
			switch i % 4 {
			case 0:
				h.suspend(target, time.Duration(1+i%11)*97*time.Second)
			case 1:
				h.suspend(target, 0)
			default:
				_, _ = q.Resume(t.Context(), target, "test") // it may not be suspended
			}
			time.Sleep(time.Duration(i%5) * 41 * time.Second)
		}
		if _, err := q.Resume(t.Context(), queue.Everything, "test"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d are left, the first %+v", len(left), left[0])
		}
		h.stop()
		h.journal()
	})
}
