package queue

// heap is a binary min-heap whose order tells each item its place, so that items can
// be moved and removed from the middle.
type heap[T any] struct{ items []T }

// order is what a heap is sorted by.
type order[T any] interface {
	less(a, b T) bool
	moved(item T, place int) // place -1: taken out
}

func (h *heap[T]) top() (item T, ok bool) {
	if len(h.items) == 0 {
		return item, false
	}
	return h.items[0], true
}

func (h *heap[T]) push(o order[T], item T) {
	h.items = append(h.items, item)
	o.moved(item, len(h.items)-1)
	h.up(o, len(h.items)-1)
}

func (h *heap[T]) remove(o order[T], i int) {
	item, last := h.items[i], len(h.items)-1
	h.swap(o, i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i < last {
		h.fix(o, i)
	}
	o.moved(item, -1)
	if cap(h.items) > 64 && last < cap(h.items)/4 {
		h.items = append(make([]T, 0, cap(h.items)/2), h.items...)
	}
}

// fix restores the order after the item at i has changed.
func (h *heap[T]) fix(o order[T], i int) {
	if !h.down(o, i) {
		h.up(o, i)
	}
}

func (h *heap[T]) up(o order[T], i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !o.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(o, i, parent)
		i = parent
	}
}

func (h *heap[T]) down(o order[T], i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && o.less(h.items[right], h.items[child]) {
			child = right
		}
		if !o.less(h.items[child], h.items[i]) {
			break
		}
		h.swap(o, i, child)
		i = child
	}
	return i > start
}

func (h *heap[T]) swap(o order[T], i, j int) {
	if i == j {
		return
	}
	h.items[i], h.items[j] = h.items[j], h.items[i]
	o.moved(h.items[i], i)
	o.moved(h.items[j], j)
}
