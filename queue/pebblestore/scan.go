package pebblestore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/queue"
)

// rowItem makes an item of a row; nil when the row is not there for others yet, or
// not any more. value is of an iterator that was begun after the schedule's mark was taken: a
// row that has another fence since then is read anew, or an old value would be given with a fence
// by which it can be written.
func (s *Store) rowItem(p queue.Place, value []byte, mark uint64, beside *records) (*queue.Item, error) {
	stored, err := decodeRow(value)
	if err != nil {
		return nil, err
	}
	r := queue.Row{Message: p.Message, Number: p.Number}
	if !s.schedule.Fill(&r) {
		return nil, nil
	}
	if r.Fence > mark {
		v, ok, err := s.get(numberKey(prefixRow, p.Message, p.Number))
		if err != nil || !ok {
			return nil, err
		}
		if stored, err = decodeRow(v); err != nil {
			return nil, err
		}
	}
	r.Data = stored.data
	if r.Record, err = beside.of(p.Message); errors.Is(err, queue.ErrNotFound) {
		return nil, nil
	}
	return &queue.Item{Row: r}, err
}

// records reads the records of messages whose IDs rise.
type records struct {
	near
	id   queue.ID // of the last one
	last []byte
}

// of returns a message's record. queue.ErrNotFound when there is none.
func (r *records) of(id queue.ID) ([]byte, error) {
	if r.id == id && r.last != nil {
		return r.last, nil
	}
	record, ok, err := r.get(idKey(prefixMessage, id))
	if err == nil && !ok {
		err = queue.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r.id, r.last = id, record
	return record, nil
}

// near reads values of one prefix whose keys rise, most often. The next one is not far off then,
// and to step there costs a tenth of looking it up. Close it.
type near struct {
	s      *Store
	it     *pebble.Iterator // nil before the first one, and after an error
	failed bool
}

// nearSteps is how many keys are stepped over before one is looked for.
const nearSteps = 16

// get is Store.get. What the iterator cannot tell, because it fails, is older than the key or
// has passed it, is looked up.
func (n *near) get(key []byte) ([]byte, bool, error) {
	if value, ok := n.step(key); ok {
		return value, true, nil
	}
	return n.s.get(key)
}

func (n *near) step(key []byte) ([]byte, bool) {
	if n.failed {
		return nil, false
	}
	ok := true
	if n.it == nil {
		it, err := n.s.db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: []byte{key[0] + 1}})
		if err != nil {
			n.failed = true
			return nil, false
		}
		n.it, ok = it, it.First()
	}
	for i := 0; ok && string(n.it.Key()) < string(key); i++ {
		if i < nearSteps {
			ok = n.it.Next()
		} else {
			ok = n.it.SeekGE(key)
		}
	}
	if n.it.Error() != nil {
		n.close()
		n.failed = true
		return nil, false
	}
	if !ok || string(n.it.Key()) != string(key) {
		return nil, false
	}
	return append(make([]byte, 0, len(n.it.Value())), n.it.Value()...), true
}

func (n *near) close() {
	if n.it != nil {
		_ = n.it.Close() // what it could not read is looked up
		n.it = nil
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
		r := s.inOrder()
		defer r.close()
		octets := 0
		for len(ahead) > 0 && len(items) < limit && octets <= pageOctets {
			p := ahead[0]
			ahead = ahead[1:]
			pos = rowPos(p.Message, p.Number)
			item, err := s.placeItem(p, r)
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
func (s *Store) placeItem(p queue.Place, r *inOrder) (*queue.Item, error) {
	v, ok, err := r.rows.get(numberKey(prefixRow, p.Message, p.Number))
	if err != nil || !ok {
		return nil, err
	}
	return s.rowItem(p, v, r.mark, &r.records)
}

// inOrder reads rows with their records, in their order.
type inOrder struct {
	mark    uint64 // of the schedule, from before
	rows    near
	records records
}

func (s *Store) inOrder() *inOrder {
	return &inOrder{s.schedule.Mark(), near{s: s}, records{near: near{s: s}}}
}

// fill is Store.fillIn.
func (r *inOrder) fill(row *queue.Row) error { return r.rows.s.fillBy(row, r.rows.get, r.records.of) }

func (r *inOrder) close() {
	r.rows.close()
	r.records.close()
}
