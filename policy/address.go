package policy

import (
	"net/netip"
	"slices"
)

// Routable reports whether an address is for the internet: a host that a stranger names
// may be connected to there. It is not so for the special-purpose addresses of RFC 6890
// and its registries that are not globally reachable, nor for IPv6 addresses that lead
// to such an IPv4 one.
func Routable(ip netip.Addr) bool {
	private := privatePrefixes()
	return Assignable(ip) && !inAny(private, ip) && !inAny(private, EmbeddedIPv4(ip))
}

// Assignable reports whether a host can be reached at an address at all, in a lab or not.
func Assignable(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Is4In6() { // RFC 4291 2.5.5.2: never on the wire; it would reach IPv4 past its checks
		return false
	}
	never := neverPrefixes()
	return !inAny(never, ip.WithZone("")) && !inAny(never, EmbeddedIPv4(ip))
}

// privatePrefixes are the special-purpose addresses of RFC 6890 and its registries
// that are not globally reachable.
func privatePrefixes() []netip.Prefix {
	return prefixes(
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
		"100.64.0.0/10",                                     // RFC 6598: carrier-grade NAT
		"127.0.0.0/8",                                       // RFC 1122 3.2.1.3: loopback
		"169.254.0.0/16",                                    // RFC 3927: link-local, cloud metadata
		"192.0.0.0/24",                                      // RFC 6890 2.1
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // RFC 5737: documentation
		"198.18.0.0/15",          // RFC 2544: benchmarks
		"::1/128",                // RFC 4291 2.5.3: loopback
		"fc00::/7",               // RFC 4193: unique local
		"fe80::/10", "fec0::/10", // RFC 4291: link-local, RFC 3879: site-local
		"64:ff9b:1::/48",             // RFC 8215: local translation
		"100::/64",                   // RFC 6666: discard
		"2001:db8::/32", "3fff::/20", // RFC 3849, RFC 9637: documentation
		"2001:2::/48", "2001:10::/28", // RFC 5180: benchmarks, RFC 4843: ORCHID
		"2001::/32", "5f00::/16", // RFC 4380: Teredo, RFC 9602: segment routing
	)
}

// neverPrefixes are addresses that no host can be reached at, in a lab or not.
func neverPrefixes() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", // RFC 1122 3.2.1.3, RFC 5771, RFC 1112 4
		"::/128", "ff00::/8", // RFC 4291 2.5.2 and 2.7
	)
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func inAny(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// EmbeddedIPv4 returns the IPv4 address that an IPv6 address leads to: by translation
// (64:ff9b::/96, RFC 6052 2.1), by 6to4 (2002::/16, RFC 3056 2), or mapped; or the
// address itself.
func EmbeddedIPv4(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip
	}
	b := ip.As16()
	switch {
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}:
		return netip.AddrFrom4([4]byte(b[12:16]))
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}
