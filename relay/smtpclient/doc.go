// Package smtpclient is the outbound dock: it opens SMTP sessions on one rung of
// a plan, measures what the handshake proved, sends transactions and keeps good
// sessions for the next message.
//
// The problem: the level of a delivery is decided by what one connection proved,
// a receiver may answer anything in any phase, and the same message must not be
// lost, cut short or sent twice because of it. A stock client hides the handshake
// in the second EHLO, reads without bounds, writes without deadlines, looks up
// capabilities by case, and rewrites line ends. So the session here is our own; it
// decides nothing: package policy says which step to try and judges the evidence.
//
// Standards: RFC 5321 (SMTP; 4.2 replies, 4.5.2 dot-stuffing, 4.5.3.2 timeouts),
// 3207 (STARTTLS), 2920 (PIPELINING), 3030 (CHUNKING), 1870 (SIZE), 6152
// (8BITMIME), 6531 (SMTPUTF8), 3461 and 6533 (DSN parameters), 2034
// (ENHANCEDSTATUSCODES), 8689 (REQUIRETLS), 9422 (LIMITS).
//
// What it guarantees:
//
//   - Bytes behind the 220 of STARTTLS end the connection; after the handshake
//     everything that was learned in the clear is forgotten (RFC 3207 4.2).
//   - Every phase, writes included, has a deadline; every reply is bounded: 2 KiB
//     a line, 100 lines, 64 KiB in all.
//   - The content goes out octet by octet as it came in. A bare CR or LF, or a
//     content that is shorter or longer than it said, never reaches the end of data:
//     the connection is reset instead, never QUIT or RSET.
//   - Each recipient gets exactly one result. Once the end of data is out, a lost
//     connection is [policy.Uncertain], never a plain failure.
//   - A reply counts for the message whose command it answers, also with several in
//     flight. A message of which nothing was sent, or no end of data, is never
//     uncertain when the connection dies; it goes over another one.
//   - A session from the pool is inspected again against the step at hand, and one
//     that died meanwhile is replaced once, and only when nothing of the message
//     can have been accepted on it.
//   - A TLS session is resumed only where its host has proved its name, and never counts
//     against it: what proves too little is proved again by a whole handshake.
//
// How a transaction travels: compose (append the commands of a flight to one
// buffer, remember which replies are owed) and collect (read the owed replies in
// order) are apart. With PIPELINING and CHUNKING a message is one flight: MAIL,
// RCPT, BDAT LAST; with PIPELINING alone two; else one command at a time. A host
// that stumbles is remembered and served one step more plainly.
//
// How deliveries share a connection: the pool gives several a seat on it (seat.go), and
// they take turns (line.go). Who has the pen writes, who has the ear reads, in the same
// order; in between a flight may follow another one before its replies are in. With
// DATA, the commands of the next message ride behind the final dot. Nobody writes
// without somebody reading, so there is no deadlock (RFC 2920 3.1). What a lost
// connection means for each of them: docs/adr/0016. When a connection carries the mail of
// another name at its address (coalesce.go): docs/adr/0017.
package smtpclient
