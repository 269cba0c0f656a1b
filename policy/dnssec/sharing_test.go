package dnssec_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

// Equal questions at the same time are one query.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	release := z.Hold("signed.example", "MX")
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: 10 * time.Second})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records {
				t.Errorf("%+v", got)
			}
		})
	}
	if err := z.Await(t.Context(), "signed.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	release()
	wg.Wait()
	if n := z.Count("signed.example", "MX"); n != 1 {
		t.Errorf("%d queries", n)
	}
}

// One caller who goes away does not take the answer from the others.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	release := z.Hold("signed.example", "MX")
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	gone, stays := make(chan policy.Lookup, 1), make(chan policy.Lookup, 1)
	go func() { gone <- r.MX(ctx, "signed.example").Lookup }()
	if err := z.Await(t.Context(), "signed.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	go func() { stays <- r.MX(t.Context(), "signed.example").Lookup }()
	cancel()
	if l := <-gone; l.Answer != policy.Unknown || !strings.Contains(l.Problem, "cancelled") {
		t.Errorf("%+v", l)
	}
	release()
	if l := <-stays; l.Answer != policy.Records {
		t.Errorf("%+v", l)
	}
}

// Unknown is not cached: the next one to ask may find out.
func TestUnknownIsNotCached(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Fail("signed.example", "", policytest.ServFail)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Unknown {
		t.Fatalf("%+v", got)
	}
	z.Heal("signed.example", "")
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records {
		t.Errorf("%+v", got)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.Fail("signed.example", "", policytest.Timeout)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: time.Hour, Deadline: 100 * time.Millisecond})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Unknown || got.Problem == "" {
		t.Errorf("%+v", got)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Hold("signed.example", "MX")
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: time.Hour, Deadline: time.Hour})
	got := make(chan policy.Lookup, 1)
	go func() { got <- r.MX(t.Context(), "signed.example").Lookup }()
	if err := z.Await(t.Context(), "signed.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if l := <-got; l.Answer != policy.Unknown || !strings.Contains(l.Problem, "closed") {
		t.Errorf("in flight: %+v", l)
	}
	if l := r.A(t.Context(), "mx.signed.example"); l.Answer != policy.Unknown {
		t.Errorf("afterwards: %+v", l)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	z := serve(t)
	addr := z.Addr()
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := open(t, dnssec.Options{Servers: []string{addr}, Timeout: 300 * time.Millisecond})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Unknown || got.Problem == "" {
		t.Errorf("%+v", got)
	}
}

type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) Queried(outcome string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[outcome]++
}

func TestObserver(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Fail("refused.signed.example", "", policytest.Refused)
	c := &counter{seen: map[string]int{}}
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Observer: c})
	for _, name := range []policy.Domain{"signed.example", "signed.example", "mx.signed.example", "nothing.signed.example", "refused.signed.example", "bogus.example"} {
		r.MX(t.Context(), name)
	}
	want := map[string]int{"records": 1, "no-data": 1, "no-name": 1, "refused": 1, "servfail": 1}
	if !reflect.DeepEqual(c.seen, want) {
		t.Errorf("%v, want %v", c.seen, want)
	}
	for outcome := range c.seen {
		if !slices.Contains(dnssec.Outcomes(), outcome) {
			t.Errorf("%q is in no closed set", outcome)
		}
	}
}
