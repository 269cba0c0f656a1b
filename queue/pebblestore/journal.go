package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// journal gives entries their numbers and their links, and lets them go by age and size.
type journal struct {
	retention time.Duration
	limit     int64         // octets that are kept; 0: no limit
	next      uint64        // next number; under Store.order
	link      queue.Hash    // of the last entry; under Store.order
	hours     []hour        // oldest first; under Store.order
	total     int64         // octets in all of them; under Store.order
	low       atomic.Uint64 // lowest number that is kept
	upTo      atomic.Uint64 // all numbers below are synced
	headDue   atomic.Uint64 // number from which on a head is due
	bulky     atomic.Bool   // total is above limit
}

// hour says which entry was the first one in an hour, or in a part of it, so that
// retention and questions about a time need not look at entries.
type hour struct {
	start int64 // Unix seconds
	first uint64
	bytes int64 // keys and values; on disk once the next one has begun
}

// blockOctets bounds what one hour holds; a busy one is several.
const blockOctets = 64 << 20

// block is the size at which the next block begins: the journal is no more than
// a sixteenth above its limit.
func (j *journal) block() int64 {
	if j.limit <= 0 {
		return blockOctets
	}
	return max(min(blockOctets, j.limit/16), 4<<10)
}

// stateLow names the number below which no entry is kept. Numbers are never used
// twice, also when no entry is left, because readers' cursors hold them.
const stateLow = "journal-low"

// parseSequence reads a key that sequenceKey made.
func parseSequence(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, fmt.Errorf("pebblestore: key of %d octets", len(key))
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// loadLow returns the store's own mark of the oldest entry.
func loadLow(db *pebble.DB) (uint64, error) {
	v, closer, err := db.Get(named(prefixState, stateLow))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var low uint64
	if len(v) == 8 {
		low = binary.BigEndian.Uint64(v)
	}
	return low, closer.Close()
}

// load finds out where the journal stands: it goes on behind the last entry, or behind the
// last head, when that knows of more.
func (j *journal) load(db *pebble.DB, head *queue.Head) (err error) {
	low, err := loadLow(db)
	if err != nil {
		return err
	}
	j.low.Store(low)
	j.next = max(low, 1)
	last, err := db.NewIter(&pebble.IterOptions{LowerBound: sequenceKey(prefixJournal, low), UpperBound: []byte{prefixJournal + 1}})
	if err != nil {
		return err
	}
	defer last.Close()
	if last.Last() {
		n, err := parseSequence(last.Key())
		if err != nil {
			return err
		}
		j.next = max(j.next, n+1)
		if e, err := decodeEntry(last.Value()); err == nil {
			j.link = e.link
		}
	}
	if err := last.Error(); err != nil {
		return err
	}
	if head != nil && head.Number+1 >= j.next {
		j.next, j.link = head.Number+1, head.Hash
	}
	j.upTo.Store(j.next)
	return j.loadHours(db)
}

// loadHours reads the table of hours. The last one was not counted yet; older ones were
// not counted either before the chain, and are estimated.
func (j *journal) loadHours(db *pebble.DB) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixHour}, UpperBound: []byte{prefixHour + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	counted := true
	for it.First(); it.Valid(); it.Next() {
		if n := len(j.hours); n > 0 && !counted {
			if err := j.estimate(db, &j.hours[n-1], binary.BigEndian.Uint64(it.Value())); err != nil {
				return err
			}
		}
		if len(it.Key()) != 9 || len(it.Value()) != 8 && len(it.Value()) != 16 {
			return fmt.Errorf("journal: hour of %d and %d octets", len(it.Key()), len(it.Value()))
		}
		h := hour{start: int64(binary.BigEndian.Uint64(it.Key()[1:])), first: binary.BigEndian.Uint64(it.Value())}
		if counted = len(it.Value()) == 16; counted {
			h.bytes = int64(binary.BigEndian.Uint64(it.Value()[8:]))
		}
		j.hours = append(j.hours, h)
	}
	if n := len(j.hours); n > 0 && !counted {
		if err := j.estimate(db, &j.hours[n-1], j.next); err != nil {
			return err
		}
	}
	for _, h := range j.hours {
		j.total += h.bytes
	}
	return it.Error()
}

// estimate asks Pebble for the size of an hour, which costs no scan. What is still in
// memory is not in it.
func (j *journal) estimate(db *pebble.DB, h *hour, end uint64) error {
	if end <= h.first {
		return nil
	}
	n, err := db.EstimateDiskUsage(sequenceKey(prefixJournal, h.first), sequenceKey(prefixJournal, end))
	h.bytes = int64(n)
	return err
}

// hourValue is an hour as it is on disk; bytes below 0 are not known yet.
func hourValue(first uint64, bytes int64) []byte {
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 16), first)
	if bytes >= 0 {
		v = binary.BigEndian.AppendUint64(v, uint64(bytes))
	}
	return v
}

// add puts entries into a batch and returns the number after the last one; leaves are
// their hashes. Under Store.order.
func (j *journal) add(b *pebble.Batch, entries [][]byte, leaves []queue.Hash) uint64 {
	if len(entries) == 0 {
		return 0
	}
	now := time.Now()
	j.turn(b, now)
	e := storedEntry{at: now.UnixNano()}
	added := int64(0)
	for i := range entries {
		j.link = queue.Link(j.link, j.next, e.at, leaves[i])
		e.link, e.octets = j.link, entries[i]
		op := b.SetDeferred(9, entryHead+len(e.octets))
		op.Key[0] = prefixJournal
		binary.BigEndian.PutUint64(op.Key[1:], j.next)
		putEntry(op.Value, &e)
		_ = op.Finish() // the batch is not indexed
		added += int64(len(op.Key) + len(op.Value))
		j.next++
	}
	j.hours[len(j.hours)-1].bytes += added
	if j.total += added; j.limit > 0 && j.total > j.limit {
		j.bulky.Store(true)
	}
	return j.next
}

// turn begins a new block when it is time. Under Store.order.
func (j *journal) turn(b *pebble.Batch, now time.Time) {
	start, n := now.Truncate(time.Hour).Unix(), len(j.hours)
	if n > 0 && j.hours[n-1].start >= start {
		last := &j.hours[n-1]
		if last.bytes < j.block() || now.Unix() <= last.start {
			return
		}
		start = now.Unix()
	}
	if n > 0 {
		last := &j.hours[n-1]
		set(b, sequenceKey(prefixHour, uint64(last.start)), hourValue(last.first, last.bytes))
	}
	j.hours = append(j.hours, hour{start: start, first: j.next})
	set(b, sequenceKey(prefixHour, uint64(start)), hourValue(j.next, -1))
}

// synced tells readers that everything below a number is on disk: the log is synced in order.
// It reports whether there is work for keep.
func (j *journal) synced(n uint64) bool {
	for {
		old := j.upTo.Load()
		if old >= n || j.upTo.CompareAndSwap(old, n) {
			break
		}
	}
	return n > j.headDue.Load() || j.bulky.Load()
}

// excess is how many of the oldest hours must go. Under Store.order.
func (j *journal) excess(now time.Time) int {
	n := 0
	if j.retention > 0 {
		// An hour may go when its end is past: the next hour's first entry stays.
		cut := now.Add(-j.retention).Add(-time.Hour).Unix()
		n = sort.Search(len(j.hours), func(i int) bool { return j.hours[i].start > cut })
	}
	left := j.total
	for _, h := range j.hours[:n] {
		left -= h.bytes
	}
	for ; j.limit > 0 && left > j.limit && n < len(j.hours)-1; n++ {
		left -= j.hours[n].bytes
	}
	return n
}

// trim removes the entries that are too old or too many, hour by hour, together with a
// head that says so. One at a time.
func (s *Store) trim(now time.Time) error {
	j := &s.journal
	s.order.Lock()
	defer s.order.Unlock()
	j.bulky.Store(false)
	n := j.excess(now)
	if n == 0 || s.signer.key == nil {
		return nil
	}
	low := j.next
	if n < len(j.hours) {
		low = j.hours[n].first
	}
	old := j.low.Load()
	anchor, err := s.anchor(low)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	_ = b.DeleteRange(sequenceKey(prefixJournal, old), sequenceKey(prefixJournal, low), nil)
	for _, h := range j.hours[:n] {
		_ = b.Delete(sequenceKey(prefixHour, uint64(h.start)), nil)
	}
	set(b, named(prefixState, stateLow), binary.BigEndian.AppendUint64(nil, low))
	head := s.signer.next(j.next-1, j.link, now)
	head.Low, head.Anchor = low, anchor
	stored := s.signer.put(b, &head)
	if err := s.removeHeads(b, low); err != nil {
		return err
	}
	j.low.Store(low) // before they go, so that a reader who misses them can know
	if err := b.Commit(pebble.Sync); err != nil {
		j.low.Store(old)
		return err
	}
	s.signed(head, stored)
	for _, h := range j.hours[:n] {
		j.total -= h.bytes
	}
	j.hours = append([]hour(nil), j.hours[n:]...)
	return nil
}

// anchor is the link of the entry before a number; zero when that is not of the chain.
// Under Store.order.
func (s *Store) anchor(low uint64) (queue.Hash, error) {
	if low == s.journal.next {
		return s.journal.link, nil
	}
	v, ok, err := s.get(sequenceKey(prefixJournal, low-1))
	if err != nil || !ok {
		return queue.Hash{}, err
	}
	e, err := decodeEntry(v)
	return e.link, err
}

// JournalAt is a position before all entries of a time: see queue.Historian.
func (s *Store) JournalAt(t time.Time) string {
	j := &s.journal
	s.order.Lock()
	defer s.order.Unlock()
	// The hours may only be too late for an entry, never too early: the clock can be set back.
	n := sort.Search(len(j.hours), func(i int) bool { return j.hours[i].start > t.Unix() })
	if n == 0 || j.hours[n-1].first == 0 {
		return ""
	}
	return journalPos(j.hours[n-1].first - 1)
}

// Missed is how many entries behind a position are gone: see queue.Historian.
func (s *Store) Missed(pos string) uint64 {
	n, err := parseJournalPos(pos)
	if low := s.journal.low.Load(); err == nil && pos != "" && n+1 < low {
		return low - n - 1
	}
	return 0
}
