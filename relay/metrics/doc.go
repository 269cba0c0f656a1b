// Package metrics counts what the relay does, for Prometheus. It is the only
// importer of client_golang.
//
// The problem: an operator must see from a graph how well mail is protected, what
// kept it back, and whether it moves at all; and a metric must never become a leak
// or a burden. Recipient domains, addresses and remote texts in a label would be
// both: they are personal, and there is no end to them.
//
// The standards: the Prometheus text and OpenMetrics formats; RFC 8460 4.3 for the
// words of TLS failures.
//
// What it guarantees:
//
//  1. Every label's values are a closed set (axes.go). What is not in it is "other".
//  2. Every series is there from the start, at 0: a rate works from the first event,
//     and a missing series is a fault, not a quiet day.
//  3. Nothing here panics, blocks or allocates on the way of a mail: counters are
//     resolved once, into arrays.
//  4. Each metric is one row of one table (table.go), which registers it, describes
//     it and prints the reference ([Reference]).
//
// A [Metrics] implements relay.Observer and queue.Observer. The docks report
// through the views [Metrics.Submission], [Metrics.Client] and [Metrics.Facts],
// which take plain types: siblings do not know each other. What is a state and not
// an event (the queue's size, free storage) is read at each scrape from [Sources].
package metrics
