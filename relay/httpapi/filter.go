package httpapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/sealpost/sealpost/queue"
)

// parseFilter reads a filter from a query. It is strict: a filter with a typing
// mistake would match more than was meant, and drop it. The keys of extra are left alone.
func parseFilter(q url.Values, extra ...string) (f queue.Filter, err error) {
	if err := onlyKeys(q, append(queue.FilterWords(), extra...)...); err != nil {
		return f, err
	}
	for key := range q {
		if slices.Contains(extra, key) {
			continue
		}
		if err := f.Set(key, q.Get(key)); err != nil {
			return f, err
		}
	}
	return f, f.Check()
}

// query writes a filter as a query; parseFilter reads it.
func query(f queue.Filter) url.Values {
	q := url.Values{}
	for key, value := range f.Words() {
		q.Set(key, value)
	}
	return q
}

// onlyKeys refuses unknown and repeated keys, and empty values.
func onlyKeys(q url.Values, keys ...string) error {
	for key, values := range q {
		switch {
		case !slices.Contains(keys, key):
			return errors.New(queue.Unknown("parameter", key, keys))
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
