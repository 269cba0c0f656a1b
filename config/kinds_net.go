package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// hostname is our own name: an FQDN, or "" for the machine's.
func hostname() kind[string] {
	return optional(parsed("host name", `write a full host name, as in "relay.example.com"`, parseHostname, asIs))
}

func asIs(s string) string { return s }

func parseHostname(s string) (string, error) {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "", errors.New("is an address")
	}
	d, err := parseDomain(s)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(d), "_") {
		return "", errors.New("has an underscore, which no host name may have (RFC 5321 2.3.5)")
	}
	return string(d), nil
}

// parseDomain reads a domain; U-labels are turned into A-labels.
func parseDomain(s string) (policy.Domain, error) {
	d, err := queue.ParseDomain(s)
	if err != nil {
		return "", errors.New("is no domain name")
	}
	return d, nil
}

// dnsName is a name to look up: a domain, ".", or "" for none.
func dnsName() kind[string] {
	return optional(parsed("domain", `write a domain name, "." for the root, or "" for none`, func(s string) (string, error) {
		if s == "." {
			return s, nil
		}
		d, err := parseDomain(s)
		return string(d), err
	}, asIs))
}

// listenAddress is IP:port, normalised; an empty host means every address.
func listenAddress() kind[string] {
	return parsed("address", `write an IP address and a port, as in "127.0.0.1:2525" or "[::]:587"`, parseListen, asIs)
}

func parseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("is no address to listen on")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", fmt.Errorf("has the port %q", port)
	}
	switch host {
	case "":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("has the host %q, which is no IP address", host)
	}
	return netip.AddrPortFrom(ip, uint16(n)).String(), nil
}

// address is one IP address of a family, or "".
func address(family string) kind[netip.Addr] {
	k := parsed("IP"+family+" address", "write an IP"+family+` address, or "" for the system's choice`, func(s string) (netip.Addr, error) {
		ip, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return ip, errors.New("is no IP address")
		case ip.Is4() != (family == "v4"):
			return ip, errors.New("is of the other family")
		}
		return ip, nil
	}, func(ip netip.Addr) string {
		if !ip.IsValid() {
			return ""
		}
		return ip.String()
	})
	return optional(k)
}

// network is a CIDR, or one address.
func network() kind[netip.Prefix] {
	return parsed("network", `write a network, as in "10.0.0.0/8" or "2001:db8::/32", or one address`, parseNetwork, netip.Prefix.String)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, errors.New("is no network")
	case p != p.Masked():
		return p, fmt.Errorf("has bits set behind the mask (the network is %s)", p.Masked())
	}
	return p, nil
}

// resolver is IP, IP:port, or tls://IP#name for DNS over TLS (RFC 7858).
func resolver() kind[Resolver] {
	return parsed("resolver", `write an IP address with or without a port, as in "127.0.0.1:53", or "tls://1.1.1.1#cloudflare-dns.com"`,
		parseResolver, Resolver.String)
}

func parseResolver(s string) (Resolver, error) {
	var r Resolver
	port := uint16(53)
	if rest, ok := strings.CutPrefix(s, "tls://"); ok {
		address, name, _ := strings.Cut(rest, "#")
		d, err := policy.ParseDomain(name)
		if err != nil {
			return r, errors.New("does not name the host that its certificate is for")
		}
		s, port, r.TLSName = address, 853, string(d)
	} else if scheme, _, ok := strings.Cut(s, "://"); ok {
		return r, fmt.Errorf("has the unknown scheme %q", scheme)
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		r.Addr = netip.AddrPortFrom(ip, port)
		return r, nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 {
		return r, errors.New("is no address of a resolver")
	}
	r.Addr = at
	return r, nil
}

// hostPort is a host name or address with a port, or "".
func hostPort() kind[string] {
	return optional(parsed("host:port", `write a host and a port, as in "smarthost.example.com:587"`, func(s string) (string, error) {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return "", errors.New("is no host with a port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("has the port %q", port)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return s, nil
		}
		d, err := parseDomain(host)
		if err != nil {
			return "", fmt.Errorf("has the host %q", host)
		}
		return net.JoinHostPort(string(d), port), nil
	}, asIs))
}

// domainPattern is what a rule matches: a domain, or all below one.
func domainPattern() kind[string] {
	return parsed("domain", `write "example.com" for one domain, ".example.com" for all below it`, func(s string) (string, error) {
		if strings.HasPrefix(s, "*.") || strings.Contains(s, "*") {
			return "", errors.New("has a star")
		}
		rest, below := strings.CutPrefix(s, ".")
		if strings.Contains(s, "@") {
			return "", errors.New("has an @")
		}
		d, err := parseDomain(rest)
		if err == nil && below {
			return "." + string(d), nil
		}
		return string(d), err
	}, asIs)
}

// senderPattern is an address that a credential may send from, or "@domain".
func senderPattern() kind[string] {
	return parsed("address or @domain", `write "@example.com" for a domain, or one full address`, func(s string) (string, error) {
		at := strings.LastIndexByte(s, '@')
		if at < 0 {
			return "", errors.New("has no @")
		}
		d, err := parseDomain(s[at+1:])
		if err != nil {
			return "", errors.New("has no good domain")
		}
		if strings.ContainsAny(s[:at], "*<> \t") {
			return "", errors.New("is no address")
		}
		return s[:at] + "@" + string(d), nil
	}, asIs)
}

// passwordHash is an argon2id hash in PHC form: $argon2id$v=19$m=..,t=..,p=..$salt$hash.
// Its complaints do not show the value: it may be a password.
func passwordHash() kind[string] {
	return kind[string]{word: "argon2id hash", write: quote,
		read: func(f *finding, n *node) (string, bool) {
			if n.shape != isText && n.shape != isLoose {
				f.report.add(n.at, f.key+" is no text", "put the hash in quotes")
				return "", false
			}
			if err := checkHash(n.text); err != nil {
				f.report.add(n.at, f.key+" "+err.Error(), "make one with `sealpost user add`: $argon2id$v=19$m=19456,t=2,p=1$salt$hash")
				return "", false
			}
			return n.text, true
		}}
}

func checkHash(s string) error {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return errors.New("is no argon2id hash")
	}
	if parts[2] != "v=19" {
		return errors.New("is of an argon2 version other than 19")
	}
	var memory, passes, threads uint32
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); n != 3 || err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", memory, passes, threads) {
		return errors.New("does not say m=, t= and p=")
	}
	// RFC 9106 3.1: m is at least 8p. The upper bounds keep a login from taking the machine.
	if passes < 1 || passes > 64 || threads < 1 || threads > 64 || memory < 8*threads || memory > 1<<20 {
		return fmt.Errorf("has the parameters %s, which are out of bounds", parts[3])
	}
	for i, what := range []string{"salt", "hash"} {
		b, err := base64.RawStdEncoding.Strict().DecodeString(parts[4+i])
		if err != nil || len(b) < 8 || len(b) > 128 {
			return fmt.Errorf("has a %s that is not base64 of 8 to 128 octets", what)
		}
	}
	return nil
}
