package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// skipWidth is how many octets of a key behind its prefix tell where a damaged part ends.
const skipWidth = idSize + 4

// cursor walks over the keys of one prefix. Behind a part that cannot be read it goes on.
type cursor struct {
	it    *pebble.Iterator
	upper []byte
	last  []byte // nothing at or below it is wanted any more
	gaps  []gap
	err   error
}

// gap is a part that could not be read: what is above from and below to.
type gap struct{ from, to []byte }

// walk begins at a key. Close it.
func (s *Store) walk(from, upper []byte) (*cursor, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &cursor{it: it, upper: upper, last: from}, nil
}

func (c *cursor) close() error { return c.it.Close() }

// next reports whether there is another key; it is the iterator's then.
func (c *cursor) next(first bool) bool {
	ok := false
	if first {
		ok = c.it.First()
	} else {
		c.last = append(c.last[:0:0], c.it.Key()...)
		ok = c.it.Next()
	}
	if !ok {
		c.err = c.it.Error()
		if pebble.IsCorruptionError(c.err) {
			ok = c.skip()
		}
	}
	return ok
}

// skip looks for the end of a part that cannot be read, first near and then farther off, so
// that it does not pass over what is good, and from there back to where it begins.
func (c *cursor) skip() bool {
	bad := number(c.last)
	step, one := big.NewInt(1), big.NewInt(1)
	good := new(big.Int)
	for {
		good.Add(bad, step)
		key := c.key(good)
		if bytes.Compare(key, c.upper) >= 0 {
			key = c.upper
			good = number(key)
		}
		if c.readable(key) {
			break
		}
		if bytes.Equal(key, c.upper) {
			return false // c.err says why
		}
		bad.Set(good)
		step.Lsh(step, 1)
	}
	for {
		middle := new(big.Int).Add(bad, good)
		middle.Rsh(middle, 1)
		if middle.Cmp(bad) == 0 {
			break
		}
		if c.readable(c.key(middle)) {
			good = middle
		} else {
			bad = middle
		}
		if new(big.Int).Sub(good, bad).Cmp(one) <= 0 {
			break
		}
	}
	end := c.key(good)
	if bytes.Compare(end, c.upper) > 0 {
		end = c.upper
	}
	c.gaps = append(c.gaps, gap{c.last, end})
	c.err = nil
	return c.it.SeekGE(end)
}

func (c *cursor) readable(key []byte) bool {
	if bytes.Compare(key, c.upper) >= 0 {
		return true // nothing is there
	}
	return c.it.SeekGE(key) || c.it.Error() == nil
}

// number is a key behind its prefix as a number.
func number(key []byte) *big.Int {
	var b [skipWidth + 1]byte // one more, for what the upper bound has in the prefix
	b[0] = 0
	copy(b[1:], key[1:])
	return new(big.Int).SetBytes(b[:])
}

func (c *cursor) key(n *big.Int) []byte {
	var b [skipWidth + 1]byte
	if n.BitLen() > 8*skipWidth {
		return c.upper
	}
	n.FillBytes(b[:])
	b[0] = c.last[0]
	return b[:]
}

// ids are the message IDs between which a gap of rows, records or bodies is.
func (g gap) ids() (from, to queue.ID) {
	cut := func(key []byte) queue.ID { return queue.ID(key[min(1, len(key)):min(1+idSize, len(key))]) }
	return cut(g.from), cut(g.to)
}

// tell reports rows that cannot be read: by the records of their messages, which stand
// elsewhere, it is known whose they are.
func (s *Store) tell(gaps []gap) {
	for _, g := range gaps {
		from, to := g.ids()
		d := Damage{File: "queue", What: fmt.Sprintf("envelopes from message %q to %q cannot be read: their messages are not delivered", from, to)}
		upper := append(idKey(prefixMessage, to), 0)
		if bytes.Equal(g.to, []byte{prefixRow + 1}) {
			upper = []byte{prefixMessage + 1}
		}
		c, err := s.walk(idKey(prefixMessage, from), upper)
		if err != nil {
			s.log.note(d)
			continue
		}
		for ok := c.next(true); ok; ok = c.next(false) {
			if id := queue.ID(c.it.Key()[1:]); len(s.schedule.Rows(id)) == 0 {
				if d.Messages = append(d.Messages, id); len(d.Messages) == damageNames {
					s.log.note(d)
					d.Messages, d.What = nil, fmt.Sprintf("envelopes behind message %q cannot be read either", id)
				}
			}
		}
		_ = c.close() // what could be named is
		s.log.note(d)
	}
}

// tellOther reports what a walk could not read of entries and cells.
func (s *Store) tellOther(c *cursor, what string) {
	for _, g := range c.gaps {
		s.log.note(Damage{File: "queue", What: fmt.Sprintf("%s between %q and %q cannot be read: they are missing", what, g.from[1:], g.to[1:])})
	}
}

// asideFor is how long a row that cannot be read is kept from being claimed: until the
// next start, where it is looked at once more.
const asideFor = 100 * 365 * 24 * time.Hour

// setAside keeps a claimed row that cannot be read from being claimed again. On disk
// it stays as it is.
func (s *Store) setAside(r *queue.Row, err error) {
	var io *fs.PathError
	if errors.As(err, &io) && !pebble.IsCorruptionError(err) {
		s.log.Errorf("message %s: a due row cannot be read and waits: %v", r.Message, err)
		return
	}
	held := *r
	held.State, held.Due = queue.RowHeld, time.Now().Add(asideFor)
	c := &queue.Change{Update: []queue.Row{held}}
	if p, err := s.schedule.Prepare(c); err == nil {
		s.schedule.Apply(c, p)
	}
	s.log.note(Damage{File: "queue", Messages: []queue.ID{r.Message},
		What: fmt.Sprintf("envelope %s cannot be read and is set aside until the next start", r.Message.EnvelopeID(r.Number))})
}
