package httpapi

import (
	"fmt"
	"net"
	"syscall"
)

// socketPeer is the user and the process at the other end of a unix socket, as the
// kernel knows them (SO_PEERCRED).
func socketPeer(c *net.UnixConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return "admin socket"
	}
	var cred *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || failed != nil {
		return "admin socket"
	}
	return fmt.Sprintf("uid %d, pid %d", cred.Uid, cred.Pid)
}
