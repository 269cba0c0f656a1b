package policy

import (
	"fmt"
	"strings"
)

// Level says how well protected a delivery is, or must be. The numeric order is
// the order of strength, so levels are compared with < and >=.
//
// The zero value, Unset, is below everything: a floor that nobody set is reached
// only because Unset satisfies nothing (see [Floor.Reached]), never by accident.
type Level uint8

// The levels, weakest first.
const (
	Unset     Level = iota
	Plaintext       // no encryption
	Legacy          // TLS 1.0 or 1.1, or a weak suite; nobody vouches for the peer
	Encrypted       // TLS 1.2 or better; nobody vouches for the peer
	Verified        // TLS 1.2 or better; the peer proved its name (WebPKI, or TLSA behind an insecure MX)
	MTASTS          // TLS 1.2 or better; route and name vouched for by an enforced MTA-STS policy (RFC 8461)
	DANE            // TLS 1.2 or better; route by DNSSEC, peer by TLSA (RFC 7672)
)

// levelNames is the one table of level words; configuration, JSON, logs and
// metric labels all use them.
func levelNames() []string {
	return []string{"unset", "plaintext", "legacy", "encrypted", "verified", "mta-sts", "dane"}
}

// Levels returns every real level, weakest first.
func Levels() []Level { return []Level{Plaintext, Legacy, Encrypted, Verified, MTASTS, DANE} }

// String returns the level's word.
func (l Level) String() string { return enumName(levelNames(), l) }

// MarshalText writes the level's word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the level's word.
func (l *Level) UnmarshalText(b []byte) (err error) {
	*l, err = unmarshalEnum[Level]("level", levelNames(), string(b))
	return err
}

// ParseLevel reads a level's word. "unset" is not accepted: nobody may ask for nothing.
func ParseLevel(s string) (Level, error) {
	return parseEnum[Level]("level", levelNames(), s)
}

// Needs are requirements beside the level (policy: "a floor is a level plus needs").
type Needs uint8

// The needs.
const (
	// NeedRoute wants an authenticated route to the host (RFC 8689 4.2.1).
	NeedRoute Needs = 1 << iota
	// NeedRequireTLS wants the REQUIRETLS keyword in the EHLO after TLS (RFC 8689 4.2.1).
	NeedRequireTLS
	// NeedTLSA wants the peer proven by TLSA and nothing else (RFC 7672 2.2.1, RFC 8461 2).
	NeedTLSA
)

// Floor is the least acceptable protection: a level plus needs.
type Floor struct {
	Level Level `json:"level"`
	Needs Needs `json:"needs,omitempty"`
}

// Raise returns the floor that satisfies both f and g. Needs add up.
func (f Floor) Raise(g Floor) Floor {
	return Floor{Level: max(f.Level, g.Level), Needs: f.Needs | g.Needs}
}

// String returns the level's word and the needs, as in "verified+route+requiretls".
func (f Floor) String() string {
	s := f.Level.String()
	if f.Needs&NeedRoute != 0 {
		s += "+route"
	}
	if f.Needs&NeedRequireTLS != 0 {
		s += "+requiretls"
	}
	if f.Needs&NeedTLSA != 0 && f.Level != DANE {
		s += "+tlsa"
	}
	return s
}

// Basis says who set a floor. It is a metric label and a log word.
type Basis uint8

// The bases.
const (
	BasisUnset Basis = iota
	BasisDefault
	BasisRule
	BasisCredential
	BasisMessage
	BasisMTASTS
	BasisDANE
	BasisHold
)

func basisNames() []string {
	return []string{"unset", "default", "rule", "credential", "message", "mta-sts", "dane", "hold"}
}

// Bases returns every real basis.
func Bases() []Basis {
	return []Basis{BasisDANE, BasisMTASTS, BasisMessage, BasisCredential, BasisRule, BasisHold, BasisDefault}
}

// String returns the basis's word.
func (b Basis) String() string { return enumName(basisNames(), b) }

// MarshalText writes the basis's word.
func (b Basis) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads the basis's word.
func (b *Basis) UnmarshalText(t []byte) (err error) {
	*b, err = unmarshalEnum[Basis]("basis", basisNames(), string(t))
	return err
}

// Rung is one way to open a session: a TLS profile (policy: "the walk").
type Rung uint8

// The rungs, strongest first.
const (
	RungUnset Rung = iota
	Modern         // TLS 1.2-1.3, hybrid post-quantum and classical curves, AEAD
	Classical      // the same without the post-quantum share: a small ClientHello
	LegacyTLS      // TLS 1.0/1.1, RSA key exchange, CBC, 3DES
	Clear          // no STARTTLS
)

func rungNames() []string {
	return []string{"unset", "modern", "classical", "legacy", "clear"}
}

// Ceiling is the best level that a session opened on this rung can prove.
func (r Rung) Ceiling() Level {
	switch r {
	case Modern, Classical:
		return DANE
	case LegacyTLS:
		return Legacy
	case Clear:
		return Plaintext
	default:
		return Unset
	}
}

// pass numbers the rungs for the walk: rungs of one pass are one step down the
// ladder. Modern and classical share a ceiling and so a pass.
func (r Rung) pass() int {
	switch r {
	case Modern, Classical:
		return 0
	case LegacyTLS:
		return 1
	default:
		return 2
	}
}

// String returns the rung's word.
func (r Rung) String() string { return enumName(rungNames(), r) }

// MarshalText writes the rung's word.
func (r Rung) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the rung's word.
func (r *Rung) UnmarshalText(t []byte) (err error) {
	*r, err = unmarshalEnum[Rung]("rung", rungNames(), string(t))
	return err
}

// OnUnmet says what becomes of a message whose floor cannot be reached.
type OnUnmet uint8

// What to do when the floor is not reached.
const (
	OnUnmetUnset OnUnmet = iota
	Defer                // try again until its time is over
	Bounce               // give up now
)

func onUnmetNames() []string { return []string{"unset", "defer", "bounce"} }

// String returns the word.
func (o OnUnmet) String() string { return enumName(onUnmetNames(), o) }

// MarshalText writes the word.
func (o OnUnmet) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the word.
func (o *OnUnmet) UnmarshalText(t []byte) (err error) {
	*o, err = unmarshalEnum[OnUnmet]("on_unmet", onUnmetNames(), string(t))
	return err
}

// ParseOnUnmet reads "defer" or "bounce".
func ParseOnUnmet(s string) (OnUnmet, error) {
	return parseEnum[OnUnmet]("on_unmet", onUnmetNames(), s)
}

func enumName[E ~uint8](names []string, e E) string {
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("%s(%d)", names[0], e)
}

// unmarshalEnum is parseEnum for records that we wrote: they may say "unset".
func unmarshalEnum[E ~uint8](what string, names []string, s string) (E, error) {
	if s == names[0] {
		return 0, nil
	}
	return parseEnum[E](what, names, s)
}

func parseEnum[E ~uint8](what string, names []string, s string) (E, error) {
	for i, n := range names[1:] {
		if n == s {
			return E(i + 1), nil
		}
	}
	return 0, fmt.Errorf("%s %q is unknown: use one of %s", what, s, strings.Join(names[1:], ", "))
}
