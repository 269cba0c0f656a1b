package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// told is a Store of which only the journal can be read.
type told struct {
	Store
	entries []JournalEntry
}

func (s told) Scan(_ context.Context, _ ScanQuery, fn func(Item) error) error {
	for i := range s.entries {
		b, err := json.Marshal(&s.entries[i])
		if err == nil {
			err = fn(Item{Pos: fmt.Sprint(i), Entry: b})
		}
		if err != nil {
			return err
		}
	}
	return fn(Item{Entry: []byte("of another version")})
}

func auditStory() told {
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	ann, bob := Address{Local: "ann", Domain: "shop.example"}, Address{Local: "bob", Domain: "mail.weak.example"}
	app := Address{Local: "app", Domain: "sender.example"}
	e := func(k EntryKind, hour int, r ...JournalRecipient) JournalEntry {
		return JournalEntry{
			Version: 1, Kind: k, At: at.Add(time.Duration(hour) * time.Hour), Domain: r[0].Address.Domain, Sender: app,
			Credential: "reviews", Stream: "bulk", Recipients: r,
			Attempt: json.RawMessage(`{"wanted":{"level":"encrypted"},"basis":"rule","rule":"bank"}`),
		}
	}
	erased := e(EntryErased, 4, JournalRecipient{Address: Address{}, State: Delivered, Level: policy.Encrypted})
	erased.Was, erased.Domain, erased.Sender, erased.Credential = EntrySettled, "weak.example", Address{}, "other"
	gone := e(EntryErased, 5, JournalRecipient{State: Pending})
	gone.Was = EntryAccepted
	return told{entries: []JournalEntry{
		e(EntryAccepted, 0, JournalRecipient{Address: ann}, JournalRecipient{Number: 1, Address: ann}),
		e(EntrySettled, 1, JournalRecipient{Address: ann, State: Delivered, Level: policy.DANE, Host: "mx.shop.example"},
			JournalRecipient{Number: 1, Address: ann, State: Bounced, Reason: policy.ReplyPermanent}),
		e(EntrySettled, 2, JournalRecipient{Address: bob, Reason: policy.ReplyTemporary}),
		e(EntryAction, 3, JournalRecipient{Address: bob}),
		e(EntrySettled, 3, JournalRecipient{Address: bob, State: Delivered, Level: policy.Legacy}),
		erased, gone,
		{Version: 1, Kind: EntryOperator, At: at, Operator: &OperatorAction{Verb: "audit"}},
	}}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		f    AuditFilter
		want string
	}{
		{"what was delivered", AuditFilter{}, "delivered dane ann@shop.example; delivered legacy bob@mail.weak.example; delivered encrypted ; "},
		{"below a level", AuditFilter{Below: policy.Encrypted}, "delivered legacy bob@mail.weak.example; "},
		{"a domain and all below it", AuditFilter{Domain: ".Weak.example"}, "delivered legacy bob@mail.weak.example; "},
		{"the domain itself", AuditFilter{Domain: "weak.example"}, "delivered encrypted ; "},
		{"a recipient", AuditFilter{Recipient: "ann@SHOP.example"}, "delivered dane ann@shop.example; "},
		{"recipients of a domain", AuditFilter{Recipient: "@shop.example", Outcomes: AuditOutcomes()}, "delivered dane ann@shop.example; bounced unset ann@shop.example; "},
		{"tries in vain", AuditFilter{Outcomes: []string{"deferred"}}, "deferred unset bob@mail.weak.example; "},
		{"since", AuditFilter{Since: at.Add(3 * time.Hour)}, "delivered legacy bob@mail.weak.example; delivered encrypted ; "},
		{"until", AuditFilter{Until: at.Add(3 * time.Hour)}, "delivered dane ann@shop.example; "},
		{"a credential", AuditFilter{Credential: "other"}, "delivered encrypted ; "},
		{"a stream that is not there", AuditFilter{Stream: "none"}, ""},
		{"a sender", AuditFilter{Sender: "app@sender.example", Limit: 1}, "delivered dane ann@shop.example; "},
		{"the null reverse path", AuditFilter{Sender: "<>"}, "delivered encrypted ; "},
	}
	for _, test := range tests {
		got := ""
		err := Audit(t.Context(), auditStory(), test.f, func(l AuditLine) error {
			got += fmt.Sprintf("%s %s %s; ", l.Outcome, l.Level, l.Recipient)
			if l.Wanted != policy.Encrypted || l.Basis != policy.BasisRule || l.Rule != "bank" {
				t.Errorf("%s: line %+v", test.name, l)
			}
			return nil
		})
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	for _, f := range []AuditFilter{
		{Domain: "a b"}, {Sender: "nobody"}, {Recipient: "@"}, {Outcomes: []string{"lost"}}, {Since: at, Until: at},
	} {
		var bad *FilterError
		if err := Audit(t.Context(), auditStory(), f, func(AuditLine) error { return nil }); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
