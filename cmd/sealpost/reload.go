package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// setRules puts a configuration's ruleset in force: deliveries that are decided from
// now on follow it.
func (h *house) setRules(cfg *config.Config) {
	r := cfg.Policy.Ruleset
	r.Index()
	h.rules.Store(&r)
}

// reload puts a new configuration in force, as far as that goes without a restart;
// what does not is named.
func (h *house) reload(cfg *config.Config) {
	old := h.cfg.Load()
	if err := h.applyCredentials(cfg); err != nil {
		h.log.Error("reload refused, the old configuration stays", "problem", err.Error())
		return
	}
	retry := retryOptions(cfg)
	retry.Store = h.store
	if err := h.queue.Retune(retry); err != nil {
		h.log.Error("reload refused, the old configuration stays", "problem", err.Error())
		return
	}
	for _, what := range needRestart(old, cfg) {
		h.log.Warn("this change takes effect at the next start", "key", what)
	}
	kept := keepRestart(old, cfg)
	h.setRules(kept)
	h.throttle.Retune(throttleLimits(&cfg.Delivery))
	h.space.setMinimum(cfg.Queue.MinFree)
	h.dock.Reload()
	if old.Delivery.Paused != cfg.Delivery.Paused {
		h.paused <- cfg.Delivery.Paused
	}
	h.cfg.Store(kept)
	h.metrics.Reloaded(time.Now())
	h.log.Info("configuration reloaded")
	h.noteConfig("reload", "signal")
}

// noteConfig has the journal keep that a configuration came into force, and which promises of
// domains it sets aside.
func (h *house) noteConfig(verb, by string) {
	notes := overridesInForce(h.rules.Load(), time.Now())
	if err := h.queue.Note(context.Background(), queue.OperatorAction{Verb: verb, By: by, Notes: notes}); err != nil {
		h.log.Error("the journal does not have the configuration's change", "verb", verb, "error", err)
	}
}

// overridesInForce are the rules that set a domain's promise aside now.
func overridesInForce(r *policy.Ruleset, now time.Time) (notes []string) {
	for i := range r.Rules {
		if x := &r.Rules[i]; x.Ignore != 0 && now.Before(x.Expires) {
			notes = append(notes, fmt.Sprintf("%s ignores %s of %s until %s: %s", x.Name, x.Ignore, strings.Join(x.Match.Domains, ", "), onDate(x.Expires), x.Reason))
		}
	}
	return notes
}

// restartKeys are the parts of a configuration that are read at the start only.
func restartKeys() map[string]func(*config.Config) any {
	return map[string]func(*config.Config) any{
		"server.hostname": func(c *config.Config) any { return c.Server.Hostname },
		"server.data_dir": func(c *config.Config) any { return c.Server.DataDir },
		"submission":      func(c *config.Config) any { return c.Submission },
		"http":            func(c *config.Config) any { return c.HTTP },
		"dns":             func(c *config.Config) any { return c.DNS },
		"delivery": func(c *config.Config) any {
			d := c.Delivery
			d.Paused = false
			d.ConnectionsPerHost, d.MessagesPerConnection, d.RatePerHost, d.Providers = 0, 0, config.Rate{}, nil
			return d
		},
		"queue": func(c *config.Config) any {
			q := c.Queue
			q.MinFree = 0
			return q
		},
		// What nobody looks up is not to be obeyed either, and the other way round.
		"policy.dane":    func(c *config.Config) any { return c.Policy.Ruleset.DANE },
		"policy.mta_sts": func(c *config.Config) any { return c.Policy.Ruleset.MTASTS },
	}
}

// needRestart names what differs and cannot be changed while the relay runs.
func needRestart(old, next *config.Config) []string {
	var list []string
	for name, part := range restartKeys() {
		if !reflect.DeepEqual(part(old), part(next)) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// keepRestart is the new configuration with the parts that are read at the start as
// they really are: the next reload is compared with what runs.
func keepRestart(old, next *config.Config) *config.Config {
	c := *next
	free, d := next.Queue.MinFree, old.Delivery
	d.Paused, d.ConnectionsPerHost, d.MessagesPerConnection = next.Delivery.Paused, next.Delivery.ConnectionsPerHost, next.Delivery.MessagesPerConnection
	d.RatePerHost, d.Providers = next.Delivery.RatePerHost, next.Delivery.Providers
	c.Server.DataDir, c.Server.Hostname = old.Server.DataDir, old.Server.Hostname
	c.Submission, c.HTTP, c.DNS, c.Delivery, c.Queue = old.Submission, old.HTTP, old.DNS, d, old.Queue
	c.Queue.MinFree = free
	c.Policy.Ruleset.DANE, c.Policy.Ruleset.MTASTS = old.Policy.Ruleset.DANE, old.Policy.Ruleset.MTASTS
	return &c
}
