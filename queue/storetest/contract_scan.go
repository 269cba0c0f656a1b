package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/queue"
)

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

// testScanLanes checks that a scan that wants some lanes gives all their rows once, in order,
// leased and held ones too, whatever pages it is read by. Others may come as well.
func testScanLanes(f *fixture) {
	wanted := map[string]bool{}
	for i := range 700 {
		in := f.insertion("x", fmt.Sprintf("l%d.example", i%7), fmt.Sprintf("l%d.example", i%3))
		if i%5 == 0 {
			in.Rows[0].State, in.Rows[0].Due = queue.RowHeld, f.now.Add(time.Hour)
		}
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		for n, r := range in.Rows {
			if r.Lane == "l1.example" || r.Lane == "l5.example" {
				wanted[fmt.Sprint(in.ID, n)] = true
			}
		}
	}
	if rows, _ := f.claim(100, 0); len(rows) != 100 {
		f.Fatalf("%d rows leased", len(rows))
	}
	lanes := []string{"l5.example", "never.example", "l1.example"}
	for _, limit := range []int{0, 1, 7, 256, 1000} {
		got, last, pos := map[string]bool{}, "", ""
		for {
			page := f.scan(queue.ScanQuery{Kind: queue.ScanRows, Lanes: lanes, After: pos, Limit: limit})
			for _, it := range page {
				name := fmt.Sprint(it.Row.Message, it.Row.Number)
				if name <= last || string(it.Row.Record) != fmt.Sprintf("record %s 1", it.Row.Message) ||
					string(it.Row.Data) != fmt.Sprintf("row %s %d", it.Row.Message, it.Row.Number) {
					f.Fatalf("by %d, after %s: %+v", limit, last, it.Row)
				}
				if wanted[name] {
					got[name] = true
				}
				last, pos = name, it.Pos
			}
			if len(page) == 0 || limit == 0 {
				break
			}
		}
		if len(got) != len(wanted) {
			f.Errorf("by %d: %d rows of the lanes, want %d", limit, len(got), len(wanted))
		}
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
	for range 2 { // one that is not there can be removed too
		if err := f.s.SetCell(f.ctx, "a", nil); err != nil {
			f.Fatal(err)
		}
		if v := get("a"); v != nil {
			f.Errorf("a removed cell is %q", v)
		}
	}
}

func testScanCells(f *fixture) {
	set := func(name string, value []byte) {
		if err := f.s.SetCell(f.ctx, name, value); err != nil {
			f.Fatal(err)
		}
	}
	list := func(q queue.ScanQuery) (names []string) {
		q.Kind = queue.ScanCells
		for _, it := range f.scan(q) {
			if want := "value of " + it.Pos; string(it.Entry) != want && it.Pos != "empty" {
				f.Fatalf("cell %q is %q, want %q", it.Pos, it.Entry, want)
			}
			names = append(names, it.Pos)
		}
		return names
	}
	if got := list(queue.ScanQuery{}); got != nil {
		f.Fatalf("cells of an empty store: %q", got)
	}
	want := []string{"a", "a/", "a/\x00", "a/b", "a/\xff", "b", "empty"}
	for i := range 300 {
		want = append(want, fmt.Sprintf("many/%03d", i))
	}
	for i := len(want) - 1; i >= 0; i-- {
		set(want[i], []byte("value of "+want[i]))
	}
	set("empty", []byte{})
	f.insert("rows and entries are no cells", "a.example")
	if got := list(queue.ScanQuery{}); !slices.Equal(got, want) {
		f.Fatalf("cells %q, want %q", got, want)
	}
	var got []string
	for pos := ""; ; {
		page := list(queue.ScanQuery{After: pos, Limit: 7})
		if len(page) == 0 {
			break
		}
		got, pos = append(got, page...), page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		f.Errorf("pages give %d cells, want %d", len(got), len(want))
	}
	// Any name is a position, whether there is such a cell or not.
	if got := list(queue.ScanQuery{After: "a/", Limit: 2}); !slices.Equal(got, want[2:4]) {
		f.Errorf("behind a cell: %q", got)
	}
	if got := list(queue.ScanQuery{After: "a/c", Limit: 2}); !slices.Equal(got, want[4:6]) {
		f.Errorf("behind a name: %q", got)
	}
	set("a/b", nil)
	if got := list(queue.ScanQuery{After: "a/\x00", Limit: 1}); !slices.Equal(got, want[4:5]) {
		f.Errorf("in place of a removed cell: %q", got)
	}
	if got := list(queue.ScanQuery{After: "a/b", Limit: 1}); !slices.Equal(got, want[4:5]) {
		f.Errorf("behind a removed cell: %q", got)
	}
	large := bytes.Repeat([]byte("x"), 700<<10)
	for i := range 4 {
		set(fmt.Sprint("z", i), large)
	}
	n := 0
	for _, it := range f.scan(queue.ScanQuery{Kind: queue.ScanCells, After: "z"}) {
		if it.Pos == fmt.Sprint("z", n) && bytes.Equal(it.Entry, large) {
			n++
		}
	}
	if n != 4 {
		f.Errorf("%d large cells in order, want 4", n)
	}
	testStop(f, queue.ScanCells)
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
		// Oldest may be a little before: it is a figure for people.
		early := oldest.Time().Sub(st.Oldest[state])
		if st.Envelopes[state] != n || st.Bytes[state] != octets || early < 0 || early >= 10*time.Second {
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
