package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Compare does a random history of steps on a store and checks after each what it
// returned, and now and then all that it holds. The store is empty at first.
func Compare(t testing.TB, s queue.Store, seed uint64, steps int) {
	t.Helper()
	w := newWorld(t, seed)
	for i := range steps {
		w.step(s)
		if i%50 == 49 || i == steps-1 {
			if err := w.check(s, false); err != nil {
				t.Fatalf("seed %d, after step %d: %v", seed, w.n, err)
			}
		}
	}
}

// Disk is where a store lives, and can lose power.
type Disk interface {
	// Open opens the store that is on the disk.
	Open(t testing.TB) queue.Store
	// Cut returns the disk as it would be if the power failed now: all that was
	// synced, and of the rest about the given percentage. The disk itself goes on.
	Cut(percent int, seed uint64) Disk
}

// cuts are the percentages of unsynced data that come through.
func cuts() []int { return []int{0, 50, 100} }

// Crash cuts the power after every step of a random history: what was acknowledged
// must be there, what was removed must not be. Then the history goes on upon
// one of the remains.
func Crash(t testing.TB, d Disk, seed uint64, steps int) {
	t.Helper()
	w := newWorld(t, seed)
	s := d.Open(t)
	for i := range steps {
		w.step(s)
		for _, percent := range cuts() {
			after := d.Cut(percent, seed+uint64(i))
			rest := after.Open(t)
			if err := w.check(rest, true); err != nil {
				t.Fatalf("seed %d, power cut after step %d with %d %%: %v", seed, w.n, percent, err)
			}
			if i%20 == 19 && percent == 50 {
				// From here on the remains are the disk.
				closeStore(t, s)
				s, d = rest, after
				w.crashed(s)
				continue
			}
			closeStore(t, rest)
		}
	}
	closeStore(t, s)
}

func closeStore(t testing.TB, s queue.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// crashed takes leases and fences over from a store that was opened after a crash.
func (w *world) crashed(s queue.Store) {
	w.leases = nil
	w.must(s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		r := it.Row
		r.Record = nil
		w.rows[rowKey{r.Message, r.Number}] = &r
		return nil
	}))
}

// CrashInFlight cuts the power again and again while several writers insert, claim
// and remove. On each of the remains: what was acknowledged before the cut is there, what
// was removed before it is not, every message is whole, and the journal agrees with
// the rows: an accepted entry for each message, a final one for each row that is gone.
func CrashInFlight(t testing.TB, d Disk, seed uint64, rounds int) {
	t.Helper()
	s := d.Open(t)
	l := &ledger{rows: make(map[queue.ID]int), removed: make(map[rowKey]bool), bodies: make(map[queue.ID]int)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() { l.write(t, s, rand.New(rand.NewPCG(seed, uint64(n))), stop) })
	}
	for i := range rounds {
		// A moment in the middle of something: after some more acknowledgements. The writers go on
		// meanwhile, but not for as long as the look at the remains takes: all that they write
		// would be copied at each cut from then on.
		goal := l.count() + 5 + i%7
		l.most.Store(int64(goal + ahead))
		for l.count() < goal && !t.Failed() {
			time.Sleep(100 * time.Microsecond)
		}
		before := l.clone()
		after := d.Cut(cuts()[i%3], seed+uint64(i))
		rest := after.Open(t)
		if err := before.check(rest); err != nil {
			t.Errorf("seed %d, power cut %d: %v", seed, i, err)
		}
		closeStore(t, rest)
	}
	close(stop)
	wg.Wait()
	closeStore(t, s)
}

// ahead is how many more acknowledgements the writers may have than the cut needs.
const ahead = 25

// ledger is what was acknowledged.
type ledger struct {
	most    atomic.Int64 // how many may be, about
	mu      sync.Mutex
	rows    map[queue.ID]int // inserted, with so many rows
	bodies  map[queue.ID]int // size
	removed map[rowKey]bool
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows) + len(l.removed)
}

func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{rows: make(map[queue.ID]int), removed: make(map[rowKey]bool), bodies: make(map[queue.ID]int)}
	for k, v := range l.rows {
		c.rows[k], c.bodies[k] = v, l.bodies[k]
	}
	for k := range l.removed {
		c.removed[k] = true
	}
	return c
}

// pattern is the body of a message: any part of it tells whose it is.
func pattern(id queue.ID, size int) []byte {
	return bytes.Repeat([]byte(id), size/len(id)+1)[:size]
}

func (l *ledger) write(t testing.TB, s queue.Store, rng *rand.Rand, stop <-chan struct{}) {
	ctx, now := context.Background(), time.Unix(1_800_000_000, 0)
	for !t.Failed() {
		select {
		case <-stop:
			return
		default:
		}
		if int64(l.count()) >= l.most.Load() {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		id, size := queue.NewID(now), rng.IntN(3000)
		if rng.IntN(10) == 0 {
			size = rng.IntN(900 << 10)
		}
		in := &queue.Insertion{ID: id, Body: bytes.NewReader(pattern(id, size)), Finish: func(int64) ([]byte, []byte, error) {
			return fmt.Append(nil, size), fmt.Appendf(nil, "accepted %s", id), nil
		}}
		for n := range 1 + rng.IntN(3) {
			in.Rows = append(in.Rows, queue.Row{Message: id, Number: n, Lane: "lane", Due: now, State: queue.RowWaiting})
		}
		if err := s.Insert(ctx, in); err != nil {
			t.Error(err)
			return
		}
		l.mu.Lock()
		l.rows[id], l.bodies[id] = len(in.Rows), size
		l.mu.Unlock()
		l.finish(t, s, rng.IntN(5))
	}
}

// finish claims rows and removes each by a commit of its own, all at once.
func (l *ledger) finish(t testing.TB, s queue.Store, limit int) {
	ctx, now := context.Background(), time.Unix(1_800_000_000, 0)
	rows, _, err := s.Claim(ctx, queue.ClaimQuery{Now: now, Until: now.Add(time.Hour), Limit: limit})
	if err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for _, r := range rows {
		wg.Go(func() {
			entry := fmt.Appendf(nil, "final %s %d", r.Message, r.Number)
			if err := s.Commit(ctx, &queue.Change{Remove: []queue.Row{r}, Entries: [][]byte{entry}}); err != nil {
				t.Error(err)
				return
			}
			l.mu.Lock()
			l.removed[rowKey{r.Message, r.Number}] = true
			l.mu.Unlock()
		})
	}
	wg.Wait()
}

// check looks at a store that was opened after a power cut.
func (l *ledger) check(s queue.Store) error {
	if err := checkChain(s, len(l.rows)+len(l.removed)); err != nil {
		return err
	}
	accepted, final, err := readJournal(s)
	if err != nil {
		return err
	}
	there := make(map[rowKey]bool)
	whole := make(map[queue.ID]bool)
	err = s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		k := rowKey{it.Row.Message, it.Row.Number}
		there[k] = true
		if !accepted[k.id] || final[k] {
			return fmt.Errorf("row %v is there; accepted %v, final %v", k, accepted[k.id], final[k])
		}
		if whole[k.id] {
			return nil
		}
		whole[k.id] = true
		return checkWhole(s, &it.Row)
	})
	if err != nil {
		return err
	}
	for id, n := range l.rows {
		if !accepted[id] {
			return fmt.Errorf("message %s was accepted and is lost", id)
		}
		for i := range n {
			if k := (rowKey{id, i}); !there[k] && !final[k] {
				return fmt.Errorf("row %v is neither there nor final", k)
			}
		}
	}
	for k := range l.removed {
		if !final[k] || there[k] {
			return errors.New("a removal was undone")
		}
	}
	return nil
}

// readJournal returns what the journal of a CrashInFlight tells.
func readJournal(s queue.Store) (accepted map[queue.ID]bool, final map[rowKey]bool, err error) {
	accepted, final = make(map[queue.ID]bool), make(map[rowKey]bool)
	err = s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		var word, id string
		var n int
		if _, err := fmt.Sscan(string(it.Entry), &word, &id, &n); err != nil && word != "accepted" {
			return fmt.Errorf("entry %q: %w", it.Entry, err)
		}
		if word == "accepted" {
			accepted[queue.ID(id)] = true
		} else {
			final[rowKey{queue.ID(id), n}] = true
		}
		return nil
	})
	return accepted, final, err
}

// checkWhole checks that a message's body is the one that its record tells.
func checkWhole(s queue.Store, r *queue.Row) error {
	b, err := s.Body(context.Background(), r.Message)
	if err != nil {
		return err
	}
	defer b.Close()
	body, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if fmt.Sprint(len(body)) != string(r.Record) || !bytes.Equal(body, pattern(r.Message, len(body))) {
		return fmt.Errorf("body of %s has %d octets, want %s", r.Message, len(body), r.Record)
	}
	return nil
}
