package queue

import (
	"context"

	"time"
)

// Options of a Queue. The zero value is not usable: Store is needed.
type Options struct {
	Store    Store
	Composer Composer // nil: no notices
	// Schedule is the delays between tries; the last one repeats. Jitter is added.
	Schedule  []time.Duration
	GiveUp    time.Duration // age at which pending recipients expire
	WarnAfter time.Duration // age of the delay notice; 0: never
	Workers   int           // envelopes in delivery at once
	PerLane   int           // of them in one lane
	// AttemptLimit bounds one Deliver call; the lease lasts a little longer.
	AttemptLimit time.Duration
	// MinFree is asked before each acceptance; nil: no gate. An error (ErrFull)
	// refuses the draft.
	Gate     func() error
	Observer Observer // nil: nobody is told
}

// Observer is told what the queue did. Calls are concurrent and must not block.
type Observer interface {
	Accepted(m *Message, recipients int)
	// Settled is called after the commit with the recipients whose state or last
	// outcome changed.
	Settled(m *Message, e *Envelope, o []Outcome)
	// Noticed is called for each notice that was queued.
	Noticed(kind NoticeKind)
}

// Queue is the vault: it knows time, leases and recipients, and nothing of TLS.
type Queue struct{}

// New returns a queue over a store that it does not own.
func New(o Options) (*Queue, error) { return &Queue{}, nil }

// Enqueue accepts a draft. nil means on disk, ours.
func (q *Queue) Enqueue(ctx context.Context, d *Draft) (ID, error) { return "", nil }

// Run claims due envelopes and has them delivered until ctx is done; then it
// waits for the couriers in flight (they see ctx done) and returns.
func (q *Queue) Run(ctx context.Context, c Courier) error { return nil }

// Entry is an envelope as an operator sees it.
type Entry struct {
	Message  Message  `json:"message"`
	Envelope Envelope `json:"envelope"`
	State    RowState `json:"state"`
}

// Filter says which envelopes are meant. Zero fields match everything.
type Filter struct {
	ID        string        `json:"id,omitempty"` // message or envelope ID
	Domain    string        `json:"domain,omitempty"`
	Sender    string        `json:"sender,omitempty"`
	State     string        `json:"state,omitempty"`  // waiting, leased, held
	Reason    string        `json:"reason,omitempty"` // of the last failure
	OlderThan time.Duration `json:"older_than,omitempty"`
	Limit     int           `json:"limit,omitempty"`
}

// List calls fn for each envelope that matches, by ID.
func (q *Queue) List(ctx context.Context, f Filter, fn func(Entry) error) error { return nil }

// Show returns all envelopes of a message.
func (q *Queue) Show(ctx context.Context, id ID) ([]Entry, error) { return nil, nil }

// Act does the verb to each envelope that matches, and returns how many there
// were. A leased envelope is left alone until its lease ends, then acted on.
func (q *Queue) Act(ctx context.Context, a Action, f Filter) (int, error) { return 0, nil }

// Action is what an operator does to envelopes.
type Action struct {
	Verb   Verb `json:"verb"`
	DryRun bool `json:"dry_run,omitempty"` // only count
}

// Verb is an operator's verb.
type Verb string

// The verbs.
const (
	VerbRetry   Verb = "retry"
	VerbHold    Verb = "hold"
	VerbRelease Verb = "release"
	VerbDrop    Verb = "drop"
)

// Stats is the queue at a glance. States are "waiting", "leased", "held".
type Stats struct {
	Envelopes map[string]int
	Bytes     map[string]int64
	Oldest    map[string]time.Time // by acceptance
}

// Stats counts; cheap enough for every scrape.
func (q *Queue) Stats() Stats { return Stats{} }

// Follow calls fn for each journal entry after the reader's durable cursor, in
// order, at least once, until ctx is done or fn fails.
func (q *Queue) Follow(ctx context.Context, reader string, fn func([]byte) error) error { return nil }
