package queue

import (
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Bounds of the delays between tries.
const (
	minHint = time.Second // of Report.RetryAfter and Report.Hint
	maxHint = time.Hour
	// uncertainWait: the host may still be working on the message (RFC 1047). An
	// operator whose schedule never waits as long is taken at his word.
	uncertainWait = 10 * time.Minute
	jitterShare   = 5 // jitter is up to a fifth of the delay
)

// trial is what settle judges: an envelope at the end of its lease.
type trial struct {
	message  *Message
	envelope Envelope    // as leased; settle does not change it
	report   *Report     // nil: there was no try, the lease was only to look at the time
	verb     Verb        // the operator's word that waited for the lease to end, or ""
	parked   *Suspension // that the envelope is under: there was no try; nil: none
	now      time.Time
	jitter   float64 // in [0, 1)
}

// settlement is what becomes of it. All of it is written in one commit.
type settlement struct {
	envelope Envelope
	done     bool      // no recipient is pending: the row goes
	due      time.Time // when the row is claimed next
	rest     time.Time // until when its lane rests
	changed  []Outcome // one for each recipient whose state or last outcome changed
	notices  []Notice  // without Original
	entry    JournalEntry
	parked   bool // it waits for the end of a suspension
}

// quiet reports whether there is nothing to tell: that an envelope waits for the end of a
// suspension follows from the suspension.
func (s *settlement) quiet() bool { return s.parked && len(s.notices) == 0 }

// settle ends a lease: it is the state machine of the queue, and pure. Recipients
// change only from pending, and from there only to a final state.
func (o *Options) settle(t trial) settlement {
	s := settlement{envelope: t.envelope}
	e := &s.envelope
	e.Recipients = slices.Clone(e.Recipients)
	deadline := o.deadline(t.message)
	uncertain := false
	if t.report != nil {
		s.changed, uncertain = record(e, t.report, t.now)
		if !t.report.Free {
			e.Tries++
		}
		if t.report.Rest > 0 {
			s.rest = t.now.Add(min(t.report.Rest, longRest))
		}
	}
	switch {
	case t.verb == VerbDrop:
		s.finish(Dropped, t.now)
	case !t.now.Before(deadline):
		// Expiry holds in every state: waiting, leased and held.
		s.finish(Expired, t.now)
	case t.verb == VerbHold:
		e.Held = true
	case t.verb == VerbRelease:
		e.Held = false
	}
	e.Suspended = time.Time{}
	s.done = !slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return r.State == Pending })
	switch {
	case s.done:
	case e.Held:
		s.due = deadline // claimed then, to expire
	case t.verb == VerbRetry || t.verb == VerbRelease:
		s.due = t.now
	case t.parked != nil:
		s.parked = true
		if e.Suspended = t.envelope.Suspended; e.Suspended.IsZero() {
			e.Suspended = t.envelope.Due
		}
	default:
		s.due = earlier(t.now.Add(o.delay(t, e.Tries, uncertain)), deadline)
		e.Hinted = e.Hinted || t.report != nil && t.report.Hint > 0
	}
	s.notify(o, t)
	if s.parked {
		s.due = o.parkedUntil(t.parked, t.message, e) // after the notice, which may be why it was looked at
	}
	e.Due = s.due
	s.entry = newEntry(EntrySettled, t.message, t.now)
	if t.report == nil && t.verb != "" {
		s.entry.Kind = EntryAction
	}
	s.entry.Verb = t.verb
	if t.report != nil {
		s.entry.Attempt, s.entry.Free = t.report.Attempt, t.report.Free
	}
	if !e.Held {
		s.entry.Due = s.due
	}
	s.entry.about(e, s.changed)
	return s
}

// deadline is when a message's time is over.
func (o *Options) deadline(m *Message) time.Time {
	d := m.AcceptedAt.Add(o.GiveUp)
	if !m.Expires.IsZero() {
		d = earlier(d, m.Expires)
	}
	return d
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// record writes a report's outcomes into the envelope. It returns one outcome for
// each recipient that was pending.
func record(e *Envelope, rep *Report, now time.Time) (changed []Outcome, uncertain bool) {
	byRecipient := make([]*Outcome, len(e.Recipients))
	for i := range rep.Outcomes {
		if n := rep.Outcomes[i].Recipient; n >= 0 && n < len(byRecipient) {
			byRecipient[n] = &rep.Outcomes[i]
		}
	}
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if r.State != Pending {
			continue
		}
		out := complete(byRecipient[i], i, rep, now)
		switch out.Kind {
		case DeliveredNow:
			r.State, r.Last = Delivered, &out
		case BouncedNow:
			r.State, r.Last = Bounced, &out
		default:
			uncertain = uncertain || out.Failure.Reason == policy.Uncertain
			// RFC 3463 3.5: what is reported in the end is the last real problem, so
			// one of our own does not cover it up.
			if r.Last == nil || tells(out.Failure) || !tells(r.Last.Failure) {
				r.Last = &out
			}
		}
		changed = append(changed, out)
	}
	return changed, uncertain
}

// complete fills in what a courier left out. No outcome at all is a deferral.
func complete(o *Outcome, recipient int, rep *Report, now time.Time) Outcome {
	var out Outcome
	if o != nil {
		out = *o
	}
	out.Recipient = recipient
	if out.At.IsZero() {
		out.At = now
	}
	switch {
	case out.Kind == DeliveredNow:
		out.Failure = nil
	case out.Kind > BouncedNow:
		out.Kind = DeferredNow
	}
	if out.Failure != nil || out.Kind == DeliveredNow {
		return out
	}
	switch {
	case out.Kind == BouncedNow:
		out.Failure = &policy.Failure{Reason: policy.ReplyPermanent, Host: out.Host}
	case rep.Free:
		out.Failure = &policy.Failure{Reason: policy.Interrupted}
	default:
		out.Failure = &policy.Failure{Reason: policy.Internal}
	}
	return out
}

// tells reports whether a failure tells something about the way to the recipient.
func tells(f *policy.Failure) bool {
	if f == nil {
		return false
	}
	switch f.Reason {
	case policy.ReasonUnset, policy.Internal, policy.Interrupted, policy.Expired, policy.HostThrottled:
		return false
	}
	return true
}

// finish gives all pending recipients a final state.
func (s *settlement) finish(state RecipientState, now time.Time) {
	for i := range s.envelope.Recipients {
		r := &s.envelope.Recipients[i]
		if r.State != Pending {
			continue
		}
		r.State = state
		if r.Last == nil {
			r.Last = &Outcome{Recipient: i, At: now, Failure: &policy.Failure{Reason: policy.Expired}}
			if state == Dropped {
				r.Last.Failure = nil
			}
		}
		if !slices.ContainsFunc(s.changed, func(o Outcome) bool { return o.Recipient == i }) {
			out := *r.Last
			out.Recipient = i
			s.changed = append(s.changed, out)
		}
	}
}

// delay is the time to the next try. RFC 5321 4.5.4.1 asks for 30 minutes in
// general and for "more sophisticated and variable strategies" where they serve:
// the schedule is dense at first, because greylisting hosts want to see us soon.
func (o *Options) delay(t trial, tries int, uncertain bool) time.Duration {
	d := o.Schedule[min(max(tries, 1), len(o.Schedule))-1]
	switch {
	case t.report == nil:
	case t.report.RetryAfter > 0:
		d = min(max(t.report.RetryAfter, minHint), maxHint)
	case t.report.Hint > 0 && !t.envelope.Hinted:
		d = min(max(t.report.Hint, minHint), maxHint)
	}
	if uncertain {
		d = max(d, min(uncertainWait, slices.Max(o.Schedule)))
	}
	return d + time.Duration(t.jitter*float64(d/jitterShare))
}

// notify says which notices the settlement brings.
func (s *settlement) notify(o *Options, t trial) {
	e := &s.envelope
	late := !s.done && (t.report != nil || s.parked) && o.WarnAfter > 0 && !e.Warned && !t.now.Before(t.message.AcceptedAt.Add(o.WarnAfter))
	e.Warned = e.Warned || late
	// RFC 5321 4.5.5, RFC 3464 2: never a notice about a notice.
	if t.message.Sender.IsNull() {
		return
	}
	var failed, relayed, delayed []Recipient
	for i := range e.Recipients {
		r, before := &e.Recipients[i], t.envelope.Recipients[i].State
		switch {
		case before != Pending:
		case (r.State == Bounced || r.State == Expired) && r.Notify.Wants(NoticeFailed):
			failed = append(failed, *r)
		case r.State == Delivered && !r.Last.DSNHandedOn && r.Notify.Wants(NoticeRelayed):
			relayed = append(relayed, *r)
		case r.State == Pending && late && r.Notify.Wants(NoticeDelayed):
			delayed = append(delayed, *r)
		}
	}
	add := func(k NoticeKind, about []Recipient) {
		if len(about) > 0 {
			s.notices = append(s.notices, Notice{Kind: k, Message: *t.message, Envelope: *e, Recipients: about, Now: t.now})
		}
	}
	add(NoticeFailed, failed)
	add(NoticeRelayed, relayed)
	add(NoticeDelayed, delayed)
	if len(delayed) > 0 {
		s.notices[len(s.notices)-1].WillRetryUntil = o.deadline(t.message)
	}
}
