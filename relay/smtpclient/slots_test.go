package smtpclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *counted) Close() error {
	err := net.ErrClosed
	c.once.Do(func() { c.open.Add(-1); err = c.Conn.Close() })
	return err
}

// slots has couriers meet hosts that fail at random, while the limits of their common
// place change, dialling fails, and contexts end; some quit, some send nothing. There are
// never more connections than the highest limit, and in the end nothing is held or waits.
func slots(t *testing.T, seed uint64, trouble, shape uint8) {
	rng := rand.New(rand.NewPCG(seed, 11))
	h := &moody{seed: seed, trouble: float64(trouble%64) / 256, taken: map[string]map[string]int{}}
	h.caps = [][]string{{"PIPELINING", "CHUNKING"}, {"PIPELINING"}, {"PIPELINING", "CHUNKING", "LIMITS MAILMAX=3"}, {"PIPELINING", "CHUNKING", "LIMITS RCPTMAX=1"}}[shape%4]
	f := &far{oneWay: 10 * time.Millisecond, serve: h.serve}
	var open, most, dialled atomic.Int64
	const highest = 4
	l, w := &shifting{}, &watcher{}
	l.connections.Store(highest)
	l.messages.Store(50)
	o := options()
	o.Limits, o.Observer = l, w
	o.MaxIdle = 1 + int(shape>>2)%4
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mine := rand.New(rand.NewPCG(seed, uint64(dialled.Add(1))))
		// At least a moment of the bubble: a slot is given on just before its old connection ends.
		time.Sleep(time.Duration(1+mine.IntN(40)) * time.Millisecond)
		if mine.Float64() < h.trouble {
			return nil, syscall.ECONNREFUSED
		}
		n := open.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		c, err := f.dial(ctx, network, address)
		return &counted{Conn: &brittle{Conn: c, rng: mine, trouble: h.trouble / 4}, open: &open}, err
	}
	p := newPool(t, o)
	if seed%2 == 1 {
		p.faceOf = func(c *conn) face { return face{byte(1 + c.key.addr.Addr().As4()[3])} } // all names at an address are one host
	}
	addrs := []netip.AddrPort{somewhere, netip.MustParseAddrPort("192.0.2.2:25")}
	over := make(chan struct{})
	var group, tuner sync.WaitGroup
	tuner.Go(func() {
		mine := rand.New(rand.NewPCG(seed, 13))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(mine.IntN(300)) * time.Millisecond):
			}
			l.connections.Store(1 + mine.Int64N(highest))
			l.messages.Store(1 + mine.Int64N(30))
			l.limited.Store(mine.IntN(4) == 0)
		}
	})
	for i := range 20 {
		mine := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		group.Go(func() {
			for j := range 6 {
				limit := time.Hour
				if mine.IntN(8) == 0 {
					limit = time.Duration(mine.IntN(300)) * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				st := step(addrs[mine.IntN(2)], policy.Clear)
				if seed%2 == 1 {
					st.Target.Host = []policy.Domain{"mx1.example.test", "mx2.example.test"}[mine.IntN(2)]
				}
				s, _, f := p.Open(ctx, st)
				if f != nil {
					cancel()
					continue
				}
				for range mine.IntN(3) {
					to := []string{fmt.Sprintf("a%d@example.test", i), fmt.Sprintf("b%d@example.test", j)}
					for _, r := range s.Send(ctx, mail(numbered(i, 64+mine.IntN(4000)), to...)).Results {
						if r.Failure == nil && r.Reply == nil {
							t.Error("a recipient without a result")
						}
					}
				}
				if mine.IntN(4) == 0 {
					s.Quit()
				} else {
					s.Release()
				}
				cancel()
			}
		})
	}
	group.Wait()
	close(over)
	tuner.Wait()
	if _, seats, _, waiters := p.atPlace(); seats != 0 || waiters != 0 {
		t.Errorf("%d seats are taken, %d wait, when everybody has gone", seats, waiters)
	}
	p.Close()
	f.group.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.hosts) != 0 || p.idle.Len() != 0 {
		t.Errorf("%d places are held, %d are idle", len(p.hosts), p.idle.Len())
		for at, h := range p.hosts {
			t.Errorf("%v: %d open, %d idle, %d busy, %d wait", at, h.open, h.idle.n, len(h.busy), len(h.waiters))
		}
	}
	if n := most.Load(); n > highest {
		t.Errorf("%d connections at once", n)
	}
	if n := w.counts(); n[0] != n[1] || open.Load() != 0 {
		t.Errorf("%d opened, %d closed, %d are open", n[0], n[1], open.Load())
	}
}

// FuzzSlots: no slot of a place is lost or taken twice.
func FuzzSlots(f *testing.F) {
	for i := range uint64(48) {
		f.Add(i, uint8(i*5), uint8(i*29))
	}
	f.Fuzz(func(t *testing.T, seed uint64, trouble, shape uint8) {
		synctest.Test(t, func(t *testing.T) { slots(t, seed, trouble, shape) })
	})
}
