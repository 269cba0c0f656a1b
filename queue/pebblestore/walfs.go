package pebblestore

import (
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFS ends the process at the first error of the write-ahead log. Pebble would
// do the same, but in some places by a panic under its locks, with a trace of a hundred lines
// and exit code 2.
type walFS struct {
	vfs.FS
	dir   string // of the store: a checkpoint is elsewhere, and may fail
	log   logger
	notes *notes
}

// check ends the process when an operation on the log failed.
func (w walFS) check(what, name string, err error) {
	switch {
	case err == nil:
	case isFull(err):
		w.log.Fatalf("%s %s: %v: free some space on the disk of the data directory, then start again", what, filepath.Base(name), err)
	default:
		w.log.Fatalf("%s %s: %v: look after the disk of the data directory (the kernel's log tells more), then start again", what, filepath.Base(name), err)
	}
}

func isLog(name string) bool { return filepath.Ext(name) == ".log" }

func (w walFS) isLog(name string) bool {
	return isLog(name) && filepath.Dir(name) == filepath.Clean(w.dir)
}

func (w walFS) wrap(f vfs.File, name string, err error) (vfs.File, error) {
	if !w.isLog(name) {
		return f, err
	}
	w.check("create", name, err)
	return &walFile{File: f, fs: w, name: name}, nil
}

func (w walFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, c)
	if err == nil && w.isLog(name) {
		w.notes.begin("", filepath.Base(name))
	}
	return w.wrap(f, name, err)
}

func (w walFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.ReuseForWrite(from, to, c)
	if err == nil && w.isLog(to) {
		w.notes.begin(filepath.Base(from), filepath.Base(to))
	}
	return w.wrap(f, to, err)
}

// Remove removes a file. What a log holds that goes is in tables.
func (w walFS) Remove(name string) error {
	err := w.FS.Remove(name)
	if err == nil && w.isLog(name) {
		w.notes.end(filepath.Base(name))
	}
	return err
}

func (w walFS) OpenDir(name string) (vfs.File, error) {
	f, err := w.FS.OpenDir(name)
	if err != nil || filepath.Clean(name) != filepath.Clean(w.dir) {
		return f, err
	}
	return &walFile{File: f, fs: w, name: name, isDir: true}, nil
}

func (w walFS) Unwrap() vfs.FS { return w.FS }

// walFile is a log file, or the directory in which it is.
type walFile struct {
	vfs.File
	fs      walFS
	name    string
	isDir   bool
	written int64
}

func (f *walFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += int64(n)
	f.fs.check("write", f.name, err)
	return n, err
}

func (f *walFile) Sync() error {
	sync := f.File.Sync
	if f.isDir {
		sync = func() error { return f.fs.notes.synced(f.File.Sync) }
	}
	err := sync()
	f.fs.check("sync", f.name, err)
	return err
}

func (f *walFile) SyncData() error {
	err := f.File.SyncData()
	f.fs.check("sync", f.name, err)
	return err
}

func (f *walFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	f.fs.check("sync", f.name, err)
	return full, err
}

func (f *walFile) Close() error {
	err := f.File.Close()
	if !f.isDir {
		f.fs.notes.closed(filepath.Base(f.name), f.written)
	}
	f.fs.check("close", f.name, err)
	return err
}
