package main

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		alive uint64
		want  uint64 // octets that are added before a collection
	}{
		{"nothing known yet", 0, 32 << 20},
		{"little to do", 4 << 20, 32 << 20},
		{"busy", 64 << 20, 32 << 20},
		{"a million messages wait", 160 << 20, 40 << 20},
		{"a large queue", 1 << 30, 256 << 20},
	} {
		got := max(tt.alive, leastAlive) * uint64(growth(tt.alive)) / 100
		if got > tt.want || got < tt.want*9/10 {
			t.Errorf("%s: %d octets alive may grow by %d, want %d", tt.name, tt.alive, got, tt.want)
		}
	}
}

// The percentage follows what is alive, collection by collection, up and down. What is alive is set
// here: what the tests before this one have left is in the heap as well.
func TestFollowCollections(t *testing.T) {
	t.Parallel()
	var octets atomic.Uint64
	octets.Store(4 << 20)
	told := make(chan int, 100)
	followCollections(octets.Load, func(percent int) { told <- percent })
	if first := <-told; first != growth(4<<20) {
		t.Errorf("%d %% at the start, want %d", first, growth(4<<20))
	}
	for _, now := range []uint64{256 << 20, 64 << 20, 4 << 20} {
		octets.Store(now)
		end := time.After(time.Minute)
		for got := 0; got != growth(now); {
			runtime.GC()
			select {
			case got = <-told:
			case <-time.After(10 * time.Millisecond): // the finalizer runs beside us: collect once more
			case <-end:
				t.Fatalf("%d octets are alive, and nobody was told", now)
			}
		}
	}
}

// What is alive is what the runtime says, not what a metric of another name no longer does.
func TestAlive(t *testing.T) {
	t.Parallel()
	ballast := make([]byte, 8<<20)
	runtime.GC()
	if got := alive(); got < uint64(len(ballast)) {
		t.Errorf("%d octets are alive, and %d are held", got, len(ballast))
	}
	runtime.KeepAlive(ballast)
}
