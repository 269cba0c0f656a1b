package pebblestore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) queue.Store { return mustOpen(t, Options{Dir: "db", fs: vfs.NewMem()}) })
	})
	t.Run("disk", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) queue.Store { return mustOpen(t, Options{Dir: t.TempDir()}) })
	})
}
