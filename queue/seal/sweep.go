package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Swept is what a sweep did.
type Swept struct {
	Carried   int // messages (and rows with keys of their own) that outlived their epoch
	Lost      int // messages that are there and whose keys are not: they cannot be read
	Destroyed int // epoch keys and tables
}

// Sweep begins a new epoch and destroys the keys of messages that are gone: it copies
// the keys of those that are there into a new table and destroys the epoch keys that are
// due and the table before. The store sweeps by itself; an error means that
// keys stay for longer, never that one is lost.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	now := time.Now()
	return s.sweep(ctx, now, now.Add(-2*s.ring.slice()))
}

// sweep destroys the epochs that began by a time.
func (s *Store) sweep(ctx context.Context, now, before time.Time) (Swept, error) {
	select {
	case s.sweeps <- struct{}{}:
		defer func() { <-s.sweeps }()
	case <-ctx.Done():
		return Swept{}, ctx.Err()
	}
	s.secrets.clear()
	if err := s.turn(now); err != nil {
		return Swept{}, err
	}
	c := &census{s: s, retiring: s.ring.retiring(now, before)}
	s.ring.work.Lock()
	c.w = s.ring.startCarry(now)
	had := 0
	for _, old := range s.ring.carries {
		had += old.entries
	}
	tables := len(s.ring.carries)
	s.ring.work.Unlock()
	if err := c.count(ctx); err != nil {
		return Swept{}, errors.Join(err, c.w.abandon())
	}
	result := Swept{Carried: c.w.entries, Lost: c.lost}
	if c.lost > 0 {
		s.o.Logger.Error("seal: messages in the queue have no keys: they cannot be read or delivered (keys were erased or lost, or the queue was restored from an old backup)", "messages", c.lost,
			"keys", strings.Join(c.missing, " "), "dir", s.ring.o.Dir)
	}
	s.ring.work.Lock()
	defer s.ring.work.Unlock()
	if tables <= 1 && c.fresh == 0 && c.w.entries == had {
		// Nobody of the table is gone and nobody comes to it: it stays.
		if err := c.w.abandon(); err != nil {
			return result, fmt.Errorf("seal: %w", err)
		}
		n, err := s.ring.retire(c.retiring, nil)
		result.Destroyed = n
		return result, err
	}
	next, err := c.w.finish(s.ring)
	if err != nil {
		return result, err
	}
	old := s.ring.replace(next)
	result.Destroyed, err = s.ring.retire(c.retiring, old)
	return result, err
}

// turn does what is not about messages: a new epoch, days, what is left of a rotation.
func (s *Store) turn(now time.Time) error {
	r := s.ring
	r.work.Lock()
	defer r.work.Unlock()
	if err := r.destroy(); err != nil {
		return err
	}
	if err := r.rewrap(); err != nil {
		return err
	}
	// Some tolerance, so that a timer that is early by a moment counts.
	if age := now.Sub(r.current.created); age >= r.slice()*9/10 || age < 0 {
		if err := r.roll(now); err != nil {
			return err
		}
	}
	return r.keepDays(now)
}

// census walks over all that is there.
type census struct {
	s        *Store
	retiring map[uint64]*epoch
	w        *carryWriter
	fresh    int // from epochs
	lost     int
	missing  []string // names of the epochs' files, the first few
	last     queue.ID
}

func (c *census) count(ctx context.Context) error {
	err := c.s.inner.Scan(ctx, queue.ScanQuery{Kind: queue.ScanRows}, c.visit)
	if err != nil {
		return fmt.Errorf("seal: the queue cannot be read through: %w", err)
	}
	return nil
}

// visit carries the keys of a row and of its message on. A row has a key of its own only
// where the record is plain, so the names are in order.
func (c *census) visit(it queue.Item) error {
	r := &it.Row
	if isSealed(r.Data) && len(r.Data) >= ownRowHead && r.Data[1] == boxOwnRow {
		if err := c.carry(r.Data[2:2+wrapSize], keyName{r.Message, uint32(r.Number)}); err != nil {
			return err
		}
	}
	if c.last == r.Message {
		return nil
	}
	c.last = r.Message
	wrapped, err := wrappedKey(r.Record)
	if err != nil {
		return nil // plain, or damaged for good
	}
	return c.carry(wrapped, keyName{r.Message, ownRecord})
}

// maxMissing is how many keys that are gone are named.
const maxMissing = 5

// epochFile is the name of an epoch's file, whatever its generation.
func epochFile(id uint64) string { return fmt.Sprintf("%s-%d.N%s", kindEpoch, id, suffixKey) }

// carry takes one key along, if its epoch goes or has gone.
func (c *census) carry(wrapped []byte, name keyName) error {
	id := epochOf(wrapped)
	_, goes := c.retiring[id]
	if !goes && c.s.ring.hasEpoch(id) {
		return nil
	}
	var room [keySize]byte
	defer clear(room[:])
	key, err := c.s.ring.unwrap(room[:0], wrapped, name)
	switch {
	case errors.Is(err, ErrKeyGone), errors.Is(err, ErrDamaged):
		// Nobody can open it any more, and the others must not wait for it.
		c.lost++
		if file := epochFile(id); len(c.missing) < maxMissing && !slices.Contains(c.missing, file) {
			c.missing = append(c.missing, file)
		}
		return nil
	case err != nil:
		return err
	}
	if goes {
		c.fresh++
	}
	return c.w.add(name, key)
}

// Receipt says what an erasure destroyed.
type Receipt struct {
	At       time.Time `json:"at"`
	Messages int       `json:"messages"`
	// Journal is the number of keys of journal days that were taken apart: one for each
	// message and day of which entries may be there.
	Journal int   `json:"journal_keys"`
	Swept   Swept `json:"swept"`
}

// ErrThere is returned for a message that is in the queue still.
var ErrThere = errors.New("seal: the message is in the queue: drop it first")

// Erase destroys at once, not after the delay, what decrypts the given messages: their
// own keys and those of their journal entries. They must have left the queue. What must stay
// of the journal (levels, without addresses) the caller has appended before, under no
// message's name. (The queue erases persons by EraseEntries.)
func (s *Store) Erase(ctx context.Context, ids ...queue.ID) (Receipt, error) {
	for _, id := range ids {
		if _, _, err := s.inner.Read(ctx, id); err == nil {
			return Receipt{}, fmt.Errorf("%w: %s", ErrThere, id)
		} else if !errors.Is(err, queue.ErrNotFound) {
			return Receipt{}, err
		}
	}
	rec := Receipt{Messages: len(ids)}
	var err error
	if rec.Journal, err = s.ring.puncture(ids); err != nil {
		return rec, err
	}
	rec.Swept, err = s.destroyGone(ctx)
	rec.At = time.Now()
	return rec, err
}

// destroyGone destroys the keys of all messages that are gone, before their time.
func (s *Store) destroyGone(ctx context.Context) (Swept, error) {
	// They are in epochs before this one, in which nobody may be at work then.
	if err := s.settled(ctx); err != nil {
		return Swept{}, err
	}
	now := time.Now()
	return s.sweep(ctx, now, now)
}

// settled returns when all that is being written now is in the store, or is not.
func (s *Store) settled(ctx context.Context) error {
	if err := s.ring.freshEpoch(time.Now()); err != nil {
		return err
	}
	return s.ring.await(ctx)
}
