package pebblestore

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// compactionRest is how long no compaction begins after one has failed. Pebble would
	// try again at once, for ever: a table that is damaged fails each time.
	compactionRest = time.Minute
	// fullRest is the same on a full disk. What a compaction wrote before it found no space
	// goes with it, and is room for flushes and for the log meanwhile.
	fullRest       = 5 * time.Second
	compactionStep = 100 * time.Millisecond // Pebble's own step
)

// scheduler is Pebble's, with rests. (The constructor is the only one of it that is
// exported; what it leaves out, the regular look, is added here. It looks only while somebody was
// refused: a store that is idle has no clock that ticks.)
type scheduler struct {
	*pebble.ConcurrencyLimitScheduler
	resting func() bool
	refused chan struct{} // capacity 1: a compaction waits
	stop    chan struct{}
	done    chan struct{}
}

func newScheduler(resting func() bool) *scheduler {
	return &scheduler{
		pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), resting, make(chan struct{}, 1), make(chan struct{}), make(chan struct{}),
	}
}

// TrySchedule implements pebble.CompactionScheduler. Who is refused waits for a grant.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	ok, grant := s.ConcurrencyLimitScheduler.TrySchedule()
	if !ok {
		select {
		case s.refused <- struct{}{}:
		default:
		}
	}
	return ok, grant
}

// restful is a database that is allowed no compaction while it rests.
type restful struct {
	pebble.DBForCompaction
	resting func() bool
}

// GetAllowedWithoutPermission implements pebble.DBForCompaction.
func (r restful) GetAllowedWithoutPermission() int {
	if r.resting() {
		return 0
	}
	return r.DBForCompaction.GetAllowedWithoutPermission()
}

// Register implements pebble.CompactionScheduler.
func (s *scheduler) Register(n int, db pebble.DBForCompaction) {
	s.ConcurrencyLimitScheduler.Register(n, restful{db, s.resting})
	go func() {
		defer close(s.done)
		for {
			select {
			case <-s.stop:
				return
			case <-s.refused:
			}
			if !s.grant() {
				return
			}
		}
	}()
}

// grant looks until there is room for a compaction, which goes to whoever waits; false when the
// store ends.
func (s *scheduler) grant() bool {
	tick := time.NewTicker(compactionStep)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return false
		case <-tick.C:
		}
		// A grant that is given back goes to whoever waits.
		if ok, grant := s.ConcurrencyLimitScheduler.TrySchedule(); ok {
			grant.Done()
			return true
		}
	}
}

// Unregister implements pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	close(s.stop)
	<-s.done
	s.ConcurrencyLimitScheduler.Unregister()
}

// resting reports whether a compaction failed of late.
func (l logger) resting() bool {
	until := l.rest.Load()
	return until != 0 && time.Now().UnixNano() < until
}
