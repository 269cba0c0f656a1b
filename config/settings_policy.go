package config

import (
	"crypto/tls"
	"time"

	"github.com/sealpost/sealpost/policy"
)

func policyTable() table {
	return one("policy", "How well mail must be protected. The keys that a rule may have too are the default rule.",
		func(c *Config) *Policy { return &c.Policy }, []field{
			key[Policy, policy.Level]{"floor", level(), func(p *Policy) *policy.Level { return &p.Ruleset.Default.Floor }, policy.Plaintext,
				"Least protection: plaintext, legacy, encrypted, verified, mta-sts or dane."},
			key[Policy, policy.OnUnmet]{"on_unmet", onUnmet(), func(p *Policy) *policy.OnUnmet { return &p.Ruleset.Default.OnUnmet }, policy.Defer,
				"What becomes of mail whose floor cannot be reached."},
			key[Policy, uint16]{"min_tls", tlsVersion(), func(p *Policy) *uint16 { return &p.Ruleset.Default.MinTLS }, 0,
				"Oldest TLS version: \"1.2\" or \"1.3\". \"\": TLS 1.0 where the fallback allows `legacy`."},
			key[Policy, bool]{"dane", boolean(), func(p *Policy) *bool { return &p.Ruleset.DANE }, true,
				"Whether DANE is asked for and obeyed (RFC 7672)."},
			key[Policy, bool]{"mta_sts", boolean(), func(p *Policy) *bool { return &p.Ruleset.MTASTS }, true,
				"Whether MTA-STS is asked for and obeyed (RFC 8461)."},
			key[Policy, bool]{"insecure_mx_dane", boolean(), func(p *Policy) *bool { return &p.Ruleset.InsecureMXDANE }, true,
				"Whether TLSA records count for hosts whose MX answer is not signed (RFC 7672 2.2.1)."},
			key[Policy, time.Duration]{"downgrade_hold", duration(0), func(p *Policy) *time.Duration { return &p.Ruleset.Default.Hold }, 4 * time.Hour,
				"How long a host that was good for TLS before, and offers less now, is waited for before a weaker delivery. \"0s\": no hold."},
		}).with(
		fallbackTable(func(p *Policy) *[]policy.Fallback { return &p.Ruleset.Default.Fallback },
			"A permitted step down, strongest first. Default: legacy and plaintext, at once; steps below the floor are not used."),
		ruleTable(),
	)
}

func ruleTable() table {
	at := func(p *Policy) *[]writtenRule { return &p.written }
	return several("rule", "A rule for some deliveries; the first that matches counts. What it leaves out is as in [policy].", at, []field{
		key[writtenRule, policy.Level]{"floor", level(), func(r *writtenRule) *policy.Level { return &r.Floor }, policy.Unset,
			"As in [policy]."},
		key[writtenRule, policy.OnUnmet]{"on_unmet", onUnmet(), func(r *writtenRule) *policy.OnUnmet { return &r.OnUnmet }, policy.OnUnmetUnset,
			"As in [policy]."},
		key[writtenRule, uint16]{"min_tls", tlsVersion(), func(r *writtenRule) *uint16 { return &r.MinTLS }, 0,
			"As in [policy]."},
		key[writtenRule, time.Duration]{"downgrade_hold", duration(0), func(r *writtenRule) *time.Duration { return &r.Hold }, 0,
			"As in [policy]."},
		key[writtenRule, policy.Promise]{"ignore", promises(), func(r *writtenRule) *policy.Promise { return &r.Ignore }, 0,
			"Promises of the domain, `dane` and `mta-sts`, that are not insisted on: an override. It needs `reason`, `expires`, and a domain to match."},
		key[writtenRule, string]{"reason", text("text"), func(r *writtenRule) *string { return &r.Reason }, "",
			"Why a promise is ignored; journalled at each use."},
		key[writtenRule, time.Time]{"expires", date(), func(r *writtenRule) *time.Time { return &r.Expires }, time.Time{},
			"Until when a promise is ignored: a date, to the end of that day in UTC, or a date with a time. Afterwards the rule stands, without the override."},
		key[writtenRule, string]{"note", text("text"), func(r *writtenRule) *string { return &r.Note }, "",
			"For the reader; shown in explanations."},
	}).with(
		one("match", "Which deliveries the rule is for: every key that is there must match. Without any: all.",
			func(r *writtenRule) *writtenMatch { return &r.match }, []field{
				key[writtenMatch, []string]{"domain", list(domainPattern()), func(m *writtenMatch) *[]string { return &m.Domains }, nil,
					"Recipient domains: \"example.com\", or \".example.com\" for all below it."},
				key[writtenMatch, string]{"domain_file", text("path"), func(m *writtenMatch) *string { return &m.file }, "",
					"File with more recipient domains in the same forms, one a line; `#` begins a comment. Read again at a reload."},
				key[writtenMatch, []string]{"mx", list(domainPattern()), func(m *writtenMatch) *[]string { return &m.MX }, nil,
					"Names of mail exchangers, in the same forms: the rule is for these hosts of a domain, and not for its others."},
				key[writtenMatch, []string]{"sender", list(domainPattern()), func(m *writtenMatch) *[]string { return &m.Senders }, nil,
					"Domains of the envelope sender, in the same forms."},
				key[writtenMatch, []string]{"credential", list(text("name")), func(m *writtenMatch) *[]string { return &m.Credentials }, nil,
					"Names of credentials."},
				key[writtenMatch, []string]{"stream", list(text("name")), func(m *writtenMatch) *[]string { return &m.Streams }, nil,
					"Streams, as named by Sealpost-Stream."},
			}),
		fallbackTable(func(r *writtenRule) *[]policy.Fallback { return &r.Fallback }, "As in [policy]."),
	)
}

// writtenRule is a [[policy.rule]] as it is written. Settled, it is a rule of the ruleset.
type writtenRule struct {
	policy.Rule // without its Match
	match       writtenMatch
}

// writtenMatch is its [policy.rule.match]; Domains are those in the text.
type writtenMatch struct {
	policy.Match
	file string // with more domains; "": none
}

func fallbackTable[P any](at func(*P) *[]policy.Fallback, doc string) table {
	return several("fallback", doc, at, []field{
		key[policy.Fallback, policy.Level]{"to", level(), func(f *policy.Fallback) *policy.Level { return &f.To }, policy.Unset,
			"The weaker level: legacy or plaintext."},
		key[policy.Fallback, time.Duration]{"after", duration(0), func(f *policy.Fallback) *time.Duration { return &f.After }, 0,
			"Age of the message from which the step is permitted."},
		key[policy.Fallback, int]{"min_tries", count(0, 1000), func(f *policy.Fallback) *int { return &f.MinTries }, 0,
			"Earlier tries from which the step is permitted."},
	})
}

// tlsVersion is "1.2", "1.3" or "".
func tlsVersion() kind[uint16] {
	words := oneOf("1.2", "1.3")
	k := optional(kind[uint16]{word: words.word,
		read: func(f *finding, n *node) (uint16, bool) {
			s, ok := words.read(f, n)
			if s == "1.3" {
				return tls.VersionTLS13, ok
			}
			return tls.VersionTLS12, ok
		}})
	k.write = func(v uint16) string {
		switch v {
		case tls.VersionTLS12:
			return quote("1.2")
		case tls.VersionTLS13:
			return quote("1.3")
		default:
			return quote("")
		}
	}
	return k
}

// defaultFallback is the ladder of [policy]: every step down, at once.
func defaultFallback() []policy.Fallback {
	return []policy.Fallback{{To: policy.Legacy}, {To: policy.Plaintext}}
}
