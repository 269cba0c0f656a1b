package main

import (
	"context"
	"fmt"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/smtpclient"
)

// explainAlone reasons without a running relay: the same rooms, opened for one question.
func explainAlone(ctx context.Context, cfg *config.Config, q relay.Inquiry) (relay.Explanation, error) {
	l, err := openLookout(cfg, lookoutOptions{})
	if err != nil {
		return relay.Explanation{}, err
	}
	defer func() { _ = l.close() }() // nothing is written
	client, err := clientOptions(cfg)
	if err != nil {
		return relay.Explanation{}, err
	}
	pool := smtpclient.New(client)
	defer pool.Close()
	courier := relay.NewCourier(relay.Options{
		Scout: l.scout, Opener: pool, Rules: func() *policy.Ruleset { return &cfg.Policy.Ruleset },
	})
	return courier.Explain(ctx, q)
}

// account puts the floor of the credential into an inquiry.
func account(cfg *config.Config, q *relay.Inquiry) error {
	if q.Credential == "" {
		return nil
	}
	own, _, err := ownCredentials(cfg)
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
