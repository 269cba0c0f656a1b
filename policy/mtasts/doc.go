// Package mtasts finds the MTA-STS policy of a recipient domain (RFC 8461).
//
// The problem: a domain without DNSSEC can still say over HTTPS which hosts take its
// mail and that they must show a good certificate. That promise is worth something only
// when it is remembered: whoever can suppress one TXT answer or one web request could
// else take the protection away. And it must not stop mail by itself: a record without
// a policy, a web host that is down, a policy that cannot be read are all as if there
// were no MTA-STS, unless a policy is remembered.
//
// Standards: RFC 8461 3.1 (TXT record), 3.2 (policy), 3.3 (fetch, cache), 3.4 (smart
// hosts), 5.1 (asking anew at a mismatch), 8.3 (mode none), 10.2 (refresh); 6125 (names
// in certificates), 8460 4.3 (what a failure is called in a report).
//
// Parsing ([ParseRecords], [ParsePolicy]) is pure. [Fetcher] makes the one GET that the
// RFC allows. [Cache] joins DNS, fetcher and memory, and answers [Cache.Get] for every
// delivery.
//
// Guarantees:
//
//  1. An unexpired policy applies, whatever DNS or the web host say meanwhile (3.3
//     MUST); only a new policy that was fetched with success takes its place.
//  2. A policy is that of one domain, never of its parent, its MX host or another
//     domain at the same host (3.4).
//  3. Redirects are not followed, HTTP caches and proxies not used, certificates
//     matched by DNS-ID alone (3.3). Nobody can make us connect to an address that is
//     not for the internet, unless the operator allows it.
//  4. A failed fetch is not repeated for five minutes for the same id, and one domain
//     has one fetch at a time, however many deliveries wait for it.
//  5. A delivery waits for a first policy, for a bounded time, while the fetch goes on.
//  6. Policies are put on a [Shelf] and survive a restart; they are renewed at a random
//     time long before they expire, and a failure to do so is told to the operator.
//  7. Memory is bounded.
package mtasts
