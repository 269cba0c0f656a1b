package pebblestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/sealpost/sealpost/queue"
)

// Ballast: a file that is good for nothing but its space. When the disk is full it is
// thrown off, so that what is being written can be ended and deliveries, which make
// room, can be settled. No mail is taken in from then on, until there is room for a new one.
const (
	ballastName = "ballast"
	ballastMore = 1 << 20 // octets beyond all memtables, which a flush may bring to the disk at once
	ballastRoom = 2       // times its size must be free before it is made again
	ballastLook = time.Second
	clearEvery  = 2 * time.Second
	fullPause   = 100 * time.Millisecond // before a table is tried again on a full disk
)

// ballast is safe for concurrent use. The zero value has none.
type ballast struct {
	path string // "": none
	size int64
	free func(dir string) (uint64, error)
	log  logger

	mu     sync.Mutex
	thrown bool // or nearly
	looked time.Time
}

// isFull reports whether an error is for want of space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) // a quota is a disk too
}

// throw gives the ballast up. It reports whether that gave any space.
func (b *ballast) throw() bool {
	if b.path == "" {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.thrown, b.looked = true, time.Now()
	if os.Remove(b.path) != nil {
		return false // it is gone
	}
	b.log.slog.Error("storage: the disk is full: the reserve is given up; no new mail is taken until there is space, deliveries go on", "octets", b.size)
	return true
}

// tight stops the intake while the ballast is kept: a compaction found no space, which
// can be had later, and what makes room goes first.
func (b *ballast) tight() {
	if b.path == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.thrown {
		b.log.slog.Error("storage: the disk is nearly full: no new mail is taken until there is space, deliveries go on")
	}
	b.thrown, b.looked = true, time.Now()
}

// spent reports whether the ballast is gone, or should be kept for what is under way. When there is room again it makes a new one.
func (b *ballast) spent() bool {
	if b.path == "" {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.thrown || time.Since(b.looked) < ballastLook {
		return b.thrown
	}
	b.looked = time.Now()
	if n, err := b.free(filepath.Dir(b.path)); err != nil || n < uint64(ballastRoom*b.size) {
		return true
	}
	if err := b.make(); err != nil {
		b.log.Errorf("the reserve cannot be made: %v", err)
		return true
	}
	b.thrown = false
	if b.log.opened.Load() {
		b.log.slog.Warn("storage: the disk has space again: new mail is taken")
	}
	return false
}

// open makes the ballast where it is not there and there is room.
func (b *ballast) open() {
	if b.path == "" {
		return
	}
	st, err := os.Stat(b.path)
	if err == nil && st.Size() > b.size { // of a version that needed more
		err = os.Truncate(b.path, b.size)
	}
	if err == nil && st.Size() >= b.size {
		return
	}
	b.mu.Lock()
	b.thrown, b.looked = true, time.Time{}
	b.mu.Unlock()
	b.spent()
}

// make writes the file; it must really have its blocks.
func (b *ballast) make() error {
	if st, err := os.Stat(b.path); err == nil && st.Size() == b.size {
		return nil // it was kept
	}
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = unix.Fallocate(int(f.Fd()), 0, 0, b.size); errors.Is(err, syscall.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, b.size))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(b.path) // a part of it is of no use
	}
	return err
}

// MakeRoom has Pebble write out what deliveries have removed, at most every other second:
// small as that is, it would stay in memory for long, and with it what it removes on disk. It
// is for a disk on which no new mail is taken in, for that would bring it along. It
// does not wait.
func (s *Store) MakeRoom() {
	now, last := time.Now().UnixNano(), s.cleared.Load()
	if now-last < int64(clearEvery) || !s.cleared.CompareAndSwap(last, now) || s.db.Metrics().MemTable.Count > 1 {
		return
	}
	if err := s.clearDead(); err != nil {
		s.log.Errorf("making room: %v", err)
	}
	if _, err := s.db.AsyncFlush(); err != nil {
		s.log.Errorf("making room: %v", err)
	}
}

// Crowded reports, on a full disk, that what is in memory only needs half of what is left once it is
// written out: nothing should be added to it then, or the day comes when it cannot be written any more,
// and with it what would make room. With spare it is so while less than half of the reserve is left, too:
// so much is for deliveries, which cost before they give. It sees to the writing, for which it does not
// wait.
func (s *Store) Crowded(spare bool) bool {
	if !s.Full() {
		return false
	}
	free, err := s.ballast.free(filepath.Dir(s.ballast.path))
	if err != nil {
		return false
	}
	needs := 2 * s.db.Metrics().WAL.Size
	if needs < free && (!spare || needs+uint64(s.ballast.size/2) < free) {
		return false
	}
	s.MakeRoom()
	return true
}

// deadFor is how old what is cleared must be: an insertion reserves its ID a moment after it was made.
const deadFor = 10 * time.Second

// deadTable is the least size of a table that clearDead takes: what it writes itself is smaller.
const deadTable = 64 << 10

// clearDead removes the bodies of each table in which no message is left in one step. They were removed
// one by one, but their tables stay until a compaction writes them anew, for which a full disk has no
// room; tables of which nothing is left are dropped unread.
func (s *Store) clearDead() error {
	if !s.clearing.TryLock() {
		return nil
	}
	defer s.clearing.Unlock()
	defer s.schedule.Cleared()
	alive := s.schedule.Clear(queue.NewID(time.Now().Add(-deadFor)))
	levels, err := s.db.SSTables(pebble.WithKeyRangeFilter([]byte{prefixBody}, []byte{prefixBody + 1}))
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	told := make(map[uint64]bool) // tables of which nothing is left
	for _, tables := range levels {
		for i := range tables {
			t := &tables[i]
			first, ok1 := bodyOf(t.Smallest.UserKey)
			last, ok2 := bodyOf(t.Largest.UserKey)
			if !ok1 || !ok2 || t.Size < deadTable || alive(first, last) || s.beingRead(first, last) {
				continue
			}
			if told[uint64(t.FileNum)] = true; s.deadTables[uint64(t.FileNum)] {
				continue
			}
			if err := b.DeleteRange(idKey(prefixBody, first), append(idKey(prefixBody, last), 0xff, 0xff, 0xff, 0xff, 0xff), nil); err != nil {
				return err
			}
		}
	}
	if b.Empty() {
		return nil
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	s.deadTables = told
	return nil
}

// bodyOf is the message to whose body a key belongs; ok is false when it is no such key.
func bodyOf(key []byte) (id queue.ID, ok bool) {
	if len(key) < 1+idSize || key[0] != prefixBody {
		return "", false
	}
	return queue.ID(key[1 : 1+idSize]), true
}

// beingRead reports whether somebody reads a body between two IDs still.
func (s *Store) beingRead(first, last queue.ID) bool {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	for id := range s.shelf.open {
		if first <= id && id <= last {
			return true
		}
	}
	return false
}

// Full reports whether the disk was full and is not yet good for new mail.
func (s *Store) Full() bool { return s.ballast.spent() }

// room fails when no new mail can be taken.
func (s *Store) room() error {
	if s.ballast.spent() {
		return fmt.Errorf("%w: its reserve is used up", queue.ErrFull)
	}
	return nil
}

// fullFS throws the ballast off when a log or a manifest finds no space, and writes on.
type fullFS struct {
	vfs.FS
	ballast *ballast
}

func (f fullFS) Unwrap() vfs.FS { return f.FS }

// needed reports whether the process cannot go on without the file.
func needed(name string) bool {
	return isLog(name) || isManifest(strings.TrimPrefix(filepath.Base(name), twinPrefix))
}

// again reports whether what failed should be done once more.
func (f fullFS) again(name string, err error) bool {
	switch {
	case !isFull(err):
		return false
	case needed(name):
		return f.ballast.throw()
	}
	time.Sleep(fullPause) // Pebble tries again at once, for ever
	return false
}

// Create makes a file.
func (f fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil && f.again(name, err) {
		file, err = f.FS.Create(name, c)
	}
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, name}, nil
}

// ReuseForWrite makes a log of an old one.
func (f fullFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, to}, nil
}

type fullFile struct {
	vfs.File
	fs   fullFS
	name string
}

func (f fullFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err != nil && f.fs.again(f.name, err) {
		var more int
		more, err = f.File.Write(p[n:])
		n += more
	}
	return n, err
}
