package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Suspension keeps mail to a destination from being tried, until a time or until it is
// resumed. Mail is accepted and kept, its time goes on, and so do its notices.
type Suspension struct {
	Target string    `json:"target"` // a domain, ".domain" for all below it, or Everything
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"` // who
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is resumed
}

// Everything is the target of a suspension of all mail.
const Everything = "*"

// suspendCell keeps the suspensions.
const suspendCell = "suspend/list"

// maxSuspensions bounds how many there are at once.
const maxSuspensions = 1000

// maxEnded bounds the list of ended ones.
const maxEnded = 100

// suspended is the suspensions at one moment, as the cell has them. It never changes.
type suspended struct {
	List []Suspension `json:"list"`
	// Stale: some were ended or shortened, and envelopes may still wait for what was their end.
	Stale bool `json:"stale,omitempty"`
	// Ended are the targets of those. None, and Stale: not known, any may be.
	Ended []string `json:"ended,omitempty"`
	by    map[string]*Suspension
}

// end notes that the suspension of a target was ended or shortened.
func (s *suspended) end(target string) {
	if s.Stale && s.Ended == nil || slices.Contains(s.Ended, target) {
		s.Stale = true
		return
	}
	s.Stale = true
	if s.Ended = append(s.Ended, target); len(s.Ended) > maxEnded {
		s.Ended = nil // any
	}
}

// emptied is the same without the list.
func (s *suspended) emptied() *suspended {
	return &suspended{Stale: s.Stale, Ended: slices.Clone(s.Ended)}
}

// lanes are those in which envelopes may wait for what has ended; nil: all.
func (s *suspended) lanes() []string {
	if slices.ContainsFunc(s.Ended, func(t string) bool { return t == Everything || t[0] == '.' }) {
		return nil
	}
	return s.Ended
}

func (s *suspended) index() *suspended {
	s.by = make(map[string]*Suspension, len(s.List))
	for i := range s.List {
		s.by[s.List[i].Target] = &s.List[i]
	}
	return s
}

// over is the suspension that a lane is under, the one that lasts longest; nil when there
// is none.
func (s *suspended) over(lane policy.Domain, now time.Time) (found *Suspension) {
	if len(s.by) == 0 {
		return nil
	}
	look := func(target string) {
		if x := s.by[target]; x != nil && x.holds(now) && (found == nil || x.outlasts(found)) {
			found = x
		}
	}
	look(Everything)
	look(string(lane))
	for name := string(lane); ; {
		i := strings.IndexByte(name, '.')
		if i < 0 {
			return found
		}
		look(name[i:])
		name = name[i+1:]
	}
}

// all is the suspension of everything.
func (s *suspended) all(now time.Time) *Suspension {
	if x := s.by[Everything]; x != nil && x.holds(now) {
		return x
	}
	return nil
}

func (s *Suspension) holds(now time.Time) bool { return s.Until.IsZero() || now.Before(s.Until) }

func (s *Suspension) outlasts(o *Suspension) bool {
	return !o.Until.IsZero() && (s.Until.IsZero() || s.Until.After(o.Until))
}

// Covers reports whether mail to a domain is under the suspension, which may have ended.
func (s *Suspension) Covers(d policy.Domain) bool {
	return s.Target == Everything || d.Within(s.Target)
}

// loadSuspensions reads the suspensions that were in force when the process ended.
func (q *Queue) loadSuspensions(ctx context.Context) error {
	b, err := q.store.Cell(ctx, suspendCell)
	if err != nil {
		return fmt.Errorf("queue: suspensions: %w", err)
	}
	s := &suspended{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, s); err != nil {
			return fmt.Errorf("queue: the list of suspensions cannot be read: %w", err)
		}
	}
	q.halt.Store(s.index())
	return nil
}

// Suspensions are those that are in force, by target.
func (q *Queue) Suspensions() []Suspension {
	now := q.now()
	list := slices.Clone(q.halt.Load().List)
	return slices.DeleteFunc(list, func(s Suspension) bool { return !s.holds(now) })
}

// Suspend keeps mail to a destination from being tried, from the moment that it returns on;
// attempts that fly go on. Another suspension of the same target is replaced. nil: it is on disk
// and in the journal. It returns the suspension as it is in force. A target or time that cannot
// be meant is a *FilterError.
func (q *Queue) Suspend(ctx context.Context, s Suspension) (Suspension, error) {
	now := q.now().UTC()
	if s.Target != Everything {
		target, err := parsePattern("domain", s.Target)
		if err != nil {
			return s, err
		}
		s.Target = target
	}
	if s.Since, s.Reason = now, clip(s.Reason, maxNote); !s.Until.IsZero() && !s.Until.After(now) {
		return s, badFilter("until %s is past: use a time to come", s.Until.Format(time.RFC3339))
	}
	s.Until = s.Until.UTC()
	q.halting.Lock()
	defer q.halting.Unlock()
	next := q.halt.Load().emptied()
	next.List = []Suspension{s}
	for _, old := range q.halt.Load().List {
		switch {
		case old.Target != s.Target:
			next.List = append(next.List, old)
		case old.outlasts(&s):
			next.end(s.Target)
		}
	}
	if len(next.List) > maxSuspensions {
		return s, badFilter("there are %d suspensions: %d is the limit: resume some, or suspend .domain for all below it", len(next.List)-1, maxSuspensions)
	}
	err := q.Note(ctx, OperatorAction{Verb: "suspend", By: s.By, Target: s.Target, Reason: s.Reason, Until: s.Until})
	if err == nil {
		err = q.setSuspensions(ctx, next)
	}
	if err == nil {
		q.log.Warn("queue: deliveries are suspended", "domain", s.Target, "until", untilWord(s.Until), "by", s.By)
	}
	return s, err
}

func untilWord(t time.Time) string {
	if t.IsZero() {
		return "resumed"
	}
	return t.Format(time.RFC3339)
}

// Resume ends the suspension of a target, Everything ends all there are, and returns those
// that it ended. What waited for them is tried in the order in which it would have been. A
// *FilterError when there is none of that target.
func (q *Queue) Resume(ctx context.Context, target, by string) ([]Suspension, error) {
	if target != Everything {
		var err error
		if target, err = parsePattern("domain", target); err != nil {
			return nil, err
		}
	}
	q.halting.Lock()
	defer q.halting.Unlock()
	now := q.now()
	next := q.halt.Load().emptied()
	var ended []Suspension
	for _, s := range q.halt.Load().List {
		if (target == Everything || s.Target == target) && s.holds(now) {
			ended = append(ended, s)
			next.end(s.Target)
		} else {
			next.List = append(next.List, s)
		}
	}
	if len(ended) == 0 {
		return nil, q.notSuspended(target, now)
	}
	for _, s := range ended {
		if err := q.Note(ctx, OperatorAction{Verb: "resume", By: by, Target: s.Target}); err != nil {
			return nil, err
		}
	}
	if err := q.setSuspensions(ctx, next); err != nil {
		return nil, err
	}
	for _, s := range ended {
		q.log.Info("queue: deliveries are resumed", "domain", s.Target, "by", by)
	}
	return ended, nil
}

// notSuspended says what stands in the way of a target that has no suspension of its own.
func (q *Queue) notSuspended(target string, now time.Time) error {
	if target == Everything {
		return badFilter("nothing is suspended")
	}
	if s := q.halt.Load().over(policy.Domain(strings.TrimPrefix(target, ".")), now); s != nil {
		return badFilter("%s has no suspension of its own: it is under that of %s, which can be resumed", target, cmp.Or(map[string]string{Everything: "all mail"}[s.Target], s.Target))
	}
	return badFilter("%s is not suspended", target)
}

// setSuspensions makes a list durable, then puts it in force. Under q.halting.
func (q *Queue) setSuspensions(ctx context.Context, s *suspended) error {
	slices.SortFunc(s.List, func(a, b Suspension) int { return cmp.Compare(a.Target, b.Target) })
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(s.List) == 0 && !s.Stale {
		b = nil
	}
	if err := q.store.SetCell(ctx, suspendCell, b); err != nil {
		return fmt.Errorf("queue: suspensions: %w", err)
	}
	// With the lock, what is put aside under the old list is on disk by now, so that
	// whoever looks for it later finds it.
	q.parking.Lock()
	q.halt.Store(s.index())
	q.parking.Unlock()
	select {
	case q.haltNews <- struct{}{}:
	default:
	}
	q.rouse()
	return nil
}

// park settles a claimed row whose destination is suspended: no try, and due when the
// suspension ends. It reports false when it is not suspended.
func (q *Queue) park(ctx context.Context, r *Row, t trial, land func(context.Context, *Row, trial)) bool {
	q.parking.RLock()
	defer q.parking.RUnlock()
	s := q.halt.Load().over(t.envelope.Lane, t.now)
	if s == nil {
		return false
	}
	t.parked = s
	land(ctx, r, t)
	return true
}

// parkedUntil is when an envelope under a suspension is looked at again: at its end, or
// before for what may not wait for that: expiry and the notice of delay.
func (o *Options) parkedUntil(s *Suspension, m *Message, e *Envelope) time.Time {
	due := o.deadline(m)
	if !s.Until.IsZero() {
		due = earlier(due, s.Until)
	}
	if o.WarnAfter > 0 && !e.Warned {
		due = earlier(due, m.AcceptedAt.Add(o.WarnAfter))
	}
	return due
}
