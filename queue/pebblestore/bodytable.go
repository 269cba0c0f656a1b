package pebblestore

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// A large body is a table of its own from its fifth chunk on, written once and given to Pebble when it is whole. Through the
// log it would be written three times (log, memtable's table, compaction), and as many memtables as there are would
// stand full in memory. When the message goes its table goes as one file, unread.
const (
	aheadChunks = 4 // of a body, that are written through the log
	bodyExt     = ".body"
	bodySync    = 2 << 20 // octets that are left to the disk at a time
)

// tables says how tables of bodies are written.
type tables struct {
	fs   vfs.FS
	dir  string
	form sstable.WriterOptions
}

func newTables(dir string, po *pebble.Options) tables {
	full := po.Clone()
	full.EnsureDefaults()
	form := full.MakeWriterOptions(0, full.FormatMajorVersion.MaxTableFormat())
	form.Compression = sstable.NoCompression // mail is sealed, or sent packed by who sends so much
	return tables{po.FS, dir, form}
}

// removeLeft removes what was not whole when the process ended.
func (t *tables) removeLeft() error {
	names, err := t.fs.List(t.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if filepath.Ext(name) != bodyExt {
			continue
		}
		if err := t.fs.Remove(t.fs.PathJoin(t.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// bodyTable is a table that is being written.
type bodyTable struct {
	path string
	file *bodyFile
	w    *sstable.Writer
	next int // number of the next chunk
}

func (t *tables) begin(id queue.ID, first int) (*bodyTable, error) {
	path := t.fs.PathJoin(t.dir, string(id)+bodyExt)
	f, err := t.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	// A little at a time, so that the last sync has not all of it to wait for.
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: bodySync})
	file := &bodyFile{File: f, buf: bufio.NewWriter(f)}
	return &bodyTable{path: path, file: file, w: sstable.NewWriter(file, t.form), next: first}, nil
}

func (t *bodyTable) add(id queue.ID, chunk []byte) error {
	err := t.w.Set(numberKey(prefixBody, id, t.next), chunk)
	t.next++
	return err
}

// drop ends a table that nobody wants any more.
func (t *bodyTable) drop(fs vfs.FS) error {
	t.file.unwanted = true
	_ = t.w.Close() // whatever it says, the file goes
	return fs.Remove(t.path)
}

// bodyFile is a table's file.
type bodyFile struct {
	vfs.File
	buf      *bufio.Writer
	unwanted bool
}

// Write implements objstorage.Writable.
func (f *bodyFile) Write(p []byte) error {
	_, err := f.buf.Write(p)
	return err
}

// Finish implements objstorage.Writable.
func (f *bodyFile) Finish() error {
	if f.unwanted {
		return f.File.Close()
	}
	err := f.buf.Flush()
	if err == nil {
		err = f.Sync()
	}
	if more := f.File.Close(); err == nil {
		err = more
	}
	return err
}

// Abort implements objstorage.Writable.
func (f *bodyFile) Abort() { _ = f.File.Close() }

// apart writes a chunk to the body's table.
func (u *upload) apart(chunk []byte) (err error) {
	if err := u.s.room(); err != nil {
		return err
	}
	if u.table == nil {
		if u.table, err = u.s.tables.begin(u.id, u.written); err != nil {
			return u.s.narrow(err)
		}
	}
	return u.s.narrow(u.table.add(u.id, chunk))
}

// deliver gives the table to Pebble. The orphan mark, and the chunks before it, must be on disk
// first: the table is as soon as Pebble has it.
func (u *upload) deliver() error {
	t := u.table
	if err := t.w.Close(); err != nil {
		return u.s.narrow(err)
	}
	if err := u.s.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	if err := u.s.db.Ingest(context.Background(), []string{t.path}); err != nil {
		return u.s.narrow(err)
	}
	u.table, u.written = nil, t.next
	return nil
}

// narrow stops the intake when an error is for want of space: nothing of what was accepted needs it.
func (s *Store) narrow(err error) error {
	if !isFull(err) {
		return err
	}
	s.ballast.tight()
	return fmt.Errorf("%w: %v", queue.ErrFull, err)
}
