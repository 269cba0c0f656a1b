package smtpclient

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

var somewhere = netip.MustParseAddrPort("192.0.2.1:25")

// carry sends n messages by the given number of couriers and returns the time that
// took, and what came of each.
func carry(t *testing.T, p *Pool, couriers, n, size int) (time.Duration, []string) {
	t.Helper()
	came := make([]string, n)
	var next atomic.Int32
	done := make(chan struct{})
	began := time.Now()
	for range couriers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				s, _, f := p.Open(t.Context(), step(somewhere, policy.Clear))
				if f != nil {
					came[i] = f.Reason.String()
					continue
				}
				came[i] = results(s.Send(t.Context(), mail(numbered(i, size), fmt.Sprintf("%d@example.test", i))))[0]
				s.Release()
			}
		}()
	}
	for range couriers {
		<-done
	}
	return time.Since(began), came
}

// Round trips per message, counted on the clock: what issue 5 asks for.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	const rtt = 50 * time.Millisecond
	for _, tt := range []struct {
		name     string
		caps     string
		window   int
		couriers int
		most     float64 // round trips per message, at most
		least    float64 // and at least: fewer would mean that the measure is wrong
	}{
		{"by the letter", "", 8, 8, 4.01, 3.99},
		{"DATA, one after the other", "PIPELINING", 8, 1, 2.01, 1.99},
		{"DATA, busy", "PIPELINING", 8, 8, 1.01, 0.99},
		{"DATA, busy, window off", "PIPELINING", 1, 8, 2.01, 1.99},
		{"CHUNKING, one after the other", "PIPELINING CHUNKING", 8, 1, 1.01, 0.99},
		{"CHUNKING, busy, window off", "PIPELINING CHUNKING", 1, 8, 1.01, 0.99},
		{"CHUNKING, busy", "PIPELINING CHUNKING", 8, 16, 0.14, 0.12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tp := &tape{}
				h := &strict{tape: tp, caps: strings.Fields(tt.caps)}
				f := &far{oneWay: rtt / 2, serve: h.serve}
				o := options()
				o.ConnectionsPerHost, o.MessagesPerConnection, o.Window, o.Dial = 1, 10000, tt.window, f.dial
				p := newPool(t, o)
				carry(t, p, 1, 1, 100)             // the connection stands
				carry(t, p, tt.couriers, 40, 4000) // it has its speed
				const n = 400
				before := tp.waits
				took, came := carry(t, p, tt.couriers, n, 4000)
				for i, c := range came {
					if c != "ok 250" {
						t.Fatalf("message %d: %s", i, c)
					}
				}
				if got := took.Seconds() / rtt.Seconds() / n; got > tt.most || got < tt.least {
					t.Errorf("%.3f round trips per message, want %.2f to %.2f", got, tt.least, tt.most)
				}
				// What the host itself would count: how often it had to wait for us.
				// (Flights that leave within one round trip come in a few writes; how many each, the scheduler says.)
				if got := float64(tp.waits-before) / n; got > max(tt.most+0.01, 0.9) {
					t.Errorf("the host waited %.3f times per message", got)
				}
				if got := len(tp.parcels()); got != n+41 {
					t.Errorf("the host has %d messages", got)
				}
				if f.conns != 1 {
					t.Errorf("%d connections", f.conns)
				}
				p.Close()
				f.group.Wait()
			})
		})
	}
}
