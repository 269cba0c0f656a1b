package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Bounds of one page of a scan. The items are copied before anybody sees them,
// because an iterator that is held keeps memtables alive.
const (
	pageItems  = 256
	pageOctets = 1 << 20
	// claimTogether is how many rows are claimed by iterators, which cost more to begin with.
	claimTogether = 8
)

// Claim leases due rows: see queue.Store. A row that is damaged is set aside; one that
// cannot be read for another reason stays leased until its lease runs out.
func (s *Store) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	rows, next := s.schedule.Claim(q)
	good := rows[:0]
	var together *inOrder // of many rows those of one lane are in their order, most often
	if len(rows) >= claimTogether {
		together = s.inOrder()
		defer together.close()
	}
	for i := range rows {
		r := rows[i]
		if q.Known != nil && q.Known(r.Message, r.Number) {
			good = append(good, r)
			continue
		}
		if n := len(good); n > 0 && good[n-1].Message == r.Message {
			r.Record = good[n-1].Record
		}
		fill := s.fillIn
		if together != nil {
			fill = together.fill
		}
		if err := fill(&r); err != nil {
			s.setAside(&rows[i], err)
			continue
		}
		good = append(good, r)
	}
	return good, next, nil
}

// fillIn reads a row's data and, when it has none, its record.
func (s *Store) fillIn(r *queue.Row) error { return s.fillBy(r, s.get, s.record) }

func (s *Store) fillBy(r *queue.Row, get func([]byte) ([]byte, bool, error), record func(queue.ID) ([]byte, error)) error {
	v, ok, err := get(numberKey(prefixRow, r.Message, r.Number))
	if err != nil {
		return err
	}
	if !ok {
		return queue.ErrNotFound
	}
	stored, err := decodeRow(v)
	if err != nil {
		return err
	}
	r.Data = stored.data
	if r.Record == nil {
		r.Record, err = record(r.Message)
	}
	return err
}

func (s *Store) record(id queue.ID) ([]byte, error) {
	record, ok, err := s.get(idKey(prefixMessage, id))
	if err == nil && !ok {
		err = queue.ErrNotFound
	}
	return record, err
}

// Read returns a message's record and rows: see queue.Store.
func (s *Store) Read(_ context.Context, id queue.ID) ([]byte, []queue.Row, error) {
	rows := s.schedule.Rows(id)
	if len(rows) == 0 {
		return nil, nil, queue.ErrNotFound
	}
	record, err := s.record(id)
	if err != nil {
		return nil, nil, err
	}
	left := rows[:0]
	for _, r := range rows {
		r.Record = record
		// Removed since we asked the schedule: it is not there any more.
		if err := s.fillIn(&r); errors.Is(err, queue.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, nil, err
		}
		r.Record = nil
		left = append(left, r)
	}
	if len(left) == 0 {
		return nil, nil, queue.ErrNotFound
	}
	return record, left, nil
}

// Scan calls fn item by item: see queue.Store.
func (s *Store) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	page := s.rowPage
	switch q.Kind {
	case queue.ScanRows:
		if q.Lanes != nil {
			page = s.lanePages(q.Lanes)
		}
	case queue.ScanJournal:
		page = s.journalPage
	case queue.ScanCells:
		page = s.cellPage
	default:
		return fmt.Errorf("pebblestore: unknown scan %d", q.Kind)
	}
	for left := q.Limit; ; {
		want := pageItems
		if q.Limit > 0 {
			want = min(want, left)
		}
		items, pos, err := page(q.After, want)
		if err != nil {
			return err
		}
		for i := range items {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(items[i]); errors.Is(err, queue.ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
		}
		left -= len(items)
		if pos == "" || q.Limit > 0 && left <= 0 {
			return nil
		}
		q.After = pos
	}
}

// rowPage returns rows behind a position, and where to go on; "" at the end.
func (s *Store) rowPage(after string, limit int) (items []queue.Item, pos string, err error) {
	from := idKey(prefixRow, s.schedule.First())
	if after != "" {
		k, err := rowKeyAfter(after)
		if err != nil {
			return nil, "", err
		}
		if string(k) > string(from) {
			from = k
		}
	}
	if len(from) == 1 {
		return nil, "", nil // the schedule is empty
	}
	mark := s.schedule.Mark()
	c, err := s.walk(from, []byte{prefixRow + 1})
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	beside := records{near: near{s: s}}
	defer beside.close()
	octets := 0
	for ok := c.next(true); ok; ok = c.next(false) {
		if len(items) == limit || octets > pageOctets {
			return items, pos, nil
		}
		id, n, err := parseNumberKey(c.it.Key())
		if err != nil {
			return nil, "", err
		}
		pos = rowPos(id, n)
		item, err := s.rowItem(queue.Place{Message: id, Number: n}, append([]byte(nil), c.it.Value()...), mark, &beside)
		if err != nil {
			s.log.Errorf("row %s cannot be read: %v", pos, err)
			continue
		}
		if item != nil {
			item.Pos = pos
			items = append(items, *item)
			octets += len(item.Row.Data)
		}
	}
	return items, "", c.err
}

// journalPage returns entries behind a position, and where to go on; "" at the end.
func (s *Store) journalPage(after string, limit int) (items []queue.Item, pos string, err error) {
	from := s.journal.low.Load()
	if after != "" {
		n, err := parseJournalPos(after)
		if err != nil {
			return nil, "", err
		}
		from = max(from, n+1)
	}
	upTo := s.journal.upTo.Load()
	if from >= upTo {
		return nil, "", nil
	}
	c, err := s.walk(sequenceKey(prefixJournal, from), sequenceKey(prefixJournal, upTo))
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	defer s.tellOther(c, "journal entries")
	octets := 0
	for ok := c.next(true); ok; ok = c.next(false) {
		if len(items) == limit || octets > pageOctets {
			return items, pos, nil
		}
		n, err := parseSequence(c.it.Key())
		if err != nil {
			return nil, "", err
		}
		pos = journalPos(n)
		stored, err := decodeEntry(c.it.Value())
		if err != nil {
			s.log.Errorf("journal entry %d cannot be read and is left out: %v", n, err)
			continue
		}
		entry := append([]byte(nil), stored.octets...)
		items = append(items, queue.Item{Pos: pos, Entry: entry})
		octets += len(entry)
	}
	return items, "", c.err
}

// Cell returns a small value: see queue.Store.
func (s *Store) Cell(_ context.Context, name string) ([]byte, error) {
	v, _, err := s.get(named(prefixCell, name))
	return v, err
}

// SetCell sets it, or removes it.
func (s *Store) SetCell(_ context.Context, name string, value []byte) error {
	b := s.db.NewBatch()
	if value == nil {
		_ = b.Delete(named(prefixCell, name), nil)
	} else {
		set(b, named(prefixCell, name), value)
	}
	return s.write(b, nil, nil)
}

// cellPage returns cells behind a name, and where to go on; "" at the end.
func (s *Store) cellPage(after string, limit int) (items []queue.Item, pos string, err error) {
	from := named(prefixCell, after)
	if after != "" {
		from = append(from, 0) // the first key behind it
	}
	c, err := s.walk(from, []byte{prefixCell + 1})
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	defer s.tellOther(c, "cells")
	octets := 0
	for ok := c.next(true); ok; ok = c.next(false) {
		if len(items) == limit || octets > pageOctets {
			return items, pos, nil
		}
		pos = string(c.it.Key()[1:])
		value := append(make([]byte, 0, len(c.it.Value())), c.it.Value()...)
		items = append(items, queue.Item{Pos: pos, Entry: value})
		octets += len(value)
	}
	return items, "", c.err
}
