package dnssec

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

func TestCache(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	c := newCache(3)
	c.now = func() time.Time { return now }
	q := func(i int) question { return question{fmt.Sprintf("d%d.example.", i), dns.TypeMX} }
	a := answer{Lookup: policy.Lookup{Answer: policy.Records, Secure: true}, ttl: time.Minute}

	c.put(q(1), a, 0)
	now = now.Add(20 * time.Second)
	if got, ok := c.get(q(1)); !ok || got.ttl != 40*time.Second || !got.Secure {
		t.Errorf("RFC 1035 3.2.1: %+v, %t; want 40 seconds left", got, ok)
	}
	if _, ok := c.get(question{"d1.example.", dns.TypeA}); ok {
		t.Error("found under another type")
	}
	now = now.Add(40 * time.Second)
	if _, ok := c.get(q(1)); ok {
		t.Error("RFC 1035 3.2.1: used when its time was over")
	}

	c.put(q(2), answer{Lookup: policy.Lookup{Problem: "SERVFAIL"}, ttl: time.Minute}, 0)
	c.put(q(3), answer{Lookup: policy.Lookup{Answer: policy.NoName}}, 0)
	if len(c.entries) != 0 {
		t.Errorf("kept what is unknown, or has no TTL: %v", c.entries)
	}

	for i := range 4 {
		c.put(q(i), a, 0)
		c.get(q(0)) // the one used last stays
	}
	if _, ok := c.get(q(0)); !ok || len(c.entries) != 3 || c.recent.Len() != 3 {
		t.Errorf("%d entries, the used one there: %t", len(c.entries), ok)
	}
	if _, ok := c.get(q(1)); ok {
		t.Error("the least used one is still there")
	}
	c.flush()
	if _, ok := c.get(q(0)); ok || c.recent.Len() != 0 {
		t.Error("something is left after a flush")
	}
	c.put(q(0), a, 0) // asked for before the flush
	if _, ok := c.get(q(0)); ok {
		t.Error("kept what is from before the flush")
	}
	c.put(q(0), a, c.age())
	if _, ok := c.get(q(0)); !ok {
		t.Error("nothing is kept after a flush")
	}
	none := newCache(-1)
	none.put(q(1), a, 0)
	if _, ok := none.get(q(1)); ok {
		t.Error("kept without room")
	}
}
