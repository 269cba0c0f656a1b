package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// internet is a private internet on loopback: signed DNS, a certificate authority,
// mail exchangers of every kind. The demo and the scenarios deliver into it.
type internet struct {
	zones *policytest.Zones
	ca    *policytest.CA
	farm  *relaytest.Farm
	web   *policytest.STSHost // MTA-STS policies
}

// exchanger is one mail exchanger of a domain.
type exchanger struct {
	domain     string
	preference uint16
	host       string         // its name, "mx1.modern.example"
	kind       relaytest.Kind // what it does
	tlsa       bool           // publish a 3 1 1 record of its certificate
}

// openInternet starts DNS and hosts. Close it.
func openInternet(ctx context.Context, list []exchanger) (*internet, error) {
	n := &internet{zones: policytest.NewZones(), ca: policytest.NewCA()}
	certs := make([]tls.Certificate, len(list))
	behaviours := make([]relaytest.Behaviour, len(list))
	for i, x := range list {
		certs[i] = n.certificate(x.host, x.kind.Certificate)
		behaviours[i] = x.kind.Behaviour(certs[i])
		behaviours[i].Name = x.host
	}
	var err error
	if n.farm, err = relaytest.StartFarm(behaviours); err != nil {
		return nil, err
	}
	for i, x := range list {
		n.zones.MX(x.domain, x.preference, x.host)
		n.zones.A(x.host, n.farm.Hosts[i].Addr().Addr().String())
		if x.tlsa {
			n.zones.TLSA(x.host, n.farm.Port, policytest.TLSA(certs[i].Leaf, 3, 1, 1))
		}
	}
	if n.web, err = policytest.StartSTS(ctx, n.ca); err != nil {
		return nil, errors.Join(err, n.farm.Close())
	}
	if err := n.zones.Start(ctx); err != nil {
		return nil, errors.Join(err, n.farm.Close(), n.web.Close())
	}
	return n, nil
}

// publish announces an MTA-STS policy for a domain under an id (RFC 8461 3.1, 3.2).
func (n *internet) publish(domain, id, policy string) {
	n.zones.Remove("_mta-sts."+domain, "TXT")
	n.zones.TXT("_mta-sts."+domain, "v=STSv1; id="+id+";")
	n.zones.A("mta-sts."+domain, n.web.Addr().Addr().String())
	n.web.Set(domain, policy)
}

// stsPolicy is the text of a policy.
func stsPolicy(mode string, patterns ...string) string {
	text := "version: STSv1\r\nmode: " + mode + "\r\n"
	for _, p := range patterns {
		text += "mx: " + p + "\r\n"
	}
	return text + "max_age: 604800\r\n"
}

// certificate issues what a kind of host must be given.
func (n *internet) certificate(host string, c relaytest.Certificate) tls.Certificate {
	o := policytest.LeafOptions{Names: []string{host}}
	switch c {
	case relaytest.SelfSigned:
		o.SelfSigned = true
	case relaytest.Expired:
		o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	case relaytest.WrongName:
		o.Names = []string{"www.other.example"}
	case relaytest.TrustedRSA:
		o.Key = policytest.RSA2048
	}
	return n.ca.Leaf(o)
}

// close ends hosts and DNS.
func (n *internet) close() error { return errors.Join(n.farm.Close(), n.zones.Close(), n.web.Close()) }

// configure writes the configuration of a relay that lives in this internet, with
// its data in dir. more is added at the end.
func (n *internet) configure(dir, submission, http, more string) (string, error) {
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, n.ca.PEM(), 0o600); err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"DIR", dir, "SUBMISSION", submission, "HTTP", http, "RESOLVER", n.zones.Addr(), "CA", ca, "PORT", fmt.Sprint(n.farm.Port),
	).Replace(`
[server]
hostname = "relay.shop.example"
data_dir = "DIR"

[[submission]]
listen = "SUBMISSION"

[http]
listen = "HTTP"

[dns]
resolvers = ["RESOLVER"]

[delivery]
port = PORT
allow_private = true                   # the hosts of this internet are on loopback
ca_file = "CA"
ca_file_only = true
timeouts = { connect = "2s", greeting = "5s", command = "5s", tls = "2s", data = "10s" }

[queue]
min_free = "1MiB"
`) + more, nil
}
