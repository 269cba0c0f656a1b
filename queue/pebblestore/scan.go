package pebblestore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// rowItem makes an item of a row; nil when the row is not there for others yet, or
// not any more. The fence must not be newer than the data, or who writes the row under it
// overwrites what he has not seen: a row that got its fence behind the mark, which was taken before
// value was read, is read anew.
func (s *Store) rowItem(id queue.ID, n int, value []byte, mark uint64, beside *records) (*queue.Item, error) {
	r := queue.Row{Message: id, Number: n}
	if !s.schedule.Fill(&r) {
		return nil, nil
	}
	if r.Fence > mark {
		v, ok, err := s.get(numberKey(prefixRow, id, n))
		if err != nil || !ok {
			return nil, err
		}
		value = v
	}
	stored, err := decodeRow(append([]byte(nil), value...))
	if err != nil {
		return nil, err
	}
	r.Data = stored.data
	if r.Record, err = beside.of(id); errors.Is(err, queue.ErrNotFound) {
		return nil, nil
	}
	return &queue.Item{Row: r}, err
}

// records reads the records of messages whose IDs rise. They stand in the order of the rows, so
// the next one is near, and to step there costs a tenth of looking it up.
type records struct {
	s      *Store
	it     *pebble.Iterator // nil before the first one, and after an error
	failed bool
	id     queue.ID // of the last one
	last   []byte
}

// recordSteps is how many records are stepped over before one is looked for.
const recordSteps = 8

// of returns a message's record. queue.ErrNotFound when there is none.
func (r *records) of(id queue.ID) ([]byte, error) {
	if r.id == id && r.last != nil {
		return r.last, nil
	}
	record, ok := r.near(id)
	if !ok {
		// Also when the iterator failed, or is older than the message: what it cannot tell, a
		// look-up can.
		var err error
		if record, err = r.s.record(id); err != nil {
			return nil, err
		}
	}
	r.id, r.last = id, record
	return record, nil
}

// near looks for a record with the iterator.
func (r *records) near(id queue.ID) ([]byte, bool) {
	if r.failed {
		return nil, false
	}
	key := idKey(prefixMessage, id)
	ok := true
	if r.it == nil {
		it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: []byte{prefixMessage + 1}})
		if err != nil {
			r.failed = true
			return nil, false
		}
		r.it, ok = it, it.First()
	}
	for i := 0; ok && r.it.Valid() && string(r.it.Key()) < string(key); i++ {
		if i < recordSteps {
			ok = r.it.Next()
		} else {
			ok = r.it.SeekGE(key)
		}
	}
	if r.it.Error() != nil {
		r.close()
		r.failed = true
		return nil, false
	}
	if !r.it.Valid() || string(r.it.Key()) != string(key) {
		return nil, false
	}
	return append([]byte(nil), r.it.Value()...), true
}

func (r *records) close() {
	if r.it != nil {
		_ = r.it.Close() // what it could not read is looked up
		r.it = nil
	}
}

// lanePlaces is how many rows of a lane are looked for at once.
const lanePlaces = 16 << 10

// lanePages returns what reads the rows of some lanes page by page, as rowPage those of all. The
// schedule knows which they are; the others are not read.
func (s *Store) lanePages(lanes []string) func(string, int) ([]queue.Item, string, error) {
	var ahead []queue.Place
	return func(after string, limit int) (items []queue.Item, pos string, err error) {
		if len(ahead) == 0 {
			var from queue.Place
			if after != "" {
				k, err := rowKeyAfter(after)
				if err != nil {
					return nil, "", err
				}
				from.Message, from.Number, _ = parseNumberKey(k[:len(k)-1])
			}
			if ahead = s.schedule.In(lanes, from, lanePlaces); len(ahead) == 0 {
				return nil, "", nil
			}
		}
		beside := records{s: s}
		defer beside.close()
		octets := 0
		for len(ahead) > 0 && len(items) < limit && octets <= pageOctets {
			p := ahead[0]
			ahead = ahead[1:]
			pos = rowPos(p.Message, p.Number)
			item, err := s.placeItem(p, &beside)
			if err != nil {
				s.log.Errorf("row %s cannot be read: %v", pos, err)
				continue
			}
			if item != nil {
				item.Pos = pos
				items = append(items, *item)
				octets += len(item.Row.Data)
			}
		}
		return items, pos, nil
	}
}

// placeItem reads a row; nil when it is not there any more.
func (s *Store) placeItem(p queue.Place, beside *records) (*queue.Item, error) {
	mark := s.schedule.Mark()
	v, ok, err := s.get(numberKey(prefixRow, p.Message, p.Number))
	if err != nil || !ok {
		return nil, err
	}
	return s.rowItem(p.Message, p.Number, v, mark, beside)
}
