package queue

import (
	"cmp"
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

// A slab that was emptied keeps a page for what comes next, and no more; numbers that are
// given again are of zero items.
func TestSlabEmptied(t *testing.T) {
	var s slab[packedID]
	fill := func(n int) {
		for range n {
			i := s.add()
			if *s.at(i) != (packedID{}) {
				t.Fatalf("item %d is not new: %v", i, *s.at(i))
			}
			s.at(i).lo = 1
		}
		if s.len() != n {
			t.Fatalf("%d items, want %d", s.len(), n)
		}
		for i := range n {
			s.drop(uint32(i))
		}
	}
	fill(3*slabPage + 1)
	if len(s.pages) != 1 || s.len() != 0 || cap(s.free) > slabPage {
		t.Errorf("emptied, it holds %d pages and room for %d numbers", len(s.pages), cap(s.free))
	}
	fill(2)
	if n := testing.AllocsPerRun(100, func() { fill(2) }); n != 0 {
		t.Errorf("two items that come and go take %v allocations", n)
	}
}

// The table of IDs agrees with a map, and an ID that was packed is the same.
func TestTable(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	var ids slab[packedID]
	tab := table{id: func(n uint32) packedID { return *ids.at(n) }}
	there := make(map[packedID]uint32)
	var order []packedID
	most := 0
	for round := range 40_000 {
		// It grows, shrinks to nothing, and grows again.
		if grow := round/10_000%2 == 0; rng.IntN(10) < 8 == grow {
			name := NewID(time.UnixMilli(rng.Int64N(1 << 47)))
			id, ok := name.pack()
			if !ok || id.id() != name || id.millis() != name.Time().UnixMilli() {
				t.Fatalf("%s is packed as %v", name, id)
			}
			if rng.IntN(2) == 0 {
				id.lo = rng.Uint64N(64) // many with the same home
			}
			n := ids.add()
			*ids.at(n) = id
			if before, ok := tab.put(id, n); ok {
				if want, is := there[id]; !is || before != want {
					t.Fatalf("%v had %d, want %d (%v)", id, before, want, is)
				}
				ids.drop(n)
				continue
			}
			there[id] = n
			order = append(order, id)
			most = max(most, len(order))
		} else if len(order) > 0 {
			i := rng.IntN(len(order))
			id := order[i]
			order = slices.Delete(order, i, i+1)
			tab.remove(id)
			ids.drop(there[id])
			delete(there, id)
			if _, ok := tab.get(id); ok {
				t.Fatal("a removed ID is there")
			}
		}
		if round%500 == 0 {
			for id, n := range there {
				if got, ok := tab.get(id); !ok || got != n || *ids.at(n) != id {
					t.Fatalf("%v has %d, %v, want %d", id, got, ok, n)
				}
			}
		}
		if tab.count != len(there) || ids.len() != len(there) {
			t.Fatalf("%d in the table, %d in the slab, want %d", tab.count, ids.len(), len(there))
		}
	}
	if most < 2000 || len(tab.cells) > 16*max(len(there), tableSize) {
		t.Errorf("at most %d IDs; %d are left in %d cells", most, len(there), len(tab.cells))
	}
	for _, bad := range []ID{"", "x", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000I", "0000000000000000000000000/"} {
		if _, ok := bad.pack(); ok {
			t.Errorf("%q was packed", bad)
		}
	}
}

// Of one message with many rows each is found, and the last one takes the message along.
func TestScheduleManyRows(t *testing.T) {
	t.Parallel()
	s, now := NewSchedule(), time.Unix(1_800_000_000, 0)
	id, other := NewID(now), NewID(now)
	for _, n := range rand.Perm(200) {
		s.Add(Booking{Row: Row{Message: id, Number: n, Lane: fmt.Sprint(n % 50), Group: "g", Due: now, State: RowWaiting}, Size: 1 << 33, Writes: 1})
	}
	s.Add(Booking{Row: Row{Message: other, Number: 7, Lane: "1", Due: now.Add(time.Hour), State: RowHeld}, Size: 3, Writes: 40})
	if size, err := s.Size(id); size != 1<<33 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	if rows := s.Rows(id); len(rows) != 200 || rows[123].Number != 123 || rows[123].Lane != "23" || rows[123].Group != "g" {
		t.Fatalf("%d rows", len(rows))
	}
	for _, n := range rand.Perm(200) {
		r := Row{Message: id, Number: n}
		if !s.Fill(&r) {
			t.Fatalf("row %d is not there", n)
		}
		c := &Change{Remove: []Row{r}}
		p, err := s.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		if last := len(s.Rows(id)) == 1; last != (len(p.Gone) == 1) || p.Removed[0].Writes != 1 {
			t.Fatalf("gone %v, removed %v", p.Gone, p.Removed)
		}
		s.Apply(c, p)
	}
	if s.Rows(id) != nil || len(s.Rows(other)) != 1 {
		t.Error("the wrong rows are left")
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
			s.Add(Booking{Row: Row{Message: id, Number: n, Lane: fmt.Sprint(i % 7), Group: fmt.Sprint(i % 3), Due: now, State: RowWaiting}, Size: 10})
		}
	}
	for round := 0; ; round++ {
		rows, next := s.Claim(ClaimQuery{Now: now, Until: now.Add(time.Minute), Limit: 7, PerLane: 2, Share: round % 4, Trial: round / 8 % 3})
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

// In finds the rows of some lanes among others, also those whose slot was another's before.
func TestScheduleIn(t *testing.T) {
	t.Parallel()
	s := NewSchedule()
	var all []Booking
	for i := range 3 * sweepStep / 2 {
		all = append(all, Booking{Row: Row{Message: NewID(time.UnixMilli(int64(i))), Number: i % 3, Lane: fmt.Sprint(i % 5), Due: time.Unix(1, 0), State: RowWaiting}})
	}
	s.Add(all...)
	for range 2 { // every second one goes, and a few come
		c := &Change{}
		for i := 0; i < len(all); i += 2 {
			c.Remove = append(c.Remove, all[i].Row)
		}
		p, err := s.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(c, p)
		left := all[:0]
		for i := range all {
			if i%2 == 1 {
				left = append(left, all[i])
			}
		}
		all = left
		for i := range 100 {
			b := Booking{Row: Row{Message: NewID(time.UnixMilli(int64(1e9 + i))), Lane: "3", Due: time.Unix(1, 0), State: RowWaiting}}
			s.Add(b)
			all = append(all, b)
		}
	}
	// A row that is leased, and the ID that looks like an empty slot.
	s.Add(Booking{Row: Row{Message: "00000000000000000000000000", Lane: "1", Due: time.Unix(0, 1), State: RowWaiting}})
	if rows, _ := s.Claim(ClaimQuery{Now: time.Unix(9, 0), Until: time.Unix(99, 0), Limit: 500}); len(rows) != 500 {
		t.Fatal(len(rows))
	}
	want := []Place{{Message: "00000000000000000000000000"}}
	for _, b := range all {
		if b.Row.Lane == "1" || b.Row.Lane == "3" {
			want = append(want, Place{b.Row.Message, b.Row.Number})
		}
	}
	slices.SortFunc(want, func(a, b Place) int { return cmp.Or(cmp.Compare(a.Message, b.Message), a.Number-b.Number) })
	for _, limit := range []int{1 << 20, 1000, 17} {
		var got []Place
		for after := (Place{}); len(got) < len(want); {
			page := s.In([]string{"3", "1", "9"}, after, limit)
			if len(page) == 0 || len(page) > limit {
				t.Fatalf("a page of %d", len(page))
			}
			got, after = append(got, page...), page[len(page)-1]
			if limit == 17 && len(got) > 170 {
				want = want[:len(got)]
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %d places, want %d", limit, len(got), len(want))
		}
	}
	if len(s.In([]string{"9"}, Place{}, 10)) > 0 || len(s.In([]string{"1"}, Place{Message: "x"}, 10)) > 0 {
		t.Error("a lane that is not there, or a place that is none, has rows")
	}
}

// The lanes in which something waits for an ended suspension are known while the list of ended
// ones is; a list from before there was one, one with a pattern and one that is long say nothing.
func TestEndedLanes(t *testing.T) {
	t.Parallel()
	s := &suspended{}
	s.end("a.example")
	s.end("b.example")
	s.end("a.example")
	if got := s.lanes(); !s.Stale || !slices.Equal(got, []string{"a.example", "b.example"}) {
		t.Errorf("lanes %q", got)
	}
	for _, target := range []string{Everything, ".example"} {
		o := s.emptied()
		if o.end(target); !o.Stale || o.lanes() != nil {
			t.Errorf("with %s: %q", target, o.lanes())
		}
	}
	old := &suspended{Stale: true}
	if old.end("a.example"); old.lanes() != nil {
		t.Errorf("after an unknown one: %q", old.lanes())
	}
	for i := range maxEnded {
		s.end(fmt.Sprint(i, ".example"))
	}
	if s.end("c.example"); s.lanes() != nil || !s.Stale {
		t.Errorf("of too many: %q", s.lanes())
	}
}
