package queue

import "time"

const (
	longRest = 10 * time.Minute // the longest rest of a lane
	longDue  = 30 * time.Minute // what has been due for so long is claimed from a lane at rest
)

// restOrder sorts the lanes at rest.
type restOrder struct{}

func (restOrder) less(a, b *lane) bool     { return a.rest < b.rest }
func (restOrder) moved(l *lane, place int) { l.place = place }

// rest lets a strand's lane rest until a time; one that rests for longer keeps doing so.
func (s *Schedule) rest(strand uint32, until int64) {
	l := s.turns.strands.at(strand).lane
	l.earned = 1
	switch {
	case l.place < 0:
		l.rest = until
		s.turns.resting.push(restOrder{}, l)
	case until > l.rest:
		l.rest = until
		s.turns.resting.fix(restOrder{}, l.place)
	}
}

// awake ends a lane's rest.
func (t *turns) awake(l *lane) {
	if l.place >= 0 {
		t.resting.remove(restOrder{}, l.place)
	}
}
