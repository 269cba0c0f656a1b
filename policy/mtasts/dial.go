package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

const maxAddresses = 6 // of a policy host that are tried

// dial connects to the policy host: its addresses in turn, each for a bounded time and
// the last one for all that is left, until one has shown a good certificate.
func (f *Fetcher) dial(ctx context.Context, host policy.Domain) (net.Conn, error) {
	ips, err := f.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var problems []error
	for i, ip := range ips {
		c, err := f.dialOne(ctx, host, ip, share(f.o.Timeout, len(ips)-1-i))
		if err == nil {
			return c, nil
		}
		problems = append(problems, fmt.Errorf("at %s: %w", ip, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(problems...)
}

// share is how long an address may take before the next one has its turn (own: one that
// is silent costs ten seconds of the minute). Behind the last one nobody waits.
func share(all time.Duration, others int) time.Duration {
	if others == 0 {
		return all
	}
	return all / maxAddresses
}

func (f *Fetcher) dialOne(ctx context.Context, host policy.Domain, ip netip.Addr, share time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(int(f.o.Port))))
	if err != nil {
		return nil, err
	}
	// RFC 8461 7.1: SNI is the policy host's name. 3.3: the certificate is for that name
	// by DNS-ID (Go never looks at the CN), chains to a trusted root and is not expired.
	c := tls.Client(raw, &tls.Config{
		ServerName: string(host), RootCAs: f.o.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is what counts
		return nil, err
	}
	return c, nil
}

// addresses asks for the host's addresses, and leaves out where a stranger must not
// lead us (SSRF): the domain is what some sender wrote, and so are its addresses.
func (f *Fetcher) addresses(ctx context.Context, host policy.Domain) ([]netip.Addr, error) {
	var v4, v6 dnssec.Reply[netip.Addr]
	var wg sync.WaitGroup
	wg.Go(func() { v4 = f.o.Resolver.A(ctx, host) })
	wg.Go(func() { v6 = f.o.Resolver.AAAA(ctx, host) })
	wg.Wait()
	var out []netip.Addr
	refused := 0
	for i := range max(len(v4.Records), len(v6.Records)) { // the families by turns: one that is dead costs half
		for _, list := range [][]netip.Addr{v6.Records, v4.Records} {
			switch {
			case i >= len(list) || slices.Contains(out, list[i]):
			case f.refused(list[i]):
				refused++
			case len(out) < maxAddresses:
				out = append(out, list[i])
			}
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case refused > 0:
		return nil, errors.New("the host has private, loopback or our own addresses only, which are not connected to")
	case v4.Answer == policy.Unknown:
		return nil, fmt.Errorf("the host's addresses are unknown: %s", v4.Problem)
	case v6.Answer == policy.Unknown:
		return nil, fmt.Errorf("the host's IPv6 addresses are unknown, and it has no others: %s", v6.Problem)
	}
	return nil, errors.New("the host has no address")
}

// refused reports whether an address must not be connected to.
func (f *Fetcher) refused(ip netip.Addr) bool {
	if !policy.Assignable(ip) {
		return true
	}
	return !f.o.AllowPrivate && (!policy.Routable(ip) || slices.Contains(f.o.Own, ip.WithZone("")) ||
		slices.Contains(f.o.Own, policy.EmbeddedIPv4(ip)))
}
