package smtpclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// tardy is our end of a connection on which what we write arrives later.
type tardy struct {
	lateConn
	once sync.Once
	done chan struct{} // closed when nothing is on its way any more
}

// dialTardy dials connections to a host that is far away.
func dialTardy(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &tardy{lateConn: lateConn{Conn: raw, late: 10 * time.Millisecond, out: make(chan lateWrite, 4096)}, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for w := range c.out {
			time.Sleep(time.Until(w.due))
			_, _ = raw.Write(w.b)
		}
	}()
	return c, nil
}

func (c *tardy) Close() error {
	err := net.ErrClosed
	c.once.Do(func() { close(c.out); <-c.done; err = c.Conn.Close() })
	return err
}

// share has couriers send the messages, each to the recipients, and returns what came
// of each.
func share(t *testing.T, p *Pool, st policy.Step, bodies []string, rcpts ...string) []string {
	t.Helper()
	came := make([]string, len(bodies))
	var next atomic.Int32
	var crew sync.WaitGroup
	for range 20 {
		crew.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(bodies); i = int(next.Add(1)) - 1 {
				s, _, f := p.Open(t.Context(), st)
				if f != nil {
					came[i] = f.Error()
					continue
				}
				came[i] = fmt.Sprint(results(s.Send(t.Context(), mail(bodies[i], rcpts...))))
				s.Release()
			}
		})
	}
	crew.Wait()
	return came
}

// go-smtp takes what couriers send on one shared connection: each message once, for its
// own recipients, byte for byte, a refused one in each.
func TestIndependentReceiverShared(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("PlainData %v", plain), func(t *testing.T) {
			t.Parallel()
			r, at := startReceiver(t)
			o := options()
			o.PlainData, o.ConnectionsPerHost, o.Dial, o.MessagesPerConnection = plain, 1, dialTardy, 1000
			p := newPool(t, o)
			var bodies []string
			for i := range 100 {
				bodies = append(bodies, fmt.Sprintf("Subject: %d\r\n\r\n", i)+randomLines(i*50))
			}
			bodies[50] += randomLines(3 * chunkSize)
			came := share(t, p, step(at, policy.Modern), bodies, "b@example.test", "no@example.test", "c@example.test")
			for i, c := range came {
				if c != "[ok 250 reply-permanent 5.1.1 550 ok 250]" {
					t.Errorf("message %d: %s", i, c)
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			var got []string
			for _, m := range r.mail {
				got = append(got, m.body)
				if fmt.Sprint(m.to) != "[b@example.test c@example.test]" {
					t.Errorf("to %v", m.to)
				}
			}
			slices.Sort(got)
			slices.Sort(bodies)
			if !slices.Equal(got, bodies) {
				t.Errorf("%d messages arrived, want %d, each unchanged", len(got), len(bodies))
			}
		})
	}
}

// RFC 2920 3.1: a host that reads nothing while its long replies are not read meets no
// deadlock, since somebody always reads them.
func TestNoDeadlock(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 480)
	var messages atomic.Int32
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
				_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
				r := bufio.NewReaderSize(c, 64)
				fmt.Fprint(c, "220 tight\r\n")
				for {
					line, err := r.ReadString('\n')
					if err != nil || strings.HasPrefix(line, "QUIT") {
						return
					}
					if strings.HasPrefix(line, "EHLO") {
						fmt.Fprint(c, "250-tight\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
						continue
					}
					if size, _, ok := bdat(strings.TrimSpace(line)); ok {
						if _, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
							return
						}
						messages.Add(1)
					}
					if strings.HasPrefix(line, "MAIL") {
						time.Sleep(time.Millisecond) // it is slow as well
					}
					if _, err := fmt.Fprintf(c, "250-%s\r\n250-%s\r\n250 %s\r\n", long, long, long); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); group.Wait() })
	o := options()
	o.ConnectionsPerHost, o.MessagesPerConnection = 1, 1000
	p := newPool(t, o)
	var rcpts []string
	for i := range 20 {
		rcpts = append(rcpts, fmt.Sprintf("r%d@example.test", i))
	}
	bodies := slices.Repeat([]string{"Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 62)+"\r\n", 300)}, 24)
	want := "[" + strings.TrimSuffix(strings.Repeat("ok 250 ", 20), " ") + "]"
	for i, c := range share(t, p, step(netip.MustParseAddrPort(ln.Addr().String()), policy.Clear), bodies, rcpts...) {
		if c != want {
			t.Errorf("message %d: %s", i, c)
		}
	}
	if n := messages.Load(); n != 24 {
		t.Errorf("the host has %d messages", n)
	}
}
