package pebblestore

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// twinPrefix is before the name of a manifest's copy.
const twinPrefix = "copy-of-"

// twinFS writes each manifest twice. It is small and everything hangs on it: a table that
// it does not name is removed by Pebble as left over.
type twinFS struct {
	vfs.FS
	log logger
}

func (t twinFS) Unwrap() vfs.FS { return t.FS }

func isManifest(name string) bool { return strings.HasPrefix(filepath.Base(name), "MANIFEST-") }

func (t twinFS) twin(name string) string {
	return t.PathJoin(t.PathDir(name), twinPrefix+t.PathBase(name))
}

// Create makes a manifest and its copy. Without the copy it goes on.
func (t twinFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.Create(name, c)
	if err != nil || !isManifest(name) {
		return f, err
	}
	twin, err := t.FS.Create(t.twin(name), c)
	if err != nil {
		t.log.Errorf("the list of tables is without a copy: %v", err)
		return f, nil
	}
	return &twinFile{File: f, twin: twin, log: t.log}, nil
}

// Remove removes a manifest with its copy.
func (t twinFS) Remove(name string) error {
	if isManifest(name) {
		_ = t.FS.Remove(t.twin(name)) // it may never have been
	}
	return t.FS.Remove(name)
}

type twinFile struct {
	vfs.File
	twin vfs.File // nil: it failed
	log  logger
}

// also does something to the copy; the first error ends that.
func (f *twinFile) also(do func(vfs.File) error) {
	if f.twin == nil {
		return
	}
	if err := do(f.twin); err != nil {
		f.log.Errorf("the copy of the list of tables ends here: %v", err)
		f.twin = nil
	}
}

func (f *twinFile) Write(p []byte) (int, error) {
	same := bytes.Clone(p) // vfs may change what it writes
	n, err := f.File.Write(p)
	if err == nil {
		f.also(func(twin vfs.File) error { _, err := twin.Write(same); return err })
	}
	return n, err
}

func (f *twinFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	f.also(vfs.File.Sync)
	return nil
}

func (f *twinFile) SyncData() error {
	if err := f.File.SyncData(); err != nil {
		return err
	}
	f.also(vfs.File.SyncData)
	return nil
}

func (f *twinFile) Close() error {
	var err error
	if f.twin != nil {
		err = f.twin.Close()
	}
	return errors.Join(f.File.Close(), err)
}
