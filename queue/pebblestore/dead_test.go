package pebblestore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// What is cleared in one step is dead: bodies that wait, that are read and that come later stay, also
// when their ID is an older one.
func TestClearDead(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "db", fs: vfs.NewMem()})
	defer s.Close()
	old := time.Now().Add(-time.Hour)
	put := func(at time.Time) queue.ID {
		t.Helper()
		in := insertion(nil)
		in.ID = queue.NewID(at)
		for i := range in.Rows {
			in.Rows[i].Message = in.ID
		}
		in.Body = bytes.NewReader(noise(in.ID, 3000))
		if err := s.Insert(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		return in.ID
	}
	// table makes a table of bodies that belong to nobody, from one time to another.
	table := func(times ...time.Time) (ids []queue.ID) {
		b := s.db.NewBatch()
		for _, at := range times {
			ids = append(ids, queue.NewID(at))
			noise := make([]byte, deadTable)
			rand.NewChaCha8([32]byte{}).Read(noise)
			set(b, numberKey(prefixBody, ids[len(ids)-1], 0), noise)
		}
		if err := s.write(b, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	has := func(id queue.ID) bool {
		_, ok, err := s.get(numberKey(prefixBody, id, 0))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	before := table(old.Add(-3*time.Minute), old.Add(-2*time.Minute))
	behind := table(old.Add(time.Minute), old.Add(2*time.Minute))
	around := table(old.Add(-time.Second), old.Add(time.Second))
	young := table(time.Now().Add(-time.Second), time.Now())
	waits := put(old)
	if err := s.clearDead(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ids  []queue.ID
		want bool
	}{
		"before all that waits": {before, false}, "behind it": {behind, false},
		"around it": {around, true}, "so young that more may come": {young, true},
	} {
		for _, id := range c.ids {
			if has(id) != c.want {
				t.Errorf("a table %s: there %v, want %v", name, has(id), c.want)
			}
		}
	}
	later := put(old.Add(-time.Hour)) // the clock went back
	if err := s.clearDead(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []queue.ID{waits, later} {
		if err := whole(s, id, 3000); err != nil {
			t.Errorf("message %s: %v", id, err)
		}
	}
	// While it goes on none of them can come.
	s.schedule.Clear(queue.NewID(time.Now()))
	if err := s.schedule.Reserve(queue.NewID(old.Add(-2 * time.Hour))); !errors.Is(err, queue.ErrExists) {
		t.Errorf("an ID below is taken: %v", err)
	}
	s.schedule.Cleared()
	if err := s.schedule.Reserve(queue.NewID(old.Add(-2 * time.Hour))); err != nil {
		t.Error(err)
	}
}
