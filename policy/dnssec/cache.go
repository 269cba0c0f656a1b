package dnssec

import (
	"container/list"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// cache keeps answers until their time is over, the least used going first when it
// is full. It is safe for concurrent use.
type cache struct {
	now  func() time.Time // replaced in tests
	size int              // at most so many entries; none when not positive

	mu      sync.Mutex
	entries map[question]*list.Element // of *entry
	recent  *list.List                 // front: used last
	flushes uint64                     // how often it was flushed
}

type entry struct {
	q       question
	a       answer
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{now: time.Now, size: size, entries: map[question]*list.Element{}, recent: list.New()}
}

// get returns an answer with the TTL that is left (RFC 1035 3.2.1).
func (c *cache) get(q question) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[q]
	if el == nil {
		return answer{}, false
	}
	e := el.Value.(*entry)
	left := e.expires.Sub(c.now())
	if left <= 0 {
		c.drop(el)
		return answer{}, false
	}
	c.recent.MoveToFront(el)
	a := e.a
	a.ttl = left
	return a, true
}

// age is to be asked for before a lookup, and given to put with what came of it.
func (c *cache) age() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushes
}

// put keeps an answer for its TTL, unless there was a flush since its age. What is
// unknown is not kept: the next one to ask may find out.
func (c *cache) put(q question, a answer, age uint64) {
	if a.Answer == policy.Unknown || a.ttl <= 0 || c.size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if age != c.flushes {
		return
	}
	if el := c.entries[q]; el != nil {
		c.drop(el)
	}
	for c.recent.Len() >= c.size {
		c.drop(c.recent.Back())
	}
	c.entries[q] = c.recent.PushFront(&entry{q, a, c.now().Add(a.ttl)})
}

// flush forgets everything, and what lookups that run now will find.
func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.recent.Init()
	c.flushes++
}

// drop takes an entry out. c.mu is held.
func (c *cache) drop(el *list.Element) {
	c.recent.Remove(el)
	delete(c.entries, el.Value.(*entry).q)
}
