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

// hostPort is a host name or address with or without a port, or "".
func hostPort() kind[string] {
	return optional(parsed("host:port", `write a host and a port, as in "smarthost.example.com:587"`, parseHostPort, asIs))
}

func parseHostPort(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if _, notAddress := netip.ParseAddr(strings.Trim(s, "[]")); err != nil && (notAddress == nil || !strings.Contains(s, ":")) {
		host, port, err = strings.Trim(s, "[]"), "", nil // the port of the mail exchangers
	}
	if err != nil {
		return "", errors.New("is no host with a port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return "", fmt.Errorf("has the port %q", port)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return s, nil
	}
	d, err := parseDomain(host)
	if err != nil {
		return "", fmt.Errorf("has the host %q", host)
	}
	if port == "" {
		return string(d), nil
	}
	return net.JoinHostPort(string(d), port), nil
}

// domainPattern is what a rule matches: a domain, or all below one.
func domainPattern() kind[string] { return parsed("domain", mendPattern, parsePattern, asIs) }

const mendPattern = `write "example.com" for one domain, ".example.com" for all below it`

func parsePattern(s string) (string, error) {
	if strings.Contains(s, "*") {
		return "", errors.New("has a star")
	}
	if strings.Contains(s, "@") {
		return "", errors.New("has an @")
	}
	rest, below := strings.CutPrefix(s, ".")
	d, err := parseDomain(rest)
	if err == nil && below {
		return "." + string(d), nil
	}
	return string(d), err
}

// senderPattern is an address that a credential may send from, or "@domain".
func senderPattern() kind[string] {
	return parsed("address or @domain", `write "@example.com" for a domain, or one full address`, func(s string) (string, error) {
		if s == "<>" {
			return s, nil
		}
		at := strings.LastIndexByte(s, '@')
		if at < 0 {
			return "", errors.New("has no @")
		}
		if at == 0 {
			d, err := parseDomain(s[1:])
			return "@" + string(d), err
		}
		a, err := queue.ParseAddress(s)
		if err != nil {
			return "", errors.New("is no address (RFC 5321 4.1.2)")
		}
		return a.String(), nil
	}, asIs)
}

// passwordHash is an argon2id hash in PHC form: $argon2id$v=19$m=..,t=..,p=..$salt$hash.
func passwordHash() kind[string] {
	return optional(secret("argon2id hash", "make one with `sealpost user add`: $argon2id$v=19$m=19456,t=2,p=1$salt$hash", checkHash))
}

// scramVerifier is SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey (RFC 5803).
func scramVerifier() kind[string] {
	return optional(secret("SCRAM verifier", "make one with `sealpost user add`: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", checkSCRAM))
}

// secret is a text whose complaints do not show it: it may be a password.
func secret(word, mend string, check func(string) error) kind[string] {
	return kind[string]{word: word, write: quote,
		read: func(f *finding, n *node) (string, bool) {
			if n.shape != isText && n.shape != isLoose {
				f.report.add(n.at, f.key+" is no text", "put it in quotes")
				return "", false
			}
			if err := check(n.text); err != nil {
				f.report.add(n.at, f.key+" "+err.Error(), mend)
				return "", false
			}
			return n.text, true
		}}
}

// credentialName is what a client may send as its user name.
func credentialName() kind[string] {
	return parsed("name", "use 1 to 128 printable ASCII characters without spaces", func(s string) (string, error) {
		if len(s) > 128 {
			return "", errors.New("is too long")
		}
		for i := range len(s) {
			if s[i] <= ' ' || s[i] >= 0x7f {
				return "", errors.New("has a space or a letter that is not ASCII")
			}
		}
		return s, nil
	}, asIs)
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
	// The upper bounds keep a login from taking the machine; submission has the same.
	if passes < 1 || passes > 20 || threads < 1 || threads > 16 || memory < 8 || memory > 1<<20 {
		return fmt.Errorf("has the parameters %s, which are out of bounds", parts[3])
	}
	if salt, err := base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(salt) < 8 || len(salt) > 64 {
		return errors.New("has a salt that is not base64 of 8 to 64 octets")
	}
	if hash, err := base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(hash) < 16 || len(hash) > 64 {
		return errors.New("has a hash that is not base64 of 16 to 64 octets")
	}
	return nil
}

func checkSCRAM(s string) error {
	bad := errors.New("is no SCRAM-SHA-256 verifier")
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return bad
	}
	iterations, salt, _ := strings.Cut(parts[1], ":")
	stored, server, _ := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(iterations)
	if err != nil {
		return bad
	}
	if n < 4096 || n > 10_000_000 {
		return fmt.Errorf("has %d iterations: 4096 to 10000000 are taken (RFC 7677 4)", n)
	}
	for _, key := range []string{stored, server} {
		if b, err := base64.StdEncoding.DecodeString(key); err != nil || len(b) != 32 {
			return bad
		}
	}
	if b, err := base64.StdEncoding.DecodeString(salt); err != nil || len(b) < 8 {
		return bad
	}
	return nil
}
