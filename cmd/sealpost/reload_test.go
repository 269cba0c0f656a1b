package main

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/config"
)

// What is looked up is settled at the start: switching a promise off or on by a reload is
// named, and not obeyed by half until then. All else of the policy is in force at once.
func TestReloadOfPromises(t *testing.T) {
	t.Parallel()
	parse := func(text string) *config.Config {
		c, err := config.Parse("test.toml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old, next := parse(""), parse("[policy]\ndane = false\nmta_sts = false\ninsecure_mx_dane = false\nfloor = \"verified\"\n[[policy.rule]]\nmatch.domain = [\"a.example\"]\n")
	if got, want := needRestart(old, next), []string{"policy.dane", "policy.mta_sts"}; !slices.Equal(got, want) {
		t.Errorf("needs a restart: %v, want %v", got, want)
	}
	kept := keepRestart(old, next)
	if r := &kept.Policy.Ruleset; !r.DANE || !r.MTASTS || r.InsecureMXDANE || r.Default.Floor != next.Policy.Ruleset.Default.Floor || len(r.Rules) != 1 {
		t.Errorf("kept %+v", kept.Policy.Ruleset)
	}
	if got := needRestart(kept, next); len(got) != 2 {
		t.Errorf("the next reload forgets what needs a restart: %v", got)
	}
	if next.Policy.Ruleset.DANE {
		t.Error("the new configuration was changed")
	}
}

// Limits on hosts and providers are taken over without a restart; a change of something
// else in [delivery] beside them is named.
func TestReloadOfLimits(t *testing.T) {
	t.Parallel()
	old := config.Default()
	next := *old
	next.Delivery.ConnectionsPerHost, next.Delivery.MessagesPerConnection = 3, 4
	next.Delivery.RatePerHost = config.Rate{Count: 5, Per: time.Second}
	next.Delivery.Providers = []config.Provider{{Match: []string{".google.com"}, Connections: 30}}
	if list := needRestart(old, &next); len(list) != 0 {
		t.Errorf("%q need a restart", list)
	}
	if kept := keepRestart(old, &next); !reflect.DeepEqual(kept.Delivery, next.Delivery) {
		t.Errorf("%+v is in force, want %+v", kept.Delivery, next.Delivery)
	}
	l := throttleLimits(&next.Delivery)
	if l.Connections != 3 || l.Messages != 4 || l.Rate != 5 || len(l.Providers) != 1 || l.Providers[0].Connections != 30 || retryOptions(&next).PerLane != 30*(next.Delivery.MessagesInFlight+1) {
		t.Errorf("%+v", l)
	}
	next.Delivery.Port = 26
	if list := needRestart(old, &next); len(list) != 1 || keepRestart(old, &next).Delivery.Port != 25 {
		t.Errorf("%q need a restart after a change of the port", list)
	}
}
