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

// TestGroupsAreHidden: what is stored of a fairness class tells nothing, is equal for equal
// ones also after a restart, and the queue gets back what it gave.
func TestGroupsAreHidden(t *testing.T) {
	t.Parallel()
	p, d := newTape(), newMemDisk()
	w := &world{TB: t, ctx: t.Context()}
	stored := make(map[string]string)
	groups := []string{"", "12345678", "15 octets long.", "16 octets long..", "another of many octets"}
	for range 2 {
		w.reopen(p, d)
		for _, g := range groups {
			id := w.insertFor(g, "body", "a.example")
			_, rows, err := p.Model.Read(w.ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			hidden := rows[0].Group
			if hidden == g || len(hidden) != 16 || stored[g] != "" && stored[g] != hidden {
				t.Errorf("group %q is stored as %q, before as %q", g, hidden, stored[g])
			}
			stored[g] = hidden
			if _, rows, err = w.s.Read(w.ctx, id); err != nil || len(g) < 16 && rows[0].Group != g {
				t.Errorf("group %q came back as %q, %v", g, rows[0].Group, err)
			}
		}
		w.shut()
	}
	seen := make(map[string]bool)
	for _, h := range stored {
		seen[h] = true
	}
	if len(seen) != len(groups) {
		t.Errorf("%d groups are stored as %d", len(groups), len(seen))
	}
}
