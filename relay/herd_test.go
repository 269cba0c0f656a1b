package relay

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// crowd is what a simulated host sees of couriers.
type crowd struct {
	mu                  sync.Mutex
	open, most, refused int
	delivered           int
	firstGood           time.Time
	begun               []time.Time // connections that were asked for
}

// simulate has 40 couriers bring messages to a host that takes a number of connections
// at once, and none before it is up. th nil: without a throttle.
func simulate(th *Throttle, messages, takes int, up time.Time) (c *crowd, took time.Duration) {
	c = &crowd{}
	start, left := time.Now(), messages
	at, host := addrOf(1), placeName
	var crew sync.WaitGroup
	for range 40 {
		crew.Go(func() {
			for {
				c.mu.Lock()
				if left == 0 {
					c.mu.Unlock()
					return
				}
				left--
				c.mu.Unlock()
				for !c.try(th, func() (pass, time.Duration, bool) { return th.begin(host, at, time.Now()) }, takes, up) {
				}
			}
		})
	}
	crew.Wait()
	return c, time.Since(start)
}

const placeName policy.Domain = "mx.example"

// try is one attempt; it waits as the queue would have it wait.
func (c *crowd) try(th *Throttle, begin func() (pass, time.Duration, bool), takes int, up time.Time) bool {
	var p pass
	if th != nil {
		for {
			q, wait, ok := begin()
			time.Sleep(wait)
			if p = q; ok {
				break
			}
		}
		for { // the pool's limit
			c.mu.Lock()
			room := c.open < th.Connections(p.place)
			if room {
				c.open++
			}
			c.mu.Unlock()
			if room {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	} else {
		c.mu.Lock()
		c.open++
		c.mu.Unlock()
	}
	end := func(s Sign) {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
		if th != nil {
			th.end(p, s, time.Now())
		}
	}
	c.mu.Lock()
	now := time.Now()
	c.begun = append(c.begun, now)
	c.most = max(c.most, c.open)
	down, full := now.Before(up), c.open > takes
	if down || full {
		c.refused++
	}
	c.mu.Unlock()
	switch {
	case down:
		end(SignDown)
		time.Sleep(5 * time.Second) // the schedule
		return false
	case full:
		end(SignConnections)
		if th == nil {
			time.Sleep(5 * time.Second)
		}
		return false
	}
	time.Sleep(500 * time.Millisecond)
	c.mu.Lock()
	if c.delivered++; c.firstGood.IsZero() {
		c.firstGood = time.Now()
	}
	c.mu.Unlock()
	end(SignGood)
	return true
}

// A host that takes four connections: with the throttle hardly any is refused, without it
// more than messages are delivered meanwhile; and everything arrives.
func TestCrowdedHost(t *testing.T) {
	t.Parallel()
	run := func(th *Throttle) (c *crowd, took time.Duration) {
		synctest.Test(t, func(*testing.T) { c, took = simulate(th, 1000, 4, time.Time{}) })
		return c, took
	}
	with, tookWith := run(NewThrottle(Limits{Connections: 20}, nil))
	without, tookWithout := run(nil)
	t.Logf("refused: %d with, %d without; took %v, %v", with.refused, without.refused, tookWith, tookWithout)
	if with.delivered != 1000 || without.delivered != 1000 {
		t.Fatalf("%d and %d delivered", with.delivered, without.delivered)
	}
	if with.refused > 60 || with.refused*10 > without.refused {
		t.Errorf("%d connections were refused with the throttle, %d without", with.refused, without.refused)
	}
	if tookWith > 4*tookWithout {
		t.Errorf("it took %v with the throttle, %v without", tookWith, tookWithout)
	}
}

// A host comes back after an outage with thousands waiting: they come gradually, and soon
// all the host takes.
func TestNoHerdAtAHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		up := start.Add(2 * time.Minute)
		c, took := simulate(NewThrottle(Limits{Connections: 20}, nil), 3000, 1000, up)
		window := func(from, to time.Duration) (n int) {
			for _, at := range c.begun {
				if d := at.Sub(up); d >= from && d < to {
					n++
				}
			}
			return n
		}
		first, later := window(0, time.Second), window(30*time.Second, 31*time.Second)
		t.Logf("in the outage %d connections, first second %d, thirtieth %d, most at once %d, all after %v", window(-2*time.Minute, 0), first, later, c.most, took)
		if first > 10 || later < 2*first || later < 20 {
			t.Errorf("%d connections in the first second, %d in the thirtieth: want a gradual return", first, later)
		}
		if c.most > 20 || c.delivered != 3000 {
			t.Errorf("%d at once, %d delivered", c.most, c.delivered)
		}
	})
}
