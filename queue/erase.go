package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A person is erased in this order, so that a crash at any step leaves something that a
// second call ends: waiting envelopes; then the journal, where stand-ins without the
// person are appended before the keys of the entries that name it are destroyed.

// Eraser is a Store that can destroy single entries of the journal (seal.Store).
type Eraser interface {
	// Retire has nothing more sealed by keys (Item.Key); when it returns nil, all entries that
	// are sealed by them can be scanned.
	Retire(ctx context.Context, keys []string) error
	// EraseEntries destroys keys, and at once those of all messages that are gone. It
	// returns the generation of keys that begins with it.
	EraseEntries(ctx context.Context, keys []string) (generation uint64, err error)
	// Mark is a keyed hash.
	Mark(text string) string
}

// Errors of an erasure.
var (
	ErrNobody     = errors.New("queue: nothing is held of this address")
	ErrNoEraser   = errors.New("queue: the store is not encrypted, so nothing in it can be erased before its time")
	ErrErasing    = errors.New("queue: an erasure is running already")
	ErrNotAPerson = errors.New("queue: too much names this address")
)

func nullAddress() error { return badFilter("address is empty: give the person's mail address") }

// defaultErased bounds the messages of one erasure: each costs some kilobytes of keys for as
// long as the journal is kept. An address that more of them name is an application's.
const defaultErased = 10_000

// ErasureReceipt says what an erasure did, and not to whom. The journal keeps it.
type ErasureReceipt struct {
	ID string `json:"id"`
	// Subject is a keyed hash of the address: it answers whether somebody was erased.
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	// Done is false for one that began, until there is another with the same ID.
	Done bool   `json:"done"`
	By   string `json:"by,omitempty"`
	// Messages had waiting Envelopes of that address, which were dropped.
	Messages  int `json:"messages"`
	Envelopes int `json:"envelopes"`
	// Entries of the journal named it, and were destroyed.
	Entries int `json:"entries"`
	// Generation is that of the keys which began with it.
	Generation uint64 `json:"generation,omitempty"`
}

// Erasure is a receipt, and what is left.
type Erasure struct {
	ErasureReceipt
	DryRun bool `json:"dry_run,omitempty"`
	// StandIns were appended to the journal for entries that were destroyed.
	StandIns int `json:"stand_ins"`
	// Waiting is the messages that go on for other recipients: their content, and older
	// forms of their envelopes on disk, can name the address until they are gone.
	Waiting int `json:"waiting,omitempty"`
	// Unreadable is the damaged envelopes: nobody knows whom they name.
	Unreadable int `json:"unreadable,omitempty"`
	// Plain is the entries from before encryption: they stay until their retention is over.
	Plain int `json:"plain,omitempty"`
	// Before are the receipts of earlier erasures of this address.
	Before []ErasureReceipt `json:"before,omitempty"`
}

// EraseOptions say how.
type EraseOptions struct {
	DryRun bool
	By     string                           // who: for the receipt
	Limit  int                              // of messages: more are left alone, all; 0: 10,000
	News   func(what string, seen, hit int) // of long work; nil: nobody is told. Must not block
}

// person is an address with all its spellings: the local part counts in any case, for a
// mailbox that tells Ann from ann is rarer than one who writes both.
type person struct{ Address }

func (p person) is(a Address) bool {
	return !a.IsNull() && a.Domain == p.Domain && strings.EqualFold(a.Local, p.Local)
}

// has reports whether a recipient is the person, by the name before an alias, too (RFC 3461 4.2).
func (p person) has(r *Recipient) bool {
	if p.is(r.Address) {
		return true
	}
	_, original, _ := strings.Cut(r.ORcpt, ";")
	a, err := ParseAddress(original)
	return err == nil && p.is(a)
}

// named reports whether a journal entry names the person.
func (p person) named(j *JournalEntry) bool {
	for i := range j.Recipients {
		if p.is(j.Recipients[i].Address) {
			return true
		}
	}
	return p.is(j.Sender)
}

// text is what the keyed hash is of.
func (p person) text() string { return strings.ToLower(p.Local) + "@" + string(p.Domain) }

// Erase removes a person, as recipient and as sender, from queue and journal, and destroys
// what decrypts it. Envelopes are dropped without a notice; other recipients keep theirs.
// One that is in delivery goes when that ends. What the journal tells without the person
// stays. Erasing again is harmless and ends what was interrupted. ErrNobody when nothing is
// held (the result then tells of erasures before).
func (q *Queue) Erase(ctx context.Context, a Address, o EraseOptions) (*Erasure, error) {
	if a.IsNull() {
		return nil, nullAddress()
	}
	eraser, ok := q.store.(Eraser)
	if !ok {
		return nil, ErrNoEraser
	}
	if !q.erasing.TryLock() {
		return nil, ErrErasing
	}
	defer q.erasing.Unlock()
	w := &erasure{q: q, eraser: eraser, p: person{a}, o: o}
	if w.o.Limit <= 0 {
		w.o.Limit = defaultErased
	}
	if w.o.News == nil {
		w.o.News = func(string, int, int) {}
	}
	w.res = Erasure{DryRun: o.DryRun, ErasureReceipt: ErasureReceipt{
		ID: string(NewID(time.Now())), Subject: eraser.Mark(w.p.text()), At: time.Now().UTC(), By: o.By,
	}}
	err := w.run(ctx)
	if w.acted {
		err = errors.Join(err, w.noteDeed(context.WithoutCancel(ctx), err))
	}
	return &w.res, err
}

// noteDeed has the journal keep who did it and how it ended, beside the receipt. The person is
// in neither.
func (w *erasure) noteDeed(ctx context.Context, err error) error {
	note := OperatorAction{Verb: "erase", By: w.o.By, Target: "receipt " + w.res.ID, Matched: w.res.Envelopes + w.res.Entries, Done: w.res.Envelopes + w.res.Entries}
	if err != nil {
		note.Done, note.Failed = 0, "interrupted: what it has not done, the next one does"
	}
	return w.q.Note(ctx, note)
}

// erasure is one that is under way.
type erasure struct {
	q      *Queue
	eraser Eraser
	p      person
	o      EraseOptions
	res    Erasure
	keys   map[string]bool // of the entries that name the person, and of those beside them
	copied map[string]bool // positions of entries that have a stand-in
	begun  bool            // an erasure before was interrupted
	acted  bool            // it is more than a look
}

func (w *erasure) run(ctx context.Context) error {
	// Looked at first, all of it: what is too much is left alone.
	messages, err := w.lookAtQueue(ctx, false)
	if err == nil {
		err = w.lookAtJournal(ctx)
	}
	switch n := max(len(messages), len(w.keys)); {
	case err != nil:
		return err
	case n > w.o.Limit:
		return fmt.Errorf("%w: %d messages or more do, and %d can be erased at once: it is an application's, not a person's; drop its mail with a filter, and let queue.journal_retention take the rest", ErrNotAPerson, n, w.o.Limit)
	case n == 0 && w.res.Plain == 0 && !w.begun:
		return ErrNobody
	}
	if w.o.DryRun {
		return nil
	}
	w.acted = true
	w.res.Envelopes, w.res.Unreadable = 0, 0
	if messages, err = w.lookAtQueue(ctx, true); err != nil {
		return err
	}
	w.res.Messages = len(messages)
	if w.res.Waiting, err = w.left(ctx, messages); err != nil {
		return err
	}
	return w.eraseJournal(ctx)
}

// eraseJournal destroys the entries that name the person.
func (w *erasure) eraseJournal(ctx context.Context) error {
	// Again: the end of a delivery in between wrote one more.
	if err := w.lookAtJournal(ctx); err != nil {
		return err
	}
	keys := make([]string, 0, len(w.keys))
	for k := range w.keys {
		keys = append(keys, k)
	}
	if err := w.eraser.Retire(ctx, keys); err != nil {
		return err
	}
	if err := w.appendStandIns(ctx); err != nil {
		return err
	}
	if err := w.note(ctx); err != nil {
		return err
	}
	var err error
	if w.res.Generation, err = w.eraser.EraseEntries(ctx, keys); err != nil {
		return err
	}
	w.res.Done, w.res.At = true, time.Now().UTC()
	return w.note(ctx)
}

// note writes the receipt.
func (w *erasure) note(ctx context.Context) error {
	r := w.res.ErasureReceipt
	return w.append(ctx, []JournalEntry{{Version: JournalVersion, Kind: EntryErased, At: r.At, Erasure: &r}})
}

// append adds entries to the journal, under no message.
func (w *erasure) append(ctx context.Context, list []JournalEntry) error {
	c := &Change{}
	for i := range list {
		line, err := marshalEntry(&list[i])
		if err != nil {
			return err
		}
		c.Entries = append(c.Entries, line)
	}
	if err := w.q.store.Commit(ctx, c); err != nil {
		return err
	}
	w.q.news.broadcast()
	return nil
}
