package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

// Limits (own, policy: facts).
const (
	maxHosts     = 10 // of a domain, by preference; RFC 5321 5.1 allows a limit
	maxAddresses = 8  // of a host, in each family

	defaultPort      = 25
	defaultDeadline  = 20 * time.Second
	defaultMaxAge    = 2 * time.Minute
	defaultFailedAge = 5 * time.Second
	leastAge         = time.Second // what a TTL of zero is good for: the messages in the queue now
	cacheSize        = 20000       // domains
	maxGatherings    = 128         // domains looked up at once
)

// Observer is told of every lookup. Source is one of [Sources] and result one of
// [Results]. Calls are concurrent and must not block.
type Observer interface {
	LookedUp(source, result string)
}

// MTASTS knows the MTA-STS policies of domains. Implemented by mtasts.Cache, which
// tells an Observer of its own about them.
type MTASTS interface {
	// Get returns what applies to a delivery now; from memory where a policy is kept.
	Get(ctx context.Context, d policy.Domain) policy.STS
	// Renew asks again, past what DNS caches hold, and reports whether another policy is
	// in force now.
	Renew(ctx context.Context, d policy.Domain) (policy.STS, bool)
}

// Memory knows what was seen of hosts. Implemented by policy/memory. It answers at once.
type Memory interface {
	Recall(host policy.Domain, ip6 bool) policy.Memory
}

// Sources returns every source that an Observer can hear of.
func Sources() []string { return []string{"mx", "address", "tlsa"} }

// Results returns every result that an Observer can hear of: an answer or an
// absence, with DNSSEC or without; or unknown.
func Results() []string {
	return []string{"secure", "insecure", "absent-secure", "absent-insecure", "unknown"}
}

// Options says how to gather facts. Resolver is needed, the rest may be left out.
type Options struct {
	Resolver *dnssec.Resolver // owned by the caller
	// Names and Addrs are ours: a host that has one of them is ourselves
	// (RFC 5321 5.1). See [LocalAddrs].
	Names []policy.Domain
	Addrs []netip.Addr
	// Listeners are where we take mail in: never connected to, AllowPrivate or not.
	// An unspecified address stands for loopback and all of Addrs.
	Listeners []netip.AddrPort
	// AllowPrivate lets addresses in that are not for the internet (labs, tests).
	AllowPrivate bool
	// RelayHost, "host:port", takes everything: no MX is asked. The host is a name or
	// an IP address; without a port: Port. It may have a private address.
	RelayHost string
	// Port of the mail exchangers, and of the TLSA name; zero: 25.
	Port uint16
	// NoTLSA leaves TLSA out: DANE is switched off.
	NoTLSA bool
	// MTASTS is asked for the policy at each Facts; nil: MTA-STS is switched off.
	MTASTS MTASTS
	// Memory is asked about each host at each Facts; nil: there is none.
	Memory Memory
	// Deadline is for all lookups of one domain; zero: 20 seconds.
	Deadline time.Duration
	// MaxAge bounds how long facts are kept; zero: 2 minutes. FailedAge is for facts
	// in which something is unknown; zero: 5 seconds. Negative: not kept.
	MaxAge, FailedAge time.Duration
	// Shuffle is rand.Shuffle when nil; tests put their own in. Calls are concurrent.
	Shuffle  func(n int, swap func(i, j int))
	Logger   *slog.Logger // nil: discard
	Observer Observer     // nil: nobody
}

// Scout gathers facts. It is safe for concurrent use. Lookups that nobody waits for
// any more end with the resolver or the deadline.
type Scout struct {
	o       Options // defaults filled in; read only
	guard   guard
	relay   *relayHost // nil: by MX
	flights singleflight.Group
	slots   chan struct{} // bounds gatherings

	mu    sync.Mutex
	cache map[policy.Domain]kept
}

// kept are cached facts; their hosts are shared and not changed.
type kept struct {
	facts policy.Facts
	until time.Time
	epoch uint64 // of the resolver, when they were asked for
}

// New makes a scout. The error is about RelayHost or a missing Resolver.
func New(o Options) (*Scout, error) {
	if o.Resolver == nil {
		return nil, errors.New("discover: a resolver is needed")
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	relay, err := parseRelayHost(o.RelayHost, o.Port)
	if err != nil {
		return nil, err
	}
	if o.Shuffle == nil {
		o.Shuffle = rand.Shuffle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value *time.Duration
		plain time.Duration
	}{{&o.Deadline, defaultDeadline}, {&o.MaxAge, defaultMaxAge}, {&o.FailedAge, defaultFailedAge}} {
		if *d.value == 0 {
			*d.value = d.plain
		}
	}
	return &Scout{
		o: o, guard: newGuard(&o), relay: relay,
		slots: make(chan struct{}, maxGatherings),
		cache: map[policy.Domain]kept{},
	}, nil
}

// relayHost is a configured next hop.
type relayHost struct {
	name policy.Domain // or the address as text
	ip   netip.Addr    // valid when the host is an address
	port uint16
}

func parseRelayHost(s string, port uint16) (*relayHost, error) {
	if s == "" {
		return nil, nil
	}
	host := s
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return &relayHost{name: policy.Domain(ip.String()), ip: ip.Unmap(), port: port}, nil
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("relay_host %q: port %q is no number from 1 to 65535", s, s[i+1:])
		}
		host, port = s[:i], uint16(n)
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return &relayHost{name: policy.Domain(ip.String()), ip: ip.Unmap(), port: port}, nil
	}
	name, err := policy.ParseDomain(host)
	if err != nil {
		return nil, fmt.Errorf("relay_host %q: use a name or an address with a port, as in smarthost.example.com:587: %w", s, err)
	}
	return &relayHost{name: name, port: port}, nil
}

// Facts returns what DNS says about the domain, in every case: what could not be
// learned is Unknown. The error is that of ctx: we were interrupted. The order of
// the hosts is the caller's own, what is inside them is shared: nobody changes it.
func (s *Scout) Facts(ctx context.Context, d policy.Domain) (policy.Facts, error) {
	if err := ctx.Err(); err != nil {
		return policy.Facts{}, err
	}
	next := s.policyDomain(d)
	if next == "" {
		return s.shared(ctx, d)
	}
	// The policy is not part of what is kept: its cache knows how long each is good.
	if _, kept := s.cached(s.key(d)); kept { // nothing to wait for beside it
		f, err := s.shared(ctx, d)
		if err != nil {
			return policy.Facts{}, err
		}
		f.STS = s.o.MTASTS.Get(ctx, next)
		return f, ctx.Err()
	}
	sts := make(chan policy.STS, 1)
	go func() { sts <- s.o.MTASTS.Get(ctx, next) }() // it ends with ctx
	f, err := s.shared(ctx, d)
	if err != nil {
		return policy.Facts{}, err
	}
	select {
	case f.STS = <-sts:
	case <-ctx.Done():
		return policy.Facts{}, ctx.Err()
	}
	return f, nil
}

// Renew implements relay.Scout.
func (s *Scout) Renew(ctx context.Context, d policy.Domain) (policy.Facts, bool, error) {
	next := s.policyDomain(d)
	if next == "" {
		f, err := s.Facts(ctx, d)
		return f, false, err
	}
	sts, changed := s.o.MTASTS.Renew(ctx, next)
	f, err := s.shared(ctx, d)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return policy.Facts{}, false, err
	}
	f.STS = sts
	return f, changed, nil
}

// policyDomain is whose MTA-STS policy applies: that of the next hop, so a smart host's
// in place of the recipient's (RFC 8461 3.4 MUST), never that of an alias' target. It is
// empty when there can be none: an address has no policy.
func (s *Scout) policyDomain(d policy.Domain) policy.Domain {
	switch {
	case s.o.MTASTS == nil, s.relay != nil && s.relay.ip.IsValid():
		return ""
	case s.relay != nil:
		return s.relay.name
	}
	return d
}

// key is under which a domain's facts are kept.
func (s *Scout) key(d policy.Domain) policy.Domain {
	if s.relay != nil {
		return "" // the same for every domain
	}
	return d
}

// shared returns the facts that are kept, or looks them up, all but MTA-STS; hosts in an
// order of the caller's own, with what is remembered of them now.
func (s *Scout) shared(ctx context.Context, d policy.Domain) (policy.Facts, error) {
	key := s.key(d)
	f, ok := s.cached(key)
	if !ok {
		shared := s.flights.DoChan(string(key), func() (any, error) {
			return s.lookUp(context.WithoutCancel(ctx), key), nil
		})
		select {
		case got := <-shared:
			f = got.Val.(policy.Facts)
		case <-ctx.Done():
			return policy.Facts{}, ctx.Err()
		}
	}
	if s.relay != nil {
		f.Domain, f.Expanded = d, d
	}
	f.Hosts = s.inOrder(f.Hosts)
	if s.o.Memory != nil {
		for i := range f.Hosts {
			h := &f.Hosts[i]
			h.V4.Memory, h.V6.Memory = s.o.Memory.Recall(h.Name, false), s.o.Memory.Recall(h.Name, true)
		}
	}
	f.DNSSEC = s.o.Resolver.Believed(ctx)
	return f, nil
}

// lookUp gathers the facts of a domain once for all that wait, and keeps them.
func (s *Scout) lookUp(ctx context.Context, d policy.Domain) policy.Facts {
	if f, ok := s.cached(d); ok { // somebody was faster
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return policy.Facts{
			Domain: d, At: time.Now(), Operator: s.relay != nil,
			MX: policy.Lookup{Problem: "too many lookups at once: no turn before the deadline"},
		}
	}
	var test sync.WaitGroup
	test.Go(func() { s.o.Resolver.Believed(ctx) }) // the first self-test, beside our own lookups
	epoch := s.o.Resolver.Epoch()
	g := &gathering{scout: s, ttl: s.o.MaxAge}
	f := g.facts(ctx, d)
	test.Wait()
	age := max(g.ttl, leastAge)
	if g.failed {
		age = s.o.FailedAge
	}
	s.keep(d, f, age, epoch)
	return f
}

func (s *Scout) cached(d policy.Domain) (policy.Facts, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.cache[d]
	return k.facts, ok && time.Now().Before(k.until) && k.epoch == s.o.Resolver.Epoch()
}

// keep puts facts into the cache. When it is full, what is over goes first, and
// then whatever comes.
func (s *Scout) keep(d policy.Domain, f policy.Facts, age time.Duration, epoch uint64) {
	if age <= 0 || s.o.MaxAge < 0 {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) >= cacheSize {
		for old, k := range s.cache {
			if !now.Before(k.until) {
				delete(s.cache, old)
			}
		}
	}
	for old := range s.cache {
		if len(s.cache) < cacheSize {
			break
		}
		delete(s.cache, old)
	}
	s.cache[d] = kept{f, now.Add(min(age, s.o.MaxAge)), epoch}
}

// Forget drops what is cached about a domain: the next Facts asks again, as far as
// the TTL in the resolver's cache lets it.
func (s *Scout) Forget(d policy.Domain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cache, d)
}

// inOrder returns the hosts in a new slice, those of equal preference in a random
// order (RFC 5321 5.1 MUST). They are sorted by preference.
func (s *Scout) inOrder(hosts []policy.Host) []policy.Host {
	out := slices.Clone(hosts)
	for i := 0; i < len(out); {
		j := i + 1
		for j < len(out) && out[j].Preference == out[i].Preference {
			j++
		}
		if same := out[i:j]; len(same) > 1 {
			s.o.Shuffle(len(same), func(a, b int) { same[a], same[b] = same[b], same[a] })
		}
		i = j
	}
	return out
}
