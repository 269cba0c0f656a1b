package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Entry is an envelope as an operator sees it.
type Entry struct {
	Message  Message  `json:"message"`
	Envelope Envelope `json:"envelope"`
	State    RowState `json:"state"`
	// Damage is why the envelope cannot be read: nothing but its ID is known then, and
	// only a drop does anything to it. State is RowDamaged.
	Damage string `json:"damage,omitempty"`
}

// Filter says which envelopes are meant. Zero fields match everything.
type Filter struct {
	ID        string        `json:"id,omitempty"`         // message or envelope ID
	Domain    string        `json:"domain,omitempty"`     // a name, or ".name" for all below it
	Sender    string        `json:"sender,omitempty"`     // an address, "@domain", or "<>"
	State     string        `json:"state,omitempty"`      // waiting, leased, held, damaged
	Reason    string        `json:"reason,omitempty"`     // of the last failure of a recipient
	OlderThan time.Duration `json:"older_than,omitempty"` // since acceptance
	Limit     int           `json:"limit,omitempty"`      // 0: no limit
}

// Action is what an operator does to envelopes.
type Action struct {
	Verb   Verb `json:"verb"`
	DryRun bool `json:"dry_run,omitempty"` // only count
}

// Verb is an operator's verb.
type Verb string

// The verbs. Retry has a waiting envelope tried now, hold keeps one from being
// tried, release undoes that and has it tried now, drop gives all pending recipients
// up without a notice.
const (
	VerbRetry   Verb = "retry"
	VerbHold    Verb = "hold"
	VerbRelease Verb = "release"
	VerbDrop    Verb = "drop"
)

// fits reports whether the verb does something to an envelope in that state.
func (v Verb) fits(s RowState) bool {
	switch v {
	case VerbHold, VerbRetry:
		return s < RowHeld
	case VerbRelease:
		return s == RowHeld
	}
	return v == VerbDrop
}

// FilterError is an operator's mistake: a filter, an ID or a verb that cannot be
// meant. Its text says what is wrong and how to mend it, and is for that operator:
// it quotes what was given.
type FilterError struct{ Detail string }

// Error is the detail.
func (e *FilterError) Error() string { return e.Detail }

func badFilter(format string, args ...any) error {
	return &FilterError{fmt.Sprintf(format, args...)}
}

const scanPage = 256 // rows that the hand takes at a time

// matcher is a filter that was checked.
type matcher struct {
	Filter
	state  RowState
	reason policy.Reason
	sender Address
	now    time.Time
}

func (f Filter) compile(now time.Time) (*matcher, error) {
	m := &matcher{Filter: f, now: now}
	if f.ID != "" {
		if _, err := parseName(f.ID); err != nil {
			return nil, err
		}
	}
	if f.State != "" {
		if err := m.state.UnmarshalText([]byte(f.State)); err != nil || m.state == 0 {
			return nil, badFilter("state %q is unknown: use waiting, leased, held or damaged", f.State)
		}
	}
	if f.Reason != "" {
		i := slices.IndexFunc(policy.Reasons(), func(r policy.Reason) bool { return r.String() == f.Reason })
		if i < 0 {
			return nil, badFilter("reason %q is unknown: use a word as in the log, for example starttls-missing", f.Reason)
		}
		m.reason = policy.Reasons()[i]
	}
	dot := ""
	if strings.HasPrefix(f.Domain, ".") {
		dot = "."
	}
	if f.Domain != "" {
		d, err := ParseDomain(strings.TrimPrefix(f.Domain, "."))
		if err != nil {
			return nil, badFilter("%v: for domain use a name such as example.net, or .example.net for all below it", err)
		}
		m.Domain = dot + string(d)
	}
	return m, m.compileSender()
}

func (m *matcher) compileSender() (err error) {
	switch {
	case m.Sender == "" || m.Sender == "<>":
	case m.Sender[0] == '@':
		m.sender.Domain, err = ParseDomain(m.Sender[1:])
	default:
		m.sender, err = ParseAddress(m.Sender)
	}
	if err != nil {
		return badFilter("%v: for sender use an address, @domain, or <> for the null reverse path", err)
	}
	return nil
}

// match reports whether an envelope is meant.
func (m *matcher) match(e *Entry) bool {
	switch {
	case m.ID != "" && m.ID != string(e.Message.ID) && m.ID != string(e.Envelope.ID),
		m.Domain != "" && !e.Envelope.Lane.Within(m.Domain),
		m.state != 0 && m.state != e.State,
		e.State == RowDamaged && m.Sender != "", // it is not known
		m.OlderThan > 0 && m.now.Sub(e.Message.AcceptedAt) < m.OlderThan:
		return false
	}
	if m.Sender != "" && e.Message.Sender != m.sender {
		if m.Sender[0] != '@' || e.Message.Sender.Domain != m.sender.Domain {
			return false
		}
	}
	return m.reason == 0 || slices.ContainsFunc(e.Envelope.Recipients, func(r Recipient) bool {
		return r.State == Pending && r.Last != nil && r.Last.Failure != nil && r.Last.Failure.Reason == m.reason
	})
}

// List calls fn for each envelope that matches, by ID, until fn fails (ErrStop
// counts as nil). Memory does not grow with the queue. A bad filter is a *FilterError.
func (q *Queue) List(ctx context.Context, f Filter, fn func(Entry) error) error {
	m, err := f.compile(q.now())
	if err != nil {
		return err
	}
	n := 0
	err = q.each(ctx, m, func(_ *Row, e *Entry) error {
		if err := fn(*e); err != nil {
			return err
		}
		if n++; m.Limit > 0 && n >= m.Limit {
			return ErrStop
		}
		return nil
	})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// each calls fn for the rows that match, as they are now, page by page.
func (q *Queue) each(ctx context.Context, m *matcher, fn func(*Row, *Entry) error) error {
	visit := func(r *Row) error {
		if e := entry(r); m.match(e) {
			return fn(r, e)
		}
		return nil
	}
	if m.ID != "" {
		rows, err := q.rows(ctx, m.ID)
		for i := range rows {
			if err := visit(&rows[i]); err != nil {
				return err
			}
		}
		return err
	}
	for pos := ""; ; {
		var page []Row
		err := q.store.Scan(ctx, ScanQuery{Kind: ScanRows, After: pos, Limit: scanPage}, func(it Item) error {
			page, pos = append(page, it.Row), it.Pos
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		for i := range page {
			if err := visit(&page[i]); err != nil {
				return err
			}
		}
		if len(page) < scanPage {
			return nil
		}
	}
}

// parseName reads the ID of a message, or that of an envelope, for its message.
func parseName(name string) (ID, error) {
	id, err := ParseID(name)
	if err == nil {
		return id, nil
	}
	if id, _, err = EnvelopeID(name).Split(); err != nil {
		return "", badFilter("ID %.80q is no message ID (%d characters of 0-9 and A-Z) and no envelope ID (that, a hyphen and a number): take it from the list of the queue or from the log", name, idLength)
	}
	return id, nil
}

// rows returns the rows of a message, or of the message of an envelope; none when it
// is not there.
func (q *Queue) rows(ctx context.Context, name string) ([]Row, error) {
	id, err := parseName(name)
	if err != nil {
		return nil, err
	}
	record, rows, err := q.store.Read(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	for i := range rows {
		rows[i].Record = record
	}
	return rows, err
}

// Show returns all envelopes of a message. ErrNotFound when it is not there (any
// more), a *FilterError when id is no ID.
func (q *Queue) Show(ctx context.Context, id ID) ([]Entry, error) {
	rows, err := q.rows(ctx, string(id))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	list := make([]Entry, 0, len(rows))
	for i := range rows {
		list = append(list, *entry(&rows[i]))
	}
	return list, nil
}

// Act does the verb to each envelope that matches and to which it applies, and
// returns how many there were. A leased envelope is left alone until its lease ends,
// then acted on, unless this process ends before. A bad filter or verb is a
// *FilterError, and nothing is done.
func (q *Queue) Act(ctx context.Context, a Action, f Filter) (int, error) {
	if !slices.Contains([]Verb{VerbRetry, VerbHold, VerbRelease, VerbDrop}, a.Verb) {
		return 0, badFilter("verb %q is unknown: use retry, hold, release or drop", a.Verb)
	}
	m, err := f.compile(q.now())
	if err != nil {
		return 0, err
	}
	n := 0
	err = q.each(ctx, m, func(r *Row, e *Entry) error {
		if !a.Verb.fits(e.State) {
			return nil
		}
		if !a.DryRun {
			done, err := q.act(ctx, a.Verb, m, r)
			if err != nil || !done {
				return err
			}
		}
		if n++; m.Limit > 0 && n >= m.Limit {
			return ErrStop
		}
		return nil
	})
	if errors.Is(err, ErrStop) {
		err = nil
	}
	return n, err
}

// act does the verb to one row, however it moves meanwhile. It reports false when the
// row is gone or the filter does not mean it any more.
func (q *Queue) act(ctx context.Context, v Verb, m *matcher, r *Row) (bool, error) {
	for range 100 {
		if r.State == RowLeased && r.Damage == nil {
			done, wait := q.intend(v, r)
			if done {
				return true, nil
			}
			select {
			case <-ctx.Done():
				return false, ctx.Err()
			case <-wait:
			case <-time.After(10 * time.Millisecond):
			}
		} else if err := q.strike(ctx, v, r); !errors.Is(err, ErrStale) {
			return err == nil, err
		}
		record, rows, err := q.store.Read(ctx, r.Message)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(rows, func(x Row) bool { return x.Number == r.Number })
		if i < 0 {
			return false, nil
		}
		r = &rows[i]
		r.Record = record
		if e := entry(r); !v.fits(e.State) || !m.match(e) && m.state == 0 {
			return false, nil
		}
	}
	return false, fmt.Errorf("queue: envelope %s does not stand still", r.Message.EnvelopeID(r.Number))
}

// intend leaves a word for the courier's return. When it is too late for that, the
// channel says when to look again; nil when the lease is not ours.
func (q *Queue) intend(v Verb, r *Row) (done bool, wait <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.flying[rowKey{r.Message, r.Number}]
	switch {
	case f == nil:
		return false, nil
	case f.landing:
		return false, f.done
	}
	f.verb = v
	return true, nil
}

// strike does the verb to a row that is not leased. ErrStale when it moved.
func (q *Queue) strike(ctx context.Context, v Verb, r *Row) error {
	if r.Damage != nil {
		return q.dropDamaged(ctx, r)
	}
	m, e, err := decode(r)
	if err != nil {
		return err
	}
	t := trial{message: m, envelope: *e, verb: v, now: q.now().UTC()}
	s := q.tuned.Load().settle(t)
	return q.commit(ctx, r, &t, &s)
}

// Stats is the queue at a glance. States are "waiting", "leased", "held".
type Stats struct {
	Envelopes map[string]int
	Bytes     map[string]int64     // of the messages, counted for each envelope
	Oldest    map[string]time.Time // by acceptance; no key: none
}

// Stats counts; cheap enough for every scrape. Empty when the store is no Counter.
func (q *Queue) Stats() Stats {
	if c, ok := q.store.(Counter); ok {
		return c.Stats()
	}
	return Stats{}
}
