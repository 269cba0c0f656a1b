package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// maxNotice bounds the body of a message that is inserted by a Commit, in octets.
const maxNotice = 16 << 20

// write brings a batch into the log, in the order in which prepare is called, and
// waits until it is synced. The batch is closed unless prepare fails, whose error is
// returned as it is. An error of the log does not return.
func (s *Store) write(b *pebble.Batch, entries [][]byte, prepare func() error) error {
	// What can be hashed before numbers are given is hashed before the lock.
	var room [4]queue.Hash
	leaves := room[:0]
	for _, e := range entries {
		leaves = append(leaves, queue.Leaf(e))
	}
	s.order.Lock()
	if prepare != nil {
		if err := prepare(); err != nil {
			s.order.Unlock()
			return err
		}
	}
	last := s.journal.add(b, entries, leaves)
	err := s.db.ApplyNoSyncWait(b, pebble.Sync)
	s.order.Unlock()
	if err == nil {
		err = b.SyncWait()
	}
	if err != nil {
		// Whether it is on disk is unknown, and a failed fsync cannot be repeated.
		s.log.Fatalf("commit: %v", err)
	}
	if s.journal.synced(last) {
		s.wake()
	}
	_ = b.Close()
	return nil
}

// Commit applies a change atomically: see queue.Store.
func (s *Store) Commit(ctx context.Context, c *queue.Change) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	entries := append([][]byte(nil), c.Entries...)
	var reserved []queue.ID
	defer func() {
		if err != nil {
			b.Close()
			for _, id := range reserved {
				s.schedule.Cancel(id)
			}
		}
	}()
	var bookings []queue.Booking
	for _, in := range c.Insert {
		if err := in.Check(); err != nil {
			return err
		}
		if err := s.schedule.Reserve(in.ID); err != nil {
			return err
		}
		reserved = append(reserved, in.ID)
		more, entry, err := s.insertSmall(b, in)
		if err != nil {
			return err
		}
		bookings = append(bookings, more...)
		entries = append(entries, entry)
	}
	var p *queue.Prepared
	err = s.write(b, entries, func() error {
		if p, err = s.schedule.Prepare(c); err != nil {
			return err
		}
		s.change(b, c, p)
		return nil
	})
	if err != nil {
		return err
	}
	s.schedule.Apply(c, p)
	s.schedule.Add(bookings...)
	for _, d := range p.Gone {
		s.shelf.forget(d.ID)
	}
	return nil
}

// insertSmall adds a message to a batch, body and all.
func (s *Store) insertSmall(b *pebble.Batch, in *queue.Insertion) ([]queue.Booking, []byte, error) {
	var body bytes.Buffer
	if _, err := io.Copy(&body, io.LimitReader(in.Body, maxNotice+1)); err != nil {
		return nil, nil, err
	}
	size := int64(body.Len())
	if size > maxNotice {
		return nil, nil, fmt.Errorf("pebblestore: message %s is too large to be inserted by a commit", in.ID)
	}
	for i := range chunks(size) {
		set(b, numberKey(prefixBody, in.ID, i), body.Next(chunkSize))
	}
	record, entry, err := in.Finish(size)
	if err != nil {
		return nil, nil, err
	}
	return s.put(b, in, size, record), entry, nil
}

// change adds updates and removals to a batch.
func (s *Store) change(b *pebble.Batch, c *queue.Change, p *queue.Prepared) {
	for i := range c.Update {
		r := &c.Update[i]
		stored := storedRow{
			state: r.State, writes: p.Updated[i].Writes + 1, due: r.Due, size: p.Updated[i].Size,
			lane: p.Updated[i].Lane, group: p.Updated[i].Group, data: r.Data,
		}
		set(b, numberKey(prefixRow, r.Message, r.Number), stored.encode())
	}
	for i := range c.Remove {
		key := numberKey(prefixRow, c.Remove[i].Message, c.Remove[i].Number)
		if p.Removed[i].Writes == 1 {
			_ = b.SingleDelete(key, nil)
		} else {
			_ = b.Delete(key, nil)
		}
	}
	for _, d := range p.Gone {
		_ = b.SingleDelete(idKey(prefixMessage, d.ID), nil)
		if s.shelf.remove(d.ID, d.Size) {
			deleteChunks(b, d.ID, chunks(d.Size))
		} else {
			set(b, idKey(prefixOrphan, d.ID), nil)
		}
	}
}
