// Package policytest is a private internet of names and certificates: signed DNS
// zones on a loopback port, MTA-STS web hosts, and a CA. Tests use it, and so does `sealpost demo`.
//
// The problem: what a relay may believe hangs on DNSSEC (RFC 4033 to 4035) and on
// certificates, and both fail in ways that no recorded answer shows: an insecure
// link in the middle of an alias chain, a denial that does not validate, an answer
// that is cut off, late, or for another question. So this is a real server that
// signs what it says, and can be told to fail.
//
// [Zones] plays a validating resolver and an authoritative server at once:
//
//   - A query with RD gets the whole alias chain; the AD bit is set when every zone
//     on the way is signed from the root down and the query asked for it by AD or DO
//     (RFC 6840 5.8). A bogus zone or name is SERVFAIL (RFC 4035 5.5).
//   - A query with CD gets the data as it is, bad signatures included (RFC 6840 5.9).
//     A real validating resolver in front of it asks so: see [StartUnbound].
//   - A query without RD is answered with AA and not chased, for stub zones.
//
// Each zone has one ECDSA P-256 key, a DS in its parent, and signs when it is asked;
// denials come from the true NSEC chain (RFC 4034 4, RFC 4035 3.1.3), so that a
// validator tells "no such name" from "no such type"; or from NSEC3, with opt-out or
// without (RFC 5155 7.2). What DNSSEC can go wrong by is a [Security] of a zone.
//
// [STSHost] serves MTA-STS policies over HTTPS (RFC 8461 3.3), well or with a fault.
//
// It is not a DNS server for the world: it listens on 127.0.0.1 only.
package policytest
