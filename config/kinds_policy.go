package config

import (
	"errors"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// promises is a list of what a domain can promise.
func promises() kind[policy.Promise] {
	words := list(oneOf(policy.PromiseDANE.String(), policy.PromiseMTASTS.String()))
	return kind[policy.Promise]{word: words.word,
		write: func(p policy.Promise) string {
			var set []string
			for _, one := range [...]policy.Promise{policy.PromiseDANE, policy.PromiseMTASTS} {
				if p&one != 0 {
					set = append(set, one.String())
				}
			}
			return words.write(set)
		},
		read: func(f *finding, n *node) (all policy.Promise, ok bool) {
			set, ok := words.read(f, n)
			for _, word := range set {
				var one policy.Promise
				if one.UnmarshalText([]byte(word)) == nil && word != "" {
					all |= one
				}
			}
			return all, ok
		}}
}

// date is a time until which something holds. A date alone is the end of that day in UTC.
func date() kind[time.Time] {
	const mend = `write a date, as in 2027-01-31, or a date with a time and its zone, as in 2027-01-31T18:00:00Z`
	k := kind[time.Time]{word: "date", write: writeDate,
		read: func(f *finding, n *node) (time.Time, bool) {
			v, err := parseDate(n.text) // a list or a table has no text
			if err != nil {
				f.wrong(n, err.Error(), mend)
			}
			return v, err == nil
		}}
	return optional(k)
}

// parseDate reads what TOML writes (RFC 3339, a space in place of the T, no zone: UTC).
func parseDate(s string) (time.Time, error) {
	if v, err := time.Parse(time.DateOnly, s); err == nil {
		return sane(v.AddDate(0, 0, 1))
	}
	s = strings.ToUpper(strings.Replace(s, " ", "T", 1))
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04"} {
		if v, err := time.Parse(layout, s); err == nil {
			return sane(v.UTC())
		}
	}
	return time.Time{}, errors.New("is no date")
}

// sane refuses years that nobody means.
func sane(v time.Time) (time.Time, error) {
	if y := v.Year(); y < 2000 || y > 9000 {
		return time.Time{}, errors.New("is in no year that can be meant")
	}
	return v, nil
}

// writeDate writes midnight as the day before: what holds to its end.
func writeDate(v time.Time) string {
	switch {
	case v.IsZero():
		return quote("")
	case v.Equal(v.Truncate(24 * time.Hour)):
		return v.AddDate(0, 0, -1).Format(time.DateOnly)
	default:
		return v.Format(time.RFC3339Nano)
	}
}
