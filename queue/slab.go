package queue

// slab holds items of one size in pages and names them by number. A million of them
// are a few hundred objects to the garbage collector, and a number is half a pointer.
type slab[T any] struct {
	pages []*[slabPage]T
	free  []uint32 // numbers that were given back
	next  uint32   // numbers from here on were never given
}

const slabPage = 1024 // items of a page

// at returns the item, which stays where it is.
func (s *slab[T]) at(n uint32) *T { return &s.pages[n/slabPage][n%slabPage] }

// add returns the number of a zero item.
func (s *slab[T]) add() uint32 {
	if n := len(s.free); n > 0 {
		last := s.free[n-1]
		s.free = s.free[:n-1]
		return last
	}
	if int(s.next/slabPage) == len(s.pages) {
		s.pages = append(s.pages, new([slabPage]T))
	}
	s.next++
	return s.next - 1
}

// drop gives a number back. With the last one all memory goes but for one page: a relay
// with a message now and then would make and clear new pages for each.
func (s *slab[T]) drop(n uint32) {
	var zero T
	*s.at(n) = zero
	if s.free = append(s.free, n); len(s.free) < int(s.next) {
		return
	}
	s.next = 0
	if s.free = s.free[:0]; cap(s.free) > slabPage {
		s.free = nil
	}
	if len(s.pages) > 1 {
		s.pages = []*[slabPage]T{s.pages[0]}
	}
}

// len is the number of items.
func (s *slab[T]) len() int { return int(s.next) - len(s.free) }

// table finds the number that belongs to a message ID: a hash table with open
// addressing that keeps 8 octets for a message. The IDs are where the numbers lead to;
// a half of the hash is kept beside the number, so that others' IDs, which are far away in
// memory, need not be looked at.
type table struct {
	cells []cell // a power of two of them
	count int
	id    func(number uint32) packedID
}

type cell struct {
	hash  uint32
	after uint32 // number+1; 0: empty
}

const tableSize = 64 // cells at least

// hash mixes an ID, whose lower half is random.
func (p packedID) hash() uint32 { return uint32((p.lo * 0x9e3779b97f4a7c15) >> 32) }

// find returns where an ID is, or where it would be put. The table has room.
func (t *table) find(id packedID) (place int, ok bool) {
	hash, mask := id.hash(), len(t.cells)-1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		c := t.cells[i]
		if c.after == 0 {
			return i, false
		}
		if c.hash == hash && t.id(c.after-1) == id {
			return i, true
		}
	}
}

// get returns the number of an ID.
func (t *table) get(id packedID) (number uint32, ok bool) {
	if t.count == 0 {
		return 0, false
	}
	i, ok := t.find(id)
	if !ok {
		return 0, false
	}
	return t.cells[i].after - 1, true
}

// put gives an ID a number unless it has one, which it returns.
func (t *table) put(id packedID, number uint32) (before uint32, ok bool) {
	if (t.count+1)*4 > len(t.cells)*3 {
		t.resize(max(tableSize, len(t.cells)*2))
	}
	i, ok := t.find(id)
	if ok {
		return t.cells[i].after - 1, true
	}
	t.count++
	t.cells[i] = cell{id.hash(), number + 1}
	return 0, false
}

// change gives an ID that is there another number.
func (t *table) change(id packedID, number uint32) {
	i, _ := t.find(id)
	t.cells[i].after = number + 1
}

// remove forgets an ID, whose number still leads to it.
func (t *table) remove(id packedID) {
	if t.count == 0 {
		return
	}
	hole, ok := t.find(id)
	if !ok {
		return
	}
	// What stands behind the hole moves up, unless it would then stand before its home.
	mask := len(t.cells) - 1
	for i := (hole + 1) & mask; t.cells[i].after != 0; i = (i + 1) & mask {
		if home := int(t.cells[i].hash) & mask; (i-home)&mask >= (i-hole)&mask {
			t.cells[hole], hole = t.cells[i], i
		}
	}
	t.cells[hole] = cell{}
	if t.count--; len(t.cells) > tableSize && t.count*8 < len(t.cells) {
		t.resize(len(t.cells) / 2)
	}
}

func (t *table) resize(size int) {
	old := t.cells
	t.cells = make([]cell, size)
	for _, c := range old {
		if c.after == 0 {
			continue
		}
		i := int(c.hash) & (size - 1)
		for t.cells[i].after != 0 {
			i = (i + 1) & (size - 1)
		}
		t.cells[i] = c
	}
}
