package seal

import (
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// RingOptions are the options of a Ring. Dir is needed.
type RingOptions struct {
	// Dir holds the key files, and nothing else. It is made when missing, mode 0700. It
	// must be in no backup, snapshot or checkpoint: see docs/adr/0012-erasure.md.
	Dir string
	// Delay is the time after which nothing decrypts a message that is gone. At least
	// three seconds, which is for tests; 0: an hour.
	Delay time.Duration
	// Retention is the age at which journal keys go; 0: never. Not shorter than the
	// store's own, or entries are there that nobody can read.
	Retention time.Duration
	// ID is the ring that must be there: that of the store (see RingOf). "": it is made when
	// missing.
	ID     string
	Logger *slog.Logger // nil: discard

	disk disk // tests: another file system
}

// Bounds of a ring.
const (
	defaultDelay = time.Hour
	minDelay     = 3 * time.Second // epochs are named by seconds
	// slices: an epoch takes new keys for one slice, and is destroyed one slice
	// later. The third slice is for a sweep that is late or must be tried again.
	slicesPerDelay = 3
	// maxWraps per key: random nonces of 96 bits are good for 2^32 (NIST SP 800-38D 8.3).
	maxWraps = 1 << 31
)

// Ring is the keys of one store: see the package's comment. All methods are safe for
// concurrent use. Make one with OpenRing.
type Ring struct {
	o    RingOptions
	dir  keyDir // under work
	lock io.Closer
	work sync.Mutex // one change of the directory at a time; before mu
	// doomed are the files that are being destroyed; what fails is tried again. Under work.
	doomed []string
	lastID uint64   // of an epoch or a table: none is used again. Under work
	spoilt []string // files that are to be put right. Under work

	mu      sync.Mutex
	quiet   *sync.Cond // a pin of an old epoch was taken away
	keks    map[uint64]*kek
	active  uint64 // KEK
	root    *root
	epochs  map[uint64]*epoch
	current *epoch
	carries []*carry // newest first
	days    map[uint64]*day
	newDay  uint64              // the day of the start, when it had no keys
	retired map[string]struct{} // leaf keys by which nothing more is sealed
}

// kek is a key-encryption key.
type kek struct {
	meta
	aead cipher.AEAD
}

// root is what must stay for as long as the store: names of lanes and cells.
type root struct {
	meta
	id     [8]byte // names ring and store to each other
	bound  bool    // a store has the ring's ID in it
	secret [keySize]byte
}

// epoch wraps the keys of the messages that are accepted in one slice of time.
type epoch struct {
	meta
	aead  cipher.AEAD
	pins  int    // insertions that used it and are not in the store yet; under Ring.mu
	wraps uint64 // under Ring.mu
}

// day is the journal keys of one day.
type day struct {
	meta
	tree *tree
}

// OpenRing opens the key ring in a directory, or makes one. Everything that it returns
// is on disk. Close it after the store.
func OpenRing(o RingOptions) (*Ring, error) {
	r, err := newRing(o)
	if err != nil {
		return nil, err
	}
	if err := r.expect(); err != nil {
		return nil, err
	}
	if err := r.prepareDir(); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// newRing returns a ring that has looked at nothing yet.
func newRing(o RingOptions) (*Ring, error) {
	if o.Dir == "" {
		return nil, errors.New("seal: RingOptions.Dir is missing")
	}
	if o.Delay == 0 {
		o.Delay = defaultDelay
	}
	if o.Delay < minDelay || o.Retention < 0 {
		return nil, fmt.Errorf("seal: erasure delay %v, journal retention %v: at least %v and 0 are needed", o.Delay, o.Retention, minDelay)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.disk == nil {
		o.disk = realDisk{}
	}
	r := &Ring{
		o: o, dir: keyDir{disk: o.disk, path: o.Dir},
		keks: make(map[uint64]*kek), epochs: make(map[uint64]*epoch), days: make(map[uint64]*day),
		retired: make(map[string]struct{}),
	}
	r.dir.spared = func(name, wrong string) {
		o.Logger.Warn("seal: a key file is damaged in "+wrong+" (look at the disk)", "file", r.dir.at(name))
		r.spoilt = append(r.spoilt, name)
	}
	r.quiet = sync.NewCond(&r.mu)
	return r, nil
}

// expect refuses to make keys anew where there must be some. On a volume that is not
// mounted they would be in the way of the right ones.
func (r *Ring) expect() error {
	if r.o.ID == "" {
		return nil
	}
	names, err := r.dir.disk.ReadDir(r.o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seal: key directory: %w", err)
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, suffixKey) }) {
		return fmt.Errorf("seal: the queue was sealed with key ring %s, and there are no keys in %s: give the right key directory, mount its volume, or put the keys back (with lost keys the mail in the queue cannot be read: then move the queue away, too)",
			r.o.ID, r.o.Dir)
	}
	return nil
}

// otherRing is the error of a queue with another ring than its own.
func otherRing(want, got, dir string) error {
	return fmt.Errorf("seal: the queue was sealed with key ring %s, and %s holds key ring %s: give the key directory that belongs to this queue (with lost keys its mail cannot be read: then move the queue away, too)",
		want, dir, got)
}

// prepareDir makes the directory and takes it for this process.
func (r *Ring) prepareDir() (err error) {
	if err := r.dir.disk.MkdirAll(r.o.Dir); err != nil {
		return fmt.Errorf("seal: key directory: %w", err)
	}
	info, err := r.dir.disk.Stat(r.o.Dir)
	switch {
	case err != nil:
		return fmt.Errorf("seal: key directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("seal: key directory %s is no directory", r.o.Dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("seal: key directory %s is open to others (mode %04o): chmod 700 %s", r.o.Dir, info.Mode().Perm(), r.o.Dir)
	}
	if r.lock, err = r.dir.disk.Lock(r.dir.at("lock")); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// open reads the directory, ends what a crash left half done, and makes what is missing.
func (r *Ring) open() error {
	found, err := readKeys(&r.dir)
	if err != nil {
		return err
	}
	if err := r.adopt(found); err != nil {
		return err
	}
	if r.o.ID != "" && r.root != nil && r.ID() != r.o.ID {
		return otherRing(r.o.ID, r.ID(), r.o.Dir) // before anything is changed
	}
	r.work.Lock()
	defer r.work.Unlock()
	if err := r.destroy(found.trash...); err != nil {
		return err
	}
	r.mendSpoilt()
	now := time.Now()
	if len(r.keks) == 0 {
		if err := r.addKEK(now); err != nil {
			return err
		}
	}
	if r.root == nil {
		root := &root{meta: meta{kind: kindRoot, id: 1, created: now}}
		copy(root.id[:], random(len(root.id)))
		copy(root.secret[:], random(keySize))
		if err := r.writeRoot(root); err != nil {
			return err
		}
	}
	if err := r.rewrap(); err != nil {
		return err
	}
	if err := r.roll(now); err != nil {
		return err
	}
	if day := dayNumber(now); r.days[day] == nil {
		r.newDay = day
	}
	return r.keepDays(now)
}

// mendSpoilt puts key files right that are damaged and can be read. Under work.
func (r *Ring) mendSpoilt() {
	for _, name := range r.spoilt {
		switch err := r.dir.mend(name); {
		case errors.Is(err, fs.ErrNotExist): // it was an old one
		case err != nil:
			r.o.Logger.Error("seal: a damaged key file cannot be put right: `sealpost keys rotate` writes all key files anew", "file", r.dir.at(name), "err", err)
		default:
			r.o.Logger.Warn("seal: a damaged key file is put right", "file", r.dir.at(name))
		}
	}
	r.spoilt = nil
}

// Close forgets the keys. The store has been closed.
func (r *Ring) Close() error {
	r.work.Lock()
	defer r.work.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, c := range r.carries {
		errs = append(errs, c.close())
	}
	if r.root != nil {
		clear(r.root.secret[:])
	}
	for _, d := range r.days {
		d.tree.zero()
	}
	r.keks, r.epochs, r.days, r.carries, r.current = nil, nil, nil, nil, nil
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}

// ID names the ring; the store that it seals carries the same.
func (r *Ring) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return hex.EncodeToString(r.root.id[:])
}

// slice is how long an epoch takes new keys.
func (r *Ring) slice() time.Duration { return r.o.Delay / slicesPerDelay }

// Overdue is how far behind its time the destruction of keys is; 0 when it is not.
func (r *Ring) Overdue(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var late time.Duration
	for _, e := range r.epochs {
		late = max(late, now.Sub(e.created)-r.o.Delay)
	}
	for _, c := range r.carries[min(1, len(r.carries)):] {
		late = max(late, now.Sub(c.created)-r.o.Delay)
	}
	return late
}

// Rotate makes a new key-encryption key, wraps every key file with it, and destroys
// the old ones once nothing is wrapped by them. Messages are not touched.
func (r *Ring) Rotate() (Key, error) {
	r.work.Lock()
	defer r.work.Unlock()
	if err := r.addKEK(time.Now()); err != nil {
		return Key{}, err
	}
	err := r.rewrap()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keks[r.active].key(true), err
}

// addKEK makes a new active KEK. Under work.
func (r *Ring) addKEK(now time.Time) error {
	k := &kek{meta: meta{kind: kindKEK, id: r.active + 1, created: now}}
	key := random(keySize)
	defer clear(key)
	content := sealFile(&k.meta, nil, nil, key)
	defer clear(content)
	if err := r.dir.write(k.name(), content); err != nil {
		return err
	}
	k.aead = newAEAD(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keks[k.id], r.active = k, k.id
	return nil
}

// put makes a key file durable, wrapped by the active KEK. Under work.
func (r *Ring) put(m *meta, payload []byte) error {
	if slices.Contains(r.doomed, m.name()) {
		return fmt.Errorf("seal: key file %s is being destroyed", r.dir.at(m.name()))
	}
	m.kek = r.active
	return r.dir.write(m.name(), sealFile(m, r.keks[r.active].aead, random(nonceSize), payload))
}

// destroy destroys files, and those that could not be destroyed before. Under work.
func (r *Ring) destroy(names ...string) error {
	r.doomed = append(r.doomed, names...)
	if err := r.dir.destroy(r.doomed...); err != nil {
		return err
	}
	r.doomed = nil
	return nil
}

// nextID is the ID of a new epoch or table: the time, where it is free. Under work.
func (r *Ring) nextID(now time.Time) uint64 {
	r.lastID = max(uint64(max(now.Unix(), 1)), r.lastID+1)
	return r.lastID
}

// metas are the open parts of all wrapped key files. Under work.
func (r *Ring) metas() []*meta {
	var list []*meta
	if r.root != nil {
		list = append(list, &r.root.meta)
	}
	for _, e := range r.epochs {
		list = append(list, &e.meta)
	}
	for _, c := range r.carries {
		list = append(list, &c.meta)
	}
	for _, d := range r.days {
		list = append(list, &d.meta)
	}
	return list
}

// rewrap wraps what an old KEK wraps by the active one, and destroys the old KEKs.
// What fails is tried again with the next sweep. Under work.
func (r *Ring) rewrap() error {
	if len(r.keks) < 2 {
		return nil
	}
	for _, m := range r.metas() {
		if m.kek == r.active {
			continue
		}
		old := m.name()
		content, err := r.dir.read(old)
		if err != nil {
			return err
		}
		payload, err := openFile(content, r.keks[m.kek].aead)
		if err != nil {
			return fmt.Errorf("seal: key file %s: %w", r.dir.at(old), err)
		}
		next := *m
		next.gen++
		err = r.put(&next, payload)
		clear(payload)
		if err != nil {
			return err
		}
		r.mu.Lock()
		m.gen, m.kek = next.gen, next.kek // all else is the same, and read by others
		r.mu.Unlock()
		if err := r.destroy(old); err != nil {
			return err
		}
	}
	for id, k := range r.keks {
		if id == r.active {
			continue
		}
		if err := r.destroy(k.name()); err != nil {
			return err
		}
		r.mu.Lock()
		delete(r.keks, id)
		r.mu.Unlock()
	}
	return nil
}

// writeRoot makes the root durable. Under work.
func (r *Ring) writeRoot(next *root) error {
	payload := append(next.id[:], 0)
	if next.bound {
		payload[len(next.id)] = 1
	}
	payload = append(payload, next.secret[:]...)
	defer clear(payload)
	if err := r.put(&next.meta, payload); err != nil {
		return err
	}
	r.mu.Lock()
	r.root = next
	r.mu.Unlock()
	return nil
}

// bind records that a store has the ring's ID.
func (r *Ring) bind() error {
	r.work.Lock()
	defer r.work.Unlock()
	next := *r.root
	next.bound = true
	next.gen++
	old := r.root.name()
	if err := r.writeRoot(&next); err != nil {
		return err
	}
	return r.destroy(old)
}

func (r *Ring) isBound() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.root.bound
}
