package queue

import (
	"cmp"
	"time"
)

// Whose turn it is. Groups take turns: a group is who sends and for what, so a
// hundred thousand messages of one wait, and one message of another does not. Within a
// group its lanes take turns, so a slow domain waits, and the others do not. What one
// group has in one lane is a strand, the unit that is in line here.
//
// Two bounds make a strand wait although it is due. A lane that is full parks its
// strands: one of them gets in line again for each lease that ends there, so
// groups take turns in a full lane too. A group that is at its share of the
// places (ClaimQuery.Share) keeps its turn and is passed over for one Claim.
//
// How many leases fill a lane is earned (ClaimQuery.Trial): a dead domain holds
// each courier until a timeout, so a hundred of them with all their connections would
// hold every courier. A lease that ends with the row, or soon, doubles what the lane
// may have; one that is long and in vain halves it, down to one. An answer that says no is
// as good as one that says yes here: it cost no time.
//
// A lane can be at rest (Row.Rest): its host wants less of us. Its strands are parked then,
// but for those whose first row has been due for longDue: it is claimed all the same, so
// that what is over expires and delay notices go. A lane that has rested begins with one lease.
type turns struct {
	strands slab[strand]
	by      map[pair]uint32
	groups  map[string]*group
	lanes   map[string]*lane
	ready   []*group     // take turns; first is next
	timed   heap[uint32] // strands, by the due time of the first row
	resting heap[*lane]  // by the end of the rest
	perLane int          // of the last Claim: lanes are parked by it
	trial   int          // as perLane
}

const (
	slowLease = 5 * time.Second // what is longer and in vain speaks against a lane
	maxEarned = 1 << 16
)

// lane is the strands of one domain.
type lane struct {
	name    string
	strands int
	leased  int
	earned  int      // leases that it may have; 0: turns.trial
	parked  []uint32 // due, and the lane was full or at rest; first is next
	rest    int64    // until when it is not claimed, in Unix nanoseconds
	place   int      // in turns.resting; -1: not at rest
}

// group is the strands of one fairness class.
type group struct {
	name    string
	strands int
	leased  int
	ready   []uint32 // take turns; first is next
	inLine  bool     // in turns.ready
}

type pair struct {
	group *group
	lane  *lane
}

// strand is the rows of one group in one lane.
type strand struct {
	pair
	rows  heap[uint32] // slots, not leased, not busy; by due time
	count int32        // slots in all
	place int32        // in turns.timed
	at    seat
}

// seat is where a strand is. In line and parked ones are looked at when their turn
// comes, not before: they may have nothing due any more.
type seat uint8

const (
	seatNone   seat = iota // nothing to claim
	seatTimed              // in turns.timed
	seatReady              // in its group's line
	seatParked             // in its lane's line
)

func newTurns() turns {
	return turns{by: make(map[pair]uint32), groups: make(map[string]*group), lanes: make(map[string]*lane)}
}

// timeOrder sorts the strands that wait for a time.
type timeOrder struct{ s *Schedule }

func (o timeOrder) less(a, b uint32) bool { return o.s.firstDue(a) < o.s.firstDue(b) }

func (o timeOrder) moved(n uint32, place int) { o.s.turns.strands.at(n).place = int32(place) }

// firstDue is when the first row of a strand is due; it has one.
func (s *Schedule) firstDue(n uint32) int64 {
	return s.slots.at(s.turns.strands.at(n).rows.items[0]).due
}

// join counts a row into its strand, whose number it returns.
func (t *turns) join(groupName, laneName string) uint32 {
	g, l := t.groups[groupName], t.lanes[laneName]
	if g == nil {
		g = &group{name: groupName}
		t.groups[groupName] = g
	}
	if l == nil {
		l = &lane{name: laneName, place: -1}
		t.lanes[laneName] = l
	}
	n, ok := t.by[pair{g, l}]
	if !ok {
		n = t.strands.add()
		*t.strands.at(n) = strand{pair: pair{g, l}, place: -1}
		t.by[pair{g, l}] = n
		g.strands++
		l.strands++
	}
	t.strands.at(n).count++
	return n
}

// leave counts a row out of its strand.
func (s *Schedule) leave(n uint32) {
	s.turns.strands.at(n).count--
	s.reseat(n)
}

// forget drops a strand that has no rows and is nowhere in line.
func (t *turns) forget(n uint32) {
	p := t.strands.at(n).pair
	t.strands.drop(n)
	delete(t.by, p)
	if p.group.strands--; p.group.strands == 0 {
		delete(t.groups, p.group.name) // it goes out of the line when its turn comes
	}
	if p.lane.strands--; p.lane.strands == 0 {
		t.awake(p.lane)
		delete(t.lanes, p.lane.name)
	}
}

// reseat puts a strand where it belongs after its rows have changed.
func (s *Schedule) reseat(n uint32) {
	st := s.turns.strands.at(n)
	empty := len(st.rows.items) == 0
	switch st.at {
	case seatReady, seatParked:
		return
	case seatTimed:
		if !empty {
			s.turns.timed.fix(timeOrder{s}, int(st.place))
			return
		}
		s.turns.timed.remove(timeOrder{s}, int(st.place))
		st.at = seatNone
	case seatNone:
		if !empty {
			s.turns.timed.push(timeOrder{s}, n)
			st.at = seatTimed
			return
		}
	}
	if st.count == 0 {
		s.turns.forget(n)
	}
}

// queue puts a strand into its group's line, and the group into the line of groups.
func (t *turns) queue(n uint32) {
	st := t.strands.at(n)
	st.at = seatReady
	st.group.ready = append(st.group.ready, n)
	if !st.group.inLine {
		st.group.inLine = true
		t.ready = append(t.ready, st.group)
	}
}

// admit gets the next parked strand of a lane in line if there is room for a lease. It
// is called whenever there may be; each one that is served or passed over admits
// the next, so none is left behind.
func (t *turns) admit(l *lane) {
	if len(l.parked) == 0 || t.full(l) {
		return
	}
	n := l.parked[0]
	if l.parked = l.parked[1:]; len(l.parked) == 0 {
		l.parked = nil
	}
	t.queue(n)
}

func (t *turns) full(l *lane) bool {
	limit := t.perLane
	if t.trial > 0 {
		if n := cmp.Or(l.earned, t.trial); limit == 0 || n < limit {
			limit = n
		}
	}
	return limit > 0 && l.leased >= limit
}

// earn takes the end of a lease as a sign of what the lane is worth.
func (t *turns) earn(l *lane, good bool) {
	switch n := cmp.Or(l.earned, t.trial); {
	case t.trial == 0:
	case good:
		l.earned = min(n*2, maxEarned)
	default:
		l.earned = max(n/2, 1)
	}
}

// ended counts a lease out.
func (s *Schedule) ended(n uint32, good bool) {
	st := s.turns.strands.at(n)
	st.lane.leased--
	st.group.leased--
	s.turns.earn(st.lane, good)
	s.turns.admit(st.lane)
}

// Claim leases due rows: see Store.Claim. The rows have no data.
func (s *Schedule) Claim(q ClaimQuery) (rows []Row, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := nanos(q.Now)
	s.pass(now, &q)
	begun := time.Now()
	var over []*group // those that are at their share
	for {
		g, n, ok := s.turn(now)
		if !ok || len(rows) >= q.Limit {
			break
		}
		if q.Share > 0 && g.leased >= q.Share*(q.Limit-len(rows)) {
			over = append(over, g)
			s.turns.ready = s.turns.ready[1:]
			continue
		}
		rows = append(rows, s.lease(n, nanos(q.Until), begun))
		st := s.turns.strands.at(n)
		st.lane.leased++
		g.leased++
		g.ready = append(g.ready[1:], n)
		s.turns.ready = append(s.turns.ready[1:], g)
		s.turns.admit(st.lane)
	}
	next = s.next(q.Now)
	if len(over) > 0 {
		s.turns.ready = append(over, s.turns.ready...)
	}
	return rows, next
}

// pass lets time pass: leases run out, and what is due gets in line.
func (s *Schedule) pass(now int64, q *ClaimQuery) {
	if s.turns.perLane != q.PerLane || s.turns.trial != q.Trial {
		s.turns.perLane, s.turns.trial = q.PerLane, q.Trial
		for _, l := range s.turns.lanes {
			s.turns.admit(l)
		}
	}
	for {
		l, ok := s.ends.top()
		if !ok || l.until > now {
			break
		}
		s.unlease(l.slot, false)
		s.wait(l.slot)
	}
	for {
		l, ok := s.turns.resting.top()
		if !ok || l.rest > now {
			break
		}
		s.turns.awake(l)
		s.turns.admit(l)
	}
	for {
		n, ok := s.turns.timed.top()
		if !ok || s.firstDue(n) > now {
			break
		}
		s.turns.timed.remove(timeOrder{s}, 0)
		s.turns.queue(n)
	}
}

// turn returns the strand whose turn it is and its group. It takes what cannot be
// served out of the line.
func (s *Schedule) turn(now int64) (*group, uint32, bool) {
	for t := &s.turns; len(t.ready) > 0; t.ready = t.ready[1:] {
		g := t.ready[0]
		for len(g.ready) > 0 {
			n := g.ready[0]
			st := t.strands.at(n)
			l := st.lane
			due := len(st.rows.items) > 0 && s.firstDue(n) <= now
			if due && !t.full(l) && (l.place < 0 || now-s.firstDue(n) >= int64(longDue)) {
				return g, n, true
			}
			g.ready = g.ready[1:]
			if due {
				st.at = seatParked // until one of the lane's leases ends
				l.parked = append(l.parked, n)
				continue
			}
			st.at = seatNone
			s.reseat(n)
			t.admit(l)
		}
		g.ready, g.inLine = nil, false
	}
	s.turns.ready = nil
	return nil, 0, false
}

// next is when something can be claimed without a change before.
func (s *Schedule) next(now time.Time) time.Time {
	if len(s.turns.ready) > 0 {
		return now
	}
	var at int64
	n, ok := s.turns.timed.top()
	if ok {
		at = s.firstDue(n)
	}
	if l, leased := s.ends.top(); leased && (!ok || l.until < at) {
		at, ok = l.until, true
	}
	if l, rests := s.turns.resting.top(); rests && (!ok || l.rest < at) {
		at, ok = l.rest, true
	}
	if !ok {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}
