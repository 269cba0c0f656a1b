package seal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// memDisk is a file system that can lose power: what is not synced, names included, may
// be lost then. It counts steps, and from a given one on everything fails.
type memDisk struct {
	mu     sync.Mutex
	names  map[string]*inode
	synced map[string]*inode // names as they are on the medium
	freed  []*inode          // removed or replaced: their octets are on the medium still
	steps  int
	fail   int // the step that fails, and all behind it; 0: none
}

type inode struct {
	data, synced []byte
	mode         fs.FileMode
}

var errPower = errors.New("no power")

func newMemDisk() *memDisk {
	return &memDisk{names: make(map[string]*inode), synced: make(map[string]*inode)}
}

// cut is the disk after a loss of power: with what was not synced, or without.
func (d *memDisk) cut(keepData, keepNames bool) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newMemDisk()
	names := d.synced
	if keepNames {
		names = d.names
	}
	for name, n := range names {
		c := &inode{data: bytes.Clone(n.synced), mode: n.mode}
		if keepData {
			c.data = bytes.Clone(n.data)
		}
		c.synced = bytes.Clone(c.data)
		after.names[name], after.synced[name] = c, c
	}
	return after
}

func (d *memDisk) clone() *memDisk { return d.cut(true, true) }

// step counts one change, and reports whether it may happen.
func (d *memDisk) step() error {
	d.steps++
	if d.fail > 0 && d.steps >= d.fail {
		return errPower
	}
	return nil
}

func (d *memDisk) MkdirAll(string) error { return nil }

type memInfo struct {
	name string
	size int
	mode fs.FileMode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return int64(i.size) }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }

func (d *memDisk) Stat(name string) (fs.FileInfo, error) {
	return memInfo{name, 0, fs.ModeDir | 0o700}, nil
}

func (d *memDisk) ReadDir(string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for name := range d.names {
		list = append(list, filepath.Base(name))
	}
	return list, nil
}

func (d *memDisk) Open(name string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	if n == nil {
		if flag&os.O_CREATE == 0 {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if err := d.step(); err != nil {
			return nil, err
		}
		n = &inode{mode: 0o600}
		d.names[name] = n
	}
	if flag&os.O_TRUNC != 0 {
		n.data = nil
	}
	return &memFile{d: d, n: n}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	n := d.names[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if old := d.names[to]; old != nil {
		d.freed = append(d.freed, old)
	}
	d.names[to] = n
	delete(d.names, from)
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	n := d.names[name]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.freed = append(d.freed, n)
	delete(d.names, name)
	return nil
}

func (d *memDisk) SyncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	d.synced = maps.Clone(d.names)
	return nil
}

func (d *memDisk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// flip changes one octet of a file for good.
func (d *memDisk) flip(name string, at int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].data[at] ^= 0x40
}

type memFile struct {
	d      *memDisk
	n      *inode
	closed bool
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return memInfo{"", len(f.n.data), f.n.mode}, nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) { return f.WriteAt(p, int64(len(f.n.data))) }

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		// A write that fails may have done a part.
		p = p[:len(p)/2]
		f.put(p, off)
		return len(p), err
	}
	f.put(p, off)
	return len(p), nil
}

func (f *memFile) put(p []byte, off int64) {
	if grow := int(off) + len(p) - len(f.n.data); grow > 0 {
		f.n.data = append(f.n.data, make([]byte, grow)...)
	}
	f.n.data = bytes.Clone(f.n.data)
	copy(f.n.data[off:], p)
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	f.n.synced = bytes.Clone(f.n.data)
	return nil
}

func (f *memFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.closed = true
	return nil
}

func TestMemDiskLosesPower(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	f, err := d.Open("a", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := len(d.cut(false, false).names); n != 0 {
		t.Errorf("a name that was not synced came through: %d", n)
	}
	if got := d.cut(false, true).names["a"]; len(got.data) != 0 {
		t.Errorf("data that was not synced came through: %q", got.data)
	}
	if got := d.cut(true, true).names["a"]; string(got.data) != "x" {
		t.Errorf("kept data is %q", got.data)
	}
}
