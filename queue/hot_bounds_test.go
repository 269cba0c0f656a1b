package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestHotBounds: what is kept is bounded; who comes first stays, until it is old.
func TestHotBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHot()
		put := func() ID {
			id := NewID(time.Now())
			h.put(fresh{message: &Message{ID: id}, envelopes: make([]Envelope, 2), body: make([]byte, hotBody)})
			return id
		}
		first := put()
		var last ID
		for range 2 * hotBytes / hotBody {
			last = put()
		}
		if h.octets > hotBytes || h.octets < hotBytes*9/10 || !h.has(rowKey{first, 1}) || h.has(rowKey{last, 0}) {
			t.Fatalf("%d octets in %d messages", h.octets, h.order.Len())
		}
		time.Sleep(hotAge)
		young := put()
		if h.octets > hotBytes || h.has(rowKey{first, 1}) || !h.has(rowKey{young, 0}) {
			t.Fatalf("after a while %d octets in %d messages", h.octets, h.order.Len())
		}
		if _, _, _, ok := h.take(rowKey{young, 0}); !ok || h.has(rowKey{young, 0}) || !h.has(rowKey{young, 1}) {
			t.Error("an envelope is taken once, and alone")
		}
		for id := range h.known {
			h.drop(rowKey{id, 0})
			h.drop(rowKey{id, 1})
			h.drop(rowKey{id, 2}) // which is not there
		}
		if h.octets != 0 || h.order.Len() != 0 {
			t.Errorf("%d octets in %d messages are left", h.octets, h.order.Len())
		}
	})
}
