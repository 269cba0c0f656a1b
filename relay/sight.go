package relay

import (
	"time"

	"github.com/sealpost/sealpost/policy"
)

// outageRetry is when an envelope is looked at again that could not be tried because
// the resolver was down (own).
const outageRetry = 30 * time.Second

// place is one address family of a host: what is remembered is remembered apart.
type place struct {
	host policy.Domain
	ip6  bool
}

// sight is what this attempt has seen of the step's host so far.
func (t *trip) sight(s policy.Step) *policy.Sighting {
	at := place{s.Target.Host, s.Addr.Addr().Unmap().Is6()}
	seen := t.sights[at]
	if seen == nil {
		if t.sights == nil {
			t.sights = make(map[place]*policy.Sighting, 2)
		}
		seen = &policy.Sighting{}
		t.sights[at] = seen
	}
	return seen
}

// remember hands what was seen of each host to the memory.
func (t *trip) remember() {
	if t.c.o.Memory == nil {
		return
	}
	now := time.Now()
	for i := range t.attempt.Trace {
		tried := &t.attempt.Trace[i]
		if !tried.Addr.IsValid() {
			continue // passed over
		}
		s := t.sight(policy.Step{Target: &policy.Target{Host: tried.Host}, Addr: tried.Addr})
		s.Steps = append(s.Steps, *tried)
		if tried.Level != policy.Unset {
			s.Level = tried.Level
		}
	}
	for at, s := range t.sights {
		s.At = now
		t.c.o.Memory.Saw(at.host, at.ip6, *s)
	}
}
