package mtasts_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/mtasts"
)

const d = policy.Domain("d.example")

// What applies, for every state of the cache, the record and the policy host (RFC 8461
// 3.1, 3.3, 5.1). The cache was filled under the id "old" with mx old.d.example.
func TestWhatApplies(t *testing.T) {
	t.Parallel()
	caches := []struct {
		name string
		mode policy.STSMode // STSAbsent: nothing, or nothing any more
		fill bool
	}{
		{"nothing cached", policy.STSAbsent, false}, {"enforce cached", policy.STSEnforce, true},
		{"testing cached", policy.STSTesting, true}, {"none cached", policy.STSNone, true},
		{"expired", policy.STSAbsent, true},
	}
	texts := []struct {
		name string
		id   string // empty: none that counts
		set  func(*internet)
		word string // the observer's, when nothing applies
	}{
		{"same id", "old", func(n *internet) { n.id(d, "old") }, ""},
		{"new id", "new", func(n *internet) { n.id(d, "new") }, ""},
		{"new id, white space form", "new", func(n *internet) { n.txt(d, "v=STSv1 ; id=new") }, ""},
		{"new id beside strangers", "new", func(n *internet) { n.txt(d, "v=spf1 -all", "v=STSv1; id=new;") }, ""},
		{"no such name", "", func(n *internet) {
			n.reply(d, dnssec.Reply[string]{Lookup: policy.Lookup{Answer: policy.NoName}})
		}, "none"},
		{"no record", "", func(n *internet) {
			n.reply(d, dnssec.Reply[string]{Lookup: policy.Lookup{Answer: policy.NoData, Secure: true}})
		}, "none"},
		{"strangers", "", func(n *internet) { n.txt(d, "v=spf1 -all") }, "none"},
		{"broken record", "", func(n *internet) { n.txt(d, "v=STSv1; id=n-w;") }, "invalid"},
		{"two records", "", func(n *internet) { n.txt(d, "v=STSv1; id=1;", "v=STSv1; id=2;") }, "invalid"},
		{"record unknown", "", func(n *internet) { n.reply(d, unknown()) }, "unknown"},
	}
	hosts := []struct {
		name string
		site site
		mode policy.STSMode // STSAbsent: no policy is to be had
		why  policy.Reason
		word string
	}{
		{"enforce", terms(policy.STSEnforce, time.Hour, "new.d.example"), policy.STSEnforce, 0, "enforce"},
		{"testing", terms(policy.STSTesting, time.Hour, "new.d.example"), policy.STSTesting, 0, "testing"},
		{"none", terms(policy.STSNone, time.Hour), policy.STSNone, 0, "mode-none"},
		{"fetch fails", site{failure: broken(policy.STSFetchFailed)}, policy.STSAbsent, policy.STSFetchFailed, "fetch-failed"},
		{"bad certificate", site{failure: broken(policy.STSWebPKI)}, policy.STSAbsent, policy.STSWebPKI, "fetch-failed"},
		{"invalid", site{failure: broken(policy.STSInvalid)}, policy.STSAbsent, policy.STSInvalid, "invalid"},
		{"late", site{policy: terms(policy.STSEnforce, time.Hour).policy, takes: time.Minute}, policy.STSAbsent, policy.STSFetchFailed, "fetch-failed"},
	}
	words := map[policy.STSMode]string{policy.STSEnforce: "enforce", policy.STSTesting: "testing", policy.STSNone: "mode-none"}
	for _, cached := range caches {
		for _, txt := range texts {
			for _, host := range hosts {
				t.Run(cached.name+", "+txt.name+", "+host.name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						n := newInternet()
						c := n.open(t, nil)
						defer closed(t, c)
						fetches := 0
						if cached.fill {
							mode := max(cached.mode, policy.STSNone)
							n.id(d, "old")
							n.serve(d, terms(mode, time.Hour, "old.d.example"))
							c.Get(t.Context(), d)
							time.Sleep(time.Minute)
							if cached.mode == policy.STSAbsent {
								time.Sleep(time.Hour)
							}
							fetches++
							n.words = map[string]int{}
						}
						txt.set(n)
						n.serve(d, host.site)
						got := c.Get(t.Context(), d)

						want := policy.STS{Mode: cached.mode, ID: "old"}
						word, why := words[cached.mode], policy.ReasonUnset
						if cached.mode == policy.STSAbsent {
							word, want.ID = txt.word, ""
						}
						if txt.id != "" && (cached.mode == policy.STSAbsent || txt.id != "old") {
							fetches++
							if host.mode != policy.STSAbsent {
								want.Mode, want.ID, word = host.mode, txt.id, host.word
							} else if why = host.why; cached.mode == policy.STSAbsent {
								word = host.word
							}
						}
						if got.Mode != want.Mode || got.ID != want.ID || got.Failure != why || (got.Problem != "") != (why != 0 || txt.word == "invalid" || txt.word == "unknown") {
							t.Errorf("%+v; want mode %s, id %q, failure %s", got, want.Mode, want.ID, why)
						}
						if got.Mode != policy.STSAbsent && (got.In(time.Now()) != got.Mode || got.Fetched.IsZero()) {
							t.Errorf("not in force: %+v", got)
						}
						if len(n.fetches(d)) != fetches {
							t.Errorf("%d fetches, want %d", len(n.fetches(d)), fetches)
						}
						if n.words["mta-sts "+word] != 1 || len(n.words) != 1 || !slices.Contains(mtasts.Results(), word) {
							t.Errorf("observed %v, want %s", n.words, word)
						}
						if wantAnswer := txt.word != "unknown"; (got.Record.Answer != policy.Unknown) != wantAnswer {
							t.Errorf("record %+v", got.Record)
						}
					})
				})
			}
		}
	}
}

// RFC 8461 3.3: not again for five minutes per id; another id is tried at once, and the
// id of before is still barred then.
func TestBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		want := 0
		look := func(what string, fetched bool) {
			t.Helper()
			if fetched {
				want++
			}
			if got := c.Get(t.Context(), d); got.Mode != policy.STSAbsent || got.Failure != policy.STSFetchFailed || got.Problem == "" {
				t.Errorf("%s: %+v", what, got)
			}
			if len(n.fetches(d)) != want {
				t.Errorf("%s: %d fetches, want %d", what, len(n.fetches(d)), want)
			}
		}
		n.id(d, "1")
		look("first", true)
		time.Sleep(5*time.Minute - time.Second)
		look("within five minutes", false)
		n.id(d, "2")
		look("another id", true)
		n.id(d, "1")
		look("back to the first", false)
		time.Sleep(time.Second)
		look("after five minutes", true)
		for i := range 20 {
			n.id(d, fmt.Sprintf("x%d", i))
			c.Get(t.Context(), d)
		}
		if got := len(n.fetches(d)); got > 10 {
			t.Errorf("%d fetches for ids without end", got)
		}
		time.Sleep(5 * time.Minute)
		n.serve(d, terms(policy.STSEnforce, time.Hour))
		if got := c.Get(t.Context(), d); got.Mode != policy.STSEnforce || got.Problem != "" {
			t.Errorf("mended: %+v", got)
		}
	})
}

// Own: two name servers that say different ids do not make a fetch of each delivery.
func TestIDsByTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		n.serve(d, terms(policy.STSEnforce, time.Hour))
		for i := range 100 {
			n.id(d, fmt.Sprint(i%2))
			if got := c.Get(t.Context(), d); got.Mode != policy.STSEnforce {
				t.Fatalf("%+v", got)
			}
		}
		if got := len(n.fetches(d)); got != 10 {
			t.Errorf("%d fetches", got)
		}
		time.Sleep(10 * time.Minute)
		n.id(d, "2")
		if got := c.Get(t.Context(), d); got.ID != "2" {
			t.Errorf("later: %+v", got)
		}
	})
}

// However many deliveries wait, it is one fetch; they wait FetchWait at most, and the
// fetch goes on (RFC 8461 5.1: so as not to block delivery).
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		n.id(d, "1")
		s := terms(policy.STSEnforce, time.Hour)
		s.takes = 10 * time.Second
		n.serve(d, s)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := c.Get(t.Context(), d); got.Mode != policy.STSEnforce {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		if len(n.fetches(d)) != 1 {
			t.Errorf("%d fetches", len(n.fetches(d)))
		}

		n.id(d, "2")
		s.takes = 50 * time.Second
		s.policy.MX = []string{"new.d.example"}
		n.serve(d, s)
		start := time.Now()
		got := c.Get(t.Context(), d)
		if got.ID != "1" || got.Problem == "" || time.Since(start) != 20*time.Second {
			t.Errorf("after %s: %+v", time.Since(start), got)
		}
		time.Sleep(31 * time.Second)
		if got := c.Get(t.Context(), d); got.ID != "2" || got.Problem != "" || len(n.fetches(d)) != 2 {
			t.Errorf("%+v after %d fetches", got, len(n.fetches(d)))
		}

		n.id(d, "3")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got := c.Get(ctx, d); got.ID != "2" || time.Since(start) > time.Minute {
			t.Errorf("a delivery that is given up: %+v", got)
		}
	})
}

// A policy with a max_age of nothing serves the delivery that fetched it, and each
// later one fetches anew.
func TestMaxAgeZero(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, 0))
		for i := range 3 {
			if got := c.Get(t.Context(), d); got.In(time.Now()) != policy.STSEnforce || len(n.fetches(d)) != i+1 {
				t.Errorf("%+v after %d fetches", got, len(n.fetches(d)))
			}
			time.Sleep(time.Second)
		}
		n.serve(d, site{failure: broken(policy.STSFetchFailed)})
		if got := c.Get(t.Context(), d); got.Mode != policy.STSAbsent {
			t.Errorf("expired and gone: %+v", got)
		}
	})
}

// RFC 8461 3.4: never from a parent or for another domain, whatever they publish.
func TestDomainsApart(t *testing.T) {
	t.Parallel()
	n := newInternet()
	c := n.open(t, nil)
	defer closed(t, c)
	n.id(d, "1")
	n.serve(d, terms(policy.STSEnforce, time.Hour))
	n.id("e.example", "1")
	n.serve("e.example", terms(policy.STSTesting, time.Hour, "mx.d.example"))
	for domain, want := range map[policy.Domain]policy.STSMode{
		d: policy.STSEnforce, "e.example": policy.STSTesting, "sub.d.example": policy.STSAbsent, "example": policy.STSAbsent,
		"": policy.STSAbsent, policy.Domain(strings.Repeat("a.", 124) + "d"): policy.STSAbsent,
	} {
		if got := c.Get(t.Context(), domain); got.Mode != want {
			t.Errorf("%s: %+v", domain, got)
		}
	}
	if len(n.fetch) != 2 || n.asked["_mta-sts.sub.d.example"] != 1 || len(n.asked) != 4 {
		t.Errorf("fetched %v, asked %v", n.fetch, n.asked)
	}
}

// Memory is bounded: what has no policy goes before what has one, and of those what was
// asked for the longest ago.
func TestBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := newInternet(), newShelf()
		c := n.open(t, func(o *mtasts.Options) { o.MaxDomains, o.Shelf = 3, s })
		defer closed(t, c)
		get := func(domain policy.Domain, good bool) {
			n.id(domain, "1")
			if good {
				n.serve(domain, terms(policy.STSEnforce, time.Hour))
			}
			c.Get(t.Context(), domain)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		names := func() string {
			var list []string
			for _, e := range c.List() {
				list = append(list, string(e.Domain))
			}
			return strings.Join(list, " ")
		}
		get("a.example", true)
		get("b.example", true)
		get("x.example", false)
		get("c.example", true)
		if names() != "a.example b.example c.example" {
			t.Errorf("%s", names())
		}
		c.Get(t.Context(), "a.example")
		get("e.example", true)
		if want := "a.example c.example e.example"; names() != want || s.names() != want {
			t.Errorf("%s, on the shelf %s", names(), s.names())
		}
	})
}

func TestOpenOptions(t *testing.T) {
	t.Parallel()
	if _, err := mtasts.Open(t.Context(), mtasts.Options{}); err == nil {
		t.Error("neither resolver nor fetch, no error")
	}
}

// After Close what is kept still applies, and nothing is fetched.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, time.Hour))
		c.Get(t.Context(), d)
		slow := terms(policy.STSEnforce, time.Hour)
		slow.takes = time.Minute
		n.id("e.example", "1")
		n.serve("e.example", slow)
		got := make(chan policy.STS, 1)
		go func() { got <- c.Get(t.Context(), "e.example") }()
		synctest.Wait()
		closed(t, c)
		if sts := <-got; sts.Mode != policy.STSAbsent || sts.Problem == "" {
			t.Errorf("in flight: %+v", sts)
		}
		n.id(d, "2")
		if sts := c.Get(t.Context(), d); sts.Mode != policy.STSEnforce || len(n.fetches(d)) != 1 {
			t.Errorf("afterwards: %+v", sts)
		}
	})
}

// Many deliveries to many domains, with renewals, refreshes and the operator's hand: for
// the race detector.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	n, s := newInternet(), newShelf()
	c := n.open(t, func(o *mtasts.Options) { o.Shelf, o.MaxDomains = s, 8 })
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var gets sync.WaitGroup
	for i := range 8 {
		gets.Go(func() {
			for j := range 200 {
				domain := policy.Domain(fmt.Sprintf("d%d.example", (i+j)%12))
				switch j % 10 {
				case 0:
					n.id(domain, fmt.Sprint(j))
					n.serve(domain, terms(policy.STSEnforce, time.Hour, fmt.Sprintf("mx%d.example", j)))
				case 7:
					c.Renew(ctx, domain)
				case 8:
					c.List()
				case 9:
					c.Forget(domain)
				default:
					if got := c.Get(ctx, domain); got.Mode == policy.STSEnforce && len(got.MX) != 1 {
						t.Errorf("%+v", got)
					}
				}
			}
		})
	}
	gets.Wait()
	stop()
	wg.Wait()
	closed(t, c)
	if n.logged("ERROR") != 0 {
		t.Error("the shelf was written by two at once")
	}
	var names []string
	for _, e := range c.List() {
		if e.STS.Mode != policy.STSAbsent {
			names = append(names, string(e.Domain))
		}
	}
	if len(names) > 8 || strings.Join(names, " ") != s.names() {
		t.Errorf("kept %q, on the shelf %q", names, s.names())
	}
}
