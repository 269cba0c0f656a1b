package queue

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// OperatorAction is what an operator did to the relay as a whole, or to many envelopes at
// once, as the journal keeps it. (What it did to each envelope is in that envelope's own
// entry.) It names nobody by address: the journal keeps it when a person is erased.
type OperatorAction struct {
	Verb string `json:"verb"` // "drop", "suspend", "reload", ...
	// By is who: "uid 1000, pid 4242" on the admin socket, "token" over TCP, "signal", "time"
	// for what ended by itself.
	By     string `json:"by,omitempty"`
	Target string `json:"target,omitempty"` // what it was done to: Filter.String, a domain, a file
	Reason string `json:"reason,omitempty"` // the operator's own words
	// Until is when it ends by itself; zero: it does not, or has ended.
	Until   time.Time `json:"until,omitzero"`
	Matched int       `json:"matched,omitempty"` // envelopes that were meant
	Done    int       `json:"done,omitempty"`    // and that it was done to
	// Failed is why it was not done to the end.
	Failed string `json:"failed,omitempty"`
	// Notes are further facts: the overrides in force after a reload.
	Notes []string `json:"notes,omitempty"`
}

// Bounds of an OperatorAction.
const (
	maxNote  = 500 // octets of a text
	maxNotes = 1000
)

// Note writes an operator's action into the journal. nil: it is on disk.
func (q *Queue) Note(ctx context.Context, a OperatorAction) error {
	for _, s := range []*string{&a.Verb, &a.By, &a.Target, &a.Reason, &a.Failed} {
		*s = clip(*s, maxNote)
	}
	if len(a.Notes) > maxNotes {
		a.Notes = append(slices.Clone(a.Notes[:maxNotes]), fmt.Sprintf("and %d more", len(a.Notes)-maxNotes))
	}
	line, err := marshalEntry(&JournalEntry{Version: JournalVersion, Kind: EntryOperator, At: time.Now().UTC(), Operator: &a})
	if err != nil {
		return fmt.Errorf("queue: journal: %w", err)
	}
	if err := q.store.Commit(ctx, &Change{Entries: [][]byte{line}}); err != nil {
		return fmt.Errorf("queue: journal: %w", err)
	}
	q.news.broadcast()
	return nil
}

// clip cuts a text to n octets at most, and not through a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
