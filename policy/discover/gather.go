package discover

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

// gathering is one look-up of a domain.
type gathering struct {
	scout *Scout

	mu     sync.Mutex
	ttl    time.Duration // the shortest so far
	failed bool          // something is unknown
}

// note counts a lookup and takes its TTL into account.
func (g *gathering) note(source string, l policy.Lookup, ttl time.Duration) {
	result := "unknown"
	switch {
	case l.Answer == policy.Records && l.Secure:
		result = "secure"
	case l.Answer == policy.Records:
		result = "insecure"
	case l.Answer != policy.Unknown && l.Secure:
		result = "absent-secure"
	case l.Answer != policy.Unknown:
		result = "absent-insecure"
	}
	if o := g.scout.o.Observer; o != nil {
		o.LookedUp(source, result)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Answer == policy.Unknown {
		g.failed = true
		return
	}
	g.ttl = min(g.ttl, ttl)
}

// facts asks for everything about a domain, or about the relay host.
func (g *gathering) facts(ctx context.Context, d policy.Domain) policy.Facts {
	s := g.scout
	f := policy.Facts{Domain: d, At: time.Now()}
	if s.relay != nil {
		f.Operator = true
		f.MX.Problem = "not asked: a relay host is configured"
		f.Hosts = []policy.Host{g.next(ctx)}
		return f
	}
	mx := s.o.Resolver.MX(ctx, d)
	g.note("mx", mx.Lookup, mx.TTL)
	f.MX, f.Expanded = mx.Lookup, mx.Name
	var hosts []policy.Host
	switch mx.Answer {
	case policy.Unknown, policy.NoName: // RFC 7672 2.1.2: delay; RFC 5321 5.1: an error
		return f
	case policy.NoData: // RFC 5321 5.1: the implicit MX; D's addresses count only here
		f.Implicit = true
		hosts = []policy.Host{{Name: d, Port: s.o.Port}}
	default:
		// RFC 7505 3: one record, preference 0, the root.
		if len(mx.Records) == 1 && mx.Records[0] == (dnssec.MX{}) {
			f.NullMX = true
			return f
		}
		hosts = g.exchangers(d, mx.Records)
	}
	hosts, f.Self = cut(hosts, func(i int) bool { return s.guard.named(hosts[i].Name) })
	hosts = hosts[:min(len(hosts), maxHosts)]
	ours := g.resolve(ctx, hosts)
	hosts, byAddress := cut(hosts, func(i int) bool { return ours[i] })
	f.Hosts, f.Self = hosts, f.Self || byAddress
	return f
}

// exchangers makes hosts of the MX records, sorted by preference, those of equal
// preference in a random order so that a limit on their number is fair. Names that
// are no host names, addresses among them, and "." beside others are left out.
func (g *gathering) exchangers(d policy.Domain, records []dnssec.MX) []policy.Host {
	var out []policy.Host
	for _, mx := range records {
		name, err := policy.ParseDomain(mx.Host)
		if _, notName := netip.ParseAddr(mx.Host); err != nil || notName == nil {
			g.scout.o.Logger.Debug("MX record left out: not a host name", "domain", d, "preference", mx.Preference)
			continue
		}
		if i := slices.IndexFunc(out, func(h policy.Host) bool { return h.Name == name }); i >= 0 {
			out[i].Preference = min(out[i].Preference, mx.Preference)
			continue
		}
		out = append(out, policy.Host{Name: name, Preference: mx.Preference, Port: g.scout.o.Port})
	}
	g.scout.o.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
	slices.SortStableFunc(out, func(a, b policy.Host) int { return int(a.Preference) - int(b.Preference) })
	return out
}

// cut takes out the best preference at which we stand, and all worse ones
// (RFC 5321 5.1, MUST): relaying to them could come back to us.
func cut(hosts []policy.Host, ours func(i int) bool) ([]policy.Host, bool) {
	for i := range hosts {
		if !ours(i) {
			continue
		}
		first := slices.IndexFunc(hosts, func(h policy.Host) bool { return h.Preference == hosts[i].Preference })
		return hosts[:first], true
	}
	return hosts, false
}

// resolve fills the hosts in, all at once, and reports which are ourselves.
func (g *gathering) resolve(ctx context.Context, hosts []policy.Host) []bool {
	ours := make([]bool, len(hosts))
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { hosts[i], ours[i] = g.host(ctx, hosts[i]) })
	}
	wg.Wait()
	return ours
}

// next returns the relay host's facts.
func (g *gathering) next(ctx context.Context) policy.Host {
	relay := g.scout.relay
	h := policy.Host{Name: relay.name, Port: relay.port}
	if !relay.ip.IsValid() {
		h, _ = g.host(ctx, h)
		return h
	}
	// An address needs no lookup, and DANE does not apply to it (RFC 7672 2.2).
	h.V4.Answer, h.V6.Answer = policy.NoData, policy.NoData
	family := &h.V4
	if relay.ip.Is6() {
		family = &h.V6
	}
	family.Answer = policy.Records
	if family.IPs = []netip.Addr{relay.ip}; g.scout.guard.ours(relay.ip, relay.port) {
		family.IPs, h.Refused = nil, 1
	}
	return h
}
