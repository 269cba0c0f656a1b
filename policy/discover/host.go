package discover

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

// addresses are the replies about a host's two families.
type addresses struct {
	v4, v6 dnssec.Reply[netip.Addr]
}

// host asks for the addresses of a host, both families at once, and then for its
// TLSA records. It reports whether the host is ourselves.
func (g *gathering) host(ctx context.Context, h policy.Host) (policy.Host, bool) {
	var a addresses
	var wg sync.WaitGroup
	wg.Go(func() { a.v4 = g.scout.o.Resolver.A(ctx, h.Name) })
	wg.Go(func() { a.v6 = g.scout.o.Resolver.AAAA(ctx, h.Name) })
	wg.Wait()
	guard := &g.scout.guard
	ours := guard.named(a.v4.Name) || guard.named(a.v6.Name) // an alias of ours is us
	for _, family := range []struct {
		reply *dnssec.Reply[netip.Addr]
		out   *policy.Addresses
	}{{&a.v4, &h.V4}, {&a.v6, &h.V6}} {
		g.note("address", family.reply.Lookup, family.reply.TTL)
		family.out.Lookup = family.reply.Lookup
		for _, ip := range family.reply.Records {
			own := guard.ours(ip, h.Port)
			ours = ours || own
			switch {
			case own || guard.refused(ip):
				h.Refused++
			case len(family.out.IPs) < maxAddresses && !slices.Contains(family.out.IPs, ip):
				family.out.IPs = append(family.out.IPs, ip) // in the resolver's order (RFC 5321 5.1 MUST)
			}
		}
	}
	// RFC 7672 2.2.2: without an address the host is unreachable, TLSA or not.
	if !ours && !g.scout.o.NoTLSA && len(h.V4.IPs)+len(h.V6.IPs) > 0 {
		h.TLSA = g.tlsa(ctx, &h, &a)
	}
	return h, ours
}

// tlsa asks for the TLSA records of a host at its base domains, the first of which
// with a secure RRset counts (RFC 7672 2.2.3). Unknown anywhere on the way is Unknown
// (2.1.2): the host is not used now.
func (g *gathering) tlsa(ctx context.Context, h *policy.Host, a *addresses) policy.TLSAFacts {
	bases, problem := g.bases(ctx, h.Name, a)
	if problem != "" {
		return policy.TLSAFacts{Asked: true, Lookup: policy.Lookup{Problem: problem}}
	}
	var out policy.TLSAFacts
	for _, base := range bases {
		if len(base)+len("_65535._tcp.") > 253 {
			continue // RFC 1035 2.3.4: there can be no such name, so no record either
		}
		r := g.scout.o.Resolver.TLSA(ctx, base, h.Port)
		g.note("tlsa", r.Lookup, r.TTL)
		out.Asked, out.Lookup = true, r.Lookup
		if r.Answer == policy.Unknown {
			return out
		}
		if r.Answer == policy.Records && r.Secure {
			// A CNAME at the TLSA name does not move the base (RFC 7672 2.2.3).
			out.Base, out.Records = base, r.Records
			return out
		}
	}
	return out
}

// bases returns the candidate TLSA base domains, best first (RFC 7672 2.2.2, 2.2.3);
// or why they cannot be known. It looks at the families that have addresses: a
// failure of the other one takes nothing away (field: F5).
func (g *gathering) bases(ctx context.Context, name policy.Domain, a *addresses) ([]policy.Domain, string) {
	aliased := false
	for _, r := range []*dnssec.Reply[netip.Addr]{&a.v4, &a.v6} {
		if r.Answer != policy.Records {
			continue
		}
		switch {
		case r.Secure && len(r.Chain) == 0:
			return []policy.Domain{name}, ""
		case r.Secure && r.Name == name:
			return []policy.Domain{name}, ""
		case r.Secure: // secure at every link: the expansion, then the name itself; never one between
			return []policy.Domain{r.Name, name}, ""
		}
		aliased = aliased || len(r.Chain) > 0
	}
	if !aliased {
		return nil, "" // insecure addresses: TLSA is not asked (RFC 7672 2.2.2)
	}
	// An insecure end says nothing of the first link: only a CNAME query of its own
	// does (RFC 7672 2.1.3).
	first := g.scout.o.Resolver.CNAME(ctx, name)
	g.note("address", first.Lookup, first.TTL)
	switch {
	case first.Answer == policy.Unknown:
		return nil, "the alias record: " + first.Problem
	case first.Secure:
		return []policy.Domain{name}, ""
	default:
		return nil, ""
	}
}
