package pebblestore

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Checksums are CRC-32C, cooked as LevelDB and its heirs do. They are linear, so where
// exactly one octet is wrong it can be found and put right: undoing the effect of
// one octet after the other takes as long as checking once more.

// cookDelta is what is added to the turned checksum.
const cookDelta = 0xa282ead8

// checker computes checksums and finds the octet that spoils one.
type checker struct {
	table *crc32.Table
	byTop [256]byte // the index of the entry that begins with an octet
}

func newChecker() *checker {
	c := &checker{table: crc32.MakeTable(crc32.Castagnoli)}
	for i, v := range c.table {
		c.byTop[v>>24] = byte(i)
	}
	return c
}

// sum is the cooked checksum of parts that follow each other.
func (c *checker) sum(parts ...[]byte) uint32 {
	var crc uint32
	for _, p := range parts {
		crc = crc32.Update(crc, c.table, p)
	}
	return cook(crc)
}

func cook(crc uint32) uint32 { return bits.RotateLeft32(crc, 17) + cookDelta }

func uncook(v uint32) uint32 { return bits.RotateLeft32(v-cookDelta, -17) }

// flip is one wrong octet: what must be xored to it.
type flip struct {
	at   int // in the data; in the stored checksum when it is not below the data's length
	with byte
}

// find returns the one octet that makes data of n octets differ in its checksum. It
// reports false when there is none, or more than one that it could be. Damage of many
// octets is taken for one of a single octet once in 2^24/n times.
func (c *checker) find(stored, computed uint32, n int) (f flip, ok bool) {
	found := 0
	if d := stored ^ computed; bits.LeadingZeros32(d)/8+bits.TrailingZeros32(d)/8 == 3 {
		at := bits.TrailingZeros32(d) / 8
		f, found = flip{n + at, byte(d >> (8 * at))}, 1
	}
	d := uncook(stored) ^ uncook(computed)
	for at := n - 1; at >= 0; at-- {
		// d is the effect of a wrong octet at this place when it is an entry of the table.
		i := c.byTop[d>>24]
		if i != 0 && c.table[i] == d {
			f = flip{at, i}
			found++
		}
		d = (d^c.table[i])<<8 | uint32(i)
	}
	return f, found == 1
}

// blockTrailer is what stands behind each block of a table: its compression, which the
// checksum is about too, and the checksum.
const blockTrailer = 5

// mendBlock checks a block with its trailer, and puts one wrong octet right in place.
// at is where it was, -1 when nothing was wrong.
func (c *checker) mendBlock(b []byte) (at int, ok bool) {
	n := len(b) - 4
	stored, computed := binary.LittleEndian.Uint32(b[n:]), c.sum(b[:n])
	if stored == computed {
		return -1, true
	}
	f, ok := c.find(stored, computed, n)
	if ok {
		b[f.at] ^= f.with
	}
	return f.at, ok
}

// The end of a table: checksum type, two handles, checksum, version and magic number.
const (
	footerSize  = 57
	footerCheck = 41 // where the checksum stands, which is of what is before and behind it
)

// mendFooter is mendBlock for the end of a table.
func (c *checker) mendFooter(b []byte) (at int, ok bool) {
	stored, computed := binary.LittleEndian.Uint32(b[footerCheck:]), c.sum(b[:footerCheck], b[footerCheck+4:])
	if stored == computed {
		return -1, true
	}
	f, ok := c.find(stored, computed, footerSize-4)
	if !ok {
		return -1, false
	}
	switch {
	case f.at >= footerSize-4: // in the checksum itself
		f.at += footerCheck - (footerSize - 4)
	case f.at >= footerCheck:
		f.at += 4
	}
	b[f.at] ^= f.with
	return f.at, true
}
