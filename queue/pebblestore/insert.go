package pebblestore

import (
	"context"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// Insert streams the body and makes the message durable: see queue.Store. A body of
// one chunk at most is in the same batch; a larger one is written ahead.
func (s *Store) Insert(ctx context.Context, in *queue.Insertion) (err error) {
	if err := in.Check(); err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := s.schedule.Reserve(in.ID); err != nil {
		return err
	}
	b := s.db.NewBatch()
	up := &upload{s: s, id: in.ID, body: in.Body}
	defer func() {
		if err != nil {
			b.Close()
			up.undo()
			s.schedule.Cancel(in.ID)
		}
	}()
	size, err := up.stream(ctx, b)
	if err != nil {
		return err
	}
	record, entry, err := in.Finish(size)
	if err != nil {
		return err
	}
	bookings := s.put(b, in, size, record)
	if err := s.write(b, [][]byte{entry}, nil); err != nil {
		return err
	}
	s.schedule.Add(bookings...)
	return nil
}

// put adds a message's record and rows to a batch.
func (s *Store) put(b *pebble.Batch, in *queue.Insertion, size int64, record []byte) []queue.Booking {
	set(b, idKey(prefixMessage, in.ID), record)
	bookings := make([]queue.Booking, len(in.Rows))
	for i, r := range in.Rows {
		stored := storedRow{state: r.State, writes: 1, due: r.Due, size: size, lane: r.Lane, group: r.Group, data: r.Data}
		set(b, numberKey(prefixRow, in.ID, r.Number), stored.encode())
		r.Data, r.Record, r.Fence = nil, nil, 0
		bookings[i] = queue.Booking{Row: r, Size: size, Writes: 1}
	}
	return bookings
}

// set writes into a batch that is not indexed, which cannot fail before its commit.
func set(b *pebble.Batch, key, value []byte) { _ = b.Set(key, value, nil) }

// upload is a body on its way in.
type upload struct {
	s       *Store
	id      queue.ID
	body    io.Reader
	written int        // chunks that were written ahead
	table   *bodyTable // what comes behind them; nil: nothing yet, or Pebble has it
}

// stream reads the body to its end. What is one chunk goes into the batch; else
// all chunks are written ahead and the batch takes the orphan mark away.
func (u *upload) stream(ctx context.Context, b *pebble.Batch) (size int64, err error) {
	// Most bodies end in the small buffer; a thousand slow clients need a thousand.
	small := u.s.small.Get().(*[]byte)
	defer u.s.small.Put(small)
	first, end, err := fill(ctx, u.body, *small)
	if err != nil {
		return 0, err
	}
	if end {
		if first > 0 {
			set(b, numberKey(prefixBody, u.id, 0), (*small)[:first])
		}
		return int64(first), nil
	}
	buf := u.s.buffers.Get().(*[]byte)
	defer u.s.buffers.Put(buf)
	copy(*buf, (*small)[:first])
	for {
		n, end, err := fill(ctx, u.body, (*buf)[first:])
		if err != nil {
			return 0, err
		}
		n, first = n+first, 0
		size += int64(n)
		chunk := (*buf)[:n]
		switch {
		case end && u.written == 0:
			set(b, numberKey(prefixBody, u.id, 0), chunk)
			return size, nil
		case n > 0:
			put := u.ahead
			if u.written == aheadChunks {
				put = u.apart
			}
			if err := put(chunk); err != nil {
				return 0, err
			}
		}
		if end {
			if u.table != nil {
				if err := u.deliver(); err != nil {
					return 0, err
				}
			}
			_ = b.Delete(idKey(prefixOrphan, u.id), nil)
			return size, nil
		}
	}
}

// ahead writes a chunk without waiting for the disk. The orphan mark is in the log
// before or with the first one.
func (u *upload) ahead(chunk []byte) error {
	if err := u.s.room(); err != nil {
		return err
	}
	b := u.s.db.NewBatchWithSize(len(chunk) + 128)
	defer b.Close()
	if u.written == 0 {
		set(b, idKey(prefixOrphan, u.id), nil)
	}
	set(b, numberKey(prefixBody, u.id, u.written), chunk)
	u.written++
	return b.Commit(pebble.NoSync)
}

// undo removes what was written ahead.
func (u *upload) undo() {
	if u.table != nil {
		if err := u.table.drop(u.s.tables.fs); err != nil {
			u.s.log.Errorf("body of message %s: %v", u.id, err)
		}
	}
	if u.written == 0 {
		return
	}
	if err := u.s.removeBody(u.id, u.written); err != nil {
		u.s.log.Errorf("body of message %s: %v", u.id, err)
	}
}

// removeBody removes chunks and orphan mark, without waiting for the disk.
func (s *Store) removeBody(id queue.ID, n int) error {
	b := s.db.NewBatch()
	defer b.Close()
	deleteChunks(b, id, n)
	_ = b.Delete(idKey(prefixOrphan, id), nil)
	return b.Commit(pebble.NoSync)
}

func deleteChunks(b *pebble.Batch, id queue.ID, n int) {
	for i := range min(n, aheadChunks) {
		_ = b.SingleDelete(numberKey(prefixBody, id, i), nil)
	}
	if n > aheadChunks {
		_ = b.DeleteRange(numberKey(prefixBody, id, aheadChunks), numberKey(prefixBody, id, n), nil)
	}
}

// fill reads until p is full or the body ends. It differs from io.ReadFull in that
// an io.ErrUnexpectedEOF of the reader stays an error, and in that it minds ctx.
func fill(ctx context.Context, r io.Reader, p []byte) (n int, end bool, err error) {
	for idle := 0; n < len(p); {
		if err := ctx.Err(); err != nil {
			return n, false, err
		}
		m, err := r.Read(p[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, true, nil
		case err != nil:
			return n, false, err
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, false, io.ErrNoProgress
			}
		}
	}
	return n, false, nil
}

// removeOrphans removes the bodies that nobody came back for.
func (s *Store) removeOrphans() error {
	c, err := s.walk([]byte{prefixOrphan}, []byte{prefixOrphan + 1})
	if err != nil {
		return err
	}
	defer c.close()
	defer s.tellOther(c, "unfinished bodies")
	for ok := c.next(true); ok; ok = c.next(false) {
		id := queue.ID(c.it.Key()[1:])
		n, err := s.countChunks(id)
		if err != nil {
			return err
		}
		if err := s.removeBody(id, n); err != nil {
			return err
		}
		s.log.Infof("removed the unfinished body of message %s", id)
	}
	return c.err
}

// countChunks is the number behind the last chunk of an orphan that came through the crash.
func (s *Store) countChunks(id queue.ID) (int, error) {
	from := idKey(prefixBody, id)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: append(idKey(prefixBody, id), 0xff)})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.Last() {
		return 0, it.Error()
	}
	_, n, err := parseNumberKey(it.Key())
	return n + 1, err
}
