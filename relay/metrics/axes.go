package metrics

import (
	"crypto/tls"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// other stands for every value outside its set.
const other = "other"

// axis is one label and its closed set of values; the last one is "other" where
// strangers could be.
type axis struct {
	label string
	words []string
}

// closed makes an axis that ends in "other".
func closed(label string, words ...string) axis {
	return axis{label, append(slices.Clone(words), other)}
}

// index is the position of a word; that of "other" for a stranger.
func (a axis) index(word string) int {
	if i := slices.Index(a.words, word); i >= 0 {
		return i
	}
	return len(a.words) - 1
}

func words[E interface{ String() string }](list []E) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.String()
	}
	return out
}

func levels() axis     { return closed("level", words(policy.Levels())...) }
func fromLevels() axis { return closed("from", words(policy.Levels())...) }
func toLevels() axis   { return closed("to", words(policy.Levels())...) }
func bases() axis      { return closed("basis", words(policy.Bases())...) }

func promises() axis {
	return axis{"promise", []string{policy.PromiseDANE.String(), policy.PromiseMTASTS.String()}}
}

func outcomes() axis {
	return axis{"outcome", []string{"delivered", "deferred", "bounced", "expired", "dropped"}}
}

func states() axis { return axis{"state", []string{"waiting", "leased", "held"}} }

func allReasons() axis { return closed("reason", words(policy.Reasons())...) }

// loweringReasons are those that may take a host to a lower rung.
func loweringReasons() axis { return reasonsWhere("reason", policy.Reason.MayLower) }

// protectionReasons are those that say: not well enough protected.
func protectionReasons() axis { return reasonsWhere("reason", isProtection) }

func reasonsWhere(label string, keep func(policy.Reason) bool) axis {
	var list []string
	for _, r := range policy.Reasons() {
		if keep(r) {
			list = append(list, r.String())
		}
	}
	return closed(label, list...)
}

// isProtection reports whether a reason is about protection: its status code is
// X.7.X, security or policy (RFC 3463 3.8).
func isProtection(r policy.Reason) bool { return strings.HasPrefix(r.Status()[1:], ".7.") }

// reportTypes are the RFC 8460 4.3 result types in use, and our own words for
// what has none.
func reportTypes() axis {
	var list []string
	for _, r := range policy.Reasons() {
		if isProtection(r) && !slices.Contains(list, reportWord(r)) {
			list = append(list, reportWord(r))
		}
	}
	return closed("reason", list...)
}

func reportWord(r policy.Reason) string {
	if t := r.ReportType(); t != "" {
		return t
	}
	return r.String()
}

func directions() axis { return axis{"direction", []string{"in", "out"}} }
func versions() axis   { return closed("version", "1.0", "1.1", "1.2", "1.3") }
func exchanges() axis  { return closed("kex", "hybrid", "ecdhe", "rsa") }
func ciphers() axis    { return closed("cipher_class", "aead", "cbc", "weak") }

func sources() axis { return closed("source", "mx", "address", "tlsa", "mta-sts") }

// results are what a lookup can come to: an answer or an absence, with DNSSEC or
// without, or unknown; for mta-sts the mode of the policy in force (RFC 8461 5), or why
// there is none: no record (none), a policy that could not be fetched or is invalid.
func results() axis {
	return closed("result", "secure", "insecure", "absent-secure", "absent-insecure", "unknown",
		"enforce", "testing", "mode-none", "none", "fetch-failed", "invalid")
}

// dnsOutcomes are what one query to a resolver can come to.
func dnsOutcomes() axis {
	return closed("outcome", "records", "no-data", "no-name", "servfail", "refused", "error", "malformed", "timeout", "unreachable")
}

func phases() axis {
	return axis{"phase", []string{"facts", "open", "connect", "tls", "transaction"}}
}

// Labels are the closed sets that the submission dock defines. A value that is not
// in its set counts as "other".
type Labels struct {
	Listeners   []string // names of the listeners; nil: none known
	Rejections  []string // nil: those of submission.Reasons
	Mechanisms  []string // nil: those of submission.Mechanisms
	AuthResults []string // nil: those of submission.AuthResults
}

// withDefaults fills in what the submission dock said when this was written, and
// leaves out repetitions, which would be one series twice.
func (l Labels) withDefaults() Labels {
	set := func(p *[]string, def ...string) {
		if *p == nil {
			*p = def
		}
		var list []string
		for _, w := range *p {
			if w = printable(w); w != other && !slices.Contains(list, w) {
				list = append(list, w)
			}
		}
		*p = list
	}
	set(&l.Listeners)
	set(&l.Rejections, "address", "auth", "broken", "content", "full", "header", "internal", "loop",
		"newline", "rate", "recipients", "sender", "shutdown", "size", "syntax", "tls", "utf8")
	set(&l.Mechanisms, "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
	set(&l.AuthResults, "ok", "refused", "blocked", "error")
	return l
}

func throttleKinds() axis { return axis{"kind", words(relay.ThrottleSigns())} }

func bounceKinds() axis { return axis{"kind", []string{"permanent", "protection", "expired"}} }

func noticeKinds() axis { return closed("kind", "failed", "delayed", "relayed") }

// levelIndex is the position on the axis levels.
func levelIndex(l policy.Level) int {
	if l < policy.Plaintext || l > policy.DANE {
		return int(policy.DANE)
	}
	return int(l) - 1
}

// stateWord is a recipient's state as an outcome.
func stateWord(s queue.RecipientState) int {
	switch s {
	case queue.Delivered:
		return outcomeDelivered
	case queue.Bounced:
		return outcomeBounced
	case queue.Expired:
		return outcomeExpired
	case queue.Dropped:
		return outcomeDropped
	default:
		return outcomeDeferred
	}
}

// Positions on the axis outcomes.
const (
	outcomeDelivered = iota
	outcomeDeferred
	outcomeBounced
	outcomeExpired
	outcomeDropped
)

// versionIndex is the position of a TLS version on the axis versions.
func versionIndex(v uint16) int {
	if v >= tls.VersionTLS10 && v <= tls.VersionTLS13 {
		return int(v - tls.VersionTLS10)
	}
	return 4
}

// exchangeIndex is the position of a key exchange: hybrid (with a post-quantum
// share), ecdhe, rsa. group is 0 for RSA key exchange.
func exchangeIndex(group uint16) int {
	switch tls.CurveID(group) {
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return 0
	case tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521:
		return 1
	case 0:
		return 2
	default:
		return 3
	}
}

// cipherIndex is the position of a suite's class: aead, cbc, weak (RC4, 3DES).
func cipherIndex(suite uint16) int {
	name := tls.CipherSuiteName(suite)
	switch {
	case strings.Contains(name, "RC4"), strings.Contains(name, "3DES"):
		return 2
	case strings.Contains(name, "_CBC_"):
		return 1
	case strings.Contains(name, "_GCM_"), strings.Contains(name, "CHACHA20"):
		return 0
	default:
		return 3
	}
}
