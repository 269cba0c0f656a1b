package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// groups counts rows by group.
func groups(rows []queue.Row) map[string]int {
	n := make(map[string]int)
	for _, r := range rows {
		n[r.Group]++
	}
	return n
}

// testClaimGroups: a group with many lanes has one turn, as one with a single lane.
func testClaimGroups(f *fixture) {
	for i := range 50 {
		f.insertFor("bulk", "x", fmt.Sprintf("%d.example", i%25))
	}
	one := f.insertFor("one", "x", "3.example")
	f.insertFor("two", "x", "z.example")
	rows, _ := f.claim(6, 0)
	if n := groups(rows); n["bulk"] != 4 || n["one"] != 1 || n["two"] != 1 {
		f.Errorf("6 rows are of %v: want 4 of bulk and the others'", n)
	}
	i := slices.IndexFunc(rows, func(r queue.Row) bool { return r.Message == one })
	if i < 0 || i > 2 {
		f.Fatalf("the one message of a group is at %d: want it among the first 3", i)
	}
	// The group stays when the row is written anew, whatever the writer says.
	again := rows[i]
	again.State, again.Group, again.Record = queue.RowWaiting, "", nil
	f.commit(&queue.Change{Update: []queue.Row{again}})
	if _, left, err := f.s.Read(f.ctx, one); err != nil || len(left) != 1 || left[0].Group != "one" {
		f.Errorf("after an update: %+v, %v", left, err)
	}
	// One by one: a new group waits for one turn of each other group at most.
	late := f.insertFor("late", "x", "5.example")
	var got []queue.Row
	for range 3 {
		r, _ := f.claim(1, 0)
		got = append(got, r...)
	}
	if !slices.ContainsFunc(got, func(r queue.Row) bool { return r.Message == late }) {
		f.Errorf("a new group was not served within 3 turns: %v", groups(got))
	}
}

// testClaimGroupsInLane: who waits for a place in a full lane gets it in turn.
func testClaimGroupsInLane(f *fixture) {
	for range 20 {
		f.insertFor("bulk", "x", "a.example")
	}
	rows, _ := f.claim(10, 2)
	if len(rows) != 2 {
		f.Fatalf("claimed %d rows, want 2", len(rows))
	}
	for _, g := range []string{"one", "two"} {
		f.insertFor(g, "x", "a.example")
	}
	if more, _ := f.claim(10, 2); len(more) != 0 {
		f.Fatalf("claimed %d rows of a full lane", len(more))
	}
	served := make(map[string]int)
	for range 3 {
		f.commit(&queue.Change{Remove: rows[:1]})
		more, _ := f.claim(10, 2)
		if len(more) != 1 {
			f.Fatalf("claimed %d rows after a lease ended, want 1", len(more))
		}
		served[more[0].Group]++
		rows = append(rows[1:], more...)
	}
	if served["one"] != 1 || served["two"] != 1 {
		f.Errorf("3 places went to %v", served)
	}
	// What was parked is found again when the limit is lifted, to the last row.
	f.commit(&queue.Change{Remove: rows})
	if rest, _ := f.claim(100, 0); len(rest) != 22-5 {
		f.Errorf("claimed %d rows, want all that are left: %d", len(rest), 22-5)
	}
}

// testClaimShare: one group does not take all places.
func testClaimShare(f *fixture) {
	for i := range 40 {
		f.insertFor("bulk", "x", fmt.Sprintf("%d.example", i))
	}
	claim := func(places int) []queue.Row {
		rows, next, err := f.s.Claim(f.ctx, queue.ClaimQuery{Now: f.now, Until: f.now.Add(time.Minute), Limit: places, Share: 3})
		if err != nil {
			f.Fatal(err)
		}
		if len(rows) < places && !next.After(f.now) {
			f.Errorf("next is %v, and nothing more can be claimed now", next)
		}
		return rows
	}
	places := 16
	rows := claim(places)
	if len(rows) != 12 {
		f.Fatalf("one group took %d of 16 places, want 12", len(rows))
	}
	places -= len(rows)
	if more := claim(places); len(more) != 0 {
		f.Fatalf("it took %d more", len(more))
	}
	for i := range 40 {
		f.insertFor("other", "x", fmt.Sprintf("%d.example", i))
	}
	more := claim(places)
	if n := groups(more); n["other"] != 3 || len(more) != 3 {
		f.Fatalf("of the 4 places that were left %v were taken, want 3 of other", n)
	}
	places -= len(more)
	f.insertFor("third", "x", "0.example")
	if more = claim(places); len(more) != 1 || more[0].Group != "third" {
		f.Fatalf("the last place went to %v", groups(more))
	}
	// Places that come free go to whom they are due.
	f.commit(&queue.Change{Remove: rows[:10]})
	if n := groups(claim(10)); n["other"] == 0 || n["bulk"] == 0 || n["other"] < n["bulk"] {
		f.Errorf("10 places went to %v", n)
	}
}
