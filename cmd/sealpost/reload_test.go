package main

import (
	"slices"
	"testing"

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
