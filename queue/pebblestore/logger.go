package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// logger takes Pebble's words to slog. Its Fatalf ends the process in our way.
type logger struct {
	slog   *slog.Logger
	fatal  func(code int)
	opened *atomic.Bool // Open is done
	seen   *repeats
	rest   *atomic.Int64 // until when no compaction begins, Unix ns
	damage *damages
	check  *checker
}

func newLogger(o *Options) logger {
	return logger{o.Logger, o.Fatal, new(atomic.Bool), &repeats{last: make(map[string]repeat)}, new(atomic.Int64), newDamages(), newChecker()}
}

// Infof is for what Pebble does all the time.
func (l logger) Infof(format string, args ...any) {
	l.slog.Debug("storage: " + fmt.Sprintf(format, args...))
}

// Errorf is for what went wrong and is tried again.
func (l logger) Errorf(format string, args ...any) {
	l.slog.Error("storage: " + fmt.Sprintf(format, args...))
}

// Fatalf is for a log that cannot be written: what was promised cannot be kept
// from here on. It does not return.
func (l logger) Fatalf(format string, args ...any) {
	l.slog.Error("storage unusable, the process ends: "+fmt.Sprintf(format, args...), "exit", fatalCode)
	l.fatal(fatalCode)
	panic("pebblestore: Options.Fatal returned")
}

// listener hears of the few events that an operator must know.
func (l logger) listener(b *ballast) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: l.background,
		FlushEnd: func(i pebble.FlushInfo) {
			if isFull(i.Err) {
				b.throw()
			}
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if isFull(i.Err) {
				b.tight()
			}
		},
		// Not fatal, as Pebble has it: the rest of the queue goes on.
		// tableFS has told already what it is; this says in which file, in Pebble's words.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			if _, ok := l.seen.note(errors.New("corrupted " + i.Path)); ok {
				l.Errorf("corrupted data: %s", i.Path)
			}
		},
		DiskSlow:        func(i pebble.DiskSlowInfo) { l.slog.Warn("storage: slow disk: " + i.String()) },
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { l.slog.Warn("storage: " + i.String()) },
		WriteStallEnd:   func() { l.slog.Warn("storage: write stall ended") },
	}
}

// background hears of a flush or a compaction that failed. Pebble does it again at
// once, thousands of times a second while the disk is full, and Open waits for it: there
// the process ends instead, for nobody could stop it. A relay that runs goes on: what it
// has can still be sent, which makes room.
func (l logger) background(err error) {
	full := isFull(err)
	if full && !l.opened.Load() {
		l.Fatalf("the disk is too full to open the store: %v: free some space, then start again", err)
	}
	rest := compactionRest
	if full {
		rest = fullRest
	}
	l.rest.Store(time.Now().Add(rest).UnixNano())
	switch n, ok := l.seen.note(err); {
	case !ok:
	case n > 0:
		l.Errorf("background: %v (and %d times more since it was logged last)", err, n)
	default:
		l.Errorf("background: %v", err)
	}
}

// repeatEvery is the least time between two lines about the same background error.
const repeatEvery = time.Minute

// repeats knows which errors were logged of late.
type repeats struct {
	mu   sync.Mutex
	last map[string]repeat
}

// repeat is when an error was logged last and how often it came since.
type repeat struct {
	at   time.Time
	more int
}

// note reports whether err is to be logged now, and how often it was not since the
// last time.
func (r *repeats) note(err error) (more int, ok bool) {
	key := sameness(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	was, known := r.last[key]
	if known && now.Sub(was.at) < repeatEvery {
		was.more++
		r.last[key] = was
		return 0, false
	}
	for k, v := range r.last { // what has ended is forgotten
		if now.Sub(v.at) >= 2*repeatEvery {
			delete(r.last, k)
		}
	}
	r.last[key] = repeat{at: now}
	return was.more, true
}

// sameness is an error's text without its digits: each try writes a file with a
// new number.
func sameness(err error) string {
	return strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' {
			return -1
		}
		return c
	}, err.Error())
}
