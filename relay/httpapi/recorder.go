package httpapi

import (
	"sync"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// Recorder keeps the latest attempts and counts deliveries by level, for the page
// and for GET /admin/attempts. It implements relay.Observer. It is safe for
// concurrent use and bounded: what it forgets is in the journal.
type Recorder struct {
	mu     sync.Mutex
	ring   []relay.Attempt // len grows to cap, then the oldest is overwritten
	next   int
	counts map[policy.Level]int64
}

var _ relay.Observer = (*Recorder)(nil)

// NewRecorder returns a recorder of the last size attempts; 0 means 200.
func NewRecorder(size int) *Recorder {
	if size <= 0 {
		size = defaultRecent
	}
	return &Recorder{ring: make([]relay.Attempt, 0, size), counts: map[policy.Level]int64{}}
}

// Attempted keeps the attempt; its slices are shared, and nobody changes them.
func (r *Recorder) Attempted(a *relay.Attempt) {
	if a == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range a.Outcomes {
		if o := &a.Outcomes[i]; o.Kind == queue.DeliveredNow {
			r.counts[o.Level]++
		}
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, *a)
		return
	}
	r.ring[r.next] = *a
	r.next = (r.next + 1) % len(r.ring)
}

// Latest returns up to n attempts, newest first; of one message, unless id is empty.
func (r *Recorder) Latest(n int, id queue.ID) []relay.Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []relay.Attempt
	for i := range r.ring {
		a := &r.ring[(r.next+len(r.ring)-1-i)%len(r.ring)]
		if len(list) == n {
			break
		}
		if id == "" || a.Message == id {
			list = append(list, *a)
		}
	}
	return list
}

// Delivered returns how many recipients were delivered at each level since the start.
func (r *Recorder) Delivered() map[policy.Level]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[policy.Level]int64, len(r.counts))
	for l, n := range r.counts {
		out[l] = n
	}
	return out
}
