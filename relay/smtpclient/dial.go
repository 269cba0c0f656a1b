package smtpclient

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/sealpost/sealpost/policy"
)

// boundDialer dials from the local address of the right family. TCP_NODELAY is
// on by default in net: a flight is one write and must not wait for an ACK.
func boundDialer(v4, v6 netip.Addr) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		local := v6
		if to, err := netip.ParseAddrPort(address); err == nil && to.Addr().Unmap().Is4() {
			local = v4
		}
		if local.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		}
		return d.DialContext(ctx, network, address)
	}
}

// connectReason says what a failed dial means. What is short on our own side is
// no fault of the host.
func connectReason(ctx context.Context, err error) policy.Reason {
	var errno syscall.Errno
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return policy.Interrupted
	case errors.As(err, &errno):
		switch errno {
		case syscall.ECONNREFUSED:
			return policy.ConnectRefused
		case syscall.ECONNRESET: // it stood for a moment
			return policy.ConnectionLost
		case syscall.ETIMEDOUT:
			return policy.ConnectTimeout
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
			return policy.Internal
		}
		return policy.ConnectUnreachable
	case isTimeout(err):
		return policy.ConnectTimeout
	}
	return policy.ConnectUnreachable
}
