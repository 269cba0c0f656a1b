package dnssec

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/policy"
)

// MaxChain is the longest alias chain that is followed (RFC 7672 2.1.3: a limit of
// the implementation).
const MaxChain = 8

// What Options leaves out.
const (
	defaultTimeout   = 4 * time.Second
	defaultDeadline  = 15 * time.Second
	defaultCacheSize = 20000
	maxInFlight      = 512 // lookups on the wire at once
)

// Observer is told of every query that went over the wire. Calls are concurrent
// and must not block. The outcome is one of [Outcomes].
type Observer interface {
	Queried(outcome string, took time.Duration)
}

// Outcomes returns every outcome that an Observer can hear of.
func Outcomes() []string {
	return []string{"records", "no-data", "no-name", "servfail", "refused", "error", "malformed", "timeout", "unreachable"}
}

// Options says whom to ask and whom to believe. The zero value asks the system's
// resolvers.
type Options struct {
	// Servers are read by [ParseServer], tried in order. Empty: those of ResolvConf.
	Servers []string
	// ResolvConf is the system's list; empty: /etc/resolv.conf.
	ResolvConf string
	// TrustAD says whose AD bit is believed; unset: auto.
	TrustAD TrustAD
	// Timeout is for one query to one server; zero: 4 seconds.
	Timeout time.Duration
	// Deadline is for one lookup altogether; zero: 15 seconds.
	Deadline time.Duration
	// CacheSize is how many answers are kept; zero: 20000; negative: none.
	CacheSize int
	// Selftest names what is asked to see whether DNSSEC works.
	Selftest Selftest
	// RootCAs verify DNS over TLS; nil: the system's roots. Read only.
	RootCAs  *x509.CertPool
	Logger   *slog.Logger // nil: discard
	Observer Observer     // nil: nobody
}

// Resolver asks recursive resolvers. All methods are safe for concurrent use. Close
// ends it.
type Resolver struct {
	servers  []*upstream
	timeout  time.Duration
	deadline time.Duration
	log      *slog.Logger
	observer Observer
	cache    *cache
	flights  singleflight.Group
	slots    chan struct{} // bounds lookups on the wire
	test     selftest
	outage   outage
	epoch    atomic.Uint64 // see Epoch

	// lifetime ends with Close: lookups that several callers share obey it and not
	// one caller's context.
	lifetime context.Context
	end      context.CancelFunc
	wg       sync.WaitGroup // shared lookups
	mu       sync.Mutex     // guards closed, and wg.Add against wg.Wait
	closed   bool
}

// New makes a resolver. It dials nobody; the error names every server that cannot
// be understood.
func New(o Options) (*Resolver, error) {
	servers, err := o.servers()
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		timeout:  orDefault(o.Timeout, defaultTimeout),
		deadline: orDefault(o.Deadline, defaultDeadline),
		log:      o.Logger,
		observer: o.Observer,
		cache:    newCache(orDefault(o.CacheSize, defaultCacheSize)),
		slots:    make(chan struct{}, maxInFlight),
		test:     selftest{names: o.Selftest},
		outage:   outage{breaker: breaker{limits: defaultLimits()}, changed: make(chan struct{})},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.lifetime, r.end = context.WithCancel(context.Background())
	for _, s := range servers {
		r.servers = append(r.servers, newUpstream(s, o.TrustAD.trusts(s), o.RootCAs))
	}
	r.dropUntrusted()
	return r, nil
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

func (o Options) servers() ([]Server, error) {
	if len(o.Servers) == 0 {
		path := o.ResolvConf
		if path == "" {
			path = "/etc/resolv.conf"
		}
		return systemServers(path)
	}
	var out []Server
	var errs []error
	for _, text := range o.Servers {
		s, err := ParseServer(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// dropUntrusted leaves out the servers that are not trusted when one is: failing
// over to them would turn secure answers into insecure ones, at the wish of whoever
// can silence the trusted one.
func (r *Resolver) dropUntrusted() {
	untrusted := func(u *upstream) bool { return !u.trusted }
	if !slices.ContainsFunc(r.servers, untrusted) || !slices.ContainsFunc(r.servers, func(u *upstream) bool { return u.trusted }) {
		return
	}
	r.servers = slices.DeleteFunc(r.servers, func(u *upstream) bool {
		if untrusted(u) {
			r.log.Warn("resolver left out: it is not trusted for DNSSEC, and another one is", "resolver", u.String())
		}
		return untrusted(u)
	})
}

// Servers returns the resolvers that are asked, in order.
func (r *Resolver) Servers() []Server {
	out := make([]Server, 0, len(r.servers))
	for _, u := range r.servers {
		out = append(out, u.Server)
	}
	return out
}

// Close fails the lookups that run, closes the connections and waits for both.
// Lookups after it are Unknown.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
	for _, u := range r.servers {
		u.close()
	}
	return nil
}

// Reply is what one lookup came back with. It is shared with other callers: nobody
// changes it.
type Reply[T any] struct {
	policy.Lookup
	// Name is where the alias chain ended; the name asked for when it is no alias.
	// Empty when the answer is Unknown.
	Name policy.Domain
	// Chain are the alias targets in order, Name being the last one; empty when the
	// name asked for is no alias.
	Chain []policy.Domain
	// TTL is how much longer the reply may be kept.
	TTL     time.Duration
	Records []T
}

// MX is one mail exchanger record (RFC 1035 3.3.9).
type MX struct {
	Preference uint16
	// Host is lower case without the last dot: "" is the root, the host of a null
	// MX (RFC 7505 3). It may be anything that fits into DNS, an address too.
	Host string
}

// MX asks for mail exchangers.
func (r *Resolver) MX(ctx context.Context, name policy.Domain) Reply[MX] {
	return lookup(ctx, r, asked{name, dns.TypeMX}, func(rr dns.RR) (MX, bool) {
		mx, ok := rr.(*dns.MX)
		if !ok {
			return MX{}, false
		}
		return MX{mx.Preference, strings.TrimSuffix(strings.ToLower(mx.Mx), ".")}, true
	})
}

// A asks for IPv4 addresses.
func (r *Resolver) A(ctx context.Context, name policy.Domain) Reply[netip.Addr] {
	return lookup(ctx, r, asked{name, dns.TypeA}, func(rr dns.RR) (netip.Addr, bool) {
		a, ok := rr.(*dns.A)
		if !ok {
			return netip.Addr{}, false
		}
		ip, ok := netip.AddrFromSlice(a.A.To4())
		return ip, ok
	})
}

// AAAA asks for IPv6 addresses. IPv4-mapped ones come as they are in DNS.
func (r *Resolver) AAAA(ctx context.Context, name policy.Domain) Reply[netip.Addr] {
	return lookup(ctx, r, asked{name, dns.TypeAAAA}, func(rr dns.RR) (netip.Addr, bool) {
		a, ok := rr.(*dns.AAAA)
		if !ok || len(a.AAAA) != net.IPv6len {
			return netip.Addr{}, false
		}
		return netip.AddrFromSlice(a.AAAA)
	})
}

// TLSA asks for TLSA records at _port._tcp.base (RFC 6698 3).
func (r *Resolver) TLSA(ctx context.Context, base policy.Domain, port uint16) Reply[policy.TLSARecord] {
	name := "_" + policy.Domain(strconv.Itoa(int(port))) + "._tcp." + base
	return lookup(ctx, r, asked{name, dns.TypeTLSA}, tlsaOf)
}

// TXT asks for texts; the strings of a record are joined without a space.
func (r *Resolver) TXT(ctx context.Context, name policy.Domain) Reply[string] {
	return lookup(ctx, r, asked{name, dns.TypeTXT}, func(rr dns.RR) (string, bool) {
		t, ok := rr.(*dns.TXT)
		if !ok {
			return "", false
		}
		return unescape(strings.Join(t.Txt, "")), true
	})
}

// CNAME asks for the alias record of the name itself, and does not follow it: only
// this tells whether the first link of a chain with an insecure end is secure
// (RFC 7672 2.1.3).
func (r *Resolver) CNAME(ctx context.Context, name policy.Domain) Reply[policy.Domain] {
	return lookup(ctx, r, asked{name, dns.TypeCNAME}, func(rr dns.RR) (policy.Domain, bool) {
		c, ok := rr.(*dns.CNAME)
		if !ok {
			return "", false
		}
		d, err := policy.ParseDomain(c.Target)
		return d, err == nil
	})
}
