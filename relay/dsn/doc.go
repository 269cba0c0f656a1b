// Package dsn composes delivery status notifications: the mail that tells a sender
// that a message failed, is late, or was passed on. It composes; the queue keeps
// the draft in the commit that makes it true, and it is sent like any mail.
//
// The problem: a notice is written by a machine about text that others chose. The
// reply of a remote host, the envelope identifier, the original recipient and the
// returned header are all foreign: each could try to add a header field, to end a
// MIME part, or to carry bytes that the next host refuses, so that the sender
// never learns what became of the mail. And a notice about a notice makes a loop.
//
// The standards:
//
//   - RFC 3464: the machine-readable part (message/delivery-status), its fields;
//   - RFC 3461: what a sender may wish (RET, ENVID, ORCPT, NOTIFY), 5.2 when a
//     notice is due, 6 how it is sent and what it must hold;
//   - RFC 6522: the container (multipart/report);
//   - RFC 6533: internationalised addresses (message/global-delivery-status,
//     message/global-headers);
//   - RFC 5321 4.5.5 and 6.1: sent from the null reverse path, never to one;
//   - RFC 3463: the status codes;
//   - RFC 3834 5: Auto-Submitted: auto-replied;
//   - RFC 8689 5: a message with REQUIRETLS comes back as its header at most, and
//     its notice asks for REQUIRETLS too.
//
// What it guarantees (fuzzed in compose_fuzz_test.go):
//
//  1. Nothing foreign makes a header field, a status field or a MIME part.
//  2. Every line ends in CRLF and has at most 998 octets (RFC 5322 2.1.1).
//  3. The boundary is in none of the parts.
//  4. Octets above 127 appear only where the sender's own address needs SMTPUTF8,
//     or inside an original that was asked for in full and had them.
//  5. [Composer.Compose] returns nil for the null reverse path, for recipients
//     that did not want this kind of notice, and for those whose next host sends it.
//  6. An internal fault's text is never in a notice.
package dsn
