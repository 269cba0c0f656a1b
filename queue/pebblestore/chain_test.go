package pebblestore

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// chainDisk is a store with two signed heads: over entries 1 to 10 and 1 to 20.
func chainDisk(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	for range 2 {
		s := mustOpen(t, Options{Dir: "db", KeyDir: "keys", fs: fs})
		for i := range 10 {
			commitEntry(t, s, fmt.Sprintf("entry %d", i))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

func commitEntry(t testing.TB, s *Store, text string) {
	t.Helper()
	if err := s.Commit(t.Context(), &queue.Change{Entries: [][]byte{[]byte(text)}}); err != nil {
		t.Fatal(err)
	}
}

func publicKey(t testing.TB, fs vfs.FS, dir string) ed25519.PublicKey {
	t.Helper()
	b, err := readFile(fs, fs.PathJoin(dir, PublicKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePublicKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// inspect checks a store that nobody has open.
func inspect(t testing.TB, o Options, keys ...ed25519.PublicKey) queue.Proof {
	t.Helper()
	a, err := Inspect(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	p, err := a.Verify(t.Context(), queue.VerifyOptions{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// forger is somebody who can write to the store, and knows its forms.
type forger struct {
	t  *testing.T
	db *pebble.DB
}

func (f forger) get(prefix byte, n uint64) []byte {
	f.t.Helper()
	v, closer, err := f.db.Get(sequenceKey(prefix, n))
	if err != nil {
		f.t.Fatalf("%c %d: %v", prefix, n, err)
	}
	defer closer.Close()
	return append([]byte(nil), v...)
}

func (f forger) put(prefix byte, n uint64, v []byte) {
	f.t.Helper()
	if err := f.db.Set(sequenceKey(prefix, n), v, pebble.Sync); err != nil {
		f.t.Fatal(err)
	}
}

func (f forger) remove(prefix byte, n uint64) {
	f.t.Helper()
	if err := f.db.Delete(sequenceKey(prefix, n), pebble.Sync); err != nil {
		f.t.Fatal(err)
	}
}

func (f forger) change(n uint64, edit func(*storedEntry)) {
	f.t.Helper()
	e, err := decodeEntry(f.get(prefixJournal, n))
	if err != nil {
		f.t.Fatal(err)
	}
	edit(&e)
	v := make([]byte, entryHead+len(e.octets))
	putEntry(v, &e)
	f.put(prefixJournal, n, v)
}

// relink makes entries fit together again.
func (f forger) relink(from, to uint64) {
	f.t.Helper()
	link := queue.Hash{}
	if from > 1 {
		before, err := decodeEntry(f.get(prefixJournal, from-1))
		if err != nil {
			f.t.Fatal(err)
		}
		link = before.link
	}
	for n := from; n <= to; n++ {
		f.change(n, func(e *storedEntry) {
			link = queue.Link(link, n, e.at, queue.Leaf(e.octets))
			e.link = link
		})
	}
}

// Heads are 1 (none), 2 (entry 10) and 3 (entry 20).
func TestTampering(t *testing.T) {
	t.Parallel()
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	tests := []struct {
		name   string
		forge  func(f forger)
		number uint64
		kind   queue.BreakKind // "" for none
		breaks int
	}{
		{"nothing", func(forger) {}, 0, "", 0},
		{"octets changed", func(f forger) { f.change(7, func(e *storedEntry) { e.octets[0] ^= 1 }) }, 7, queue.BreakAltered, 1},
		{"first octets changed", func(f forger) { f.change(1, func(e *storedEntry) { e.octets[0] ^= 1 }) }, 1, queue.BreakAltered, 1},
		{"last octets changed", func(f forger) { f.change(20, func(e *storedEntry) { e.octets[0] ^= 1 }) }, 20, queue.BreakAltered, 1},
		{"octets cut", func(f forger) { f.change(7, func(e *storedEntry) { e.octets = e.octets[:3] }) }, 7, queue.BreakAltered, 1},
		{"time changed", func(f forger) { f.change(12, func(e *storedEntry) { e.at += int64(time.Hour) }) }, 12, queue.BreakAltered, 1},
		{"link changed", func(f forger) { f.change(5, func(e *storedEntry) { e.link[3] ^= 1 }) }, 5, queue.BreakAltered, 1},
		{"link before a head changed", func(f forger) { f.change(10, func(e *storedEntry) { e.link[3] ^= 1 }) }, 10, queue.BreakAltered, 1},
		{"exchanged", func(f forger) {
			a, b := f.get(prefixJournal, 3), f.get(prefixJournal, 17)
			f.put(prefixJournal, 3, b)
			f.put(prefixJournal, 17, a)
		}, 3, queue.BreakAltered, 4},
		{"copied", func(f forger) { f.put(prefixJournal, 8, f.get(prefixJournal, 7)) }, 8, queue.BreakAltered, 2},
		{"one removed", func(f forger) { f.remove(prefixJournal, 15) }, 15, queue.BreakMissing, 1},
		{"the first removed", func(f forger) { f.remove(prefixJournal, 1) }, 1, queue.BreakMissing, 1},
		{"one removed before a head", func(f forger) { f.remove(prefixJournal, 10) }, 10, queue.BreakMissing, 1},
		{"the tail cut off", func(f forger) {
			for n := uint64(15); n <= 20; n++ {
				f.remove(prefixJournal, n)
			}
		}, 15, queue.BreakMissing, 1},
		{"one left out and the rest moved", func(f forger) {
			for n := uint64(5); n < 20; n++ {
				f.put(prefixJournal, n, f.get(prefixJournal, n+1))
			}
			f.remove(prefixJournal, 20)
			f.relink(5, 19)
		}, 1, queue.BreakRewritten, 2},
		{"one put in and the rest moved", func(f forger) {
			for n := uint64(21); n > 12; n-- {
				f.put(prefixJournal, n, f.get(prefixJournal, n-1))
			}
			f.relink(12, 21)
		}, 11, queue.BreakRewritten, 1},
		{"one written and all made to fit", func(f forger) {
			f.change(13, func(e *storedEntry) { e.octets[0] ^= 1 })
			f.relink(13, 20)
		}, 11, queue.BreakRewritten, 1},
		{"one written and some made to fit", func(f forger) {
			f.change(3, func(e *storedEntry) { e.octets[0] ^= 1 })
			f.relink(3, 6)
		}, 7, queue.BreakAltered, 1},
		{"one made plain", func(f forger) {
			e, err := decodeEntry(f.get(prefixJournal, 9))
			if err != nil {
				f.t.Fatal(err)
			}
			f.put(prefixJournal, 9, append(binary.BigEndian.AppendUint64(nil, uint64(e.at)), e.octets...))
		}, 9, queue.BreakAltered, 1},
		{"one of no form", func(f forger) { f.put(prefixJournal, 9, []byte{0xff, 1}) }, 9, queue.BreakDamaged, 1},
		{"a head changed", func(f forger) {
			v := f.get(prefixHead, 2)
			v[20] ^= 1
			f.put(prefixHead, 2, v)
		}, 1, queue.BreakHead, 1},
		{"an old head for the newest", func(f forger) { f.put(prefixHead, 3, f.get(prefixHead, 2)) }, 11, queue.BreakHead, 1},
		{"an old head on top", func(f forger) { f.put(prefixHead, 4, f.get(prefixHead, 2)) }, 21, queue.BreakHead, 1},
		{"a head removed", func(f forger) { f.remove(prefixHead, 2) }, 1, queue.BreakHead, 1},
		{"the first head removed", func(f forger) { f.remove(prefixHead, 1) }, 1, queue.BreakHead, 1},
		{"all heads removed", func(f forger) {
			for n := uint64(1); n <= 3; n++ {
				f.remove(prefixHead, n)
			}
		}, 1, queue.BreakHead, 1},
		{"a foreign key", func(f forger) {
			h, err := queue.ParseHead(f.get(prefixHead, 3))
			if err != nil {
				f.t.Fatal(err)
			}
			f.change(13, func(e *storedEntry) { e.octets[0] ^= 1 })
			f.relink(13, 20)
			e, err := decodeEntry(f.get(prefixJournal, 20))
			if err != nil {
				f.t.Fatal(err)
			}
			h.Hash = e.link
			f.put(prefixHead, 3, queue.SignHead(&h, other))
		}, 11, queue.BreakHead, 1},
		{"the mark raised", func(f forger) {
			if err := f.db.Set(named(prefixState, stateLow), binary.BigEndian.AppendUint64(nil, 6), pebble.Sync); err != nil {
				f.t.Fatal(err)
			}
		}, 0, queue.BreakMark, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fs := chainDisk(t)
			key := publicKey(t, fs, "keys")
			db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: quiet{newLogger(&Options{Logger: slog.New(slog.DiscardHandler)})}})
			if err != nil {
				t.Fatal(err)
			}
			test.forge(forger{t, db})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			p := inspect(t, Options{Dir: "db", fs: fs}, key)
			switch {
			case len(p.Breaks)+p.More != test.breaks:
				t.Errorf("%d breaks, want %d: %v", len(p.Breaks), test.breaks, p.Breaks)
			case test.breaks > 0 && (p.Breaks[0].Number != test.number || p.Breaks[0].Kind != test.kind):
				t.Errorf("the first break is %v, want %s at %d", p.Breaks[0], test.kind, test.number)
			case test.breaks == 0 && (p.Entries != 20 || p.Signed != 20 || p.Heads != 3 || p.Head.Number != 20):
				t.Errorf("proof %+v", p)
			}
			// The relay opens it all the same, goes on, and does not make it look good.
			s := mustOpen(t, Options{Dir: "db", KeyDir: "keys", fs: fs})
			commitEntry(t, s, "more")
			running, err := s.Verify(t.Context(), queue.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if running.Fine() != (test.breaks == 0) {
				t.Errorf("while it runs: %+v", running)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if after := inspect(t, Options{Dir: "db", fs: fs}, key); after.Fine() != (test.breaks == 0) {
				t.Errorf("after the relay has run: %+v", after)
			}
		})
	}
}

func TestInspectChangesNothing(t *testing.T) {
	t.Parallel()
	fs := chainDisk(t)
	before := strings.Join(mustList(t, fs, "db"), " ")
	if p := inspect(t, Options{Dir: "db", fs: fs}); !p.Fine() {
		t.Error(p)
	}
	if after := strings.Join(mustList(t, fs, "db"), " "); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	if _, err := Inspect(Options{Dir: "none", fs: fs}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("nothing was looked at: %v", err)
	}
}

func mustList(t testing.TB, fs vfs.FS, dir string) []string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		info, err := fs.Stat(fs.PathJoin(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		names[i] = fmt.Sprint(n, ":", info.Size())
	}
	slices.Sort(names)
	return names
}
