package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The garbage collector's bounds. Most of what a busy relay holds is flat: the log's
// memtables, the schedule. Looking through the rest is cheap, and the usual doubling would be
// of all of it, so the heap may grow by a quarter. A relay with little to do holds 4 MiB; a
// quarter of that is two messages over new connections, and collecting after each of them
// took more of the processor than their handshakes did.
const (
	growthPart  = 25       // percent of what is alive
	leastGrowth = 32 << 20 // octets
	// leastAlive is the heap below which the runtime itself counts as if it were that much.
	leastAlive = 4 << 20
)

// thrift has the garbage collector run when the heap has grown by a quarter, but not before it
// has grown by 32 MiB, unless the environment says when (GOGC).
func thrift() {
	if os.Getenv("GOGC") == "" {
		followCollections(alive, func(percent int) { debug.SetGCPercent(percent) })
	}
}

// growth is how many percent of alive, in octets, the heap may grow.
func growth(alive uint64) int {
	return max(growthPart, int(leastGrowth*100/max(alive, leastAlive)))
}

// followCollections calls set with the percentage that fits what is alive, in octets: now, and
// after each collection that has changed it.
func followCollections(alive func() uint64, set func(percent int)) {
	now := growth(alive())
	set(now)
	// An object that nobody holds is found by the next collection, and made anew for the one
	// after it: the runtime has no other way to hear of them.
	type mark struct{ next *mark }
	var found func(*mark)
	found = func(m *mark) {
		// Each call stops the world for a moment, so it is made for what makes a difference.
		if p := growth(alive()); p > now+now/8 || p < now-now/8 {
			now = p
			set(p)
		}
		runtime.SetFinalizer(m, found)
	}
	runtime.SetFinalizer(&mark{}, found)
}

// alive is how many octets the last collection has left.
func alive() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
