package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// mapShelf is a Shelf in memory.
type mapShelf struct {
	mu     sync.Mutex
	values map[string][]byte
	puts   int
	fail   error
}

func newShelf() *mapShelf { return &mapShelf{values: make(map[string][]byte)} }

func (s *mapShelf) Each(ctx context.Context, fn func(string, []byte) error) error {
	s.mu.Lock()
	values := maps.Clone(s.values)
	s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := fn(name, values[name]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *mapShelf) Put(ctx context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.fail != nil:
		return s.fail
	case value == nil:
		delete(s.values, name)
	default:
		s.values[name] = bytes.Clone(value)
	}
	return nil
}

// took returns how many values were put since it was called last.
func (s *mapShelf) took() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.puts
	s.puts = 0
	return n
}

func (s *mapShelf) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func mustLoad(t *testing.T, b *Book) {
	t.Helper()
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// running starts Run in a bubble and returns what ends it.
func running(t *testing.T, b *Book) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { b.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// A burst of thousands of hosts is a few values, some at a time; nothing new, nothing written.
func TestRunWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := New(Options{Shelf: s})
		mustLoad(t, b)
		end := running(t, b)
		for i := range 5000 {
			b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), false, good(time.Now()))
		}
		time.Sleep(writeEvery - time.Second)
		if synctest.Wait(); s.took() != 0 {
			t.Error("written before its time")
		}
		written := 0
		for range drawers / writeAtOnce {
			time.Sleep(writeEvery)
			synctest.Wait()
			n := s.took()
			if written += n; n > writeAtOnce {
				t.Errorf("%d values at once", n)
			}
		}
		if written != drawers {
			t.Errorf("%d values for 5000 hosts, want %d", written, drawers)
		}
		time.Sleep(time.Hour)
		if synctest.Wait(); s.took() != 0 {
			t.Error("written although nothing changed")
		}
		b.Saw("mx1.example", false, good(time.Now()))
		time.Sleep(writeEvery)
		if synctest.Wait(); s.took() != 1 {
			t.Error("one change is not one value")
		}
		for i := range 5000 {
			b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), true, clear(time.Now()))
		}
		end()
		if n := s.took(); n != drawers {
			t.Errorf("%d values at the end, want all %d", n, drawers)
		}
		again := New(Options{Shelf: s})
		mustLoad(t, again)
		if !slices.Equal(again.Entries(), b.Entries()) || again.Len() != 5000 {
			t.Errorf("%d hosts after a restart, or not as they were", again.Len())
		}
		defer running(t, again)()
		time.Sleep(time.Hour)
		if synctest.Wait(); s.took() != 0 {
			t.Error("a restart alone makes it write")
		}
	})
}

// The downgrade hold goes on where it was when the relay is restarted.
func TestRestartWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := New(Options{Shelf: s})
		end := running(t, b)
		makeGood(b, "mx.example", false, time.Now())
		time.Sleep(time.Hour)
		b.Saw("mx.example", false, weak(time.Now()))
		end()
		time.Sleep(3 * time.Hour)
		b = New(Options{Shelf: s})
		mustLoad(t, b)
		b.Saw("mx.example", false, weak(time.Now()))
		if n := b.Held(hold, time.Now()); n != 1 {
			t.Errorf("%d held after three hours", n)
		}
		time.Sleep(time.Hour)
		if n := b.Held(hold, time.Now()); n != 0 {
			t.Errorf("%d held after four hours", n)
		}
	})
}

// What has faded goes, from the shelf too.
func TestRunForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := New(Options{Shelf: s})
		defer running(t, b)()
		now := time.Now()
		b.Saw("mx.example", false, good(now.Add(4*time.Hour-policy.MemoryLife)))
		b.Saw("mx.example", true, weak(now.Add(2*time.Hour-2*day)))
		b.Saw("other.example", true, good(now))
		time.Sleep(90 * time.Second)
		if synctest.Wait(); len(s.values) != 2 || len(b.Entries()) != 3 {
			t.Fatalf("%d values", len(s.values))
		}
		time.Sleep(3 * time.Hour)
		if synctest.Wait(); len(b.Entries()) != 2 {
			t.Errorf("entries %v: a weaker answer counts for two days", b.Entries())
		}
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); b.Len() != 1 || len(s.values) != 1 {
			t.Errorf("%d hosts and %d values are left", b.Len(), len(s.values))
		}
	})
}

// A shelf that fails costs nothing but the wait.
func TestRunShelfFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		var out bytes.Buffer
		b := New(Options{Shelf: s, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		end := running(t, b)
		s.setFail(errors.New("no space"))
		for i := range 100 {
			b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), false, good(time.Now()))
		}
		time.Sleep(10 * writeEvery)
		if synctest.Wait(); s.took() != 10 {
			t.Error("not one offer at each turn")
		}
		s.setFail(nil)
		time.Sleep(time.Minute * 2)
		synctest.Wait()
		if n := strings.Count(out.String(), "cannot be written"); n != 1 || strings.Count(out.String(), "written again") != 1 || !strings.Contains(out.String(), "no space") {
			t.Errorf("log %s", out.String())
		}
		again := New(Options{Shelf: s})
		if mustLoad(t, again); again.Len() != 100 {
			t.Errorf("%d hosts are on the shelf", again.Len())
		}
		end()
		s.setFail(errors.New("gone"))
		if err := again.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("Load: %v", err)
		}
	})
}

func TestLoadWhatCannotBeRead(t *testing.T) {
	const ok = `{"last":"encrypted","last_seen":"2026-03-01T11:00:00Z","first":"2026-03-01T11:00:00Z"}`
	tests := []struct {
		name, shelf, value string
		hosts              int
		warns              string
	}{
		{"as it was written", "c0", `{"version":1,"hosts":[{"host":"mx.example.org","v4":` + ok + `}]}`, 1, ""},
		{"what a later version adds", "c0", `{"version":1,"more":1,"hosts":[{"host":"mx.example.org","more":2,"v6":` + ok + `}]}`, 1, ""},
		{"not JSON", "c0", `{"version":1,`, 0, "unexpected end"},
		{"nothing", "c0", ``, 0, "unexpected end"},
		{"another version", "c0", `{"version":2,"hosts":[{"host":"mx.example.org","v4":` + ok + `}]}`, 0, "version 2"},
		{"an unknown level", "c0", `{"version":1,"hosts":[{"host":"mx.example.org","v4":{"last":"splendid"}}]}`, 0, "splendid"},
		{"no host name", "c0", `{"version":1,"hosts":[{"host":"mx example","v4":` + ok + `},{"host":"mx.example.org","v4":` + ok + `}]}`, 1, "1 of 2 names"},
		{"a host without memory", "c0", `{"version":1,"hosts":[{"host":"mx.example.org"}]}`, 0, ""},
		{"a host that has faded", "c0", `{"version":1,"hosts":[{"host":"mx.example.org","v4":{"last":"dane","last_seen":"2020-03-01T11:00:00Z"}}]}`, 0, ""},
		{"a drawer of an older hash", "02", `{"version":1,"hosts":[{"host":"mx.example.org","v4":` + ok + `}]}`, 1, ""},
		{"a name that is no drawer", "old", `{"version":1,"hosts":[{"host":"mx.example.org","v4":` + ok + `}]}`, 1, ""},
		{"a name that is almost one", "C0", `{"version":1,"hosts":[{"host":"mx.example.org","v4":` + ok + `}]}`, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(start()))
				s := newShelf()
				s.values[tt.shelf] = []byte(tt.value)
				var out bytes.Buffer
				b := New(Options{Shelf: s, Logger: slog.New(slog.NewTextHandler(&out, nil))})
				mustLoad(t, b)
				if b.Len() != tt.hosts {
					t.Errorf("%d hosts, want %d", b.Len(), tt.hosts)
				}
				if got := out.String(); (got != "") != (tt.warns != "") || !strings.Contains(got, tt.warns) {
					t.Errorf("log %q, want %q", got, tt.warns)
				}
				running(t, b)()
				// The shelf is in order again: the same hosts, and nothing to be said of them.
				out.Reset()
				again := New(Options{Shelf: s, Logger: slog.New(slog.NewTextHandler(&out, nil))})
				mustLoad(t, again)
				s.took()
				running(t, again)()
				if again.Len() != tt.hosts || out.Len() != 0 || s.took() != 0 || len(s.values) != tt.hosts {
					t.Errorf("afterwards %d hosts in %d values, log %q", again.Len(), len(s.values), out.String())
				}
			})
		})
	}
}

// What was seen before the shelf was read is newer.
func TestLoadAfterSaw(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newShelf()
	b := New(Options{Shelf: s})
	makeGood(b, "mx.example", false, now)
	makeGood(b, "mx.example", true, now)
	b.write(t.Context(), drawers)
	b = New(Options{Shelf: s})
	b.Saw("mx.example", false, clear(now))
	mustLoad(t, b)
	if b.Recall("mx.example", false).Good != 0 || b.Recall("mx.example", true).Good != 3 {
		t.Errorf("loaded %+v", b.Entries())
	}
}

func TestLoadKeepsToTheLimit(t *testing.T) {
	t.Parallel()
	s := newShelf()
	b := New(Options{Shelf: s})
	for i := range 20 * drawers {
		b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), false, good(time.Now()))
	}
	b.write(t.Context(), drawers)
	b = New(Options{Shelf: s, Limit: 2 * drawers})
	if mustLoad(t, b); b.Len() != 2*drawers {
		t.Errorf("%d hosts, the limit is %d", b.Len(), 2*drawers)
	}
}

// Without a shelf the book is in memory only.
func TestRunWithoutShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		mustLoad(t, b)
		end := running(t, b)
		b.Saw("mx.example", false, good(time.Now().Add(sweepEvery-policy.MemoryLife)))
		time.Sleep(2 * sweepEvery)
		if synctest.Wait(); b.Len() != 0 {
			t.Error("not forgotten")
		}
		end()
	})
}

// FuzzLoad: whatever is on the shelf, the book takes it or leaves it, and can write what it took.
func FuzzLoad(f *testing.F) {
	f.Add("c0", []byte(`{"version":1,"hosts":[{"host":"mx.example.org","v4":{"last":"encrypted","last_seen":"2026-03-01T11:00:00Z","good":3,"good_before":["2026-03-01T11:00:00Z"]}}]}`))
	f.Add("zz", []byte(`{"version":1,"hosts":[{"host":"mx.example.org","v6":{"weak_at":"9999-12-31T23:59:59.999999999+23:59"}},{"host":"MX"}]}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		s := newShelf()
		s.values[name] = data
		b := New(Options{Shelf: s})
		mustLoad(t, b)
		b.Held(hold, time.Now())
		b.Saw("mx.example.org", false, clear(time.Now()))
		b.write(t.Context(), drawers)
		again := New(Options{Shelf: s})
		if mustLoad(t, again); !slices.EqualFunc(again.Entries(), b.Entries(), func(a, b Entry) bool {
			return a.Host == b.Host && a.IP6 == b.IP6 && a.Memory.LastSeen.Equal(b.Memory.LastSeen)
		}) {
			t.Errorf("%+v became %+v", b.Entries(), again.Entries())
		}
	})
}
