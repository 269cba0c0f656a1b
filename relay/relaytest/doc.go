// Package relaytest is a farm of mail exchangers on loopback, well-behaved and
// misbehaving, for tests and for `sealpost demo`.
//
// The problem: what a relay does with a bad host cannot be tried on good ones, and a
// library's server refuses to be bad. So this is an SMTP receiver of its own over
// net and bufio, which can say anything at any moment: greetings of every sort,
// STARTTLS that is refused or breaks, TLS of any version, replies by script,
// connections that end in any phase, with or without the final dot.
//
// A [Host] does what its [Behaviour] says. Scripts are functions from an [Event]
// to an [Act]; those of this package ([At], [Times], [Sequence], [ForRecipient],
// [Greylist]) compose. [Kinds] is a list of ready-made hosts, and [StartFarm]
// starts several on one port and different loopback addresses, as a relay that
// delivers to one port needs them.
//
// A host also watches: it records every message, session and command, apart those
// that came in clear ([Host.ClearEnvelopes] proves that no envelope did), and every
// breach of the protocol by the client ([Host.Breaches]). Nothing here sleeps or
// polls: the Await methods return at the instant.
//
// RFCs: 5321 (SMTP), 3207 (STARTTLS), 2920 (PIPELINING), 3030 (CHUNKING), 1870
// (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 8689 (REQUIRETLS).
//
// Only loopback addresses are listened on.
package relaytest
