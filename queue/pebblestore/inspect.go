package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// Archive is a store that is looked at and not changed: one whose relay is stopped, or
// a backup. Make one with Inspect.
type Archive struct {
	db   *pebble.DB
	read Store // for what it reads with; it has no schedule, and nothing in it writes
	once sync.Once
	err  error // of once
}

var _ queue.JournalReader = (*Archive)(nil)

// Inspect opens a store without writing anything to its directory, not even a lock file. It
// fails when a process has the store open.
func Inspect(o Options) (*Archive, error) {
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Fatal = func(int) {}
	log := newLogger(&o)
	db, err := pebble.Open(o.Dir, &pebble.Options{
		FS: lookFS{o.fs}, ReadOnly: true, Logger: quiet{log}, CacheSize: 8 << 20,
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}},
	})
	if err != nil {
		return nil, fmt.Errorf("pebblestore: look at %s: %w", o.Dir, err)
	}
	if err := (&examination{o.fs, o.Dir, log, log.check}).look(); err != nil {
		return nil, errors.Join(fmt.Errorf("pebblestore: look at %s: %w", o.Dir, err), db.Close())
	}
	return &Archive{db: db, read: Store{db: db, log: log}}, nil
}

// Verify checks the chain of all journal entries: see Store.Verify.
func (a *Archive) Verify(ctx context.Context, o queue.VerifyOptions) (queue.Proof, error) {
	it, err := a.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixJournal}, UpperBound: []byte{prefixJournal + 1}})
	if err != nil {
		return queue.Proof{}, err
	}
	end := uint64(1)
	if it.Last() {
		n, e := parseSequence(it.Key())
		end, err = n+1, e
	}
	bad := it.Error()
	if err := errors.Join(err, it.Close()); err != nil && bad == nil {
		return queue.Proof{}, err
	}
	if bad != nil {
		// The end itself is damaged: the newest head knows how far it went.
		head, _, err := newestHead(a.db, &queue.CheckOptions{Keys: o.Keys})
		if err != nil || head == nil {
			return queue.Proof{}, errors.Join(bad, err)
		}
		end = head.Number + 1
	}
	return verify(ctx, a.db, o, func() uint64 { return end })
}

// journal finds out what the journal has.
func (a *Archive) journal() error {
	a.once.Do(func() {
		head, _, err := newestHead(a.db, &queue.CheckOptions{})
		if err != nil {
			head = nil // the entries themselves tell, too
		}
		a.err = a.read.journal.load(a.db, head)
	})
	return a.err
}

// Scan is Store.Scan of the journal; of rows and cells an Archive knows nothing.
func (a *Archive) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	if q.Kind != queue.ScanJournal {
		return fmt.Errorf("pebblestore: scan %d of a store that is only looked at", q.Kind)
	}
	if err := a.journal(); err != nil {
		return err
	}
	return a.read.Scan(ctx, q, fn)
}

// JournalAt is Store.JournalAt.
func (a *Archive) JournalAt(t time.Time) string {
	if a.journal() != nil {
		return ""
	}
	return a.read.JournalAt(t)
}

// Cell is Store.Cell.
func (a *Archive) Cell(ctx context.Context, name string) ([]byte, error) {
	return a.read.Cell(ctx, name)
}

// Close ends it.
func (a *Archive) Close() error { return a.db.Close() }

// quiet passes on nothing of what Pebble does all the time.
type quiet struct{ logger }

// Fatalf is for a bug of Pebble: nothing is written here that could fail.
func (q quiet) Fatalf(format string, args ...any) {
	q.Errorf(format, args...)
	os.Exit(fatalCode)
}

// lookFS refuses to change anything.
type lookFS struct{ vfs.FS }

func refused(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
}

// Lock takes the lock that is there; where none is, nobody holds one.
func (l lookFS) Lock(name string) (io.Closer, error) {
	if _, err := l.FS.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	c, err := l.FS.Lock(name)
	if errors.Is(err, fs.ErrPermission) { // a medium that is read-only: fcntl wants to write
		return io.NopCloser(nil), nil
	}
	return c, err
}

func (l lookFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refused("create", name)
}

func (l lookFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, refused("open", name)
}

func (l lookFS) ReuseForWrite(from, _ string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refused("reuse", from)
}

func (l lookFS) Link(from, _ string) error { return refused("link", from) }

func (l lookFS) Remove(name string) error { return refused("remove", name) }

func (l lookFS) RemoveAll(name string) error { return refused("remove", name) }

func (l lookFS) Rename(from, _ string) error { return refused("rename", from) }

func (l lookFS) MkdirAll(dir string, _ os.FileMode) error { return refused("mkdir", dir) }

func (l lookFS) Unwrap() vfs.FS { return l.FS }
