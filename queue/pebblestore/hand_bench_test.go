//go:build bench

package pebblestore

import (
	"context"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// TestScaleHand measures the operator's hand on a million waiting messages (SEALPOST_SCALE) in
// ten lanes: the first page of the list, one from the middle, a survey, and a lane of a tenth of
// them that is due all at once, suspended, and resumed.
func TestScaleHand(t *testing.T) {
	n := scaleNumber(t, "SEALPOST_SCALE", 1_000_000)
	dir := t.TempDir()
	fillScale(t, dir, n, 10)
	s := mustOpen(t, Options{Dir: dir})
	defer s.Close()
	q, err := queue.New(queue.Options{Store: s, Workers: 2000, PerLane: 20})
	if err != nil {
		t.Fatal(err)
	}
	first := firstPage(t, s)
	middle := ""
	seen := 0
	if err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanRows, Limit: n / 2}, func(it queue.Item) error { middle = it.Pos; seen++; return nil }); err != nil || seen != n/2 {
		t.Fatal(seen, err)
	}
	start, got := time.Now(), 0
	err = q.List(t.Context(), queue.Filter{Limit: 100, After: middle}, func(queue.Entry) error { got++; return nil })
	page := time.Since(start)
	if err != nil || got != 100 {
		t.Fatal(got, err)
	}
	before := memory(t, "VmRSS")
	start = time.Now()
	v, err := q.Survey(t.Context(), queue.Inquiry{})
	if err != nil || v.Envelopes != n || len(v.Top) != 10 || v.Slack != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	t.Logf("first page %.1f ms, a page from the middle %.1f ms; a survey of all %.1f s and %d MiB more",
		first.Seconds()*1000, page.Seconds()*1000, time.Since(start).Seconds(), memory(t, "VmRSS")-before)
	if max(first, page) > aimPage {
		t.Errorf("the aim is %v", aimPage)
	}
	suspendScale(t, s, q)
}

// aimHand is what an order may cost for each envelope, of the processor's time.
const aimHand = 50 * time.Microsecond

// suspendScale suspends a lane that is due, waits until all of it is put aside, and resumes it.
func suspendScale(t *testing.T, s *Store, q *queue.Queue) {
	const lane = "d7.example"
	parked := func() (aside, left int) {
		err := q.List(t.Context(), queue.Filter{Domain: lane}, func(e queue.Entry) error {
			if left++; !e.Envelope.Suspended.IsZero() {
				aside++
				left--
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return aside, left
	}
	start, cpu := time.Now(), used(t)
	_, all := parked()
	look := used(t) - cpu
	t.Logf("a list of one lane of %d: %.1f s (%v of processor for each)", all, time.Since(start).Seconds(), look/time.Duration(all))
	each := func(what string) {
		d := (used(t) - cpu) / time.Duration(all)
		t.Logf("%d %s: %.1f s (%v of processor for each)", all, what, time.Since(start).Seconds(), d)
		if d > aimHand {
			t.Errorf("the aim is %v", aimHand)
		}
	}
	start, cpu = time.Now(), used(t)
	if n, err := q.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{Domain: lane}); n != all || err != nil {
		t.Fatal(n, err)
	}
	each("tried again by domain")
	if _, err := q.Suspend(t.Context(), queue.Suspension{Target: lane}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	c := &idle{}
	start, cpu = time.Now(), used(t)
	go func() { ran <- q.Run(ctx, c) }()
	// Nothing is read to see it: what is put aside is neither leased nor due.
	busy := func() bool {
		_, next, err := s.Claim(ctx, queue.ClaimQuery{Now: time.Now(), PerLane: 20, Trial: 2})
		return err != nil || s.Stats().Envelopes["leased"] > 0 || next.Before(time.Now().Add(2*time.Hour))
	}
	for end := time.Now().Add(5 * time.Minute); busy() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	each("put aside")
	if aside, left := parked(); aside != all || left != 0 {
		t.Errorf("%d are put aside, %d are not", aside, left)
	}
	if c.done.Load() > 0 {
		t.Error("something was tried")
	}
	cpu = used(t)
	for range 1000 {
		if _, _, err := s.Claim(ctx, queue.ClaimQuery{Now: time.Now(), Until: time.Now(), Limit: 10}); err != nil {
			t.Error(err)
		}
	}
	t.Logf("a claim beside them: %v of processor", (used(t)-cpu)/1000)
	start, cpu = time.Now(), used(t)
	if _, err := q.Resume(ctx, lane, "test"); err != nil {
		t.Fatal(err)
	}
	for c.done.Load() < int64(all) {
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("resumed and delivered to nowhere: %.1f s (%v of processor for each)", time.Since(start).Seconds(), (used(t)-cpu)/time.Duration(all))
	cancel()
	<-ran
}
