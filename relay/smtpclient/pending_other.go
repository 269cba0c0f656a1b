//go:build !unix

package smtpclient

import (
	"context"
	"net"
)

// socket is not looked into here: a session that died is noticed when it is used.
type socket struct{}

func socketOf(net.Conn) socket { return socket{} }

func (socket) pending() bool { return false }

func (socket) refusedBytes(context.Context) bool { return false }

func openFiles() uint64 { return 0 }
