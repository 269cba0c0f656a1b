package discover_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

func serve(t testing.TB) *policytest.Zones {
	t.Helper()
	z := policytest.NewZones()
	if err := z.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return z
}

func resolver(t testing.TB, addr string) *dnssec.Resolver {
	t.Helper()
	r, err := dnssec.New(dnssec.Options{Servers: []string{addr}, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// scout makes one over the zones; hosts of equal preference stay in the order of
// the records, unless set says otherwise.
func scout(t testing.TB, z *policytest.Zones, set func(*discover.Options)) *discover.Scout {
	t.Helper()
	o := discover.Options{Resolver: resolver(t, z.Addr()), Shuffle: func(int, func(int, int)) {}}
	if set != nil {
		set(&o)
	}
	s, err := discover.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func facts(t testing.TB, s *discover.Scout, d policy.Domain) policy.Facts {
	t.Helper()
	f, err := s.Facts(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if f.Domain != d || f.At.IsZero() {
		t.Errorf("domain %q at %s", f.Domain, f.At)
	}
	return f
}

// brief writes facts in one line: what a table compares.
func brief(f policy.Facts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", short(f.MX))
	for _, flag := range []struct {
		on   bool
		word string
	}{{f.NullMX, "null"}, {f.Implicit, "implicit"}, {f.Self, "self"}, {f.Operator, "operator"}} {
		if flag.on {
			b.WriteString(" " + flag.word)
		}
	}
	for _, h := range f.Hosts {
		fmt.Fprintf(&b, " | %d %s v4=%s%v v6=%s%v", h.Preference, h.Name, short(h.V4.Lookup), h.V4.IPs, short(h.V6.Lookup), h.V6.IPs)
		if h.Refused > 0 {
			fmt.Fprintf(&b, " refused=%d", h.Refused)
		}
		if h.TLSA.Asked {
			fmt.Fprintf(&b, " tlsa=%s", short(h.TLSA.Lookup))
		}
		if h.TLSA.Base != "" {
			fmt.Fprintf(&b, "@%s", h.TLSA.Base)
		}
	}
	return b.String()
}

func short(l policy.Lookup) string {
	if l.Secure {
		return l.Answer.String() + "+"
	}
	return l.Answer.String()
}

func TestFacts(t *testing.T) {
	t.Parallel()
	for _, c := range discoveries {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			if c.set != nil {
				c.set(z)
			}
			s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = true })
			f := facts(t, s, "d.example")
			if got := brief(f); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if !f.DNSSEC {
				t.Error("DNSSEC is not available behind a validating resolver")
			}
		})
	}
}

// The same table behind a real validating resolver.
func TestFactsBehindUnbound(t *testing.T) {
	t.Parallel()
	for _, c := range discoveries {
		if strings.Contains(c.clause, "the query for the first link fails") {
			continue // unbound has the alias from the answer before, and does not ask again
		}
		t.Run(c.clause, func(t *testing.T) {
			z := serve(t)
			if c.set != nil {
				c.set(z)
			}
			u, err := policytest.StartUnbound(t.Context(), z)
			if errors.Is(err, policytest.ErrNoUnbound) && os.Getenv("SEALPOST_REAL") != "required" {
				t.Skip("unbound is missing: apt-get install unbound")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := u.Close(); err != nil {
					t.Error(err)
				}
			}()
			r, err := dnssec.New(dnssec.Options{Servers: []string{u.Addr}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			s := scout(t, z, func(o *discover.Options) { o.Resolver, o.AllowPrivate = r, true })
			if got := brief(facts(t, s, "d.example")); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// Own: the first ten hosts by preference.
func TestTenHosts(t *testing.T) {
	t.Parallel()
	z := serve(t)
	for i := range 15 {
		z.MX("d.example", uint16(100-i), fmt.Sprintf("h%d.d.example", i))
		z.A(fmt.Sprintf("h%d.d.example", i), "192.0.2.1")
	}
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate = true }), "d.example")
	if len(f.Hosts) != 10 || f.Hosts[0].Name != "h14.d.example" || f.Hosts[9].Name != "h5.d.example" {
		t.Errorf("%s", brief(f))
	}
	if n := z.Count("h4.d.example", ""); n != 0 {
		t.Errorf("the eleventh host was asked for %d times", n)
	}
}

// RFC 5321 5.1 MUST: equal preference in a random order, anew at each call; other
// preferences never mix.
func TestShuffle(t *testing.T) {
	t.Parallel()
	z := serve(t)
	for i := range 4 {
		z.MX("d.example", 10, fmt.Sprintf("a%d.d.example", i))
		z.MX("d.example", 20, fmt.Sprintf("b%d.d.example", i))
	}
	s := scout(t, z, func(o *discover.Options) { o.Shuffle = nil })
	orders := map[string]bool{}
	for range 200 {
		var names []string
		f := facts(t, s, "d.example")
		for i, h := range f.Hosts {
			if want := uint16(10 + i/4*10); h.Preference != want {
				t.Fatalf("preference %d at place %d", h.Preference, i)
			}
			names = append(names, string(h.Name))
		}
		orders[strings.Join(names[:4], " ")] = true
	}
	if len(orders) < 20 { // of 24; fewer than 20 in 200 throws has a chance below one in a million
		t.Errorf("%d of 24 orders in 200 calls", len(orders))
	}
	reversed := scout(t, z, func(o *discover.Options) {
		o.Shuffle = func(n int, swap func(i, j int)) {
			for i := range n / 2 {
				swap(i, n-1-i)
			}
		}
	})
	f := facts(t, reversed, "d.example")
	first := f.Hosts[0].Name
	again := facts(t, reversed, "d.example")
	if f.Hosts[0].Name != first || again.Hosts[0].Name != first {
		t.Errorf("one call changed another's order: %s, then %s and %s", first, f.Hosts[0].Name, again.Hosts[0].Name)
	}
}

// Ten thousand messages to one domain cost one look-up.
func TestOneLookUpForAll(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = true })
	release := z.Hold("d.example", "MX")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 100 {
				if f, err := s.Facts(t.Context(), "d.example"); err != nil || len(f.Hosts) != 1 {
					t.Errorf("%v, %v", f, err)
				}
			}
		})
	}
	if err := z.Await(t.Context(), "d.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	release()
	wg.Wait()
	for q, want := range map[[2]string]int{{"d.example", "MX"}: 1, {"a.d.example", "A"}: 1, {"a.d.example", "AAAA"}: 1, {"_25._tcp.a.d.example", "TLSA"}: 1, {".", "SOA"}: 1} {
		if n := z.Count(q[0], q[1]); n != want {
			t.Errorf("%d queries for %v, want %d", n, q, want)
		}
	}
}

// The caller who is interrupted hears so; the look-up goes on for the others.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	s := scout(t, z, nil)
	release := z.Hold("d.example", "MX")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := s.Facts(ctx, "d.example"); got <- err }()
	if err := z.Await(t.Context(), "d.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Facts(ctx, "d.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("afterwards: %v", err)
	}
}

// The deadline of a domain leaves facts with what is missing as unknown.
func TestDeadline(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.Hold("a.d.example", "AAAA")
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Deadline = true, 400*time.Millisecond })
	h := facts(t, s, "d.example").Hosts[0]
	if h.V4.Answer != policy.Records || h.V6.Answer != policy.Unknown || h.V6.Problem == "" {
		t.Errorf("v4 %+v, v6 %+v", h.V4, h.V6)
	}
}

// Failed facts are kept for seconds at most, and Forget drops what is kept.
func TestKept(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.Fail("d.example", "MX", policytest.ServFail)
	s := scout(t, z, func(o *discover.Options) { o.FailedAge = time.Hour })
	for range 3 {
		if f := facts(t, s, "d.example"); f.MX.Answer != policy.Unknown {
			t.Fatal(brief(f))
		}
	}
	if n := z.Count("d.example", "MX"); n != 1 {
		t.Errorf("%d queries while kept", n)
	}
	z.Heal("d.example", "MX")
	z.MX("d.example", 10, "a.d.example")
	s.Forget("d.example")
	if f := facts(t, s, "d.example"); f.MX.Answer != policy.Records {
		t.Errorf("after Forget: %s", brief(f))
	}
	never := scout(t, z, func(o *discover.Options) { o.FailedAge = -1 })
	z.Fail("e.example", "MX", policytest.ServFail)
	facts(t, never, "e.example")
	facts(t, never, "e.example")
	if n := z.Count("e.example", "MX"); n != 2 {
		t.Errorf("%d queries where failures are not kept", n)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := discover.New(discover.Options{}); err == nil {
		t.Error("no resolver, no error")
	}
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.TLSA("a.d.example", 2525, record)
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Port = true, 2525 }), "d.example")
	if f.Hosts[0].Port != 2525 || len(f.Hosts[0].TLSA.Records) != 1 || !reflect.DeepEqual(f.Hosts[0].TLSA.Records[0], record) {
		t.Errorf("RFC 7672 2.2.3 port: %+v", f.Hosts[0])
	}
	f = facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.NoTLSA = true, true }), "d.example")
	if f.Hosts[0].TLSA.Asked {
		t.Error("TLSA asked though switched off")
	}
}

// A resolver that does not validate: nothing is secure, and the facts say why.
func TestWithoutDNSSEC(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.SetMode(policytest.Oblivious)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.TLSA("a.d.example", 25, record)
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate = true }), "d.example")
	if want := "records | 10 a.d.example v4=records[192.0.2.1] v6=no-data[]"; brief(f) != want || f.DNSSEC {
		t.Errorf("%s, DNSSEC %t", brief(f), f.DNSSEC)
	}
}

// Facts from the time in which nobody validated are not kept on when it is over: they
// would take DANE away.
func TestFactsOfTheUnvalidatedTime(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.SetMode(policytest.Oblivious)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.TLSA("a.d.example", 25, record)
	r := resolver(t, z.Addr())
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Resolver = true, r })
	if f := facts(t, s, "d.example"); f.DNSSEC || f.MX.Secure {
		t.Fatalf("%s, DNSSEC %t", brief(f), f.DNSSEC)
	}
	z.SetMode(policytest.Validating)
	if err := r.Selftest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := facts(t, s, "d.example"); !f.DNSSEC || !f.MX.Secure || !f.Hosts[0].TLSA.Secure {
		t.Errorf("%s, DNSSEC %t", brief(f), f.DNSSEC)
	}
}

type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *tally) LookedUp(source, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[source+" "+result]++
}

func TestObserver(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.Zone("open.example", policytest.Unsigned)
	z.MX("d.example", 10, "a.d.example")
	z.MX("d.example", 20, "mx.open.example")
	z.MX("d.example", 30, "gone.open.example")
	z.MX("d.example", 40, "fails.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.A("mx.open.example", "192.0.2.2", "2001:db8::2")
	z.TLSA("a.d.example", 25, record)
	z.Fail("fails.d.example", "", policytest.Refused)
	c := &tally{seen: map[string]int{}}
	facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Observer = true, c }), "d.example")
	want := map[string]int{
		"mx secure": 1, "address secure": 1, "address absent-secure": 1, "address insecure": 2,
		"address absent-insecure": 2, "address unknown": 2, "tlsa secure": 1,
	}
	if !reflect.DeepEqual(c.seen, want) {
		t.Errorf("%v\nwant %v", c.seen, want)
	}
	for k := range c.seen {
		source, result, _ := strings.Cut(k, " ")
		if !slices.Contains(discover.Sources(), source) || !slices.Contains(discover.Results(), result) {
			t.Errorf("%q is in no closed set", k)
		}
	}
}

func BenchmarkFactsCached(b *testing.B) {
	z := serve(b)
	z.MX("d.example", 10, "a.d.example")
	z.MX("d.example", 10, "b.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.A("b.d.example", "192.0.2.2")
	s := scout(b, z, func(o *discover.Options) { o.AllowPrivate, o.MaxAge, o.Shuffle = true, time.Hour, nil })
	facts(b, s, "d.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Facts(b.Context(), "d.example"); err != nil {
			b.Fatal(err)
		}
	}
}
