package dnssec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/policy"
)

// Server is one recursive resolver to ask.
type Server struct {
	Addr netip.AddrPort
	// Name is the name that its certificate must have; empty: plain DNS, not TLS.
	Name policy.Domain
}

// String writes the server as ParseServer reads it.
func (s Server) String() string {
	if s.Name == "" {
		return s.Addr.String()
	}
	return "tls://" + s.Addr.String() + "#" + string(s.Name)
}

// ParseServer reads "127.0.0.1:53", "[::1]:53" (the port may be left out), or
// "tls://1.1.1.1#name" for DNS over TLS, port 853 by default, where name is what
// the server's certificate must show (RFC 8310 5: without a name there is nothing to
// verify). Names in place of addresses are refused: who would resolve them?
func ParseServer(s string) (Server, error) {
	rest, overTLS := strings.CutPrefix(s, "tls://")
	port := uint16(53)
	var out Server
	if overTLS {
		port = 853
		addr, name, found := strings.Cut(rest, "#")
		if !found {
			return Server{}, fmt.Errorf("resolver %q: name the server's certificate, as in tls://1.1.1.1#cloudflare-dns.com", s)
		}
		d, err := policy.ParseDomain(name)
		if err != nil {
			return Server{}, fmt.Errorf("resolver %q: the name behind #: %w", s, err)
		}
		rest, out.Name = addr, d
	} else if scheme, _, found := strings.Cut(s, "://"); found {
		return Server{}, fmt.Errorf("resolver %q: %s:// is not known: use an IP address, or tls:// for DNS over TLS", s, scheme)
	}
	addr, err := parseAddrPort(rest, port)
	if err != nil {
		return Server{}, fmt.Errorf("resolver %q: %w", s, err)
	}
	out.Addr = addr
	return out, nil
}

func parseAddrPort(s string, port uint16) (netip.AddrPort, error) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil && (bare == s || ip.Is6()) {
		return usable(netip.AddrPortFrom(ip, port))
	}
	if host, p, ok := splitPort(s); ok {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return netip.AddrPort{}, fmt.Errorf("port %q is no number from 1 to 65535", p)
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is no IP address: use an address, not a name", host)
		}
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, errors.New(`use an IP address with or without a port, as in "127.0.0.1:53" or "[::1]:53"`)
	}
	return usable(ap)
}

// splitPort cuts at the last colon, brackets taken off.
func splitPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(s[:i], "["), "]"), s[i+1:], true
}

func usable(ap netip.AddrPort) (netip.AddrPort, error) {
	ip := ap.Addr().Unmap()
	switch {
	case ap.Port() == 0:
		return netip.AddrPort{}, errors.New("port 0 cannot be asked")
	case ip.IsUnspecified():
		return netip.AddrPort{}, errors.New("the unspecified address is nobody's: use 127.0.0.1 or ::1")
	case ip.IsMulticast():
		return netip.AddrPort{}, errors.New("a multicast address cannot be trusted to answer")
	}
	return netip.AddrPortFrom(ip, ap.Port()), nil
}

// local is the resolver of last resort: the one that deploy/ puts on loopback.
func local() Server {
	return Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
}

// systemServers reads the nameserver lines of resolv.conf. Options such as timeout
// are left alone: they are made for programs that have no deadline of their own.
// Without the file or without a nameserver: 127.0.0.1:53, as resolv.conf(5) has it.
func systemServers(path string) ([]Server, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []Server{local()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the system's resolvers: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	servers, err := parseResolvConf(f)
	if err != nil {
		return nil, fmt.Errorf("reading the system's resolvers: %s: %w", path, err)
	}
	if len(servers) == 0 {
		return []Server{local()}, nil
	}
	return servers, nil
}

// parseResolvConf returns the nameservers that can be used. Lines that make no
// sense are passed over, as every libc does.
func parseResolvConf(r io.Reader) ([]Server, error) {
	var out []Server
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		ip, err := netip.ParseAddr(fields[1])
		if err != nil {
			continue
		}
		if ip.IsUnspecified() { // resolv.conf's way to say "this machine"
			ip = local().Addr.Addr()
		}
		ap, err := usable(netip.AddrPortFrom(ip, 53))
		if err != nil {
			continue
		}
		out = append(out, Server{Addr: ap})
	}
	return out, lines.Err()
}
