package storetest

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

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

// testCommitAlone: an operator's entry comes without rows, and what is only put aside or freed
// again, rows of many messages, without an entry.
func testCommitAlone(f *fixture) {
	a, b := f.insert("x", "a.example"), f.insert("x", "b.example", "c.example")
	f.commit(&queue.Change{Entries: [][]byte{[]byte("operator 1"), []byte("operator 2")}})
	rows, _ := f.claim(10, 0)
	for i := range rows {
		rows[i].State, rows[i].Due, rows[i].Data = queue.RowWaiting, f.now.Add(time.Hour), []byte("later")
	}
	f.commit(&queue.Change{Update: rows})
	if got := f.entries(); len(got) != 4 || got[2] != "operator 1" || got[3] != "operator 2" {
		f.Errorf("the journal has %q", got)
	}
	for id, n := range map[queue.ID]int{a: 1, b: 2} {
		_, rows, err := f.s.Read(f.ctx, id)
		if err != nil || len(rows) != n {
			f.Fatalf("message %s: %d rows, %v", id, len(rows), err)
		}
		for _, r := range rows {
			if r.State != queue.RowWaiting || string(r.Data) != "later" || !r.Due.Equal(f.now.Add(time.Hour)) {
				f.Errorf("row %+v", r)
			}
		}
	}
	f.commit(&queue.Change{})
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
