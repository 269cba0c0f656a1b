package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Look reads the sealed journal of a store that nobody uses, and changes neither the store nor
// the key directory: no key is made, wrapped anew or destroyed, and there is no lock file. Make
// one with LookAt.
type Look struct {
	inner Journal
	ring  *Ring // nil: the store was never sealed
	open  Store
}

// Journal is a store that is only looked at.
type Journal interface {
	Celled
	queue.JournalReader
}

// LookAt returns what reads a journal with the keys in a directory. It fails when they are
// missing or another store's. No process may have the store open: the caller has seen to that.
func LookAt(ctx context.Context, inner Journal, o RingOptions, store Options) (*Look, error) {
	if store.Logger == nil {
		store.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Look{inner: inner}
	mark, err := RingOf(ctx, inner)
	if err != nil || mark == "" {
		return l, err
	}
	o.ID = mark
	if l.ring, err = newRing(o); err != nil {
		return nil, err
	}
	if err := l.ring.look(); err != nil {
		return nil, errors.Join(err, l.ring.Close())
	}
	l.open = Store{ring: l.ring, o: store}
	return l, nil
}

// look reads the keys of the ring that must be there.
func (r *Ring) look() error {
	if err := r.expect(); err != nil {
		return err
	}
	found, err := readKeys(&r.dir)
	if err != nil {
		return err
	}
	if err := r.adopt(found); err != nil {
		return err
	}
	switch {
	case r.root == nil:
		return fmt.Errorf("seal: the root key file (root-1.N.key) is missing in %s: put it back", r.o.Dir)
	case r.ID() != r.o.ID:
		return otherRing(r.o.ID, r.ID(), r.o.Dir)
	}
	return nil
}

// Scan is Store.Scan of the journal.
func (l *Look) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	if q.Kind != queue.ScanJournal || l.ring == nil {
		return l.inner.Scan(ctx, q, fn) // which refuses what is not the journal
	}
	return l.open.scan(ctx, l.inner, q, fn)
}

// JournalAt is that of the store behind; "" when it cannot tell.
func (l *Look) JournalAt(t time.Time) string {
	if h, ok := l.inner.(interface{ JournalAt(time.Time) string }); ok {
		return h.JournalAt(t)
	}
	return ""
}

// Close forgets the keys.
func (l *Look) Close() error {
	if l.ring == nil {
		return nil
	}
	return l.ring.Close()
}
