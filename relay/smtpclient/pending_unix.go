//go:build unix

package smtpclient

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// socket is the socket below a connection; the zero value where there is none.
type socket struct{ raw syscall.RawConn }

func socketOf(c net.Conn) socket {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return socket{}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return socket{}
	}
	return socket{raw}
}

// pending reports whether the socket has something to read, its end included,
// without blocking and without taking it out.
func (s socket) pending() bool {
	if s.raw == nil {
		return false
	}
	found := false
	err := s.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		found = !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return found || err != nil
}

// refusedBytes reports, after the end of file, whether the host's socket was
// closed before all that we sent was read: it answers with a reset then. That may
// take a round trip.
func (s socket) refusedBytes(ctx context.Context) bool {
	if s.raw == nil {
		return false
	}
	tick := time.NewTicker(resetTimeout / 50)
	defer tick.Stop()
	for range 50 {
		code := 0
		if err := s.raw.Control(func(fd uintptr) {
			code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		}); err != nil {
			return false
		}
		if e := syscall.Errno(code); e == syscall.EPIPE || e == syscall.ECONNRESET {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// openFiles is how many files the process may have open; 0: nobody knows.
func openFiles() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return uint64(r.Cur)
}
