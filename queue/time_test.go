package queue_test

import (
	"context"
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

func TestRetune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		h := run(t, queue.Options{Schedule: []time.Duration{time.Hour}}, func(ctx context.Context, l *queue.Lease) queue.Report {
			at = append(at, time.Since(start))
			return refuse(ctx, l)
		})
		h.enqueue("a@one.example")
		synctest.Wait()
		if err := h.q.Retune(queue.Options{Schedule: []time.Duration{-1}}); err == nil {
			t.Error("a negative delay was taken")
		}
		if err := h.q.Retune(queue.Options{Schedule: []time.Duration{time.Minute}, GiveUp: 2 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		h.stop()
		if n := len(at); n < 40 || n > 61 || at[n-1] > 2*time.Hour || at[1] < time.Hour {
			t.Errorf("%d tries, at %v", n, at)
		}
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}
