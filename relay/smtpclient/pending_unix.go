//go:build unix

package smtpclient

import (
	"errors"
	"net"
	"syscall"
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
