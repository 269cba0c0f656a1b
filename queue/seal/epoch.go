package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// wrapSize is a wrapped message key: epoch, nonce, key, tag.
const wrapSize = 8 + nonceSize + keySize + tagSize

// ownRecord is the number under which a message's own key is kept; a row with a key of
// its own has the row's number.
const ownRecord = ^uint32(0)

// roll makes a new epoch, which takes the keys of what is accepted from now on. Under work.
func (r *Ring) roll(now time.Time) error {
	e := &epoch{meta: meta{kind: kindEpoch, id: r.nextID(now), created: now}}
	key := random(keySize)
	defer clear(key)
	if err := r.put(&e.meta, key); err != nil {
		return err
	}
	e.aead = newAEAD(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs[e.id], r.current = e, e
	return nil
}

// pin returns the current epoch, which stays until unpin.
func (r *Ring) pin() *epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.pins++
	return r.current
}

func (r *Ring) unpin(e *epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.pins--; e.pins == 0 && e != r.current {
		r.quiet.Broadcast()
	}
}

// await waits until no old epoch is pinned.
func (r *Ring) await(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	stop := context.AfterFunc(ctx, r.quiet.Broadcast)
	defer stop()
	for r.pinned() {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.quiet.Wait()
	}
	return nil
}

func (r *Ring) pinned() bool {
	for _, e := range r.epochs {
		if e != r.current && e.pins > 0 {
			return true
		}
	}
	return false
}

// retiring returns the epochs that were made before a time and that nobody uses for
// new keys any more.
func (r *Ring) retiring(now, before time.Time) map[uint64]*epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make(map[uint64]*epoch)
	for id, e := range r.epochs {
		// One from the future is from before a jump of the clock.
		due := !e.created.After(before) || e.created.After(now)
		if e != r.current && e.pins == 0 && due {
			list[id] = e
		}
	}
	return list
}

// wrapName is what a wrapped key is bound to.
func wrapName(b []byte, id queue.ID, number uint32) []byte {
	b = append(b, "K"...)
	b = append(b, id...)
	return binary.BigEndian.AppendUint32(b, number)
}

// wrap appends a message's key, wrapped by a pinned epoch. nonce is random.
func (r *Ring) wrap(b []byte, e *epoch, name keyName, key, nonce []byte) ([]byte, error) {
	r.mu.Lock()
	e.wraps++
	n := e.wraps
	r.mu.Unlock()
	if n > maxWraps {
		return nil, errors.New("seal: too many messages for one epoch key: the sweep that makes a new one has failed, see the log")
	}
	b = binary.BigEndian.AppendUint64(b, e.id)
	b = append(b, nonce...)
	var aad [64]byte
	return e.aead.Seal(b, nonce, key, wrapName(aad[:0], name.id, name.number)), nil
}

// keyName names a message's key, or that of one row.
type keyName struct {
	id     queue.ID
	number uint32
}

// unwrap appends the key of a message: from its epoch, or from a table when the
// message outlived it.
func (r *Ring) unwrap(to, wrapped []byte, name keyName) ([]byte, error) {
	id := binary.BigEndian.Uint64(wrapped)
	r.mu.Lock()
	e, carries := r.epochs[id], r.carries
	r.mu.Unlock()
	if e != nil {
		var aad [64]byte
		key, err := e.aead.Open(to, wrapped[8:8+nonceSize], wrapped[8+nonceSize:wrapSize], wrapName(aad[:0], name.id, name.number))
		if err != nil {
			return nil, ErrDamaged
		}
		return key, nil
	}
	for _, c := range carries {
		key, err := c.find(to, name)
		if err == nil || !errors.Is(err, ErrKeyGone) {
			return key, err
		}
	}
	// It may have been carried, and its epoch destroyed, between the two looks.
	r.mu.Lock()
	moved := len(r.carries) != len(carries) || len(carries) > 0 && r.carries[0] != carries[0]
	newest := r.current.id
	r.mu.Unlock()
	if moved {
		return r.unwrap(to, wrapped, name)
	}
	if id > newest {
		return nil, ErrDamaged // there never was such an epoch
	}
	return nil, ErrKeyGone
}

// dayNumber is a UTC day as it is read: 20261127.
func dayNumber(t time.Time) uint64 {
	y, m, d := t.UTC().Date()
	return uint64(y*10000 + int(m)*100 + d)
}

// dayTree returns the journal keys of a day; nil when they are gone.
func (r *Ring) dayTree(n uint64) *tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.days[n]; d != nil {
		return d.tree
	}
	return nil
}

// today returns the journal keys of today. Sweeps make them ahead of time.
func (r *Ring) today() (uint64, *tree, error) {
	n := dayNumber(time.Now())
	if t := r.dayTree(n); t != nil {
		return n, t, nil
	}
	r.work.Lock()
	defer r.work.Unlock()
	if t := r.dayTree(n); t != nil {
		return n, t, nil
	}
	if err := r.addDay(n); err != nil {
		return 0, nil, err
	}
	return n, r.dayTree(n), nil
}

// isRetired reports whether a leaf seals nothing more.
func (r *Ring) isRetired(day uint64, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.retired) == 0 {
		return false
	}
	_, yes := r.retired[leafKey(day, name)]
	return yes
}

// addDay makes the journal keys of a day. Under work.
func (r *Ring) addDay(n uint64) error {
	return r.putDay(&day{meta: meta{kind: kindJournal, id: n, created: time.Now()}, tree: newTree()})
}

// putDay makes a day's keys durable. Under work.
func (r *Ring) putDay(d *day) error {
	payload := d.tree.encode()
	defer clear(payload)
	if err := r.put(&d.meta, payload); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.days[d.id] = d
	return nil
}

// keepDays makes the keys of today and tomorrow, and destroys those that are past
// their retention. Under work.
func (r *Ring) keepDays(now time.Time) error {
	for _, t := range []time.Time{now, now.Add(24 * time.Hour)} {
		if n := dayNumber(t); r.days[n] == nil {
			if err := r.addDay(n); err != nil {
				return err
			}
		}
	}
	if r.o.Retention <= 0 {
		return nil
	}
	last := r.o.lastGone(now)
	for n, d := range r.days {
		if n > last {
			continue
		}
		r.mu.Lock()
		delete(r.days, n)
		r.mu.Unlock()
		if err := r.destroy(d.name()); err != nil {
			return err
		}
	}
	return nil
}

// puncture destroys the journal keys of messages: those of every day since the message's own.
func (r *Ring) puncture(ids []queue.ID) (int, error) {
	r.work.Lock()
	defer r.work.Unlock()
	leaves := make(map[uint64][]uint64)
	for n := range r.days {
		for _, id := range ids {
			if at := id.Time(); at.IsZero() || dayNumber(at) <= n {
				leaves[n] = append(leaves[n], leafOf(string(id)))
			}
		}
	}
	return r.lose(leaves)
}

// lose destroys leaves of days. Under work.
func (r *Ring) lose(leaves map[uint64][]uint64) (int, error) {
	lost := 0
	for id, list := range leaves {
		d := r.days[id]
		if d == nil {
			continue // the whole day is gone
		}
		// The tree before is left to the collector: somebody may be reading it.
		next, n := &day{meta: d.meta}, 0
		if next.tree, n = d.tree.without(list...); n == 0 {
			continue
		}
		next.gen++
		if err := r.putDay(next); err != nil {
			return lost, fmt.Errorf("%w (some journal keys may be destroyed, others not: erase again)", err)
		}
		if err := r.destroy(d.name()); err != nil {
			return lost, err
		}
		lost += n
	}
	return lost, nil
}

// epochOf is the epoch that wraps a key.
func epochOf(wrapped []byte) uint64 { return binary.BigEndian.Uint64(wrapped) }

func (r *Ring) hasEpoch(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epochs[id] != nil
}

// freshEpoch begins a new epoch before its time.
func (r *Ring) freshEpoch(now time.Time) error {
	r.work.Lock()
	defer r.work.Unlock()
	return r.roll(now)
}
