// Package httpapi is the relay's HTTP side: metrics, health, a status page for a
// person, and the admin API with its typed client for the command line.
//
// The problem: the same port that an operator looks at in a browser is within
// reach of every web page that this browser opens, and of everybody on the machine.
// What only shows counts may be open; what shows addresses or changes the queue
// must not be.
//
// So there are two doors. The TCP one has /metrics, /healthz, /readyz and the page
// on /, which show no address: domains and hosts, never a local part. The admin
// API is on a unix socket that only its owner may open, and on TCP only for who has
// the token.
//
//	GET  /metrics                 Prometheus (the handler is given)
//	GET  /healthz                 200 while the process lives and its loops run, else 503
//	GET  /readyz                  200 when mail can be taken and sent, else 503; each check by name
//	GET  /                        status page; ?refresh=10 renews itself
//	GET  /admin/queue             envelopes that match, as JSON lines
//	GET  /admin/queue/summary     how many match, by ?by=
//	GET  /admin/queue/{id}        one message's envelopes
//	POST /admin/queue/{verb}      retry, hold, release, drop what matches: {"matched":n,"done":n}
//	GET  /admin/queue/suspensions what is suspended
//	POST /admin/queue/suspend     ?domain= or ?all=true, with reason, for or until
//	POST /admin/queue/resume      ?domain= or ?all=true
//	POST /admin/backup            ?dir=; on the socket only
//	GET  /admin/attempts          the latest attempts, as JSON lines
//	GET  /admin/explain           how mail to ?domain= is treated, and why; &probe=true asks its hosts
//	GET  /admin/memory/hosts      what is remembered of hosts, as JSON lines
//	GET  /admin/memory/policies   the cached MTA-STS policies, as JSON lines
//	POST /admin/memory/forget     forgets a host or a domain's policy: ?name=
//	GET  /admin/keys              the keys of the encryption at rest (not what they are), as JSON lines
//	POST /admin/keys/rotate       a new key-encryption key
//	POST /admin/export            what is held of a person, as JSON lines; address= in the form
//	POST /admin/erase             erases a person: news and then the receipt, as JSON lines; address=, dry_run= in the form
//
// The filter of the admin API is in the query, in the words of queue.Filter; POST also takes
// dry_run and progress. docs/admin-api.md has all of it. GET /admin/attempts takes msg and
// limit; it gives the latest 10 of one message when there is no limit. A filter that cannot be
// meant is a 400 that says how to mend it.
//
// The standards: RFC 9110 (HTTP), RFC 9457 (problem details), RFC 6750 (bearer
// tokens), the Content Security Policy of the W3C.
//
// What it guarantees:
//
//  1. No local part of an address and no remote text is on the page.
//  2. A page loads nothing from anywhere, runs no script and cannot be framed.
//  3. A name that was rebound to loopback gets no page (421): see guard.go.
//  4. A list costs one entry of memory, however long the queue is; a list that is
//     not complete ends in a broken connection, never in a good-looking end.
//  5. An internal fault is a 5xx without its text.
//  6. The socket of a live server is never taken over, and a file that is no socket
//     is never removed.
package httpapi
