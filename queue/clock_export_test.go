package queue

import "time"

// SetClock puts another wall clock in place.
func (q *Queue) SetClock(wall func() time.Time) {
	q.clock.mu.Lock()
	defer q.clock.mu.Unlock()
	q.clock.wall = wall
}
