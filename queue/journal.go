package queue

import (
	"encoding/json"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// JournalVersion is the version of JournalEntry that is written now.
const JournalVersion = 1

// EntryKind is what a journal entry is about.
type EntryKind string

// The kinds of entry.
const (
	// EntryAccepted: a message became ours. One for each message, notices too.
	EntryAccepted EntryKind = "accepted"
	// EntrySettled: a lease ended; the recipients tell what became of each.
	EntrySettled EntryKind = "settled"
	// EntryAction: the operator's hand on one envelope.
	EntryAction EntryKind = "action"
	// EntryOperator: what an operator did, as a whole; about no message. See Queue.Note.
	EntryOperator EntryKind = "operator"
	// EntryErased stands in for an entry that was destroyed with a person's data: it tells
	// levels and states, and that person by no name. Was is the kind that it had. Or it is the
	// receipt of an erasure, about no message. Nothing new happened: who follows the journal to
	// act on it passes it by, who counts the past takes it for what it was.
	EntryErased EntryKind = "erased"
)

// JournalEntry is what Follow's readers get, as JSON. It is written in the same
// commit as what it tells. It stands for itself: the message may be gone. Each
// accepted recipient gets exactly one entry in which its state is final (delivered,
// bounced, expired, dropped); but those of an envelope that cannot be read, which an
// operator drops, are not known: its last entry has no recipients.
type JournalEntry struct {
	Version    int           `json:"v"`
	Kind       EntryKind     `json:"kind"`
	At         time.Time     `json:"at"`
	Message    ID            `json:"msg"`
	Envelope   EnvelopeID    `json:"env,omitempty"`
	Domain     policy.Domain `json:"domain,omitempty"` // of the envelope
	AcceptedAt time.Time     `json:"accepted_at"`
	Listener   string        `json:"listener,omitempty"`
	Credential string        `json:"credential,omitempty"`
	Sender     Address       `json:"sender"`
	Stream     string        `json:"stream,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Size       int64         `json:"size"` // octets
	Tries      int           `json:"tries,omitempty"`
	Free       bool          `json:"free,omitempty"` // the attempt burned no try
	Verb       Verb          `json:"verb,omitempty"` // what the operator did
	// Due is when the envelope is tried next; zero when it is done or held.
	Due time.Time `json:"due,omitzero"`
	// Attempt is the courier's record (relay.Attempt).
	Attempt json.RawMessage `json:"attempt,omitempty"`
	// Recipients are those that the entry changes something for.
	Recipients []JournalRecipient `json:"recipients,omitempty"`
	// Notices are the kinds of notice that were queued in the same commit.
	Notices []NoticeKind `json:"notices,omitempty"`
	// Operator is what was done; for EntryOperator, whose message is empty.
	Operator *OperatorAction `json:"operator,omitempty"`
	// Of EntryErased: the kind and the position of the entry that it stands for, or a receipt.
	Was     EntryKind       `json:"was,omitempty"`
	Of      string          `json:"of,omitempty"`
	Erasure *ErasureReceipt `json:"erasure,omitempty"`
}

// JournalRecipient is a recipient in an entry.
type JournalRecipient struct {
	Number  int            `json:"n"` // in the envelope
	Address Address        `json:"address"`
	State   RecipientState `json:"state"`
	Level   policy.Level   `json:"level,omitempty"` // achieved
	Host    policy.Domain  `json:"host,omitempty"`
	Reason  policy.Reason  `json:"reason,omitempty"`
	Code    int            `json:"code,omitempty"`
	Status  string         `json:"status,omitempty"`
}

// About is the kind of what an entry tells: that of the entry which it stands for, if it does.
func (j *JournalEntry) About() EntryKind {
	if j.Kind == EntryErased && j.Was != "" {
		return j.Was
	}
	return j.Kind
}

// newEntry begins an entry about a message.
func newEntry(k EntryKind, m *Message, now time.Time) JournalEntry {
	return JournalEntry{
		Version: JournalVersion, Kind: k, At: now, Message: m.ID, AcceptedAt: m.AcceptedAt, Listener: m.Listener,
		Credential: m.Credential, Sender: m.Sender, Stream: m.Stream, Tag: m.Tag, Size: m.Size,
	}
}

// about adds an envelope and those of its recipients that changed.
func (j *JournalEntry) about(e *Envelope, changed []Outcome) {
	j.Envelope, j.Domain, j.Tries = e.ID, e.Lane, e.Tries
	for i := range changed {
		o := &changed[i]
		r := JournalRecipient{
			Number: o.Recipient, Address: e.Recipients[o.Recipient].Address,
			State: e.Recipients[o.Recipient].State, Level: o.Level, Host: o.Host,
		}
		if o.Failure != nil {
			r.Reason, r.Status = o.Failure.Reason, o.Failure.Code()
		}
		if o.Reply != nil {
			r.Code = o.Reply.Code
			if o.Reply.Status != "" {
				r.Status = o.Reply.Status
			}
		}
		j.Recipients = append(j.Recipients, r)
	}
}
