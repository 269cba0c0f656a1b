package main

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

type explainCase struct {
	name          string
	verdict, page []string // words that must be there
	change        func(*explainLab)
}

func ee(data string) policy.TLSARecord {
	return policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: []byte(strings.Repeat(data, 32)[:32])}
}

func explainCases() []explainCase {
	all := append(daneCases(), stsCases()...)
	all = append(all, hostCases()...)
	return append(all, operatorCases()...)
}

func daneCases() []explainCase {
	dane := func(l *explainLab) { l.tlsa(0, ee("a")); l.tlsa(1, ee("b")) }
	return []explainCase{
		{"dane", []string{"at level dane, or waits", "TLSA", "DNSSEC"}, []string{"TLSA 3 1 1: the public key of the host itself must match", "secured by DNSSEC", "5 days"},
			func(l *explainLab) { dane(l); l.query.Probe = false }},
		{"dane-probed", []string{"goes out at level dane to mx1.example.org"}, []string{"TLSA: the certificate matches", "X25519MLKEM768", "TLS 1.3"}, dane},
		{"dane-mismatch", []string{"waits (4.7.5)", "matches none of its TLSA records"}, []string{"TLSA: NO MATCH", "would not be used"},
			func(l *explainLab) { dane(l); l.offer(offer{version: tls.VersionTLS13, tlsa: policy.TLSAMismatch}) }},
		{"dane-some-hosts", []string{"mx1.example.org at level dane", "mx2.example.org at the best level that it offers, level plaintext included"}, []string{"mx2.example.org: no TLSA record"},
			func(l *explainLab) { l.tlsa(0, ee("a")); l.query.Probe = false }},
		{"dane-unusable", []string{"at level encrypted", "none can be used"}, []string{"usages 0 and 1 rest on public CAs", "30 octets in place of 32"},
			func(l *explainLab) {
				l.tlsa(0, policy.TLSARecord{Usage: 1, Selector: 1, Matching: 1, Data: make([]byte, 32)}, policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 30)})
				l.facts.Hosts = l.facts.Hosts[:1]
				l.query.Probe = false
			}},
		{"dane-servfail", []string{"waits (4.7.5)", "the TLSA lookup failed", "RFC 7672 2.1.2"}, []string{"not used", "SERVFAIL"},
			func(l *explainLab) {
				l.facts.Hosts = l.facts.Hosts[:1]
				l.facts.Hosts[0].TLSA = policy.TLSAFacts{Asked: true, Lookup: policy.Lookup{Problem: "SERVFAIL for _25._tcp.mx1.example.org. TLSA from 127.0.0.1:53"}}
			}},
		{"dane-insecure-mx", []string{"level verified"}, []string{"the MX answer is not signed", "level verified, not dane"},
			func(l *explainLab) { dane(l); l.facts.MX.Secure = false }},
		{"dane-alias", []string{"level dane"}, []string{"The host is an alias (CNAME)", "mx.provider.example"},
			func(l *explainLab) {
				dane(l)
				l.facts.Hosts = l.facts.Hosts[:1]
				l.facts.Hosts[0].TLSA.Base = "mx.provider.example"
			}},
		{"dane-ta", []string{"level dane"}, []string{"TLSA 2 0 1: the certificate of a CA"},
			func(l *explainLab) {
				l.tlsa(0, policy.TLSARecord{Usage: 2, Selector: 0, Matching: 1, Data: make([]byte, 32)})
				l.facts.Hosts = l.facts.Hosts[:1]
				l.query.Probe = false
			}},
		{"dnssec-down", []string{"waits", "DNSSEC cannot be checked now"}, []string{"DNSSEC is not available"},
			func(l *explainLab) {
				dane(l)
				l.facts.DNSSEC = false
				l.facts.Hosts = l.facts.Hosts[:1]
				l.facts.Hosts[0].V4.Memory = policy.Memory{Best: policy.DANE, BestAt: explainNow.Add(-time.Hour), First: explainNow.Add(-time.Hour), Good: 1, GoodAt: explainNow.Add(-time.Hour)}
			}},
	}
}

func stsCases() []explainCase {
	return []explainCase{
		{"sts-enforce", []string{"goes out at level mta-sts to mx1"}, []string{"enforce mode", "fetched 3h ago", "It lists all of the hosts"},
			func(l *explainLab) { l.unsigned(); l.sts(policy.STSEnforce, "*.example.org") }},
		{"sts-bad-certificate", []string{"waits", "certificate has expired", "MTA-STS"}, nil,
			func(l *explainLab) {
				l.unsigned()
				l.sts(policy.STSEnforce, "*.example.org")
				l.offer(offer{version: tls.VersionTLS13, webPKI: policy.CertificateExpired})
			}},
		{"sts-mismatch", []string{"waits", "does not list this host", "*.mx.example.org"}, []string{"a wildcard stands for one label"},
			func(l *explainLab) { l.unsigned(); l.sts(policy.STSEnforce, "*.mx.example.org") }},
		{"sts-testing", []string{"at the best level"}, []string{"testing mode: failures do not hold mail up", "does not matter yet"},
			func(l *explainLab) {
				l.unsigned()
				l.sts(policy.STSTesting, "other.example.org")
				l.query.Probe = false
			}},
		{"sts-none", []string{"at the best level"}, []string{"mode none"},
			func(l *explainLab) { l.unsigned(); l.sts(policy.STSNone); l.query.Probe = false }},
		{"sts-fetch-failed", []string{"at the best level"}, []string{"could not be fetched", "certificate has expired", "as if there were none"},
			func(l *explainLab) {
				l.unsigned()
				l.facts.STS = policy.STS{Record: policy.Lookup{Answer: policy.Records}, Failure: policy.STSFetchFailed,
					Problem: "https://mta-sts.example.org/.well-known/mta-sts.txt: certificate has expired"}
				l.query.Probe = false
			}},
		{"sts-not-renewed", []string{"level mta-sts"}, []string{"could not be renewed: connection refused"},
			func(l *explainLab) {
				l.unsigned()
				l.sts(policy.STSEnforce, "*.example.org")
				l.facts.STS.Failure, l.facts.STS.Problem = policy.STSFetchFailed, "connection refused"
				l.query.Probe = false
			}},
		{"sts-over", []string{"at the best level"}, []string{"ended 2026-03-04 11:00 UTC"},
			func(l *explainLab) {
				l.unsigned()
				l.sts(policy.STSEnforce, "*.example.org")
				l.facts.STS.Expires = explainNow.Add(-time.Hour)
				l.query.Probe = false
			}},
	}
}

func hostCases() []explainCase {
	return []explainCase{
		{"opportunistic", []string{"goes out at the best level that its hosts offer", "only when none of them has TLS"}, []string{"not signed", "no TXT record at _mta-sts.example.org"},
			func(l *explainLab) { l.unsigned(); l.query.Probe, l.alone = false, true }},
		{"no-starttls", []string{"at level plaintext", "does not offer STARTTLS"}, []string{"a session in clear text"}, func(l *explainLab) { l.offer(offer{}) }},
		{"old-tls", []string{"at level legacy", "no TLS version or suite in common"}, []string{"TLS 1.0"}, func(l *explainLab) { l.offer(offer{version: tls.VersionTLS10}) }},
		{"handshake-broken", []string{"at level plaintext", "closed the connection during the TLS handshake"}, nil,
			func(l *explainLab) { l.offer(offer{version: tls.VersionTLS13, broken: policy.HandshakeEOF}) }},
		{"down", []string{"waits (4.4.1)", "refused the connection"}, []string{"no session"}, func(l *explainLab) { l.offers = nil }},
		{"held", []string{"waits", "downgrade hold"}, []string{"did TLS in 5 deliveries and offers less since 2026-03-04 11:00 UTC", "until 2026-03-04 15:00 UTC"},
			func(l *explainLab) {
				l.facts.Hosts = l.facts.Hosts[:1]
				l.facts.Hosts[0].V4.Memory = policy.Memory{
					Best: policy.Verified, BestAt: explainNow.Add(-48 * time.Hour), Last: policy.Plaintext, LastSeen: explainNow.Add(-time.Hour), First: explainNow.Add(-99 * time.Hour),
					Good: 5, GoodAt: explainNow.Add(-48 * time.Hour), WeakSince: explainNow.Add(-time.Hour), WeakAt: explainNow.Add(-time.Hour),
					GoodBefore: [2]time.Time{explainNow.Add(-48 * time.Hour), explainNow.Add(-48 * time.Hour)},
				}
				l.offer(offer{})
			}},
		{"null-mx", []string{"bounces at once (5.1.10)", "null MX", "RFC 7505"}, nil, func(l *explainLab) { l.facts.NullMX, l.facts.Hosts = true, nil }},
		{"no-such-domain", []string{"bounces at once (5.1.2)", "does not exist"}, []string{"proven by DNSSEC"},
			func(l *explainLab) { l.facts.MX.Answer, l.facts.Hosts = policy.NoName, nil }},
		{"bogus", []string{"waits (4.4.3)", "a bogus zone"}, []string{"No answer is not the same as no record"},
			func(l *explainLab) {
				l.facts.MX = policy.Lookup{Problem: "SERVFAIL for example.org. MX (DNSSEC Bogus) from 127.0.0.1:53"}
				l.facts.Hosts = nil
			}},
		{"implicit", []string{"goes out"}, []string{"no MX record", "its own mail exchanger"},
			func(l *explainLab) {
				l.facts.MX.Answer, l.facts.Implicit, l.facts.Hosts = policy.NoData, true, l.facts.Hosts[:1]
				l.facts.Hosts[0].Name, l.query.Probe = "example.org", false
			}},
		{"no-address", []string{"bounces at once (5.4.4)"}, []string{"it has no address"},
			func(l *explainLab) {
				for i := range l.facts.Hosts {
					l.facts.Hosts[i].V4 = policy.Addresses{Lookup: policy.Lookup{Answer: policy.NoData, Secure: true}}
				}
			}},
		{"ourselves", []string{"bounces at once (5.3.5)", "lead back to this relay"}, []string{"This relay is itself in the list"},
			func(l *explainLab) { l.facts.Self, l.facts.Hosts = true, nil }},
	}
}

func operatorCases() []explainCase {
	requireTLS := func(l *explainLab) { l.query.RequireTLS = true }
	return []explainCase{
		{"floor-dane-unsigned", []string{"waits (4.7.5)", "rule 1 (banks) asks for level dane", "not signed with DNSSEC"}, []string{"The operator's rule 1 (banks) is for this delivery"},
			func(l *explainLab) {
				l.unsigned()
				l.rules.Rules = []policy.Rule{{Name: "rule 1 (banks)", Note: "banks", Match: policy.Match{Domains: []string{"example.org"}}, Floor: policy.DANE, OnUnmet: policy.Defer}}
			}},
		{"floor-verified-bounce", []string{"bounces at once (5.7.10)", "nobody trusted vouches", "the operator's rule 1"}, nil,
			func(l *explainLab) {
				l.rules.Rules = []policy.Rule{{Name: "rule 1", Match: policy.Match{Domains: []string{"example.org"}}, Floor: policy.Verified, OnUnmet: policy.Bounce}}
				l.offer(offer{version: tls.VersionTLS13, webPKI: policy.CertificateUntrusted})
			}},
		{"rule-for-a-host", nil, []string{"The operator's rule 1 is for mx2.example.org"},
			func(l *explainLab) {
				l.rules.Rules = []policy.Rule{{Name: "rule 1", Match: policy.Match{MX: []string{"mx2.example.org"}}, Floor: policy.Verified, OnUnmet: policy.Defer}}
				l.query.Probe = false
			}},
		{"override", []string{"override is in force", "dane", "their key roll-over"}, []string{"does not insist on dane at mx1.example.org until 2026-04-01 00:00 UTC"},
			func(l *explainLab) {
				l.tlsa(0, ee("a"))
				l.facts.Hosts = l.facts.Hosts[:1]
				l.rules.Rules = []policy.Rule{{Name: "rule 1", Match: policy.Match{Domains: []string{"example.org"}}, Floor: policy.Plaintext, OnUnmet: policy.Defer,
					Fallback: l.rules.Default.Fallback, Ignore: policy.PromiseDANE, Reason: "their key roll-over", Expires: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}}
				l.query.Probe = false
			}},
		{"not-yet", []string{"waits", "permits no weaker levels than encrypted yet"}, []string{"plaintext after 2h"},
			func(l *explainLab) {
				l.rules.Default.Fallback = []policy.Fallback{{To: policy.Plaintext, After: 2 * time.Hour}}
				l.offer(offer{})
			}},
		{"min-level", []string{"the message asks for level verified"}, []string{"it can raise the floor"},
			func(l *explainLab) { l.query.Message = policy.Verified; l.query.Probe = false }},
		{"credential", []string{"the credential asks for level encrypted"}, []string{"The credential shop asks for level encrypted"},
			func(l *explainLab) {
				l.query.Credential, l.query.Account = "shop", policy.Encrypted
				l.query.Probe = false
			}},
		{"requiretls", []string{"goes out at level verified to mx1"}, []string{"offers REQUIRETLS"},
			func(l *explainLab) { requireTLS(l); l.offer(offer{version: tls.VersionTLS13, require: true}) }},
		{"requiretls-keyword", []string{"bounces at once (5.7.30)", "does not offer REQUIRETLS"}, nil, requireTLS},
		{"requiretls-route", []string{"bounces (5.7.10)", "nobody vouches"}, []string{"REQUIRETLS (RFC 8689) wants three things"},
			func(l *explainLab) { requireTLS(l); l.unsigned(); l.query.Probe = false }},
		{"relay-host", []string{"goes out"}, []string{"delivery.relay_host"},
			func(l *explainLab) {
				l.facts.Operator, l.facts.MX = true, policy.Lookup{Problem: "not asked: a relay host is configured"}
				l.facts.Hosts, l.query.Probe = l.facts.Hosts[:1], false
			}},
	}
}
