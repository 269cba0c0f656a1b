package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sealpost/sealpost/queue"
)

// insertion makes a message with one row, due at once.
func insertion(body io.Reader) *queue.Insertion {
	id := queue.NewID(time.Now())
	return &queue.Insertion{
		ID: id, Body: body,
		Finish: func(int64) ([]byte, []byte, error) { return []byte("record"), []byte("accepted"), nil },
		Rows:   []queue.Row{{Message: id, Lane: "lane", Due: time.Now().Add(-time.Second), State: queue.RowWaiting}},
	}
}

// keys lists what is in the store by prefix, the layout key and signed heads left out.
func keys(t *testing.T, s *Store) map[string]int {
	t.Helper()
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	n := make(map[string]int)
	for it.First(); it.Valid(); it.Next() {
		if it.Key()[0] != prefixLayout && it.Key()[0] != prefixHead {
			n[string(it.Key()[:1])]++
		}
	}
	return n
}

func claimAll(t *testing.T, s *Store) []queue.Row {
	t.Helper()
	rows, _, err := s.Claim(t.Context(), queue.ClaimQuery{Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// What is done leaves no key behind but its journal entries.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "db", fs: vfs.NewMem()})
	defer s.Close()
	broken := errors.New("broken")
	for _, size := range []int{10, 600 << 10} {
		text := strings.Repeat("x", size)
		if err := s.Insert(t.Context(), insertion(strings.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		if err := s.Insert(t.Context(), insertion(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)))); err != broken {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(keys(t, s)); got != "map[b:4 j:2 m:2 r:2 t:1]" {
		t.Errorf("two messages are kept as %s", got)
	}
	rows := claimAll(t, s)
	// One is written anew before it goes: its row is no write-once key any more.
	again := rows[0]
	again.State, again.Due = queue.RowWaiting, time.Now().Add(-time.Second)
	if err := s.Commit(t.Context(), &queue.Change{Update: []queue.Row{again}}); err != nil {
		t.Fatal(err)
	}
	b, err := s.Body(t.Context(), rows[1].Message)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &queue.Change{Remove: append(rows[1:2:2], claimAll(t, s)...)}); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s); got["o"] != 1 || got["m"] != 0 || got["r"] != 0 {
		t.Errorf("with a reader: %v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(keys(t, s)); got != "map[j:2 t:1]" {
		t.Errorf("left: %s", got)
	}
}

// A body that was being written, or read while its message went, when the process
// ended is removed at the next start.
func TestOrphans(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	s := d.Open(t).(*Store)
	if err := s.Insert(t.Context(), insertion(strings.NewReader(strings.Repeat("x", 600<<10)))); err != nil {
		t.Fatal(err)
	}
	rows := claimAll(t, s)
	b, err := s.Body(t.Context(), rows[0].Message)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &queue.Change{Remove: rows}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer b.Close()
	cut := make(chan disk, 1)
	in := insertion(io.MultiReader(strings.NewReader(strings.Repeat("x", 600<<10)), readerFunc(func([]byte) (int, error) {
		// A synced step brings what was written ahead to the disk too.
		if err := s.SetCell(t.Context(), "x", []byte{}); err != nil {
			t.Error(err)
		}
		cut <- d.Cut(0, 1).(disk)
		return 0, io.EOF
	})))
	if err := s.Insert(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	after := <-cut
	rest := after.Open(t).(*Store)
	defer rest.Close()
	if got := fmt.Sprint(keys(t, rest)); got != "map[c:1 j:1 t:1]" {
		t.Errorf("left after the crash: %s", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is another sealpost using it?") {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Dir: dir})
	if v := s.db.FormatMajorVersion(); v != pebble.FormatTableFormatV6 {
		t.Errorf("format %v", v)
	}
	if err := s.db.Set([]byte{prefixLayout}, []byte{99}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "layout version") {
		t.Errorf("opened a layout from the future: %v", err)
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("opened nowhere")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); err == nil {
		t.Error("opened a file")
	}
}

// What was there is there when the store is opened again; leases are not.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	in := insertion(strings.NewReader(strings.Repeat("body", 100<<10)))
	in.Rows = append(in.Rows, queue.Row{Message: in.ID, Number: 7, Lane: "other", State: queue.RowHeld, Due: time.Now().Add(time.Hour), Data: []byte("data")})
	if err := s.Insert(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if n := len(claimAll(t, s)); n != 1 {
		t.Fatalf("%d rows are due", n)
	}
	before := s.Stats()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Dir: dir})
	defer s.Close()
	st := s.Stats()
	if st.Envelopes["waiting"] != 1 || st.Envelopes["held"] != 1 || st.Bytes["held"] != before.Bytes["held"] || st.Bytes["held"] != 400<<10 {
		t.Errorf("stats %+v, before %+v", st, before)
	}
	_, rows, err := s.Read(t.Context(), in.ID)
	if err != nil || len(rows) != 2 || rows[1].Number != 7 || rows[1].Lane != "other" || string(rows[1].Data) != "data" || !rows[1].Due.Equal(in.Rows[1].Due) {
		t.Errorf("rows %+v, %v", rows, err)
	}
	if n := len(claimAll(t, s)); n != 1 {
		t.Errorf("%d rows are due", n)
	}
	if err := s.Commit(t.Context(), &queue.Change{Entries: [][]byte{[]byte("more")}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		got = append(got, string(it.Entry))
		return nil
	}); err != nil || fmt.Sprint(got) != "[accepted more]" {
		t.Errorf("journal %q, %v", got, err)
	}
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := mustOpen(t, Options{Dir: "db", fs: fs, Retention: 6 * time.Hour})
		journal := func() (ages []time.Duration, pos string) {
			err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
				at, err := time.Parse(time.RFC3339, string(it.Entry))
				ages, pos = append(ages, time.Since(at)), it.Pos
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ages, pos
		}
		for range 24 {
			if err := s.Commit(t.Context(), &queue.Change{Entries: [][]byte{[]byte(time.Now().Format(time.RFC3339))}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		ages, last := journal()
		if len(ages) < 12 || len(ages) > 17 || ages[0] < 6*time.Hour || ages[0] > 9*time.Hour {
			t.Errorf("%d entries are left, the oldest %v old", len(ages), ages[0])
		}
		// All go in the end, also when nothing new comes, and no number comes again.
		time.Sleep(12 * time.Hour)
		if ages, _ := journal(); len(ages) != 0 {
			t.Errorf("%d entries are left", len(ages))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, Options{Dir: "db", fs: fs, Retention: 6 * time.Hour})
		if err := s.Commit(t.Context(), &queue.Change{Entries: [][]byte{[]byte(time.Now().Format(time.RFC3339))}}); err != nil {
			t.Fatal(err)
		}
		if _, pos := journal(); pos <= last {
			t.Errorf("position %s after %s", pos, last)
		}
		if got := keys(t, s); got["t"] != 1 || got["j"] != 1 {
			t.Errorf("keys %v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A log that cannot be written or synced ends the process with its own code, and
// nothing is said to be durable that is not. Each write that failed may be on disk or not:
// both must be a legal state.
func TestFatal(t *testing.T) {
	t.Parallel()
	for _, large := range []bool{false, true} {
		for _, percent := range []int{0, 100} {
			t.Run(fmt.Sprintf("large=%v persisted=%d", large, percent), func(t *testing.T) {
				d := newDisk(t)
				var failing atomic.Bool
				fs := errorfs.Wrap(d.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
					sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
					if failing.Load() && sync && strings.HasSuffix(op.Path, ".log") {
						return errors.New("no space left on device")
					}
					return nil
				}))
				codes := make(chan int, 9)
				var log bytes.Buffer
				s := mustOpen(t, Options{Dir: "db", fs: fs, Logger: slog.New(slog.NewTextHandler(&log, nil)), Fatal: func(code int) {
					codes <- code
					select {} // as os.Exit: never returns
				}})
				first := insertion(strings.NewReader("first"))
				if err := s.Insert(t.Context(), first); err != nil {
					t.Fatal(err)
				}
				size := 100
				if large {
					size = 600 << 10
				}
				second := insertion(strings.NewReader(strings.Repeat("x", size)))
				failing.Store(true)
				returned := make(chan error, 1)
				go func() { returned <- s.Insert(context.Background(), second) }()
				select {
				case err := <-returned:
					t.Fatalf("Insert returned %v", err)
				case code := <-codes:
					if code != 3 {
						t.Errorf("exit code %d, want 3", code)
					}
				}
				if !strings.Contains(log.String(), "storage unusable") || !strings.Contains(log.String(), "no space left on device") {
					t.Errorf("the log says %q", log.String())
				}
				rest := d.Cut(percent, 1).Open(t)
				defer rest.Close()
				checkAfterFatal(t, rest, first.ID, second.ID, int64(size))
			})
		}
	}
}

func checkAfterFatal(t *testing.T, s queue.Store, first, second queue.ID, size int64) {
	t.Helper()
	if _, _, err := s.Read(t.Context(), first); err != nil {
		t.Errorf("what was accepted before is lost: %v", err)
	}
	n := keys(t, s.(*Store))
	_, _, err := s.Read(t.Context(), second)
	switch {
	case err == nil:
		b, err := s.Body(t.Context(), second)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if got, err := io.Copy(io.Discard, b); err != nil || got != size {
			t.Errorf("%d octets of %d are there, %v", got, size, err)
		}
		if n["m"] != 2 || n["r"] != 2 || n["j"] != 2 {
			t.Errorf("keys %v", n)
		}
	case errors.Is(err, queue.ErrNotFound):
		if fmt.Sprint(n) != "map[b:1 j:1 m:1 r:1 t:1]" {
			t.Errorf("keys %v", n)
		}
	default:
		t.Error(err)
	}
}

func TestFreeBytes(t *testing.T) {
	t.Parallel()
	if n, err := FreeBytes(t.TempDir()); err != nil || n == 0 {
		t.Errorf("%d octets, %v", n, err)
	}
	if _, err := FreeBytes(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("free space of nothing")
	}
}

// 100 submissions of 25 MiB at once must not need 2.5 GB: the peak of resident memory
// does not grow with the bodies. The limit is a third of what they hold together.
func TestMemory(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("writes much, and measures memory: not with -short or -race")
	}
	const parallel, size, limit = 100, 12 << 20, 800 // MiB: less than the bodies
	s := mustOpen(t, Options{Dir: t.TempDir()})
	defer s.Close()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("no peak of resident memory here: ", err)
	}
	block := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10/16)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			left := size
			in := insertion(readerFunc(func(p []byte) (int, error) {
				if left == 0 {
					return 0, io.EOF
				}
				n := copy(p, block[:min(len(block), left)])
				left -= n
				return n, nil
			}))
			if err := s.Insert(context.Background(), in); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var peak int
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &peak); err == nil {
			break
		}
	}
	t.Logf("%d MiB at most", peak>>10)
	if peak == 0 || peak>>10 > limit {
		t.Errorf("%d MiB of memory for %d bodies of %d MiB, want at most %d", peak>>10, parallel, size>>20, limit)
	}
	if st := s.Stats(); st.Bytes["waiting"] != parallel*size {
		t.Errorf("stats %+v", st)
	}
}

// What is fitted to the size of the disk: a small one has small memtables, is merged at once where that can be, and
// never holds writes for merges that it has no room for.
func TestFlushes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		disk     uint64
		memTable uint64
		flushes  int
		stop     int
	}{
		{"unknown", 0, 32 << 20, 2, 32},
		{"64 MiB", 64 << 20, 2 << 20, 2, 512},
		{"1 GiB", 1 << 30, 32 << 20, 2, 32},
		{"10 GiB", 10 << 30, 32 << 20, 5, 32},
		{"1 TiB", 1 << 40, 32 << 20, 12, 32},
	} {
		o := Options{disk: tt.disk}
		po := settings(&o, &Store{}, nil)
		if po.MemTableSize != tt.memTable || po.L0CompactionThreshold != tt.flushes || po.L0StopWritesThreshold != tt.stop {
			t.Errorf("%s: memtables of %d, merged from %d on, writes stop at %d: want %d, %d, %d", tt.name,
				po.MemTableSize, po.L0CompactionThreshold, po.L0StopWritesThreshold, tt.memTable, tt.flushes, tt.stop)
		}
	}
}
