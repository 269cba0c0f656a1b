package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/mtasts"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/metrics"
	"github.com/sealpost/sealpost/relay/smtpclient"
	"github.com/sealpost/sealpost/relay/submission"
)

// This file translates the configuration into the options of each room.

func metricsOptions(cfg *config.Config, log *slog.Logger) metrics.Options {
	o := metrics.Options{Version: version(), Revision: revision(), Logger: log}
	for i := range cfg.Submission {
		o.Labels.Listeners = append(o.Labels.Listeners, cfg.Submission[i].Listen)
	}
	o.Labels.Rejections = submission.Reasons()
	o.Labels.Mechanisms = submission.Mechanisms()
	o.Labels.AuthResults = submission.AuthResults()
	return o
}

// retryOptions are those of the queue that a reload can change.
func retryOptions(cfg *config.Config) queue.Options {
	o := queue.Options{
		Schedule: cfg.Retry.Schedule, GiveUp: cfg.Retry.GiveUp, WarnAfter: cfg.Retry.WarnAfter,
		// For each connection those in flight, and one that follows.
		PerLane: cfg.Delivery.ConnectionsPerHost * (cfg.Delivery.MessagesInFlight + 1),
	}
	for i := range cfg.Delivery.Providers { // a lane may be for a provider that gets more
		o.PerLane = max(o.PerLane, cfg.Delivery.Providers[i].Connections*(cfg.Delivery.MessagesInFlight+1))
	}
	return o
}

func resolverOptions(cfg *config.Config) dnssec.Options {
	o := dnssec.Options{
		Selftest: dnssec.Selftest{Signed: cfg.DNS.Selftest.Signed, Bogus: cfg.DNS.Selftest.Bogus},
	}
	for _, r := range cfg.DNS.Resolvers {
		o.Servers = append(o.Servers, r.String())
	}
	switch cfg.DNS.TrustAD {
	case config.TrustAlways:
		o.TrustAD = dnssec.TrustAlways
	case config.TrustNever:
		o.TrustAD = dnssec.TrustNever
	default:
		o.TrustAD = dnssec.TrustAuto
	}
	return o
}

func scoutOptions(cfg *config.Config, r *dnssec.Resolver) (discover.Options, error) {
	o := discover.Options{
		Resolver: r, AllowPrivate: cfg.Delivery.AllowPrivate, RelayHost: cfg.Delivery.RelayHost,
		Port: uint16(cfg.Delivery.Port), NoTLSA: !cfg.Policy.Ruleset.DANE,
	}
	if d, err := policy.ParseDomain(cfg.Server.Hostname); err == nil {
		o.Names = append(o.Names, d)
	}
	var err error
	if o.Addrs, err = discover.LocalAddrs(); err != nil {
		return o, err
	}
	for i := range cfg.Submission {
		if a, err := netip.ParseAddrPort(cfg.Submission[i].Listen); err == nil {
			o.Listeners = append(o.Listeners, a)
		}
	}
	return o, nil
}

// fetchOptions say how MTA-STS policies are fetched.
func fetchOptions(cfg *config.Config, r *dnssec.Resolver, own []netip.Addr) (mtasts.FetchOptions, error) {
	roots, err := trustedRoots(&cfg.Delivery)
	return mtasts.FetchOptions{Resolver: r, Roots: roots, AllowPrivate: cfg.Delivery.AllowPrivate, Own: own}, err
}

func clientOptions(cfg *config.Config) (smtpclient.Options, error) {
	d := &cfg.Delivery
	roots, err := trustedRoots(d)
	return smtpclient.Options{
		Hostname: cfg.Server.Hostname, Roots: roots,
		Timeouts: smtpclient.Timeouts{
			Connect: d.Timeouts.Connect, Greeting: d.Timeouts.Greeting, Command: d.Timeouts.Command,
			TLS: d.Timeouts.TLS, Data: d.Timeouts.Data,
		},
		BindIPv4: d.BindIPv4, BindIPv6: d.BindIPv6,
		ConnectionsPerHost: d.ConnectionsPerHost, MessagesPerConnection: d.MessagesPerConnection,
		Window: d.MessagesInFlight,
	}, err
}

// throttleLimits are the limits on hosts and providers, which a reload can change.
func throttleLimits(d *config.Delivery) relay.Limits {
	l := relay.Limits{Connections: d.ConnectionsPerHost, Messages: d.MessagesPerConnection, Rate: d.RatePerHost.PerSecond()}
	for _, p := range d.Providers {
		l.Providers = append(l.Providers, relay.Provider{
			Match: p.Match, Connections: p.Connections, Messages: p.MessagesPerConnection, Rate: p.Rate.PerSecond(),
		})
	}
	return l
}

// trustedRoots are the WebPKI roots: the system's, with delivery.ca_file added or
// in their place. nil means the system's.
func trustedRoots(d *config.Delivery) (*x509.CertPool, error) {
	if d.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(d.CAFile)
	if err != nil {
		return nil, fmt.Errorf("delivery.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !d.CAFileOnly {
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("the system's certificate authorities: %w", err)
		}
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("delivery.ca_file: %s holds no certificate in PEM", d.CAFile)
	}
	return roots, nil
}

func submissionOptions(cfg *config.Config) submission.Options {
	o := submission.Options{Hostname: cfg.Server.Hostname}
	for i := range cfg.Submission {
		c := &cfg.Submission[i]
		l := submission.Listener{
			Name: c.Listen, Addr: c.Listen, CertFile: c.CertFile, KeyFile: c.KeyFile,
			RequireAuth: c.RequireAuth, TrustedNetworks: c.TrustedNetworks, ProxyProtocolFrom: c.ProxyProtocolFrom,
			MaxMessageBytes: c.MaxMessageBytes, MaxRecipients: c.MaxRecipients,
		}
		switch c.TLS {
		case config.STARTTLS:
			l.TLS = submission.TLSStart
		case config.Implicit:
			l.TLS = submission.TLSImplicit
		default:
			l.TLS = submission.TLSNone
		}
		o.Listeners = append(o.Listeners, l)
	}
	return o
}

// readToken reads the admin token; a file that is empty would be an open door.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("http.admin_token_file: %w", err)
	}
	if b = bytes.TrimSpace(b); len(b) < 16 {
		return "", fmt.Errorf("http.admin_token_file: %s holds %d octets: a token needs 16 at least", path, len(b))
	}
	return string(b), nil
}
