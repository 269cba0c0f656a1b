package relay

import (
	"strings"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Bounds of a hint.
const (
	minHint    = time.Second
	maxHint    = time.Hour
	hintMargin = time.Second // clocks differ, and some hosts want to be asked later, not at once
)

// greyWords mark a reply as greylisting: it is about this sender and recipient, not
// about how much the host takes.
func greyWords() []string {
	return []string{"greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list", "postgrey", "deferred for spam check"}
}

// askWords are those by which a host asks us to come back.
func askWords() []string {
	return append(greyWords(), "retry", "try again", "again in", "come back", "wait ", "resend", "again after", "try after", "try later", "later in")
}

// hintOf is when a host wants to see this mail again, 0 when it does not say. Greylisting
// hosts say it in many ways; no standard has one: "Greylisted, try again in 300 seconds",
// "come back in 00:05:00", "greylisted for 5 minutes", "retry after 10 min".
func hintOf(r *queue.Reply) time.Duration {
	if r == nil || r.Code/100 != 4 {
		return 0
	}
	text := strings.ToLower(r.Text)
	if !containsAny(text, askWords()) {
		return 0
	}
	d := findTime(text)
	if d <= 0 {
		return 0
	}
	return min(max(d, minHint), maxHint) + hintMargin
}

// findTime returns the first time in the text: a number with a unit of time behind it,
// or hours, minutes and seconds between colons. 0 when there is none.
func findTime(text string) time.Duration {
	for i := 0; i < len(text); {
		if !digit(text[i]) {
			i++
			continue
		}
		n := i
		for n < len(text) && (digit(text[n]) || text[n] == ':') {
			n++
		}
		word, alone := text[i:n], i == 0 || !wordOctet(text[i-1])
		if alone && strings.IndexByte(word, ':') >= 0 {
			if d := clock(word); d > 0 {
				return d
			}
		} else if alone {
			if d := quantity(word, text[n:]); d > 0 {
				return d
			}
		}
		i = n
	}
	return 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// wordOctet reports whether an octet before a number makes it part of something else: an
// address, a version, a name.
func wordOctet(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c == '.' || c == '-' || c == '/' || c == '#' || c == '=' || c == '+' || c == '_' || c >= 0x80
}

// clock reads 05:00 and 00:05:00.
func clock(s string) time.Duration {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0
	}
	var d time.Duration
	for i, p := range parts {
		n, ok := small(p)
		if !ok || len(p) > 2 || i > 0 && n > 59 {
			return 0
		}
		d = d*60 + n
	}
	return d * time.Second
}

// quantity reads a number and the unit that the rest begins with.
func quantity(number, rest string) time.Duration {
	n, ok := small(number)
	if !ok {
		return 0
	}
	rest = strings.TrimLeft(rest, " ")
	end := 0
	for end < len(rest) && rest[end] >= 'a' && rest[end] <= 'z' {
		end++
	}
	switch rest[:end] {
	case "s", "sec", "secs", "second", "seconds":
		return n * time.Second
	case "m", "min", "mins", "minute", "minutes":
		return n * time.Minute
	case "h", "hr", "hrs", "hour", "hours":
		return n * time.Hour
	}
	return 0
}

// small reads a number of at most six digits.
func small(s string) (time.Duration, bool) {
	if len(s) == 0 || len(s) > 6 {
		return 0, false
	}
	n := time.Duration(0)
	for i := range len(s) {
		if !digit(s[i]) {
			return 0, false
		}
		n = n*10 + time.Duration(s[i]-'0')
	}
	return n, true
}
