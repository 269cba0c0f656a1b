package policy

import "time"

// Rule is what the operator wants for some deliveries (policy: operator rules).
type Rule struct {
	Name     string // "default", or "rule 2 (note)": shown in explanations
	Match    Match
	Floor    Level
	OnUnmet  OnUnmet
	Fallback []Fallback
	MinTLS   uint16 // tls.VersionTLS12 or 13 ends the legacy rung; 0 = no limit
	Note     string
}

// Match says which deliveries a rule is for; every non-empty list must match.
type Match struct {
	Domains     []string // "example.com" exact, ".example.com" below it
	Senders     []string // envelope sender domains, same forms
	Credentials []string
	Streams     []string
}

// Fallback is one permitted step down: to a level, once the message is this old
// and was tried this often.
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
}
