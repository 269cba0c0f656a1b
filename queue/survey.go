package queue

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Inquiry asks for counts of the envelopes that match.
type Inquiry struct {
	Filter Filter
	// Verb counts only what the verb would do something to; "": all.
	Verb Verb
	// By is what they are grouped by: one of SurveyWords. "": by domain.
	By string
	// Top is how many groups are wanted, the largest ones; 0: 10.
	Top int
}

// Survey is what a filter means, in numbers.
type Survey struct {
	Envelopes  int            `json:"envelopes"`
	Messages   int            `json:"messages"`
	Recipients int            `json:"recipients"` // those that are pending
	Octets     int64          `json:"octets"`     // of the messages, each counted once
	Oldest     time.Time      `json:"oldest,omitzero"`
	States     map[string]int `json:"states"` // envelopes: waiting, leased, held, damaged
	By         string         `json:"by"`
	Top        []Group        `json:"top"`    // largest first
	Others     int            `json:"others"` // envelopes that are in none of Top
	// Slack: there were more groups than are counted at once, and those of Top may
	// have so many envelopes less. 0: all numbers are exact.
	Slack int `json:"slack,omitempty"`
}

// Group is a part of a survey.
type Group struct {
	Name       string    `json:"name"` // "" when the envelopes have none
	Envelopes  int       `json:"envelopes"`
	Recipients int       `json:"recipients"`
	Oldest     time.Time `json:"oldest"`
}

// Bounds of a survey.
const (
	surveyTop    = 10
	surveyMost   = 1000 // that may be asked for
	surveyGroups = 4096 // that are counted at once
)

// surveyWord is something to group by.
type surveyWord struct {
	key string
	of  func(*Entry) string
}

func surveyWords() []surveyWord {
	return []surveyWord{
		{"domain", func(e *Entry) string { return string(e.Envelope.Lane) }},
		{"reason", func(e *Entry) string {
			if o := lastFailed(&e.Envelope); o != nil {
				return o.Failure.Reason.String()
			}
			return ""
		}},
		{"host", func(e *Entry) string {
			if o := lastFailed(&e.Envelope); o != nil {
				return string(lastHost(o))
			}
			return ""
		}},
		{"credential", func(e *Entry) string { return e.Message.Credential }},
		{"stream", func(e *Entry) string { return e.Message.Stream }},
		{"tag", func(e *Entry) string { return e.Message.Tag }},
		{"state", func(e *Entry) string { return e.State.String() }},
	}
}

// SurveyWords are what a survey can group by.
func SurveyWords() []string {
	var keys []string
	for _, w := range surveyWords() {
		keys = append(keys, w.key)
	}
	return keys
}

// lastFailed is the last outcome of the first recipient that is pending and has failed.
func lastFailed(e *Envelope) *Outcome {
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.State == Pending && r.Last != nil && r.Last.Failure != nil {
			return r.Last
		}
	}
	return nil
}

// Survey counts what matches. It looks at all of the queue, and memory does not grow with it.
// A bad inquiry is a *FilterError.
func (q *Queue) Survey(ctx context.Context, in Inquiry) (Survey, error) {
	s := Survey{By: cmp.Or(in.By, "domain"), States: make(map[string]int)}
	for st := RowWaiting; st <= RowDamaged; st++ {
		s.States[st.String()] = 0
	}
	i := slices.IndexFunc(surveyWords(), func(w surveyWord) bool { return w.key == s.By })
	switch {
	case i < 0:
		return s, badFilter("%s", Unknown("by", s.By, SurveyWords()))
	case in.Verb != "" && !slices.Contains(verbs(), in.Verb):
		return s, badFilter("verb %.80q is unknown: use retry, hold, release or drop", in.Verb)
	case in.Top < 0 || in.Top > surveyMost:
		return s, badFilter("top %d: use a number from 1 to %d", in.Top, surveyMost)
	}
	m, err := in.Filter.compile(time.Now())
	if err != nil {
		return s, err
	}
	of, tally, last := surveyWords()[i].of, newTally(surveyGroups), ID("")
	err = q.each(ctx, m, func(_ *Row, e *Entry) error {
		if in.Verb != "" && !in.Verb.fits(e.State) {
			return nil
		}
		s.add(e, e.Message.ID != last)
		last = e.Message.ID // the rows of a message stand together
		tally.add(of(e), e)
		if m.Limit > 0 && s.Envelopes >= m.Limit {
			return ErrStop
		}
		return nil
	})
	if err != nil && err != ErrStop {
		return s, err
	}
	s.Top, s.Slack = tally.top(cmp.Or(in.Top, surveyTop))
	s.Others = s.Envelopes
	for _, g := range s.Top {
		s.Others -= g.Envelopes
	}
	s.Others = max(s.Others, 0)
	return s, nil
}

func (s *Survey) add(e *Entry, first bool) {
	s.Envelopes++
	s.Recipients += pending(&e.Envelope)
	s.States[e.State.String()]++
	s.Oldest = oldest(s.Oldest, e.Message.AcceptedAt)
	if first {
		s.Messages++
		s.Octets += e.Message.Size
	}
}

func pending(e *Envelope) (n int) {
	for i := range e.Recipients {
		if e.Recipients[i].State == Pending {
			n++
		}
	}
	return n
}

func oldest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// tally counts groups in bounded memory, by the way called "space saving" (Metwally,
// Agrawal, El Abbadi 2005): when there is no room for a new group it takes the place of the
// smallest one, with that one's count, so that no large group is missed. With fewer groups than
// places it is exact.
type tally struct {
	size   int
	by     map[string]*tallied
	least  heap[*tallied]
	errors int // the most that a count may be too high
}

type tallied struct {
	Group
	place int
}

type tallyOrder struct{}

func (tallyOrder) less(a, b *tallied) bool     { return a.Envelopes < b.Envelopes }
func (tallyOrder) moved(t *tallied, place int) { t.place = place }

func newTally(size int) *tally { return &tally{size: size, by: make(map[string]*tallied)} }

func (t *tally) add(name string, e *Entry) {
	g := t.by[name]
	switch {
	case g != nil:
	case len(t.by) < t.size:
		g = &tallied{Group: Group{Name: name}}
		t.by[name] = g
		t.least.push(tallyOrder{}, g)
	default:
		g = t.least.items[0]
		t.errors = max(t.errors, g.Envelopes)
		delete(t.by, g.Name)
		g.Group = Group{Name: name, Envelopes: g.Envelopes}
		t.by[name] = g
	}
	g.Envelopes++
	g.Recipients += pending(&e.Envelope)
	g.Oldest = oldest(g.Oldest, e.Message.AcceptedAt)
	t.least.fix(tallyOrder{}, g.place)
}

// top returns the n largest groups.
func (t *tally) top(n int) (list []Group, slack int) {
	list = make([]Group, 0, len(t.by))
	for _, g := range t.by {
		list = append(list, g.Group)
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Envelopes, a.Envelopes), cmp.Compare(a.Name, b.Name))
	})
	return slices.Clip(list[:min(n, len(list))]), t.errors
}
