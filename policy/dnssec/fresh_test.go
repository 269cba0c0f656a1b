package dnssec_test

import (
	"slices"
	"testing"

	"github.com/sealpost/sealpost/policy/dnssec"
)

// RFC 8461 5.1: what is published now is asked for past our cache, and kept.
func TestFreshTXT(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	const name = "_mta-sts.fresh.signed.example"
	z.TXT(name, "old")
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	r.TXT(t.Context(), name)
	z.Remove(name, "TXT")
	z.TXT(name, "new")
	if got := r.TXT(t.Context(), name).Records; !slices.Equal(got, []string{"old"}) {
		t.Errorf("from the cache: %q", got)
	}
	if got := r.FreshTXT(t.Context(), name).Records; !slices.Equal(got, []string{"new"}) {
		t.Errorf("fresh: %q", got)
	}
	if got := r.TXT(t.Context(), name).Records; !slices.Equal(got, []string{"new"}) || z.Count(name, "TXT") != 2 {
		t.Errorf("kept: %q after %d queries", got, z.Count(name, "TXT"))
	}
}
