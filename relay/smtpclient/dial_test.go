package smtpclient

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/sealpost/sealpost/policy"
)

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(ln.Addr().String())
	_ = ln.Close()
	dial := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: err}
		}
	}
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		dial func(context.Context, string, string) (net.Conn, error)
		want policy.Reason
	}{
		{"nobody listens", t.Context(), nil, policy.ConnectRefused},
		{"refused", t.Context(), dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), policy.ConnectRefused},
		{"no route", t.Context(), dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), policy.ConnectUnreachable},
		{"F45 no IPv6", t.Context(), dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), policy.ConnectUnreachable},
		{"the system gave up", t.Context(), dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), policy.ConnectTimeout},
		{"we have too many files open", t.Context(), dial(os.NewSyscallError("socket", syscall.EMFILE)), policy.Internal},
		{"no answer", t.Context(), hang, policy.ConnectTimeout},
		{"we are stopping", stopped, hang, policy.Interrupted},
		{"something else", t.Context(), dial(errors.New("hm")), policy.ConnectUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &watcher{}
			o := hasty()
			o.Dial, o.Observer = tt.dial, w
			p := newPool(t, o)
			_, _, f := p.Open(tt.ctx, step(free, policy.Modern))
			if f == nil || f.Reason != tt.want || f.Reason.MayLower() {
				t.Errorf("got %v, want %v", f, tt.want)
			}
			if len(w.failed) != 1 || w.failed[0] != tt.want || w.opened != 0 || p.held() != 0 {
				t.Errorf("observed %v, %d opened, %d held", w.failed, w.opened, p.held())
			}
		})
	}
}

func TestBindAddress(t *testing.T) {
	t.Parallel()
	from := make(chan string, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		_ = c.Close()
	}()
	o := options()
	o.BindIPv4, o.BindIPv6 = netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("::1")
	p := newPool(t, o)
	if _, _, f := p.Open(t.Context(), step(netip.MustParseAddrPort(ln.Addr().String()), policy.Clear)); f == nil {
		t.Error("a session with nobody")
	}
	if got := <-from; got != "127.0.0.9" {
		t.Errorf("connected from %s", got)
	}
}
