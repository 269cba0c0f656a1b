package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// CrashLives runs a whole queue over a store: messages are taken in, tried with every
// outcome, held, released, retried and dropped, and run out of time while they wait, fly
// and are held. The power is cut after every call that changes the store, and on the
// remains: what was acknowledged is there; what had its end has it still; each recipient
// that was accepted either waits in an envelope or has exactly one end; a notice
// is there exactly when a settlement says so. At the end every recipient has its end. It takes
// days: run it in a synctest bubble.
func CrashLives(t testing.TB, d Disk, seed uint64, messages int) {
	t.Helper()
	f := &fates{rng: rand.New(rand.NewPCG(seed, 7))}
	cutting := &cuttingStore{Store: d.Open(t), t: t, disk: d, fates: f}
	q, err := queue.New(queue.Options{
		Store: cutting, Composer: composer{}, GiveUp: 24 * time.Hour, WarnAfter: 4 * time.Hour, Workers: 4, PerLane: 2, AttemptLimit: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, f) }()
	verbs := []queue.Verb{queue.VerbHold, queue.VerbHold, queue.VerbRelease, queue.VerbRetry, queue.VerbDrop}
	for i := range messages {
		if _, err := q.Enqueue(ctx, f.draft(i)); err != nil {
			t.Fatal(err)
		}
		filter := queue.Filter{Domain: fmt.Sprintf("d%d.example", f.number(3)), Limit: 1 + f.number(2)}
		if _, err := q.Act(ctx, queue.Action{Verb: verbs[f.number(len(verbs))]}, filter); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(f.number(40)) * time.Minute)
	}
	time.Sleep(4 * 24 * time.Hour) // notices run out of time too
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := checkLives(cutting.Store, nil, true); err != nil {
		t.Errorf("seed %d, at the end: %v", seed, err)
	}
	t.Logf("seed %d: %d power cuts", seed, cutting.cuts)
	closeStore(t, cutting.Store)
}

// fates are what hosts, chance and the operator do.
type fates struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (f *fates) number(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.IntN(n)
}

func (f *fates) draft(n int) *queue.Draft {
	d := &queue.Draft{
		Message: queue.Message{Sender: queue.Address{Local: "sender", Domain: "own.example"}},
		Body:    strings.NewReader("Subject: x\r\n\r\n" + strings.Repeat("text\r\n", f.number(200))),
	}
	if f.number(8) == 0 {
		d.Body = strings.NewReader(strings.Repeat("text\r\n", 100<<10))
	}
	for i := range 1 + f.number(3) {
		d.Recipients = append(d.Recipients, queue.Recipient{
			Address: queue.Address{Local: fmt.Sprintf("r%d-%d", n, i), Domain: policy.Domain(fmt.Sprintf("d%d.example", f.number(3)))},
			Notify:  queue.Notify(f.number(9)),
		})
	}
	if f.number(5) == 0 {
		d.Message.Expires = time.Now().Add(time.Hour)
	}
	return d
}

// Deliver implements queue.Courier.
func (f *fates) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	time.Sleep(time.Duration(f.number(120)) * time.Second)
	switch f.number(30) {
	case 0:
		<-ctx.Done() // until the lease is nearly over
		return queue.Report{Free: true, RetryAfter: 1}
	case 1:
		time.Sleep(time.Hour) // too late
	}
	var r queue.Report
	for i := range l.Envelope.Recipients {
		o := queue.Outcome{Recipient: i, Failure: &policy.Failure{Reason: policy.ReplyTemporary}}
		switch k := f.number(20); {
		case k < 3:
			o.Kind, o.Failure = queue.DeliveredNow, nil
		case k < 6:
			o.Kind = queue.BouncedNow
		case k == 6:
			o.Failure.Reason = policy.Uncertain
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r
}

type composer struct{}

// Compose implements queue.Composer.
func (composer) Compose(n queue.Notice) (*queue.Draft, error) {
	return &queue.Draft{
		Recipients: []queue.Recipient{{Address: n.Message.Sender, Notify: queue.NotifyNever}},
		Body:       strings.NewReader("Subject: " + n.Kind.String() + "\r\n\r\n"),
	}, nil
}

// cuttingStore cuts the power after each call that changes it.
type cuttingStore struct {
	queue.Store
	t     testing.TB
	disk  Disk
	fates *fates

	mu     sync.Mutex
	acked  []string // entries that the caller was told are on disk
	cuts   int
	failed bool
}

// Insert implements queue.Store.
func (s *cuttingStore) Insert(ctx context.Context, in *queue.Insertion) error {
	var entry []byte
	finish := in.Finish
	own := *in
	own.Finish = func(size int64) (record, e []byte, err error) {
		record, entry, err = finish(size)
		return record, entry, err
	}
	if err := s.Store.Insert(ctx, &own); err != nil {
		return err
	}
	s.cut(string(entry))
	return nil
}

// Commit implements queue.Store.
func (s *cuttingStore) Commit(ctx context.Context, c *queue.Change) error {
	if err := s.Store.Commit(ctx, c); err != nil {
		return err
	}
	var list []string
	for _, e := range c.Entries {
		list = append(list, string(e))
	}
	s.cut(list...)
	return nil
}

func (s *cuttingStore) cut(acked ...string) {
	s.mu.Lock()
	s.acked = append(s.acked, acked...)
	told, n, failed := s.acked[:len(s.acked):len(s.acked)], s.cuts, s.failed
	s.cuts++
	s.mu.Unlock()
	if failed {
		return
	}
	percent := cuts()[s.fates.number(len(cuts()))]
	after := s.disk.Cut(percent, uint64(n)).Open(s.t)
	if err := checkLives(after, told, false); err != nil {
		s.mu.Lock()
		s.failed = true
		s.mu.Unlock()
		s.t.Errorf("power cut %d with %d %%: %v", n, percent, err)
	}
	closeStore(s.t, after)
}

// lives are what the journal of a store tells.
type lives struct {
	entries  map[string]int
	pending  map[string]bool // message and address
	ended    map[string]bool
	notices  int // that settlements brought
	accepted int // of them
	held     map[queue.EnvelopeID]bool
}

// checkLives compares journal and state of a store; done: nobody may be pending.
func checkLives(s queue.Store, acked []string, done bool) error {
	l := &lives{entries: make(map[string]int), pending: make(map[string]bool), ended: make(map[string]bool), held: make(map[queue.EnvelopeID]bool)}
	err := s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		l.entries[string(it.Entry)]++
		return l.add(it.Entry)
	})
	if err != nil {
		return err
	}
	for _, e := range acked {
		if l.entries[e] != 1 {
			return fmt.Errorf("an acknowledged step is %d times in the journal: %s", l.entries[e], e)
		}
	}
	if l.notices != l.accepted {
		return fmt.Errorf("settlements tell of %d notices, %d were taken in", l.notices, l.accepted)
	}
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		return err
	}
	waiting := make(map[string]bool)
	err = q.List(context.Background(), queue.Filter{}, func(e queue.Entry) error {
		for _, r := range e.Envelope.Recipients {
			if key := fmt.Sprint(e.Message.ID, " ", r.Address); r.State == queue.Pending {
				waiting[key] = true
			} else if !l.ended[key] {
				return fmt.Errorf("recipient %s is %s, and the journal does not say so", key, r.State)
			}
		}
		if e.Envelope.Held != l.held[e.Envelope.ID] {
			return fmt.Errorf("envelope %s: held %v, the journal says %v", e.Envelope.ID, e.Envelope.Held, l.held[e.Envelope.ID])
		}
		return checkBody(s, e.Message.ID, e.Message.Size)
	})
	if err != nil {
		return err
	}
	for key := range l.pending {
		if !waiting[key] {
			return fmt.Errorf("recipient %s was accepted, has no end and is in no envelope", key)
		}
	}
	if len(waiting) != len(l.pending) {
		return fmt.Errorf("%d recipients wait, by the journal %d", len(waiting), len(l.pending))
	}
	if done && len(waiting) > 0 {
		return fmt.Errorf("%d recipients have no end", len(waiting))
	}
	return nil
}

func checkBody(s queue.Store, id queue.ID, size int64) error {
	b, err := s.Body(context.Background(), id)
	if err != nil {
		return fmt.Errorf("body of %s: %w", id, err)
	}
	defer b.Close()
	if b.Size() != size {
		return fmt.Errorf("body of %s has %d octets, want %d", id, b.Size(), size)
	}
	return nil
}

// add reads an entry.
func (l *lives) add(raw []byte) error {
	var e queue.JournalEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	if e.Kind == queue.EntryAccepted && e.Sender.IsNull() {
		l.accepted++
	}
	l.notices += len(e.Notices)
	switch e.Verb {
	case queue.VerbHold:
		l.held[e.Envelope] = true
	case queue.VerbRelease:
		l.held[e.Envelope] = false
	}
	failed := false
	for _, r := range e.Recipients {
		key := fmt.Sprint(e.Message, " ", r.Address)
		switch {
		case e.Kind == queue.EntryAccepted:
			l.pending[key] = true
		case r.State == queue.Pending:
		case l.ended[key]:
			return fmt.Errorf("recipient %s has a second end", key)
		case !l.pending[key]:
			return fmt.Errorf("recipient %s has an end and was never accepted", key)
		default:
			l.ended[key] = true
			delete(l.pending, key)
			failed = failed || r.State == queue.Bounced || r.State == queue.Expired
		}
	}
	for _, n := range e.Notices {
		if n == queue.NoticeFailed && !failed {
			return errors.New("a notice of a failure without one")
		}
	}
	return nil
}
