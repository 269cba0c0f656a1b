// Package discover gathers what the network says about a recipient domain: policy.Facts.
//
// The problem: where a domain's mail goes is spread over MX, address, alias and TLSA
// records, each of which can be missing, failing, insecure, hostile or pointing back
// at ourselves, and each of these means something else for delivery. A scout asks
// for all of it, keeps the answers apart with their DNSSEC status, and decides
// nothing: that is for policy.Decide.
//
// Standards: RFC 5321 5.1 (MX, implicit MX, order, ourselves in the list), 7505
// (null MX), 7672 2.1 and 2.2 (what may be believed, TLSA base domains), 6890 and
// its registries (addresses that are not public), 8461 3.4 (whose policy applies).
//
// Guarantees:
//
//  1. What could not be learned is Unknown in the facts, and only there: one broken
//     host or address family does not hurt the others (RFC 7672 2.1.2).
//  2. TLSA is asked only at hosts whose addresses, or whose first alias, are secure
//     (RFC 7672 2.2.2): servers of unsigned zones that choke on TLSA stall nothing.
//  3. Hosts are in order of preference; within one, in a new random order at each
//     call (RFC 5321 5.1 MUST).
//  4. No address in the facts is private, loopback, our own or otherwise not for the
//     internet, unless the operator allows it; our own listeners are never in them.
//  5. Facts are shared and cached for their TTL, minutes at most, so that any number
//     of messages to one domain costs one look-up; failures are kept for seconds.
//     Lookups are bounded in number and time.
//  6. The MTA-STS policy and what is remembered of hosts are asked for at each call:
//     they are never older than who keeps them says.
package discover
