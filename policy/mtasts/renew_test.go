package mtasts_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

// RFC 8461 5, 5.1: at a mismatch the record is asked for past the DNS cache, and the
// policy fetched when the id is another one. The cached policy is enforce with mx
// old.d.example, under the id "1", which DNS caches still hold.
func TestRenew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clause  string
		set     func(*internet)
		changed bool
		mode    policy.STSMode
		id      string
		fetches int
		problem bool
	}{
		{"the same id: nothing is fetched, whatever is served", func(n *internet) {
			n.serve(d, terms(policy.STSEnforce, time.Hour, "new.d.example"))
		}, false, policy.STSEnforce, "1", 1, false},
		{"a new id, other hosts", func(n *internet) {
			n.id(d, "2")
			n.serve(d, terms(policy.STSEnforce, time.Hour, "new.d.example"))
		}, true, policy.STSEnforce, "2", 2, false},
		{"a new id, testing", func(n *internet) {
			n.id(d, "2")
			n.serve(d, terms(policy.STSTesting, time.Hour, "old.d.example"))
		}, true, policy.STSTesting, "2", 2, false},
		{"8.3 a new id, none", func(n *internet) {
			n.id(d, "2")
			n.serve(d, terms(policy.STSNone, time.Hour))
		}, true, policy.STSNone, "2", 2, false},
		{"a new id, the same terms", func(n *internet) { n.id(d, "2") }, false, policy.STSEnforce, "2", 2, false},
		{"3.3 a new id, and the fetch fails", func(n *internet) {
			n.id(d, "2")
			n.serve(d, site{failure: broken(policy.STSFetchFailed)})
		}, false, policy.STSEnforce, "1", 2, true},
		{"3.3 a new id, and the policy is invalid", func(n *internet) {
			n.id(d, "2")
			n.serve(d, site{failure: broken(policy.STSInvalid)})
		}, false, policy.STSEnforce, "1", 2, true},
		{"3.3 the record is gone", func(n *internet) {
			n.reply(d, dnssec.Reply[string]{Lookup: policy.Lookup{Answer: policy.NoName}})
		}, false, policy.STSEnforce, "1", 1, false},
		{"3.3 the record is unknown", func(n *internet) { n.reply(d, unknown()) }, false, policy.STSEnforce, "1", 1, true},
		{"3.3 the record is broken", func(n *internet) { n.txt(d, "v=STSv1;") }, false, policy.STSEnforce, "1", 1, true},
	} {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newInternet()
				cache := n.open(t, nil)
				defer closed(t, cache)
				n.id(d, "1")
				n.serve(d, terms(policy.STSEnforce, time.Hour, "old.d.example"))
				cache.Get(t.Context(), d)
				n.stale(d)
				c.set(n)
				if got := cache.Get(t.Context(), d); got.ID != "1" {
					t.Fatalf("the record is cached: %+v", got)
				}
				sts, changed := cache.Renew(t.Context(), d)
				if changed != c.changed || sts.Mode != c.mode || sts.ID != c.id || len(n.fetches(d)) != c.fetches || (sts.Problem != "") != c.problem {
					t.Errorf("changed %t, %+v, %d fetches", changed, sts, len(n.fetches(d)))
				}
				// Within the minute: the same answer, and nobody is asked.
				asked := n.asked["_mta-sts."+d]
				sts, changed = cache.Renew(t.Context(), d)
				if changed != c.changed || sts.Mode != c.mode || n.asked["_mta-sts."+d] != asked {
					t.Errorf("again: changed %t, %+v", changed, sts)
				}
				// After it the record is asked for again, and a failed id still waits (3.3).
				time.Sleep(time.Minute)
				_, changed = cache.Renew(t.Context(), d)
				if changed || n.asked["_mta-sts."+d] != asked+1 || len(n.fetches(d)) != c.fetches {
					t.Errorf("a minute later: changed %t, asked %d, %d fetches", changed, n.asked["_mta-sts."+d]-asked, len(n.fetches(d)))
				}
			})
		})
	}
}

// Many deliveries that fail at once are one renewal, and all of them hear of it.
func TestRenewTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInternet()
		c := n.open(t, nil)
		defer closed(t, c)
		n.id(d, "1")
		n.serve(d, terms(policy.STSEnforce, time.Hour, "old.d.example"))
		c.Get(t.Context(), d)
		n.id(d, "2")
		s := terms(policy.STSEnforce, time.Hour, "new.d.example")
		s.takes = 5 * time.Second
		n.serve(d, s)
		asked := n.asked["_mta-sts."+d]
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if sts, changed := c.Renew(t.Context(), d); !changed || sts.MX[0] != "new.d.example" {
					t.Errorf("changed %t, %+v", changed, sts)
				}
			})
		}
		wg.Wait()
		if n.asked["_mta-sts."+d] != asked+1 || len(n.fetches(d)) != 2 {
			t.Errorf("asked %d times, %d fetches", n.asked["_mta-sts."+d]-asked, len(n.fetches(d))-1)
		}
	})
}

// Where nothing is kept, a renewal is a first look.
func TestRenewNothing(t *testing.T) {
	t.Parallel()
	n := newInternet()
	c := n.open(t, nil)
	defer closed(t, c)
	if sts, changed := c.Renew(t.Context(), d); changed || sts.Mode != policy.STSAbsent {
		t.Errorf("%t, %+v", changed, sts)
	}
	n.id(d, "1")
	n.serve(d, terms(policy.STSEnforce, time.Hour))
	if sts, changed := c.Renew(t.Context(), d); !changed || sts.Mode != policy.STSEnforce {
		t.Errorf("%t, %+v", changed, sts)
	}
}
