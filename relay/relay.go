package relay

import (
	"context"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Scout gathers facts about a recipient domain. Implemented by policy/discover.
// It returns facts in every case: what could not be learned is Unknown in them.
// An error means that we were interrupted.
type Scout interface {
	Facts(ctx context.Context, d policy.Domain) (policy.Facts, error)
	// Renew asks again for the domain's MTA-STS policy, because a host has just failed
	// it (RFC 8461 5.1), and reports whether another one is in force now; the facts are
	// then the new ones.
	Renew(ctx context.Context, d policy.Domain) (f policy.Facts, changed bool, err error)
}

// Memory is told what was seen of hosts; what it remembers comes back in the facts.
// Implemented by policy/memory. Calls are concurrent and must not block.
type Memory interface {
	Saw(host policy.Domain, ip6 bool, s policy.Sighting)
}

// Opener opens a session for a step, or takes a pooled one, and measures it.
// Implemented by smtpclient.Pool. The evidence is that of this session judged
// against this step, also when the session is a reused one. On failure the
// session is nil and the connection is closed; the evidence is that of a TLS
// handshake that succeeded before something else failed, or zero.
type Opener interface {
	Open(ctx context.Context, s policy.Step) (Session, policy.Evidence, *policy.Failure)
}

// Session is one open SMTP session, after EHLO. It belongs to one goroutine.
type Session interface {
	// Send runs one mail transaction. It always fills one result for each
	// recipient. Nothing is sent before the caller has judged the level.
	Send(ctx context.Context, t *Transaction) Sent
	// Release ends our use: the session goes back to the pool when it is fit for
	// another transaction, else it is ended. Exactly one of Release and Quit.
	Release()
	// Quit ends the session politely (QUIT, not waited for): its level is too weak.
	Quit()
	// Reused reports whether the session came from the pool.
	Reused() bool
	// Evidence is that of the connection that is really in use: Send may replace a
	// pooled one that turns out to be dead by one that proves no less.
	Evidence() policy.Evidence
}

// Transaction is one message to some recipients at one host.
type Transaction struct {
	Message    *queue.Message
	Recipients []queue.Recipient
	// RequireTLS sends the REQUIRETLS parameter (RFC 8689 2), where offered.
	RequireTLS bool
	// Body opens the content; Send closes it.
	Body func(context.Context) (queue.Body, error)
}

// Sent is what came of a transaction.
type Sent struct {
	// Results has one entry for each recipient, in order.
	Results []RecipientResult
	// DSN: the host takes on the notices that were asked for (RFC 3461).
	DSN bool
}

// RecipientResult is what came of one recipient. Failure nil: the host has taken
// responsibility.
type RecipientResult struct {
	Reply   *queue.Reply
	Failure *policy.Failure
}

// Observer is told of every attempt, at once. Calls are concurrent and must not block.
type Observer interface {
	Attempted(a *Attempt)
}
