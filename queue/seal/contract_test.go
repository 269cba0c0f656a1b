package seal

import (
	"testing"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

func mustRing(t testing.TB, o RingOptions) *Ring {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir() + "/keys"
	}
	r, err := OpenRing(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func mustNew(t testing.TB, inner queue.Store, r *Ring, o Options) *Store {
	t.Helper()
	s, err := New(inner, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) queue.Store {
		return mustNew(t, storetest.NewModel(), mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		s := mustNew(t, storetest.NewModel(), mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})
		storetest.Compare(t, s, seed, 400)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
