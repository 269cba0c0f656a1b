package queue

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Queue. The zero value is not usable: Store is needed.
type Options struct {
	Store    Store
	Composer Composer // nil: no notices
	// Schedule is the delays between tries; the last one repeats. Jitter is added:
	// up to a fifth. Empty: 1m 3m 5m 10m 15m 30m 1h 2h 4h.
	Schedule  []time.Duration
	GiveUp    time.Duration // age at which pending recipients expire; 0: 5 days
	WarnAfter time.Duration // age of the delay notice; 0: never
	Workers   int           // envelopes in delivery at once; 0: 128
	PerLane   int           // of them in one lane; 0: no limit
	// AttemptLimit bounds one Deliver call, by its ctx; the lease lasts a little
	// longer. 0: 30 minutes.
	AttemptLimit time.Duration
	// Gate is asked before each acceptance; nil: no gate. An error (ErrFull)
	// refuses the draft. Notices pass it by.
	Gate func() error
	// Short reports that the disk is nearly full; nil: it never is. Few envelopes fly then, and tries that
	// fail are rationed (lean.go): each writes to the journal, and fills what is left. It must not block.
	Short func() bool
	// Crowded reports, on a disk that is nearly full, that nothing should be added now to what is still to be
	// written out; with spare, that nothing should but what makes room. No try begins, and no order is carried
	// out, until it is otherwise. nil: it never is. It must not block.
	Crowded func(spare bool) bool
	// Paused is asked before each claim; nil: never paused. While it reports true
	// nothing new is tried (what flies goes on): for what makes every attempt useless, such
	// as a DNS resolver that is down. The channel is closed when the answer may have
	// changed; nil: it is asked again within a minute. It must not block.
	Paused   func() (bool, <-chan struct{})
	Observer Observer     // nil: nobody is told
	Logger   *slog.Logger // nil: discard
}

// Defaults and bounds of a Queue.
const (
	defaultGiveUp       = 5 * 24 * time.Hour // RFC 5321 4.5.4.1: at least 4-5 days
	defaultWorkers      = 128
	defaultAttemptLimit = 30 * time.Minute
	leaseMargin         = time.Minute
	// perEnvelope is RFC 5321 4.5.3.1.8: every host takes at least 100 recipients in
	// one transaction. More of one domain are made into more envelopes.
	perEnvelope = 100
)

func defaultSchedule() []time.Duration {
	return []time.Duration{time.Minute, 3 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}
}

// Observer is told what the queue did. Calls are concurrent and must not block.
type Observer interface {
	// Accepted is called for every message that became ours, notices included.
	Accepted(m *Message, recipients int)
	// Settled is called after the commit with the recipients whose state or last
	// outcome changed: e.Recipients[o.Recipient].State is the state now. The outcome of
	// one that expired or was dropped without a try is its last one.
	Settled(m *Message, e *Envelope, o []Outcome)
	// Noticed is called for each notice that was queued.
	Noticed(kind NoticeKind)
}

// Queue is the vault: it knows time, leases and recipients, and nothing of TLS.
// All methods are safe for concurrent use.
type Queue struct {
	o       Options                 // as given, with defaults filled in; never changes
	tuned   atomic.Pointer[Options] // the limits that Retune changes; never nil
	store   Store                   // not owned
	log     *slog.Logger
	wake    chan struct{} // capacity 1: Run shall look again
	news    signal        // the journal has grown
	hot     *hot          // what was just accepted
	clock   clock
	mu      sync.Mutex
	erasing sync.Mutex         // one erasure at a time
	flying  map[rowKey]*flight // envelopes with a courier of this process

	halt     atomic.Pointer[suspended] // what is suspended; never nil
	halting  sync.Mutex                // who changes halt and its cell
	parking  sync.RWMutex              // held for reading from a look at halt to the commit that follows from it
	haltNews chan struct{}             // capacity 1: keepSuspensions shall look again
	together together                  // what is put aside
	lean     lean                      // tries on a disk that is nearly full
}

// New returns a queue over a store that it does not own. It reads which destinations are
// suspended.
func New(o Options) (*Queue, error) {
	if o.Store == nil {
		return nil, errors.New("queue: Options.Store is missing")
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	q := &Queue{
		o: o, store: o.Store, log: o.Logger, wake: make(chan struct{}, 1), flying: make(map[rowKey]*flight),
		hot: newHot(), haltNews: make(chan struct{}, 1), together: together{store: o.Store},
	}
	q.tuned.Store(&o)
	return q, q.loadSuspensions(context.Background())
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	for i, d := range o.Schedule {
		if d <= 0 {
			return fmt.Errorf("queue: delay %d of the schedule is %v: it must be positive", i+1, d)
		}
	}
	if o.GiveUp < 0 || o.WarnAfter < 0 || o.Workers < 0 || o.PerLane < 0 || o.AttemptLimit < 0 {
		return errors.New("queue: a limit is negative")
	}
	if len(o.Schedule) == 0 {
		o.Schedule = defaultSchedule()
	}
	if o.GiveUp == 0 {
		o.GiveUp = defaultGiveUp
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	if o.AttemptLimit == 0 {
		o.AttemptLimit = defaultAttemptLimit
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Retune takes Schedule, GiveUp, WarnAfter, PerLane and AttemptLimit over while the
// queue works (a reload of the configuration); the other options are not looked at.
// They count for each envelope from its next settlement. An error changes nothing.
func (q *Queue) Retune(o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	q.tuned.Store(&o)
	q.rouse()
	return nil
}

// Enqueue accepts a draft. nil means on disk, ours: that return is the instant of
// acceptance. Recipients that are there twice count once. An error means that
// nothing is kept: it wraps ErrFull when the gate is closed, or the error of
// the draft's body.
func (q *Queue) Enqueue(ctx context.Context, d *Draft) (ID, error) {
	if q.o.Gate != nil {
		if err := q.o.Gate(); err != nil {
			return "", fmt.Errorf("queue: not accepted: %w", err)
		}
	}
	in, m, n, err := q.insertion(d)
	if err != nil {
		return "", err
	}
	if err := q.store.Insert(ctx, in); err != nil {
		q.hot.abandon(m.ID)
		return "", fmt.Errorf("queue: not accepted: %w", err)
	}
	// The instant of acceptance: from here on the message is ours.
	q.accepted(m, n)
	return m.ID, nil
}

// accepted spreads the news of a message that is on disk.
func (q *Queue) accepted(m *Message, recipients int) {
	q.rouse()
	q.news.broadcast()
	if q.o.Observer != nil {
		q.o.Observer.Accepted(m, recipients)
	}
	if q.log.Enabled(context.Background(), slog.LevelDebug) { // what nobody reads is not gathered
		q.log.Debug("accepted", "msg", m.ID, "size", m.Size, "recipients", recipients)
	}
}

// rouse has Run look again.
func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// insertion makes a draft ready for the store. The message is complete once the
// store has called Finish.
func (q *Queue) insertion(d *Draft) (*Insertion, *Message, int, error) {
	if d.Body == nil {
		return nil, nil, 0, errors.New("queue: a draft without a body")
	}
	now := q.now()
	m := d.Message
	if m.ID == "" {
		m.ID = NewID(now)
	}
	envelopes, err := split(m.ID, d.Recipients, now)
	if err != nil {
		return nil, nil, 0, err
	}
	in := &Insertion{ID: m.ID, Rows: make([]Row, len(envelopes))}
	var all []JournalRecipient
	group := fairnessClass(&m)
	for i := range envelopes {
		if in.Rows[i], err = row(&envelopes[i], now, i); err != nil {
			return nil, nil, 0, err
		}
		in.Rows[i].Group = group
		for _, r := range envelopes[i].Recipients {
			all = append(all, JournalRecipient{Number: len(all), Address: r.Address})
		}
	}
	body := &copier{r: d.Body, large: !q.hot.open()}
	in.Body = body
	in.Finish = func(size int64) (record, entry []byte, err error) {
		m.Size, m.AcceptedAt = size, q.now().UTC()
		m.EightBit = m.EightBit || body.eightBit
		j := newEntry(EntryAccepted, &m, m.AcceptedAt)
		j.Recipients = all
		if entry, err = j.appendJSON(make([]byte, 0, 512)); err == nil && !body.large {
			q.hot.put(fresh{message: &m, envelopes: envelopes, body: body.copy})
		}
		return m.appendJSON(make([]byte, 0, 384)), entry, err
	}
	return in, &m, len(all), nil
}

// split sorts recipients by domain into envelopes, in order of appearance.
func split(id ID, recipients []Recipient, now time.Time) ([]Envelope, error) {
	if len(recipients) == 0 {
		return nil, errors.New("queue: a draft without recipients")
	}
	var list []Envelope
	open := make(map[string]int, 1) // domain -> its envelope that has room
	seen := make(map[Address]bool, len(recipients))
	for _, r := range recipients {
		if r.Address.Domain == "" {
			return nil, errors.New("queue: a recipient without a domain")
		}
		if seen[r.Address] {
			continue
		}
		seen[r.Address] = true
		i, ok := open[string(r.Address.Domain)]
		if !ok || len(list[i].Recipients) == perEnvelope {
			i = len(list)
			open[string(r.Address.Domain)] = i
			list = append(list, Envelope{ID: id.EnvelopeID(i), Message: id, Lane: r.Address.Domain, Due: now.UTC()})
		}
		r.State, r.Last = Pending, nil
		list[i].Recipients = append(list[i].Recipients, r)
	}
	return list, nil
}

// fairnessClass is whose turn a message takes: that of its credential and stream.
// Without a credential it is the listener's, so notices have a turn of their own. A store
// keeps it in the clear, so it is a short hash, not a name; should two be equal,
// they share a turn.
func fairnessClass(m *Message) string {
	who := "c" + m.Credential
	if m.Credential == "" {
		who = "l" + m.Listener
	}
	sum := sha256.Sum256([]byte(who + "\x00" + m.Stream))
	return string(sum[:8])
}

// row makes an envelope ready for the store.
func row(e *Envelope, due time.Time, number int) (Row, error) {
	data, err := e.appendJSON(make([]byte, 0, 256))
	r := Row{Message: e.Message, Number: number, Lane: string(e.Lane), Due: due, State: RowWaiting, Data: data}
	if e.Held {
		r.State = RowHeld
	}
	return r, err
}

// decode reads a row with its record.
func decode(r *Row) (*Message, *Envelope, error) {
	m, e := new(Message), new(Envelope)
	if err := json.Unmarshal(r.Record, m); err != nil {
		return nil, nil, fmt.Errorf("queue: message %s cannot be read: %w", r.Message, err)
	}
	if err := json.Unmarshal(r.Data, e); err != nil {
		return nil, nil, fmt.Errorf("queue: envelope %s cannot be read: %w", r.Message.EnvelopeID(r.Number), err)
	}
	if m.ID != r.Message || e.ID != r.Message.EnvelopeID(r.Number) {
		return nil, nil, fmt.Errorf("queue: what is stored as envelope %s belongs to another", r.Message.EnvelopeID(r.Number))
	}
	return m, e, nil
}

// signal wakes everybody who waits.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // nil: nobody waits
}

// wait returns a channel that the next broadcast closes.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
