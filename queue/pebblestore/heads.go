package pebblestore

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// A head is signed when there are so many new entries, or so long after the last one when
// there is any.
const (
	headEntries = 4096
	headEvery   = 30 * time.Second
)

// signer signs heads. Owned by the goroutine of keep, and by Open and Close before and
// after it.
type signer struct {
	key  ed25519.PrivateKey // nil: there is none, and nobody may make one (Options.Guest)
	last queue.Head         // Index 0: none yet
	hash queue.Hash         // of it
}

// next is a head about an entry, to be signed.
func (g *signer) next(number uint64, link queue.Hash, now time.Time) queue.Head {
	return queue.Head{
		Index: g.last.Index + 1, Number: number, Hash: link, At: now,
		Start: g.last.Start, Low: g.last.Low, Anchor: g.last.Anchor, Previous: g.hash,
	}
}

// put signs a head into a batch and returns its stored form.
func (g *signer) put(b *pebble.Batch, h *queue.Head) []byte {
	stored := queue.SignHead(h, g.key)
	set(b, sequenceKey(prefixHead, h.Index), stored)
	return stored
}

// signed takes note of a head that is on disk, and with it all that is before it in the log.
func (s *Store) signed(h queue.Head, stored []byte) {
	s.journal.synced(h.Number + 1)
	s.signer.last, s.signer.hash = h, queue.HeadHash(stored)
	s.journal.headDue.Store(h.Number + headEntries)
}

// sign writes a head when there are new entries. All that it names is before it in the
// log, which a crash cuts at one place only.
func (s *Store) sign(now time.Time) error {
	s.order.Lock()
	number, link := s.journal.next-1, s.journal.link
	s.order.Unlock()
	if number <= s.signer.last.Number {
		return nil
	}
	return s.commitHead(s.signer.next(number, link, now))
}

func (s *Store) commitHead(h queue.Head) error {
	if s.signer.key == nil {
		return nil
	}
	b := s.db.NewBatch()
	defer b.Close()
	stored := s.signer.put(b, &h)
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("signed head: %w", err)
	}
	s.signed(h, stored)
	return nil
}

// removeHeads removes the heads about entries that go.
func (s *Store) removeHeads(b *pebble.Batch, low uint64) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixHead}, UpperBound: []byte{prefixHead + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if h, err := queue.ParseHead(it.Value()); err == nil && h.Number+1 >= low {
			break
		}
		_ = b.Delete(it.Key(), nil)
	}
	return it.Error()
}

// loadJournal takes key, heads and entries up, and begins the chain where there is none.
func (s *Store) loadJournal(o *Options) (err error) {
	dir := o.KeyDir
	if dir == "" {
		dir = o.Dir
	}
	there := exists(o.fs, o.fs.PathJoin(dir, keyFile))
	if public := publicIn(o.fs, dir); !there && public != nil {
		// The public half alone is what a crash leaves while the first key is made, too.
		if head, _, err := newestHead(s.db, &queue.CheckOptions{Keys: []ed25519.PublicKey{public}}); err == nil && head != nil {
			return fmt.Errorf("key of the journal: %s is missing, and %s beside it is that of the heads so far: put it back; to go on with a new key move %s away, and keep it to verify what was signed with it",
				o.fs.PathJoin(dir, keyFile), PublicKeyFile, PublicKeyFile)
		}
	}
	if !o.Guest || there {
		if s.signer.key, err = loadKey(o.fs, dir, s.log); err != nil {
			return err
		}
	}
	head, last, err := newestHead(s.db, &queue.CheckOptions{})
	if err != nil {
		return err
	}
	if err := s.journal.load(s.db, head); err != nil {
		return err
	}
	if head == nil {
		if last > 0 {
			s.log.Errorf("journal: none of its %d signed heads is good: a new chain begins; what is wrong: sealpost audit verify", last)
		}
		h := s.signer.next(s.journal.next-1, s.journal.link, time.Now())
		h.Index, h.Start, h.Low = last+1, s.journal.next, s.journal.low.Load()
		return s.commitHead(h)
	}
	if head.Index != last {
		s.log.Errorf("journal: its newest signed head is not good: what is wrong: sealpost audit verify")
	}
	if s.signer.key != nil && string(head.Key) != string(s.signer.key.Public().(ed25519.PublicKey)) {
		s.log.Errorf("journal: the heads so far were signed with another key than the one in %s: keep both public keys to verify", dir)
	}
	stored, ok, err := s.get(sequenceKey(prefixHead, last))
	if err != nil || !ok {
		return errors.Join(err, errors.New("the newest head is gone"))
	}
	s.signed(*head, stored)
	s.signer.last.Index = last
	return nil
}

// newestHead finds the newest head that is good, and the number of the newest of all.
func newestHead(db *pebble.DB, o *queue.CheckOptions) (good *queue.Head, last uint64, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixHead}, UpperBound: []byte{prefixHead + 1}})
	if err != nil {
		return nil, 0, err
	}
	defer it.Close()
	for it.Last(); it.Valid(); it.Prev() {
		index, err := parseSequence(it.Key())
		if err != nil {
			return nil, 0, err
		}
		last = max(last, index)
		if h, err := o.Good(index, it.Value()); err == nil {
			return &h, last, nil
		}
	}
	return nil, last, it.Error()
}

func exists(disk vfs.FS, path string) bool {
	_, err := disk.Stat(path)
	return err == nil
}
