package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// fate is a courier that does anything, also what it must not.
type fate struct {
	mu        sync.Mutex
	rng       *rand.Rand
	delivered map[string]int // by message and address: what hosts really got
}

func (f *fate) number(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.IntN(n)
}

func (f *fate) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	time.Sleep(time.Duration(f.number(120)) * time.Second)
	switch f.number(30) {
	case 0:
		panic("oops")
	case 1:
		<-ctx.Done()
		return queue.Report{Free: true, RetryAfter: 1}
	}
	r := queue.Report{RetryAfter: time.Duration(f.number(2)*f.number(4000)) * time.Second}
	for i, rcpt := range l.Envelope.Recipients {
		o := queue.Outcome{Recipient: i, Failure: &policy.Failure{Reason: policy.ReplyTemporary}}
		switch k := f.number(40); {
		case k < 4:
			o.Kind, o.Failure = queue.DeliveredNow, nil
		case k < 6:
			o.Kind = queue.BouncedNow
		case k == 6:
			continue
		case k == 7:
			o.Failure.Reason = policy.Uncertain
		}
		if o.Kind == queue.DeliveredNow && rcpt.State == queue.Pending {
			f.mu.Lock()
			f.delivered[fmt.Sprint(l.Message.ID, rcpt.Address)]++
			f.mu.Unlock()
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r
}

// flaky is a store that fails now and then, before the step.
type flaky struct {
	*storetest.Model
	fate *fate
}

func (s *flaky) Commit(ctx context.Context, c *queue.Change) error {
	if s.fate.number(10) == 0 {
		return errors.New("the store is away")
	}
	return s.Model.Commit(ctx, c)
}

func (s *flaky) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	if s.fate.number(20) == 0 {
		return nil, time.Time{}, errors.New("the store is away")
	}
	return s.Model.Claim(ctx, q)
}

// TestLives: whatever couriers, store and operator do, every accepted recipient gets
// exactly one final entry, nothing is delivered twice, and there is a notice for each
// failure that is to be told, and only for these.
func TestLives(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			f := &fate{rng: rand.New(rand.NewPCG(seed, 3)), delivered: make(map[string]int)}
			store := &flaky{storetest.NewModel(), f}
			p := &postmaster{}
			h := run(t, queue.Options{
				Store: store, Composer: p, GiveUp: 24 * time.Hour, WarnAfter: 4 * time.Hour, Workers: 10, PerLane: 3, AttemptLimit: 10 * time.Minute,
			}, f.Deliver)
			h.store = store.Model
			for i := range 60 {
				d := draft(t, fmt.Sprintf("a%d@%d.example", i, i%7), fmt.Sprintf("b%d@%d.example", i, i%7), fmt.Sprintf("c%d@%d.example", i, i%5))
				d.Recipients[0].Notify = queue.Notify(f.number(9))
				if f.number(5) == 0 {
					d.Message.Expires = time.Now().Add(time.Hour)
				}
				if _, err := h.q.Enqueue(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				verbs := []queue.Verb{queue.VerbHold, queue.VerbHold, queue.VerbRelease, queue.VerbRetry, queue.VerbDrop}
				filter := queue.Filter{Domain: fmt.Sprintf("%d.example", f.number(7)), Limit: 1 + f.number(2)}
				if _, err := h.q.Act(t.Context(), queue.Action{Verb: verbs[f.number(5)]}, filter); err != nil && !strings.Contains(err.Error(), "the store is away") {
					t.Error(err)
				}
				time.Sleep(time.Duration(f.number(20)) * time.Minute)
			}
			time.Sleep(4 * 24 * time.Hour) // notices expire too
			h.stop()
			if left := h.entries(); len(left) != 0 {
				t.Errorf("seed %d: %d envelopes are left, the first %+v", seed, len(left), left[0])
			}
			checkLives(t, seed, h.journal(), f.delivered)
		})
	}
}

func checkLives(t *testing.T, seed uint64, journal []queue.JournalEntry, delivered map[string]int) {
	t.Helper()
	told := make(map[string]int)
	for _, e := range journal {
		if e.Kind == queue.EntryAccepted {
			continue
		}
		for _, r := range e.Recipients {
			if r.State == queue.Delivered {
				told[fmt.Sprint(e.Message, r.Address)]++
			}
			failed := r.State == queue.Bounced || r.State == queue.Expired
			if failed && e.Sender.IsNull() && len(e.Notices) > 0 {
				t.Errorf("seed %d: a notice about a notice: %+v", seed, e)
			}
			// b and c recipients have the default wishes.
			if failed && !e.Sender.IsNull() && r.Address.Local[0] != 'a' && !slices.Contains(e.Notices, queue.NoticeFailed) {
				t.Errorf("seed %d: no notice with %+v", seed, e)
			}
		}
	}
	for name, n := range delivered {
		if n != 1 || told[name] != 1 {
			t.Errorf("seed %d: %s was delivered %d times, and told %d times", seed, name, n, told[name])
		}
	}
	if len(told) != len(delivered) {
		t.Errorf("seed %d: %d deliveries were told, %d done", seed, len(told), len(delivered))
	}
}
