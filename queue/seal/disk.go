package seal

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// disk is the file system under a key directory: tests put one there that loses power.
type disk interface {
	MkdirAll(dir string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(dir string) ([]string, error)
	Open(name string, flag int) (file, error) // mode 0600 when made
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
	Lock(name string) (io.Closer, error) // one process at a time
}

// file is an open file.
type file interface {
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// realDisk is the operating system's.
type realDisk struct{}

func (realDisk) MkdirAll(dir string) error             { return os.MkdirAll(dir, 0o700) }
func (realDisk) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (realDisk) Rename(from, to string) error          { return os.Rename(from, to) }
func (realDisk) Remove(name string) error              { return os.Remove(name) }

func (realDisk) ReadDir(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names, err
}

func (realDisk) Open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// SyncDir makes names durable: fsync of a file does not.
func (realDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

func (realDisk) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is locked by another process (is a sealpost running with these keys?): %w", name, err)
	}
	return f, nil
}
