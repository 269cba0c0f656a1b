package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
)

// glance reads an entry if it may be of interest: it holds the person's domain, or is of
// kind erased. Most are neither, and need not be decoded.
func (p person) glance(entry []byte) (*JournalEntry, error) {
	if !bytes.Contains(entry, []byte(p.Domain)) && !bytes.Contains(entry, []byte(`"kind":"`+EntryErased+`"`)) {
		return nil, nil
	}
	j := new(JournalEntry)
	return j, json.Unmarshal(entry, j)
}

// lookAtJournal finds what names the person.
func (w *erasure) lookAtJournal(ctx context.Context) error {
	w.keys, w.copied, w.begun = make(map[string]bool), make(map[string]bool), false
	w.res.Entries, w.res.Plain, w.res.Before = 0, 0, nil
	seen := 0
	return w.q.store.Scan(ctx, ScanQuery{Kind: ScanJournal}, func(it Item) error {
		if seen++; seen%newsEach == 0 {
			w.o.News("journal", seen, w.res.Entries)
		}
		j, err := w.p.glance(it.Entry)
		if err != nil || j == nil {
			return nil // it is no entry of this version: what it says is not known
		}
		if j.Of != "" {
			w.copied[j.Of] = true
		}
		if r := j.Erasure; r != nil && r.Subject == w.res.Subject {
			if w.begun = !r.Done; r.Done {
				w.res.Before = append(w.res.Before, *r)
			}
		}
		switch {
		case !w.p.named(j):
		case it.Key == "":
			w.res.Plain++
		default:
			if w.res.Entries++; len(w.keys) <= w.o.Limit {
				w.keys[it.Key] = true
			}
		}
		return nil
	})
}

// standInPage is how many stand-ins are written together.
const standInPage = 256

// appendStandIns writes what stays of the entries that will be destroyed: those that name
// the person, without it, and those that are sealed by the same keys. Those that have a
// stand-in from an erasure that was interrupted get no second one.
func (w *erasure) appendStandIns(ctx context.Context) error {
	var page []JournalEntry
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		if w.res.StandIns += len(page); w.res.StandIns%newsEach < len(page) && w.res.StandIns >= newsEach {
			w.o.News("stand-ins", w.res.StandIns, w.res.Entries)
		}
		err := w.append(ctx, page)
		page = page[:0]
		return err
	}
	err := w.q.store.Scan(ctx, ScanQuery{Kind: ScanJournal}, func(it Item) error {
		if !w.keys[it.Key] || w.copied[it.Pos] {
			return nil
		}
		var j JournalEntry
		if err := json.Unmarshal(it.Entry, &j); err != nil {
			return err // to destroy what is not understood would lose more than the person
		}
		page = append(page, w.p.standIn(j, it.Pos))
		if len(page) < standInPage {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// standIn is what stays of an entry. One that names others goes on naming them, and its
// message; of one that names nobody else domain, time, levels and outcomes stay, and whose
// credential it was.
func (p person) standIn(j JournalEntry, pos string) JournalEntry {
	if j.Kind != EntryErased {
		j.Kind, j.Was = EntryErased, j.Kind
	}
	j.Of, j.Tag = pos, "" // an application's word about the message, and so about the person
	if !p.named(&j) {
		return j
	}
	j.Recipients = slices.Clone(j.Recipients)
	others := false
	for i := range j.Recipients {
		r := &j.Recipients[i]
		if p.is(r.Address) {
			r.Address = Address{}
		}
		others = others || !r.Address.IsNull()
	}
	if p.is(j.Sender) {
		j.Sender = Address{}
	}
	if !others {
		j.Message, j.Envelope, j.Sender, j.Attempt = "", "", Address{}, nil
	}
	return j
}

// Holding is one thing that is held of a person.
type Holding struct {
	Envelope *Entry          `json:"envelope,omitempty"`
	Entry    *JournalEntry   `json:"entry,omitempty"`   // of the journal
	Erasure  *ErasureReceipt `json:"erasure,omitempty"` // that there was one
}

// Export calls fn with all that is held of a person: waiting envelopes, entries of the
// journal, receipts of erasures. Recipients beside the person are left out, unless the person
// is the sender. ErrNobody when there is nothing.
func (q *Queue) Export(ctx context.Context, a Address, fn func(Holding) error) error {
	if a.IsNull() {
		return nullAddress()
	}
	p, subject, n := person{a}, "", 0
	if e, ok := q.store.(Eraser); ok {
		subject = e.Mark(p.text())
	}
	tell := func(h Holding) error { n++; return fn(h) }
	err := q.List(ctx, Filter{}, func(e Entry) error {
		sender := p.is(e.Message.Sender)
		e.Envelope.Recipients = slices.DeleteFunc(slices.Clone(e.Envelope.Recipients), func(r Recipient) bool { return !sender && !p.has(&r) })
		if len(e.Envelope.Recipients) == 0 {
			return nil
		}
		return tell(Holding{Envelope: &e})
	})
	if err != nil {
		return err
	}
	err = q.store.Scan(ctx, ScanQuery{Kind: ScanJournal}, func(it Item) error {
		j, err := p.glance(it.Entry)
		switch {
		case err != nil || j == nil:
		case j.Erasure != nil && subject != "" && j.Erasure.Subject == subject:
			if !j.Erasure.Done {
				return nil // its end has an entry of its own
			}
			return tell(Holding{Erasure: j.Erasure})
		case p.named(j):
			if !p.is(j.Sender) {
				j.Recipients = slices.DeleteFunc(j.Recipients, func(r JournalRecipient) bool { return !p.is(r.Address) })
			}
			return tell(Holding{Entry: j})
		}
		return nil
	})
	if err == nil && n == 0 {
		err = ErrNobody
	}
	return err
}
