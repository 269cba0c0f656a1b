package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// The first octet of a key says what it is: see the package's table.
const (
	prefixLayout  = 'v'
	prefixMessage = 'm'
	prefixRow     = 'r'
	prefixBody    = 'b'
	prefixOrphan  = 'o'
	prefixJournal = 'j'
	prefixHour    = 't'
	prefixHead    = 'h'
	prefixState   = 's'
	prefixCell    = 'c'
)

const (
	layoutVersion = 2 // 1: before the journal's chain
	idSize        = 26
	chunkSize     = 256 << 10
	smallSize     = 16 << 10 // most messages are smaller
)

func named(prefix byte, name string) []byte {
	return append([]byte{prefix}, name...)
}

func idKey(prefix byte, id queue.ID) []byte {
	return append(append(make([]byte, 0, 1+idSize+4), prefix), id...)
}

func numberKey(prefix byte, id queue.ID, n int) []byte {
	return binary.BigEndian.AppendUint32(idKey(prefix, id), uint32(n))
}

func sequenceKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

// chunks is the number of chunks of a body.
func chunks(size int64) int { return int((size + chunkSize - 1) / chunkSize) }

// storedRow is a row as it is on disk.
type storedRow struct {
	state  queue.RowState
	writes int
	due    time.Time
	size   int64 // of the message's body
	lane   string
	group  string // "" in version 1
	data   []byte
}

const rowVersion = 2

func (r *storedRow) encode() []byte {
	b := make([]byte, 0, 40+len(r.lane)+len(r.group)+len(r.data))
	b = append(b, rowVersion, byte(r.state))
	b = binary.AppendUvarint(b, uint64(r.writes))
	var due int64
	if !r.due.IsZero() {
		due = r.due.UnixNano()
	}
	b = binary.AppendVarint(b, due)
	b = binary.AppendUvarint(b, uint64(r.size))
	b = binary.AppendUvarint(b, uint64(len(r.lane)))
	b = append(b, r.lane...)
	b = binary.AppendUvarint(b, uint64(len(r.group)))
	b = append(b, r.group...)
	return append(b, r.data...)
}

// decodeRow reads a row of this version or the one before. The data is a part of b.
func decodeRow(b []byte) (r storedRow, err error) {
	if len(b) < 2 || b[0] == 0 || b[0] > rowVersion {
		return r, errors.New("row of an unknown version")
	}
	version := b[0]
	r.state = queue.RowState(b[1])
	if r.state != queue.RowWaiting && r.state != queue.RowHeld {
		return r, fmt.Errorf("row with state %d", b[1])
	}
	f := fields{rest: b[2:]}
	r.writes = int(f.unsigned())
	r.due = time.Unix(0, f.signed()).UTC()
	r.size = int64(f.unsigned())
	r.lane = string(f.counted())
	if version > 1 {
		r.group = string(f.counted())
	}
	if f.short {
		return r, errors.New("row is cut short")
	}
	r.data = f.rest
	return r, nil
}

// fields reads one value after the other.
type fields struct {
	rest  []byte
	short bool // something was missing; all that follows is zero
}

func (f *fields) skip(n int) {
	if n <= 0 || n > len(f.rest) {
		f.rest, f.short = nil, true
		return
	}
	f.rest = f.rest[n:]
}

func (f *fields) unsigned() uint64 {
	v, n := binary.Uvarint(f.rest)
	f.skip(n)
	return v
}

func (f *fields) signed() int64 {
	v, n := binary.Varint(f.rest)
	f.skip(n)
	return v
}

// counted reads octets that their number stands before.
func (f *fields) counted() []byte {
	n := f.unsigned()
	if n > uint64(len(f.rest)) {
		f.rest, f.short = nil, true
		return nil
	}
	v := f.rest[:n]
	f.rest = f.rest[n:]
	return v
}

// parseNumberKey reads a key that numberKey made.
func parseNumberKey(key []byte) (queue.ID, int, error) {
	if len(key) != 1+idSize+4 {
		return "", 0, fmt.Errorf("key of %d octets", len(key))
	}
	return queue.ID(key[1 : 1+idSize]), int(binary.BigEndian.Uint32(key[1+idSize:])), nil
}

// rowPos is the position of a row in a scan.
func rowPos(id queue.ID, n int) string { return fmt.Sprintf("%s-%010d", id, n) }

// rowKeyAfter is the first key behind a position.
func rowKeyAfter(pos string) ([]byte, error) {
	if len(pos) == idSize+11 && pos[idSize] == '-' {
		id, err := queue.ParseID(pos[:idSize])
		n, err2 := strconv.ParseUint(pos[idSize+1:], 10, 31)
		if err == nil && err2 == nil {
			return append(numberKey(prefixRow, id, int(n)), 0), nil
		}
	}
	return nil, fmt.Errorf("pebblestore: %q is no position of a scan", pos)
}

// storedEntry is a journal entry as it is on disk.
type storedEntry struct {
	at      int64 // Unix nanoseconds
	chained bool
	link    queue.Hash // when chained
	octets  []byte     // a part of the value
}

const (
	entryVersion = 0xc1 // an entry without a chain begins with its time, and no time begins so
	entryHead    = 1 + 8 + len(queue.Hash{})
)

// putEntry writes an entry into a value of entryHead and its octets.
func putEntry(value []byte, e *storedEntry) {
	value[0] = entryVersion
	binary.BigEndian.PutUint64(value[1:], uint64(e.at))
	copy(value[9:], e.link[:])
	copy(value[entryHead:], e.octets)
}

// decodeEntry reads an entry of the chain or one from before it.
func decodeEntry(value []byte) (e storedEntry, err error) {
	switch {
	case len(value) >= entryHead && value[0] == entryVersion:
		e.chained, e.at = true, int64(binary.BigEndian.Uint64(value[1:]))
		copy(e.link[:], value[9:])
		e.octets = value[entryHead:]
	case len(value) >= 8 && value[0] < 0x80:
		e.at, e.octets = int64(binary.BigEndian.Uint64(value)), value[8:]
	default:
		return e, fmt.Errorf("journal entry of an unknown form, %d octets", len(value))
	}
	return e, nil
}

// journalPos is the position of a journal entry in a scan.
func journalPos(n uint64) string { return fmt.Sprintf("%020d", n) }

func parseJournalPos(pos string) (uint64, error) {
	n, err := strconv.ParseUint(pos, 10, 64)
	if err != nil || len(pos) != 20 {
		return 0, fmt.Errorf("pebblestore: %q is no position of a scan", pos)
	}
	return n, nil
}
