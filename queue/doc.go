// Package queue is the vault: it keeps messages from the moment of acceptance until
// each recipient has its end. It knows time, leases and recipients, and nothing of TLS.
//
// The problem: a relay that says 250 has taken responsibility (RFC 5321 6.1). From
// then on the message must not be lost by a crash, a full disk, an operator or a bug,
// must be tried again and again for days, must not be sent more often than needed,
// and its sender must hear when it fails. The queues in the field lose mail where a
// state, its record and its bounce are written apart; here they are one commit.
//
// # The instant of acceptance
//
// A draft is the client's until Enqueue returns nil. At that moment body, record,
// envelopes and the journal's "accepted" entry are on disk, synced, as one step; only
// then may a 250 be sent. If Enqueue fails, or the process dies before, nothing
// of the draft stays.
//
// # Legal states
//
// A message is split by domain into envelopes; an envelope is a row of the Store. A
// recipient is pending until it has one of four final states, which nothing changes.
//
//	state of an envelope   on disk   leaves it by                       to
//	drafted                no        Enqueue, one synced step           waiting
//	                                 any error, crash                   (never was)
//	waiting                yes       due: Claim                         leased
//	                                 a suspension ends                  waiting, due sooner
//	                                 Act hold                           held
//	                                 Act drop                           gone
//	held                   yes       Act release                        waiting, due now
//	                                 its time is over: Claim            leased, to expire
//	                                 Act drop                           gone
//	leased                 as before settle, some pending               waiting, due later
//	                                 settle, some pending, held by Act  held
//	                                 settle, none pending               gone
//	                                 its destination is suspended       waiting, due at its end
//	                                 the lease runs out, crash          as before
//
//	state of a recipient   by
//	pending -> delivered   a host took responsibility
//	pending -> bounced     a permanent failure
//	pending -> expired     now is past AcceptedAt + GiveUp, or past the message's Expires,
//	                       at the end of a try or, waiting or held, at that moment
//	pending -> dropped     the operator, without a notice
//
// A lease is the right of one courier until a time. It has a fence, a number that
// grows with each lease and each change; a commit under an old fence is void. So a
// courier that comes back too late changes nothing. A crash while leased, or an
// overrun lease, means another try: the one way to a duplicate.
//
// # Guarantees
//
//  1. Enqueue nil: on disk. Never lost; each recipient gets exactly one final journal entry.
//  2. A final state, its journal entry and its notice are one commit.
//  3. What the courier forgets to report is a deferral, never a delivery or a bounce.
//  4. Expiry holds in every state. Changed limits count from the next time that an
//     envelope is looked at. During a pause (Options.Paused) nobody looks: what expires
//     meanwhile is given up, without another try, when the pause ends.
//  5. No notice about a notice; NOTIFY is kept (RFC 3461 4.1, RFC 5321 4.5.5).
//  6. Credentials and streams take turns, and within each its lanes: neither who sends
//     much nor a domain that is slow holds up others. One of them alone gets three of
//     four workers, so there is one for who comes next. PerLane bounds what one
//     domain can hold, and a domain that lets couriers wait in vain gets one at a time.
//  7. Run sleeps when there is nothing to do.
//  8. When ctx ends, what couriers in flight report is still written.
//
// # Suspensions
//
// Suspend keeps mail to a destination from being tried (docs/adr/0015-suspension.md). From
// its return on nothing sets off there; what flies lands as always. Expiry and notices of
// delay go on, no try is burned, and what waited goes in the order in which it would have, when
// the suspension ends, by itself or by Resume. Suspending Everything is a pause: as in 4, but
// what expires is given up within an hour.
//
// # Times
//
// Delays follow Options.Schedule with up to a fifth of jitter (RFC 5321 4.5.4.1). A
// courier's RetryAfter overrides one delay, within a second and an hour. After an
// uncertain end (connection lost behind the final dot) at least ten minutes pass.
// An attempt that is Free moves the envelope, but not along the schedule.
//
// The queue's time is the wall clock's, but it never goes back while the process lives:
// after a jump back it goes on from where it was until the wall clock has caught up, so
// nothing waits longer than its schedule says. After a restart due times on disk are up to
// the jump farther off, at most. A jump forward of more than a minute is taken over: what
// is due by it is tried, and what is over its time by it gets one more try before it
// expires. (Also when the machine was asleep; not when the process was not there.)
//
// RFCs: 5321 (4.1.2 mailboxes, 4.5.3.1 limits, 4.5.4.1 retries, 4.5.5 null reverse
// path), 3461 (4.1 NOTIFY, 5.2 responsibilities), 3463 3.5, 6531 3.3, 5891.
package queue
