package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
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
		{"claim is fair over groups", testClaimGroups},
		{"claim is fair over groups in a full lane", testClaimGroupsInLane},
		{"claim leaves places for other groups", testClaimShare},
		{"held rows are claimed at their due time only", testHeld},
		{"a lease that ran out", testLeaseRunsOut},
		{"stale fences", testStale},
		{"a change is atomic", testCommitAtomic},
		{"a change of entries alone, and one without any", testCommitAlone},
		{"removal takes record and body along", testRemove},
		{"a body that is being read stays", testRemoveWhileReading},
		{"a change inserts notices", testCommitInserts},
		{"scan rows", testScanRows},
		{"scan rows while they change", testScanFence},
		{"scan rows of some lanes", testScanLanes},
		{"scan journal", testScanJournal},
		{"cells", testCells},
		{"scan cells", testScanCells},
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
	return f.insertFor("", body, lanes...)
}

// insertFor inserts a message of a group.
func (f *fixture) insertFor(group, body string, lanes ...string) queue.ID {
	f.Helper()
	in := f.insertion(body, lanes...)
	for i := range in.Rows {
		in.Rows[i].Group = group
	}
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
