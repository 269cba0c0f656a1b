package seal

import (
	"crypto/cipher"
	"encoding/binary"

	"github.com/sealpost/sealpost/queue"
)

// The first two octets of a sealed value: doc.go has the forms.
const (
	version    = 0xF9 // no text begins with it, so a plain value is known from a sealed one
	firstSeal  = 0xF8
	boxRecord  = 'R'
	boxRow     = 'r'
	boxOwnRow  = 'o'
	boxEntry   = 'j'
	boxCell    = 'c'
	frameNonce = 'B'
)

// isSealed reports whether a value is sealed, by this or a newer version.
func isSealed(b []byte) bool { return len(b) > 0 && b[0] >= firstSeal }

// check tells a sealed value's kind, and that it is not shorter than its fixed parts.
func check(b []byte, fixed func(kind byte) int) (byte, error) {
	switch {
	case len(b) < 2:
		return 0, ErrDamaged
	case !isSealed(b):
		return 0, ErrDamaged
	case b[0] != version:
		return 0, ErrVersion
	case fixed(b[1]) == 0 || len(b) < fixed(b[1]):
		return 0, ErrDamaged
	}
	return b[1], nil
}

// appendAAD is what a value of a message is bound to: its open part, message, number.
func appendAAD(b, head []byte, id queue.ID, number uint32) []byte {
	b = append(b, head...)
	b = append(b, id...)
	return binary.BigEndian.AppendUint32(b, number)
}

// fixNonce makes the nonce of a record or row: the kind keeps it apart from those of the frames.
func fixNonce(n []byte, kind byte) []byte {
	n[0] = kind
	return n
}

// aadSize has room for what a value is bound to.
const aadSize = ownRowHead + idSize + 4

// recordHead is the length of a record before its ciphertext.
const recordHead = 2 + wrapSize + nonceSize

func recordFixed(kind byte) int {
	if kind == boxRecord {
		return recordHead + tagSize
	}
	return 0
}

// wrappedKey returns the wrapped key of a sealed record.
func wrappedKey(record []byte) ([]byte, error) {
	if _, err := check(record, recordFixed); err != nil {
		return nil, err
	}
	return record[2 : 2+wrapSize], nil
}

// sealRecord seals a record together with the tags of the body's frames. wrapped is the
// message's key, wrapped; nonce is random.
func sealRecord(aead cipher.AEAD, id queue.ID, parts recordParts) []byte {
	size := recordHead + binary.MaxVarintLen32 + len(parts.tags) + len(parts.record) + tagSize
	b := append(make([]byte, 0, size), version, boxRecord)
	b = append(b, parts.wrapped...)
	b = append(b, fixNonce(parts.nonce, boxRecord)...)
	b = binary.AppendUvarint(b, uint64(len(parts.tags)/tagSize))
	b = append(b, parts.tags...)
	b = append(b, parts.record...)
	var aad [aadSize]byte
	return aead.Seal(b[:recordHead], parts.nonce, b[recordHead:], appendAAD(aad[:0], b[:recordHead], id, 0))
}

// recordParts is what a sealed record is made of.
type recordParts struct{ wrapped, nonce, tags, record []byte }

// openRecord opens a record with the message's key. The result is memory of its own.
func openRecord(aead cipher.AEAD, id queue.ID, b []byte) (tags, record []byte, err error) {
	if _, err := check(b, recordFixed); err != nil {
		return nil, nil, err
	}
	var aad [aadSize]byte
	plain, err := aead.Open(nil, b[2+wrapSize:recordHead], b[recordHead:], appendAAD(aad[:0], b[:recordHead], id, 0))
	if err != nil {
		return nil, nil, ErrDamaged
	}
	frames, n := binary.Uvarint(plain)
	if n <= 0 || frames == 0 || frames > uint64(len(plain)-n)/tagSize {
		return nil, nil, ErrDamaged
	}
	end := n + int(frames)*tagSize
	return plain[n:end:end], plain[end:], nil
}

// Lengths of a row before its ciphertext.
const (
	rowHead    = 2 + nonceSize
	ownRowHead = 2 + wrapSize + nonceSize
)

func rowFixed(kind byte) int {
	switch kind {
	case boxRow:
		return rowHead + tagSize
	case boxOwnRow:
		return ownRowHead + tagSize
	}
	return 0
}

// sealRow seals a row's lane and data. wrapped is nil, or the row's own key.
func sealRow(aead cipher.AEAD, r *queue.Row, wrapped, nonce []byte) []byte {
	head, kind := rowHead, byte(boxRow)
	if wrapped != nil {
		head, kind = ownRowHead, boxOwnRow
	}
	b := append(make([]byte, 0, head+binary.MaxVarintLen32+len(r.Lane)+len(r.Data)+tagSize), version, kind)
	b = append(b, wrapped...)
	b = append(b, fixNonce(nonce, kind)...)
	b = binary.AppendUvarint(b, uint64(len(r.Lane)))
	b = append(b, r.Lane...)
	b = append(b, r.Data...)
	var aad [aadSize]byte
	return aead.Seal(b[:head], nonce, b[head:], appendAAD(aad[:0], b[:head], r.Message, uint32(r.Number)))
}

// openRow puts a row's lane and data in.
func openRow(aead cipher.AEAD, r *queue.Row) error {
	kind, err := check(r.Data, rowFixed)
	if err != nil {
		return err
	}
	head := rowFixed(kind) - tagSize
	var aad [aadSize]byte
	plain, err := aead.Open(nil, r.Data[head-nonceSize:head], r.Data[head:], appendAAD(aad[:0], r.Data[:head], r.Message, uint32(r.Number)))
	if err != nil {
		return ErrDamaged
	}
	lane, n := binary.Uvarint(plain)
	if n <= 0 || lane > uint64(len(plain)-n) {
		return ErrDamaged
	}
	r.Lane, r.Data = string(plain[n:n+int(lane)]), plain[n+int(lane):]
	return nil
}

// entryHead is the open part of a journal entry: day, name of the leaf, nonce.
func entryHead(b []byte) (day uint64, name string, head int, err error) {
	if _, err := check(b, func(kind byte) int {
		if kind == boxEntry {
			return 2 + 4 + 1 + nonceSize + tagSize
		}
		return 0
	}); err != nil {
		return 0, "", 0, err
	}
	n := int(b[6])
	if head = 7 + n + nonceSize; len(b) < head+tagSize {
		return 0, "", 0, ErrDamaged
	}
	return uint64(binary.BigEndian.Uint32(b[2:])), string(b[7 : 7+n]), head, nil
}

// entryParts is what a sealed journal entry is made of.
type entryParts struct {
	day          uint64
	name         string // of the leaf
	nonce, entry []byte
}

// sealEntry seals a journal entry by the key of its leaf.
func sealEntry(key *[keySize]byte, p entryParts) []byte {
	b := append(make([]byte, 0, 7+len(p.name)+nonceSize+len(p.entry)+tagSize), version, boxEntry)
	b = binary.BigEndian.AppendUint32(b, uint32(p.day))
	b = append(b, byte(len(p.name)))
	b = append(b, p.name...)
	open := len(b)
	b = append(b, p.nonce...)
	return newAEAD(key[:]).Seal(b, p.nonce, p.entry, b[:open])
}

// openEntry opens a journal entry.
func openEntry(days func(uint64) *tree, b []byte) ([]byte, error) {
	day, name, head, err := entryHead(b)
	if err != nil {
		return nil, err
	}
	t := days(day)
	if t == nil {
		return nil, ErrKeyGone
	}
	key, ok := t.leaf(leafOf(name))
	if !ok {
		return nil, ErrErased
	}
	defer clear(key[:])
	plain, err := newAEAD(key[:]).Open(nil, b[head-nonceSize:head], b[head:], b[:head-nonceSize])
	if err != nil {
		return nil, ErrDamaged
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}
