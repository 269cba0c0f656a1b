package queue

import (
	"slices"
	"sync"
	"time"
)

// Schedule is the index that a store for one process keeps in memory: which row is
// due when, in which lane, under whose lease. It knows nothing of bodies and records.
// A store fills it at open with what is on disk and then tells it of every step
// AFTER the step is durable; rows that are being written are nobody's meanwhile.
// All methods are safe for concurrent use; all are O(log n) per row.
//
// Lanes take turns: each lane with something due is served one row per round. In a
// lane the order is by due time, then by ID.
type Schedule struct {
	mu       sync.Mutex
	messages map[ID]*booked
	lanes    map[string]*lane
	ready    []*lane           // take turns; first is next. May hold lanes that are not ready any more
	timed    heap[*lane]       // by the due time of the first row
	leases   heap[*slot]       // by end
	ages     [RowHeld + 1]ages // by state
	fence    uint64            // last fence given
	perLane  int               // of the last Claim: lanes are parked by it
}

// booked is a message: nil slots while its body is being written.
type booked struct {
	id    ID
	size  int64
	live  int // rows that no change in flight removes
	slots []*slot
}

// slot is a row without its data. Times are Unix nanoseconds.
type slot struct {
	message *booked
	lane    *lane
	due     int64
	until   int64
	fence   uint64
	number  int32
	place   int32 // in the lane's rows or in leases; -1: in neither
	age     int32 // in ages[state]
	writes  int32
	state   RowState
	before  RowState // state under the lease: waiting or held
	busy    bool     // a change with this row is being written
}

// lane is the rows of one domain.
type lane struct {
	name   string
	rows   heap[*slot] // not leased, not busy; by due time
	leased int
	place  int // in Schedule.timed
	at     seat
}

// seat is where a lane is.
type seat uint8

const (
	seatNone   seat = iota // nothing to claim
	seatTimed              // in Schedule.timed
	seatReady              // in Schedule.ready
	seatParked             // due, and at its limit of leases
)

// ages counts the rows of one state, oldest first.
type ages struct {
	rows  heap[*slot]
	bytes int64
}

// NewSchedule returns an empty schedule.
func NewSchedule() *Schedule {
	s := &Schedule{
		messages: make(map[ID]*booked),
		lanes:    make(map[string]*lane),
		timed: heap[*lane]{
			less:  func(a, b *lane) bool { return a.rows.items[0].due < b.rows.items[0].due },
			moved: func(l *lane, place int) { l.place = place },
		},
		leases: heap[*slot]{
			less:  func(a, b *slot) bool { return a.until < b.until },
			moved: func(t *slot, place int) { t.place = int32(place) },
		},
	}
	for i := range s.ages {
		s.ages[i].rows = heap[*slot]{
			less:  func(a, b *slot) bool { return a.message.id < b.message.id },
			moved: func(t *slot, place int) { t.age = int32(place) },
		}
	}
	return s
}

// Booking is a row as a store puts it into a schedule.
type Booking struct {
	Row    Row
	Size   int64 // of the message's body, in octets
	Writes int   // how often the row was written
}

// Reserve takes the ID for an insertion that is under way. ErrExists when it is taken.
func (s *Schedule) Reserve(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages[id] != nil {
		return ErrExists
	}
	s.messages[id] = &booked{id: id}
	return nil
}

// Cancel gives a reserved ID back.
func (s *Schedule) Cancel(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil && len(m.slots) == 0 {
		delete(s.messages, id)
	}
}

// Add puts rows that are on disk into the schedule.
func (s *Schedule) Add(rows ...Booking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range rows {
		m := s.messages[b.Row.Message]
		if m == nil {
			m = &booked{id: b.Row.Message}
			s.messages[m.id] = m
		}
		m.size = b.Size
		m.live++
		s.fence = max(s.fence, b.Row.Fence)
		t := &slot{
			message: m, lane: s.lane(b.Row.Lane), due: nanos(b.Row.Due), fence: b.Row.Fence,
			number: int32(b.Row.Number), writes: int32(b.Writes), state: b.Row.State, place: -1,
		}
		i, _ := m.find(b.Row.Number)
		m.slots = slices.Insert(m.slots, i, t)
		s.age(t)
		s.wait(t)
	}
}

func (s *Schedule) lane(name string) *lane {
	l := s.lanes[name]
	if l == nil {
		l = &lane{name: name, place: -1, rows: heap[*slot]{
			less: func(a, b *slot) bool {
				if a.due != b.due {
					return a.due < b.due
				}
				return a.message.id < b.message.id
			},
			moved: func(t *slot, place int) { t.place = int32(place) },
		}}
		s.lanes[name] = l
	}
	return l
}

// find returns where the row number n is, or belongs.
func (m *booked) find(n int) (int, bool) {
	return slices.BinarySearchFunc(m.slots, n, func(t *slot, n int) int { return int(t.number) - n })
}

// age counts the slot under its state; unage takes it out, before the state changes.
func (s *Schedule) age(t *slot) {
	a := &s.ages[t.state]
	a.rows.push(t)
	a.bytes += t.message.size
}

func (s *Schedule) unage(t *slot) {
	a := &s.ages[t.state]
	a.rows.remove(int(t.age))
	a.bytes -= t.message.size
}

// wait puts a slot that is not leased into its lane.
func (s *Schedule) wait(t *slot) {
	t.lane.rows.push(t)
	s.reseat(t.lane)
}

// reseat puts a lane where it belongs after its rows or leases have changed. A
// ready lane stays in the line: Claim looks again when its turn comes.
func (s *Schedule) reseat(l *lane) {
	empty := len(l.rows.items) == 0
	switch l.at {
	case seatReady:
		return
	case seatTimed:
		if !empty {
			s.timed.fix(l.place)
			return
		}
		s.timed.remove(l.place)
	case seatNone, seatParked:
		if !empty {
			s.timed.push(l)
			l.at = seatTimed
			return
		}
	}
	l.at = seatNone
	// A busy row may still point to a lane that was forgotten and made anew.
	if l.leased == 0 && s.lanes[l.name] == l {
		delete(s.lanes, l.name)
	}
}

// unlease ends a slot's lease; it is in neither heap then.
func (s *Schedule) unlease(t *slot) {
	if t.place >= 0 {
		s.leases.remove(int(t.place))
	}
	s.unage(t)
	t.state = t.before
	s.age(t)
	t.lane.leased--
}

// Claim leases due rows: see Store.Claim. The rows have no data.
func (s *Schedule) Claim(q ClaimQuery) (rows []Row, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := nanos(q.Now)
	if s.perLane != q.PerLane {
		s.perLane = q.PerLane
		for _, l := range s.lanes {
			s.reseat(l) // parked ones get in line again
		}
	}
	for {
		t, ok := s.leases.top()
		if !ok || t.until > now {
			break
		}
		s.unlease(t)
		s.wait(t)
	}
	for {
		l, ok := s.timed.top()
		if !ok || l.rows.items[0].due > now {
			break
		}
		s.timed.remove(l.place)
		l.at = seatReady
		s.ready = append(s.ready, l)
	}
	for s.turn(now, q.PerLane) && len(rows) < q.Limit {
		l := s.ready[0]
		rows = append(rows, s.lease(l, nanos(q.Until)))
		s.ready[0] = nil
		s.ready = append(s.ready[1:], l)
	}
	return rows, s.next(q.Now)
}

// turn takes lanes out of the line that cannot be served, and reports whether the
// first one can.
func (s *Schedule) turn(now int64, perLane int) bool {
	for len(s.ready) > 0 {
		l := s.ready[0]
		due := len(l.rows.items) > 0 && l.rows.items[0].due <= now
		full := perLane > 0 && l.leased >= perLane
		if due && !full {
			return true
		}
		s.ready[0] = nil
		s.ready = s.ready[1:]
		if l.at = seatNone; due {
			l.at = seatParked // until one of its leases ends
		} else {
			s.reseat(l)
		}
	}
	return false
}

func (s *Schedule) lease(l *lane, until int64) Row {
	t := l.rows.items[0]
	l.rows.remove(0)
	l.leased++
	s.unage(t)
	t.before, t.state, t.until = t.state, RowLeased, until
	s.age(t)
	s.fence++
	t.fence = s.fence
	s.leases.push(t)
	return t.row()
}

// next is when something can be claimed without a change before.
func (s *Schedule) next(now time.Time) time.Time {
	if len(s.ready) > 0 {
		return now
	}
	var at int64
	l, ok := s.timed.top()
	if ok {
		at = l.rows.items[0].due
	}
	if t, leased := s.leases.top(); leased && (!ok || t.until < at) {
		at, ok = t.until, true
	}
	if !ok {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}

func (t *slot) row() Row {
	r := Row{
		Message: t.message.id, Number: int(t.number), Lane: t.lane.name,
		Due: instant(t.due), State: t.state, Fence: t.fence,
	}
	if t.state == RowLeased {
		r.Until = instant(t.until)
	}
	return r
}

// Fill sets a row's state, due time, lease and fence to what they are now. It
// reports false for a row that is not in the schedule.
func (s *Schedule) Fill(r *Row) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[r.Message]
	if m == nil {
		return false
	}
	i, ok := m.find(r.Number)
	if !ok {
		return false
	}
	now := m.slots[i].row()
	now.Data, now.Record = r.Data, r.Record
	*r = now
	return true
}

// Rows returns a message's rows by number, without data; nil when there is none.
func (s *Schedule) Rows(id ID) []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return nil
	}
	var rows []Row
	for _, t := range m.slots {
		rows = append(rows, t.row())
	}
	return rows
}

// First is the lowest message ID with rows, "" when there is none: a lower bound for
// scans, which then need not walk over what was removed.
func (s *Schedule) First() ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first ID
	for i := range s.ages {
		if t, ok := s.ages[i].rows.top(); ok && (first == "" || t.message.id < first) {
			first = t.message.id
		}
	}
	return first
}

// Size is the size of a message's body. ErrNotFound when there is none.
func (s *Schedule) Size(id ID) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil || len(m.slots) == 0 {
		return 0, ErrNotFound
	}
	return m.size, nil
}

// Stats counts rows by state, in O(1).
func (s *Schedule) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Envelopes: make(map[string]int), Bytes: make(map[string]int64), Oldest: make(map[string]time.Time)}
	for state := RowWaiting; state <= RowHeld; state++ {
		a := &s.ages[state]
		st.Envelopes[state.String()] = len(a.rows.items)
		st.Bytes[state.String()] = a.bytes
		if t, ok := a.rows.top(); ok {
			st.Oldest[state.String()] = t.message.id.Time()
		}
	}
	return st
}

// nanos is a time as the schedule keeps it; the zero time is due for ever.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time { return time.Unix(0, n).UTC() }
