// Package submission is the inbound dock: applications hand mail in over SMTP, and it
// goes into the queue or is refused with a reply that says why.
//
// # The problem
//
// What stands at this door speaks for an operator's good name: whoever gets through may
// send as him. So the door must know who is there, take only what the protocol allows,
// never take the content of a message for commands, and stay up whatever is sent to
// it. go-smtp serves the protocol, but trusts its client too much (libraries.md section
// 1, F1 to F13; field-notes.md section 14, S7 to S43).
//
// # The layers
//
//	TCP (PROXY header) -> TLS -> gate -> go-smtp -> session -> content -> Sink
//
// The gate is the net.Conn that go-smtp sees, and it stands above TLS: it does the TLS
// handshakes itself, also for STARTTLS, after which a new gate and a new go-smtp
// connection carry on and nothing from before is known (RFC 3207 4.2). Only there can the
// raw command lines be seen, and only there do one command line and the octets of one
// piece of content arrive as exactly that. It is what libraries.md calls guardConn.
// The content of DATA goes from gate to session directly, go-smtp sees an empty one.
//
//   - gate.go: phases, deadlines, framing of content; gate_reply.go: the replies;
//     gate_wait.go: waiting for input, and how draining interrupts it
//   - command.go: what a command line must look like; framing.go: the end of DATA
//   - session.go: go-smtp's callbacks; auth.go: SASL; credential.go, password.go,
//     throttle.go: who may log in, and who has tried too often
//   - content.go, header.go, received.go: the message as it streams past
//   - server.go, registry.go, certificate.go: listeners, limits, draining, certificates
//   - reply.go: the one table of what clients are told
//
// # Standards
//
// RFC 5321 (SMTP), 6409 (submission), 3207 (STARTTLS), 8314 (TLS for submission), 4954 and
// 4616, 5802, 7677, 9266 (AUTH, PLAIN, SCRAM, channel binding), 1870 (SIZE), 2920
// (PIPELINING), 3030 (CHUNKING; BINARYMIME stays off), 3461 (DSN), 6152 (8BITMIME), 6531
// (SMTPUTF8), 8689 (REQUIRETLS), 2034 and 3463 (status codes), 3848 (transmission types).
//
// # Guarantees
//
//   - 250 after content means that the Sink has returned nil, and the ID in the reply is the
//     one in Received and in the journal.
//   - Content is never read as commands: after a timeout, an early end or a chunk of unknown
//     size the connection ends. CR LF . CR LF alone ends DATA; content with a bare CR, a bare
//     LF or a NUL is refused (554 5.6.0), so nothing that was accepted can smuggle onwards.
//     After a bare CR or LF the connection is closed behind that reply, so nothing that stands
//     behind such content is carried out, wherever somebody saw its end.
//     NUL: RFC 5321 4.1.1.4 lets all ASCII pass, but RFC 2045 2.7 and 2.8 forbid it in 7bit
//     and 8bit data, and a receiver that drops it would join what it kept apart.
//   - Lines of content over 998 octets pass up to Limits.LineBytes: HTML without line breaks
//     is common, and whether to wrap it is not ours to decide.
//   - Only the header section is held in memory; bodies stream.
//   - An address is the one that queue.ParseAddress made of the raw command line.
//   - Passwords are asked for under TLS or on loopback only. Unknown names cost the time of
//     known ones. Failed logins delay and cut off their own network and name, and nobody else.
//   - No text of an internal error reaches a client: it is 451 4.3.0, and logged with the ID.
//   - Sealpost-* fields do not leave; one that cannot be honoured refuses the message.
//   - Where Options.Gate says that there is no room, MAIL is refused (452 4.3.1).
//   - Shutdown ends idle sessions with 421 4.3.2 and lets open transactions come to their end,
//     as long as their commands follow within Limits.DrainIdle.
//
// BUG: a client that closes TLS properly in the middle of DATA or of a chunk is noticed
// because the framing is known, so the truncation of F2 does not remain; what does remain
// is that a client's own BDAT LAST before its content is complete cannot be told from a
// complete message.
package submission
