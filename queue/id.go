package queue

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An ID is 130 bits in Crockford's base 32: 2 zero bits, 48 bits of milliseconds
// since 1970, 80 random bits. The alphabet is in ASCII order, so that IDs sort by time.
const (
	idAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	idLength   = 26
	idTime     = 10 // leading characters that hold the time
)

// NewID makes a message ID: time-sortable, then random bits (crypto/rand).
func NewID(now time.Time) ID {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	rand.Read(raw[6:]) // never fails, see its documentation
	return packedID{binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])}.id()
}

// packedID is an ID in 16 octets, in the same order: the first character has 3 bits.
type packedID struct{ hi, lo uint64 }

// pack packs an ID. It reports false for one that ParseID refuses.
func (id ID) pack() (p packedID, ok bool) {
	if len(id) != idLength || id[0] > '7' {
		return p, false
	}
	for i := range idLength {
		n := idDigit(id[i])
		if n > 31 {
			return packedID{}, false
		}
		p.hi = p.hi<<5 | p.lo>>59
		p.lo = p.lo<<5 | n
	}
	return p, true
}

// idDigit is the value of a character of an ID; above 31 when it is none.
func idDigit(c byte) uint64 {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0')
	case c >= 'A' && c <= 'H':
		return uint64(c-'A') + 10
	case c == 'J' || c == 'K':
		return uint64(c-'J') + 18
	case c == 'M' || c == 'N':
		return uint64(c-'M') + 20
	case c >= 'P' && c <= 'T':
		return uint64(c-'P') + 22
	case c >= 'V' && c <= 'Z':
		return uint64(c-'V') + 27
	}
	return 99
}

func (p packedID) id() ID {
	var id [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		id[i] = idAlphabet[p.lo&31]
		p.lo = p.lo>>5 | p.hi<<59
		p.hi >>= 5
	}
	return ID(id[:])
}

// millis is when the ID was made, in milliseconds since 1970.
func (p packedID) millis() int64 { return int64(p.hi >> 16) }

func (p packedID) less(q packedID) bool { return p.hi < q.hi || p.hi == q.hi && p.lo < q.lo }

func (p packedID) compare(q packedID) int {
	return cmp.Or(cmp.Compare(p.hi, q.hi), cmp.Compare(p.lo, q.lo))
}

// ParseID reads a message ID.
func ParseID(s string) (ID, error) {
	if len(s) != idLength || s[0] > '7' || strings.Trim(s, idAlphabet) != "" {
		return "", fmt.Errorf("message ID %q: want %d characters of %s", s, idLength, idAlphabet)
	}
	return ID(s), nil
}

// Time is when the ID was made, to the millisecond; the zero time when it is none.
func (id ID) Time() time.Time {
	if _, err := ParseID(string(id)); err != nil {
		return time.Time{}
	}
	var ms int64
	for i := range idTime {
		ms = ms<<5 | int64(strings.IndexByte(idAlphabet, id[i]))
	}
	return time.UnixMilli(ms).UTC()
}

// EnvelopeID names the message's envelope number n.
func (id ID) EnvelopeID(n int) EnvelopeID {
	return EnvelopeID(string(id) + "-" + strconv.Itoa(n))
}

// Split returns the message's ID and the envelope's number. It fails on anything
// that ID.EnvelopeID does not make.
func (e EnvelopeID) Split() (ID, int, error) {
	msg, num, _ := strings.Cut(string(e), "-")
	id, err := ParseID(msg)
	n, err2 := strconv.Atoi(num)
	if err != nil || err2 != nil || id.EnvelopeID(n) != e {
		return "", 0, fmt.Errorf("envelope ID %q: want a message ID, a hyphen and a number", e)
	}
	return id, n, nil
}
