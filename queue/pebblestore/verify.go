package pebblestore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// Verify checks the chain of all journal entries, while the store is used. An error
// says that the check could not be done, not that something is broken. It holds a page in
// memory at a time.
func (s *Store) Verify(ctx context.Context, o queue.VerifyOptions) (queue.Proof, error) {
	if len(o.Keys) == 0 && s.signer.key != nil {
		o.Keys = []ed25519.PublicKey{s.signer.key.Public().(ed25519.PublicKey)}
	}
	return verify(ctx, s.db, o, s.journal.upTo.Load)
}

// audit is a check that runs.
type audit struct {
	db    *pebble.DB
	o     queue.CheckOptions
	c     *queue.Checker
	upTo  uint64 // entries below
	until uint64 // heads up to it
	heads []head // that were read and not shown yet
	after uint64 // index of the last one that was read
	done  bool   // there are no more
}

type head struct {
	index  uint64
	stored []byte
	number uint64 // 0: it cannot be read, and is shown at once
}

func verify(ctx context.Context, db *pebble.DB, o queue.VerifyOptions, upTo func() uint64) (queue.Proof, error) {
	a := &audit{db: db, o: queue.CheckOptions{Keys: o.Keys, Note: o.Note}}
	var err error
	// In this order: a mark that moves meanwhile is seen again by mend.
	for range 100 {
		if a.o.Low, err = loadLow(db); err != nil {
			return queue.Proof{}, err
		}
		if a.o.Latest, a.until, err = newestHead(db, &a.o); err != nil {
			return queue.Proof{}, err
		}
		again, err := loadLow(db)
		if err != nil {
			return queue.Proof{}, err
		}
		if again == a.o.Low {
			break
		}
	}
	a.upTo = upTo()
	if a.o.Latest != nil { // what a head names is before it in the log
		a.upTo = max(a.upTo, a.o.Latest.Number+1)
	}
	a.c = queue.NewChecker(a.o)
	for {
		more, err := a.page(ctx)
		if err != nil {
			return queue.Proof{}, err
		}
		if !more {
			break
		}
	}
	// The rest of the heads too: they may know of entries that are not there.
	if err := a.headsBefore(math.MaxUint64); err != nil {
		return queue.Proof{}, err
	}
	return a.c.End(), nil
}

// page shows some entries, and the heads before each.
func (a *audit) page(ctx context.Context) (more bool, err error) {
	from := a.c.Expected()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if from >= a.upTo {
		return false, nil
	}
	it, err := a.db.NewIter(&pebble.IterOptions{
		LowerBound: sequenceKey(prefixJournal, from), UpperBound: sequenceKey(prefixJournal, a.upTo),
	})
	if err != nil {
		return false, err
	}
	defer it.Close()
	octets := 0
	for it.First(); it.Valid(); it.Next() {
		if octets > pageOctets {
			return true, nil
		}
		n, err := parseSequence(it.Key())
		if err != nil {
			return false, err
		}
		if n > a.c.Expected() {
			if again, err := a.mend(); again || err != nil {
				return true, err
			}
		}
		if err := a.headsBefore(n); err != nil {
			return false, err
		}
		a.show(n, it.Value())
		octets += len(it.Value())
	}
	if err := it.Error(); err != nil {
		return a.damaged(err)
	}
	if a.c.Expected() < a.upTo { // the last page, or all of it was removed meanwhile
		return a.mend()
	}
	return false, nil
}

// show gives an entry to the checker.
func (a *audit) show(n uint64, value []byte) {
	switch e, err := decodeEntry(value); {
	case err != nil:
		a.c.Damaged(n, n, err)
	case e.chained:
		a.c.Entry(n, e.at, e.link, e.octets)
	default:
		a.c.Plain(n, e.at)
	}
}

// mend looks whether entries are missing by right: removed since the check began. It
// reports true when the check goes on at another place.
func (a *audit) mend() (bool, error) {
	latest, _, err := newestHead(a.db, &a.o)
	if err != nil || latest == nil || latest.Low <= a.c.Expected() {
		return false, err
	}
	a.c.Trimmed(*latest)
	a.heads = nil
	return a.c.Expected() < a.upTo, nil
}

// damaged finds out how far the damage reaches: the first number behind it that can be
// read, by halving.
func (a *audit) damaged(cause error) (bool, error) {
	if !pebble.IsCorruptionError(cause) {
		return false, cause
	}
	first := a.c.Expected()
	bad, good := first, a.upTo // bad cannot be read, good is the end or can be
	for step := uint64(1); bad+step < a.upTo; step *= 2 {
		if a.readable(bad + step) {
			good = bad + step
			break
		}
		bad += step
	}
	for good-bad > 1 {
		if mid := bad + (good-bad)/2; a.readable(mid) {
			good = mid
		} else {
			bad = mid
		}
	}
	if err := a.headsBefore(first); err != nil {
		return false, err
	}
	a.c.Damaged(first, good-1, fmt.Errorf("the disk gives back something else than was written: %w", cause))
	return good < a.upTo, nil
}

// readable reports whether an entry, or the next one behind it, can be read.
func (a *audit) readable(n uint64) bool {
	it, err := a.db.NewIter(&pebble.IterOptions{LowerBound: sequenceKey(prefixJournal, n), UpperBound: sequenceKey(prefixJournal, a.upTo)})
	if err != nil {
		return false
	}
	it.First()
	err = it.Error()
	return errors.Join(err, it.Close()) == nil
}

// headsBefore shows the heads about entries below a number.
func (a *audit) headsBefore(n uint64) error {
	for {
		if len(a.heads) == 0 && !a.done {
			if err := a.moreHeads(); err != nil {
				return err
			}
		}
		if len(a.heads) == 0 || a.heads[0].number >= n {
			return nil
		}
		a.c.Head(a.heads[0].index, a.heads[0].stored)
		a.heads = a.heads[1:]
	}
}

// moreHeads reads a page of heads.
func (a *audit) moreHeads() error {
	it, err := a.db.NewIter(&pebble.IterOptions{
		LowerBound: sequenceKey(prefixHead, a.after+1), UpperBound: sequenceKey(prefixHead, a.until+1),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	it.First()
	for ; it.Valid() && len(a.heads) < pageItems; it.Next() {
		index, err := parseSequence(it.Key())
		if err != nil {
			return err
		}
		h := head{index: index, stored: append([]byte(nil), it.Value()...)}
		if parsed, err := a.o.Good(index, h.stored); err == nil {
			h.number = parsed.Number
		}
		a.heads = append(a.heads, h)
		a.after = index
	}
	a.done = !it.Valid()
	return it.Error()
}
