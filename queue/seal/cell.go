package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/sealpost/sealpost/queue"
)

// Cell returns a small value: see queue.Store.
func (s *Store) Cell(ctx context.Context, name string) ([]byte, error) {
	stored := s.names.cell(name)
	v, err := s.inner.Cell(ctx, stored)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return s.plainCell(ctx, name)
	}
	_, value, err := s.openCell(stored, v)
	return value, err
}

// plainCell returns a cell from before sealing. The mark is nobody's but ours.
func (s *Store) plainCell(ctx context.Context, name string) ([]byte, error) {
	if name == markCell || s.o.RefusePlain {
		return nil, nil
	}
	return s.inner.Cell(ctx, name)
}

// SetCell sets it; nil removes it.
func (s *Store) SetCell(ctx context.Context, name string, value []byte) error {
	stored := s.names.cell(name)
	old, err := s.plainCell(ctx, name)
	if err != nil {
		return err
	}
	if value != nil {
		value = sealCell(s.names, cellParts{stored, name, random(nonceSize), value})
	}
	if err := s.inner.SetCell(ctx, stored, value); err != nil {
		return err
	}
	if old != nil {
		return s.inner.SetCell(ctx, name, nil) // its plain form
	}
	return nil
}

// scanCells calls fn for the cells by their names. In the store behind they are in
// another order, so the names are gathered first; there are few, and values are read one by one.
func (s *Store) scanCells(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	var names []string
	err := s.inner.Scan(ctx, queue.ScanQuery{Kind: queue.ScanCells}, func(it queue.Item) error {
		name := it.Pos
		if isSealed(it.Entry) {
			var err error
			if name, _, err = s.openCell(it.Pos, it.Entry); err != nil {
				s.report(err)
				return nil
			}
		} else if name == markCell || s.o.RefusePlain {
			return nil
		}
		if name > q.After {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	names = slices.Compact(names) // sealed, and still there as it was before
	if q.Limit > 0 && len(names) > q.Limit {
		names = names[:q.Limit]
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		value, err := s.Cell(ctx, name)
		if err != nil {
			return err
		}
		if value == nil {
			continue // removed meanwhile
		}
		if err := fn(queue.Item{Pos: name, Entry: value}); errors.Is(err, queue.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// cellHead is the length of a cell before its ciphertext.
const cellHead = 2 + nonceSize

// cellParts is what a sealed cell is made of; stored is its name in the store behind.
type cellParts struct {
	stored, name string
	nonce, value []byte
}

// sealCell seals a cell with its name.
func sealCell(names *namer, p cellParts) []byte {
	b := append(make([]byte, 0, cellHead+binary.MaxVarintLen32+len(p.name)+len(p.value)+tagSize), version, boxCell)
	b = append(b, p.nonce...)
	b = binary.AppendUvarint(b, uint64(len(p.name)))
	b = append(b, p.name...)
	b = append(b, p.value...)
	return names.cellKey(p.stored).Seal(b[:cellHead], p.nonce, b[cellHead:], []byte("c"+p.stored))
}

// openCell opens a cell by the name that it has in the store behind.
func (s *Store) openCell(stored string, b []byte) (name string, value []byte, err error) {
	_, err = check(b, func(kind byte) int {
		if kind == boxCell {
			return cellHead + tagSize
		}
		return 0
	})
	if err == nil {
		name, value, err = openCell(s.names, stored, b)
	}
	if err != nil {
		return "", nil, &Damage{What: "cell", Pos: stored, Err: err}
	}
	return name, value, nil
}

func openCell(names *namer, stored string, b []byte) (string, []byte, error) {
	plain, err := names.cellKey(stored).Open(nil, b[2:cellHead], b[cellHead:], []byte("c"+stored))
	if err != nil {
		return "", nil, ErrDamaged
	}
	length, n := binary.Uvarint(plain)
	if n <= 0 || length > uint64(len(plain)-n) {
		return "", nil, ErrDamaged
	}
	return string(plain[n : n+int(length)]), bytes.Clone(plain[n+int(length):]), nil
}
