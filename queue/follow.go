package queue

import (
	"context"
	"fmt"
	"time"
)

// Bounds of Follow.
const (
	followPage = 256         // entries in one scan
	cursorWait = time.Second // the durable cursor is at most so far behind, or
	cursorLag  = 4096        // so many entries
)

// Follow calls fn for each journal entry (a JournalEntry in JSON) after the
// reader's durable cursor, in order, at least once: after a crash the entries of the
// last second may come again. A reader that is new begins with the oldest entry
// that is kept; one that is so late that entries are gone is told so in the log, and goes on with
// those that are there. It returns nil when ctx is done, and fn's error, as it is, when fn
// fails; that entry comes again next time. One Follow per reader at a time.
func (q *Queue) Follow(ctx context.Context, reader string, fn func([]byte) error) (err error) {
	cell := "follow/" + reader
	raw, err := q.store.Cell(ctx, cell)
	if err != nil {
		return fmt.Errorf("queue: cursor of %s: %w", reader, err)
	}
	pos, lag, saved := string(raw), 0, time.Now()
	save := func() error {
		if lag == 0 {
			return nil
		}
		if err := q.store.SetCell(context.WithoutCancel(ctx), cell, []byte(pos)); err != nil {
			return fmt.Errorf("queue: cursor of %s: %w", reader, err)
		}
		lag, saved = 0, time.Now()
		return nil
	}
	defer func() {
		if e := save(); err == nil {
			err = e
		}
	}()
	for ctx.Err() == nil {
		news := q.news.wait() // before the scan, so that nothing slips in between
		n := 0
		err := q.store.Scan(ctx, ScanQuery{Kind: ScanJournal, After: pos, Limit: followPage}, func(it Item) error {
			if ctx.Err() != nil {
				return ErrStop
			}
			if n == 0 {
				q.missed(reader, pos)
			}
			if err := fn(it.Entry); err != nil {
				return err
			}
			pos = it.Pos
			n++
			lag++
			return nil
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if lag >= cursorLag || lag > 0 && time.Since(saved) >= cursorWait {
			if err := save(); err != nil {
				return err
			}
		}
		if n == 0 {
			if err := q.rest(ctx, news, lag, save); err != nil {
				return err
			}
		}
	}
	return nil
}

// missed tells of entries that retention took away before a reader came to them. The
// reader goes on with what is there.
func (q *Queue) missed(reader, pos string) {
	h, ok := q.store.(Historian)
	if !ok || pos == "" {
		return
	}
	if n := h.Missed(pos); n > 0 {
		q.log.Warn("queue: a reader of the journal was too slow: entries were removed before it read them", "reader", reader, "missed", n)
		if o, ok := q.o.Observer.(interface {
			Missed(reader string, entries uint64)
		}); ok {
			o.Missed(reader, n)
		}
	}
}

// rest waits for news; meanwhile it saves a cursor that is behind by lag entries.
func (q *Queue) rest(ctx context.Context, news <-chan struct{}, lag int, save func() error) error {
	if lag > 0 {
		timer := time.NewTimer(cursorWait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			return nil
		case <-timer.C:
			if err := save(); err != nil {
				return err
			}
		}
	}
	select {
	case <-ctx.Done():
	case <-news:
	}
	return nil
}
