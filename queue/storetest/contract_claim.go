package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/queue"
)

func testClaimDue(f *fixture) {
	var ids []queue.ID
	for i := range 3 {
		in := f.insertion("x", "a.example")
		in.Rows[0].Due = f.now.Add(time.Duration(2-i) * time.Hour)
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		ids = append(ids, in.ID)
	}
	start := f.now
	f.now = start.Add(-time.Second)
	if rows, next := f.claim(10, 0); len(rows) != 0 || !next.Equal(start) {
		f.Fatalf("claimed %d rows before their time, next %v, want %v", len(rows), next, start)
	}
	f.now = start.Add(time.Hour)
	rows, next := f.claim(1, 0)
	if len(rows) != 1 || rows[0].Message != ids[2] || rows[0].State != queue.RowLeased || rows[0].Fence == 0 ||
		!rows[0].Until.Equal(f.now.Add(time.Minute)) || next.After(f.now) || next.IsZero() {
		f.Fatalf("claimed %+v, next %v", rows, next)
	}
	if string(rows[0].Data) != fmt.Sprintf("row %s 0", ids[2]) || string(rows[0].Record) != fmt.Sprintf("record %s 1", ids[2]) {
		f.Errorf("data %q, record %q", rows[0].Data, rows[0].Record)
	}
	rows, next = f.claim(10, 0)
	if len(rows) != 1 || rows[0].Message != ids[1] {
		f.Fatalf("claimed %+v", rows)
	}
	if !next.Equal(f.now.Add(time.Minute)) {
		f.Errorf("next %v, want the end of the leases", next)
	}
}

func testClaimFair(f *fixture) {
	for range 100 {
		f.insert("bulk", "bulk.example")
	}
	b, c := f.insert("x", "b.example"), f.insert("x", "c.example")
	rows, _ := f.claim(6, 0)
	at := func(id queue.ID) int {
		return slices.IndexFunc(rows, func(r queue.Row) bool { return r.Message == id })
	}
	if len(rows) != 6 || at(b) < 0 || at(b) > 2 || at(c) < 0 || at(c) > 2 {
		f.Errorf("of 6 rows the small lanes' are at %d and %d: want both among the first 3", at(b), at(c))
	}
	// One by one: a new lane waits for one turn of each other lane at most.
	f.claim(1, 0)
	d := f.insert("x", "d.example")
	var got []queue.Row
	for range 2 {
		one, _ := f.claim(1, 0)
		got = append(got, one...)
	}
	if !slices.ContainsFunc(got, func(r queue.Row) bool { return r.Message == d }) {
		f.Error("a new lane was not served within 2 turns")
	}
}

func testClaimPerLane(f *fixture) {
	for range 5 {
		f.insert("x", "a.example")
	}
	f.insert("x", "b.example")
	rows, next := f.claim(10, 2)
	if len(rows) != 3 {
		f.Fatalf("claimed %d rows, want 2 of one lane and 1 of the other", len(rows))
	}
	if !next.Equal(f.now.Add(time.Minute)) {
		f.Errorf("next %v, want the end of the leases: the lane is full", next)
	}
	if more, _ := f.claim(10, 2); len(more) != 0 {
		f.Fatalf("claimed %d rows of a full lane", len(more))
	}
	i := slices.IndexFunc(rows, func(r queue.Row) bool { return r.Lane == "a.example" })
	f.commit(&queue.Change{Remove: rows[i : i+1]})
	if more, _ := f.claim(10, 2); len(more) != 1 || more[0].Lane != "a.example" {
		f.Fatalf("claimed %v after a lease ended, want one", more)
	}
	if more, _ := f.claim(10, 3); len(more) != 1 {
		f.Errorf("claimed %d rows with room for one more", len(more))
	}
}

func testHeld(f *fixture) {
	in := f.insertion("x", "a.example")
	in.Rows[0].State, in.Rows[0].Due = queue.RowHeld, f.now.Add(time.Hour)
	if err := f.s.Insert(f.ctx, in); err != nil {
		f.Fatal(err)
	}
	if rows, next := f.claim(1, 0); len(rows) != 0 || !next.Equal(f.now.Add(time.Hour)) {
		f.Fatalf("claimed %v, next %v", rows, next)
	}
	f.now = f.now.Add(time.Hour)
	rows, _ := f.claim(1, 0)
	if len(rows) != 1 {
		f.Fatal("not claimed at its due time")
	}
	f.now = f.now.Add(2 * time.Minute) // the lease runs out
	f.claim(0, 0)
	_, left, err := f.s.Read(f.ctx, in.ID)
	if err != nil || left[0].State != queue.RowHeld {
		f.Errorf("after its lease ran out: %v, %v, want held", left, err)
	}
}

func testLeaseRunsOut(f *fixture) {
	id := f.insert("x", "a.example")
	first, _ := f.claim(1, 0)
	f.now = f.now.Add(time.Minute - 1)
	if rows, _ := f.claim(1, 0); len(rows) != 0 {
		f.Fatal("claimed under another's lease")
	}
	f.now = f.now.Add(1)
	second, _ := f.claim(1, 1)
	if len(second) != 1 || second[0].Message != id || second[0].Fence <= first[0].Fence {
		f.Fatalf("claimed %+v after %+v ran out: want a higher fence", second, first)
	}
	if err := f.s.Commit(f.ctx, &queue.Change{Remove: first}); !errors.Is(err, queue.ErrStale) {
		f.Errorf("commit under the old lease: %v, want ErrStale", err)
	}
	f.commit(&queue.Change{Remove: second})
	f.gone(id)
}

// testOneWinner: of many who commit under one fence, one does.
func testOneWinner(f *fixture) {
	id := f.insert("x", "a.example")
	for range 20 {
		rows, _ := f.claim(1, 0)
		up := rows[0]
		up.State = queue.RowWaiting
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				errs[i] = f.s.Commit(f.ctx, &queue.Change{Update: []queue.Row{up}, Entries: [][]byte{[]byte("won")}})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, queue.ErrStale) {
				f.Error(err)
			}
		}
		if won != 1 {
			f.Fatalf("%d of 8 won", won)
		}
	}
	if n := len(f.entries()); n != 21 {
		f.Errorf("%d journal entries, want 21", n)
	}
	if got := f.body(id); got != "x" {
		f.Errorf("body %q", got)
	}
}

// testParallel inserts, claims and removes from many goroutines at once: every row
// is claimed exactly once, and in the end nothing is left but the journal.
func testParallel(f *fixture) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	claimed := make(map[string]int)
	ids := make([][]*queue.Insertion, writers)
	for w := range ids {
		for range each {
			ids[w] = append(ids[w], f.insertion(strings.Repeat("x", 1000), "a.example", fmt.Sprintf("%d.example", w)))
		}
	}
	for w := range writers {
		wg.Go(func() {
			for _, in := range ids[w] {
				if err := f.s.Insert(f.ctx, in); err != nil {
					f.Error(err)
				}
			}
		})
		wg.Go(func() {
			for {
				mu.Lock()
				done := len(claimed) == writers*each*2
				mu.Unlock()
				if done || f.Failed() {
					return
				}
				rows, _, err := f.s.Claim(f.ctx, queue.ClaimQuery{Now: f.now, Until: f.now.Add(time.Minute), Limit: 3})
				if err != nil {
					f.Error(err)
				}
				mu.Lock()
				for _, r := range rows {
					claimed[fmt.Sprint(r.Message, r.Number)]++
				}
				mu.Unlock()
				for _, r := range rows {
					c := &queue.Change{Remove: []queue.Row{r}, Entries: [][]byte{fmt.Appendf(nil, "removed %s %d", r.Message, r.Number)}}
					if err := f.s.Commit(f.ctx, c); err != nil {
						f.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for name, n := range claimed {
		if n != 1 {
			f.Errorf("%s was claimed %d times", name, n)
		}
	}
	if left := f.scan(queue.ScanQuery{Kind: queue.ScanRows}); len(left) != 0 {
		f.Errorf("%d rows are left", len(left))
	}
	if n := len(f.entries()); n != writers*each*3 {
		f.Errorf("%d journal entries, want %d", n, writers*each*3)
	}
}
