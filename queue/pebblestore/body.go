package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sealpost/sealpost/queue"
)

// shelf knows which bodies are being read, so that they are not removed under the
// reader. (A Pebble snapshot would do that too, at the price of whole memtables.)
type shelf struct {
	mu   sync.Mutex
	open map[queue.ID]*volume
}

// volume is a body that is being read or removed.
type volume struct {
	readers int
	size    int64
	gone    bool // the message is being removed: nobody may begin to read
	doomed  bool // and the last reader removes the body
	applied bool // and the schedule knows it
}

// remove is called when a message goes. It reports whether its body may go at once.
func (s *shelf) remove(id queue.ID, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.open[id]
	if v == nil {
		s.open[id] = &volume{gone: true}
		return true
	}
	v.gone, v.doomed, v.size = true, true, size
	return false
}

// forget is called when it has gone.
func (s *shelf) forget(id queue.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.open[id]; v != nil {
		if v.applied = true; v.readers == 0 {
			delete(s.open, id)
		}
	}
}

// Body opens a message's body: see queue.Store. It is for one goroutine.
func (s *Store) Body(_ context.Context, id queue.ID) (queue.Body, error) {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	v := s.shelf.open[id]
	if v != nil && v.gone {
		return nil, queue.ErrNotFound
	}
	size, err := s.schedule.Size(id)
	if err != nil {
		return nil, err
	}
	if v == nil {
		v = &volume{}
		s.shelf.open[id] = v
	}
	v.readers++
	return &body{s: s, id: id, size: size}, nil
}

// body reads chunk by chunk.
type body struct {
	s      *Store
	id     queue.ID
	size   int64
	next   int    // chunk to be read
	buf    []byte // of one chunk; ours
	rest   []byte // of buf
	closed bool
}

func (b *body) Size() int64 { return b.size }

func (b *body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, errors.New("pebblestore: body is closed")
	}
	if len(b.rest) == 0 {
		if b.next == chunks(b.size) {
			return 0, io.EOF
		}
		if err := b.load(); err != nil {
			b.s.log.note(Damage{File: "queue", Messages: []queue.ID{b.id}, What: fmt.Sprintf("the body of message %s cannot be read", b.id)})
			return 0, fmt.Errorf("pebblestore: body of message %s: %w", b.id, err)
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// load copies the next chunk, so that nothing of Pebble's is kept while a slow host reads.
func (b *body) load() error {
	v, closer, err := b.s.db.Get(numberKey(prefixBody, b.id, b.next))
	if err != nil {
		return err
	}
	want := min(chunkSize, b.size-int64(b.next)*chunkSize)
	if int64(len(v)) != want {
		return errors.Join(fmt.Errorf("chunk %d has %d octets, not %d", b.next, len(v), want), closer.Close())
	}
	b.buf = append(b.buf[:0], v...)
	b.rest = b.buf
	b.next++
	return closer.Close()
}

func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	s := &b.s.shelf
	s.mu.Lock()
	v := s.open[b.id]
	v.readers--
	last := v.readers == 0
	doomed := last && v.doomed
	if last && (!v.gone || v.applied) {
		delete(s.open, b.id)
	}
	s.mu.Unlock()
	if !doomed {
		return nil
	}
	// In this order in the log: the message goes, then its body.
	b.s.order.Lock()
	defer b.s.order.Unlock()
	return b.s.removeBody(b.id, chunks(v.size))
}
