package discover

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/sealpost/sealpost/policy"
)

// guard knows which addresses and names are ours, and which are nobody's on the
// internet. It is read only.
type guard struct {
	names        []policy.Domain
	addrs        []netip.Addr
	listeners    []netip.AddrPort
	allowPrivate bool
	operator     bool // the operator named the one host: only our listeners are out of bounds
}

func newGuard(o *Options) guard {
	g := guard{names: o.Names, allowPrivate: o.AllowPrivate, operator: o.RelayHost != ""}
	for _, a := range o.Addrs {
		g.addrs = append(g.addrs, a.Unmap().WithZone(""))
	}
	for _, l := range o.Listeners {
		g.listeners = append(g.listeners, netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port()))
	}
	return g
}

// named reports whether a name is ours.
func (g *guard) named(d policy.Domain) bool {
	return !g.operator && d != "" && slices.Contains(g.names, d)
}

// ours reports whether a connection to the address and port would reach ourselves.
// Where private addresses are allowed, many hosts may share a private one with us
// (a lab on one machine): then the port tells.
func (g *guard) ours(ip netip.Addr, port uint16) bool {
	ip = policy.EmbeddedIPv4(ip)
	own := slices.Contains(g.addrs, ip)
	for _, l := range g.listeners {
		if l.Port() == port && (l.Addr() == ip || l.Addr().IsUnspecified() && (own || ip.IsLoopback())) {
			return true
		}
	}
	return own && !g.operator && !(g.allowPrivate && !policy.Routable(ip))
}

// refused reports whether an address must not be connected to: no host can have it,
// or it is not for the internet and nobody allowed that.
func (g *guard) refused(ip netip.Addr) bool {
	return !policy.Assignable(ip) || !g.allowPrivate && !g.operator && !policy.Routable(ip)
}

// LocalAddrs returns the machine's own addresses without loopback, for
// Options.Addrs.
func LocalAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("reading the machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() {
			continue
		}
		out = append(out, p.Addr().Unmap().WithZone(""))
	}
	return out, nil
}
