package httpapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxSocketPath is what the smallest sockaddr_un in use holds (BSD: 104 with its
// final zero).
const maxSocketPath = 103

// ErrSocketInUse says that a live server owns the socket.
var ErrSocketInUse = errors.New("another sealpost is running on this data directory")

// ListenSocket opens the admin socket at path for its owner only (mode 0600). A
// socket that nobody answers on is a left-over and is replaced; one that is
// answered is ErrSocketInUse; a file that is no socket is an error. Closing the
// listener removes the socket.
func ListenSocket(path string) (net.Listener, error) {
	if err := makeRoom(path); err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	// The socket is made in a directory that only we can enter, and moved when its
	// mode is right: at its place it was never open to others, whatever the umask.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	defer os.RemoveAll(dir)
	inner := filepath.Join(dir, "s")
	for _, p := range []string{path, inner} {
		if len(p) > maxSocketPath {
			return nil, fmt.Errorf("admin socket %s: the path has %d octets, %d is the limit of the system: choose a shorter data_dir", p, len(p), maxSocketPath)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: inner, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(inner, 0o600), os.Rename(inner, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	return &socket{UnixListener: l, path: path, info: info}, nil
}

// makeRoom removes a left-over socket.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is a file at this place that is no socket: move it away")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close() // we only wanted to know
		return ErrSocketInUse
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ErrSocketInUse // somebody holds it, too busy to answer
	}
	return os.Remove(path)
}

// socket removes its file when it is closed, unless another server's is there by now.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	once sync.Once
}

// Close ends listening.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	s.once.Do(func() {
		if now, e := os.Lstat(s.path); e == nil && os.SameFile(now, s.info) {
			err = errors.Join(err, os.Remove(s.path))
		}
	})
	return err
}
