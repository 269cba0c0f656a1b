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
)

// as is a draft of a credential and a stream.
func as(t *testing.T, credential, stream, to string) *queue.Draft {
	d := draft(t, to)
	d.Message.Credential, d.Message.Stream = credential, stream
	return d
}

func (h *house) accept(drafts ...*queue.Draft) {
	h.t.Helper()
	for _, d := range drafts {
		if _, err := h.q.Enqueue(h.t.Context(), d); err != nil {
			h.t.Fatal(err)
		}
	}
}

// began notes when the courier got which recipient first.
type began struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (b *began) note(l *queue.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = make(map[string]time.Time)
	}
	name := l.Envelope.Recipients[0].Address.String()
	if b.at[name].IsZero() {
		b.at[name] = time.Now()
	}
}

func (b *began) first(name string) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at[name]
}

// Bulk does not delay what others send, however it is spread: at most 100 ms, and
// here, where the courier's time is the only one that passes, not at all.
func TestBulkDoesNotDelay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name               string
		domains            int
		takes              time.Duration // one delivery of bulk
		credential, stream string        // of the one message
	}{
		{"one slow domain, another credential", 1, 30 * time.Second, "app", ""},
		{"ten thousand slow domains, another credential", 10_000, 30 * time.Second, "app", ""},
		{"ten thousand slow domains, another stream", 10_000, 30 * time.Second, "bulk", "receipts"},
		{"ten thousand fast domains, another credential", 10_000, 50 * time.Millisecond, "app", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen began
				h := run(t, queue.Options{Workers: 200, PerLane: 20}, func(ctx context.Context, l *queue.Lease) queue.Report {
					seen.note(l)
					if l.Message.Tag == "bulk" {
						select {
						case <-time.After(c.takes):
						case <-ctx.Done():
							return queue.Report{Free: true}
						}
					}
					return deliver(ctx, l)
				})
				for i := range 10_000 {
					d := as(t, "bulk", "", fmt.Sprintf("u%d@d%d.example", i, i%c.domains))
					d.Message.Tag = "bulk"
					h.accept(d)
				}
				// In the middle of it: all couriers that bulk can get are busy.
				time.Sleep(1234 * time.Millisecond)
				if st := h.q.Stats(); st.Envelopes["waiting"] < 5000 || c.domains > 1 && st.Envelopes["leased"] < 140 {
					t.Fatalf("no bulk to speak of: %+v", st)
				}
				for i := range 5 {
					to := fmt.Sprintf("code%d@other%d.example", i, i)
					sent := time.Now()
					h.accept(as(t, c.credential, c.stream, to))
					time.Sleep(100 * time.Millisecond)
					if at := seen.first(to); at.IsZero() || at.Sub(sent) > 0 {
						t.Errorf("message %d: the courier has it at %v, sent at %v", i, at, sent)
					}
				}
				h.stop()
			})
		})
	}
}

// pace delivers messages to live and dead domains and returns how long the live ones took.
func pace(t *testing.T, live, dead, each int) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		left := live * each
		var last time.Time
		h := run(t, queue.Options{Workers: 100, PerLane: 20}, func(ctx context.Context, l *queue.Lease) queue.Report {
			if strings.HasPrefix(string(l.Envelope.Lane), "dead") {
				select {
				case <-time.After(30 * time.Second):
				case <-ctx.Done():
				}
				return all(l, queue.Outcome{Failure: &policy.Failure{Reason: policy.ConnectTimeout}})
			}
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			left--
			last = time.Now()
			return deliver(ctx, l)
		})
		for i := range each {
			for n := range dead {
				h.accept(draft(t, fmt.Sprintf("u%d@dead%d.example", i, n)))
			}
			for n := range live {
				h.accept(draft(t, fmt.Sprintf("u%d@live%d.example", i, n)))
			}
		}
		for done := false; !done; {
			time.Sleep(time.Second)
			mu.Lock()
			done = left == 0
			mu.Unlock()
		}
		h.stop()
		took = last.Sub(h.start)
	})
	return took
}

// One domain of a hundred is dead: each try of it hangs for half a minute. The others
// are not slowed by more than a tenth.
func TestDeadDomains(t *testing.T) {
	t.Parallel()
	alone, beside := pace(t, 495, 0, 20), pace(t, 495, 5, 20)
	t.Logf("the live ones took %v alone, %v beside dead ones: %.3f", alone, beside, beside.Seconds()/alone.Seconds())
	if beside > alone+alone/10 {
		t.Errorf("the live ones took %v beside dead ones, %v alone", beside, alone)
	}
}

// A domain that answers late and with no gets one courier at a time; as soon as it
// answers well it has them all again.
func TestLaneEarns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, dead := 0, 0, true
		h := run(t, queue.Options{PerLane: 16, Schedule: []time.Duration{time.Minute}}, func(ctx context.Context, l *queue.Lease) queue.Report {
			mu.Lock()
			now++
			most = max(most, now)
			isDead := dead
			mu.Unlock()
			defer func() { mu.Lock(); now--; mu.Unlock() }()
			if isDead {
				time.Sleep(30 * time.Second)
				return refuse(ctx, l)
			}
			time.Sleep(time.Second)
			return deliver(ctx, l)
		})
		for i := range 200 {
			h.accept(draft(t, fmt.Sprintf("u%d@one.example", i)))
		}
		window := func(d time.Duration) int {
			mu.Lock()
			most = now
			mu.Unlock()
			time.Sleep(d)
			mu.Lock()
			defer mu.Unlock()
			return most
		}
		if n := window(29 * time.Second); n != 2 {
			t.Errorf("%d couriers at first, want 2", n)
		}
		window(time.Minute)
		if n := window(10 * time.Minute); n != 1 {
			t.Errorf("%d couriers at once for a dead domain, want 1", n)
		}
		mu.Lock()
		dead = false
		mu.Unlock()
		if n := window(time.Minute + 10*time.Second); n != 16 {
			t.Errorf("%d couriers for a domain that lives again, want 16", n)
		}
		time.Sleep(time.Hour)
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
		h.stop()
	})
}

// After an outage nobody is stormed: what failed at the same instant is not tried again
// at the same instant, and what the operator releases all at once goes at the pace of
// couriers and connections.
func TestNoHerd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, domains, perLane, workers = 2000, 20, 5, 80
		var mu sync.Mutex
		var tries []time.Time
		now, most := make(map[policy.Domain]int), make(map[policy.Domain]int)
		outage := true
		h := run(t, queue.Options{Workers: workers, PerLane: perLane, Schedule: []time.Duration{10 * time.Minute}},
			func(ctx context.Context, l *queue.Lease) queue.Report {
				lane := l.Envelope.Lane
				mu.Lock()
				tries = append(tries, time.Now())
				now[lane]++
				most[lane] = max(most[lane], now[lane])
				failing := outage
				mu.Unlock()
				defer func() { mu.Lock(); now[lane]--; mu.Unlock() }()
				if failing {
					return refuse(ctx, l) // at once, as without a network
				}
				time.Sleep(time.Second)
				return deliver(ctx, l)
			})
		for i := range n {
			h.accept(draft(t, fmt.Sprintf("u%d@d%d.example", i, i%domains)))
		}
		synctest.Wait()
		// All failed in the same instant. They come back over a fifth of the delay.
		bySecond := make(map[int64]int)
		for _, e := range h.entries() {
			bySecond[e.Envelope.Due.Unix()]++
		}
		busiest := 0
		for _, k := range bySecond {
			busiest = max(busiest, k)
		}
		if len(bySecond) < 110 || busiest > 4*n/120 {
			t.Errorf("%d retries are due in %d different seconds, %d in one", n, len(bySecond), busiest)
		}
		if k, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbHold}, queue.Filter{}); k != n || err != nil {
			t.Fatal(k, err)
		}
		mu.Lock()
		outage, tries = false, nil
		clear(most)
		mu.Unlock()
		released := time.Now()
		if k, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbRelease}, queue.Filter{}); k != n || err != nil {
			t.Fatal(k, err)
		}
		time.Sleep(time.Hour)
		h.stop()
		perSecond := make(map[time.Duration]int)
		for _, at := range tries {
			perSecond[at.Sub(released).Truncate(time.Second)]++
		}
		busiest = 0
		for _, k := range perSecond {
			busiest = max(busiest, k)
		}
		deepest := 0
		for _, k := range most {
			deepest = max(deepest, k)
		}
		t.Logf("released at once: at most %d tries a second, %d at once in one domain, over %d seconds", busiest, deepest, len(perSecond))
		if len(tries) != n || busiest > workers || deepest > perLane {
			t.Errorf("%d tries, at most %d a second, %d at once in one domain; want %d, %d, %d", len(tries), busiest, deepest, n, workers, perLane)
		}
		if left := h.entries(); len(left) != 0 || !slices.IsSortedFunc(tries, time.Time.Compare) {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}

// 50,000 messages for one host are deferred in the same instant by its outage. They come back
// spread over a fifth of the delay; when the host is there again it sees no more at once than its
// lane may have, each message once; and mail of the same sender for others is tried in the
// instant of its acceptance, during the outage, the return and the rest.
func TestHerdOfOneHost(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("50,000 messages")
	}
	synctest.Test(t, func(t *testing.T) {
		const perLane, workers, delay = 20, 80, 10 * time.Minute
		n := 50_000
		if raceDetector {
			n = 10_000
		}
		const down = policy.Domain("down.example")
		var mu sync.Mutex
		var due, tries []time.Time
		flying, most, live := 0, 0, 0
		outage := true
		late := time.Duration(0)
		h := run(t, queue.Options{Workers: workers, PerLane: perLane, Schedule: []time.Duration{delay}},
			func(ctx context.Context, l *queue.Lease) queue.Report {
				mu.Lock()
				defer mu.Unlock()
				if l.Envelope.Lane != down {
					live++
					late = max(late, time.Since(l.Message.AcceptedAt))
					return deliver(ctx, l)
				}
				if outage {
					due = append(due, time.Now())
					return refuse(ctx, l) // at once, as without a network
				}
				tries = append(tries, time.Now())
				flying++
				most = max(most, flying)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				flying--
				return deliver(ctx, l)
			})
		for i := range n {
			h.accept(draft(t, fmt.Sprintf("u%d@%s", i, down)))
		}
		synctest.Wait()
		if len(due) != n || !due[0].Equal(due[n-1]) {
			t.Fatalf("%d were deferred, not at once", len(due))
		}
		mu.Lock()
		outage = false
		mu.Unlock()
		failed := due[0]
		for i := range 60 * 60 { // an hour, one for another domain each second
			if i%10 == 0 {
				h.accept(draft(t, fmt.Sprintf("x@live%d.example", i)))
			}
			time.Sleep(time.Second)
		}
		h.stop()
		if live != 360 || late != 0 {
			t.Errorf("%d messages for others went out, up to %v late; want 360, none of them late", live, late)
		}
		perSecond := make(map[time.Duration]int)
		first, busiest := time.Hour, 0
		for _, at := range tries {
			s := at.Sub(failed).Truncate(time.Second)
			perSecond[s]++
			first, busiest = min(first, at.Sub(failed)), max(busiest, perSecond[s])
		}
		t.Logf("the host saw %d tries over %d seconds, the first after %v, at most %d in one and %d at once", len(tries), len(perSecond), first, busiest, most)
		if len(tries) != n || most > perLane || busiest > 2*perLane || first < delay || len(perSecond) < n/perLane {
			t.Errorf("%d tries over %d seconds, the first after %v, at most %d in one and %d at once; want %d, %d or more, %v, %d, %d",
				len(tries), len(perSecond), first, busiest, most, n, n/perLane, delay, 2*perLane, perLane)
		}
		if left := h.entries(); len(left) != 0 {
			t.Errorf("%d envelopes are left", len(left))
		}
	})
}
