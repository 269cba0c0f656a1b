package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Run checks that a store keeps the contract of queue.Store. open makes an empty one
// for each part; Run closes it.
func Run(t *testing.T, open func(t *testing.T) queue.Store) {
	for _, part := range []struct {
		name string
		test func(*fixture)
	}{
		{"insert and read", testInsert},
		{"insert is refused", testInsertRefused},
		{"insert is atomic when the body fails", testInsertAtomic},
		{"large bodies", testBodies},
		{"claim by due time", testClaimDue},
		{"claim is fair over lanes", testClaimFair},
		{"claim keeps to the limit per lane", testClaimPerLane},
		{"held rows are claimed at their due time only", testHeld},
		{"a lease that ran out", testLeaseRunsOut},
		{"stale fences", testStale},
		{"a change is atomic", testCommitAtomic},
		{"removal takes record and body along", testRemove},
		{"a body that is being read stays", testRemoveWhileReading},
		{"a change inserts notices", testCommitInserts},
		{"scan rows", testScanRows},
		{"scan journal", testScanJournal},
		{"cells", testCells},
		{"stats", testStats},
		{"one winner", testOneWinner},
		{"parallel use", testParallel},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			part.test(&fixture{T: t, s: s, ctx: context.Background(), now: time.Unix(1_800_000_000, 0).UTC()})
		})
	}
}

// fixture is a store under test with a few short words.
type fixture struct {
	*testing.T
	s   queue.Store
	ctx context.Context
	now time.Time
	n   int
}

// id makes the next ID; they are in order.
func (f *fixture) id() queue.ID {
	f.n++
	return queue.NewID(f.now.Add(time.Duration(f.n) * time.Second))
}

// insertion makes a message with one row per lane, due now.
func (f *fixture) insertion(body string, lanes ...string) *queue.Insertion {
	id := f.id()
	in := &queue.Insertion{
		ID: id, Body: strings.NewReader(body),
		Finish: func(size int64) ([]byte, []byte, error) {
			return fmt.Appendf(nil, "record %s %d", id, size), fmt.Appendf(nil, "accepted %s", id), nil
		},
	}
	for i, lane := range lanes {
		in.Rows = append(in.Rows, queue.Row{
			Message: id, Number: i, Lane: lane, Due: f.now, State: queue.RowWaiting, Data: fmt.Appendf(nil, "row %s %d", id, i),
		})
	}
	return in
}

func (f *fixture) insert(body string, lanes ...string) queue.ID {
	f.Helper()
	in := f.insertion(body, lanes...)
	if err := f.s.Insert(f.ctx, in); err != nil {
		f.Fatalf("Insert: %v", err)
	}
	return in.ID
}

// claim leases up to n rows for a minute, at f.now.
func (f *fixture) claim(n, perLane int) ([]queue.Row, time.Time) {
	f.Helper()
	rows, next, err := f.s.Claim(f.ctx, queue.ClaimQuery{Now: f.now, Until: f.now.Add(time.Minute), Limit: n, PerLane: perLane})
	if err != nil {
		f.Fatalf("Claim: %v", err)
	}
	return rows, next
}

func (f *fixture) commit(c *queue.Change) {
	f.Helper()
	if err := f.s.Commit(f.ctx, c); err != nil {
		f.Fatalf("Commit: %v", err)
	}
}

func (f *fixture) body(id queue.ID) string {
	f.Helper()
	b, err := f.s.Body(f.ctx, id)
	if err != nil {
		f.Fatalf("Body: %v", err)
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		f.Fatalf("reading a body: %v", err)
	}
	if b.Size() != int64(len(all)) {
		f.Errorf("Size is %d, the body has %d octets", b.Size(), len(all))
	}
	return string(all)
}

// gone checks that nothing of a message is left.
func (f *fixture) gone(id queue.ID) {
	f.Helper()
	if _, _, err := f.s.Read(f.ctx, id); !errors.Is(err, queue.ErrNotFound) {
		f.Errorf("Read: %v, want ErrNotFound", err)
	}
	if _, err := f.s.Body(f.ctx, id); !errors.Is(err, queue.ErrNotFound) {
		f.Errorf("Body: %v, want ErrNotFound", err)
	}
	for _, it := range f.scan(queue.ScanQuery{Kind: queue.ScanRows}) {
		if it.Row.Message == id {
			f.Errorf("a row of %s is left", id)
		}
	}
}

func (f *fixture) scan(q queue.ScanQuery) []queue.Item {
	f.Helper()
	var items []queue.Item
	if err := f.s.Scan(f.ctx, q, func(it queue.Item) error { items = append(items, it); return nil }); err != nil {
		f.Fatalf("Scan: %v", err)
	}
	return items
}

func (f *fixture) entries() []string {
	f.Helper()
	var all []string
	for _, it := range f.scan(queue.ScanQuery{Kind: queue.ScanJournal}) {
		all = append(all, string(it.Entry))
	}
	return all
}

func testInsert(f *fixture) {
	in := f.insertion("Subject: x\r\n\r\nhello\r\n", "a.example", "b.example")
	in.Rows[1].State, in.Rows[1].Due = queue.RowHeld, f.now.Add(time.Hour)
	if err := f.s.Insert(f.ctx, in); err != nil {
		f.Fatal(err)
	}
	record, rows, err := f.s.Read(f.ctx, in.ID)
	if err != nil {
		f.Fatal(err)
	}
	if want := fmt.Sprintf("record %s 21", in.ID); string(record) != want {
		f.Errorf("record %q, want %q", record, want)
	}
	if len(rows) != 2 {
		f.Fatalf("%d rows, want 2", len(rows))
	}
	for i, r := range rows {
		want := in.Rows[i]
		if r.Message != in.ID || r.Number != i || r.Lane != want.Lane || !r.Due.Equal(want.Due) ||
			r.State != want.State || !bytes.Equal(r.Data, want.Data) {
			f.Errorf("row %d is %+v, want %+v", i, r, want)
		}
	}
	if got := f.body(in.ID); got != "Subject: x\r\n\r\nhello\r\n" {
		f.Errorf("body %q", got)
	}
	if got := f.entries(); !slices.Equal(got, []string{"accepted " + string(in.ID)}) {
		f.Errorf("journal %q", got)
	}
	f.gone(f.id())
}

func testInsertRefused(f *fixture) {
	id := f.insert("x", "a.example")
	for name, spoil := range map[string]func(*queue.Insertion){
		"an ID that is taken": func(in *queue.Insertion) { in.ID, in.Rows[0].Message = id, id },
		"no ID":               func(in *queue.Insertion) { in.ID = "x" },
		"no rows":             func(in *queue.Insertion) { in.Rows = nil },
		"a row twice":         func(in *queue.Insertion) { in.Rows = append(in.Rows, in.Rows[0]) },
		"another's row":       func(in *queue.Insertion) { in.Rows[0].Message = id },
		"a leased row":        func(in *queue.Insertion) { in.Rows[0].State = queue.RowLeased },
	} {
		in := f.insertion("y", "a.example")
		spoil(in)
		if err := f.s.Insert(f.ctx, in); err == nil {
			f.Errorf("%s was inserted", name)
		}
		if err := f.s.Commit(f.ctx, &queue.Change{Insert: []*queue.Insertion{in}}); err == nil {
			f.Errorf("%s was inserted by Commit", name)
		}
	}
	if got := f.body(id); got != "x" {
		f.Errorf("the message became %q", got)
	}
	if n := len(f.entries()); n != 1 {
		f.Errorf("%d journal entries, want 1", n)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	in := f.insertion("y", "a.example")
	if err := f.s.Insert(ctx, in); !errors.Is(err, context.Canceled) {
		f.Errorf("Insert with ctx done: %v", err)
	}
	f.gone(in.ID)
}

func testInsertAtomic(f *fixture) {
	broken := errors.New("the client went away")
	for _, size := range []int{0, 10, 300 << 10, 1 << 20} {
		in := f.insertion("", "a.example")
		in.Body = io.MultiReader(strings.NewReader(strings.Repeat("x", size)), iotest.ErrReader(broken))
		if err := f.s.Insert(f.ctx, in); err != broken {
			f.Errorf("body of %d octets: error %v, want the reader's own", size, err)
		}
		f.gone(in.ID)
		// The ID is free again, and nothing is left of the first body.
		again := f.insertion("", "a.example")
		again.ID, again.Rows[0].Message = in.ID, in.ID
		again.Body = strings.NewReader("second")
		if err := f.s.Insert(f.ctx, again); err != nil {
			f.Errorf("second attempt: %v", err)
		} else if got := f.body(in.ID); got != "second" {
			f.Errorf("body %q, want the second one's", got)
		}
	}
	in := f.insertion("x", "a.example")
	in.Body = io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := f.s.Insert(f.ctx, in); err != io.ErrUnexpectedEOF {
		f.Errorf("io.ErrUnexpectedEOF of the reader: error %v", err)
	}
	in = f.insertion("x", "a.example")
	in.Finish = func(int64) ([]byte, []byte, error) { return nil, nil, broken }
	if err := f.s.Insert(f.ctx, in); err != broken {
		f.Errorf("Finish failed: error %v", err)
	}
	f.gone(in.ID)
	if n := len(f.entries()); n != 4 {
		f.Errorf("%d journal entries, want 4", n)
	}
	if rows, _ := f.claim(10, 0); len(rows) != 4 {
		f.Errorf("%d rows to claim, want 4", len(rows))
	}
}

func testBodies(f *fixture) {
	pattern := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 1+(3<<20)/38)
	for _, size := range []int{0, 1, 4 << 10, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512 << 10, 3 << 20} {
		in := f.insertion("", "a.example")
		// Readers that give little, and EOF together with data.
		in.Body = iotest.DataErrReader(iotest.HalfReader(strings.NewReader(pattern[:size])))
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		if f.body(in.ID) != pattern[:size] {
			f.Errorf("a body of %d octets came back another", size)
		}
		rows, _ := f.claim(1, 0)
		if want := fmt.Sprintf("record %s %d", in.ID, size); len(rows) != 1 || string(rows[0].Record) != want {
			f.Fatalf("claimed %v, want the record %q", rows, want)
		}
		f.commit(&queue.Change{Remove: rows})
		f.gone(in.ID)
	}
}

func testClaimDue(f *fixture) {
	var ids []queue.ID
	for i := range 3 {
		in := f.insertion("x", "a.example")
		in.Rows[0].Due = f.now.Add(time.Duration(2-i) * time.Hour)
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		ids = append(ids, in.ID)
	}
	start := f.now
	f.now = start.Add(-time.Second)
	if rows, next := f.claim(10, 0); len(rows) != 0 || !next.Equal(start) {
		f.Fatalf("claimed %d rows before their time, next %v, want %v", len(rows), next, start)
	}
	f.now = start.Add(time.Hour)
	rows, next := f.claim(1, 0)
	if len(rows) != 1 || rows[0].Message != ids[2] || rows[0].State != queue.RowLeased || rows[0].Fence == 0 ||
		!rows[0].Until.Equal(f.now.Add(time.Minute)) || next.After(f.now) || next.IsZero() {
		f.Fatalf("claimed %+v, next %v", rows, next)
	}
	if string(rows[0].Data) != fmt.Sprintf("row %s 0", ids[2]) || string(rows[0].Record) != fmt.Sprintf("record %s 1", ids[2]) {
		f.Errorf("data %q, record %q", rows[0].Data, rows[0].Record)
	}
	rows, next = f.claim(10, 0)
	if len(rows) != 1 || rows[0].Message != ids[1] {
		f.Fatalf("claimed %+v", rows)
	}
	if !next.Equal(f.now.Add(time.Minute)) {
		f.Errorf("next %v, want the end of the leases", next)
	}
}

func testClaimFair(f *fixture) {
	for range 100 {
		f.insert("bulk", "bulk.example")
	}
	b, c := f.insert("x", "b.example"), f.insert("x", "c.example")
	rows, _ := f.claim(6, 0)
	at := func(id queue.ID) int {
		return slices.IndexFunc(rows, func(r queue.Row) bool { return r.Message == id })
	}
	if len(rows) != 6 || at(b) < 0 || at(b) > 2 || at(c) < 0 || at(c) > 2 {
		f.Errorf("of 6 rows the small lanes' are at %d and %d: want both among the first 3", at(b), at(c))
	}
	// One by one: a new lane waits for one turn of each other lane at most.
	f.claim(1, 0)
	d := f.insert("x", "d.example")
	var got []queue.Row
	for range 2 {
		one, _ := f.claim(1, 0)
		got = append(got, one...)
	}
	if !slices.ContainsFunc(got, func(r queue.Row) bool { return r.Message == d }) {
		f.Error("a new lane was not served within 2 turns")
	}
}

func testClaimPerLane(f *fixture) {
	for range 5 {
		f.insert("x", "a.example")
	}
	f.insert("x", "b.example")
	rows, next := f.claim(10, 2)
	if len(rows) != 3 {
		f.Fatalf("claimed %d rows, want 2 of one lane and 1 of the other", len(rows))
	}
	if !next.Equal(f.now.Add(time.Minute)) {
		f.Errorf("next %v, want the end of the leases: the lane is full", next)
	}
	if more, _ := f.claim(10, 2); len(more) != 0 {
		f.Fatalf("claimed %d rows of a full lane", len(more))
	}
	i := slices.IndexFunc(rows, func(r queue.Row) bool { return r.Lane == "a.example" })
	f.commit(&queue.Change{Remove: rows[i : i+1]})
	if more, _ := f.claim(10, 2); len(more) != 1 || more[0].Lane != "a.example" {
		f.Fatalf("claimed %v after a lease ended, want one", more)
	}
	if more, _ := f.claim(10, 3); len(more) != 1 {
		f.Errorf("claimed %d rows with room for one more", len(more))
	}
}

func testHeld(f *fixture) {
	in := f.insertion("x", "a.example")
	in.Rows[0].State, in.Rows[0].Due = queue.RowHeld, f.now.Add(time.Hour)
	if err := f.s.Insert(f.ctx, in); err != nil {
		f.Fatal(err)
	}
	if rows, next := f.claim(1, 0); len(rows) != 0 || !next.Equal(f.now.Add(time.Hour)) {
		f.Fatalf("claimed %v, next %v", rows, next)
	}
	f.now = f.now.Add(time.Hour)
	rows, _ := f.claim(1, 0)
	if len(rows) != 1 {
		f.Fatal("not claimed at its due time")
	}
	f.now = f.now.Add(2 * time.Minute) // the lease runs out
	f.claim(0, 0)
	_, left, err := f.s.Read(f.ctx, in.ID)
	if err != nil || left[0].State != queue.RowHeld {
		f.Errorf("after its lease ran out: %v, %v, want held", left, err)
	}
}

func testLeaseRunsOut(f *fixture) {
	id := f.insert("x", "a.example")
	first, _ := f.claim(1, 0)
	f.now = f.now.Add(time.Minute - 1)
	if rows, _ := f.claim(1, 0); len(rows) != 0 {
		f.Fatal("claimed under another's lease")
	}
	f.now = f.now.Add(1)
	second, _ := f.claim(1, 1)
	if len(second) != 1 || second[0].Message != id || second[0].Fence <= first[0].Fence {
		f.Fatalf("claimed %+v after %+v ran out: want a higher fence", second, first)
	}
	if err := f.s.Commit(f.ctx, &queue.Change{Remove: first}); !errors.Is(err, queue.ErrStale) {
		f.Errorf("commit under the old lease: %v, want ErrStale", err)
	}
	f.commit(&queue.Change{Remove: second})
	f.gone(id)
}

func testStale(f *fixture) {
	id := f.insert("x", "a.example")
	read := func() queue.Row {
		_, rows, err := f.s.Read(f.ctx, id)
		if err != nil {
			f.Fatal(err)
		}
		return rows[0]
	}
	early := read()
	leased, _ := f.claim(1, 0)
	stale := func(name string, r queue.Row) {
		f.Helper()
		r.State = queue.RowWaiting
		for kind, c := range map[string]*queue.Change{
			"update": {Update: []queue.Row{r}, Entries: [][]byte{[]byte("no")}},
			"remove": {Remove: []queue.Row{r}, Entries: [][]byte{[]byte("no")}},
		} {
			if err := f.s.Commit(f.ctx, c); !errors.Is(err, queue.ErrStale) {
				f.Errorf("%s, %s: %v, want ErrStale", name, kind, err)
			}
		}
	}
	stale("read before it was leased", early)
	up := leased[0]
	up.State, up.Due, up.Data = queue.RowWaiting, f.now, []byte("second")
	f.commit(&queue.Change{Update: []queue.Row{up}})
	stale("the lease has ended", leased[0])
	now := read()
	if now.State != queue.RowWaiting || string(now.Data) != "second" || now.Fence <= up.Fence {
		f.Errorf("row is %+v after the update", now)
	}
	again, _ := f.claim(1, 0)
	if len(again) != 1 || string(again[0].Data) != "second" {
		f.Fatalf("claimed %+v", again)
	}
	f.commit(&queue.Change{Remove: again})
	stale("the row is gone", again[0])
	stale("never there", queue.Row{Message: f.id(), Lane: "a.example"})
	if n := len(f.entries()); n != 1 {
		f.Errorf("%d journal entries, want 1: stale changes write nothing", n)
	}
}

func testCommitAtomic(f *fixture) {
	a, b := f.insert("x", "a.example"), f.insert("x", "b.example")
	rows, _ := f.claim(2, 0)
	bad := rows[1]
	bad.Fence++
	notice := f.insertion("notice", "c.example")
	err := f.s.Commit(f.ctx, &queue.Change{
		Remove: []queue.Row{rows[0], bad}, Insert: []*queue.Insertion{notice}, Entries: [][]byte{[]byte("no")},
	})
	if !errors.Is(err, queue.ErrStale) {
		f.Fatalf("error %v, want ErrStale", err)
	}
	f.gone(notice.ID)
	broken := errors.New("no body")
	other := f.insertion("", "c.example")
	other.Body = iotest.ErrReader(broken)
	if err := f.s.Commit(f.ctx, &queue.Change{Remove: rows, Insert: []*queue.Insertion{other}}); err != broken {
		f.Fatalf("error %v, want the reader's own", err)
	}
	twice := &queue.Change{Remove: []queue.Row{rows[0], rows[0]}}
	if err := f.s.Commit(f.ctx, twice); err == nil {
		f.Error("a row was removed twice in one change")
	}
	for _, id := range []queue.ID{a, b} {
		if _, left, err := f.s.Read(f.ctx, id); err != nil || left[0].State != queue.RowLeased {
			f.Errorf("message %s: %v, %v, want it leased as before", id, left, err)
		}
	}
	if n := len(f.entries()); n != 2 {
		f.Errorf("%d journal entries, want 2", n)
	}
	// The leases still stand.
	f.commit(&queue.Change{Remove: rows})
}

func testRemove(f *fixture) {
	id := f.insert(strings.Repeat("x", 600<<10), "a.example", "b.example", "c.example")
	rows, _ := f.claim(3, 0)
	f.commit(&queue.Change{Remove: rows[:1], Entries: [][]byte{[]byte("one")}})
	if _, left, err := f.s.Read(f.ctx, id); err != nil || len(left) != 2 {
		f.Fatalf("%d rows are left, %v", len(left), err)
	}
	if len(f.body(id)) != 600<<10 {
		f.Error("the body went with the first row")
	}
	f.commit(&queue.Change{Remove: rows[1:], Entries: [][]byte{[]byte("two"), []byte("three")}})
	f.gone(id)
	if got := f.entries(); !slices.Equal(got[1:], []string{"one", "two", "three"}) {
		f.Errorf("journal %q", got)
	}
}

func testRemoveWhileReading(f *fixture) {
	text := strings.Repeat("0123456789", 100<<10)
	id := f.insert(text, "a.example")
	b, err := f.s.Body(f.ctx, id)
	if err != nil {
		f.Fatal(err)
	}
	var head [10]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		f.Fatal(err)
	}
	rows, _ := f.claim(1, 0)
	f.commit(&queue.Change{Remove: rows})
	f.gone(id)
	rest, err := io.ReadAll(b)
	if err != nil || string(head[:])+string(rest) != text {
		f.Errorf("%d octets after the removal, %v", len(rest), err)
	}
	if err := b.Close(); err != nil {
		f.Error(err)
	}
	f.gone(id)
}

func testCommitInserts(f *fixture) {
	f.insert("x", "a.example")
	rows, _ := f.claim(1, 0)
	n1, n2 := f.insertion(strings.Repeat("notice ", 100), "c.example"), f.insertion("other", "d.example", "e.example")
	f.commit(&queue.Change{Remove: rows, Insert: []*queue.Insertion{n1, n2}, Entries: [][]byte{[]byte("bounced")}})
	if got := f.body(n1.ID); got != strings.Repeat("notice ", 100) {
		f.Errorf("the notice's body is %q", got)
	}
	got := f.entries()
	for _, want := range []string{"bounced", "accepted " + string(n1.ID), "accepted " + string(n2.ID)} {
		if !slices.Contains(got, want) {
			f.Errorf("the journal lacks %q", want)
		}
	}
	if due, _ := f.claim(10, 0); len(due) != 3 {
		f.Errorf("%d rows of the notices are due, want 3", len(due))
	}
}

func testScanRows(f *fixture) {
	var want []string
	for i := range 300 {
		in := f.insertion("x", "a.example", "b.example")
		if i%2 == 0 {
			in.Rows[0], in.Rows[1] = in.Rows[1], in.Rows[0]
		}
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		want = append(want, fmt.Sprint(in.ID, 0), fmt.Sprint(in.ID, 1))
	}
	names := func(items []queue.Item) (list []string) {
		for _, it := range items {
			list = append(list, fmt.Sprint(it.Row.Message, it.Row.Number))
			if string(it.Row.Record) != fmt.Sprintf("record %s 1", it.Row.Message) ||
				string(it.Row.Data) != fmt.Sprintf("row %s %d", it.Row.Message, it.Row.Number) {
				f.Fatalf("scanned %+v", it.Row)
			}
		}
		return list
	}
	if !slices.Equal(names(f.scan(queue.ScanQuery{Kind: queue.ScanRows})), want) {
		f.Fatal("rows are not scanned by ID and number")
	}
	var got []string
	for pos := ""; ; {
		page := f.scan(queue.ScanQuery{Kind: queue.ScanRows, After: pos, Limit: 7})
		if len(page) == 0 {
			break
		}
		got, pos = append(got, names(page)...), page[len(page)-1].Pos
	}
	if !slices.Equal(got, want) {
		f.Errorf("pages give %d rows, want %d", len(got), len(want))
	}
	rows, _ := f.claim(1, 0)
	all := f.scan(queue.ScanQuery{Kind: queue.ScanRows})
	i := slices.IndexFunc(all, func(it queue.Item) bool {
		return it.Row.Message == rows[0].Message && it.Row.Number == rows[0].Number
	})
	if r := all[i].Row; r.State != queue.RowLeased || r.Fence != rows[0].Fence || !r.Until.Equal(rows[0].Until) {
		f.Errorf("a leased row is scanned as %+v", r)
	}
	// A position stays valid when its row is gone.
	f.commit(&queue.Change{Remove: rows})
	if page := f.scan(queue.ScanQuery{Kind: queue.ScanRows, After: all[i].Pos}); len(page) != len(all)-i-1 {
		f.Errorf("%d rows behind the removed one, want %d", len(page), len(all)-i-1)
	}
	testStop(f, queue.ScanRows)
}

// testStop checks how a scan ends.
func testStop(f *fixture, kind queue.ItemKind) {
	n, broken := 0, errors.New("broken")
	count := func(err error) func(queue.Item) error {
		n = 0
		return func(queue.Item) error {
			if n++; n == 3 {
				return err
			}
			return nil
		}
	}
	if err := f.s.Scan(f.ctx, queue.ScanQuery{Kind: kind}, count(queue.ErrStop)); err != nil || n != 3 {
		f.Errorf("ErrStop: %v after %d items", err, n)
	}
	if err := f.s.Scan(f.ctx, queue.ScanQuery{Kind: kind}, count(broken)); err != broken || n != 3 {
		f.Errorf("an error of fn: %v after %d items", err, n)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	if err := f.s.Scan(ctx, queue.ScanQuery{Kind: kind}, count(nil)); !errors.Is(err, context.Canceled) {
		f.Errorf("ctx done: %v", err)
	}
	if err := f.s.Scan(f.ctx, queue.ScanQuery{Kind: 99}, count(nil)); err == nil {
		f.Error("an unknown kind was scanned")
	}
}

func testScanJournal(f *fixture) {
	var want []string
	for i := range 300 {
		e := fmt.Sprintf("entry %d", i)
		want = append(want, e)
		f.commit(&queue.Change{Entries: [][]byte{[]byte(e)}})
	}
	if !slices.Equal(f.entries(), want) {
		f.Fatal("entries are not in the order of their commits")
	}
	var got []string
	pos := ""
	for {
		page := f.scan(queue.ScanQuery{Kind: queue.ScanJournal, After: pos, Limit: 7})
		for _, it := range page {
			if it.Pos <= pos {
				f.Fatalf("position %q after %q", it.Pos, pos)
			}
			got, pos = append(got, string(it.Entry)), it.Pos
		}
		if len(page) == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		f.Errorf("pages give %d entries, want %d", len(got), len(want))
	}
	f.commit(&queue.Change{Entries: [][]byte{[]byte("late")}})
	if page := f.scan(queue.ScanQuery{Kind: queue.ScanJournal, After: pos}); len(page) != 1 || string(page[0].Entry) != "late" {
		f.Errorf("behind the end: %v", page)
	}
	testStop(f, queue.ScanJournal)
}

func testCells(f *fixture) {
	get := func(name string) []byte {
		v, err := f.s.Cell(f.ctx, name)
		if err != nil {
			f.Fatal(err)
		}
		return v
	}
	if v := get("a"); v != nil {
		f.Errorf("a cell that was never set is %q", v)
	}
	for _, v := range []string{"one", "two", ""} {
		if err := f.s.SetCell(f.ctx, "a", []byte(v)); err != nil {
			f.Fatal(err)
		}
		if got := get("a"); string(got) != v || got == nil {
			f.Errorf("cell is %q, want %q", got, v)
		}
	}
	if v := get("ab"); v != nil {
		f.Errorf("another cell is %q", v)
	}
}

func testStats(f *fixture) {
	c, ok := f.s.(queue.Counter)
	if !ok {
		f.Skip("the store does not count")
	}
	first := f.insert("12345", "a.example", "b.example")
	second := f.insertion("1234567", "c.example")
	second.Rows[0].State, second.Rows[0].Due = queue.RowHeld, f.now.Add(time.Hour)
	if err := f.s.Insert(f.ctx, second); err != nil {
		f.Fatal(err)
	}
	rows, _ := f.claim(1, 0)
	want := func(state string, n int, octets int64, oldest queue.ID) {
		f.Helper()
		st := c.Stats()
		if st.Envelopes[state] != n || st.Bytes[state] != octets || !st.Oldest[state].Equal(oldest.Time()) {
			f.Errorf("%s: %d envelopes, %d octets, oldest %v; want %d, %d, %v", state,
				st.Envelopes[state], st.Bytes[state], st.Oldest[state], n, octets, oldest.Time())
		}
	}
	want("waiting", 1, 5, first)
	want("leased", 1, 5, first)
	want("held", 1, 7, second.ID)
	f.commit(&queue.Change{Remove: rows})
	rows, _ = f.claim(1, 0)
	f.commit(&queue.Change{Remove: rows})
	want("waiting", 0, 0, "")
	want("leased", 0, 0, "")
	want("held", 1, 7, second.ID)
}

// testOneWinner: of many who commit under one fence, one does.
func testOneWinner(f *fixture) {
	id := f.insert("x", "a.example")
	for range 20 {
		rows, _ := f.claim(1, 0)
		up := rows[0]
		up.State = queue.RowWaiting
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				errs[i] = f.s.Commit(f.ctx, &queue.Change{Update: []queue.Row{up}, Entries: [][]byte{[]byte("won")}})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, queue.ErrStale) {
				f.Error(err)
			}
		}
		if won != 1 {
			f.Fatalf("%d of 8 won", won)
		}
	}
	if n := len(f.entries()); n != 21 {
		f.Errorf("%d journal entries, want 21", n)
	}
	if got := f.body(id); got != "x" {
		f.Errorf("body %q", got)
	}
}

// testParallel inserts, claims and removes from many goroutines at once: every row
// is claimed exactly once, and in the end nothing is left but the journal.
func testParallel(f *fixture) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	claimed := make(map[string]int)
	ids := make([][]*queue.Insertion, writers)
	for w := range ids {
		for range each {
			ids[w] = append(ids[w], f.insertion(strings.Repeat("x", 1000), "a.example", fmt.Sprintf("%d.example", w)))
		}
	}
	for w := range writers {
		wg.Go(func() {
			for _, in := range ids[w] {
				if err := f.s.Insert(f.ctx, in); err != nil {
					f.Error(err)
				}
			}
		})
		wg.Go(func() {
			for {
				mu.Lock()
				done := len(claimed) == writers*each*2
				mu.Unlock()
				if done || f.Failed() {
					return
				}
				rows, _, err := f.s.Claim(f.ctx, queue.ClaimQuery{Now: f.now, Until: f.now.Add(time.Minute), Limit: 3})
				if err != nil {
					f.Error(err)
				}
				mu.Lock()
				for _, r := range rows {
					claimed[fmt.Sprint(r.Message, r.Number)]++
				}
				mu.Unlock()
				for _, r := range rows {
					c := &queue.Change{Remove: []queue.Row{r}, Entries: [][]byte{fmt.Appendf(nil, "removed %s %d", r.Message, r.Number)}}
					if err := f.s.Commit(f.ctx, c); err != nil {
						f.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for name, n := range claimed {
		if n != 1 {
			f.Errorf("%s was claimed %d times", name, n)
		}
	}
	if left := f.scan(queue.ScanQuery{Kind: queue.ScanRows}); len(left) != 0 {
		f.Errorf("%d rows are left", len(left))
	}
	if n := len(f.entries()); n != writers*each*3 {
		f.Errorf("%d journal entries, want %d", n, writers*each*3)
	}
}
