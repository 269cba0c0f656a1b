package pebblestore

import (
	"bytes"
	"errors"
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
	orphan := queue.NewID(old.Add(-time.Minute)) // of nobody
	b := s.db.NewBatch()
	set(b, numberKey(prefixBody, orphan, 0), []byte("dead"))
	if err := s.write(b, nil, nil); err != nil {
		t.Fatal(err)
	}
	waits := put(old)
	if err := s.clearDead(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.get(numberKey(prefixBody, orphan, 0)); ok || err != nil {
		t.Errorf("what is dead is still there: %v", err)
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
