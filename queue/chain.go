package queue

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// Hash is what the journal's chain is made of: SHA-256.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(h) {
		return errors.New("queue: a hash is 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// The first octet of what is hashed says what it is, so that nothing passes for
// something else (as in RFC 6962 2.1).
const (
	hashLink byte = iota + 1
	hashHead
)

// Leaf is the hash of a journal entry's octets as they are stored: sealed, so that the
// chain can be checked without a key, and also when they do not open any more.
func Leaf(stored []byte) Hash { return sha256.Sum256(stored) }

// Link is the hash that ties an entry to all that were before it. It is short work, for
// numbers are given under a lock.
func Link(before Hash, number uint64, at int64, leaf Hash) Hash {
	var b [1 + 2*len(Hash{}) + 16]byte
	b[0] = hashLink
	p := append(b[:1], before[:]...)
	p = binary.BigEndian.AppendUint64(p, number)
	p = binary.BigEndian.AppendUint64(p, uint64(at))
	return sha256.Sum256(append(p, leaf[:]...))
}

// Head is a signed word about the journal: "entry Number has this hash, and all that
// is kept begins at Low". Heads are a chain of their own.
type Head struct {
	Index    uint64    `json:"index"`  // of this head, from 1
	Number   uint64    `json:"number"` // of the last entry that it is about; synced before the head
	Hash     Hash      `json:"hash"`   // its link; zero before the first
	At       time.Time `json:"at"`
	Start    uint64    `json:"start"`    // number of the first entry of the chain
	Low      uint64    `json:"low"`      // lowest number that is kept
	Anchor   Hash      `json:"anchor"`   // link of the entry before Low; zero when that is not of the chain
	Previous Hash      `json:"previous"` // of the head before, as stored; zero for the first
	Key      []byte    `json:"key"`      // public key
}

// Sizes of a head.
const (
	headVersion = 1
	headBody    = 1 + 5*8 + 3*len(Hash{}) + ed25519.PublicKeySize
	HeadSize    = headBody + ed25519.SignatureSize // octets of a stored head
)

// headContext stands before what is signed, so that the key's other signatures, if it has
// any, are no heads.
const headContext = "sealpost journal head\x00"

// SignHead makes a head as it is stored. It sets h.Key.
func SignHead(h *Head, key ed25519.PrivateKey) []byte {
	h.Key, _ = key.Public().(ed25519.PublicKey)
	b := append(make([]byte, 0, HeadSize), headVersion)
	for _, n := range []uint64{h.Index, h.Number, uint64(h.At.UnixNano()), h.Start, h.Low} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, x := range []Hash{h.Hash, h.Anchor, h.Previous} {
		b = append(b, x[:]...)
	}
	b = append(b, h.Key...)
	return append(b, ed25519.Sign(key, append([]byte(headContext), b...))...)
}

// Errors of a stored head.
var (
	ErrHeadForm      = errors.New("queue: it is no head of a journal, or one of a version that is not known")
	ErrHeadSignature = errors.New("queue: the signature of the head is wrong")
)

// ParseHead reads a stored head and checks that it was signed with the key that it
// names. Whose key that is, the caller must know.
func ParseHead(b []byte) (h Head, err error) {
	if len(b) != HeadSize || b[0] != headVersion {
		return h, ErrHeadForm
	}
	var n [5]uint64
	for i := range n {
		n[i] = binary.BigEndian.Uint64(b[1+8*i:])
	}
	h = Head{Index: n[0], Number: n[1], At: time.Unix(0, int64(n[2])).UTC(), Start: n[3], Low: n[4]}
	p := b[1+8*len(n):]
	for _, x := range []*Hash{&h.Hash, &h.Anchor, &h.Previous} {
		p = p[copy(x[:], p):]
	}
	h.Key = append([]byte(nil), p[:ed25519.PublicKeySize]...)
	if !ed25519.Verify(h.Key, append([]byte(headContext), b[:headBody]...), b[headBody:]) {
		return h, ErrHeadSignature
	}
	return h, nil
}

// HeadHash is the hash by which the next head names a stored one.
func HeadHash(stored []byte) Hash {
	return sha256.Sum256(append([]byte{hashHead}, stored...))
}
