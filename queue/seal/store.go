package seal

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Options of a Store.
type Options struct {
	Logger *slog.Logger // nil: discard
	// Damaged is told of each thing that does not open when it is wanted: a row that is
	// claimed, a body, an entry of the journal, a cell. Calls are concurrent and must not
	// block. nil: only the log.
	Damaged func(*Damage)
	// RefusePlain refuses what was not sealed. Set it when the last message from before
	// sealing is gone: until then who can write to the disk can put plain mail there.
	RefusePlain bool
	// Still is for a look at a store, a restored one for example: no sweep destroys the keys of
	// what is not in it. Sweep must not be called then.
	Still bool
}

// Store seals what goes into another store, and opens what comes out. It is a
// queue.Store and a queue.Counter. Make one with New.
type Store struct {
	inner   queue.Store // ours: closed by Close
	ring    *Ring       // not owned
	o       Options
	names   *namer
	groups  *grouper
	secrets *secrets
	pool    buffers
	sweeps  chan struct{} // capacity 1: one sweep at a time; before Ring.work
	stop    context.CancelFunc
	keeper  sync.WaitGroup
}

var (
	_ queue.Store   = (*Store)(nil)
	_ queue.Counter = (*Store)(nil)
)

// markCell holds the ID of the ring that seals a store, as it is.
const markCell = "seal/ring"

// Celled has cells, as every queue.Store.
type Celled interface {
	Cell(ctx context.Context, name string) ([]byte, error)
}

// RingOf returns the ID of the ring that seals a store, which is not opened for sealing;
// "" when none does.
func RingOf(ctx context.Context, inner Celled) (string, error) {
	mark, err := inner.Cell(ctx, markCell)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	return string(mark), nil
}

// New returns a sealing store in front of another one, which it closes, with a ring,
// which it does not close. It fails when the ring is another store's: with the wrong keys
// nothing would open, and a sweep would destroy keys that are needed. Close it.
func New(inner queue.Store, ring *Ring, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{inner: inner, ring: ring, o: o, secrets: newSecrets(), sweeps: make(chan struct{}, 1)}
	ring.mu.Lock()
	s.names = newNamer(ring.root.secret[:])
	ring.mu.Unlock()
	s.groups = newGrouper(s.names)
	if err := s.betroth(context.Background()); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.keeper.Go(func() { s.goneDays(ctx) })
	if !o.Still {
		s.keeper.Go(func() { s.keep(ctx) })
	}
	return s, nil
}

// betroth checks that store and ring belong together; at first they do not belong
// to anybody.
func (s *Store) betroth(ctx context.Context) error {
	mark, err := RingOf(ctx, s.inner)
	if err != nil {
		return err
	}
	id := s.ring.ID()
	switch {
	case mark == id && s.ring.isBound():
		return nil
	case mark != "" && mark != id:
		return otherRing(mark, id, s.ring.o.Dir)
	case mark == "" && s.ring.isBound():
		return fmt.Errorf("seal: key ring %s in %s belongs to another queue than this one, which was never sealed: give the queue's own data directory, or move the key directory away to begin anew",
			id, s.ring.o.Dir)
	}
	// In this order: a crash between leaves a mark that fits.
	if err := s.inner.SetCell(ctx, markCell, []byte(id)); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return s.ring.bind()
}

// Close ends the store and the one behind it.
func (s *Store) Close() error {
	s.stop()
	s.keeper.Wait()
	s.secrets.clear()
	return s.inner.Close()
}

// Stats counts what the store behind counts.
func (s *Store) Stats() queue.Stats {
	if c, ok := s.inner.(queue.Counter); ok {
		return c.Stats()
	}
	return queue.Stats{}
}

// keep sweeps once in a slice. A sweep that failed is tried again soon.
func (s *Store) keep(ctx context.Context) {
	// What became overdue while nobody was here goes first.
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told time.Time // a disk stays full for longer than a slice: once a minute is enough
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := s.ring.slice()
		_, err := s.Sweep(ctx)
		switch {
		case err == nil:
			told = time.Time{}
		case ctx.Err() != nil:
			return
		default:
			wait = min(wait/8, time.Minute)
			if time.Since(told) < time.Minute {
				break
			}
			told = time.Now()
			s.o.Logger.Error("seal: keys could not be destroyed in time: they stay until the next attempt", "err", err,
				"overdue", s.ring.Overdue(time.Now()))
		}
		timer.Reset(wait)
	}
}

// report tells of something that is left out.
func (s *Store) report(err error) {
	var d *Damage
	if !errors.As(err, &d) {
		s.o.Logger.Error("seal: something is left out", "err", err)
		return
	}
	s.o.Logger.Error("seal: does not open, and is left out", "msg", d.Message, "what", d.What, "pos", d.Pos, "err", d.Err)
	if s.o.Damaged != nil {
		s.o.Damaged(d)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// intake is an insertion that is being sealed.
type intake struct {
	s     *Store
	in    *queue.Insertion
	body  *sealer
	aead  cipher.AEAD
	key   []byte
	noise []byte // random octets for nonces
	epoch *epoch // pinned from Finish on
}

// intake makes what goes into the store behind: a body of the same length, sealed rows
// and record. The caller ends it.
func (s *Store) intake(ctx context.Context, in *queue.Insertion) (*queue.Insertion, *intake) {
	t := &intake{s: s, in: in}
	// One call for the key and all nonces.
	t.noise = random(keySize + nonceSize*(2+len(in.Rows)))
	t.key = t.take(keySize)
	t.aead = newAEAD(t.key)
	t.body = &sealer{ctx: ctx, r: in.Body, aead: t.aead, id: in.ID, pool: &s.pool}
	out := &queue.Insertion{ID: in.ID, Body: t.body, Finish: t.finish, Rows: make([]queue.Row, len(in.Rows))}
	for i, r := range in.Rows {
		out.Rows[i] = r
		out.Rows[i].Data = sealRow(t.aead, &r, nil, t.take(nonceSize))
		out.Rows[i].Lane, out.Rows[i].Group = s.names.lane(r.Lane), s.groups.hide(r.Group)
	}
	return out, t
}

// take returns the next random octets.
func (t *intake) take(n int) []byte {
	b := t.noise[:n:n]
	t.noise = t.noise[n:]
	return b
}

// finish seals record and entry. The key is wrapped only now: an upload may last
// longer than an epoch.
func (t *intake) finish(size int64) ([]byte, []byte, error) {
	if size != t.body.size || !t.body.done {
		return nil, nil, fmt.Errorf("seal: message %s: %d octets were sealed, %d were stored", t.in.ID, t.body.size, size)
	}
	record, entry, err := t.in.Finish(size)
	if err != nil {
		return nil, nil, err
	}
	if t.epoch == nil {
		t.epoch = t.s.ring.pin()
	}
	var room [wrapSize]byte
	wrapped, err := t.s.ring.wrap(room[:0], t.epoch, keyName{t.in.ID, ownRecord}, t.key, t.take(nonceSize))
	if err != nil {
		return nil, nil, err
	}
	sealed := sealRecord(t.aead, t.in.ID, recordParts{wrapped, t.take(nonceSize), t.body.tags, record})
	if entry, err = t.s.sealEntry(t.in.ID, entry); err != nil {
		return nil, nil, err
	}
	return sealed, entry, nil
}

// end forgets the key; the message is in the store, or is not.
func (t *intake) end() {
	clear(t.key)
	t.body.release()
	if t.epoch != nil {
		t.s.ring.unpin(t.epoch)
		t.epoch = nil
	}
}

// sealEntry seals a journal entry under a message's name; under one of its own where there is
// no message, or where that one's journal was erased.
func (s *Store) sealEntry(id queue.ID, entry []byte) ([]byte, error) {
	day, t, err := s.ring.today()
	if err != nil {
		return nil, err
	}
	name, ok := string(id), false
	var key [keySize]byte
	if name != "" && !s.ring.isRetired(day, name) {
		key, ok = t.leaf(leafOf(name))
	}
	for !ok { // one that is lost comes up once in 2^48 times
		name = anonymous()
		key, ok = t.leaf(leafOf(name))
	}
	defer clear(key[:])
	return sealEntry(&key, entryParts{day, name, random(nonceSize), entry}), nil
}

// Insert seals a message on its way into the store: see queue.Store.
func (s *Store) Insert(ctx context.Context, in *queue.Insertion) error {
	if err := in.Check(); err != nil {
		return err
	}
	out, t := s.intake(ctx, in)
	defer t.end()
	return s.inner.Insert(ctx, out)
}

// Commit seals a change: see queue.Store. Its entries are sealed under the messages that they
// are about.
func (s *Store) Commit(ctx context.Context, c *queue.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	out := &queue.Change{Update: make([]queue.Row, len(c.Update)), Remove: make([]queue.Row, len(c.Remove)),
		Entries: make([][]byte, len(c.Entries))}
	e := s.ring.pin()
	defer s.ring.unpin(e)
	for i, r := range c.Update {
		if err := s.update(ctx, e, &r); err != nil {
			return err
		}
		out.Update[i] = r
	}
	for i, r := range c.Remove {
		r.Lane, r.Data = s.names.lane(r.Lane), nil
		out.Remove[i] = r
	}
	for _, in := range c.Insert {
		if err := in.Check(); err != nil {
			return err
		}
		sealed, t := s.intake(ctx, in)
		defer t.end()
		out.Insert = append(out.Insert, sealed)
	}
	subject := subjectOf(c)
	for i, entry := range c.Entries {
		var err error
		if len(c.Subjects) == len(c.Entries) {
			subject = c.Subjects[i]
		}
		if out.Entries[i], err = s.sealEntry(subject, entry); err != nil {
			return err
		}
	}
	if err := s.inner.Commit(ctx, out); err != nil {
		return err
	}
	for i := range c.Remove {
		s.secrets.drop(c.Remove[i].Message)
	}
	return nil
}

// subjectOf is the message of a change's first row; "" when none.
func subjectOf(c *queue.Change) queue.ID {
	var id queue.ID
	switch {
	case len(c.Update) > 0:
		id = c.Update[0].Message
	case len(c.Remove) > 0:
		id = c.Remove[0].Message
	}
	if _, err := queue.ParseID(string(id)); err != nil {
		return ""
	}
	return id
}

// update seals a row that is rewritten. A row of a message from before sealing gets a
// key of its own.
func (s *Store) update(ctx context.Context, e *epoch, r *queue.Row) error {
	sec, err := s.secret(ctx, r.Message)
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return queue.ErrStale // the row is gone
	case err != nil:
		return err
	}
	noise := random(keySize + 2*nonceSize)
	defer clear(noise)
	if !sec.plain {
		r.Data = sealRow(sec.aead, r, nil, noise[:nonceSize])
	} else {
		key := noise[2*nonceSize:]
		wrapped, err := s.ring.wrap(nil, e, keyName{r.Message, uint32(r.Number)}, key, noise[nonceSize:2*nonceSize])
		if err != nil {
			return err
		}
		r.Data = sealRow(newAEAD(key), r, wrapped, noise[:nonceSize])
	}
	r.Lane = s.names.lane(r.Lane)
	return nil
}
