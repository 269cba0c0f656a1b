package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// world is what a store must hold after a history of steps, kept in the most
// stupid way, and a source of random steps. It shares nothing with the stores: a Claim
// is checked by what it may return, not by how it is found.
type world struct {
	t        testing.TB
	rng      *rand.Rand
	now      time.Time
	messages map[queue.ID]*content
	rows     map[rowKey]*queue.Row // leases included
	leases   []queue.Row           // given and not used, some of them stale
	journal  []string
	cells    map[string]string
	removed  map[queue.ID]bool
	n        int
}

type content struct{ record, body []byte }

type rowKey struct {
	id queue.ID
	n  int
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0).UTC(),
		messages: make(map[queue.ID]*content), rows: make(map[rowKey]*queue.Row),
		cells: make(map[string]string), removed: make(map[queue.ID]bool),
	}
}

// step does one random step on the store and checks what it returns.
func (w *world) step(s queue.Store) {
	w.t.Helper()
	w.n++
	switch k := w.rng.IntN(20); {
	case k < 5:
		w.insert(s)
	case k < 10:
		w.claim(s)
	case k < 14:
		w.settle(s)
	case k < 15:
		w.operate(s)
	case k < 16:
		w.stale(s)
	case k < 17:
		w.fail(s)
	case k < 18:
		w.setCell(s)
	default:
		w.now = w.now.Add(time.Duration(w.rng.IntN(90)) * time.Second)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("step %d: %v", w.n, err)
	}
}

// draft makes a random insertion.
func (w *world) draft(maxBody int) (*queue.Insertion, *content) {
	id := queue.NewID(w.now.Add(time.Duration(w.n) * time.Millisecond))
	c := &content{record: fmt.Appendf(nil, "record %s", id), body: pattern(id, w.rng.IntN(maxBody))}
	in := &queue.Insertion{ID: id, Body: bytes.NewReader(c.body), Finish: func(size int64) ([]byte, []byte, error) {
		if size != int64(len(c.body)) {
			return nil, nil, fmt.Errorf("size %d, want %d", size, len(c.body))
		}
		return c.record, fmt.Appendf(nil, "accepted %s", id), nil
	}}
	for i := range 1 + w.rng.IntN(4) {
		r := queue.Row{
			Message: id, Number: i, Lane: fmt.Sprintf("lane%d", w.rng.IntN(5)), State: queue.RowWaiting,
			Group: fmt.Sprintf("group%d", w.rng.IntN(3)),
			Due:   w.now.Add(time.Duration(w.rng.IntN(120)-60) * time.Second), Data: fmt.Appendf(nil, "row %s %d", id, i),
		}
		if w.rng.IntN(8) == 0 {
			r.State = queue.RowHeld
		}
		in.Rows = append(in.Rows, r)
	}
	return in, c
}

// added records that an insertion was done.
func (w *world) added(in *queue.Insertion, c *content) {
	w.messages[in.ID] = c
	for _, r := range in.Rows {
		w.rows[rowKey{in.ID, r.Number}] = &r
	}
}

func (w *world) bodyLimit() int {
	if w.rng.IntN(10) == 0 {
		return 700 << 10
	}
	return 5000
}

func (w *world) insert(s queue.Store) {
	w.t.Helper()
	in, c := w.draft(w.bodyLimit())
	w.must(s.Insert(context.Background(), in))
	w.added(in, c)
	w.journal = append(w.journal, "accepted "+string(in.ID))
}

// fail inserts a message whose body breaks off.
func (w *world) fail(s queue.Store) {
	w.t.Helper()
	in, c := w.draft(w.bodyLimit())
	broken := errors.New("broken")
	in.Body = io.MultiReader(bytes.NewReader(c.body), iotest.ErrReader(broken))
	if err := s.Insert(context.Background(), in); err != broken {
		w.t.Fatalf("step %d: error %v, want the reader's own", w.n, err)
	}
}

// free reports whether a row may be claimed now.
func (w *world) free(r *queue.Row) bool {
	if r.State == queue.RowLeased {
		return !r.Until.After(w.now)
	}
	return !r.Due.After(w.now)
}

func (w *world) claim(s queue.Store) {
	w.t.Helper()
	q := queue.ClaimQuery{Now: w.now, Until: w.now.Add(time.Minute), Limit: 1 + w.rng.IntN(6), PerLane: w.rng.IntN(4)}
	leased, free := make(map[string]int), make(map[string]int)
	for _, r := range w.rows {
		switch {
		case r.State == queue.RowLeased && r.Until.After(w.now):
			leased[r.Lane]++
		case w.free(r) && (r.State != queue.RowLeased || !r.Due.After(w.now)):
			free[r.Lane]++
		}
	}
	possible := 0
	for lane, n := range free {
		if q.PerLane > 0 {
			n = min(n, max(q.PerLane-leased[lane], 0))
		}
		possible += n
	}
	rows, next, err := s.Claim(context.Background(), q)
	w.must(err)
	if len(rows) != min(possible, q.Limit) {
		w.t.Fatalf("step %d: claimed %d rows with %+v, want %d of %d possible", w.n, len(rows), q, q.Limit, possible)
	}
	if possible > q.Limit && !next.Equal(w.now) && next.After(w.now) {
		w.t.Fatalf("step %d: next is %v with %d rows left now", w.n, next, possible-q.Limit)
	}
	for _, r := range rows {
		was := w.rows[rowKey{r.Message, r.Number}]
		if was == nil || !w.free(was) || r.Fence <= was.Fence || r.State != queue.RowLeased || !r.Until.Equal(q.Until) ||
			!bytes.Equal(r.Data, was.Data) || r.Lane != was.Lane || r.Group != was.Group || !bytes.Equal(r.Record, w.messages[r.Message].record) {
			w.t.Fatalf("step %d: claimed %+v, which is %+v", w.n, r, was)
		}
		if leased[r.Lane]++; q.PerLane > 0 && leased[r.Lane] > q.PerLane {
			w.t.Fatalf("step %d: more than %d leases in %s", w.n, q.PerLane, r.Lane)
		}
		was.State, was.Until, was.Fence = queue.RowLeased, q.Until, r.Fence
		w.leases = append(w.leases, r)
	}
	w.checkNext(next, q, leased)
}

// checkNext: nothing becomes claimable by the passing of time before next.
func (w *world) checkNext(next time.Time, q queue.ClaimQuery, leased map[string]int) {
	w.t.Helper()
	for _, r := range w.rows {
		at := r.Due
		if r.State == queue.RowLeased {
			at = r.Until
		} else if q.PerLane > 0 && leased[r.Lane] >= q.PerLane {
			continue
		}
		if at.After(w.now) && (next.IsZero() || next.After(at)) {
			w.t.Fatalf("step %d: next is %v, a row can be claimed at %v", w.n, next, at)
		}
	}
}

// settle commits the end of some leases, in good faith: some may be stale.
func (w *world) settle(s queue.Store) {
	w.t.Helper()
	if len(w.leases) == 0 {
		return
	}
	n := 1 + w.rng.IntN(min(3, len(w.leases)))
	rows := slices.Clone(w.leases[:n])
	w.leases = slices.Clone(w.leases[n:])
	c, notices := w.change(rows)
	w.commit(s, c, notices)
}

// change makes a random change of the rows, with entries and sometimes a notice.
func (w *world) change(rows []queue.Row) (*queue.Change, map[queue.ID]*content) {
	c, notices := &queue.Change{}, make(map[queue.ID]*content)
	for _, r := range rows {
		r.Record = nil
		if w.rng.IntN(3) > 0 {
			c.Remove = append(c.Remove, r)
			c.Entries = append(c.Entries, fmt.Appendf(nil, "final %s %d", r.Message, r.Number))
			continue
		}
		r.State, r.Until, r.Due = queue.RowWaiting, time.Time{}, w.now.Add(time.Duration(w.rng.IntN(120))*time.Second)
		if w.rng.IntN(5) == 0 {
			r.State = queue.RowHeld
		}
		r.Data = fmt.Appendf(nil, "row %s %d step %d", r.Message, r.Number, w.n)
		c.Update = append(c.Update, r)
		c.Entries = append(c.Entries, fmt.Appendf(nil, "update %s %d", r.Message, r.Number))
	}
	if w.rng.IntN(4) == 0 {
		in, body := w.draft(2000)
		c.Insert = append(c.Insert, in)
		notices[in.ID] = body
	}
	return c, notices
}

// commit commits a change and expects what must come of it.
func (w *world) commit(s queue.Store, c *queue.Change, notices map[queue.ID]*content) {
	w.t.Helper()
	stale := false
	for _, r := range slices.Concat(c.Update, c.Remove) {
		now := w.rows[rowKey{r.Message, r.Number}]
		stale = stale || now == nil || now.Fence != r.Fence
	}
	err := s.Commit(context.Background(), c)
	if stale {
		if !errors.Is(err, queue.ErrStale) {
			w.t.Fatalf("step %d: error %v, want ErrStale", w.n, err)
		}
		return
	}
	w.must(err)
	w.applied(s, c, notices)
}

// applied records that a change was done.
func (w *world) applied(s queue.Store, c *queue.Change, notices map[queue.ID]*content) {
	for _, r := range c.Update {
		w.rows[rowKey{r.Message, r.Number}] = &r
		if s != nil {
			_, rows, err := s.Read(context.Background(), r.Message)
			w.must(err)
			i := slices.IndexFunc(rows, func(x queue.Row) bool { return x.Number == r.Number })
			if i < 0 || rows[i].Fence <= r.Fence {
				w.t.Fatalf("step %d: fence of %+v is not above %d", w.n, rows, r.Fence)
			}
			r.Fence = rows[i].Fence
		}
	}
	for _, r := range c.Remove {
		delete(w.rows, rowKey{r.Message, r.Number})
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.rows)), func(k rowKey) bool { return k.id == r.Message }) {
			delete(w.messages, r.Message)
			w.removed[r.Message] = true
		}
	}
	for _, e := range c.Entries {
		w.journal = append(w.journal, string(e))
	}
	for _, in := range c.Insert {
		w.added(in, notices[in.ID])
		w.journal = append(w.journal, "accepted "+string(in.ID))
	}
}

// operate changes a row that is read, not claimed.
func (w *world) operate(s queue.Store) {
	w.t.Helper()
	for k := range w.rows {
		_, rows, err := s.Read(context.Background(), k.id)
		w.must(err)
		c, notices := w.change(rows[:1])
		w.commit(s, c, notices)
		return
	}
}

// stale uses a lease that was used already.
func (w *world) stale(s queue.Store) {
	w.t.Helper()
	for _, r := range w.rows {
		old := *r
		old.Fence += 1000
		old.State = queue.RowWaiting
		w.commit(s, &queue.Change{Update: []queue.Row{old}}, nil)
		return
	}
}

func (w *world) setCell(s queue.Store) {
	w.t.Helper()
	name, value := fmt.Sprintf("cell%d", w.rng.IntN(3)), fmt.Sprint(w.n)
	if w.rng.IntN(4) == 0 {
		w.must(s.SetCell(context.Background(), name, nil))
		delete(w.cells, name)
		return
	}
	w.must(s.SetCell(context.Background(), name, []byte(value)))
	w.cells[name] = value
}

// check compares all that the store holds with what it must hold. After a crash
// there are no leases and the fences are new.
func (w *world) check(s queue.Store, crashed bool) error {
	ctx := context.Background()
	if err := checkChain(s, len(w.journal)); err != nil {
		return err
	}
	var journal []string
	err := s.Scan(ctx, queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		journal = append(journal, string(it.Entry))
		return nil
	})
	if err != nil {
		return err
	}
	if !sameEntries(journal, w.journal) {
		return fmt.Errorf("journal has %d entries, want %d; last %q, want %q", len(journal), len(w.journal), tail(journal), tail(w.journal))
	}
	seen := 0
	err = s.Scan(ctx, queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		seen++
		r, want := it.Row, w.rows[rowKey{it.Row.Message, it.Row.Number}]
		if want == nil {
			return fmt.Errorf("row %s %d should be gone", r.Message, r.Number)
		}
		same := bytes.Equal(r.Data, want.Data) && r.Lane == want.Lane && r.Group == want.Group && bytes.Equal(r.Record, w.messages[r.Message].record)
		if !crashed {
			same = same && r.Fence == want.Fence && (r.State == want.State || want.State == queue.RowLeased && !want.Until.After(w.now))
		} else {
			same = same && r.State != queue.RowLeased
		}
		if want.State != queue.RowLeased {
			same = same && r.Due.Equal(want.Due) && r.State == want.State
		}
		if !same {
			return fmt.Errorf("row is %+v, want %+v", r, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if seen != len(w.rows) {
		return fmt.Errorf("%d rows, want %d", seen, len(w.rows))
	}
	return w.checkContents(s)
}

// checkChain has a store that can do so prove its journal: at least so many entries.
func checkChain(s queue.Store, least int) error {
	p, ok := s.(queue.Prover)
	if !ok {
		return nil
	}
	proof, err := p.Verify(context.Background(), queue.VerifyOptions{})
	if err == nil && (!proof.Fine() || proof.Entries < uint64(least) || proof.Head == nil) {
		err = fmt.Errorf("the chain of the journal: %d entries of %d, breaks %v", proof.Entries, least, proof.Breaks)
	}
	return err
}

func (w *world) checkContents(s queue.Store) error {
	for id, c := range w.messages {
		b, err := s.Body(context.Background(), id)
		if err != nil {
			return fmt.Errorf("body of %s: %w", id, err)
		}
		body, err := io.ReadAll(b)
		b.Close()
		if err != nil || !bytes.Equal(body, c.body) {
			return fmt.Errorf("body of %s is another, %v", id, err)
		}
	}
	for id := range w.removed {
		if _, err := s.Body(context.Background(), id); !errors.Is(err, queue.ErrNotFound) {
			return fmt.Errorf("body of %s: %v, want ErrNotFound", id, err)
		}
	}
	return w.checkCells(s)
}

// checkCells looks at the cells one by one and by a scan.
func (w *world) checkCells(s queue.Store) error {
	for name, want := range w.cells {
		if v, err := s.Cell(context.Background(), name); err != nil || string(v) != want {
			return fmt.Errorf("cell %s is %q, %v, want %q", name, v, err, want)
		}
	}
	scanned := make(map[string]string)
	err := s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanCells}, func(it queue.Item) error {
		scanned[it.Pos] = string(it.Entry)
		return nil
	})
	if err == nil && !maps.Equal(scanned, w.cells) {
		err = fmt.Errorf("cells %v, want %v", scanned, w.cells)
	}
	return err
}

func tail(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// sameEntries compares journals; the entries of one commit may be in any order, so
// each entry must be there as often and near its place.
func sameEntries(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	const near = 8
	for i, e := range want {
		if !slices.Contains(got[max(0, i-near):min(len(got), i+near+1)], e) {
			return false
		}
	}
	return true
}
