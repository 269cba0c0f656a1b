package main

import (
	"runtime"
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

// The percentage follows what is alive, collection by collection, up and down. Not parallel: what others
// hold would count.
func TestFollowCollections(t *testing.T) {
	runtime.GC()
	told := make(chan int, 100)
	followCollections(func(percent int) { told <- percent })
	first := <-told
	var ballast [][]byte
	await := func(what string, ok func(percent int) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			runtime.GC()
			select {
			case p := <-told:
				if ok(p) {
					return
				}
			case <-time.After(10 * time.Millisecond): // the finalizer runs beside us: collect once more
			}
		}
		t.Fatal(what)
	}
	for range 256 {
		ballast = append(ballast, make([]byte, 1<<20))
	}
	await("what is alive has grown, and nobody was told", func(p int) bool { return p == growthPart && p < first })
	runtime.KeepAlive(ballast)
	ballast = nil
	await("what is alive has shrunk, and nobody was told", func(p int) bool { return p > growthPart })
}
