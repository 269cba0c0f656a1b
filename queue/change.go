package queue

import (
	"errors"
	"fmt"
	"slices"
)

// Prepared is a change that is being written.
type Prepared struct {
	// Gone are the messages of which the change removes the last row.
	Gone []Departure
	// Updated and Removed tell about each row of the change.
	Updated, Removed []Written
	slots            []*slot
}

// Written is a row as it was written last.
type Written struct {
	Lane   string
	Size   int64 // of the message's body
	Writes int   // how often it was written
}

func (t *slot) written() Written {
	return Written{Lane: t.lane.name, Size: t.message.size, Writes: int(t.writes)}
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
	p := &Prepared{slots: make([]*slot, 0, len(c.Update)+len(c.Remove))}
	for i := range c.Update {
		if st := c.Update[i].State; st != RowWaiting && st != RowHeld {
			s.back(p)
			return nil, fmt.Errorf("queue: a row cannot be written as %s", st)
		}
		t, err := s.take(&c.Update[i])
		if err != nil {
			s.back(p)
			return nil, err
		}
		p.slots = append(p.slots, t)
		p.Updated = append(p.Updated, t.written())
	}
	for i := range c.Remove {
		t, err := s.take(&c.Remove[i])
		if err != nil {
			s.back(p)
			return nil, err
		}
		p.slots = append(p.slots, t)
		p.Removed = append(p.Removed, t.written())
	}
	for _, t := range p.slots[len(c.Update):] {
		if t.message.live--; t.message.live == 0 {
			p.Gone = append(p.Gone, Departure{ID: t.message.id, Size: t.message.size})
		}
	}
	return p, nil
}

// take makes a row busy. A row that is busy already is somebody else's.
func (s *Schedule) take(r *Row) (*slot, error) {
	m := s.messages[r.Message]
	if m == nil {
		return nil, ErrStale
	}
	i, ok := m.find(r.Number)
	if !ok || m.slots[i].busy || m.slots[i].fence != r.Fence {
		return nil, ErrStale
	}
	t := m.slots[i]
	t.busy = true
	if t.state == RowLeased {
		s.leases.remove(int(t.place))
	} else {
		t.lane.rows.remove(int(t.place))
		s.reseat(t.lane)
	}
	return t, nil
}

// back undoes take.
func (s *Schedule) back(p *Prepared) {
	for _, t := range p.slots {
		t.busy = false
		if t.state == RowLeased {
			s.leases.push(t)
		} else {
			t.lane = s.lane(t.lane.name) // an empty lane was forgotten
			s.wait(t)
		}
	}
}

// Abort undoes Prepare: nothing of the change was written.
func (s *Schedule) Abort(c *Change, p *Prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range p.slots[len(c.Update):] {
		t.message.live++
	}
	s.back(p)
}

// Apply ends Prepare: the change is durable.
func (s *Schedule) Apply(c *Change, p *Prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range p.slots {
		if t.state == RowLeased {
			s.unlease(t)
		}
		s.unage(t)
		if i >= len(c.Update) {
			s.drop(t)
			continue
		}
		r := &c.Update[i]
		s.fence++
		t.busy, t.fence, t.due, t.state = false, s.fence, nanos(r.Due), r.State
		t.writes++
		s.age(t)
		t.lane = s.lane(t.lane.name)
		s.wait(t)
	}
}

// drop forgets a slot that is in no heap.
func (s *Schedule) drop(t *slot) {
	m := t.message
	i, _ := m.find(int(t.number))
	m.slots = slices.Delete(m.slots, i, i+1)
	if len(m.slots) == 0 {
		delete(s.messages, m.id)
	}
	s.reseat(t.lane)
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
