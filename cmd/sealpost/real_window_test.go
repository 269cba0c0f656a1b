package main_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/queue"
	docks "github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/smtpclient"
)

// distantConn is a connection on which what we write arrives 15 ms later, so that
// replies are long in coming and flights follow each other.
type distantConn struct {
	net.Conn
	out    chan distantWrite
	closed chan struct{}
	once   sync.Once
	writes *atomic.Int64
}

type distantWrite struct {
	b   []byte
	due time.Time
}

func dialDistant(writes *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		raw, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &distantConn{Conn: raw, out: make(chan distantWrite, 1024), closed: make(chan struct{}), writes: writes}
		go func() {
			for {
				select {
				case w := <-c.out:
					time.Sleep(time.Until(w.due)) // the distance itself, not a wait for something
					if _, err := raw.Write(w.b); err != nil {
						return
					}
				case <-c.closed:
					return
				}
			}
		}()
		return c, nil
	}
}

func (c *distantConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	select {
	case c.out <- distantWrite{append([]byte(nil), p...), time.Now().Add(15 * time.Millisecond)}:
		return len(p), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *distantConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestRealReceiversShared has 24 couriers share two connections to Debian's Postfix and Exim, with
// CHUNKING and with DATA: flights behind flights, MAIL behind the final dot. Each message arrives once, byte for byte.
func TestRealReceiversShared(t *testing.T) {
	t.Parallel()
	for _, receiver := range []struct {
		name  string
		start func(*testing.T, *policytest.CA, ...string) *receiver
		extra []string
	}{{"Postfix", startPostfix, nil}, {"Exim", startExim, []string{"smtp_accept_queue_per_connection = 0"}}} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/plain=%v", receiver.name, plain), func(t *testing.T) {
				t.Parallel()
				ca := policytest.NewCA()
				shareConnections(t, receiver.start(t, ca, receiver.extra...), ca, plain)
			})
		}
	}
}

func shareConnections(t *testing.T, r *receiver, ca *policytest.CA, plain bool) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.PEM()) {
		t.Fatal("no root")
	}
	var writes atomic.Int64
	pool := smtpclient.New(smtpclient.Options{
		Hostname: "relay.sealpost.test", Roots: roots, Dial: dialDistant(&writes), PlainData: plain,
		ConnectionsPerHost: 2, MessagesPerConnection: 1000, IdleTime: time.Minute,
	})
	defer pool.Close()
	at := netip.AddrPortFrom(netip.MustParseAddr(r.host), uint16(r.port))
	step := policy.Step{
		Target: &policy.Target{Host: policy.Domain(r.name), SNI: policy.Domain(r.name), Addrs: []netip.AddrPort{at},
			Floor: policy.Floor{Level: policy.Verified}, Rungs: []policy.Rung{policy.Modern}},
		Addr: at, Rung: policy.Modern,
	}
	to, err := queue.ParseAddress("b@" + strings.TrimPrefix(r.name, "mx."))
	if err != nil {
		t.Fatal(err)
	}
	from, err := queue.ParseAddress("a@sealpost.test")
	if err != nil {
		t.Fatal(err)
	}
	const messages, couriers = 150, 24
	wants := make([]string, messages)
	for i := range wants {
		wants[i] = fmt.Sprintf("Subject: %d\r\nFrom: a@sealpost.test\r\nMessage-ID: <%d@sealpost.test>\r\nDate: Fri, 27 Nov 2026 04:00:00 +0000\r\n\r\n.%d\r\n..\r\nRSET\r\nBDAT 5 LAST\r\n%s.\r\n", i, i, i, strings.Repeat(strings.Repeat("x", i%70)+"\r\n", i))
	}
	wants[messages/2] += strings.Repeat(strings.Repeat("y", 70)+"\r\n", 3000) // in two chunks
	var next atomic.Int64
	var crew sync.WaitGroup
	for range couriers {
		crew.Go(func() {
			for i := int(next.Add(1)) - 1; i < messages; i = int(next.Add(1)) - 1 {
				s, e, f := pool.Open(t.Context(), step)
				if f != nil {
					t.Errorf("message %d: %v", i, f)
					continue
				}
				if level, f := step.Judge(e); f != nil {
					t.Errorf("message %d: level %v, %v", i, level, f)
				}
				sent := s.Send(t.Context(), &docks.Transaction{
					Message:    &queue.Message{ID: "m", Sender: from, Size: int64(len(wants[i]))},
					Recipients: []queue.Recipient{{Address: to}},
					Body: func(context.Context) (queue.Body, error) {
						return sharedBody{strings.NewReader(wants[i])}, nil
					},
				})
				if f := sent.Results[0].Failure; f != nil {
					t.Errorf("message %d: %v", i, f)
				}
				s.Release()
			}
		})
	}
	crew.Wait()
	eventually(t, "all mail has arrived", func() bool { return len(r.mail(t)) >= messages })
	arrived := r.mail(t)
	if len(arrived) != messages {
		t.Errorf("%d messages have arrived, want %d", len(arrived), messages)
	}
	subjects := map[string]bool{}
	for _, got := range arrived {
		checkArrival(t, got, wants)
		_, rest, _ := strings.Cut(got, "Subject: ")
		number, _, _ := strings.Cut(rest, "\n")
		subjects[number] = true
	}
	if len(subjects) != messages {
		t.Errorf("%d different messages, want %d", len(subjects), messages)
	}
	t.Logf("%d writes for %d messages", writes.Load(), messages)
}

type sharedBody struct{ *strings.Reader }

func (b sharedBody) Size() int64  { return b.Reader.Size() }
func (b sharedBody) Close() error { return nil }
