package pebblestore

import (
	"bytes"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// firstRow is a row of version 1: waiting, written twice, due at 5 ns, a body of 9
// octets, lane "ab", data "{}".
func firstRow() []byte { return []byte{1, 1, 2, 10, 9, 2, 'a', 'b', '{', '}'} }

// Rows that an earlier version wrote are read.
func TestRowOfVersion1(t *testing.T) {
	t.Parallel()
	r, err := decodeRow(firstRow())
	if err != nil || r.state != queue.RowWaiting || r.writes != 2 || r.due.UnixNano() != 5 || r.size != 9 || r.lane != "ab" ||
		r.group != "" || string(r.data) != "{}" {
		t.Errorf("%+v, %v", r, err)
	}
	for n := range 8 {
		if _, err := decodeRow(firstRow()[:n]); err == nil {
			t.Errorf("a row was read of which %d octets are left", n)
		}
	}
}

// FuzzRow: a stored row is read back as it was written, and nothing else is read.
func FuzzRow(f *testing.F) {
	f.Add((&storedRow{state: queue.RowWaiting, writes: 1, due: time.Unix(1_800_000_000, 5).UTC(), size: 4096, lane: "a.example", group: "g", data: []byte("{}")}).encode())
	f.Add((&storedRow{state: queue.RowHeld, writes: 300, due: time.Unix(0, 0).UTC()}).encode())
	f.Add(firstRow())
	f.Add([]byte{rowVersion, 1, 0x80})
	f.Add([]byte{rowVersion, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRow(b)
		if err != nil {
			return
		}
		again, err := decodeRow(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		if again.state != r.state || again.writes != r.writes || !again.due.Equal(r.due) || again.size != r.size ||
			again.lane != r.lane || again.group != r.group || !bytes.Equal(again.data, r.data) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

func TestPositions(t *testing.T) {
	t.Parallel()
	id := queue.NewID(time.Now())
	k, err := rowKeyAfter(rowPos(id, 12))
	if err != nil || !bytes.HasPrefix(k, numberKey(prefixRow, id, 12)) || bytes.Compare(k, numberKey(prefixRow, id, 13)) >= 0 {
		t.Errorf("key %q, %v", k, err)
	}
	for _, pos := range []string{"", "x", string(id), rowPos(id, 1) + "0", rowPos("01ARZ3NDEKTSV4RRFFQ69G5FAI", 1), journalPos(1)} {
		if _, err := rowKeyAfter(pos); err == nil {
			t.Errorf("%q is a position of a row", pos)
		}
	}
	for _, pos := range []string{"", "1", "-0000000000000000001", "00000000000000000001x"} {
		if _, err := parseJournalPos(pos); err == nil {
			t.Errorf("%q is a position in the journal", pos)
		}
	}
}
