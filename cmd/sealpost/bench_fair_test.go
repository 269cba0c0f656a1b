//go:build bench

package main

import (
	"context"
	"fmt"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/relay/relaytest"
)

// sizeOf is a size of a benchmark, from the environment or as given.
func sizeOf(t *testing.T, name string, usual int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return usual
	}
	return n
}

// sink is a host that counts, with a certificate.
func (n *internet) sink(i int, name string, script relaytest.Script) *relaytest.Host {
	k, _ := relaytest.KindNamed("modern")
	b := k.Behaviour(n.certificate(name, relaytest.Trusted))
	b.Name, b.Sink, b.Script = name, true, script
	n.farm.Hosts[i].Become(b)
	return n.farm.Hosts[i]
}

// mailTo sends one message in a session.
func mailTo(c *textproto.Conn, to, header string) error {
	if err := c.PrintfLine("MAIL FROM:<reviews@shop.example>\r\nRCPT TO:<%s>\r\nDATA", to); err != nil {
		return err
	}
	for _, code := range []int{250, 250, 354} {
		if _, _, err := c.ReadResponse(code); err != nil {
			return err
		}
	}
	if err := c.PrintfLine("%sSubject: fair\r\n\r\n%s.", header, strings.Repeat(strings.Repeat("x", 62)+"\r\n", 8)); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(250)
	return err
}

// bulk sends n messages over 50 sessions; to says whom.
func (w *world) bulk(t *testing.T, n int, header string, to func(i int) string) {
	t.Helper()
	var next atomic.Int64
	var crew sync.WaitGroup
	for range 50 {
		crew.Go(func() {
			c, err := secureSession(w.submission())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := mailTo(c, to(i), header); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	crew.Wait()
}

// TestBulkBesideOne: a hundred thousand messages of one stream wait for one slow domain; then one message
// of another stream to another domain takes hardly longer than on an empty queue.
func TestBulkBesideOne(t *testing.T) {
	n := sizeOf(t, "SEALPOST_BENCH_BULK", 100_000)
	k, _ := relaytest.KindNamed("modern")
	net, err := openInternet(t.Context(), []exchanger{{"slow.example", 10, "mx.slow.example", k, false}, {"quick.example", 10, "mx.quick.example", k, false}})
	if err != nil {
		t.Fatal(err)
	}
	defer net.close()
	net.sink(0, "mx.slow.example", func(e relaytest.Event) (a relaytest.Act) {
		if e.Phase == relaytest.MAIL {
			a.Delay = 2 * time.Second
		}
		return a
	})
	quick := net.sink(1, "mx.quick.example", nil)
	w := secureWorld(t, net, "\n[server.log]\nlevel = \"error\"\n")
	sent := 0
	single := func() []time.Duration {
		var took []time.Duration
		for range 30 {
			c, err := secureSession(w.submission())
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := mailTo(c, "ann@quick.example", ""); err != nil {
				t.Fatal(err)
			}
			sent++
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := quick.AwaitStats(ctx, func(s relaytest.Stats) bool { return s.Messages >= sent }); err != nil {
				t.Fatal(err)
			}
			cancel()
			took = append(took, time.Since(start))
			c.Close()
		}
		slices.Sort(took)
		return took
	}
	empty := single()
	start := time.Now()
	w.bulk(t, n, "Sealpost-Stream: bulk\r\n", func(i int) string { return fmt.Sprintf("u%d@slow.example", i) })
	t.Logf("%d messages queued in %.0f s", n, time.Since(start).Seconds())
	full := single()
	for i, name := range []string{"median", "worst"} {
		at := []int{len(empty) / 2, len(empty) - 1}[i]
		t.Logf("%s: %v on an empty queue, %v beside %d messages of bulk", name, empty[at], full[at], n)
		if full[at]-empty[at] > 100*time.Millisecond {
			t.Errorf("%s: %v later", name, full[at]-empty[at])
		}
	}
}

// TestDeadDomains: of ten thousand domains a hundred are dead (their host takes the connection and says
// nothing): the live ones get their mail as fast as without them.
func TestDeadDomains(t *testing.T) {
	domains, dead := sizeOf(t, "SEALPOST_BENCH_DOMAINS", 10_000), 100
	k, _ := relaytest.KindNamed("modern")
	net, err := openInternet(t.Context(), []exchanger{{"live.example", 10, "mx.live.example", k, false}, {"dead.example", 10, "mx.dead.example", k, false}})
	if err != nil {
		t.Fatal(err)
	}
	defer net.close()
	live := net.sink(0, "mx.live.example", nil)
	net.sink(1, "mx.dead.example", func(e relaytest.Event) (a relaytest.Act) {
		if e.Phase == relaytest.Greeting {
			a.Then = relaytest.Stall
		}
		return a
	})
	silent := net.farm.Hosts[1].Addr().Addr().String()
	for i := range domains {
		net.zones.MX(fmt.Sprintf("l%d.example", i), 10, "mx.live.example")
	}
	for i := range dead {
		net.zones.MX(fmt.Sprintf("d%d.example", i), 10, fmt.Sprintf("mx%d.dead.example", i))
		net.zones.A(fmt.Sprintf("mx%d.dead.example", i), silent)
	}
	w := secureWorld(t, net, "\n[server.log]\nlevel = \"error\"\n")
	want := 0
	run := func(withDead bool) time.Duration {
		start := time.Now()
		n := 2 * domains
		w.bulk(t, n+n/100, "", func(i int) string {
			if i%101 != 100 {
				return fmt.Sprintf("u%d@l%d.example", i, i%domains)
			}
			if withDead {
				return fmt.Sprintf("u%d@d%d.example", i, i/101%dead)
			}
			return fmt.Sprintf("u%d@live.example", i)
		})
		if want += n; !withDead {
			want += n / 100
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := live.AwaitStats(ctx, func(s relaytest.Stats) bool { return s.Messages >= want }); err != nil {
			t.Fatal(err, live.Stats().Messages, want)
		}
		return time.Since(start)
	}
	run(false) // so that DNS is known
	var without, with []time.Duration
	for range 3 {
		without, with = append(without, run(false)), append(with, run(true))
	}
	slices.Sort(without)
	slices.Sort(with)
	t.Logf("without %v, with dead domains %v: %.2f", without, with, with[1].Seconds()/without[1].Seconds())
	if with[1].Seconds() > 1.1*without[1].Seconds() {
		t.Error("the live domains are slowed by more than 10 %")
	}
}
