package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Bounds of what is looked for at a start.
const (
	gapDays    = 40     // back from today
	gapEntries = 10_000 // of the journal, for one day
)

// goneDays names the days of which the journal has entries and the ring has no keys. A key of
// today that is gone was made anew when the ring opened, so its first entry tells.
func (s *Store) goneDays(ctx context.Context) {
	h, ok := s.inner.(queue.Historian)
	if !ok {
		return // to look for them would be to read the whole journal
	}
	now := time.Now().UTC()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for back := range gapDays {
		at := midnight.AddDate(0, 0, -back)
		day := dayNumber(at)
		if !s.ring.keptSince(day, now) {
			return
		}
		if s.ring.dayTree(day) != nil && !s.ring.isNew(day) {
			continue
		}
		if s.unread(ctx, h.JournalAt(at), day) {
			file := fmt.Sprintf("%s-%d.*%s", kindJournal, day, suffixKey)
			s.o.Logger.Error("seal: a key file is gone: the journal's entries of its day cannot be read: put it back", "file", s.ring.dir.at(file))
			if s.o.Damaged != nil {
				s.o.Damaged(&Damage{What: "key file " + file, Err: ErrKeyGone})
			}
		}
	}
}

// unread reports whether the first entry of a day, behind a position, has lost its key.
func (s *Store) unread(ctx context.Context, after string, day uint64) (lost bool) {
	q := queue.ScanQuery{Kind: queue.ScanJournal, After: after, Limit: gapEntries}
	err := s.inner.Scan(ctx, q, func(it queue.Item) error {
		of, _, _, err := entryHead(it.Entry)
		if err != nil || of < day {
			return nil
		}
		if of == day {
			_, err = openEntry(s.ring.dayTree, it.Entry)
			lost = errors.Is(err, ErrKeyGone) || errors.Is(err, ErrDamaged)
		}
		return queue.ErrStop
	})
	if err != nil && ctx.Err() == nil {
		s.o.Logger.Debug("seal: the journal was not looked through for days without keys", "err", err)
	}
	return lost
}

// keptSince reports whether the keys of a day can still be there: the ring is as old, and they
// are not past their retention.
func (r *Ring) keptSince(day uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return day >= dayNumber(r.root.created) && (r.o.Retention <= 0 || day > r.o.lastGone(now))
}

// isNew reports whether a day's keys were made when the ring opened.
func (r *Ring) isNew(day uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newDay == day
}

// lastGone is the last day whose keys are past their retention: a day more, because its last
// entry is a day younger than its first, and the hour's slack that a store has
// (pebblestore.Options.Retention).
func (o *RingOptions) lastGone(now time.Time) uint64 {
	return dayNumber(now.Add(-o.Retention - 25*time.Hour))
}
