// Package dnssec is a stub resolver that says for every answer whether DNSSEC
// vouches for it.
//
// The problem: DANE (RFC 7672) is worth what its DNS answers are worth, and the
// ordinary resolver interface of a system tells neither whether an answer was
// validated nor an absence from a failure. An attacker who can make a lookup fail,
// and be taken for "there is no TLSA record", has taken DANE away. So every lookup
// here ends in one of records, no data or no such name, each secure or insecure;
// or it is unknown, and unknown is never an absence (RFC 7672 2.1.1).
//
// It does not validate: a validating recursive resolver does (RFC 4033 4.7, a
// "non-validating security-aware stub resolver"), and sets the AD bit. The bit is
// believed only when that resolver is reached over a channel that nobody else can
// write to (RFC 4035 4.9.3): loopback, DNS over TLS with a verified name, or what the
// operator marks as trusted. Once one server of the list is trusted, the others are
// not used: whoever can silence the trusted one could else turn secure answers into
// insecure ones. A self-test says of every server whether it really validates: when one
// hands out the signed name without AD or the bogus name with an answer, or none can
// resolve the signed name, DNSSEC is unavailable, and the log says which it is and what
// is to be done. What was cached meanwhile goes when it is available again.
//
// When the resolver itself is down, every attempt ends in "unknown" and every message
// loses a try. So a breaker tells that from zones that are broken (see breaker.go):
// [Resolver.Outage] says so, [Resolver.Paused] tells when to wait and when it is over.
// During an outage the cache answers, and all else fails at once; the self-test's signed
// name is asked for every few seconds.
//
// Standards: RFC 1035, 2181 and 2308 (DNS, RRsets, negative answers), 4033 to 4035
// and 6840 (DNSSEC), 5452 (forged answers), 6891 (EDNS), 7766 (TCP), 7858 and 8310
// (DNS over TLS), 8767 (stale answers), 8914 (extended errors), 6698 (TLSA), 7672 2.1
// (what DANE needs).
//
// Guarantees:
//
//  1. SERVFAIL, REFUSED, every other error code, timeouts, replies that are
//     malformed or for another question, referrals, answers that are said to be
//     indeterminate, absences that are said to be stale, and alias loops or chains of more
//     than [MaxChain] links are Unknown, with the reason in English.
//  2. Secure is true only when every reply on the way had AD from a trusted server
//     (RFC 7672 2.1.3); it is never true for Unknown.
//  3. A lookup ends within Options.Deadline.
//  4. Answers are cached for their TTL, absences as RFC 2308 5 says, both for an
//     hour at most and in bounded space; Unknown is never cached. Equal questions at
//     the same time are one query.
//  5. An outage is declared only when at least five names of three domains failed
//     within ten seconds, no resolver has said anything else, and the signed name fails
//     at all of them; whoever speaks ends it at once.
//
// This package and policytest are the only importers of miekg/dns.
package dnssec
