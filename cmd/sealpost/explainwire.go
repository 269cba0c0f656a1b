package main

import (
	"context"
	"fmt"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/smtpclient"
)

// scouting is what a scout is joined with beside the configuration: a relay has more of
// it than a lone `sealpost explain`.
type scouting struct {
	resolver dnssec.Options   // Logger and Observer count
	scout    discover.Options // Logger and Observer count
}

// openScout makes the scout and its resolver, for the relay and for `sealpost explain`
// alike, so that both learn of a domain in the same way. The caller closes the resolver.
func openScout(cfg *config.Config, with scouting) (*dnssec.Resolver, *discover.Scout, error) {
	ro := resolverOptions(cfg)
	ro.Logger, ro.Observer = with.resolver.Logger, with.resolver.Observer
	resolver, err := dnssec.New(ro)
	if err != nil {
		return nil, nil, err
	}
	o, err := scoutOptions(cfg, resolver)
	if err == nil {
		var scout *discover.Scout
		o.Logger, o.Observer = with.scout.Logger, with.scout.Observer
		if scout, err = discover.New(o); err == nil {
			return resolver, scout, nil
		}
	}
	_ = resolver.Close() // err says more
	return nil, nil, err
}

// explainAlone reasons without a running relay: the same rooms, opened for one question.
func explainAlone(ctx context.Context, cfg *config.Config, q relay.Inquiry) (relay.Explanation, error) {
	resolver, scout, err := openScout(cfg, scouting{})
	if err != nil {
		return relay.Explanation{}, err
	}
	defer func() { _ = resolver.Close() }() // nothing is written
	client, err := clientOptions(cfg)
	if err != nil {
		return relay.Explanation{}, err
	}
	pool := smtpclient.New(client)
	defer pool.Close()
	courier := relay.NewCourier(relay.Options{
		Scout: scout, Opener: pool, Rules: func() *policy.Ruleset { return &cfg.Policy.Ruleset },
	})
	return courier.Explain(ctx, q)
}

// account puts the floor of the credential into an inquiry.
func account(cfg *config.Config, q *relay.Inquiry) error {
	if q.Credential == "" {
		return nil
	}
	own, err := ownCredentials(cfg)
	if err != nil {
		return err
	}
	for _, list := range [][]config.Credential{cfg.Credentials, own} {
		for i := range list {
			if list[i].Name == q.Credential {
				q.Account = list[i].Floor
				return nil
			}
		}
	}
	return fmt.Errorf("no credential is called %q: `sealpost user list` names them", q.Credential)
}
