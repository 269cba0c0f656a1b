package mtasts_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/mtasts"
)

const day = 24 * time.Hour

// run starts Run and returns what ends it.
func run(t *testing.T, c *mtasts.Cache) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// RFC 8461 3.3, 10.2: refreshed long before it expires, at a time that nobody knows, and
// whatever the record says by then.
func TestRefresh(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age, from, to time.Duration
	}{
		{10 * time.Hour, 3 * time.Hour, 8 * time.Hour},
		{7 * day, 16 * time.Hour, 24 * time.Hour},
		{31557600 * time.Second, 16 * time.Hour, 24 * time.Hour},
		{20 * time.Second, 6 * time.Second, 16 * time.Second},
	} {
		t.Run(c.age.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, s := newInternet(), newShelf()
				cache := n.open(t, func(o *mtasts.Options) { o.Shelf = s })
				defer closed(t, cache)
				defer run(t, cache)()
				const domains = 20
				name := func(i int) policy.Domain { return policy.Domain(fmt.Sprintf("d%d.example", i)) }
				for i := range domains {
					n.id(name(i), "1")
					n.serve(name(i), terms(policy.STSEnforce, c.age))
					cache.Get(t.Context(), name(i))
					n.reply(name(i), unknown())
				}
				time.Sleep(c.from - time.Millisecond)
				for i := range domains {
					if got := len(n.fetches(name(i))); got != 1 {
						t.Errorf("%d fetches before %s", got, c.from)
					}
				}
				time.Sleep(c.to - c.from + time.Second)
				times := map[time.Time]bool{}
				for i := range domains {
					f := n.fetches(name(i))
					if len(f) < 2 {
						t.Fatalf("not refreshed within %s", c.to)
					}
					times[f[1]] = true
				}
				if len(times) < domains/2 {
					t.Errorf("%d times for %d domains", len(times), domains)
				}
				got := cache.Get(t.Context(), name(0))
				if got.Mode != policy.STSEnforce || got.ID != "1" || got.Record.Answer != policy.Unknown {
					t.Errorf("%+v", got)
				}
				if f := n.fetches(name(0)); got.Expires != f[len(f)-1].Add(c.age) {
					t.Errorf("max_age counts from the last fetch: %s, %+v", f, got)
				}
				if n.logged("WARN") != 0 {
					t.Error("a warning for nothing")
				}
			})
		})
	}
}

// What a refresh brings is in force at once, under the id that is published then.
func TestRefreshBringsNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		defer run(t, c)()
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, day))
		c.Get(t.Context(), d)
		n.id(d, "2")
		n.serve(d, terms(policy.STSNone, day)) // RFC 8461 8.3
		time.Sleep(20 * time.Hour)
		if got := c.Get(t.Context(), d); got.Mode != policy.STSNone || got.ID != "2" || len(n.fetches(d)) < 2 {
			t.Errorf("%+v after %d fetches", got, len(n.fetches(d)))
		}
	})
}

// A refresh that fails keeps the policy, warns the operator unless the mode is none
// (RFC 8461 3.3, 10.2), is tried again later and later, and ends with the policy.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	for _, mode := range []policy.STSMode{policy.STSEnforce, policy.STSTesting, policy.STSNone} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, s := newInternet(), newShelf()
				c := n.open(t, func(o *mtasts.Options) { o.Shelf = s })
				defer closed(t, c)
				defer run(t, c)()
				n.id(d, "1")
				n.serve(d, terms(mode, 7*day))
				c.Get(t.Context(), d)
				n.serve(d, site{failure: broken(policy.STSWebPKI)})
				time.Sleep(3 * day)
				tries := n.fetches(d)[1:]
				if len(tries) < 6 || len(tries) > 20 {
					t.Errorf("%d tries in two days", len(tries))
				}
				for i := 1; i < len(tries); i++ {
					if pause := tries[i].Sub(tries[i-1]); pause < 5*time.Minute || pause > 6*time.Hour {
						t.Errorf("try %d after %s", i, pause)
					}
				}
				if got := n.logged("WARN"); (got == len(tries)) != (mode != policy.STSNone) {
					t.Errorf("%d warnings for %d tries", got, len(tries))
				}
				if got := c.Get(t.Context(), d); got.Mode != mode || got.Problem != "" {
					t.Errorf("%+v", got)
				}
				if l := c.List(); len(l) != 1 || l[0].Failures != len(tries) || !l[0].Refresh.After(time.Now()) {
					t.Errorf("%+v", l)
				}
				time.Sleep(4*day + time.Minute)
				if got := c.Get(t.Context(), d); got.Mode != policy.STSAbsent {
					t.Errorf("past its max_age: %+v", got)
				}
				time.Sleep(time.Hour)
				if len(c.List()) != 0 || s.names() != "" {
					t.Errorf("kept: %+v, on the shelf %q", c.List(), s.names())
				}
			})
		})
	}
}

// A refresh that works again ends the alarm.
func TestRefreshRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		defer run(t, c)()
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, 7*day))
		c.Get(t.Context(), d)
		n.serve(d, site{failure: broken(policy.STSFetchFailed)})
		time.Sleep(2 * day)
		n.serve(d, terms(policy.STSEnforce, 7*day, "new.d.example"))
		time.Sleep(7 * time.Hour)
		if l := c.List(); len(l) != 1 || l[0].Failures != 0 || l[0].STS.Problem != "" || l[0].STS.MX[0] != "new.d.example" {
			t.Errorf("%+v", l)
		}
	})
}

// Own: what nobody asks for is refreshed for a while and then left to expire; a short
// max_age makes a short while.
func TestIdle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age, gone time.Duration
		most      int
	}{{7 * day, 38 * day, 60}, {20 * time.Second, 11 * time.Minute, 110}} {
		t.Run(c.age.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, s := newInternet(), newShelf()
				cache := n.open(t, func(o *mtasts.Options) { o.Shelf = s })
				defer closed(t, cache)
				defer run(t, cache)()
				n.id(d, "1")
				n.serve(d, terms(policy.STSEnforce, c.age))
				cache.Get(t.Context(), d)
				time.Sleep(c.gone / 2)
				if len(cache.List()) != 1 {
					t.Error("gone too early")
				}
				time.Sleep(c.gone/2 + time.Hour)
				if got := len(n.fetches(d)); got > c.most || len(cache.List()) != 0 || s.names() != "" {
					t.Errorf("%d fetches; kept %+v", got, cache.List())
				}
			})
		})
	}
}

// Policies survive a restart: a record that is suppressed then takes nothing away.
func TestRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := newInternet(), newShelf()
		open := func() *mtasts.Cache { return n.open(t, func(o *mtasts.Options) { o.Shelf = s }) }
		c := open()
		modes := map[policy.Domain]policy.STSMode{"e.example": policy.STSEnforce, "n.example": policy.STSNone, "t.example": policy.STSTesting}
		before := map[policy.Domain]policy.STS{}
		for domain, mode := range modes {
			n.id(domain, "1")
			n.serve(domain, terms(mode, 7*day, "mx."+string(domain)))
			before[domain] = c.Get(t.Context(), domain)
		}
		n.id("short.example", "1")
		n.serve("short.example", terms(policy.STSEnforce, time.Minute))
		c.Get(t.Context(), "short.example")
		closed(t, c)
		if s.names() != "e.example n.example short.example t.example" {
			t.Fatal(s.names())
		}
		s.values["future.example"] = []byte(`{"v":2,"mode":"maybe"}`)
		s.values["newer.example"] = []byte(`{"v":2,"mode":"enforce"}`)
		s.values["broken.example"] = []byte(`{`)
		s.values["empty.example"] = []byte(`{"v":1,"mode":"enforce","max_age":60,"expires":"2100-01-01T00:00:00Z"}`)
		s.values["mx.example"] = []byte(`{"v":1,"mode":"enforce","mx":["*"],"max_age":60,"expires":"2100-01-01T00:00:00Z"}`)
		s.values["NO DOMAIN"] = []byte(`{"v":1,"mode":"none","max_age":60,"expires":"2100-01-01T00:00:00Z"}`)
		s.values["clock.example"] = []byte(`{"v":1,"mode":"none","max_age":60,"expires":"2100-01-01T00:00:00Z"}`)
		time.Sleep(3 * day)
		n.logged("")
		c = open()
		defer closed(t, c)
		if got := n.logged("WARN"); got != 6 {
			t.Errorf("%d warnings for what cannot be read", got)
		}
		for domain := range modes {
			n.reply(domain, unknown())
			got := c.Get(t.Context(), domain)
			got.Record, got.Problem = before[domain].Record, ""
			if want := before[domain]; got.Mode != want.Mode || got.ID != want.ID || strings.Join(got.MX, " ") != strings.Join(want.MX, " ") ||
				!got.Fetched.Equal(want.Fetched) || !got.Expires.Equal(want.Expires) {
				t.Errorf("%s: %+v; want %+v", domain, got, want)
			}
		}
		if l := c.List(); len(l) != 4 || l[0].Domain != "clock.example" || l[0].STS.Expires.Sub(time.Now()) > time.Minute {
			t.Errorf("%+v", l)
		}
		if strings.Contains(s.names(), "short.example") || !strings.Contains(s.names(), "newer.example") {
			t.Errorf("on the shelf: %s", s.names())
		}
		// What became due meanwhile is refreshed soon, and not all at once.
		defer run(t, c)()
		time.Sleep(10*time.Minute + time.Second)
		for domain := range modes {
			if len(n.fetches(domain)) != 2 {
				t.Errorf("%s: %d fetches", domain, len(n.fetches(domain)))
			}
		}
		if e, o := n.fetches("e.example")[1], n.fetches("t.example")[1]; e.Equal(o) {
			t.Error("all at once")
		}
	})
}

// A shelf that fails costs durability and nothing else.
func TestShelfFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := newInternet(), newShelf()
		c := n.open(t, func(o *mtasts.Options) { o.Shelf = s })
		defer closed(t, c)
		s.fail = errors.New("disk full")
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, day))
		if got := c.Get(t.Context(), d); got.Mode != policy.STSEnforce {
			t.Errorf("%+v", got)
		}
		synctest.Wait()
		if n.logged("ERROR") != 1 {
			t.Error("nobody is told")
		}
		if _, err := mtasts.Open(t.Context(), mtasts.Options{Resolver: n, Fetch: n.Fetch, Shelf: s}); err == nil {
			t.Error("a shelf that cannot be read is taken for an empty one")
		}
	})
}

// The operator's hand.
func TestListForget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := newInternet(), newShelf()
		c := n.open(t, func(o *mtasts.Options) { o.Shelf = s })
		defer closed(t, c)
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, day))
		c.Get(t.Context(), d)
		n.id("bad.example", "1")
		n.serve("bad.example", site{failure: broken(policy.STSInvalid)})
		c.Get(t.Context(), "bad.example")
		c.Get(t.Context(), "nothing.example")
		synctest.Wait()
		l := c.List()
		if len(l) != 2 || l[0].Domain != "bad.example" || l[0].STS.Failure != policy.STSInvalid || !l[0].Refresh.IsZero() ||
			l[1].Domain != d || l[1].STS.Mode != policy.STSEnforce || l[1].Refresh.IsZero() || l[1].Used.IsZero() {
			t.Errorf("%+v", l)
		}
		if !c.Forget(d) || c.Forget(d) || c.Forget("nothing.example") || s.names() != "" {
			t.Errorf("on the shelf: %q", s.names())
		}
		n.serve(d, terms(policy.STSTesting, day))
		if got := c.Get(t.Context(), d); got.Mode != policy.STSTesting || len(n.fetches(d)) != 2 {
			t.Errorf("%+v", got)
		}
		if !c.Forget("bad.example") {
			t.Error("a failure cannot be forgotten")
		}
		n.serve("bad.example", terms(policy.STSEnforce, day))
		if got := c.Get(t.Context(), "bad.example"); got.Mode != policy.STSEnforce {
			t.Errorf("after Forget there is no back-off: %+v", got)
		}
	})
}
