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
				"How long after acceptance a message does not go out in a weaker way than a host of its domain was met in an earlier attempt. \"0s\": no hold."},
		}).with(
		fallbackTable(func(p *Policy) *[]policy.Fallback { return &p.Ruleset.Default.Fallback },
			"A permitted step down, strongest first. Default: legacy and plaintext, at once; steps below the floor are not used."),
		ruleTable(),
	)
}

func ruleTable() table {
	at := func(p *Policy) *[]policy.Rule { return &p.Ruleset.Rules }
	return several("rule", "A rule for some deliveries; the first that matches counts. What it leaves out is as in [policy].", at, []field{
		key[policy.Rule, policy.Level]{"floor", level(), func(r *policy.Rule) *policy.Level { return &r.Floor }, policy.Unset,
			"As in [policy]."},
		key[policy.Rule, policy.OnUnmet]{"on_unmet", onUnmet(), func(r *policy.Rule) *policy.OnUnmet { return &r.OnUnmet }, policy.OnUnmetUnset,
			"As in [policy]."},
		key[policy.Rule, uint16]{"min_tls", tlsVersion(), func(r *policy.Rule) *uint16 { return &r.MinTLS }, 0,
			"As in [policy]."},
		key[policy.Rule, string]{"note", text("text"), func(r *policy.Rule) *string { return &r.Note }, "",
			"For the reader; shown in explanations."},
		later{"downgrade_hold", "duration", "A hold of its own."},
		later{"ignore", "list", "Promises of the domain (dane, mta-sts) not to insist on."},
		later{"reason", "text", "Why a promise is ignored."},
		later{"expires", "date", "Until when a promise is ignored."},
	}).with(
		one("match", "Which deliveries the rule is for: every key that is there must match. Without any: all.",
			func(r *policy.Rule) *policy.Match { return &r.Match }, []field{
				key[policy.Match, []string]{"domain", list(domainPattern()), func(m *policy.Match) *[]string { return &m.Domains }, nil,
					"Recipient domains: \"example.com\", or \".example.com\" for all below it."},
				key[policy.Match, []string]{"sender", list(domainPattern()), func(m *policy.Match) *[]string { return &m.Senders }, nil,
					"Domains of the envelope sender, in the same forms."},
				key[policy.Match, []string]{"credential", list(text("name")), func(m *policy.Match) *[]string { return &m.Credentials }, nil,
					"Names of credentials."},
				key[policy.Match, []string]{"stream", list(text("name")), func(m *policy.Match) *[]string { return &m.Streams }, nil,
					"Streams, as named by Sealpost-Stream."},
				later{"domain_file", "path", "File of recipient domains."},
				later{"mx", "list of: domain", "Names of mail exchangers."},
			}),
		fallbackTable(func(r *policy.Rule) *[]policy.Fallback { return &r.Fallback }, "As in [policy]."),
	)
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
