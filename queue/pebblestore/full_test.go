package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sys/unix"
)

// A disk without the reserve is said to be full before anything is opened.
func TestOpenWithoutReserve(t *testing.T) {
	t.Parallel()
	for free, good := range map[uint64]bool{0: false, startReserve - 1: false, startReserve: true} {
		dir := t.TempDir()
		s, err := Open(Options{Dir: dir, free: func(d string) (uint64, error) {
			if d != dir {
				t.Errorf("asked for the space of %s", d)
			}
			return free, nil
		}})
		if good {
			if err != nil || s.Close() != nil {
				t.Errorf("%d octets are free: %v", free, err)
			}
			continue
		}
		if err == nil {
			t.Fatalf("opened with %d octets free", free)
		}
		for _, want := range []string{dir, fmt.Sprintf("%d KiB are free", free>>10), "free some space, then start again"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	broken := errors.New("broken")
	if _, err := Open(Options{Dir: t.TempDir(), free: func(string) (uint64, error) { return 0, broken }}); !errors.Is(err, broken) {
		t.Errorf("space that cannot be asked for: %v", err)
	}
}

// The same on a real file system that is full; when it has room again, it goes on.
func TestOpenOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 37<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "queue")
	if _, err := Open(Options{Dir: store}); err == nil || !strings.Contains(err.Error(), "too full") {
		t.Errorf("opened on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, Options{Dir: store})
	if err := s.Insert(t.Context(), insertion(strings.NewReader("body"))); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// tableless has no room for tables while full is true; it counts what it refused.
func tableless(fs vfs.FS, full *atomic.Bool, refused *atomic.Int64) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && full.Load() {
			refused.Add(1)
			return &os.PathError{Op: "open", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
}

// A log that cannot be flushed for want of space ends the start, once, with its code.
func TestRecoverOnFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	s := d.Open(t).(*Store)
	defer s.Close()
	if err := s.Insert(t.Context(), insertion(strings.NewReader("body"))); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	var refused atomic.Int64
	full.Store(true)
	codes := make(chan int, 9)
	opened := make(chan error, 1)
	var log bytes.Buffer
	after := d.Cut(100, 1).(disk)
	go func() {
		_, err := Open(Options{Dir: "db", fs: tableless(after.fs, &full, &refused), Logger: slog.New(slog.NewTextHandler(&log, nil)), Fatal: func(code int) {
			codes <- code
			select {} // as os.Exit: never returns
		}})
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("Open returned %v", err)
	case code := <-codes:
		if code != fatalCode {
			t.Errorf("exit code %d", code)
		}
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("%d tries", n)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no space left on device") || !strings.Contains(got, "free some space") {
		t.Errorf("the log says %q", got)
	}
}

// While the relay runs, a full disk is one line a minute, and it goes on when there is
// room again.
func TestFlushOnFullDisk(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	var refused atomic.Int64
	var log bytes.Buffer
	s := mustOpen(t, Options{Dir: "db", fs: tableless(vfs.NewMem(), &full, &refused), Logger: slog.New(slog.NewTextHandler(&log, nil)), Fatal: func(code int) {
		t.Errorf("ended with %d", code)
		select {}
	}})
	if err := s.Insert(t.Context(), insertion(strings.NewReader("body"))); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(time.Millisecond); refused.Load() < 20; {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the flush is not tried again")
		}
	}
	full.Store(false)
	<-flushed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "background: ") != 1 || !strings.Contains(got, "no space left on device") {
		t.Errorf("%d tries, and the log says %q", refused.Load(), got)
	}
}

func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &repeats{last: make(map[string]repeat)}
		table := func(n int) error { return fmt.Errorf("open %06d.sst: %w", n, syscall.ENOSPC) }
		note := func(err error, wantMore int, want bool) {
			t.Helper()
			if more, ok := r.note(err); ok != want || more != wantMore {
				t.Errorf("%d, %v, want %d, %v", more, ok, wantMore, want)
			}
		}
		note(table(1), 0, true)
		for i := range 100 {
			note(table(i), 0, false)
		}
		note(syscall.EIO, 0, true) // another one
		time.Sleep(repeatEvery)
		note(table(7), 100, true)
		note(table(8), 0, false)
		time.Sleep(2 * repeatEvery)
		note(syscall.EIO, 0, true)
		if len(r.last) != 1 {
			t.Errorf("%d are remembered", len(r.last))
		}
	})
}

// A reserve that is larger than it need be, of a version with larger memtables, is cut: it is there although nothing else is free.
func TestReserveOfBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, ballastName)
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &ballast{path: path, size: 1 << 20, log: newLogger(&Options{Logger: slog.New(slog.DiscardHandler)}),
		free: func(string) (uint64, error) { return 0, nil }}
	b.open()
	if st, err := os.Stat(path); err != nil || st.Size() != b.size || b.spent() {
		t.Errorf("reserve %v, %v; spent: %v", st, err, b.spent())
	}
}

// One wrong octet of the reserve, in its middle or at its end: named, put right, and no other is.
func TestReserveIsWrong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ballastName)
	var log bytes.Buffer
	b := &ballast{path: path, size: 3<<20 + 5, log: newLogger(&Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}),
		free: func(string) (uint64, error) { return 1 << 30, nil }}
	b.open()
	b.examine(nil)
	if log.Len() > 0 {
		t.Fatalf("a new reserve: %s", &log)
	}
	for _, at := range []int64{0, 1<<20 + 7, b.size - 1} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0x40}, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		b.examine(nil)
		if !strings.Contains(log.String(), fmt.Sprintf("octet at %d of", at)) || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("octet %d: %s", at, &log)
		}
		log.Reset()
		b.examine(nil)
		got, err := os.ReadFile(path)
		if err != nil || log.Len() > 0 || int64(len(got)) != b.size || !zero(got) {
			t.Errorf("octet %d was not put right: %v, %d octets, %s", at, err, len(got), &log)
		}
	}
	// Once it is given up there is nothing to be looked at.
	b.throw()
	log.Reset()
	b.examine(nil)
	if log.Len() > 0 {
		t.Errorf("without a reserve: %s", &log)
	}
}
