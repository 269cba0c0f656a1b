// Package memory is the book in which is written what was seen of mail hosts.
//
// The problem: a sender without a memory is fooled anew with each message. Who can
// take STARTTLS out of one answer gets the mail in clear, although the host had TLS
// yesterday and every day before. A sender with the wrong memory is worse: one forged
// failure, remembered as "this host cannot do TLS", opens it for days. So what is written
// here can only raise a floor and choose an order; what it means is for policy.Memory, and
// the judge, policy.Decide, who finds it in the facts.
//
// Standards: none; RFC 7435 is the idea of using what is known of a peer.
//
// Guarantees:
//
//  1. Saw and Recall wait for no disk, and for no other host's writer but those in the same
//     of 256 drawers, for microseconds.
//  2. The book is bounded. When a drawer is full, what has faded goes first, then what was
//     seen last the longest ago, hosts that are remembered for TLS after all others:
//     nobody makes us forget a good host by showing us bad ones.
//  3. It survives a restart: a changed drawer is written to the shelf within a minute or
//     two, all of them when Run ends, as one value each. What a crash takes is the
//     newest part; the book is older then, never wrong.
//  4. A value that cannot be read is logged and dropped. No memory is no reason to stop.
//  5. Logs name hosts and levels, never an address.
package memory
