package pebblestore

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// journal gives entries their numbers and lets them go by age.
type journal struct {
	retention time.Duration
	next      uint64        // next number; under Store.order
	hours     []hour        // oldest first; under Store.order
	low       atomic.Uint64 // lowest number that is kept
	upTo      atomic.Uint64 // all numbers below are synced
}

// hour says which entry was the first one in an hour, so that retention needs
// not look at entries.
type hour struct {
	start int64 // Unix seconds
	first uint64
}

// stateLow names the number below which no entry is kept. Numbers are never used
// twice, also when no entry is left, because readers' cursors hold them.
const stateLow = "journal-low"

func (j *journal) load(db *pebble.DB) error {
	v, closer, err := db.Get(named(prefixState, stateLow))
	switch {
	case err == nil:
		if len(v) == 8 {
			j.low.Store(binary.BigEndian.Uint64(v))
		}
		if err := closer.Close(); err != nil {
			return err
		}
	case err != pebble.ErrNotFound:
		return err
	}
	j.next = max(j.low.Load(), 1)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixHour}, UpperBound: []byte{prefixHour + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if len(it.Key()) != 9 || len(it.Value()) != 8 {
			return fmt.Errorf("journal: hour of %d and %d octets", len(it.Key()), len(it.Value()))
		}
		j.hours = append(j.hours, hour{int64(binary.BigEndian.Uint64(it.Key()[1:])), binary.BigEndian.Uint64(it.Value())})
	}
	if err := it.Error(); err != nil {
		return err
	}
	last, err := db.NewIter(&pebble.IterOptions{LowerBound: sequenceKey(prefixJournal, j.low.Load()), UpperBound: []byte{prefixJournal + 1}})
	if err != nil {
		return err
	}
	defer last.Close()
	if last.Last() && len(last.Key()) == 9 {
		j.next = max(j.next, binary.BigEndian.Uint64(last.Key()[1:])+1)
	}
	j.upTo.Store(j.next)
	return last.Error()
}

// add puts entries into a batch and returns the number after the last one. Under Store.order.
func (j *journal) add(b *pebble.Batch, entries [][]byte) uint64 {
	if len(entries) == 0 {
		return 0
	}
	now := time.Now()
	start := now.Truncate(time.Hour).Unix()
	if n := len(j.hours); n == 0 || j.hours[n-1].start < start {
		j.hours = append(j.hours, hour{start, j.next})
		set(b, sequenceKey(prefixHour, uint64(start)), binary.BigEndian.AppendUint64(nil, j.next))
	}
	for _, e := range entries {
		value := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(e)), uint64(now.UnixNano()))
		set(b, sequenceKey(prefixJournal, j.next), append(value, e...))
		j.next++
	}
	return j.next
}

// synced tells readers that everything below a number is on disk: the log is synced in order.
func (j *journal) synced(n uint64) {
	for {
		old := j.upTo.Load()
		if old >= n || j.upTo.CompareAndSwap(old, n) {
			return
		}
	}
}

// trim removes the entries that are older than the retention, hour by hour.
func (s *Store) trim(now time.Time) error {
	j := &s.journal
	if j.retention <= 0 {
		return nil
	}
	b := s.db.NewBatch()
	defer b.Close()
	s.order.Lock()
	defer s.order.Unlock()
	// An hour may go when its end is past: the next hour's first entry stays.
	cut := now.Add(-j.retention).Add(-time.Hour).Unix()
	n := sort.Search(len(j.hours), func(i int) bool { return j.hours[i].start > cut })
	if n == 0 {
		return nil
	}
	low := j.next
	if n < len(j.hours) {
		low = j.hours[n].first
	}
	_ = b.DeleteRange(sequenceKey(prefixJournal, j.low.Load()), sequenceKey(prefixJournal, low), nil)
	for _, h := range j.hours[:n] {
		_ = b.Delete(sequenceKey(prefixHour, uint64(h.start)), nil)
	}
	set(b, named(prefixState, stateLow), binary.BigEndian.AppendUint64(nil, low))
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	j.low.Store(low)
	j.hours = append([]hour(nil), j.hours[n:]...)
	return nil
}
