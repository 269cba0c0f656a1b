package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/sealpost/sealpost/queue"
)

// Options of a Store. Dir is needed.
type Options struct {
	Dir string // made when missing, mode 0700; one process at a time
	// Retention is the age at which journal entries go, whether somebody has read
	// them or not (an hour of slack); 0: never.
	Retention time.Duration
	// MaxJournal is how many octets of journal are kept: the oldest go above it, in blocks
	// of up to an hour, whoever has read them. 0: no limit.
	MaxJournal int64
	// KeyDir has the key that signs the heads of the journal (journal.pem, mode 0600, made when
	// missing) and its public half (journal.pub). "": Dir, where it proves little.
	KeyDir string
	// Guest: who opens the store only looks. Where there is no key for the journal's heads
	// none is made, and nothing is signed.
	Guest bool
	// Before is called when cells can be read and before anything is signed; an error ends Open, which
	// returns it as it is. nil: nobody asks.
	Before func(*Store) error
	Logger *slog.Logger // nil: discard
	// Fatal ends the process when the disk failed under the log; it must neither
	// return nor panic, for Pebble's locks are held. nil: os.Exit. The code is 3.
	Fatal func(code int)

	fs vfs.FS // tests: another file system
	// disk is the size of the file system, in octets; 0: unknown.
	disk uint64
	// free tells the free space of Dir. nil: FreeBytes, or not asked with another fs.
	free func(dir string) (uint64, error)
}

// fatalCode is the exit code for a storage that became unusable.
const fatalCode = 3

// startReserve is the free space, in octets, without which the store is not opened.
// Opening writes: a new log, a manifest, and one table of what the old log still
// holds, all of it synced. Most of a log is of messages that are done and leaves nothing
// in a table, so 16 MiB are plenty for a usual one and little on any disk that is worth
// queueing on. A log that needs more ends the start by ENOSPC (logger.background).
const startReserve = 16 << 20

// Bounds of a memtable. Big ones are good: most messages die in them.
const (
	memTableMin = 1 << 20
	memTableMax = 32 << 20
	memTables   = 4 // at most, before writes wait
)

// Bounds of how many flushes may lie over each other before they are merged. Most mail that outlives a
// memtable is gone before the next few are full, and what is merged late is merged without it: a fifth of
// what acceptance took of the processor went into merging at two. A small disk has no room to wait.
const (
	flushesMin  = 2
	flushesMax  = 12
	flushesPart = 64 // the disk is that many times what lies there
	// flushesStop is how many octets of memtables may lie over each other before writes wait: more than a
	// small disk has, for on a full one nothing can be merged, and what makes room is written.
	flushesStop = 1 << 30
)

// deletedAfter is how long large bodies that are done may stay on disk: what removes them is
// small, and would be in memory for long.
const deletedAfter = 5 * time.Second

// Store is a queue.Store and a queue.Counter. Make one with Open.
type Store struct {
	db         *pebble.DB
	lock       *pebble.Lock
	log        logger
	schedule   *queue.Schedule
	order      sync.Mutex // its order of steps is that of the write-ahead log
	journal    journal
	signer     signer
	shelf      shelf
	buffers    sync.Pool // *[]byte with room for a chunk
	small      sync.Pool // *[]byte of smallSize
	tables     tables
	notes      *notes
	ballast    *ballast
	clearing   sync.Mutex      // held while dead bodies are cleared
	deadTables map[uint64]bool // tables that were cleared; under clearing
	cleared    atomic.Int64    // when MakeRoom did something last, Unix ns
	stop       chan struct{}
	work       chan struct{} // capacity 1: a head is due, or the journal is too large
	keeper     sync.WaitGroup
}

var (
	_ queue.Store     = (*Store)(nil)
	_ queue.Counter   = (*Store)(nil)
	_ queue.Historian = (*Store)(nil)
	_ queue.Prover    = (*Store)(nil)
	_ queue.Prover    = (*Archive)(nil)
)

// Open opens the store in a directory, or makes one. It fails when another process
// has it open, and when the disk is full. Close it.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("pebblestore: Options.Dir is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = os.Exit
	}
	log := newLogger(&o)
	reserve := &ballast{log: log}
	real := o.fs == nil
	if real {
		o.fs = vfs.Default
		if o.free == nil {
			o.free = FreeBytes
		}
	}
	if err := o.fs.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebblestore: %w", err)
	}
	if real {
		if err := o.measure(reserve); err != nil {
			return nil, err
		}
	}
	if err := o.checkSpace(reserve); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(o.Dir, o.fs)
	if err != nil {
		return nil, fmt.Errorf("pebblestore: %s cannot be locked (is another sealpost using it?): %w", o.Dir, err)
	}
	s := &Store{
		lock: lock, log: log, ballast: reserve, schedule: queue.NewSchedule(), stop: make(chan struct{}), work: make(chan struct{}, 1),
		journal: journal{retention: o.Retention, limit: o.MaxJournal}, shelf: shelf{open: make(map[queue.ID]*volume)},
	}
	s.buffers.New = func() any { b := make([]byte, chunkSize); return &b }
	s.small.New = func() any { b := make([]byte, smallSize); return &b }
	s.notes = newNotes(&o, log)
	po := settings(&o, s, lock)
	s.tables = newTables(o.Dir, po)
	if err := (&examination{o.fs, o.Dir, s.log, s.log.check}).run(po, s.notes); err != nil {
		return nil, errors.Join(fmt.Errorf("pebblestore: open %s: %w", o.Dir, err), lock.Close())
	}
	if s.db, err = pebble.Open(o.Dir, po); err != nil {
		if fileIsGone(err) {
			err = fmt.Errorf("a file of the queue is gone, or was cut short: nothing was changed: put it back, or restore the queue from a backup: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("pebblestore: open %s: %w", o.Dir, err), lock.Close())
	}
	if o.Before != nil {
		if err := o.Before(s); err != nil {
			return nil, errors.Join(err, s.db.Close(), s.notes.close(), lock.Close())
		}
	}
	if err := s.load(&o); err != nil {
		if pebble.IsCorruptionError(err) {
			err = fmt.Errorf("%w: nothing was changed: restore the queue from a backup", err)
		}
		return nil, errors.Join(fmt.Errorf("pebblestore: open %s: %w", o.Dir, err), s.db.Close(), s.notes.close(), lock.Close())
	}
	s.notes.setOptions()
	s.ballast.open()
	s.log.opened.Store(true)
	s.keeper.Go(s.keep)
	s.keeper.Go(func() { s.ballast.examine(s.stop) })
	return s, nil
}

// measure fits the store to its disk: memtables, of which logs and tables are several times
// the size, and the reserve are small on a small one.
func (o *Options) measure(b *ballast) error {
	var st unix.Statfs_t
	if err := unix.Statfs(o.Dir, &st); err != nil {
		return fmt.Errorf("pebblestore: size of the disk of %s: %w", o.Dir, err)
	}
	o.disk = st.Blocks * uint64(st.Bsize)
	b.path, b.free = filepath.Join(o.Dir, ballastName), o.free
	b.size = int64(memTables*o.memTable()) + ballastMore
	return nil
}

// memTable is the size of a memtable.
func (o *Options) memTable() uint64 {
	if o.disk == 0 {
		return memTableMax
	}
	return min(max(o.disk/32, memTableMin), memTableMax)
}

// flushes is how many flushes lie over each other before they are merged.
func (o *Options) flushes() int {
	return int(min(max(o.disk/(flushesPart*o.memTable()), flushesMin), flushesMax))
}

// reserve is the free space without which the store is not opened.
func (o *Options) reserve() uint64 {
	if o.disk == 0 {
		return startReserve
	}
	return min(o.disk/8, startReserve)
}

// checkSpace fails when the disk is so full that opening the store could not end:
// Pebble tries a flush that failed again for ever, at once, and waits for it. The
// ballast goes first.
func (o *Options) checkSpace(b *ballast) error {
	if o.free == nil {
		return nil
	}
	n, err := o.free(o.Dir)
	if err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	if n < o.reserve() && b.throw() {
		if n, err = o.free(o.Dir); err != nil {
			return fmt.Errorf("pebblestore: %w", err)
		}
	}
	if n < o.reserve() {
		return fmt.Errorf("pebblestore: the disk is too full to open %s: %d KiB are free there, at least %d KiB are needed: free some space, then start again",
			o.Dir, n>>10, o.reserve()>>10)
	}
	return nil
}

// settings are Pebble's, for a store where most values live for a moment.
func settings(o *Options, s *Store, lock *pebble.Lock) *pebble.Options {
	log := s.log
	po := &pebble.Options{
		FS:   &walFS{twinFS{wideFS{fullFS{tableFS{o.fs, log, log.check}, s.ballast}}, log}, o.Dir, log, s.notes},
		Lock: lock,
		// Pinned: a newer format cannot be undone. The next ones only bring value separation.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		CacheSize:          16 << 20,
		// Big, so that most messages die in it and are never written to a table; there
		// are up to three of them under load, and the aim is 300 MB for a million messages.
		MemTableSize:                o.memTable(),
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       o.flushes(),
		L0StopWritesThreshold:       int(flushesStop / o.memTable()),
		LBaseMaxBytes:               128 << 20,
		BytesPerSync:                512 << 10,
		WALBytesPerSync:             512 << 10,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       deletedAfter,
		Logger:                      log,
		EventListener:               log.listener(s.ballast),
	}
	po.Experimental.SpanPolicyFunc = apart
	po.Experimental.CompactionScheduler = newScheduler(log.resting)
	return po
}

// apart ends each table with the kind of its keys. What a flush leaves of a moment is
// a little of each kind; in one table it would reach from the first body to the last row,
// and be merged with every table of a million messages that wait.
func apart(key []byte) (policy pebble.SpanPolicy, end []byte, err error) {
	if len(key) > 0 && key[0] < 0xff {
		end = []byte{key[0] + 1}
	}
	return policy, end, nil
}

// load builds the schedule and the journal's numbers from what is on disk.
func (s *Store) load(o *Options) error {
	if err := s.checkLayout(); err != nil {
		return err
	}
	if err := s.loadRows(); err != nil {
		return err
	}
	if err := s.loadJournal(o); err != nil {
		return err
	}
	if err := errors.Join(s.removeOrphans(), s.tables.removeLeft()); err != nil {
		return err
	}
	return s.trim(time.Now())
}

func (s *Store) checkLayout() error {
	v, ok, err := s.get([]byte{prefixLayout})
	switch {
	case pebble.IsCorruptionError(err):
		// Rows say their own version.
		s.log.note(Damage{File: "queue", What: "the layout's version cannot be read: it is taken for this program's"})
		return nil
	case err != nil:
		return err
	case !ok || len(v) == 1 && v[0] == 1:
		// Layout 1 differs in that its entries are not chained; a program that knows no
		// other must not go on with them.
		return s.db.Set([]byte{prefixLayout}, []byte{layoutVersion}, pebble.Sync)
	case len(v) != 1 || v[0] != layoutVersion:
		return fmt.Errorf("layout version %d: this program knows %d", v, layoutVersion)
	}
	return nil
}

// loadRows fills the schedule: one goroutine reads, the other books. A row whose
// header cannot be read stays where it is: the rest must go on.
func (s *Store) loadRows() error {
	pages := make(chan []queue.Booking, 8)
	var clerk sync.WaitGroup
	clerk.Go(func() {
		for page := range pages {
			s.schedule.Add(page...)
		}
	})
	gaps, err := s.readRows(pages)
	close(pages)
	clerk.Wait()
	s.tell(gaps)
	return err
}

func (s *Store) readRows(pages chan<- []queue.Booking) ([]gap, error) {
	c, err := s.walk([]byte{prefixRow}, []byte{prefixRow + 1})
	if err != nil {
		return nil, err
	}
	defer c.close()
	var page []queue.Booking
	for ok := c.next(true); ok; ok = c.next(false) {
		id, n, err := parseNumberKey(c.it.Key())
		if err != nil {
			return nil, err
		}
		r, err := decodeRow(c.it.Value())
		if err == nil {
			_, err = queue.ParseID(string(id))
		}
		if err != nil {
			s.log.note(Damage{File: "queue", Messages: []queue.ID{id}, What: fmt.Sprintf("envelope %d of message %q cannot be read: %v", n, id, err)})
			continue
		}
		page = append(page, queue.Booking{
			Row:  queue.Row{Message: id, Number: n, Lane: r.lane, Group: r.group, Due: r.due, State: r.state},
			Size: r.size, Writes: r.writes,
		})
		if len(page) == pageItems {
			pages <- page
			page = make([]queue.Booking, 0, pageItems)
		}
	}
	pages <- page
	return c.gaps, c.err
}

// keep does what is not for the hot path: signed heads, retention, and room on a full disk.
func (s *Store) keep() {
	hourly, heads, clear := time.NewTicker(time.Hour), time.NewTicker(headEvery), time.NewTicker(clearEvery)
	defer hourly.Stop()
	defer heads.Stop()
	defer clear.Stop()
	for {
		var err error
		select {
		case <-s.stop:
			return
		case <-clear.C:
			if s.ballast.spent() {
				s.MakeRoom()
			}
		case <-hourly.C:
			err = s.trim(time.Now())
		case <-s.work:
			if err = s.trim(time.Now()); err == nil {
				err = s.sign(time.Now())
			}
		case <-heads.C:
			err = s.sign(time.Now())
		}
		if err != nil {
			s.log.Errorf("journal: %v", err)
		}
	}
}

// wake has keep look whether there is work.
func (s *Store) wake() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// Close ends the store. Bodies must be closed before. The last thing that is written is a
// head over all entries.
func (s *Store) Close() error {
	close(s.stop)
	s.keeper.Wait()
	return errors.Join(s.sign(time.Now()), s.db.Close(), s.notes.close(), s.lock.Close())
}

// Stats counts rows by state.
func (s *Store) Stats() queue.Stats { return s.schedule.Stats() }

// get returns a copy of a value.
func (s *Store) get(key []byte) (value []byte, ok bool, err error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("pebblestore: %w", err)
	}
	value = append(make([]byte, 0, len(v)), v...)
	return value, true, closer.Close()
}
