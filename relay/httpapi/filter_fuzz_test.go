package httpapi

import (
	"net/url"
	"testing"
)

// FuzzFilter: what parses, prints and parses again to the same filter.
func FuzzFilter(f *testing.F) {
	f.Add("id=01M&domain=example.net&sender=a@b&state=held&reason=null-mx&older_than=5d&limit=3")
	f.Add("older_than=1h30m")
	f.Add("state=held&state=held")
	f.Add("limit=-1&older_than=999999999d")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		first, err := parseFilter(q)
		if err != nil {
			return
		}
		if first.OlderThan < 0 || first.Limit < 0 {
			t.Errorf("%q: %+v", raw, first)
		}
		again, err := parseFilter(query(first))
		if err != nil || again != first {
			t.Errorf("%+v became %+v, %v", first, again, err)
		}
	})
}
