package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Limits on hosts and providers, and what cannot be meant.
func TestProviders(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
[delivery]
rate_per_host = "20/s"
[[delivery.provider]]
match = [".google.com", "mx.one.example"]
connections = 5
rate = "100/m"
`)
	d := &c.Delivery
	if d.RatePerHost != (Rate{20, time.Second}) || len(d.Providers) != 1 {
		t.Fatalf("%+v", d)
	}
	if p := d.Providers[0]; !slices.Equal(p.Match, []string{".google.com", "mx.one.example"}) || p.Connections != 5 || p.MessagesPerConnection != 0 || p.Rate != (Rate{100, time.Minute}) {
		t.Errorf("%+v", p)
	}
	for text, want := range map[string]string{
		"[[delivery.provider]]\nconnections = 5\n":                                                         "the provider names no hosts",
		"[[delivery.provider]]\nmatch = [\".a.example\"]\n[[delivery.provider]]\nmatch = [\".a.example\"]": `a provider with ".a.example" is there already`,
		"[[delivery.provider]]\nmatch = [\"*.a.example\"]\n":                                               `has a star`,
		"[delivery]\nrate_per_host = \"fast\"\n":                                                           "is no rate",
		"[[delivery.provider]]\nmatch = [\".a.example\"]\nconections = 5\n":                                `did you mean`,
	} {
		_, err := Parse("test.toml", []byte(text), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
