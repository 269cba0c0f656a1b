package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// Walk is the moving finger on a plan: the fallback ladder. It belongs to one
// goroutine. Use it as
//
//	w := plan.Walk()
//	for step, ok := w.Next(); ok; step, ok = w.Next() {
//		w.Report(step, try(step))
//	}
//
// where try opens a session, judges it, and asks Keep whether to use it now or to keep
// it open and report that. A step with Kept set is to use the session that was kept.
//
// Each pass is one rung down the ladder, over all hosts in order of preference
// (policy: wide before down). A host enters a lower pass only when STARTTLS, the
// handshake or the verification failed there.
type Walk struct {
	plan  *Plan
	spots []spot
	pass  int
	at    int // index of the spot that is looked at next
	step  int // index of the spot of the step that Next returned last
	kept  int // sessions that are kept open
	// deepest is the last pass that may run. It falls to the pass of a session that
	// stood, or whose handshake did: what came afterwards (4xx, 421, a lost connection)
	// is no TLS failure, so going lower elsewhere would be a downgrade caused by a
	// mere delay.
	deepest int
	done    bool
	trace   Trace
	results []Result
}

// spot is one address of one target with the finger's position on its rungs.
type spot struct {
	target *Target
	addr   netip.AddrPort
	rung   int   // index into target.Rungs of the next rung to try
	kept   Level // of the session that is kept open here; Unset: none
	dead   bool  // nothing more to try here
}

// lastPass is the pass of the clear rung; from maxKept sessions on
// that are kept open no better one is looked for.
const (
	lastPass = 2
	maxKept  = 2
)

// Walk starts a walk over the plan. A refused plan has no steps.
func (p *Plan) Walk() *Walk {
	w := &Walk{plan: p, deepest: lastPass}
	if p.Refusal != nil {
		for i := range p.Targets {
			if t := &p.Targets[i]; t.Barred != nil {
				w.passOver(&spot{target: t})
			}
		}
		return w
	}
	n := 0
	for i := range p.Targets {
		n += max(len(p.Targets[i].Addrs), 1)
	}
	w.spots = make([]spot, 0, n)
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Barred != nil {
			w.spots = append(w.spots, spot{target: t})
			continue
		}
		for _, a := range t.Addrs {
			w.spots = append(w.spots, spot{target: t, addr: a, dead: len(t.Rungs) == 0})
		}
	}
	return w
}

// Next returns the next step; false when the walk is over.
func (w *Walk) Next() (Step, bool) {
	for ; !w.done && w.pass <= w.deepest; w.pass, w.at = w.pass+1, 0 {
		for ; w.at < len(w.spots); w.at++ {
			if i, ok := w.choose(); ok {
				w.step = i
				return Step{Target: w.spots[i].target, Addr: w.spots[i].addr, Rung: w.spots[i].next(), Kept: true}, true
			}
			s := &w.spots[w.at]
			if s.dead || w.keeps(s.target) {
				continue
			}
			if s.target.Barred != nil {
				w.passOver(s)
				continue
			}
			if s.next().pass() == w.pass {
				w.step = w.at
				return Step{Target: s.target, Addr: s.addr, Rung: s.next()}, true
			}
		}
		if i, ok := w.best(); ok {
			w.step = i
			return Step{Target: w.spots[i].target, Addr: w.spots[i].addr, Rung: w.spots[i].next(), Kept: true}, true
		}
	}
	return Step{}, false
}

func (s *spot) next() Rung { return s.target.Rungs[s.rung] }

// passOver notes that a host is not used now, in its turn.
func (w *Walk) passOver(s *spot) {
	s.dead = true
	f := s.target.Barred
	w.trace = append(w.trace, Tried{Host: s.target.Host, Reason: f.Reason, Detail: f.Detail})
	w.results = append(w.results, Result{Failure: f})
}

// Keep reports whether a session of the step, which has reached its floor at this
// level, is to be kept open while the other hosts of the same preference are tried
// (policy: the walk, 2): when it is weaker than verified, and one of them may be better.
func (w *Walk) Keep(s Step, level Level) bool {
	if s.Kept || w.pass > 0 || level >= Verified {
		return false
	}
	i, ok := w.best()
	return ok && w.spots[i].kept > level || w.kept < maxKept && w.better(w.at+1, s.Target, level)
}

// better reports whether a spot from index i on, of the same preference and another
// host, may reach more than a level.
func (w *Walk) better(i int, than *Target, level Level) bool {
	for ; i < len(w.spots); i++ {
		s := &w.spots[i]
		if s.target.Preference != than.Preference {
			return false
		}
		if s.target != than && !s.dead && s.target.Barred == nil && s.next().pass() == 0 && !w.keeps(s.target) &&
			(s.target.Expect == Unset || s.target.Expect > level) {
			return true
		}
	}
	return false
}

// keeps reports whether a session with the host is kept open.
func (w *Walk) keeps(t *Target) bool {
	return w.kept > 0 && slices.ContainsFunc(w.spots, func(s spot) bool { return s.target == t && s.kept != Unset })
}

// choose returns the spot whose kept session is to be used now, because no other spot
// of its preference can be better.
func (w *Walk) choose() (int, bool) {
	i, ok := w.best()
	if !ok || w.better(w.at, w.spots[i].target, w.spots[i].kept) {
		return 0, false
	}
	return i, true
}

// best returns the spot with the best kept session, the first of equals.
func (w *Walk) best() (best int, ok bool) {
	if w.kept == 0 {
		return 0, false
	}
	for i := range w.spots {
		if w.spots[i].kept != Unset && (!ok || w.spots[i].kept > w.spots[best].kept) {
			best, ok = i, true
		}
	}
	return best, ok
}

// Report says what came of the step that Next returned last.
func (w *Walk) Report(s Step, r Result) {
	w.record(s, r)
	at := &w.spots[w.step]
	if s.Kept {
		at.kept = Unset
		w.kept--
	}
	switch {
	case r.Kept && r.Failure == nil:
		at.kept = r.Level
		w.kept++
		w.deepest = min(w.deepest, s.Rung.pass())
		return
	case r.Failure == nil:
		w.done = true
		return
	}
	if r.Opened || r.Secured && w.plan.Hold || w.patient(r.Failure.Reason) {
		w.deepest = min(w.deepest, s.Rung.pass())
	}
	if r.Opened {
		w.leave(s.Target)
		return
	}
	at.fail(r.Failure.Reason)
}

// patient reports whether a failure at one host keeps the whole walk from going
// down in this attempt: bytes injected behind STARTTLS are an attack, and 454 is
// temporary (RFC 3207 4): other hosts first, then a later try.
func (w *Walk) patient(reason Reason) bool {
	return reason == BytesInjected || reason == STARTTLSTemporary && w.plan.First
}

func (w *Walk) record(s Step, r Result) {
	t := Tried{Host: s.Target.Host, Addr: s.Addr, Rung: s.Rung, Level: r.Level, Kept: r.Kept, Millis: r.Took.Milliseconds()}
	if r.Failure != nil {
		t.Reason, t.Detail = r.Failure.Reason, r.Failure.Detail
	}
	w.trace = append(w.trace, t)
	w.results = append(w.results, r)
}

// leave ends the tries at all addresses of a host that took part in a
// transaction: another of its addresses would say the same.
func (w *Walk) leave(t *Target) {
	for i := range w.spots {
		if w.spots[i].target == t {
			w.spots[i].dead = true
		}
	}
}

// fail moves the finger at this spot to the next rung that could help, or ends it.
func (s *spot) fail(reason Reason) {
	if !reason.MayLower() {
		s.dead = true // rule 4: connection trouble never lowers a rung
		return
	}
	for s.rung++; s.rung < len(s.target.Rungs); s.rung++ {
		if s.target.Rungs[s.rung].cures(reason) {
			return
		}
	}
	s.dead = true
}

// cures reports whether a lower rung could do better after this failure. What it
// leaves out would fail in the same way and cost the host a connection.
func (r Rung) cures(reason Reason) bool {
	switch reason {
	case STARTTLSMissing, STARTTLSTemporary, STARTTLSRefused:
		return r == Clear
	case HandshakeVersion, HandshakeCertificate,
		CertificateExpired, CertificateMismatch, CertificateUntrusted, TLSAMismatch, BelowFloor:
		return r != Classical
	default:
		return true
	}
}

// Trace returns what was tried so far, in order. The walk keeps it.
func (w *Walk) Trace() Trace { return w.trace }

// Failure returns why nothing was good enough, once the walk is over: the plan's
// refusal, or the last real problem (RFC 3463 3.5), temporary ones first, because
// a host that may do better later forbids giving up now. nil after a success.
func (w *Walk) Failure() *Failure {
	if w.plan.Refusal != nil {
		return w.plan.Refusal
	}
	if len(w.results) == 0 {
		return &Failure{Reason: Internal, Detail: "the plan has no step"}
	}
	if w.done {
		return nil
	}
	return w.unmet(w.pick())
}

func (w *Walk) pick() *Failure {
	var stood, temporary, lack, weak, permanent, keyword *Failure
	for _, r := range w.results {
		switch f := r.Failure; {
		case f == nil: // a session that was kept, and never used
		case r.Opened && !f.Permanent():
			stood = f // a host that spoke about the mail itself says more than one that did not
		case r.Opened:
			lack = f // the host cannot take this mail, whatever its other hosts could do
		case f.Reason == RequireTLSMissing:
			keyword = f
		case f.Permanent(), w.judged(f):
			permanent = f
		case f.Reason.MayLower():
			weak = f
		default:
			temporary = f
		}
	}
	// A lack outweighs too little TLS at the other hosts, which this walk may not
	// accept; keyword goes before permanent, because RFC 8689 4.2.1 wants 5.7.30 if one
	// host lacked only the keyword.
	return cmp.Or(stood, temporary, lack, weak, keyword, permanent)
}

// judged reports whether a failure is the verdict on a host that was reached, for
// mail whose floor does not wait: REQUIRETLS (RFC 8689 4.2.1: MUST bounce) or
// on_unmet = bounce. A 454 or a broken handshake is not a verdict: the step was
// not carried out (RFC 5321 4.5.4.1).
func (w *Walk) judged(f *Failure) bool {
	if !w.plan.mayBounce() {
		return false
	}
	switch f.Reason {
	case STARTTLSMissing, STARTTLSRefused, HandshakeVersion, CertificateExpired, CertificateMismatch,
		CertificateUntrusted, TLSAMismatch, BelowFloor, RouteUnproven, HandshakeCertificate:
		return true
	default:
		return false
	}
}

// mayBounce reports whether a floor that was not reached is a reason to give up
// now: not while the rule will allow a lower rung later, and not when it is the
// domain's promise that is not kept (RFC 7672 2.2: delay) or a hold that will end,
// REQUIRETLS excepted.
func (p *Plan) mayBounce() bool {
	return p.OnUnmet == Bounce && !slices.ContainsFunc(p.Targets, func(t Target) bool {
		if t.OnUnmet == Defer {
			return true
		}
		promised := t.Basis == BasisDANE || t.Basis == BasisMTASTS || t.Basis == BasisHold
		return t.Later || promised && t.Floor.Needs&NeedRequireTLS == 0
	})
}

// unmet makes the verdict final where the plan says so.
func (w *Walk) unmet(f *Failure) *Failure {
	if !w.judged(f) {
		return f
	}
	final := *f
	final.Final = true
	if final.Reason.MayLower() {
		final.Status = "5.7.10" // encryption needed (RFC 8689 4.2.1)
	}
	return &final
}
