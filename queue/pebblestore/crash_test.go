package pebblestore

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// disk is a file system in memory that can lose power.
type disk struct{ fs *vfs.MemFS }

func newDisk(t testing.TB) disk {
	t.Helper()
	return disk{vfs.NewCrashableMem()}
}

func (d disk) Open(t testing.TB) queue.Store { return mustOpen(t, Options{Dir: "db", fs: d.fs}) }

func (d disk) Cut(percent int, seed uint64) storetest.Disk {
	return disk{d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 2))})}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		s := mustOpen(t, Options{Dir: "db", fs: vfs.NewMem()})
		storetest.Compare(t, s, seed, 400)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	seeds, steps := uint64(3), 100
	if raceDetector {
		seeds, steps = 1, 60
	}
	for seed := range seeds {
		storetest.Crash(t, newDisk(t), seed, steps)
	}
}

func TestCrashInFlight(t *testing.T) {
	t.Parallel()
	seeds, rounds := uint64(2), 20
	if raceDetector {
		seeds, rounds = 1, 12
	}
	for seed := range seeds {
		storetest.CrashInFlight(t, newDisk(t), seed, rounds)
	}
}

// Whole lives in a queue, the power cut after every step.
func TestCrashLives(t *testing.T) {
	t.Parallel()
	seeds, messages := uint64(1), 12 // with 2 and 25 it takes a minute
	if raceDetector {
		seeds, messages = 1, 8
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { storetest.CrashLives(t, newDisk(t), seed, messages) })
	}
}
