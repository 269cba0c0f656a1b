package pebblestore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// Logs and manifests are records cut into chunks, in blocks of 32 KiB that no chunk
// crosses. Pebble reads them to the first chunk that does not check and takes that for the
// end, unless a later one proves it wrong: what is behind a wrong octet is lost in silence.
// Here the whole file is read.
const (
	chunkBlock  = 32 << 10
	legacyHead  = 7  // checksum, length, kind
	recycleHead = 11 // and the log's number
	syncHead    = 19 // and how far the log was synced
)

// Kinds of chunk come in threes of four: plain, with the log's number, with the synced
// length too. Within each: whole record, first, middle, last.
const (
	kindsPerForm = 4
	lastKind     = 3 * kindsPerForm
)

// parts of a record, by (kind-1)%kindsPerForm.
const (
	partWhole = iota
	partFirst
	partMiddle
	partLast
)

// chunked is a log or a manifest as it is read.
type chunked struct {
	data   []byte
	number uint32 // the log's; chunks of other logs are left from before it was recycled
	log    bool
	check  *checker

	records [][2]int // where whole records begin and end, headers included
	wrong   []stretch
	begun   int  // where the record that is not whole yet begins; -1: none
	closed  bool // ended as a log does that is closed
}

// stretch is a part of a file that does not check.
type stretch struct {
	from, to int
	mended   int // the octet that was put right; -1: none could be
}

// chunk is one that checks.
type chunk struct {
	end  int
	part int
	last bool // the mark at the end of a log that was closed
}

// read goes through the file. What does not check counts as wrong when something that is
// ours stands behind it; what is left at the end may be a write that power or process
// did not live to end.
func (r *chunked) read() {
	r.begun = -1
	suspect := -1 // from here on nothing checks
	settle := func(at int) {
		if suspect >= 0 {
			r.wrong = append(r.wrong, stretch{suspect, at, -1})
			suspect, r.begun = -1, -1
		}
	}
	for block := 0; block < len(r.data) && !r.closed; block += chunkBlock {
		end := min(block+chunkBlock, len(r.data))
		for at := block; at+legacyHead <= end; {
			if zero(r.data[at:end]) && (end < len(r.data) || suspect < 0) {
				break // padding, or room for chunks to come
			}
			c, ok := r.chunk(at, end)
			if !ok && suspect < 0 {
				c, ok = r.mend(at, end)
			}
			if !ok {
				if suspect < 0 {
					suspect = at
					if r.begun >= 0 {
						suspect = r.begun
					}
				}
				at++
				continue
			}
			settle(at)
			if c.last {
				r.closed = true
				break
			}
			r.take(at, c)
			at = c.end
		}
	}
	if suspect >= 0 || r.begun >= 0 && !r.closed {
		r.tail(suspect)
	}
}

// take adds a chunk to the record that is being read.
func (r *chunked) take(at int, c chunk) {
	switch c.part {
	case partWhole:
		r.records, r.begun = append(r.records, [2]int{at, c.end}), -1
	case partFirst:
		r.begun = at
	case partLast:
		if r.begun >= 0 {
			r.records = append(r.records, [2]int{r.begun, c.end})
		}
		r.begun = -1
	}
}

// tail notes an end that does not check, when it is of our own.
func (r *chunked) tail(suspect int) {
	from := r.begun
	if from < 0 {
		from = suspect
	}
	if from+legacyHead > len(r.data) || r.begun < 0 && r.log && !r.ours(from) {
		return
	}
	r.wrong = append(r.wrong, stretch{from, len(r.data), -1})
}

// ours reports whether a chunk that does not check has the number of this log.
func (r *chunked) ours(at int) bool {
	kind := r.data[at+6]
	return kind > kindsPerForm && kind <= lastKind && at+recycleHead <= len(r.data) &&
		binary.LittleEndian.Uint32(r.data[at+legacyHead:]) == r.number
}

// lost returns the first part that could not be put right.
func (r *chunked) lost() (stretch, bool) {
	for _, w := range r.wrong {
		if w.mended < 0 {
			return w, true
		}
	}
	return stretch{}, false
}

// chunk reads one that checks.
func (r *chunked) chunk(at, end int) (chunk, bool) {
	kind := int(r.data[at+6])
	head := r.head(kind)
	if head == 0 || at+head > end {
		return chunk{}, false
	}
	c := chunk{end: at + head + int(binary.LittleEndian.Uint16(r.data[at+4:])), part: (kind - 1) % kindsPerForm}
	if c.end > end {
		return chunk{}, false
	}
	if head > legacyHead {
		switch binary.LittleEndian.Uint32(r.data[at+legacyHead:]) {
		case r.number:
		case r.number + 1:
			// Empty, with the number of the next log: the end of one that was closed.
			if c.last = c.end == at+head; !c.last {
				return chunk{}, false
			}
		default:
			return chunk{}, false
		}
	}
	return c, binary.LittleEndian.Uint32(r.data[at:]) == r.check.sum(r.data[at+6:c.end])
}

// head is the size of the header of a kind of chunk that belongs here, else 0.
func (r *chunked) head(kind int) int {
	switch {
	case kind == 0 || kind > lastKind:
	case kind <= kindsPerForm: // also in a log that was written anew
		return legacyHead
	case r.log && kind > 2*kindsPerForm:
		return syncHead
	case r.log && kind > kindsPerForm:
		return recycleHead
	}
	return 0
}

// mend puts right the one octet that keeps a chunk from checking, if there is one.
func (r *chunked) mend(at, end int) (chunk, bool) {
	head := legacyHead
	if r.log {
		head = syncHead // as all are that we write
	}
	length := int(binary.LittleEndian.Uint16(r.data[at+4:]))
	if stop := at + head + length; stop <= end {
		stored, computed := binary.LittleEndian.Uint32(r.data[at:]), r.check.sum(r.data[at+6:stop])
		if f, ok := r.check.find(stored, computed, stop-at-6); ok {
			place := at + 6 + f.at
			if place >= stop {
				place = at + place - stop // in the checksum itself
			}
			return r.try(at, end, place, r.data[place]^f.with)
		}
	}
	return r.mendLength(at, end, head)
}

// mendLength looks for the length with which a chunk checks: it is not in its own checksum.
func (r *chunked) mendLength(at, end, head int) (chunk, bool) {
	if at+head > end || r.head(int(r.data[at+6])) != head {
		return chunk{}, false
	}
	stored := uncook(binary.LittleEndian.Uint32(r.data[at:]))
	crc := crc32.Update(0, r.check.table, r.data[at+6:at+head])
	for n := 0; ; n++ {
		if crc == stored {
			was := binary.LittleEndian.Uint16(r.data[at+4:])
			switch byte(was) == byte(n) {
			case true:
				return r.try(at, end, at+5, byte(n>>8))
			case false:
				if was>>8 == uint16(n)>>8 {
					return r.try(at, end, at+4, byte(n))
				}
			}
		}
		if at+head+n == end {
			return chunk{}, false
		}
		crc = crc32.Update(crc, r.check.table, r.data[at+head+n:at+head+n+1])
	}
}

// try puts an octet in place, for good when the chunk then checks and is ours.
func (r *chunked) try(at, end, place int, value byte) (chunk, bool) {
	was := r.data[place]
	r.data[place] = value
	c, ok := r.chunk(at, end)
	if !ok {
		r.data[place] = was
		return c, false
	}
	r.wrong = append(r.wrong, stretch{at, c.end, place})
	return c, true
}

// payload is what a record holds.
func (r *chunked) payload(rec [2]int) []byte {
	var b []byte
	for at := rec[0]; at < rec[1]; {
		if rest := chunkBlock - at%chunkBlock; rest < legacyHead || zero(r.data[at:min(at+rest, rec[1])]) {
			at += rest
			continue
		}
		head := r.head(int(r.data[at+6]))
		end := at + head + int(binary.LittleEndian.Uint16(r.data[at+4:]))
		b = append(b, r.data[at+head:end]...)
		at = end
	}
	return b
}

func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
