package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sealpost/sealpost/queue"
)

// deeds is what a history was told is done.
type deeds struct {
	mu       sync.Mutex
	inserted map[queue.ID]int
	refused  map[queue.ID]bool // an error was returned: nothing is kept
	removed  map[queue.ID]bool
	doubtful map[queue.ID]bool // the step did not return
}

// play does a little of everything on a store. It stops at the first error.
func (d *deeds) play(s *Store) error {
	ctx := context.Background()
	insert := func(size int) error {
		in := insertion(nil)
		in.Body = bytes.NewReader(noise(in.ID, size))
		d.set(d.doubtful, in.ID, true)
		err := s.Insert(ctx, in)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.doubtful, in.ID)
		if err != nil {
			d.refused[in.ID] = true
			return err
		}
		d.inserted[in.ID] = size
		return nil
	}
	for _, size := range []int{100, 600 << 10, 3000, 20 << 10} {
		if err := insert(size); err != nil {
			return err
		}
	}
	if _, err := s.db.AsyncFlush(); err != nil {
		return err
	}
	if err := insert(500); err != nil {
		return err
	}
	rows, _, err := s.Claim(ctx, queue.ClaimQuery{Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 3})
	if err != nil {
		return err
	}
	for _, r := range rows {
		d.set(d.doubtful, r.Message, true)
		if err := s.Commit(ctx, &queue.Change{Remove: []queue.Row{r}, Entries: [][]byte{[]byte("final")}}); err != nil {
			return err
		}
		d.set(d.doubtful, r.Message, false)
		d.set(d.removed, r.Message, true)
	}
	return s.SetCell(ctx, "cell", []byte("value"))
}

func (d *deeds) set(m map[queue.ID]bool, id queue.ID, to bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m[id] = to; !to {
		delete(m, id)
	}
}

// check compares what is on the disk with what was told.
func (d *deeds) check(s *Store) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, size := range d.inserted {
		err := whole(s, id, size)
		switch {
		case d.doubtful[id]:
		case d.removed[id] && !errors.Is(err, queue.ErrNotFound):
			return fmt.Errorf("removed and there again: %v", err)
		case !d.removed[id] && err != nil:
			return fmt.Errorf("accepted and lost: %w", err)
		}
	}
	for id := range d.refused {
		if err := whole(s, id, 0); !errors.Is(err, queue.ErrNotFound) {
			return fmt.Errorf("refused and kept: %v", err)
		}
	}
	return nil
}

// An error at any one call to the file system, for good from there on or once: either the
// step fails and leaves nothing, or the process ends with its code; what was
// acknowledged is there afterwards, whether what was not synced came through or not.
func TestFaultAtEachCall(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() || raceDetector {
		step = 7
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, once := range []bool{true, false} {
			calls, fatal, failed := 0, 0, 0
			for at := 1; ; at += step {
				hit, ended, err := fault(t, errno, once, int64(at))
				if !hit {
					break
				}
				calls++
				if ended {
					fatal++
				} else if err != nil {
					failed++
				}
			}
			t.Logf("%v, once %v: %d calls; %d ends with code 3, %d errors, the rest went on", errno, once, calls, fatal, failed)
			if calls < 5 {
				t.Errorf("%v: only %d calls", errno, calls)
			}
		}
	}
}

// fault plays with an error at one call.
func fault(t *testing.T, errno syscall.Errno, once bool, at int64) (hit, ended bool, err error) {
	t.Helper()
	d := newDisk(t)
	var calls atomic.Int64
	var armed, struck atomic.Bool
	fs := errorfs.Wrap(d.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		n := calls.Add(1)
		if n == at || !once && n > at && n < at+200 {
			struck.Store(true)
			return &os.PathError{Op: "write", Path: op.Path, Err: errno}
		}
		return nil
	}))
	var log logText
	codes := make(chan int, 99)
	s := mustOpen(t, Options{Dir: "db", fs: fs, Logger: slog.New(slog.NewTextHandler(&log, nil)), Fatal: func(code int) {
		codes <- code
		select {} // as os.Exit: never returns
	}})
	armed.Store(true)
	deed := &deeds{inserted: map[queue.ID]int{}, refused: map[queue.ID]bool{}, removed: map[queue.ID]bool{}, doubtful: map[queue.ID]bool{}}
	done := make(chan error, 1)
	go func() { done <- deed.play(s) }()
	select {
	case err = <-done:
		armed.Store(false)
		hit = struck.Load()
	case code := <-codes:
		hit, ended = true, true
		if code != fatalCode || !strings.Contains(log.String(), "storage unusable") || !strings.Contains(log.String(), "then start again") {
			t.Errorf("call %d: code %d, log %s", at, code, log.String())
		}
	}
	for _, percent := range []int{0, 100} {
		rest := d.Cut(percent, uint64(at)).Open(t).(*Store)
		if e := deed.check(rest); e != nil {
			t.Errorf("%v once %v at call %d (ended %v, %v), %d %% came through: %v", errno, once, at, ended, err, percent, e)
		}
		if e := rest.Close(); e != nil {
			t.Error(e)
		}
	}
	if !ended {
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		select {
		case <-closed: // it may tell of the fault once more
		case <-codes:
		}
	}
	return hit, ended, err
}

// logText is a log that is read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
