package policy

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"
)

// Rule is what the operator wants for some deliveries (policy: operator rules). A
// rule that names mail exchangers is for single hosts of a domain.
type Rule struct {
	Name     string // "default", or "rule 2 (note)": shown in explanations
	Match    Match
	Floor    Level
	OnUnmet  OnUnmet
	Fallback []Fallback
	// MinTLS tls.VersionTLS12 ends the legacy rung, tls.VersionTLS13 the clear one
	// too; 0 is no limit.
	MinTLS uint16
	// Hold is the downgrade hold (policy: floors): how long a host that was good for TLS
	// keeps the floor encrypted, counted from its first weaker answer; and, within one
	// message, how long after acceptance TLS that an earlier attempt met is insisted on.
	Hold time.Duration
	// Ignore are promises of the domain that are not insisted on: an override. It counts
	// only with a Reason, and before Expires.
	Ignore  Promise
	Reason  string
	Expires time.Time
	Note    string
}

// Promise is a set of what a domain can promise about its hosts.
type Promise uint8

// The promises.
const (
	PromiseDANE   Promise = 1 << iota // TLSA records (RFC 7672)
	PromiseMTASTS                     // an enforced policy (RFC 8461)
)

func promiseNames() []string { return []string{"dane", "mta-sts"} }

// String returns the words joined by "+"; "none" for none.
func (p Promise) String() string { return setName(promiseNames(), uint8(p)) }

// MarshalText writes the words.
func (p Promise) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the words.
func (p *Promise) UnmarshalText(b []byte) error {
	n, err := parseSet("promise", promiseNames(), string(b))
	*p = Promise(n)
	return err
}

// overrides returns the promises that the rule sets aside at a time. A rule that names no
// domain, gives no reason or has no end sets nothing aside: forgetting fails closed.
func (r *Rule) overrides(now time.Time) Promise {
	if r.Ignore == 0 || strings.TrimSpace(r.Reason) == "" || len(r.Match.Domains) == 0 || !now.Before(r.Expires) {
		return 0
	}
	return r.Ignore
}

// Match says which deliveries a rule is for; every non-empty list must match.
type Match struct {
	Domains     []string // "example.com" exact, ".example.com" below it
	Senders     []string // envelope sender domains, same forms
	Credentials []string
	Streams     []string
	MX          []string // mail exchangers, same forms as Domains

	// domains is Domains for looking up; nil: they are looked through. See [Ruleset.Index].
	domains map[string]struct{}
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
	// MTASTS follows the promise of an enforced policy (RFC 8461).
	MTASTS bool
}

// Index prepares rules with many domains for being looked up. It is called once,
// before the ruleset is shared.
func (r *Ruleset) Index() {
	for i := range r.Rules {
		m := &r.Rules[i].Match
		if len(m.Domains) < 8 {
			continue
		}
		m.domains = make(map[string]struct{}, len(m.Domains))
		for _, d := range m.Domains {
			m.domains[d] = struct{}{}
		}
	}
}

// For returns the rule for a delivery at one host; host "" stands for a host that
// no rule names. The caller does not change it.
func (r *Ruleset) For(q *Query, host Domain) *Rule {
	for i := range r.Rules {
		if r.Rules[i].Match.matches(q, host) {
			return &r.Rules[i]
		}
	}
	return &r.Default
}

func (m *Match) matches(q *Query, host Domain) bool {
	return m.matchesDomain(q.Domain) &&
		matchDomain(m.Senders, Domain(q.Sender)) &&
		matchWord(m.Credentials, q.Credential) &&
		matchWord(m.Streams, q.Stream) &&
		(len(m.MX) == 0 || host != "" && matchDomain(m.MX, host))
}

func (m *Match) matchesDomain(d Domain) bool {
	if m.domains == nil {
		return matchDomain(m.Domains, d)
	}
	if _, ok := m.domains[string(d)]; ok {
		return true
	}
	for rest := string(d); ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return false
		}
		if _, ok := m.domains[rest[dot:]]; ok { // ".example.com"
			return true
		}
		rest = rest[dot+1:]
	}
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

// Least is the lowest level that min_tls leaves for a step down to a level. TLS 1.2 as
// the minimum ends the legacy rung and says nothing of clear text; who wants TLS 1.3
// cannot mean to be content with none at all.
func (r *Rule) Least(down Level) Level {
	switch {
	case r.MinTLS > tls.VersionTLS12:
		return Encrypted
	case r.MinTLS == tls.VersionTLS12 && down == Legacy:
		return Encrypted
	default:
		return Plaintext
	}
}

// namesHosts reports whether a rule is for single mail exchangers.
func (r *Ruleset) namesHosts() bool {
	for i := range r.Rules {
		if len(r.Rules[i].Match.MX) > 0 {
			return true
		}
	}
	return false
}
