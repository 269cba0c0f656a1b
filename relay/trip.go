package relay

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// trip is the state of one Deliver call. It belongs to one goroutine.
type trip struct {
	c       *Courier
	lease   *queue.Lease
	attempt Attempt
	// open are the recipients that still need a host, as indexes into the envelope.
	open []int
	// seen is the best level at which a host of the domain was met, in this attempt or
	// an earlier one.
	seen policy.Level
	// shaky are the hosts that offered TLS in this attempt, and whose TLS then failed in
	// a way that may pass.
	shaky map[policy.Domain]bool
	// kept are sessions that stay open while hosts of the same preference are tried.
	kept map[*policy.Target]kept
	// sights are what was seen of hosts.
	sights map[place]*policy.Sighting
	// throttled is set when a host has put us off, or was not asked before its time; rest is
	// for how long at least they want to be left alone.
	throttled bool
	rest      time.Duration
	// outcomes has the latest outcome of each recipient that has one.
	outcomes map[int]queue.Outcome
}

func newTrip(c *Courier, l *queue.Lease) *trip {
	now := time.Now()
	t := &trip{c: c, lease: l, outcomes: make(map[int]queue.Outcome, len(l.Envelope.Recipients))}
	for i := range l.Envelope.Recipients {
		r := &l.Envelope.Recipients[i]
		if r.State == queue.Pending {
			t.open = append(t.open, i)
		}
		if r.Last != nil {
			t.seen = max(t.seen, r.Last.Seen)
		}
	}
	t.attempt = Attempt{
		Version: AttemptVersion, At: now, Message: l.Message.ID, Envelope: l.Envelope.ID,
		Domain: l.Envelope.Lane, Tries: l.Envelope.Tries + 1,
		Age: now.Sub(l.Message.AcceptedAt), Bytes: l.Message.Size,
	}
	return t
}

// query is what this delivery asks of the judge.
func (t *trip) query() policy.Query {
	m := &t.lease.Message
	return policy.Query{
		Domain: t.lease.Envelope.Lane, Sender: string(m.Sender.Domain), NullSender: m.Sender.IsNull(),
		Credential: m.Credential, Stream: m.Stream,
		Age: t.attempt.Age, Tries: t.lease.Envelope.Tries, Seen: t.seen,
		RequireTLS: m.RequireTLS, TLSOff: m.TLSOff, Message: m.Floor, Account: m.Account,
		OnUnmet: m.OnUnmet, Now: t.attempt.At,
	}
}

func (t *trip) planned(f *policy.Facts, p *policy.Plan) {
	a := &t.attempt
	a.Wanted, a.Basis, a.Rule, a.OnUnmet, a.Why = p.Floor, p.Basis, p.Rule, p.OnUnmet, p.Why
	a.Overrides, a.DNSSEC = p.Overrides, f.DNSSEC
	if len(p.Targets) > 0 {
		a.aim(&p.Targets[0]) // should no step be taken
	}
	a.STSMode, a.STSID = f.STS.In(t.attempt.At), f.STS.ID
}

// aim records what is wanted of a host.
func (a *Attempt) aim(t *policy.Target) {
	a.Wanted, a.Basis, a.Rule = t.Floor, t.Basis, t.Rule
}

// missedSTS reports whether the attempt failed where a policy in enforce mode has a say.
func (t *trip) missedSTS(facts *policy.Facts, f *policy.Failure) bool {
	return f != nil && facts.STS.In(t.attempt.At) == policy.STSEnforce &&
		slices.ContainsFunc(t.attempt.Trace, func(s policy.Tried) bool { return s.Reason == policy.STSMismatch || s.Reason.MayLower() })
}

// kept is an open session that has been judged.
type kept struct {
	session  Session
	evidence policy.Evidence
	level    policy.Level
	pass     pass
}

// letGo gives the sessions back that were kept open for nothing.
func (t *trip) letGo() {
	for target, k := range t.kept {
		k.session.Release()
		t.learn(k.pass, SignNone)
		delete(t.kept, target)
	}
}

// try carries out one step: open, judge, and only then send; or keep the session.
func (t *trip) try(ctx context.Context, walk *policy.Walk, step policy.Step) policy.Result {
	began := time.Now()
	t.attempt.aim(step.Target)
	if k, ok := t.kept[step.Target]; ok && step.Kept {
		delete(t.kept, step.Target)
		return t.use(ctx, step, k, began)
	}
	pass, failure := t.ask(ctx, step)
	if failure != nil {
		return policy.Result{Failure: failure, Took: time.Since(began)}
	}
	session, evidence, failure := t.openStep(ctx, step)
	stood := time.Now()
	t.attempt.OpenTook += stood.Sub(began)
	if evidence.Version != 0 {
		t.seen = max(t.seen, evidence.Level())
	}
	if failure != nil {
		t.learn(pass, signOfOpen(failure))
		t.note(failure)
		return policy.Result{Failure: failure, Secured: evidence.Version != 0, Took: stood.Sub(began)}
	}
	level, failure := step.Judge(evidence)
	t.sight(step).Version = evidence.Version
	if failure != nil {
		t.attempt.Evidence, t.attempt.Host, t.attempt.Reused = evidence, step.Target.Host, session.Reused()
		session.Quit() // RFC 3207 4.1 SHOULD, RFC 8689 4.2.1 MUST
		t.learn(pass, SignNone)
		return policy.Result{Failure: failure, Level: level, Took: time.Since(began)}
	}
	k := kept{session, evidence, level, pass}
	if walk.Keep(step, level) {
		if t.kept == nil {
			t.kept = map[*policy.Target]kept{}
		}
		t.kept[step.Target] = k
		return policy.Result{Level: level, Kept: true, Took: time.Since(began)}
	}
	return t.use(ctx, step, k, began)
}

// betterWait bounds the look for a better session while one is kept open (own): a host
// that is slow, or has all its connections in use, is not worth the wait. It also keeps
// deliveries from waiting for each other's kept sessions in a circle.
const betterWait = 10 * time.Second

// openStep opens the step's session, for a bounded time while another one is kept.
func (t *trip) openStep(ctx context.Context, step policy.Step) (Session, policy.Evidence, *policy.Failure) {
	if len(t.kept) == 0 {
		return t.c.o.Opener.Open(ctx, step)
	}
	inner, cancel := context.WithTimeout(ctx, betterWait)
	defer cancel()
	session, evidence, failure := t.c.o.Opener.Open(inner, step)
	if failure != nil && inner.Err() != nil && ctx.Err() == nil {
		// Our impatience says nothing of the host.
		failure = &policy.Failure{Reason: policy.Interrupted, Host: step.Target.Host, Detail: "no better session within " + betterWait.String()}
	}
	return session, evidence, failure
}

// use sends over a session that was judged good enough.
func (t *trip) use(ctx context.Context, step policy.Step, k kept, began time.Time) policy.Result {
	stood := time.Now()
	a := &t.attempt
	a.Host = step.Target.Host
	deferred, sign := t.send(ctx, step, k.session, k.level)
	a.Evidence, a.Reused = k.session.Evidence(), k.session.Reused()
	k.session.Release()
	t.learn(k.pass, sign)
	a.SendTook += time.Since(stood)
	return policy.Result{Failure: deferred, Level: k.level, Opened: true, Took: time.Since(began)}
}

// note remembers a host whose TLS may work a moment later.
func (t *trip) note(f *policy.Failure) {
	switch f.Reason {
	case policy.STARTTLSTemporary, policy.STARTTLSRefused, policy.HandshakeEOF, policy.HandshakeStall, policy.HandshakeAlert:
		if t.shaky == nil {
			t.shaky = map[policy.Domain]bool{}
		}
		t.shaky[f.Host] = true
	}
}

// send runs the transaction for the recipients that are still open. It returns
// why some of them should be tried at the next host, nil when none should, and what
// the host's replies say of how much it takes.
func (t *trip) send(ctx context.Context, step policy.Step, s Session, level policy.Level) (*policy.Failure, Sign) {
	tx := Transaction{
		Message: &t.lease.Message, Recipients: make([]queue.Recipient, len(t.open)),
		RequireTLS: step.Target.RequireTLS, Body: t.lease.Body,
	}
	for i, n := range t.open {
		tx.Recipients[i] = t.lease.Envelope.Recipients[n]
	}
	sent := s.Send(ctx, &tx)
	var again *policy.Failure
	still := t.open[:0:0]
	for i, n := range t.open {
		o := t.outcome(n, result(sent, i), step)
		if step.Rung == policy.Clear && t.shaky[step.Target.Host] && o.Reply != nil && o.Reply.Code == 530 {
			// RFC 3207 4: the host takes mail over TLS only, and its TLS failed just now.
			o.Kind, o.Failure = queue.DeferredNow, &policy.Failure{Reason: policy.STARTTLSTemporary, Host: o.Host, Detail: o.Failure.Detail}
		}
		o.DSNHandedOn = sent.DSN && o.Kind == queue.DeliveredNow
		o.Level = level
		t.outcomes[n] = o
		if o.Kind == queue.DeferredNow && o.Failure.Reason != policy.Uncertain || hostLacks(o) {
			still = append(still, n)
			again = o.Failure
		}
		if o.Kind == queue.DeliveredNow {
			t.attempt.Achieved = max(t.attempt.Achieved, level)
			t.sight(step).Delivered = true
		}
	}
	t.open = still
	return again, signOf(&sent)
}

// hostLacks reports whether a recipient failed only for want of something that the
// next host may have: the limit or extension is this host's, nobody refused the mail.
func hostLacks(o queue.Outcome) bool {
	if o.Failure == nil || o.Reply != nil {
		return false
	}
	switch o.Failure.Reason {
	case policy.TooLarge, policy.EightBitRefused, policy.UTF8Unsupported:
		return true
	}
	return false
}

// result fails closed: a session that forgot a recipient has not delivered it.
func result(sent Sent, i int) RecipientResult {
	if i < len(sent.Results) {
		return sent.Results[i]
	}
	return RecipientResult{Failure: &policy.Failure{Reason: policy.Internal, Detail: "no result"}}
}

func (t *trip) outcome(n int, r RecipientResult, step policy.Step) queue.Outcome {
	o := queue.Outcome{Recipient: n, At: time.Now(), Host: step.Target.Host, Reply: r.Reply, Failure: r.Failure}
	switch {
	case r.Failure == nil:
		o.Kind = queue.DeliveredNow
	case r.Failure.Permanent():
		o.Kind = queue.BouncedNow
	default:
		o.Kind = queue.DeferredNow
	}
	return o
}

// end gives every recipient that no host has spoken about the walk's failure, and
// makes the report.
func (t *trip) end(f *policy.Failure) queue.Report {
	outage := f != nil && f.Reason == policy.DNSUnknown && t.c.o.Outage != nil && t.c.o.Outage()
	if outage {
		f = &policy.Failure{Reason: policy.ResolverOutage, Detail: f.Detail}
	}

	for _, n := range t.open {
		if f == nil {
			continue
		}
		if last, ok := t.outcomes[n]; ok && (!hostLacks(last) || f.Permanent()) {
			continue // what a host said of the recipient; a lack counts once all hosts are known to share it
		}
		o := queue.Outcome{Recipient: n, At: time.Now(), Kind: queue.DeferredNow, Host: f.Host, Failure: f}
		if f.Permanent() {
			o.Kind = queue.BouncedNow
		}
		t.outcomes[n] = o
	}
	t.attempt.Failure = f
	report := queue.Report{Free: outage || f != nil && f.Reason == policy.Interrupted && len(t.attempt.Trace) == 0}
	switch {
	case outage:
		report.RetryAfter = outageRetry
	case t.burnsNone():
		report.Free, report.RetryAfter, report.Rest = true, max(t.rest, time.Second), t.rest
		t.attempt.Throttled = time.Now().Add(report.RetryAfter)
	default:
		report.Hint = t.hint()
	}
	finding := ""
	if f != nil {
		finding = t.attempt.Finding()
	}
	for n := range t.lease.Envelope.Recipients {
		o, ok := t.outcomes[n]
		if !ok {
			continue
		}
		o.Seen = t.seen
		if o.Failure != nil && o.Reply == nil { // a reply explains itself
			o.Why = finding
		}
		report.Outcomes = append(report.Outcomes, o)
		t.attempt.Outcomes = append(t.attempt.Outcomes, record(o))
		if o.Failure != nil && t.attempt.Failure == nil {
			t.attempt.Failure = o.Failure
		}
	}
	if t.attempt.Failure == nil {
		t.attempt.Why = nil // the explanation is kept where something needs explaining
	}
	report.Attempt = t.journal()
	t.remember()
	t.tell()
	return report
}

func record(o queue.Outcome) AttemptOutcome {
	a := AttemptOutcome{Recipient: o.Recipient, Kind: o.Kind, Level: o.Level}
	if o.Failure != nil {
		a.Reason, a.Status = o.Failure.Reason, o.Failure.Code()
	}
	if o.Reply != nil {
		a.Code = o.Reply.Code
	}
	return a
}

func (t *trip) journal() []byte {
	b, err := t.attempt.appendJSON(make([]byte, 0, attemptSize))
	if err != nil {
		// The types marshal by construction; a journal entry must not stop mail.
		t.c.o.Logger.Error("attempt cannot be recorded", "msg", t.attempt.Message, "error", err)
		return nil
	}
	return b
}

// tell logs the attempt without any address and hands it to the observer.
func (t *trip) tell() {
	a := &t.attempt
	log := t.c.o.Logger
	if log.Enabled(context.Background(), slog.LevelInfo) {
		attrs := []slog.Attr{
			slog.String("env", string(a.Envelope)), slog.String("domain", string(a.Domain)), slog.String("mx", string(a.Host)),
			slog.String("wanted", a.Wanted.String()), slog.String("achieved", a.Achieved.String()),
			slog.String("basis", a.Basis.String()), slog.String("rule", a.Rule),
			slog.Int("try", a.Tries), slog.Int("recipients", len(a.Outcomes)),
		}
		if n := len(a.Trace); n > 0 {
			last := &a.Trace[n-1]
			if last.Addr.IsValid() { // a host that was passed over has none
				attrs = append(attrs, slog.String("ip", last.Addr.Addr().String()))
			}
			attrs = append(attrs, slog.String("rung", last.Rung.String()))
		}
		if a.Failure != nil {
			attrs = append(attrs, slog.String("reason", a.Failure.Reason.String()), slog.String("status", a.Failure.Code()), slog.String("why", a.Finding()))
		}
		log.LogAttrs(context.Background(), slog.LevelInfo, "attempt", attrs...)
	}
	if t.c.o.Observer != nil {
		t.c.o.Observer.Attempted(a)
	}
}
