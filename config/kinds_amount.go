package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

type unit[N int64 | time.Duration] struct {
	word string
	of   N
}

func timeUnits() []unit[time.Duration] {
	return []unit[time.Duration]{
		{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute},
		{"s", time.Second}, {"ms", time.Millisecond},
	}
}

func sizeUnits() []unit[int64] {
	return []unit[int64]{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// quantity adds up number-unit pairs, as in "1h30m": whole numbers only.
func quantity[N int64 | time.Duration](s string, units []unit[N]) (sum N, ok bool) {
	if s == "" {
		return 0, false
	}
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		number, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil {
			return 0, false
		}
		s = strings.TrimLeft(s[digits:], " ")
		letters := len(s) - len(strings.TrimLeft(s, "BGKMTdhikmsw"))
		i := slices.IndexFunc(units, func(u unit[N]) bool { return u.word == s[:letters] })
		if i < 0 || number > math.MaxInt64/int64(units[i].of) {
			return 0, false
		}
		s = strings.TrimLeft(s[letters:], " ")
		if sum += N(number) * units[i].of; sum < 0 {
			return 0, false
		}
	}
	return sum, true
}

// duration is a time of at least low.
func duration(low time.Duration) kind[time.Duration] {
	const mend = `write numbers with units, as in "90s", "4h30m" or "5d" (w, d, h, m, s, ms)`
	return kind[time.Duration]{word: "duration", write: func(d time.Duration) string { return quote(writeDuration(d)) },
		read: func(f *finding, n *node) (time.Duration, bool) {
			if n.shape == isInteger {
				f.wrong(n, "has no unit", fmt.Sprintf(`write "%ss" if seconds are meant`, clip(n.text)))
				return 0, false
			}
			s, ok := scalarText(f, n)
			if !ok {
				return 0, false
			}
			if s == "0" {
				s = "0s"
			}
			v, ok := quantity(s, timeUnits())
			switch {
			case !ok:
				f.wrong(n, "is no duration", mend)
			case v < low:
				f.wrong(n, "is too short", fmt.Sprintf("the least is %q", writeDuration(low)))
				ok = false
			}
			return v, ok
		}}
}

func writeDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range timeUnits()[1:] { // days are plainer than weeks
		if q := d / u.of; q > 0 {
			fmt.Fprintf(&b, "%d%s", q, u.word)
			d %= u.of
		}
	}
	return b.String()
}

// size is a number of octets of at least low. A bare number is octets.
func size(low int64) kind[int64] {
	return kind[int64]{word: "size", write: func(v int64) string { return quote(writeSize(v)) },
		read: func(f *finding, n *node) (int64, bool) {
			v, ok := integer(n)
			if !ok {
				s, isText := scalarText(f, n)
				if !isText {
					return 0, false
				}
				v, ok = quantity(s, sizeUnits())
			}
			switch {
			case !ok:
				f.wrong(n, "is no size", `write a whole number with a unit, as in "25MiB" (B, KiB, MiB, GiB, kB, MB, GB)`)
			case v < low:
				f.wrong(n, "is too small", fmt.Sprintf("the least is %q", writeSize(low)))
				ok = false
			}
			return v, ok
		}}
}

func writeSize(v int64) string {
	if v == 0 {
		return "0B"
	}
	for _, u := range sizeUnits() {
		if v%u.of == 0 {
			return strconv.FormatInt(v/u.of, 10) + u.word
		}
	}
	return strconv.FormatInt(v, 10) + "B"
}

// rate is so many in a time.
func rate() kind[Rate] {
	return optional(parsed("rate", `write how many in which time, as in "200/s" (s, m, h, d)`, parseRate, Rate.String))
}

func parseRate(s string) (Rate, error) {
	bad := errors.New("is no rate")
	number, per, ok := strings.Cut(s, "/")
	if !ok {
		return Rate{}, bad
	}
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 1 || n > 1e9 {
		return Rate{}, bad
	}
	for _, u := range timeUnits()[1:5] {
		if strings.TrimSpace(per) == u.word {
			return Rate{Count: n, Per: u.of}, nil
		}
	}
	return Rate{}, bad
}
