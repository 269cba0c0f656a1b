package queue

import (
	"cmp"
	"slices"
)

// Place names a row.
type Place struct {
	Message ID
	Number  int
}

// sweepStep is how many slots are looked at under the lock at once: less than a
// millisecond.
const sweepStep = 1 << 14

// seen is a row that In found.
type seen struct {
	id     packedID
	number int32
}

func (a seen) compare(b seen) int {
	return cmp.Or(cmp.Compare(a.id.hi, b.id.hi), cmp.Compare(a.id.lo, b.id.lo), cmp.Compare(a.number, b.number))
}

// In returns up to limit rows of some lanes, by ID and number, behind a place (the zero one:
// from the start), so that a scan need not read all rows for those of one domain. It looks at
// every row in memory, a few nanoseconds each: take many at once.
func (s *Schedule) In(lanes []string, after Place, limit int) []Place {
	from := seen{number: -1}
	if after.Message != "" {
		id, ok := after.Message.pack()
		if !ok {
			return nil
		}
		from = seen{id, int32(after.Number)}
	}
	var found []seen
	trim := func() {
		slices.SortFunc(found, seen.compare)
		found = found[:min(len(found), limit)]
	}
	for n, more := uint32(0), true; more; n += sweepStep {
		if found, more = s.sweep(lanes, n, from, found); len(found) > 2*limit {
			trim()
		}
	}
	trim()
	places := make([]Place, len(found))
	for i, f := range found {
		places[i] = Place{f.id.id(), int(f.number)}
	}
	return places
}

// sweep adds what one step of slots has behind a row; false when there are no more.
func (s *Schedule) sweep(lanes []string, first uint32, from seen, found []seen) ([]seen, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[*lane]bool, len(lanes))
	var one *lane // the last one that was found: most often the only one
	for _, name := range lanes {
		if l := s.turns.lanes[name]; l != nil {
			wanted[l], one = true, l
		}
	}
	end := min(first+sweepStep, s.slots.next)
	for n := first; n < end && len(wanted) > 0; n++ {
		t := s.slots.at(n)
		if t.id == (packedID{}) && !s.isThere(n) {
			continue // a slot that was given back
		}
		if l := s.turns.strands.at(t.strand).lane; l != one {
			if len(wanted) == 1 || !wanted[l] {
				continue
			}
			one = l
		}
		if row := (seen{t.id, t.number}); row.compare(from) > 0 {
			found = append(found, row)
		}
	}
	return found, end < s.slots.next
}

// isThere reports whether a slot is a row's.
func (s *Schedule) isThere(n uint32) bool {
	t := s.slots.at(n)
	m, ok := s.find(t.id, int(t.number))
	return ok && m == n
}
