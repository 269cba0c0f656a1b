package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

type heapItem struct{ key, place int }

type heapOrder struct{}

func (heapOrder) less(a, b *heapItem) bool     { return a.key < b.key }
func (heapOrder) moved(i *heapItem, place int) { i.place = place }

func TestHeap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var h heap[*heapItem]
	var o heapOrder
	var all []*heapItem
	for range 5000 {
		switch k := rng.IntN(4); {
		case k < 2 || len(all) == 0:
			i := &heapItem{key: rng.IntN(100)}
			all = append(all, i)
			h.push(o, i)
		case k == 2:
			n := rng.IntN(len(all))
			h.remove(o, all[n].place)
			if all[n].place != -1 {
				t.Fatal("a removed item has a place")
			}
			all = slices.Delete(all, n, n+1)
		default:
			i := all[rng.IntN(len(all))]
			i.key = rng.IntN(100)
			h.fix(o, i.place)
		}
		top, ok := h.top()
		if ok != (len(all) > 0) {
			t.Fatal("top and length differ")
		}
		for _, i := range all {
			if h.items[i.place] != i || i.key < top.key {
				t.Fatalf("item %+v is not in its place, or below the top %+v", i, top)
			}
		}
	}
}

// A schedule that was emptied holds nothing.
func TestScheduleForgets(t *testing.T) {
	t.Parallel()
	s, now := NewSchedule(), time.Unix(1_800_000_000, 0)
	for i := range 500 {
		id := NewID(now)
		if err := s.Reserve(id); err != nil {
			t.Fatal(err)
		}
		if err := s.Reserve(id); !errors.Is(err, ErrExists) {
			t.Fatal("an ID was reserved twice")
		}
		if i%10 == 0 {
			s.Cancel(id)
			continue
		}
		for n := range 1 + i%3 {
			s.Add(Booking{Row: Row{Message: id, Number: n, Lane: fmt.Sprint(i % 7), Due: now, State: RowWaiting}, Size: 10})
		}
	}
	for round := 0; ; round++ {
		rows, next := s.Claim(ClaimQuery{Now: now, Until: now.Add(time.Minute), Limit: 7, PerLane: 2})
		if len(rows) == 0 {
			if !next.IsZero() {
				t.Errorf("nothing is left, and next is %v", next)
			}
			break
		}
		c := &Change{Remove: rows}
		if round%3 == 0 {
			for i := range rows {
				rows[i].State = RowWaiting
			}
			c = &Change{Update: rows}
		}
		p, err := s.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare(c); !errors.Is(err, ErrStale) {
			t.Fatal("rows were prepared twice")
		}
		if round%4 == 1 {
			s.Abort(c, p)
			if p, err = s.Prepare(c); err != nil {
				t.Fatal(err)
			}
		}
		s.Apply(c, p)
	}
	t0 := &s.turns
	if n := s.slots.len() + s.many.len() + s.index.count + len(s.reserved) + len(s.leases) + len(s.ends.items) + len(s.ages.spans) +
		t0.strands.len() + len(t0.by) + len(t0.groups) + len(t0.lanes) + len(t0.ready) + len(t0.timed.items); n != 0 || s.First() != "" {
		t.Errorf("%d things are left in %+v", n, s)
	}
	for state, n := range s.Stats().Envelopes {
		if n != 0 || s.Stats().Bytes[state] != 0 {
			t.Errorf("%d %s", n, state)
		}
	}
}

// BenchmarkScheduleMillion is a claim and a settlement beside a million waiting rows.
func BenchmarkScheduleMillion(b *testing.B) {
	const waiting = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, now := NewSchedule(), time.Unix(1_800_000_000, 0)
	for i := range waiting {
		id := NewID(now.Add(time.Duration(i) * time.Millisecond))
		s.Add(Booking{Row: Row{Message: id, Lane: fmt.Sprint("lane", i%10_000), Due: now.Add(time.Duration(i) * time.Second), State: RowWaiting}, Size: 4096})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := 0
	for b.Loop() {
		rows, _ := s.Claim(ClaimQuery{Now: now.Add(time.Hour), Until: now.Add(2 * time.Hour), Limit: 1, PerLane: 20})
		rows[0].State, rows[0].Due = RowWaiting, now.Add(time.Duration(n%3600)*time.Second)
		c := &Change{Update: rows}
		p, err := s.Prepare(c)
		if err != nil {
			b.Fatal(err)
		}
		s.Apply(c, p)
		n++
	}
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/waiting, "B/row")
	runtime.KeepAlive(s)
}
