package pebblestore

import (
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// wideSize is how much of a table is written at a time.
const wideSize = 128 << 10

// wideFS gathers what is written to tables. Pebble writes them by the page, which is a call to the
// kernel for each message that a flush or a compaction brings along.
type wideFS struct{ vfs.FS }

func (w wideFS) Unwrap() vfs.FS { return w.FS }

// Create makes a file.
func (w wideFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, c)
	if err != nil || filepath.Ext(name) != ".sst" {
		return f, err
	}
	return &wideFile{File: f}, nil
}

// wideFile is a table that is being written, by one goroutine. An error of what was gathered is one of the call
// that writes it, and of all that follow.
type wideFile struct {
	vfs.File
	buf []byte
	err error
}

func (f *wideFile) Write(p []byte) (int, error) {
	if f.buf == nil {
		f.buf = make([]byte, 0, wideSize)
	}
	if len(f.buf)+len(p) > cap(f.buf) {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	if f.err == nil && len(p) > cap(f.buf) {
		var n int
		n, f.err = f.File.Write(p)
		return n, f.err
	}
	f.buf = append(f.buf, p...)
	return len(p), f.err
}

func (f *wideFile) flush() error {
	if f.err == nil && len(f.buf) > 0 {
		_, f.err = f.File.Write(f.buf)
	}
	f.buf = f.buf[:0]
	return f.err
}

func (f *wideFile) SyncTo(n int64) (bool, error) {
	if err := f.flush(); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

func (f *wideFile) SyncData() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *wideFile) Sync() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *wideFile) Close() error {
	err := f.flush()
	if closed := f.File.Close(); err == nil {
		err = closed
	}
	return err
}
