package dnssec

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
)

// lab is a resolver with a breaker that is in a hurry, before a server.
type lab struct {
	*testing.T
	zones *policytest.Zones
	*Resolver
	log *syncBuffer
}

func newLab(t *testing.T, change func(*limits)) *lab {
	t.Helper()
	z := policytest.NewZones()
	if err := z.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	z.Zone("bogus.example", policytest.Bogus)
	z.MX("good.example", 10, "mx.good.example")
	z.A("mx.good.example", "192.0.2.1")
	log := new(syncBuffer)
	r, err := New(Options{Servers: []string{z.Addr()}, Timeout: 200 * time.Millisecond, Deadline: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l := limits{window: 10 * time.Second, names: 5, domains: 3, probe: 20 * time.Millisecond, rest: time.Hour, trial: time.Hour}
	if change != nil {
		change(&l)
	}
	r.outage.breaker.limits = l
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, z, r, log}
}

// storm asks for n domains that nobody has asked for before, all at once, and returns
// what is said of the first.
func (l *lab) storm(prefix string, n int) policy.Lookup {
	var wg sync.WaitGroup
	out := make([]policy.Lookup, n)
	for i := range n {
		wg.Go(func() {
			out[i] = l.MX(l.Context(), policy.Domain(fmt.Sprintf("%s.d%d.example", prefix, i))).Lookup
		})
	}
	wg.Wait()
	return out[0]
}

// quiet has it that nobody has spoken for long.
func (l *lab) quiet() {
	l.outage.mu.Lock()
	defer l.outage.mu.Unlock()
	l.outage.breaker.spoken = time.Time{}
}

// until waits for the phase in which lookups are paused or not.
func (l *lab) until(paused bool) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 20*time.Second)
	defer cancel()
	for {
		is, changed := l.Paused()
		if is == paused {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.Fatalf("paused stays %t", is)
		}
	}
}

// The server goes silent and comes back.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]policytest.Mode{"silent": policytest.Silent, "SERVFAIL": policytest.Failing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			if err := l.Selftest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := l.MX(t.Context(), "good.example"); got.Answer != policy.Records {
				t.Fatalf("%+v", got)
			}
			if l.Outage() {
				t.Fatal("an outage while all is well")
			}
			l.quiet()
			l.zones.SetMode(mode)
			l.storm("a", 5)
			l.until(true)
			if !l.Outage() {
				t.Error("paused without an outage")
			}
			asked := l.zones.Count("fresh.example", "MX")
			if got := l.MX(t.Context(), "fresh.example"); got.Answer != policy.Unknown || got.Problem != "the DNS resolver is down" {
				t.Errorf("while it is down: %+v", got)
			}
			if l.zones.Count("fresh.example", "MX") != asked {
				t.Error("a lookup was sent")
			}
			if got := l.MX(t.Context(), "good.example"); got.Answer != policy.Records || !got.Secure {
				t.Errorf("from the cache: %+v", got)
			}
			probes := l.zones.Count(".", "SOA")
			if err := l.zones.Await(t.Context(), ".", "SOA", probes+3); err != nil { // it goes on asking
				t.Fatal(err)
			}
			epoch := l.Epoch()
			l.zones.SetMode(policytest.Validating)
			l.until(false)
			if l.Outage() || l.Epoch() == epoch {
				t.Errorf("outage %t, epoch %d, when it answers again", l.Outage(), l.Epoch())
			}
			if got := l.MX(t.Context(), "fresh.example"); got.Answer != policy.NoName {
				t.Errorf("afterwards: %+v", got)
			}
			if log := l.log.String(); strings.Count(log, "resolver is down") != 1 || strings.Count(log, "answers again") != 1 {
				t.Errorf("logged %s", log)
			}
		})
	}
}

// Nobody listens on the port: no need to wait until the last success is long ago.
func TestOutageRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	if err := l.Selftest(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.MX(t.Context(), "good.example")
	if err := l.zones.Close(); err != nil {
		t.Fatal(err)
	}
	l.storm("a", 5)
	l.until(true)
}

// DNSSEC that was lost in the outage is there again before anybody is told of its end:
// no mail goes out below its level for having been first.
func TestOutageEndsWithDNSSEC(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.zones.SetMode(policytest.Silent)
	l.storm("a", 5)
	l.until(true)
	if err := l.Selftest(t.Context()); err == nil || l.Available() {
		t.Fatalf("%v", err)
	}
	l.zones.SetMode(policytest.Validating)
	l.until(false)
	if !l.Available() {
		t.Error("DNSSEC is still unavailable")
	}
}

// 200 bogus domains do not make an outage, with a root that is served or without.
func TestNoOutageOfBogusDomains(t *testing.T) {
	t.Parallel()
	for name, root := range map[string]policytest.Fault{
		"root served": policytest.FaultUnset, "root not served": policytest.ServFail, "root refused": policytest.Refused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.timeout, l.deadline = 10*time.Second, 20*time.Second // a busy machine is no silent resolver
			l.zones.Fail(".", "", root)
			if err := l.Selftest(t.Context()); (err == nil) != (root == policytest.FaultUnset) {
				t.Fatal(err)
			}
			for i := range 200 {
				l.zones.Zone(fmt.Sprintf("d%d.example", i), policytest.Bogus)
			}
			l.quiet()
			probes := l.zones.Count(".", "SOA")
			if got := l.storm("a", 200); got.Answer != policy.Unknown || !strings.Contains(got.Problem, "SERVFAIL") {
				t.Fatalf("%+v", got)
			}
			if root == policytest.FaultUnset { // suspected, and acquitted
				if err := l.zones.Await(t.Context(), ".", "SOA", probes+1); err != nil {
					t.Fatal(err)
				}
			}
			if l.Outage() {
				t.Error("broken domains were taken for a broken resolver")
			}
			if got := l.MX(t.Context(), "good.example"); got.Answer != policy.Records {
				t.Errorf("a healthy domain: %+v", got)
			}
		})
	}
}

// A witness that fails beside healthy zones does not close the door for ever: lookups
// are let through in a trial, and the first success ends it.
func TestOutageTrial(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(x *limits) { x.rest, x.trial = 50*time.Millisecond, time.Hour })
	l.zones.SetMode(policytest.Silent)
	l.storm("a", 5)
	l.until(true)
	l.zones.Fail(".", "", policytest.Timeout)
	l.zones.SetMode(policytest.Validating)
	l.until(false)
	if !l.Outage() {
		t.Fatal("over before anybody spoke")
	}
	if got := l.MX(t.Context(), "good.example"); got.Answer != policy.Records || l.Outage() {
		t.Errorf("%+v, outage %t", got, l.Outage())
	}
}

// Close during an outage leaves nothing behind (see TestMain).
func TestCloseDuringOutage(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.zones.SetMode(policytest.Silent)
	l.storm("a", 5)
	l.until(true)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// syncBuffer is a buffer that a logger may write to while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
