package queue

import (
	"context"
	"io"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// ID names a message: 26 characters, sortable by time of acceptance, unguessable.
type ID string

// EnvelopeID names an envelope: the message's ID, "-", and a number from 0.
type EnvelopeID string

// Message is content accepted once. It never changes after acceptance.
type Message struct {
	ID         ID             `json:"id"`
	AcceptedAt time.Time      `json:"accepted_at"`
	Listener   string         `json:"listener,omitempty"`   // submission listener, or "dsn"
	Credential string         `json:"credential,omitempty"` // who submitted it
	Sender     Address        `json:"sender"`               // zero value: the null reverse path
	Size       int64          `json:"size"`                 // octets of header and body as sent on
	EightBit   bool           `json:"eight_bit,omitempty"`  // content has octets above 127
	UTF8       bool           `json:"utf8,omitempty"`       // MAIL had SMTPUTF8 (RFC 6531)
	RequireTLS bool           `json:"require_tls,omitempty"`
	TLSOff     bool           `json:"tls_off,omitempty"` // TLS-Required: No
	Ret        string         `json:"ret,omitempty"`     // "FULL", "HDRS" or "" (RFC 3461 4.3)
	EnvelopeID string         `json:"envid,omitempty"`   // ENVID, decoded (RFC 3461 4.4)
	Floor      policy.Level   `json:"floor,omitempty"`   // the message's own floor
	Account    policy.Level   `json:"account,omitempty"` // the credential's floor
	OnUnmet    policy.OnUnmet `json:"on_unmet,omitempty"`
	Stream     string         `json:"stream,omitempty"`
	Tag        string         `json:"tag,omitempty"`
	Expires    time.Time      `json:"expires,omitzero"` // its own time limit; zero: retry.give_up
}

// Recipient is one address of an envelope with its state.
type Recipient struct {
	Address Address `json:"address"`
	// Notify is RFC 3461 4.1: zero means the default (FAILURE and DELAY as the relay likes).
	Notify Notify         `json:"notify,omitempty"`
	ORcpt  string         `json:"orcpt,omitempty"` // "rfc822;addr", decoded (RFC 3461 4.2)
	State  RecipientState `json:"state"`
	// Last is what happened to it last; nil before the first try.
	Last *Outcome `json:"last,omitempty"`
}

// Notify is a set of RFC 3461 4.1 wishes.
type Notify uint8

// The wishes. NotifyNever stands alone.
const (
	NotifySuccess Notify = 1 << iota
	NotifyFailure
	NotifyDelay
	NotifyNever
)

// RecipientState is where a recipient stands.
type RecipientState uint8

// The states of a recipient. The zero value is Pending, the only one that is tried.
const (
	Pending RecipientState = iota
	Delivered
	Bounced
	Expired
	Dropped
)

// Envelope is a message's recipients at ONE domain: the unit of scheduling.
type Envelope struct {
	ID         EnvelopeID    `json:"id"`
	Message    ID            `json:"message"`
	Lane       policy.Domain `json:"lane"`
	Recipients []Recipient   `json:"recipients"`
	Tries      int           `json:"tries"`
	Due        time.Time     `json:"due"`
	Held       bool          `json:"held,omitempty"`
	Warned     bool          `json:"warned,omitempty"` // a delay notice was sent
	Hinted     bool          `json:"hinted,omitempty"` // a hint of a host was followed
	// Suspended is when it would have been tried, were its destination not suspended.
	Suspended time.Time `json:"suspended,omitzero"`
}

// Reply is a remote host's reply, bounded and sanitised (one line, printable).
type Reply struct {
	Code   int    `json:"code"`
	Status string `json:"status,omitempty"` // enhanced status code as received (RFC 2034), or ""
	Text   string `json:"text,omitempty"`
}

// OutcomeKind is what one try did for one recipient.
type OutcomeKind uint8

// The kinds. The zero value is Deferred: forgetting never loses or bounces mail.
const (
	DeferredNow OutcomeKind = iota
	DeliveredNow
	BouncedNow
)

// Outcome is what one try did for one recipient.
type Outcome struct {
	Recipient int           `json:"-"` // index into Lease.Envelope.Recipients
	Kind      OutcomeKind   `json:"kind"`
	At        time.Time     `json:"at"`
	Host      policy.Domain `json:"host,omitempty"`  // MX host that decided
	Reply     *Reply        `json:"reply,omitempty"` // its reply, if any
	Level     policy.Level  `json:"level,omitempty"` // achieved, when a session stood
	// Seen is the best level at which a host was met for this recipient, in this
	// attempt or before: also by a handshake behind which something else failed.
	Seen policy.Level `json:"seen,omitempty"`
	// Failure is set unless delivered.
	Failure *policy.Failure `json:"failure,omitempty"`
	// Why says in our own words what protection was wanted, who asked for it and what the
	// hosts offered; set where there is a failure to explain.
	Why string `json:"why,omitempty"`
	// Relayed: delivered to a host that takes on RFC 3461 notices (it offered DSN).
	DSNHandedOn bool `json:"dsn_handed_on,omitempty"`
}

// Lease is the right to work on an envelope until a time. It is given to one
// courier goroutine.
type Lease struct {
	Message  Message
	Envelope Envelope
	Until    time.Time
	body     func(context.Context) (Body, error)
}

// NewLease returns a lease of nobody's store, for tests of couriers. body may be nil.
func NewLease(m Message, e Envelope, until time.Time, body func(context.Context) (Body, error)) *Lease {
	return &Lease{Message: m, Envelope: e, Until: until, body: body}
}

// Body opens the message's content. The caller closes it.
func (l *Lease) Body(ctx context.Context) (Body, error) {
	if l.body == nil {
		return nil, ErrNotFound
	}
	return l.body(ctx)
}

// Body is a message's content, read in order: header and body, CRLF line ends,
// not dot-stuffed, ending in CRLF.
type Body interface {
	io.ReadCloser
	// Size is the number of octets in all.
	Size() int64
}

// Report is what a courier brings back from one lease.
type Report struct {
	// Outcomes has one entry for each recipient that is pending; a missing one
	// counts as deferred.
	Outcomes []Outcome
	// Attempt is the record of the attempt (relay.Attempt, versioned JSON), for the journal.
	Attempt []byte
	// RetryAfter, when positive, overrides the schedule's next delay (a greylisting
	// hint, or "now" for an attempt that did not count).
	RetryAfter time.Duration
	// Free: the attempt burns no try (we were stopping, the resolver was down, the host
	// takes no more of us now).
	Free bool
	// Hint, when positive, is when the host asked to see the mail again (greylisting). It
	// overrides the schedule once in an envelope's life.
	Hint time.Duration
	// Rest, when positive, keeps the lane from being claimed for so long: see Row.Rest.
	Rest time.Duration
}

// Courier carries one envelope through plan, walk and session. Implemented by
// relay. It returns by the lease's end, and soon after ctx is done.
type Courier interface {
	Deliver(ctx context.Context, l *Lease) Report
}

// Draft is a message that is not ours yet.
type Draft struct {
	// Message: Enqueue fills in AcceptedAt and Size, and ID unless it is set already
	// (a caller that writes the ID into a Received header makes one with NewID).
	Message    Message
	Recipients []Recipient
	// Body is read to its end once; an error other than io.EOF makes Enqueue
	// forget the draft and return that error, wrapped.
	Body io.Reader
}

// Composer writes notices (RFC 3464). Implemented by relay/dsn. It returns nil
// for a notice that must not be sent (to the null reverse path, NOTIFY=NEVER).
type Composer interface {
	Compose(n Notice) (*Draft, error)
}

// NoticeKind is what a notice is about.
type NoticeKind uint8

// The kinds of notice (RFC 3464 2.3.3 action field).
const (
	NoticeFailed NoticeKind = iota + 1
	NoticeDelayed
	NoticeRelayed
)

// Notice asks for one DSN about some recipients of an envelope.
type Notice struct {
	Kind       NoticeKind
	Message    Message
	Envelope   Envelope
	Recipients []Recipient // those that it is about, with Last set
	// Original is the message's content, at most HeaderLimit octets of it, or all
	// when Ret is FULL and it is small (dsn decides what to use).
	Original []byte
	// WillRetryUntil is set for NoticeDelayed.
	WillRetryUntil time.Time
	Now            time.Time
}
