package pebblestore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

func mustVerify(t testing.TB, s *Store) queue.Proof {
	t.Helper()
	p, err := s.Verify(t.Context(), queue.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A head is signed after some time and after some entries; retention by age goes on with
// the chain, also when everything has gone.
func TestHeadsAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		o := Options{Dir: "db", KeyDir: "keys", fs: fs, Retention: 6 * time.Hour}
		s := mustOpen(t, o)
		commitEntry(t, s, "first")
		if p := mustVerify(t, s); p.Signed != 0 || p.Entries != 1 || !p.Fine() {
			t.Errorf("at once: %+v", p)
		}
		time.Sleep(headEvery + time.Second)
		if p := mustVerify(t, s); p.Signed != 1 || p.Heads != 2 || p.Head.Number != 1 || !p.Fine() {
			t.Errorf("after a while: %+v", p)
		}
		for range headEntries + 1 {
			commitEntry(t, s, "more")
		}
		synctest.Wait()
		if p := mustVerify(t, s); p.Head.Number < headEntries || !p.Fine() {
			t.Errorf("after many entries: %+v", p)
		}
		for range 24 {
			time.Sleep(30 * time.Minute)
			commitEntry(t, s, "later")
		}
		if p := mustVerify(t, s); !p.Fine() || p.Low < headEntries || p.Entries < 10 || p.Entries > 20 || p.Heads > 50 {
			t.Errorf("when much has gone: %+v", p)
		}
		time.Sleep(12 * time.Hour)
		p := mustVerify(t, s)
		if !p.Fine() || p.Entries != 0 || p.Head == nil || p.Head.Low != p.Head.Number+1 {
			t.Errorf("when all has gone: %+v", p)
		}
		last := p.Head.Number
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
		commitEntry(t, s, "again")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if p := inspect(t, o, publicKey(t, fs, "keys")); !p.Fine() || p.Signed != 1 || p.Last != last+1 {
			t.Errorf("after that: %+v", p)
		}
	})
}

// The journal stays below its size, and knows what lies at which time.
func TestRetentionBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 256 << 10
		o := Options{Dir: "db", fs: vfs.NewMem(), MaxJournal: limit}
		s := mustOpen(t, o)
		size := func() (octets int, oldest string) {
			err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
				if octets += len(it.Entry) + entryHead + 9; oldest == "" {
					oldest = it.Pos
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return octets, oldest
		}
		text := strings.Repeat("x", 1<<10)
		for i := range 1200 {
			commitEntry(t, s, text)
			time.Sleep(time.Second)
			if i == 600 { // counts survive
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, o)
			}
		}
		synctest.Wait()
		octets, oldest := size()
		if octets > limit+limit/16 || octets < limit*3/4 {
			t.Errorf("%d octets are kept, want about %d", octets, limit)
		}
		if p := mustVerify(t, s); !p.Fine() || p.Low < 800 {
			t.Errorf("proof %+v", p)
		}
		if n := s.Missed(journalPos(1)); n < 800 || s.Missed("") != 0 || s.Missed(oldest) != 0 {
			t.Errorf("missed %d", n)
		}
		first := ""
		err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal, After: s.JournalAt(time.Now().Add(-time.Minute)), Limit: 1}, func(it queue.Item) error {
			first = it.Pos
			return nil
		})
		// 60 entries ago, or up to a block before.
		if want := journalPos(1200 - 60); err != nil || first > want || first < journalPos(1200-60-20) {
			t.Errorf("a minute ago is at %s, want soon before %s (%v)", first, want, err)
		}
		if s.JournalAt(time.Time{}) != "" {
			t.Error("the beginning is not at the start")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A journal from before the chain goes on as one; how much is from before is told.
func TestBeforeTheChain(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: quiet{newLogger(&Options{Logger: slog.New(slog.DiscardHandler)})}})
	if err != nil {
		t.Fatal(err)
	}
	f := forger{t, db}
	now := time.Now()
	for n := uint64(1); n <= 3; n++ {
		f.put(prefixJournal, n, append(binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano())), "old"...))
	}
	f.put(prefixHour, uint64(now.Truncate(time.Hour).Unix()), binary.BigEndian.AppendUint64(nil, 1))
	if err := db.Set([]byte{prefixLayout}, []byte{1}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, Options{Dir: "db", KeyDir: "keys", fs: fs})
	commitEntry(t, s, "new")
	var got []string
	if err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		got = append(got, string(it.Entry))
		return nil
	}); err != nil || fmt.Sprint(got) != "[old old old new]" {
		t.Errorf("journal %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := inspect(t, Options{Dir: "db", fs: fs}, publicKey(t, fs, "keys"))
	if !p.Fine() || p.Before != 3 || p.Entries != 1 || p.Start != 4 || p.Signed != 1 {
		t.Errorf("proof %+v", p)
	}
}

// Blocks of the store that do not read back are named by their entries, and the rest is
// checked all the same.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	dir, keys := t.TempDir(), t.TempDir()
	s := mustOpen(t, Options{Dir: dir, KeyDir: keys})
	for i := range 2000 {
		commitEntry(t, s, fmt.Sprintf("%d %x", i, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16)))) // does not compress
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var largest string
	var size int64
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		if info, err := os.Stat(name); err == nil && info.Size() > size {
			largest, size = name, info.Size()
		}
	}
	b, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(largest, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := inspect(t, Options{Dir: dir}, publicKey(t, vfs.Default, keys))
	if len(p.Breaks) != 1 || p.Breaks[0].Kind != queue.BreakDamaged || p.Breaks[0].Number < 500 || p.Breaks[0].Last > 1500 ||
		p.Breaks[0].Last-p.Breaks[0].Number > 400 || p.Entries+p.Breaks[0].Last-p.Breaks[0].Number+1 != 2000 {
		t.Errorf("proof %+v", p)
	}
}

// A check while the relay writes and removes finds nothing.
func TestVerifyWhileUsed(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "db", fs: vfs.NewMem(), MaxJournal: 64 << 10})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	text := []byte(strings.Repeat("x", 500))
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := s.Commit(context.Background(), &queue.Change{Entries: [][]byte{text, text}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	trimmed := false
	for rounds := 0; rounds < 50 || !trimmed; rounds++ {
		if p := mustVerify(t, s); !p.Fine() {
			t.Errorf("proof %+v", p)
			break
		}
		trimmed = s.journal.low.Load() > 1
	}
	cancel()
	writers.Wait()
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() error {
		s, err := Open(Options{Dir: t.TempDir(), KeyDir: dir})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that is open to others: %v", err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "no Ed25519 key in PEM") {
		t.Errorf("a key that is none: %v", err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(binary.BigEndian.AppendUint64(nil, 1), "old"...))
	value := make([]byte, entryHead+3)
	putEntry(value, &storedEntry{at: 7, link: queue.Hash{1}, octets: []byte("new")})
	f.Add(value)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil || !e.chained {
			return
		}
		again := make([]byte, entryHead+len(e.octets))
		putEntry(again, &e)
		if !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// missedObserver hears of what a reader missed.
type missedObserver struct{ entries uint64 }

func (*missedObserver) Accepted(*queue.Message, int)                             {}
func (*missedObserver) Settled(*queue.Message, *queue.Envelope, []queue.Outcome) {}
func (*missedObserver) Noticed(queue.NoticeKind)                                 {}
func (o *missedObserver) Missed(_ string, entries uint64)                        { o.entries += entries }

// A reader that comes back after retention has passed it is told what it missed, and goes on.
func TestFollowerWasTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := &missedObserver{}
		s := mustOpen(t, Options{Dir: "db", fs: vfs.NewMem(), Retention: 2 * time.Hour})
		q, err := queue.New(queue.Options{Store: s, Observer: o, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		follow := func() (n int) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- q.Follow(ctx, "reports", func([]byte) error { n++; return nil }) }()
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			return n
		}
		commitEntry(t, s, "1")
		if n := follow(); n != 1 || o.entries != 0 {
			t.Errorf("%d entries at first, %d missed", n, o.entries)
		}
		for range 5 {
			commitEntry(t, s, "missed")
		}
		time.Sleep(6 * time.Hour)
		commitEntry(t, s, "last")
		if n := follow(); n != 1 || o.entries != 5 || !strings.Contains(log.String(), "reader=reports missed=5") {
			t.Errorf("%d entries later, %d missed; log %q", n, o.entries, log.String())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
