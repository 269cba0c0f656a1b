package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/queue"
)

// holdings is what a store must hold: bodies by message.
type holdings map[queue.ID]int

// populate fills a directory with messages in tables of several levels and in the log, and
// leaves it as a process does that is killed (clean: that ends).
func populate(t *testing.T, dir string, clean bool) holdings {
	t.Helper()
	d := newDisk(t)
	s := mustOpen(t, Options{Dir: "db", fs: d.fs})
	held := holdings{}
	add := func(sizes ...int) {
		for _, size := range sizes {
			in := insertion(nil)
			in.Body = bytes.NewReader(noise(in.ID, size))
			if err := s.Insert(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			held[in.ID] = size
		}
	}
	for range 3 {
		for range 40 {
			add(3000, 40)
		}
		add(600 << 10)
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	add(3000, 3000, 400<<10)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		add(3000, 40)
	}
	add(300 << 10)
	// Some are done: what was removed must not come again unnoticed.
	fs := d.fs
	if !clean {
		fs = d.Cut(100, 1).(disk).fs
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(fs, vfs.Default, "db", dir); !ok || err != nil {
		t.Fatal(err)
	}
	return held
}

// noise is a body that does not compress.
func noise(id queue.ID, size int) []byte {
	var seed [32]byte
	copy(seed[:], id)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// check reads all that is there. What is lost must be told in the log, by its name.
func (h holdings) check(t *testing.T, s *Store, log fmt.Stringer) (lost int) {
	t.Helper()
	listed := make(map[queue.ID]bool)
	if err := s.Scan(context.Background(), queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		listed[it.Row.Message] = true
		return nil
	}); err != nil {
		t.Errorf("scan: %v", err)
	}
	for id, size := range h {
		err := whole(s, id, size)
		if err == nil && !listed[id] {
			err = fmt.Errorf("not listed")
		}
		if err != nil {
			lost++
			if !strings.Contains(log.String(), string(id)) {
				t.Errorf("message %s of %d octets: %v, and nobody says so", id, size, err)
			}
		}
	}
	return lost
}

func whole(s *Store, id queue.ID, size int) error {
	if _, _, err := s.Read(context.Background(), id); err != nil {
		return err
	}
	b, err := s.Body(context.Background(), id)
	if err != nil {
		return err
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, noise(id, size)) {
		return fmt.Errorf("its body is another")
	}
	return nil
}

// inMemory is a copy of a directory, as "db", of which more copies cost little.
func inMemory(t *testing.T, dir string) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if ok, err := vfs.Clone(vfs.Default, fs, dir, "db"); !ok || err != nil {
		t.Fatal(err)
	}
	return fs
}

// spoiled opens a copy of a directory in which some octets of a file are wrong.
func spoiled(t *testing.T, dir string, copied *vfs.MemFS, name string, spoil func([]byte)) (s *Store, log *bytes.Buffer, err error) {
	t.Helper()
	fs := copied.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	spoil(data)
	f, err := fs.Create(fs.PathJoin("db", name), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	s, err = Open(Options{Dir: "db", fs: fs, Logger: slog.New(slog.NewTextHandler(log, nil)), Fatal: func(code int) {
		t.Errorf("%s: ended with %d: %s", name, code, log)
		select {}
	}})
	return s, log, err
}

// One wrong octet, in any file, at any place: found, named, put right, and nothing is lost.
func TestOneWrongOctet(t *testing.T) {
	t.Parallel()
	samples := 2 // with 40 of each file it takes three minutes, and finds no more
	if raceDetector || testing.Short() {
		samples = 1
	}
	for _, clean := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "db")
		held := populate(t, dir, clean)
		copied := inMemory(t, dir)
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(3, 4))
		for i, file := range files {
			if raceDetector && i%4 > 0 {
				continue // there is no race to be found in it, and it is slow
			}
			info, err := file.Info()
			if err != nil {
				t.Fatal(err)
			}
			size := int(info.Size())
			if size == 0 || clean && filepath.Ext(file.Name()) == ".sst" {
				continue // of tables one kind is enough
			}
			n := samples
			if ext := filepath.Ext(file.Name()); ext == "" || ext == ".note" {
				n *= 8 // small ones, all of which is read
			}
			silent := 0
			for i := range n {
				at := rng.IntN(size)
				switch i {
				case 0:
					at = 0
				case 1:
					at = size - 1
				}
				began := time.Now()
				s, log, err := spoiled(t, dir, copied, file.Name(), func(b []byte) { b[at] ^= byte(1 + rng.IntN(255)) })
				if err != nil {
					t.Errorf("%s, octet %d of %d: %v", file.Name(), at, size, err)
					continue
				}
				if lost := held.check(t, s, log); lost > 0 {
					t.Errorf("%s, octet %d of %d: %d are lost: %s", file.Name(), at, size, lost, log)
				}
				if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
					t.Errorf("%s, octet %d of %d: compaction: %v", file.Name(), at, size, err)
				}
				if !strings.Contains(log.String(), file.Name()) {
					silent++
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d > 20*time.Second {
					t.Errorf("%s, octet %d: took %v", file.Name(), at, d)
				}
			}
			if ext := filepath.Ext(file.Name()); silent > 0 && ext != ".log" && ext != ".sst" {
				t.Errorf("%s of %d octets: %d of %d wrong ones went by unnoticed", file.Name(), size, silent, n)
			}
			t.Logf("clean %v, %s of %d octets: %d of %d went by unnoticed and did no harm", clean, file.Name(), size, silent, n)
		}
	}
}

// Damage that cannot be put right, a sector of noise: the store opens or says what is to
// be done, what is lost is named, the rest is there, and nothing spins.
func TestSectorIsLost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	held := populate(t, dir, false)
	copied := inMemory(t, dir)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		if raceDetector && i%4 > 0 {
			continue // there is no race to be found in it, and it is slow
		}
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		size := int(info.Size())
		for _, at := range []int{0, size / 3, size - 512} {
			if size == 0 {
				break
			}
			began := time.Now()
			s, log, err := spoiled(t, dir, copied, file.Name(), func(b []byte) {
				_, _ = rand.NewChaCha8([32]byte{1}).Read(b[max(at, 0):min(max(at, 0)+512, size)])
			})
			if err != nil {
				if !strings.Contains(err.Error(), file.Name()) || !strings.Contains(err.Error(), "restore") {
					t.Errorf("%s at %d: it does not say what to do: %v", file.Name(), at, err)
				}
				t.Logf("%s at %d: %v", file.Name(), at, err)
				continue
			}
			lost := held.check(t, s, log)
			if !strings.Contains(log.String(), file.Name()) {
				t.Logf("%s at %d: unnoticed", file.Name(), at)
			}
			claimed := len(claimAll(t, s))
			if claimed < len(held)-lost && claimed < 1000 {
				t.Errorf("%s at %d: %d rows of %d can be claimed, %d are lost", file.Name(), at, claimed, len(held), lost)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			t.Logf("%s at %d of %d: %d lost, %d claimed, %d pieces of damage, %v, log %d", file.Name(), at, size, lost, claimed, len(s.Damage()), time.Since(began), log.Len())
		}
	}
}
