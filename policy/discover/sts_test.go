package discover_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/mtasts"
	"github.com/sealpost/sealpost/policy/policytest"
)

// promises is an MTASTS that says what it is told to say.
type promises struct {
	mu      sync.Mutex
	mode    policy.STSMode
	changed bool
	hold    chan struct{} // nil, or closed when Get may answer
	asked   []policy.Domain
}

func (p *promises) Get(ctx context.Context, d policy.Domain) policy.STS {
	p.mu.Lock()
	p.asked = append(p.asked, d)
	sts, hold := policy.STS{Mode: p.mode, MX: []string{"a.d.example"}}, p.hold
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	return sts
}

func (p *promises) Renew(ctx context.Context, d policy.Domain) (policy.STS, bool) {
	sts := p.Get(ctx, d)
	return sts, p.changed
}

func (p *promises) say(m policy.STSMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
}

// The policy is asked for at each call, and never kept with the facts.
func TestSTS(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	p := &promises{mode: policy.STSEnforce}
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.MTASTS = true, p })
	if f := facts(t, s, "d.example"); f.STS.Mode != policy.STSEnforce || len(f.Hosts) != 1 {
		t.Errorf("%+v", f)
	}
	p.say(policy.STSTesting)
	if f := facts(t, s, "d.example"); f.STS.Mode != policy.STSTesting || len(f.Hosts) != 1 {
		t.Errorf("kept with the facts: %+v", f.STS)
	}
	if z.Count("d.example", "MX") != 1 {
		t.Error("the facts are not kept at all")
	}
	p.changed = true
	p.say(policy.STSNone)
	f, changed, err := s.Renew(t.Context(), "d.example")
	if err != nil || !changed || f.STS.Mode != policy.STSNone || len(f.Hosts) != 1 || f.Domain != "d.example" {
		t.Errorf("renewed: %t, %v, %+v", changed, err, f)
	}
	if want := []policy.Domain{"d.example", "d.example", "d.example"}; !reflect.DeepEqual(p.asked, want) {
		t.Errorf("asked for %v", p.asked)
	}
}

// RFC 8461 3.4: whose policy applies.
func TestPolicyDomain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clause, relay, domain string
		want                  []policy.Domain
	}{
		{"the recipient's domain, not its parent", "", "sub.d.example", []policy.Domain{"sub.d.example"}},
		{"not that of an alias' target", "", "alias.example", []policy.Domain{"alias.example"}},
		{"a smart host in its place", "smart.example", "d.example", []policy.Domain{"smart.example"}},
		{"a smart host with a port", "smart.example:587", "d.example", []policy.Domain{"smart.example"}},
		{"an address has none", "127.0.0.1:2525", "d.example", nil},
	} {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			z.CNAME("alias.example", "d.example")
			z.MX("d.example", 10, "a.d.example")
			p := &promises{mode: policy.STSEnforce}
			s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.RelayHost, o.MTASTS = true, c.relay, p })
			f := facts(t, s, policy.Domain(c.domain))
			if !reflect.DeepEqual(p.asked, c.want) || (f.STS.Mode == policy.STSEnforce) != (c.want != nil) {
				t.Errorf("asked for %v, %+v", p.asked, f.STS)
			}
			if _, changed, err := s.Renew(t.Context(), policy.Domain(c.domain)); changed || err != nil {
				t.Errorf("%t, %v", changed, err)
			}
		})
	}
}

// The policy and the MX records are asked for at the same time, and who goes away does
// not wait for a policy.
func TestSTSBesideMX(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	p := &promises{mode: policy.STSEnforce, hold: make(chan struct{})}
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.MTASTS = true, p })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Facts(ctx, "d.example")
		done <- err
	}()
	if err := z.Await(t.Context(), "a.d.example", "A", 1); err != nil { // while Get waits
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// recollection remembers a level for each host and family, and when it was asked.
type recollection struct {
	mu    sync.Mutex
	asked int
}

func (r *recollection) Recall(host policy.Domain, ip6 bool) policy.Memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	m := policy.Memory{Good: r.asked, Last: policy.Encrypted}
	if ip6 {
		m.Last = policy.Verified
	}
	return m
}

// What is remembered is asked for at each call, and facts that were given out before
// do not change.
func TestMemory(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1", "2001:db8::1")
	r := &recollection{}
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Memory = true, r })
	first := facts(t, s, "d.example")
	second := facts(t, s, "d.example")
	if m := first.Hosts[0]; m.V4.Memory.Good != 1 || m.V6.Memory.Good != 2 || m.V4.Memory.Last != policy.Encrypted || m.V6.Memory.Last != policy.Verified {
		t.Errorf("%+v", m)
	}
	if m := second.Hosts[0]; m.V4.Memory.Good != 3 || m.V6.Memory.Good != 4 {
		t.Errorf("kept with the facts: %+v", m)
	}
	if z.Count("d.example", "MX") != 1 {
		t.Error("the facts are not kept at all")
	}
}

// All of it together: DNS, a policy host over TLS, the cache, and the facts.
func TestSTSForReal(t *testing.T) {
	t.Parallel()
	z, ca := serve(t), policytest.NewCA()
	host, err := policytest.StartSTS(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, host) })
	r := resolver(t, z.Addr())
	fetcher, err := mtasts.NewFetcher(mtasts.FetchOptions{Resolver: r, Roots: ca.Pool(), AllowPrivate: true, Port: host.Addr().Port()})
	if err != nil {
		t.Fatal(err)
	}
	seen := &tally{seen: map[string]int{}}
	cache, err := mtasts.Open(t.Context(), mtasts.Options{Resolver: r, Fetch: fetcher.Fetch, Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, cache) })
	s, err := discover.New(discover.Options{Resolver: r, AllowPrivate: true, MTASTS: cache})
	if err != nil {
		t.Fatal(err)
	}

	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.CNAME("_mta-sts.d.example", "_mta-sts.provider.example") // RFC 8461 3.1, 8.2
	z.TXT("_mta-sts.provider.example", "v=STSv1; ", "id=1;")
	z.A("mta-sts.d.example", "127.0.0.1")
	host.Set("d.example", "version: STSv1\nmode: enforce\nmx: *.d.example\nmax_age: 86400\n")
	f := facts(t, s, "d.example")
	if f.STS.In(time.Now()) != policy.STSEnforce || f.STS.ID != "1" || !f.STS.Matches("a.d.example") || f.STS.Record.Answer != policy.Records {
		t.Errorf("%+v", f.STS)
	}
	// The host of the policy goes away, and so does the record: the policy stays.
	host.SetFault("d.example", "", policytest.STSReset)
	z.Remove("_mta-sts.provider.example", "TXT")
	z.TXT("_mta-sts.provider.example", "v=STSv1; id=2;")
	f, changed, err := s.Renew(t.Context(), "d.example")
	if err != nil || changed || f.STS.In(time.Now()) != policy.STSEnforce || f.STS.ID != "1" || f.STS.Failure != policy.STSFetchFailed {
		t.Errorf("%t, %v, %+v", changed, err, f.STS)
	}
	if host.Count("d.example") != 2 || seen.seen["mta-sts enforce"] != 1 {
		t.Errorf("%d requests, seen %v", host.Count("d.example"), seen.seen)
	}
}

func closed(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
