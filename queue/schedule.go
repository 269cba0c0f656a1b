package queue

import (
	"slices"
	"sync"
	"time"
)

// Schedule is the index that a store for one process keeps in memory: which row is
// due when, in which lane and group, under whose lease. It knows nothing of bodies and
// records. A store fills it at open with what is on disk and then tells it of every step
// AFTER the step is durable; rows that are being written are nobody's meanwhile.
// All methods are safe for concurrent use; all are O(log n) per row.
//
// Groups take turns, and within a group its lanes: see turn.go. What a group has in
// one lane goes by due time, then by ID.
//
// It is made to hold a million rows: about 73 octets for each, in slabs without
// pointers, nothing at all for a message that has one row.
type Schedule struct {
	mu       sync.Mutex
	slots    slab[slot]
	index    table        // of messages: the slot, or manyRows and a number of many
	many     slab[booked] // messages with more than one row
	reserved map[packedID]struct{}
	leases   map[uint32]*lease // by slot
	ends     heap[*lease]      // by end; those that no change in flight touches
	ages     ages
	turns    turns
	fence    uint64   // last fence given
	floor    packedID // below it nothing is, and nothing comes while a store clears
}

// slot is a row without its data.
type slot struct {
	id      packedID
	due     int64 // Unix nanoseconds
	fence   uint32
	size    uint32
	number  int32
	strand  uint32
	place   int32  // in the strand's rows; -1: leased or busy
	fenceHi uint16 // the fence has 48 bits, the size 40
	sizeHi  uint8
	flags   slotFlags
}

// slotFlags are a row's state; the bits above are how often it was written.
type slotFlags uint8

const (
	flagHeld   slotFlags = 1 << iota // held, also under a lease
	flagLeased                       // has an entry in Schedule.leases
	flagBusy                         // a change with this row is being written
	flagWrites                       // one time
)

// maxWrites is where the count ends: what matters is whether it is more than one.
const maxWrites = int(^slotFlags(0) / flagWrites)

const maxSize = 1<<40 - 1 // of a body: a tebibyte

// manyRows marks a number of Schedule.index that is one of Schedule.many.
const manyRows = 1 << 31

// booked is a message that has, or had, more than one row.
type booked struct {
	slots []uint32 // by number
	live  int      // rows that no change in flight removes
}

// lease is a leased row.
type lease struct {
	slot  uint32
	place int // in Schedule.ends
	until int64
	begun time.Time // by the clock, not by ClaimQuery.Now
}

// NewSchedule returns an empty schedule.
func NewSchedule() *Schedule {
	s := &Schedule{
		reserved: make(map[packedID]struct{}),
		leases:   make(map[uint32]*lease),
		ages:     ages{spans: make(map[int64]*[RowHeld + 1]int32)},
		turns:    newTurns(),
	}
	s.index.id = func(n uint32) packedID {
		if n&manyRows != 0 {
			n = s.many.at(n &^ manyRows).slots[0]
		}
		return s.slots.at(n).id
	}
	return s
}

// rowOrder sorts the rows of a strand.
type rowOrder struct{ s *Schedule }

func (o rowOrder) less(a, b uint32) bool {
	x, y := o.s.slots.at(a), o.s.slots.at(b)
	return x.due < y.due || x.due == y.due && x.id.less(y.id)
}

func (o rowOrder) moved(n uint32, place int) { o.s.slots.at(n).place = int32(place) }

// endOrder sorts the leases.
type endOrder struct{}

func (endOrder) less(a, b *lease) bool     { return a.until < b.until }
func (endOrder) moved(l *lease, place int) { l.place = place }

// Booking is a row as a store puts it into a schedule.
type Booking struct {
	Row    Row
	Size   int64 // of the message's body, in octets
	Writes int   // how often the row was written; more than 31 count as 31
}

// Reserve takes the ID for an insertion that is under way. ErrExists when it is taken.
func (s *Schedule) Reserve(id ID) error {
	p, ok := id.pack()
	if !ok {
		_, err := ParseID(string(id))
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, taken := s.reserved[p]
	if _, there := s.index.get(p); there || taken || p.less(s.floor) {
		return ErrExists
	}
	s.reserved[p] = struct{}{}
	return nil
}

// Cancel gives a reserved ID back.
func (s *Schedule) Cancel(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := id.pack(); ok {
		delete(s.reserved, p)
	}
}

// Add puts rows that are on disk into the schedule. A row of an ID that ParseID
// refuses has no place in it.
func (s *Schedule) Add(rows ...Booking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range rows {
		b := &rows[i]
		id, ok := b.Row.Message.pack()
		if !ok {
			continue
		}
		delete(s.reserved, id)
		n := s.slots.add()
		t := s.slots.at(n)
		*t = slot{id: id, due: nanos(b.Row.Due), number: int32(b.Row.Number), place: -1}
		size := min(max(b.Size, 0), maxSize)
		t.size, t.sizeHi = uint32(size), uint8(size>>32)
		t.flags = slotFlags(min(max(b.Writes, 0), maxWrites)) * flagWrites
		if b.Row.State == RowHeld {
			t.flags |= flagHeld
		}
		t.setFence(b.Row.Fence)
		s.fence = max(s.fence, b.Row.Fence)
		t.strand = s.turns.join(b.Row.Group, b.Row.Lane)
		s.enter(id, n)
		s.ages.add(t.state(), id, t.octets())
		s.wait(n)
	}
}

// enter lists a slot under its message.
func (s *Schedule) enter(id packedID, n uint32) {
	first, ok := s.index.put(id, n)
	if !ok {
		return
	}
	m := first &^ manyRows
	if first&manyRows == 0 {
		m = s.many.add()
		*s.many.at(m) = booked{slots: []uint32{first}, live: 1}
		s.index.change(id, m|manyRows)
	}
	b := s.many.at(m)
	i, _ := s.search(b.slots, int(s.slots.at(n).number))
	b.slots = slices.Insert(b.slots, i, n)
	b.live++
}

// search returns where the row with that number is in a list, or belongs.
func (s *Schedule) search(list []uint32, number int) (int, bool) {
	return slices.BinarySearchFunc(list, number, func(n uint32, number int) int { return int(s.slots.at(n).number) - number })
}

// find returns the slot of a row.
func (s *Schedule) find(id packedID, number int) (n uint32, ok bool) {
	n, ok = s.index.get(id)
	if !ok {
		return 0, false
	}
	if n&manyRows == 0 {
		return n, int(s.slots.at(n).number) == number
	}
	list := s.many.at(n &^ manyRows).slots
	i, ok := s.search(list, number)
	if !ok {
		return 0, false
	}
	return list[i], true
}

// wait puts a slot that is neither leased nor busy into its strand.
func (s *Schedule) wait(n uint32) {
	st := s.turns.strands.at(s.slots.at(n).strand)
	st.rows.push(rowOrder{s}, n)
	if st.rows.items[0] == n {
		s.reseat(s.slots.at(n).strand) // the strand begins with it
	}
}

// unlease ends a slot's lease, which was worth its time or was not.
func (s *Schedule) unlease(n uint32, good bool) {
	l := s.leases[n]
	if l.place >= 0 {
		s.ends.remove(endOrder{}, l.place)
	}
	delete(s.leases, n)
	t := s.slots.at(n)
	s.ages.remove(RowLeased, t.id, t.octets())
	t.flags &^= flagLeased
	s.ages.add(t.state(), t.id, t.octets())
	s.ended(t.strand, good)
}

// lease leases the first row of a strand.
func (s *Schedule) lease(strand uint32, until int64, begun time.Time) Row {
	st := s.turns.strands.at(strand)
	n := st.rows.items[0]
	st.rows.remove(rowOrder{s}, 0)
	t := s.slots.at(n)
	s.ages.remove(t.state(), t.id, t.octets())
	t.flags |= flagLeased
	s.ages.add(RowLeased, t.id, t.octets())
	s.fence++
	t.setFence(s.fence)
	l := &lease{slot: n, until: until, begun: begun}
	s.leases[n] = l
	s.ends.push(endOrder{}, l)
	return s.row(n)
}

func (t *slot) state() RowState {
	switch {
	case t.flags&flagLeased != 0:
		return RowLeased
	case t.flags&flagHeld != 0:
		return RowHeld
	}
	return RowWaiting
}

func (t *slot) setFence(n uint64) { t.fence, t.fenceHi = uint32(n), uint16(n>>32) }
func (t *slot) fenced() uint64    { return uint64(t.fenceHi)<<32 | uint64(t.fence) }
func (t *slot) octets() int64     { return int64(t.sizeHi)<<32 | int64(t.size) }
func (t *slot) writes() int       { return int(t.flags / flagWrites) }

func (s *Schedule) row(n uint32) Row {
	t := s.slots.at(n)
	st := s.turns.strands.at(t.strand)
	r := Row{
		Message: t.id.id(), Number: int(t.number), Lane: st.lane.name, Group: st.group.name,
		Due: instant(t.due), State: t.state(), Fence: t.fenced(),
	}
	if r.State == RowLeased {
		r.Until = instant(s.leases[n].until)
	}
	return r
}

// Fill sets a row's state, due time, lease and fence to what they are now. It
// reports false for a row that is not in the schedule.
func (s *Schedule) Fill(r *Row) bool {
	id, ok := r.Message.pack()
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.find(id, r.Number)
	if !ok {
		return false
	}
	now := s.row(n)
	now.Data, now.Record = r.Data, r.Record
	*r = now
	return true
}

// Mark is at least the fence of every row as it is now: one that gets a higher one
// has moved since.
func (s *Schedule) Mark() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fence
}

// Rows returns a message's rows by number, without data; nil when there is none.
func (s *Schedule) Rows(id ID) (rows []Row) {
	p, ok := id.pack()
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.index.get(p)
	switch {
	case !ok:
		return nil
	case n&manyRows == 0:
		return []Row{s.row(n)}
	}
	for _, n := range s.many.at(n &^ manyRows).slots {
		rows = append(rows, s.row(n))
	}
	return rows
}

// First is a message ID that none with rows is below, "" when there is none: a lower
// bound for scans, which then need not walk over what was removed.
func (s *Schedule) First() ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, some := int64(0), false
	for state := RowWaiting; state <= RowHeld; state++ {
		if at, ok := s.ages.oldest(state); ok && (!some || at < first) {
			first, some = at, true
		}
	}
	if !some {
		return ""
	}
	return packedID{hi: uint64(first) << 16}.id()
}

// Clear returns what says whether a message between two IDs is there, is being inserted, or could be:
// until Cleared, Reserve refuses those before the ID that is given, and those behind it may come at any
// time. What else a store has of such is dead.
func (s *Schedule) Clear(before ID) (alive func(first, last ID) bool) {
	limit, ok := before.pack()
	if !ok {
		return func(ID, ID) bool { return true }
	}
	s.mu.Lock()
	s.floor = limit
	list := make([]packedID, 0, s.index.count+len(s.reserved))
	for _, c := range s.index.cells {
		if c.after != 0 {
			list = append(list, s.index.id(c.after-1))
		}
	}
	for p := range s.reserved {
		list = append(list, p)
	}
	s.mu.Unlock()
	slices.SortFunc(list, packedID.compare)
	return func(first, last ID) bool {
		f, ok1 := first.pack()
		l, ok2 := last.pack()
		if !ok1 || !ok2 || !l.less(limit) {
			return true
		}
		i, there := slices.BinarySearchFunc(list, f, packedID.compare)
		return there || i < len(list) && !l.less(list[i])
	}
}

// Cleared ends Clear: what is inserted from now on is behind what was removed.
func (s *Schedule) Cleared() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = packedID{}
}

// Size is the size of a message's body. ErrNotFound when there is none.
func (s *Schedule) Size(id ID) (int64, error) {
	p, ok := id.pack()
	if !ok {
		return 0, ErrNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.index.get(p)
	if !ok {
		return 0, ErrNotFound
	}
	if n&manyRows != 0 {
		n = s.many.at(n &^ manyRows).slots[0]
	}
	return s.slots.at(n).octets(), nil
}

// Stats counts rows by state, cheaply.
func (s *Schedule) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Envelopes: make(map[string]int), Bytes: make(map[string]int64), Oldest: make(map[string]time.Time)}
	for state := RowWaiting; state <= RowHeld; state++ {
		st.Envelopes[state.String()] = s.ages.count[state]
		st.Bytes[state.String()] = s.ages.bytes[state]
		if at, ok := s.ages.oldest(state); ok {
			st.Oldest[state.String()] = time.UnixMilli(at).UTC()
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
