package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/memory"
	"github.com/sealpost/sealpost/policy/mtasts"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay/metrics"
)

// lookout is everything that learns of domains and hosts, joined: the relay has one, and
// a lone `sealpost explain` another, so that both learn in the same way.
type lookout struct {
	resolver *dnssec.Resolver
	policies *mtasts.Cache // nil: MTA-STS is switched off
	hosts    *memory.Book
	scout    *discover.Scout
}

// lookoutOptions are what a lookout is joined with beside the configuration.
type lookoutOptions struct {
	log     *slog.Logger   // nil: discard
	facts   *metrics.Facts // nil: nobody counts
	store   queue.Store    // keeps what is remembered; nil: nobody does
	stsPort uint16         // of MTA-STS policy hosts; 0: 443
	stsWait time.Duration  // of a delivery for a policy that is being fetched; 0: the ordinary
}

// openLookout makes a lookout with what the store remembers. It is closed by the caller,
// who also runs hosts and policies, or does without.
func openLookout(cfg *config.Config, with lookoutOptions) (l *lookout, err error) {
	made := &lookout{}
	defer func() {
		if err != nil {
			_ = made.close() // err says more
		}
	}()
	ro := resolverOptions(cfg)
	ro.Logger = with.log
	if with.facts != nil {
		ro.Observer = with.facts
	}
	if made.resolver, err = dnssec.New(ro); err != nil {
		return nil, err
	}
	o, err := scoutOptions(cfg, made.resolver)
	if err != nil {
		return nil, err
	}
	o.Logger = with.log
	if with.facts != nil {
		o.Observer = with.facts
	}
	if err = made.remember(cfg, &o, with); err != nil {
		return nil, err
	}
	if made.scout, err = discover.New(o); err != nil {
		return nil, err
	}
	return made, nil
}

// remember opens what is remembered of hosts and of MTA-STS policies, for the scout.
func (l *lookout) remember(cfg *config.Config, o *discover.Options, with lookoutOptions) error {
	ctx := context.Background() // it only reads the store
	hosts, policies := memory.Options{Logger: with.log}, mtasts.Options{Resolver: l.resolver, FetchWait: with.stsWait, Logger: with.log}
	if with.facts != nil {
		policies.Observer = with.facts
	}
	if with.store != nil {
		hosts.Shelf, policies.Shelf = shelf{with.store, hostsShelf}, shelf{with.store, stsShelf}
	}
	l.hosts = memory.New(hosts)
	if err := l.hosts.Load(ctx); err != nil {
		return err
	}
	o.Memory = l.hosts
	if !cfg.Policy.Ruleset.MTASTS {
		return nil
	}
	fo, err := fetchOptions(cfg, l.resolver, o.Addrs)
	if err != nil {
		return err
	}
	fo.Port = with.stsPort
	fetcher, err := mtasts.NewFetcher(fo)
	if err != nil {
		return err
	}
	policies.Fetch = fetcher.Fetch
	if l.policies, err = mtasts.Open(ctx, policies); err != nil {
		return err
	}
	o.MTASTS = l.policies
	return nil
}

// close ends lookups and fetches.
func (l *lookout) close() error {
	var errs []error
	if l.policies != nil {
		errs = append(errs, l.policies.Close())
	}
	if l.resolver != nil {
		errs = append(errs, l.resolver.Close())
	}
	return errors.Join(errs...)
}
