package relay

import (
	"container/list"
	"math"
	"time"
)

// Numbers of the throttle (own: no standard has any).
const (
	firstPause = 2 * time.Second  // after a first sign; it doubles with each one in a row
	longPause  = 10 * time.Minute // the longest
	trialConns = 2                // connections to a host that could not be reached
	trialRate  = 5.0              // messages a second to it
	startRate  = 1.0              // messages a second to a host that has throttled us, at first
	leastRate  = 0.1
	freeRate   = 200.0            // from here on there is no rate to keep any more
	growEvery  = 30 * time.Second // one connection more, where the limit was found once
	patience   = 2 * time.Second  // how long a courier waits for its turn
	crowdPace  = 10.0             // a second: how those are spread who come back to no rate
	ahead      = 2                // couriers that wait, for each connection
	idleTime   = time.Hour        // after that a host is forgotten
	maxPlaces  = 4096             // hosts that are remembered
)

// ceiling is what the operator allows a place. Rate 0: no limit.
type ceiling struct {
	conns, messages int
	rate            float64
}

// standing is how much a place takes of us now: additively more with what goes well,
// half of it at a sign of throttling (AIMD). It decides and does nothing: time is an argument.
type standing struct {
	place   Place
	limited bool      // below the ceiling; else the next four mean nothing
	conns   float64   // connections at once
	room    float64   // connections up to which it grows fast
	rate    float64   // messages a second; 0: no limit but the operator's
	safe    float64   // rate up to which it grows fast
	strikes int       // signs of throttling in a row
	down    bool      // it could not be reached last: nobody waits for his turn to see it fail
	lowered time.Time // when it was lowered last: what began before says nothing new
	grown   time.Time // when the last connection was added slowly
	pause   time.Time // nothing begins before
	next    time.Time // when the next message may begin
	told    time.Time // when the last one who was sent away is to be back
	uses    int       // what has begun and not ended
	used    time.Time
	element *list.Element // place in Throttle.order
}

// begin asks to begin one message now. ok: it may, after a wait of at most patience.
// Else wait is when to come back; those who are sent away are spread over the pace.
func (s *standing) begin(c ceiling, now time.Time) (wait time.Duration, ok bool) {
	if s.limited && now.Sub(s.used) > idleTime {
		s.heal()
	}
	s.used = now
	if s.limited {
		if s.pause.After(now) {
			return s.tell(s.pause, c, now), false
		}
		if s.uses >= int(s.conns)*(1+ahead)+1 {
			return s.tell(now.Add(time.Second), c, now), false
		}
	}
	if rate := s.pace(c); rate > 0 {
		at := s.next
		if at.Before(now) {
			at = now
		}
		if d := at.Sub(now); d > patience || d > 0 && s.down {
			return s.tell(at, c, now), false
		}
		s.next = at.Add(interval(rate))
		wait = at.Sub(now)
	}
	s.uses++
	return wait, true
}

// tell gives who is sent away a time to be back, not before the given one.
func (s *standing) tell(from time.Time, c ceiling, now time.Time) time.Duration {
	if s.told.Before(from) {
		s.told = from
	}
	wait := min(max(s.told.Sub(now), time.Second), longPause)
	rate := s.pace(c)
	if rate <= 0 {
		rate = crowdPace
	}
	if s.told = s.told.Add(interval(rate)); s.told.Sub(now) > longPause {
		s.told = now.Add(longPause)
	}
	return wait
}

func interval(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }

// pace is the rate to keep; 0: none.
func (s *standing) pace(c ceiling) float64 {
	if !s.limited || s.rate <= 0 {
		return c.rate
	}
	if c.rate > 0 {
		return min(s.rate, c.rate)
	}
	return s.rate
}

// connections is how many may be open at once.
func (s *standing) connections(c ceiling) int {
	if !s.limited {
		return c.conns
	}
	return min(c.conns, max(1, int(s.conns)))
}

// end takes the end of something that began at a time, and what it says of the host.
func (s *standing) end(sign Sign, began time.Time, c ceiling, now time.Time) {
	if s.uses > 0 {
		s.uses--
	}
	s.used = now
	if !began.After(s.lowered) && s.limited {
		return // of the time before: the answer to that was given
	}
	switch {
	case sign.Throttling():
		s.lower(c, now)
	case sign == SignDown:
		s.distrust(c, now)
	case sign == SignGood:
		s.raise(c, now)
	}
}

// lower halves what the host gets, and lets it rest.
func (s *standing) lower(c ceiling, now time.Time) {
	s.conns = max(1, math.Floor(float64(s.connections(c))/2))
	s.room = s.conns
	switch rate := s.pace(c); {
	case !s.limited || s.rate <= 0:
		s.rate, s.safe = startRate, freeRate
		if c.rate > 0 {
			s.rate, s.safe = min(startRate, c.rate), c.rate/2
		}
	default:
		s.rate, s.safe = max(rate/2, leastRate), max(rate/2, leastRate)
	}
	rest := firstPause << min(s.strikes, 20)
	s.strikes++
	s.limited, s.lowered, s.grown, s.down = true, now, now, false
	s.pause = now.Add(min(rest, longPause))
	s.next, s.told = s.pause, s.pause
}

// distrust lets a host that cannot be reached prove itself before it gets everything at
// once. It does not rest: the schedule knows about hosts that are down.
func (s *standing) distrust(c ceiling, now time.Time) {
	if !s.limited {
		s.room, s.conns = float64(c.conns), float64(c.conns)
		s.rate, s.safe = trialRate, freeRate
	}
	s.conns = min(s.conns, trialConns)
	if s.rate <= 0 || s.rate > trialRate {
		s.rate, s.safe = trialRate, freeRate
	}
	s.limited, s.lowered, s.down = true, now, true
}

// raise gives the host a little more: fast up to where it was safe, then slowly.
func (s *standing) raise(c ceiling, now time.Time) {
	s.strikes, s.down = 0, false
	if !s.limited {
		return
	}
	switch {
	case s.rate <= 0:
	case s.rate < s.safe:
		s.rate++
	default:
		s.rate += min(s.rate, 1/s.rate)
	}
	if s.rate > 0 {
		if at := now.Add(interval(s.rate)); s.next.After(at) {
			s.next = at // it was set by the rate of before
		}
	}
	if s.rate >= freeRate || c.rate > 0 && s.rate >= c.rate {
		s.rate = 0
	}
	switch {
	case s.conns < s.room:
		s.conns = min(s.conns+1, s.room)
	case now.Sub(s.grown) >= growEvery:
		s.conns++
		s.grown = now
	}
	if s.conns >= float64(c.conns) && s.rate <= 0 {
		s.heal()
	}
}

// heal lets the host have what the operator allows.
func (s *standing) heal() {
	*s = standing{place: s.place, uses: s.uses, used: s.used, next: s.next, element: s.element}
}
