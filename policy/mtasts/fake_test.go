package mtasts_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/mtasts"
)

// internet is DNS and the web without sockets, for tests in which time is not real.
type internet struct {
	mu     sync.Mutex
	texts  map[policy.Domain]dnssec.Reply[string] // what is published
	cached map[policy.Domain]dnssec.Reply[string] // what TXT says in its place
	sites  map[policy.Domain]site
	fetch  map[policy.Domain][]time.Time // when policies were fetched
	asked  map[policy.Domain]int         // questions for a record
	log    bytes.Buffer
	words  map[string]int
}

type site struct {
	policy  mtasts.Policy
	failure *policy.Failure
	takes   time.Duration
}

func newInternet() *internet {
	return &internet{
		texts: map[policy.Domain]dnssec.Reply[string]{}, cached: map[policy.Domain]dnssec.Reply[string]{},
		sites: map[policy.Domain]site{}, fetch: map[policy.Domain][]time.Time{},
		asked: map[policy.Domain]int{}, words: map[string]int{},
	}
}

func (n *internet) TXT(_ context.Context, name policy.Domain) dnssec.Reply[string] {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[name]++
	if r, ok := n.cached[name]; ok {
		return r
	}
	return n.published(name)
}

func (n *internet) FreshTXT(ctx context.Context, name policy.Domain) dnssec.Reply[string] {
	n.mu.Lock()
	delete(n.cached, name)
	n.mu.Unlock()
	return n.TXT(ctx, name)
}

func (n *internet) published(name policy.Domain) dnssec.Reply[string] {
	if r, ok := n.texts[name]; ok {
		return r
	}
	return dnssec.Reply[string]{Lookup: policy.Lookup{Answer: policy.NoName}}
}

// id publishes a record with an id for d.example and the like.
func (n *internet) id(d policy.Domain, id string) { n.txt(d, "v=STSv1; id="+id+";") }

func (n *internet) txt(d policy.Domain, txts ...string) {
	n.reply(d, dnssec.Reply[string]{Lookup: policy.Lookup{Answer: policy.Records}, Records: txts})
}

func (n *internet) reply(d policy.Domain, r dnssec.Reply[string]) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts["_mta-sts."+d] = r
}

// stale makes TXT say what is published now, whatever is published later.
func (n *internet) stale(d policy.Domain) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cached["_mta-sts."+d] = n.published("_mta-sts." + d)
}

func unknown() dnssec.Reply[string] {
	return dnssec.Reply[string]{Lookup: policy.Lookup{Problem: "SERVFAIL"}}
}

func (n *internet) serve(d policy.Domain, s site) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sites[d] = s
}

func (n *internet) Fetch(ctx context.Context, d policy.Domain) (mtasts.Policy, *policy.Failure) {
	n.mu.Lock()
	n.fetch[d] = append(n.fetch[d], time.Now())
	s, ok := n.sites[d]
	n.mu.Unlock()
	if s.takes > 0 {
		t := time.NewTimer(s.takes)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return mtasts.Policy{}, &policy.Failure{Reason: policy.STSFetchFailed, Detail: "broken off"}
		}
	}
	if !ok {
		return mtasts.Policy{}, broken(policy.STSFetchFailed)
	}
	return s.policy, s.failure
}

func (n *internet) fetches(d policy.Domain) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.fetch[d])
}

func (n *internet) LookedUp(source, result string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.words[source+" "+result]++
}

// Write takes the log.
func (n *internet) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(p)
}

// logged counts the lines of a level, and empties the log.
func (n *internet) logged(level string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.log.Reset()
	return strings.Count(n.log.String(), "level="+level)
}

func broken(r policy.Reason) *policy.Failure {
	return &policy.Failure{Reason: r, Detail: "it is broken"}
}

func terms(mode policy.STSMode, age time.Duration, mx ...string) site {
	if len(mx) == 0 && mode != policy.STSNone {
		mx = []string{"mx.d.example"}
	}
	return site{policy: mtasts.Policy{Mode: mode, MaxAge: age, MX: mx}}
}

// open makes a cache on the internet, which ends with the test.
func (n *internet) open(t testing.TB, set func(*mtasts.Options)) *mtasts.Cache {
	t.Helper()
	o := mtasts.Options{
		Resolver: n, Fetch: n.Fetch, Observer: n, Logger: slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if set != nil {
		set(&o)
	}
	c, err := mtasts.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shelf is a Shelf in memory.
type shelf struct {
	mu     sync.Mutex
	values map[string][]byte
	puts   int
	fail   error
	inPut  bool
}

func newShelf() *shelf { return &shelf{values: map[string][]byte{}} }

func (s *shelf) Each(_ context.Context, fn func(string, []byte) error) error {
	s.mu.Lock()
	values := maps.Clone(s.values)
	s.mu.Unlock()
	for name, v := range values {
		if err := fn(name, v); err != nil {
			return err
		}
	}
	return s.fail
}

func (s *shelf) Put(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	if s.inPut {
		s.mu.Unlock()
		return errors.New("two at once")
	}
	s.inPut = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inPut = false
		s.mu.Unlock()
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.fail != nil {
		return s.fail
	}
	if value == nil {
		delete(s.values, name)
	} else {
		s.values[name] = value
	}
	return nil
}

func (s *shelf) names() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(s.values)), " ")
}
