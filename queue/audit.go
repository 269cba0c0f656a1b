package queue

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Historian is a Store that knows the bounds of its journal.
type Historian interface {
	// JournalAt is a position before all entries of that time and later; some older ones
	// may be behind it, too. "" is the start.
	JournalAt(t time.Time) string
	// Missed is how many entries behind a position were removed before anybody at that
	// position could read them. None behind "", which is the oldest that is kept.
	Missed(pos string) uint64
}

// JournalReader reads the journal. Every Store is one.
type JournalReader interface {
	Scan(ctx context.Context, q ScanQuery, fn func(Item) error) error
}

// AuditFilter says about whom and what an audit is. Zero fields match everything, but
// for Outcomes: none means delivered.
type AuditFilter struct {
	Below      policy.Level `json:"below,omitempty"`      // achieved less than that
	Since      time.Time    `json:"since,omitzero"`       // of the outcome
	Until      time.Time    `json:"until,omitzero"`       // and before that
	Domain     string       `json:"domain,omitempty"`     // of the recipient: a name, or ".name" for all below it
	Sender     string       `json:"sender,omitempty"`     // an address, "@domain", or "<>"
	Recipient  string       `json:"recipient,omitempty"`  // an address or "@domain"
	Credential string       `json:"credential,omitempty"` // that submitted it
	Stream     string       `json:"stream,omitempty"`
	Outcomes   []string     `json:"outcomes,omitempty"` // of AuditOutcomes
	Limit      int          `json:"limit,omitempty"`    // 0: no limit
}

// AuditOutcomes are the words of an audit: what became of a recipient in the end, and
// deferred, which is one try that came to nothing.
func AuditOutcomes() []string {
	return []string{"delivered", "bounced", "expired", "dropped", "deferred"}
}

// AuditLine is what became of one recipient: of each that was accepted there is exactly
// one line that is not deferred.
type AuditLine struct {
	At         time.Time     `json:"at"`
	Outcome    string        `json:"outcome"`
	Level      policy.Level  `json:"level,omitempty"` // achieved
	Recipient  Address       `json:"recipient"`
	Domain     policy.Domain `json:"domain"`
	Host       policy.Domain `json:"mx,omitempty"`
	Wanted     policy.Level  `json:"wanted,omitempty"` // the floor
	Basis      policy.Basis  `json:"basis,omitempty"`  // who asked for it
	Rule       string        `json:"rule,omitempty"`
	Reason     policy.Reason `json:"reason,omitempty"` // why not, when not delivered
	Code       int           `json:"code,omitempty"`   // of the host's reply
	Status     string        `json:"status,omitempty"`
	Sender     Address       `json:"sender"`
	Credential string        `json:"credential,omitempty"`
	Stream     string        `json:"stream,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Size       int64         `json:"size"`
	Message    ID            `json:"msg"`
	Envelope   EnvelopeID    `json:"env"`
	Tries      int           `json:"tries,omitempty"`
	AcceptedAt time.Time     `json:"accepted_at"`
}

// auditor is a filter that was checked.
type auditor struct {
	AuditFilter
	sender, recipient whose
}

// whose is "", an address, "@domain" or "<>", read.
type whose struct {
	text    string
	address Address
}

func parseWhose(what, text string) (w whose, err error) {
	w.text = text
	switch {
	case text == "" || text == "<>":
	case text[0] == '@':
		w.address.Domain, err = ParseDomain(text[1:])
	default:
		w.address, err = ParseAddress(text)
	}
	if err != nil {
		err = badFilter("%v: for %s use an address, @domain, or <> for the null reverse path", err, what)
	}
	return w, err
}

// has reports whether an address is meant.
func (w *whose) has(a Address) bool {
	return w.text == "" || a == w.address || w.text[0] == '@' && a.Domain == w.address.Domain
}

// compile checks a filter. Its errors are *FilterError.
func (f AuditFilter) compile() (*auditor, error) {
	a := &auditor{AuditFilter: f}
	var err error
	if a.sender, err = parseWhose("sender", f.Sender); err != nil {
		return nil, err
	}
	if a.recipient, err = parseWhose("recipient", f.Recipient); err != nil {
		return nil, err
	}
	if name, below := strings.CutPrefix(f.Domain, "."); f.Domain != "" {
		d, err := ParseDomain(name)
		if err != nil {
			return nil, badFilter("%v: for domain use a name such as example.net, or .example.net for all below it", err)
		}
		if a.Domain = string(d); below {
			a.Domain = "." + a.Domain
		}
	}
	if len(f.Outcomes) == 0 {
		a.Outcomes = []string{Delivered.String()}
	}
	for _, o := range a.Outcomes {
		if !slices.Contains(AuditOutcomes(), o) {
			return nil, badFilter("outcome %q is unknown: use %s", o, strings.Join(AuditOutcomes(), ", "))
		}
	}
	if !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return nil, badFilter("until is not after since")
	}
	return a, nil
}

// attemptWords are what an audit reads of an attempt (relay.Attempt).
type attemptWords struct {
	Wanted policy.Floor `json:"wanted"`
	Basis  policy.Basis `json:"basis"`
	Rule   string       `json:"rule"`
}

// wants reports whether an entry may have lines for the audit.
func (a *auditor) wants(e *JournalEntry) bool {
	switch {
	case e.About() == EntryAccepted, // its recipients only stand there
		!a.Since.IsZero() && e.At.Before(a.Since),
		!a.Until.IsZero() && !e.At.Before(a.Until),
		a.Domain != "" && !e.Domain.Within(a.Domain),
		a.Credential != "" && e.Credential != a.Credential,
		a.Stream != "" && e.Stream != a.Stream:
		return false
	}
	return a.sender.has(e.Sender)
}

// lines calls fn for the recipients of an entry that are meant.
func (a *auditor) lines(e *JournalEntry, fn func(AuditLine) error) error {
	if !a.wants(e) {
		return nil
	}
	var w attemptWords
	if len(e.Attempt) > 0 {
		// An attempt of another version has no such words; the outcome is told all the same.
		_ = json.Unmarshal(e.Attempt, &w)
	}
	for i := range e.Recipients {
		r := &e.Recipients[i]
		outcome := r.State.String()
		if r.State == Pending && e.About() == EntrySettled {
			outcome = DeferredNow.String()
		}
		if !slices.Contains(a.Outcomes, outcome) ||
			a.Below != policy.Unset && (r.Level == policy.Unset || r.Level >= a.Below) ||
			!a.recipient.has(r.Address) {
			continue
		}
		l := AuditLine{
			At: e.At, Outcome: outcome, Level: r.Level, Recipient: r.Address, Domain: e.Domain, Host: r.Host,
			Wanted: w.Wanted.Level, Basis: w.Basis, Rule: w.Rule, Reason: r.Reason, Code: r.Code, Status: r.Status,
			Sender: e.Sender, Credential: e.Credential, Stream: e.Stream, Tag: e.Tag, Size: e.Size,
			Message: e.Message, Envelope: e.Envelope, Tries: e.Tries, AcceptedAt: e.AcceptedAt,
		}
		if err := fn(l); err != nil {
			return err
		}
	}
	return nil
}

// auditSlack is how much older than its place in the journal an entry may be.
const auditSlack = time.Hour

// Audit calls fn for each recipient that matches, in the order of the journal, until fn fails
// (ErrStop counts as nil). Memory does not grow with the journal. What was erased comes at the
// place of its stand-in, and names nobody. A bad filter is a *FilterError.
func Audit(ctx context.Context, s JournalReader, f AuditFilter, fn func(AuditLine) error) error {
	a, err := f.compile()
	if err != nil {
		return err
	}
	q, n := ScanQuery{Kind: ScanJournal}, 0
	if h, ok := s.(interface{ JournalAt(time.Time) string }); ok && !f.Since.IsZero() {
		q.After = h.JournalAt(f.Since.Add(-auditSlack))
	}
	err = s.Scan(ctx, q, func(it Item) error {
		var e JournalEntry
		if err := json.Unmarshal(it.Entry, &e); err != nil {
			return nil // of a later version
		}
		return a.lines(&e, func(l AuditLine) error {
			if err := fn(l); err != nil {
				return err
			}
			if n++; f.Limit > 0 && n >= f.Limit {
				return ErrStop
			}
			return nil
		})
	})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// Audit is Audit of the queue's journal.
func (q *Queue) Audit(ctx context.Context, f AuditFilter, fn func(AuditLine) error) error {
	return Audit(ctx, q.store, f, fn)
}
