package main

import (
	"context"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// rememberedHosts is the admin API's view of the book of hosts.
type rememberedHosts struct{ *lookout }

// List calls fn for what is remembered of each address family of each host.
func (r rememberedHosts) List(ctx context.Context, fn func(httpapi.RememberedHost) error) error {
	for _, e := range r.hosts.Entries() {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := httpapi.RememberedHost{Host: e.Host, Family: "ipv4", Memory: e.Memory}
		if e.IP6 {
			h.Family = "ipv6"
		}
		if err := fn(h); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops what is remembered of a host.
func (r rememberedHosts) Forget(_ context.Context, host policy.Domain) (bool, error) {
	return r.hosts.Forget(host) > 0, nil
}

// rememberedPolicies is its view of the MTA-STS policies.
type rememberedPolicies struct{ *lookout }

// List calls fn for each domain's policy.
func (r rememberedPolicies) List(ctx context.Context, fn func(httpapi.RememberedPolicy) error) error {
	if r.policies == nil {
		return nil
	}
	for _, e := range r.policies.List() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(httpapi.RememberedPolicy{Domain: e.Domain, STS: e.STS}); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops a domain's policy, and the facts that are cached with it.
func (r rememberedPolicies) Forget(_ context.Context, domain policy.Domain) (bool, error) {
	r.scout.Forget(domain)
	return r.policies != nil && r.policies.Forget(domain), nil
}
