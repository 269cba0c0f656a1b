package seal

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"io"
	"strings"
	"sync"

	"github.com/sealpost/sealpost/queue"
)

// secret is what opens a message: its key, and the tags of its body's frames.
type secret struct {
	plain bool // the message was accepted before sealing began
	aead  cipher.AEAD
	tags  []byte
}

// secrets keeps some of them, so that a claimed message's body and the end of its lease
// need not read its record again. The sweep empties it: a key in memory does not outlive
// its message by more than a slice.
type secrets struct {
	mu    sync.Mutex
	known map[queue.ID]*secret
	order []queue.ID // in which they came; a ring
	at    int
}

const keepSecrets = 1024

func newSecrets() *secrets {
	return &secrets{known: make(map[queue.ID]*secret), order: make([]queue.ID, keepSecrets)}
}

func (c *secrets) get(id queue.ID) *secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id]
}

func (c *secrets) put(id queue.ID, s *secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[id] == nil {
		delete(c.known, c.order[c.at])
		c.order[c.at] = id
		c.at = (c.at + 1) % len(c.order)
	}
	c.known[id] = s
}

func (c *secrets) drop(id queue.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
}

func (c *secrets) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	clear(c.order)
}

// open finds out how a message opens, from its record, and opens that.
func (s *Store) open(id queue.ID, stored []byte) (*secret, []byte, error) {
	if !isSealed(stored) {
		if s.o.RefusePlain {
			return nil, nil, &Damage{Message: id, What: "record", Err: ErrPlain}
		}
		return &secret{plain: true}, stored, nil
	}
	sec, err := &secret{}, error(nil)
	var record []byte
	if sec.aead, err = s.aeadOf(id, stored); err == nil {
		sec.tags, record, err = openRecord(sec.aead, id, stored)
	}
	if err != nil {
		return nil, nil, &Damage{Message: id, What: "record", Err: err}
	}
	return sec, record, nil
}

// aeadOf unwraps the key of a record.
func (s *Store) aeadOf(id queue.ID, stored []byte) (cipher.AEAD, error) {
	wrapped, err := wrappedKey(stored)
	if err != nil {
		return nil, err
	}
	return s.unwrap(wrapped, keyName{id, ownRecord})
}

func (s *Store) unwrap(wrapped []byte, name keyName) (cipher.AEAD, error) {
	var room [keySize]byte
	defer clear(room[:])
	key, err := s.ring.unwrap(room[:0], wrapped, name)
	if err != nil {
		return nil, err
	}
	return newAEAD(key), nil
}

// secret returns how a message opens. queue.ErrNotFound when it is gone.
func (s *Store) secret(ctx context.Context, id queue.ID) (*secret, error) {
	if sec := s.secrets.get(id); sec != nil {
		return sec, nil
	}
	stored, _, err := s.inner.Read(ctx, id)
	if err != nil {
		return nil, err
	}
	sec, _, err := s.open(id, stored)
	if err != nil {
		return nil, err
	}
	s.secrets.put(id, sec)
	return sec, nil
}

// openRow opens a row of a message.
func (s *Store) openRow(sec *secret, r *queue.Row) error {
	damage := func(err error) error {
		return &Damage{Message: r.Message, What: "row " + itoa(r.Number), Err: err}
	}
	if !isSealed(r.Data) {
		// A sealed message's rows are sealed, always.
		if !sec.plain || s.o.RefusePlain {
			return damage(ErrPlain)
		}
		r.Group = s.groups.show(r.Group)
		return nil
	}
	aead := sec.aead
	kind, err := check(r.Data, rowFixed)
	if err == nil && kind == boxOwnRow {
		aead, err = s.unwrap(r.Data[2:2+wrapSize], keyName{r.Message, uint32(r.Number)})
	}
	if err == nil && aead == nil {
		err = ErrDamaged
	}
	if err == nil {
		err = openRow(aead, r)
	}
	if err != nil {
		return damage(err)
	}
	r.Group = s.groups.show(r.Group)
	return nil
}

// namer makes names that tell nothing: keyed hashes, equal for equal names.
type namer struct{ macs sync.Pool }

func newNamer(secret []byte) *namer {
	key := append([]byte(nil), secret...)
	return &namer{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (n *namer) sum(purpose, name string) [sha256.Size]byte {
	h, _ := n.macs.Get().(hash.Hash)
	defer n.macs.Put(h)
	h.Reset()
	_, _ = io.WriteString(h, purpose)
	_, _ = io.WriteString(h, name)
	var out [sha256.Size]byte
	h.Sum(out[:0])
	return out
}

// hidden begins a name that is a keyed hash.
const hidden = "~"

func (n *namer) name(purpose, name string) string {
	sum := n.sum(purpose, name)
	return hidden + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// lane is the name of a lane in the store.
func (n *namer) lane(domain string) string { return n.name("lane\x00", domain) }

// cell is the name of a cell in the store: its class, up to the first slash, stays.
func (n *namer) cell(name string) string {
	class, _, ok := strings.Cut(name, "/")
	if ok {
		class += "/"
	} else {
		class = ""
	}
	return class + n.name("cell\x00", name)
}

// cellKey is the key of one cell, so that each has nonces of its own.
func (n *namer) cellKey(stored string) cipher.AEAD {
	key := n.sum("cell key\x00", stored)
	defer clear(key[:])
	return newAEAD(key[:])
}
