package queue

import (
	"sync"
	"time"
)

// leapLeast is the jump of the wall clock that counts as one: less is how clocks are set.
const leapLeast = time.Minute

// clock is the queue's time: the wall clock's, but it never goes back. Due times on disk are
// of the wall clock, so a jump back of an hour would keep everything waiting an hour longer;
// instead time goes on from where it was until the wall clock has caught up, or the process
// starts anew. A jump forward is taken over and remembered.
type clock struct {
	wall func() time.Time // of tests; nil: time.Now

	mu    sync.Mutex
	began time.Time // when last was, with the monotonic reading
	last  time.Time // no monotonic reading
	leap  time.Time // the time after the last jump forward; zero: there was none
	back  bool      // the wall clock is behind
}

// now returns the time, and how far the wall clock has jumped when it just did.
func (c *clock) now() (now time.Time, jump time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mark := time.Now()
	wall := mark.Round(0)
	if c.wall != nil {
		wall = c.wall().Round(0)
	}
	if c.last.IsZero() {
		c.began, c.last = mark, wall
		return wall, 0
	}
	steady := c.last.Add(mark.Sub(c.began))
	c.began = mark
	switch d := wall.Sub(steady); {
	case d < -leapLeast:
		if !c.back {
			c.back, jump = true, d
		}
		c.last = steady
	case d < 0:
		c.back, c.last = false, steady
	case d > leapLeast:
		c.back, c.last, c.leap, jump = false, wall, wall, d
	default:
		c.back, c.last = false, wall
	}
	return c.last, jump
}

// leaped reports whether the clock has jumped forward since a time that it showed.
func (c *clock) leaped(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return since.Before(c.leap)
}

// now is the queue's time.
func (q *Queue) now() time.Time {
	now, jump := q.clock.now()
	switch {
	case jump > 0:
		q.log.Warn("queue: the clock jumped forward: what is over its time by that gets one more try", "by", jump)
	case jump < 0:
		q.log.Warn("queue: the clock jumped back: the queue goes on by the old one until the new one has caught up, or until the next start", "by", -jump)
	}
	return now
}
