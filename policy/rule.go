package policy

import (
	"crypto/tls"
	"slices"
	"time"
)

// Rule is what the operator wants for some deliveries (policy: operator rules).
type Rule struct {
	Name     string // "default", or "rule 2 (note)": shown in explanations
	Match    Match
	Floor    Level
	OnUnmet  OnUnmet
	Fallback []Fallback
	// MinTLS tls.VersionTLS12 ends the legacy rung, tls.VersionTLS13 the clear one
	// too; 0 is no limit.
	MinTLS uint16
	Note   string
}

// Match says which deliveries a rule is for; every non-empty list must match.
type Match struct {
	Domains     []string // "example.com" exact, ".example.com" below it
	Senders     []string // envelope sender domains, same forms
	Credentials []string
	Streams     []string
}

// Fallback is one permitted step down: to a level, once the message is this old
// and was tried this often before.
type Fallback struct {
	To       Level
	After    time.Duration
	MinTries int
}

// Ruleset is the operator's ordered rules: the first match wins, Default is for
// the rest. It is an immutable snapshot.
type Ruleset struct {
	Default Rule
	Rules   []Rule
	// DANE follows the promise of TLSA records (RFC 7672).
	DANE bool
	// InsecureMXDANE does so behind an insecure MX answer too (RFC 7672 2.2.1 MAY).
	InsecureMXDANE bool
	// Hold is the downgrade hold: for this long after acceptance a message whose
	// domain was met with TLS in an earlier attempt does not go out in a weaker way.
	Hold time.Duration
}

// For returns the rule for a query. The caller does not change it.
func (r *Ruleset) For(q Query) *Rule {
	for i := range r.Rules {
		if r.Rules[i].Match.matches(q) {
			return &r.Rules[i]
		}
	}
	return &r.Default
}

func (m Match) matches(q Query) bool {
	return matchDomain(m.Domains, q.Domain) &&
		matchDomain(m.Senders, Domain(q.Sender)) &&
		matchWord(m.Credentials, q.Credential) &&
		matchWord(m.Streams, q.Stream)
}

func matchDomain(list []string, d Domain) bool {
	return len(list) == 0 || slices.ContainsFunc(list, d.Within)
}

func matchWord(list []string, w string) bool {
	return len(list) == 0 || slices.Contains(list, w)
}

// permits says whether the rule lets a delivery go down to a level now, and if
// not, whether it will later.
func (r *Rule) permits(to Level, q *Query) (now, later bool) {
	for _, f := range r.Fallback {
		if f.To != to {
			continue
		}
		if q.Age >= f.After && q.Tries >= f.MinTries {
			return true, false
		}
		later = true
	}
	return false, later
}

// least is the lowest level that min_tls leaves for a lower rung. TLS 1.2 as the
// minimum ends the legacy rung and says nothing of clear text; who wants TLS 1.3
// cannot mean to be content with none at all.
func (r *Rule) least(down Rung) Level {
	switch {
	case r.MinTLS > tls.VersionTLS12:
		return Encrypted
	case r.MinTLS == tls.VersionTLS12 && down == LegacyTLS:
		return Encrypted
	default:
		return Plaintext
	}
}
