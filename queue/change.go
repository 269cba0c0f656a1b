package queue

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Prepared is a change that is being written.
type Prepared struct {
	// Gone are the messages of which the change removes the last row.
	Gone []Departure
	// Updated and Removed tell about each row of the change.
	Updated, Removed []Written
	slots            []uint32
}

// Written is a row as it was written last.
type Written struct {
	Lane, Group string
	Size        int64 // of the message's body
	Writes      int   // how often it was written; 31 may be more
}

func (s *Schedule) written(n uint32) Written {
	t := s.slots.at(n)
	p := s.turns.strands.at(t.strand).pair
	return Written{Lane: p.lane.name, Group: p.group.name, Size: t.octets(), Writes: t.writes()}
}

// Departure is a message that goes.
type Departure struct {
	ID   ID
	Size int64
}

// Prepare checks a change against leases and fences and keeps its rows for the
// caller until Apply or Abort. The caller must bring changes into its log in the order in
// which it prepared them: only the last change of a message lists it as gone.
func (s *Schedule) Prepare(c *Change) (*Prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Prepared{slots: make([]uint32, 0, len(c.Update)+len(c.Remove))}
	for i := range c.Update {
		if st := c.Update[i].State; st != RowWaiting && st != RowHeld {
			s.back(p)
			return nil, fmt.Errorf("queue: a row cannot be written as %s", st)
		}
		n, err := s.take(&c.Update[i])
		if err != nil {
			s.back(p)
			return nil, err
		}
		p.slots = append(p.slots, n)
		p.Updated = append(p.Updated, s.written(n))
	}
	for i := range c.Remove {
		n, err := s.take(&c.Remove[i])
		if err != nil {
			s.back(p)
			return nil, err
		}
		p.slots = append(p.slots, n)
		p.Removed = append(p.Removed, s.written(n))
	}
	for _, n := range p.slots[len(c.Update):] {
		if t := s.slots.at(n); s.alive(t.id, -1) == 0 {
			p.Gone = append(p.Gone, Departure{ID: t.id.id(), Size: t.octets()})
		}
	}
	return p, nil
}

// alive adds to the number of a message's rows that no change in flight removes, and
// returns it.
func (s *Schedule) alive(id packedID, more int) int {
	n, ok := s.index.get(id)
	if !ok || n&manyRows == 0 {
		return 0 // its one row is what the change is about
	}
	b := s.many.at(n &^ manyRows)
	b.live += more
	return b.live
}

// take makes a row busy. A row that is busy already is somebody else's.
func (s *Schedule) take(r *Row) (uint32, error) {
	id, ok := r.Message.pack()
	if !ok {
		return 0, ErrStale
	}
	n, ok := s.find(id, r.Number)
	if !ok {
		return 0, ErrStale
	}
	t := s.slots.at(n)
	if t.flags&flagBusy != 0 || t.fenced() != r.Fence {
		return 0, ErrStale
	}
	t.flags |= flagBusy
	if l := s.leases[n]; l != nil {
		s.ends.remove(endOrder{}, l.place)
		return n, nil
	}
	s.turns.strands.at(t.strand).rows.remove(rowOrder{s}, int(t.place))
	s.reseat(t.strand)
	return n, nil
}

// back undoes take.
func (s *Schedule) back(p *Prepared) {
	for _, n := range p.slots {
		s.slots.at(n).flags &^= flagBusy
		if l := s.leases[n]; l != nil {
			s.ends.push(endOrder{}, l)
		} else {
			s.wait(n)
		}
	}
}

// Abort undoes Prepare: nothing of the change was written.
func (s *Schedule) Abort(c *Change, p *Prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range p.slots[len(c.Update):] {
		s.alive(s.slots.at(n).id, +1)
	}
	s.back(p)
}

// Apply ends Prepare: the change is durable.
func (s *Schedule) Apply(c *Change, p *Prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range p.slots {
		t := s.slots.at(n)
		if l := s.leases[n]; l != nil {
			s.unlease(n, i >= len(c.Update) || time.Since(l.begun) < slowLease)
		}
		s.ages.remove(t.state(), t.id, t.octets())
		if i >= len(c.Update) {
			s.drop(n)
			continue
		}
		r := &c.Update[i]
		s.fence++
		t.setFence(s.fence)
		t.due = nanos(r.Due)
		t.flags = slotFlags(min(t.writes()+1, maxWrites)) * flagWrites
		if r.State == RowHeld {
			t.flags |= flagHeld
		}
		if !r.Rest.IsZero() {
			s.rest(t.strand, nanos(r.Rest))
		}
		s.ages.add(t.state(), t.id, t.octets())
		s.wait(n)
	}
}

// drop forgets a slot that is in no heap.
func (s *Schedule) drop(n uint32) {
	t := s.slots.at(n)
	strand := t.strand
	if first, _ := s.index.get(t.id); first&manyRows == 0 {
		s.index.remove(t.id)
	} else {
		m := first &^ manyRows
		b := s.many.at(m)
		if len(b.slots) == 1 {
			s.index.remove(t.id)
			s.many.drop(m)
		} else {
			i, _ := s.search(b.slots, int(t.number))
			b.slots = slices.Delete(b.slots, i, i+1)
		}
	}
	s.slots.drop(n)
	s.leave(strand)
}

// Check reports what is wrong with an insertion's ID and rows, for a store.
func (in *Insertion) Check() error {
	if _, err := ParseID(string(in.ID)); err != nil {
		return err
	}
	if len(in.Rows) == 0 {
		return errors.New("queue: a message without rows")
	}
	seen := make(map[int]bool, len(in.Rows))
	for i := range in.Rows {
		r := &in.Rows[i]
		switch {
		case r.Message != in.ID:
			return fmt.Errorf("queue: message %s with a row of message %s", in.ID, r.Message)
		case r.Number < 0 || r.Number > 1<<30 || seen[r.Number]:
			return fmt.Errorf("queue: message %s: row number %d is out of range or there twice", in.ID, r.Number)
		case r.State != RowWaiting && r.State != RowHeld:
			return fmt.Errorf("queue: message %s: a row cannot be inserted as %s", in.ID, r.State)
		}
		seen[r.Number] = true
	}
	return nil
}
