package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// begin is when the message of the settle tests was accepted.
func begin() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func failure(r policy.Reason) *policy.Failure { return &policy.Failure{Reason: r} }

func deferred(n int, r policy.Reason) Outcome { return Outcome{Recipient: n, Failure: failure(r)} }

func bounced(n int, r policy.Reason) Outcome {
	return Outcome{Recipient: n, Kind: BouncedNow, Failure: failure(r)}
}

func delivered(n int) Outcome { return Outcome{Recipient: n, Kind: DeliveredNow} }

// story is a settlement in a few words: states, last reasons, due after, notices.
func story(s settlement, now time.Time) string {
	var words []string
	for _, r := range s.envelope.Recipients {
		w := r.State.String()
		if r.Last != nil && r.Last.Failure != nil {
			w += "/" + r.Last.Failure.Reason.String()
		}
		words = append(words, w)
	}
	switch {
	case s.done:
		words = append(words, "done")
	case s.envelope.Held:
		words = append(words, "held", s.due.Sub(now).String())
	default:
		words = append(words, "in", s.due.Sub(now).String())
	}
	words = append(words, fmt.Sprintf("tries=%d", s.envelope.Tries))
	for _, n := range s.notices {
		w := n.Kind.String()
		for _, r := range n.Recipients {
			w += ":" + r.Address.Local
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestSettle(t *testing.T) {
	t.Parallel()
	report := func(o ...Outcome) *Report { return &Report{Outcomes: o} }
	sender := Address{"s", "sender.example"}
	type set struct {
		age    time.Duration
		tries  int
		jitter float64
		verb   Verb
		report *Report
		mend   func(*Message, *Envelope)
	}
	for _, c := range []struct {
		name string
		set  set
		want string
	}{
		{"all delivered", set{report: report(delivered(0), delivered(1))}, "delivered delivered done tries=1"},
		{"RFC 3461 6.1 one bounced, one delivered", set{report: report(delivered(0), bounced(1, policy.ReplyPermanent))},
			"delivered bounced/reply-permanent done tries=1 failed:b"},
		{"one notice for both", set{report: report(bounced(0, policy.NullMX), bounced(1, policy.NullMX))},
			"bounced/null-mx bounced/null-mx done tries=1 failed:a:b"},
		{"one deferred, one delivered", set{report: report(delivered(0), deferred(1, policy.ReplyTemporary))},
			"delivered pending/reply-temporary in 1m0s tries=1"},
		{"a final recipient is not tried, nor changed", set{tries: 1, report: report(bounced(0, policy.ReplyPermanent), delivered(1)),
			mend: func(_ *Message, e *Envelope) { e.Recipients[0].State = Delivered }},
			"delivered delivered done tries=2"},
		{"a missing outcome is a deferral", set{report: report(delivered(0))}, "delivered pending/internal in 1m0s tries=1"},
		{"no outcome at all", set{report: report()}, "pending/internal pending/internal in 1m0s tries=1"},
		{"outcomes of nobody", set{report: report(delivered(-1), delivered(2), delivered(0), delivered(1))},
			"delivered delivered done tries=1"},
		{"a bounce without a reason", set{report: report(Outcome{Kind: BouncedNow}, delivered(1))},
			"bounced/reply-permanent delivered done tries=1 failed:a"},
		{"an unknown kind is a deferral", set{report: report(Outcome{Kind: 9}, delivered(1))},
			"pending/internal delivered in 1m0s tries=1"},

		{"RFC 5321 4.5.4.1 second delay", set{tries: 1, report: report()}, "pending/internal pending/internal in 3m0s tries=2"},
		{"the last delay", set{age: time.Hour, tries: 2, report: report()}, "pending/internal pending/internal in 1h0m0s tries=3"},
		{"the last delay repeats", set{age: time.Hour, tries: 50, report: report()}, "pending/internal pending/internal in 1h0m0s tries=51"},
		{"jitter is added", set{jitter: 0.5, report: report()}, "pending/internal pending/internal in 1m6s tries=1"},
		{"a hint", set{report: &Report{RetryAfter: 5 * time.Minute}}, "pending/internal pending/internal in 5m0s tries=1"},
		{"a hint below a second", set{report: &Report{RetryAfter: 1}}, "pending/internal pending/internal in 1s tries=1"},
		{"a hint above an hour", set{report: &Report{RetryAfter: 48 * time.Hour}}, "pending/internal pending/internal in 1h0m0s tries=1"},
		{"a hint has jitter too", set{jitter: 0.5, report: &Report{RetryAfter: 5 * time.Minute}}, "pending/internal pending/internal in 5m30s tries=1"},
		{"a free attempt", set{tries: 1, report: &Report{Free: true, RetryAfter: time.Second}},
			"pending/interrupted pending/interrupted in 1s tries=1"},
		{"a free attempt without a hint", set{tries: 1, report: &Report{Free: true}},
			"pending/interrupted pending/interrupted in 1m0s tries=1"},
		{"the first attempt free", set{report: &Report{Free: true}}, "pending/interrupted pending/interrupted in 1m0s tries=0"},
		{"uncertain waits ten minutes", set{report: report(deferred(0, policy.Uncertain), delivered(1))},
			"pending/uncertain delivered in 10m0s tries=1"},
		{"uncertain overrides a hint", set{report: &Report{RetryAfter: time.Second, Outcomes: []Outcome{deferred(0, policy.Uncertain), delivered(1)}}},
			"pending/uncertain delivered in 10m0s tries=1"},
		{"uncertain in an hour anyway", set{tries: 2, report: report(deferred(0, policy.Uncertain), delivered(1))},
			"pending/uncertain delivered in 1h0m0s tries=3"},
		{"the delay ends at the deadline", set{age: 5*24*time.Hour - 10*time.Second, tries: 9, report: report()},
			"pending/internal pending/internal in 10s tries=10 delayed:a:b"},

		{"RFC 5321 4.5.4.1 given up", set{age: 5 * 24 * time.Hour, tries: 9, report: report(deferred(0, policy.ConnectTimeout), delivered(1))},
			"expired/connect-timeout delivered done tries=10 failed:a"},
		{"delivered after its time", set{age: 6 * 24 * time.Hour, report: report(delivered(0), delivered(1))},
			"delivered delivered done tries=1"},
		{"its own time limit", set{age: 10 * time.Minute, report: report(deferred(0, policy.ReplyTemporary), deferred(1, policy.ReplyTemporary)),
			mend: func(m *Message, _ *Envelope) { m.Expires = begin().Add(10 * time.Minute) }},
			"expired/reply-temporary expired/reply-temporary done tries=1 failed:a:b"},
		{"a later limit of its own does not prolong", set{age: 5 * 24 * time.Hour, report: report(),
			mend: func(m *Message, _ *Envelope) { m.Expires = begin().Add(100 * 24 * time.Hour) }},
			"expired/internal expired/internal done tries=1 failed:a:b"},
		{"RFC 3463 3.5 the last real problem stays", set{age: 5 * 24 * time.Hour, tries: 3, report: report(deferred(0, policy.Interrupted)),
			mend: func(_ *Message, e *Envelope) {
				e.Recipients[0].Last = &Outcome{Failure: failure(policy.ConnectRefused)}
				e.Recipients[1].Last = &Outcome{Failure: failure(policy.ReplyTemporary)}
			}}, "expired/connect-refused expired/reply-temporary done tries=4 failed:a:b"},
		{"expired while waiting", set{age: 7 * 24 * time.Hour, tries: 4,
			mend: func(_ *Message, e *Envelope) {
				e.Recipients[0].Last = &Outcome{Failure: failure(policy.ConnectRefused)}
				e.Recipients[1].State = Delivered
			}}, "expired/connect-refused delivered done tries=4 failed:a"},
		{"expired without a try", set{age: 7 * 24 * time.Hour}, "expired/expired expired/expired done tries=0 failed:a:b"},
		{"expired while held", set{age: 5 * 24 * time.Hour, mend: func(_ *Message, e *Envelope) { e.Held = true }},
			"expired/expired expired/expired done tries=0 failed:a:b"},
		{"held, looked at early", set{age: 24 * time.Hour, mend: func(_ *Message, e *Envelope) { e.Held = true }},
			"pending pending held 96h0m0s tries=0"},

		{"RFC 3461 6.1 delay notice", set{age: 4 * time.Hour, tries: 7, report: report()},
			"pending/internal pending/internal in 1h0m0s tries=8 delayed:a:b"},
		{"no delay notice before its time", set{age: 4*time.Hour - 1, tries: 7, report: report()},
			"pending/internal pending/internal in 1h0m0s tries=8"},
		{"one delay notice only", set{age: 9 * time.Hour, tries: 7, report: report(), mend: func(_ *Message, e *Envelope) { e.Warned = true }},
			"pending/internal pending/internal in 1h0m0s tries=8"},
		{"RFC 3461 4.1 NOTIFY=FAILURE wants no delay notice", set{age: 4 * time.Hour, report: report(), mend: func(_ *Message, e *Envelope) {
			e.Recipients[0].Notify = NotifyFailure
		}}, "pending/internal pending/internal in 1m0s tries=1 delayed:b"},
		{"bounced and delayed at once", set{age: 4 * time.Hour, tries: 2, report: report(bounced(0, policy.ReplyPermanent))},
			"bounced/reply-permanent pending/internal in 1h0m0s tries=3 failed:a delayed:b"},
		{"no delay notice for what is done", set{age: 4 * time.Hour, report: report(delivered(0), delivered(1))}, "delivered delivered done tries=1"},
		{"RFC 3461 4.1 NOTIFY=NEVER", set{report: report(bounced(0, policy.NullMX), bounced(1, policy.NullMX)), mend: func(_ *Message, e *Envelope) {
			e.Recipients[0].Notify = NotifyNever
		}}, "bounced/null-mx bounced/null-mx done tries=1 failed:b"},
		{"RFC 3461 4.1 NOTIFY=SUCCESS alone wants no failure notice", set{report: report(bounced(0, policy.NullMX), delivered(1)),
			mend: func(_ *Message, e *Envelope) { e.Recipients[0].Notify = NotifySuccess }}, "bounced/null-mx delivered done tries=1"},
		{"RFC 3461 5.2.2 NOTIFY=SUCCESS, the host has no DSN", set{report: report(delivered(0), delivered(1)),
			mend: func(_ *Message, e *Envelope) { e.Recipients[1].Notify = NotifySuccess | NotifyDelay }},
			"delivered delivered done tries=1 relayed:b"},
		{"RFC 3461 5.2.1 NOTIFY=SUCCESS, the host has DSN", set{report: report(delivered(0), Outcome{Recipient: 1, Kind: DeliveredNow, DSNHandedOn: true}),
			mend: func(_ *Message, e *Envelope) { e.Recipients[1].Notify = NotifySuccess }}, "delivered delivered done tries=1"},
		{"RFC 5321 4.5.5 no notice to the null reverse path", set{age: 5 * 24 * time.Hour, report: report(bounced(0, policy.NullMX)),
			mend: func(m *Message, e *Envelope) { m.Sender = Address{}; e.Recipients[1].Notify = NotifyFailure }},
			"bounced/null-mx expired/internal done tries=1"},

		{"hold at the end of a lease", set{verb: VerbHold, report: report(delivered(0), deferred(1, policy.ReplyTemporary))},
			"delivered pending/reply-temporary held 120h0m0s tries=1"},
		{"hold what is done", set{verb: VerbHold, report: report(delivered(0), delivered(1))}, "delivered delivered done tries=1"},
		{"drop at the end of a lease", set{verb: VerbDrop, report: report(delivered(0), deferred(1, policy.ReplyTemporary))},
			"delivered dropped/reply-temporary done tries=1"},
		{"drop without a try", set{verb: VerbDrop}, "dropped dropped done tries=0"},
		{"retry at the end of a lease", set{verb: VerbRetry, report: report()}, "pending/internal pending/internal in 0s tries=1"},
		{"release", set{verb: VerbRelease, mend: func(_ *Message, e *Envelope) { e.Held = true }}, "pending pending in 0s tries=0"},
	} {
		o := &Options{Schedule: []time.Duration{time.Minute, 3 * time.Minute, time.Hour}, GiveUp: 5 * 24 * time.Hour, WarnAfter: 4 * time.Hour}
		m := &Message{ID: NewID(begin()), AcceptedAt: begin(), Sender: sender}
		e := Envelope{ID: m.ID.EnvelopeID(0), Message: m.ID, Lane: "rcpt.example", Tries: c.set.tries, Recipients: []Recipient{
			{Address: Address{"a", "rcpt.example"}}, {Address: Address{"b", "rcpt.example"}},
		}}
		if c.set.mend != nil {
			c.set.mend(m, &e)
		}
		before := fmt.Sprint(e)
		now := begin().Add(c.set.age)
		s := o.settle(trial{message: m, envelope: e, report: c.set.report, verb: c.set.verb, now: now, jitter: c.set.jitter})
		if got := story(s, now); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if fmt.Sprint(e) != before {
			t.Errorf("%s: settle changed what it was given", c.name)
		}
		checkSettlement(t, c.name, e, s)
	}
}

// checkSettlement checks what holds for every settlement.
func checkSettlement(t *testing.T, name string, before Envelope, s settlement) {
	t.Helper()
	told := make(map[int]RecipientState)
	for _, r := range s.entry.Recipients {
		if _, twice := told[r.Number]; twice {
			t.Errorf("%s: recipient %d is in the entry twice", name, r.Number)
		}
		told[r.Number] = r.State
	}
	for i, r := range s.envelope.Recipients {
		was := before.Recipients[i].State
		if was != Pending && r.State != was {
			t.Errorf("%s: recipient %d was %s and is %s", name, i, was, r.State)
		}
		if state, ok := told[i]; was == Pending && r.State != Pending && (!ok || state != r.State) {
			t.Errorf("%s: the entry does not tell that recipient %d is %s", name, i, r.State)
		}
		if s.done && r.State == Pending {
			t.Errorf("%s: done with recipient %d pending", name, i)
		}
	}
}

func TestSettleDelayNotice(t *testing.T) {
	t.Parallel()
	o := &Options{Schedule: []time.Duration{time.Hour}, GiveUp: 48 * time.Hour, WarnAfter: time.Hour}
	m := &Message{ID: NewID(begin()), AcceptedAt: begin(), Sender: Address{"s", "sender.example"}}
	e := Envelope{Recipients: []Recipient{{Address: Address{"a", "rcpt.example"}}}}
	now := begin().Add(2 * time.Hour)
	s := o.settle(trial{message: m, envelope: e, report: &Report{}, now: now})
	if len(s.notices) != 1 || !s.notices[0].WillRetryUntil.Equal(begin().Add(48*time.Hour)) || !s.envelope.Warned {
		t.Errorf("settled as %+v", s)
	}
}
