package queue

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// Entry is an envelope as an operator sees it.
type Entry struct {
	Message  Message  `json:"message"`
	Envelope Envelope `json:"envelope"`
	State    RowState `json:"state"`
	// Damage is why the envelope cannot be read: nothing but its ID is known then, and
	// only a drop does anything to it. State is RowDamaged.
	Damage string `json:"damage,omitempty"`
	// Cursor is for Filter.After: a list goes on behind this envelope. Opaque.
	Cursor string `json:"cursor,omitempty"`
}

// Action is what an operator does to envelopes.
type Action struct {
	Verb   Verb   `json:"verb"`
	DryRun bool   `json:"dry_run,omitempty"` // only count
	By     string `json:"by,omitempty"`      // who: for the journal
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

const scanPage = 256 // rows that are read or written at a time

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

// each calls fn for the rows that match, as they are now. fn may keep what it is given.
func (q *Queue) each(ctx context.Context, m *matcher, fn func(*Row, *Entry) error) error {
	visit := func(r *Row, cursor string) error {
		if m.tick != nil {
			m.tick()
		}
		e := entry(r)
		if e.Cursor = cursor; !m.match(e) {
			return nil
		}
		return fn(r, e)
	}
	if m.ids != nil {
		return q.eachOf(ctx, m, visit)
	}
	begun := false
	var failed error
	err := q.store.Scan(ctx, ScanQuery{Kind: ScanRows, After: m.After, Lanes: m.lanes}, func(it Item) error {
		begun = true
		if failed = visit(&it.Row, it.Pos); failed != nil {
			return ErrStop
		}
		return nil
	})
	switch {
	case failed != nil:
		return failed
	case err != nil && !begun:
		return q.misplaced(ctx, m, err)
	}
	return err
}

// eachOf visits the rows of the messages that are named.
func (q *Queue) eachOf(ctx context.Context, m *matcher, visit func(*Row, string) error) error {
	done := make(map[ID]bool)
	for _, name := range slices.Sorted(maps.Keys(m.ids)) {
		id, err := parseName(name)
		if err != nil || done[id] {
			continue // each was checked
		}
		done[id] = true
		rows, err := q.rows(ctx, name)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := visit(&rows[i], ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// misplaced tells a cursor that is none from a store that cannot be read.
func (q *Queue) misplaced(ctx context.Context, m *matcher, err error) error {
	if m.After == "" {
		return err
	}
	if q.store.Scan(ctx, ScanQuery{Kind: ScanRows, Limit: 1}, func(Item) error { return nil }) != nil {
		return err
	}
	return badFilter("after %.80q is no cursor: take it from the last envelope of the page before", m.After)
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
