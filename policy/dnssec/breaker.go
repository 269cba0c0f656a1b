package dnssec

import (
	"strings"
	"time"
)

// hearing is what one lookup has heard of all resolvers together: the most alive of
// what each of them did.
type hearing uint8

// The hearings, the most alive first.
const (
	answered hearing = iota // one had an answer or an absence
	spoke                   // none had, but one said something else than SERVFAIL
	failing                 // one said SERVFAIL, the others nothing
	silent                  // nobody said anything
	gone                    // nobody listens: nothing could be sent
)

// hearingOf sorts the outcome of one query to one server.
func hearingOf(outcome string) hearing {
	switch outcome {
	case "records", "no-data", "no-name":
		return answered
	case "servfail":
		return failing
	case "timeout":
		return silent
	case "unreachable":
		return gone
	default:
		return spoke
	}
}

// phase is where the breaker stands. The zero value lets everything through.
type phase uint8

const (
	flowing phase = iota // the resolver works, as far as we know
	down                 // it is down: nothing goes out but the probe
	trial                // it is down, and lookups go out all the same for a while
)

// limits of a breaker.
type limits struct {
	window  time.Duration // how far back failures count, and how long nobody may have spoken
	names   int           // that failed within it, at least
	domains int           // above them, at least
	probe   time.Duration // between two probes
	rest    time.Duration // from one trial to the next
	trial   time.Duration // how long one lasts
}

func defaultLimits() limits {
	return limits{window: 10 * time.Second, names: 5, domains: 3, probe: 3 * time.Second, rest: time.Minute, trial: 10 * time.Second}
}

// maxFailed bounds the names that are remembered: far more than are needed.
const maxFailed = 256

// breaker tells a resolver that is down from zones that are broken. It is pure: it has
// no clock and asks nobody, and it is not safe for concurrent use.
//
// Lookups alone cannot open it. When many names of several domains have failed and no
// resolver has spoken for a while, that is a suspicion; the witness then decides: the
// self-test's signed name, asked of every resolver. Whoever speaks ends it at once.
// Where the witness was never answered (a private network without the root), SERVFAIL
// counts as speaking: only silence opens it there. And where the witness fails while the
// zones that mail goes to are healthy, the trials find that out.
type breaker struct {
	limits
	phase  phase
	since  time.Time         // of the phase
	proven bool              // the witness has been answered
	spoken time.Time         // when somebody was last heard to speak
	failed map[string]lapsed // names that failed since, by name
}

// lapsed is a failure.
type lapsed struct {
	at time.Time
	h  hearing
}

// heard takes a lookup into account, and reports whether the witness is to be asked.
func (b *breaker) heard(now time.Time, name string, h hearing) (suspect bool) {
	if b.alive(h) {
		b.end(now)
		return false
	}
	b.prune(now)
	if _, known := b.failed[name]; known || len(b.failed) < maxFailed {
		if b.failed == nil {
			b.failed = map[string]lapsed{}
		}
		b.failed[name] = lapsed{now, h}
	}
	return b.phase == flowing && b.damning(now)
}

// probed takes what the witness said into account, and the time that has passed.
func (b *breaker) probed(now time.Time, h hearing) {
	b.proven = b.proven || h == answered
	switch {
	case b.alive(h):
		b.end(now)
	case b.phase == flowing && b.damning(now):
		b.phase, b.since = down, now
	case b.phase == down && now.Sub(b.since) >= b.rest:
		b.phase, b.since = trial, now
	case b.phase == trial && now.Sub(b.since) >= b.trial:
		b.phase, b.since = down, now
	}
}

// alive reports whether a resolver that is heard so is not down.
func (b *breaker) alive(h hearing) bool {
	return h <= spoke || h == failing && !b.proven
}

// end: somebody spoke.
func (b *breaker) end(now time.Time) {
	clear(b.failed)
	b.spoken = now
	if b.phase != flowing {
		b.phase, b.since = flowing, now
	}
}

// damning reports whether the failures are too many and too different to be the fault
// of zones. Where nobody even listens, that nobody spoke lately need not be waited for.
func (b *breaker) damning(now time.Time) bool {
	b.prune(now)
	if len(b.failed) < b.names {
		return false
	}
	domains, listening := map[string]bool{}, false
	for name, l := range b.failed {
		domains[registered(name)] = true
		listening = listening || l.h != gone
	}
	return len(domains) >= b.domains && (!listening || now.Sub(b.spoken) >= b.window)
}

// prune forgets failures that are too old.
func (b *breaker) prune(now time.Time) {
	for name, l := range b.failed {
		if now.Sub(l.at) > b.window {
			delete(b.failed, name)
		}
	}
}

// registered returns the last two labels of a name. For names below a suffix such as
// "co.uk." it takes many domains for one: it errs to the side of "not down".
func registered(name string) string {
	name = strings.TrimSuffix(name, ".")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[strings.LastIndexByte(name[:i], '.')+1:]
	}
	return name
}
