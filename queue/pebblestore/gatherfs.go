package pebblestore

import (
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gatherFS gathers what is written to tables: Pebble writes block by block, which is a system call for each message.
type gatherFS struct{ vfs.FS }

const gatherSize = 64 << 10 // octets that are written at once

func (g gatherFS) Unwrap() vfs.FS { return g.FS }

// Create makes a file.
func (g gatherFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	if err != nil || filepath.Ext(name) != ".sst" {
		return f, err
	}
	return &gatherFile{File: f, buf: make([]byte, 0, gatherSize)}, nil
}

// gatherFile is a file that is written from its beginning to its end by one goroutine, and read afterwards.
type gatherFile struct {
	vfs.File
	buf     []byte
	written int64
	err     error // of a write: nothing comes behind it
}

// Write gathers, and writes what does not fit.
func (f *gatherFile) Write(p []byte) (int, error) {
	if len(f.buf)+len(p) > cap(f.buf) {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > cap(f.buf) {
		n, err := f.File.Write(p)
		f.written += int64(n)
		f.err = err
		return n, err
	}
	f.buf = append(f.buf, p...)
	return len(p), f.err
}

func (f *gatherFile) flush() error {
	if len(f.buf) == 0 || f.err != nil {
		return f.err
	}
	n, err := f.File.Write(f.buf)
	f.written += int64(n)
	f.buf, f.err = f.buf[:0], err
	return err
}

// Sync writes what was gathered, and syncs.
func (f *gatherFile) Sync() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData writes what was gathered, and syncs.
func (f *gatherFile) SyncData() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo has the disk begin; what it is asked for is written as a rule.
func (f *gatherFile) SyncTo(length int64) (bool, error) {
	if length > f.written {
		if err := f.flush(); err != nil {
			return false, err
		}
	}
	return f.File.SyncTo(length)
}

// Stat knows of what was gathered.
func (f *gatherFile) Stat() (vfs.FileInfo, error) {
	if err := f.flush(); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// Close writes what was gathered.
func (f *gatherFile) Close() error {
	err := f.flush()
	if more := f.File.Close(); err == nil {
		err = more
	}
	return err
}
