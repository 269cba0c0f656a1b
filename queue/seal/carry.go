package seal

import (
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"
	"time"
)

// A carry is the keys of the messages that outlived their epoch: a table, sorted by
// message, in sealed blocks, beside a key file with the table's own key. Each sweep
// writes a new one and destroys the key of the one before.
const (
	tableWord    = "table"
	idSize       = 26
	nameSize     = idSize + 4
	entrySize    = nameSize + keySize
	blockEntries = 128
	blockSize    = blockEntries*entrySize + tagSize
)

func tableName(id uint64) string { return fmt.Sprintf("%s-%d.keys", tableWord, id) }

// carry is a table that is complete.
type carry struct {
	meta
	aead    cipher.AEAD
	table   file
	entries int
	first   []string // first name of each block
	blocks  sync.Pool
	mu      sync.RWMutex
	closed  bool
}

func (n keyName) bytes() string {
	return string(binary.BigEndian.AppendUint32([]byte(n.id), n.number))
}

// blockNonce numbers a table's blocks; the key is the table's alone.
func blockNonce(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("B\x00\x00\x00"), uint64(i))
}

// openCarry opens the table that a key file belongs to.
func openCarry(d *keyDir, m meta, payload []byte) (*carry, error) {
	if len(payload) != keySize+8 {
		return nil, errNoKeyFile
	}
	c := &carry{meta: m, aead: newAEAD(payload[:keySize]), entries: int(binary.BigEndian.Uint64(payload[keySize:]) & (1<<40 - 1))}
	f, err := d.disk.Open(d.at(tableName(m.id)), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("its table cannot be opened: %w", err)
	}
	c.table = f
	info, err := f.Stat()
	want := int64(c.entries)*entrySize + int64(c.blockCount())*tagSize
	if err == nil && info.Size() != want {
		err = fmt.Errorf("%w: it has %d octets, not %d", ErrDamaged, info.Size(), want)
	}
	last := ""
	for i := 0; i < c.blockCount() && err == nil; i++ {
		err = c.block(i, func(b []byte) {
			c.first = append(c.first, string(b[:nameSize]))
			last = string(b[len(b)-entrySize:][:nameSize])
		})
		if errors.Is(err, ErrDamaged) {
			// The others are good. What was in it is behind the last name before.
			c.first = append(c.first, last+"\x00")
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("its table %s: %w", d.at(tableName(m.id)), err), f.Close())
	}
	return c, nil
}

func (c *carry) blockCount() int { return (c.entries + blockEntries - 1) / blockEntries }

// block opens a block for the time of a call.
func (c *carry) block(i int, use func([]byte)) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ErrKeyGone
	}
	buf, _ := c.blocks.Get().(*[blockSize]byte)
	if buf == nil {
		buf = new([blockSize]byte)
	}
	defer func() {
		clear(buf[:])
		c.blocks.Put(buf)
	}()
	n := min(blockEntries, c.entries-i*blockEntries)*entrySize + tagSize
	if m, err := c.table.ReadAt(buf[:n], int64(i)*blockSize); m < n {
		return fmt.Errorf("seal: table of keys: %w", err)
	}
	b, err := c.aead.Open(buf[:0], blockNonce(i), buf[:n], nil)
	if err != nil {
		return ErrDamaged
	}
	use(b)
	return nil
}

// close waits for readers and ends the table. Who comes later finds no key there.
func (c *carry) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.table.Close()
}

// find appends a key. ErrKeyGone when it is not there.
func (c *carry) find(to []byte, name keyName) ([]byte, error) {
	want, found := name.bytes(), false
	i := sort.Search(len(c.first), func(i int) bool { return c.first[i] > want }) - 1
	if i < 0 {
		return nil, ErrKeyGone
	}
	err := c.block(i, func(b []byte) {
		n := len(b) / entrySize
		k := sort.Search(n, func(k int) bool { return string(b[k*entrySize:k*entrySize+nameSize]) >= want })
		if k < n && string(b[k*entrySize:k*entrySize+nameSize]) == want {
			found = true
			to = append(to, b[k*entrySize+nameSize:(k+1)*entrySize]...)
		}
	})
	if err == nil && !found {
		err = ErrKeyGone
	}
	return to, err
}

func (r *Ring) sortCarries() {
	slices.SortFunc(r.carries, func(a, b *carry) int { return cmp.Compare(b.id, a.id) })
}

// carryWriter writes a table, in order of names. Not safe for concurrent use.
type carryWriter struct {
	dir     *keyDir
	meta    meta
	key     []byte
	aead    cipher.AEAD
	f       file // nil until there is an entry
	block   []byte
	blocks  int
	entries int
	last    string
}

// startCarry begins a table. Under work.
func (r *Ring) startCarry(now time.Time) *carryWriter {
	w := &carryWriter{dir: &r.dir, meta: meta{kind: kindCarry, id: r.nextID(now), created: now}, key: random(keySize)}
	w.aead = newAEAD(w.key)
	return w
}

// add adds a key.
func (w *carryWriter) add(name keyName, key []byte) (err error) {
	full := name.bytes()
	if len(full) != nameSize || full <= w.last {
		return fmt.Errorf("seal: message %s is out of order", name.id)
	}
	if w.f == nil {
		w.block = make([]byte, 0, blockSize)
		if w.f, err = w.dir.disk.Open(w.dir.at(tableName(w.meta.id)+suffixTemp), os.O_RDWR|os.O_CREATE|os.O_TRUNC); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
	}
	w.last = full
	w.block = append(append(w.block, full...), key...)
	if w.entries++; w.entries%blockEntries == 0 {
		return w.flush()
	}
	return nil
}

// flush writes a block.
func (w *carryWriter) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	sealed := w.aead.Seal(w.block[:0], blockNonce(w.blocks), w.block, nil)
	w.blocks++
	w.block = w.block[:0]
	if _, err := w.f.Write(sealed); err != nil {
		return fmt.Errorf("seal: table of keys: %w", err)
	}
	return nil
}

// abandon removes what was written.
func (w *carryWriter) abandon() error {
	clear(w.key)
	clear(w.block[:cap(w.block)])
	if w.f == nil {
		return nil
	}
	return errors.Join(w.f.Close(), w.dir.disk.Remove(w.dir.at(tableName(w.meta.id)+suffixTemp)))
}

// finish makes the table durable, then its key file: with that it counts. It returns
// nil when there is no entry. Under work.
func (w *carryWriter) finish(r *Ring) (*carry, error) {
	if w.f == nil {
		return nil, nil
	}
	if err := w.flush(); err != nil {
		return nil, errors.Join(err, w.abandon())
	}
	// What fails leaves no table behind: a full disk is one reason to fail.
	if err := w.dir.publish(w.f, tableName(w.meta.id)); err != nil {
		return nil, fmt.Errorf("seal: table of keys: %w", errors.Join(err, r.destroy(tableName(w.meta.id)+suffixTemp, tableName(w.meta.id))))
	}
	payload := binary.BigEndian.AppendUint64(slices.Clone(w.key), uint64(w.entries))
	defer clear(payload)
	defer clear(w.key)
	if err := r.put(&w.meta, payload); err != nil {
		return nil, errors.Join(err, r.destroy(w.meta.name(), tableName(w.meta.id)))
	}
	c, err := openCarry(w.dir, w.meta, payload)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return c, nil
}

// replace puts a new table in the place of all others. Under work.
func (r *Ring) replace(c *carry) (old []*carry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old = r.carries
	r.carries = nil
	if c != nil {
		r.carries = []*carry{c}
	}
	return old
}

// retire destroys epochs and tables. Under work.
func (r *Ring) retire(epochs map[uint64]*epoch, carries []*carry) (int, error) {
	var names []string
	for _, e := range epochs {
		names = append(names, e.name())
	}
	for _, c := range carries {
		if err := c.close(); err != nil {
			r.o.Logger.Warn("seal: a table of keys could not be closed", "err", err)
		}
		// The key first: a table without one is waste.
		names = append(names, c.name())
	}
	for _, c := range carries {
		names = append(names, tableName(c.id))
	}
	r.mu.Lock()
	for id := range epochs {
		delete(r.epochs, id)
	}
	r.mu.Unlock()
	return len(epochs) + len(carries), r.destroy(names...)
}
