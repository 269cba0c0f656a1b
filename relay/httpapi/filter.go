package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// parseFilter reads a filter from a query. It is strict: a filter with a typing
// mistake would match more than was meant, and drop it.
func parseFilter(q url.Values) (queue.Filter, error) {
	f := queue.Filter{ID: q.Get("id"), Domain: q.Get("domain"), Sender: q.Get("sender"), State: q.Get("state"), Reason: q.Get("reason")}
	if err := onlyKeys(q, "id", "domain", "sender", "state", "reason", "older_than", "limit"); err != nil {
		return f, err
	}
	if f.State != "" && !slices.Contains(states(), f.State) {
		return f, fmt.Errorf("state %q is unknown: use %s", f.State, strings.Join(states(), ", "))
	}
	if f.Reason != "" && !slices.ContainsFunc(policy.Reasons(), func(r policy.Reason) bool { return r.String() == f.Reason }) {
		return f, fmt.Errorf("reason %q is unknown: use a word as in the log, for example starttls-missing", f.Reason)
	}
	var err error
	if f.OlderThan, err = parseAge(q.Get("older_than")); err != nil {
		return f, err
	}
	f.Limit, err = parseLimit(q.Get("limit"))
	return f, err
}

// onlyKeys refuses unknown and repeated keys, and empty values.
func onlyKeys(q url.Values, keys ...string) error {
	for key, values := range q {
		switch {
		case !slices.Contains(keys, key):
			return fmt.Errorf("parameter %q is unknown: use %s", key, strings.Join(keys, ", "))
		case len(values) != 1:
			return fmt.Errorf("parameter %q is given %d times: give it once", key, len(values))
		case values[0] == "":
			return fmt.Errorf("parameter %q is empty: leave it out", key)
		}
	}
	return nil
}

func parseLimit(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("limit %q is no number above 0", s)
	}
	return n, nil
}

func parseTruth(s string) (bool, error) { return parseTruthOf("dry_run", s) }

func parseTruthOf(key, s string) (bool, error) {
	switch s {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	default:
		return false, fmt.Errorf("%s %q: use true or false", key, s)
	}
}

// parseAge reads a duration as in the configuration: Go's, and days ("5d").
func parseAge(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n > 100*365 {
			err = strconv.ErrRange
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("older_than %q is no time span: use for example 90m, 4h or 5d", s)
	}
	return d, nil
}
