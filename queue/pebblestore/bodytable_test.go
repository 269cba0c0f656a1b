package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sealpost/sealpost/queue"
)

// largeBody reaches well behind what goes through the log, and ends within a chunk.
func largeBody() []byte {
	b := make([]byte, 9*chunkSize+1234)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func readBody(t *testing.T, s *Store, id queue.ID) []byte {
	t.Helper()
	r, err := s.Body(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files lists what of a kind is in the store's directory, and how much it is.
func files(t *testing.T, fs vfs.FS, dir, ext string) (names []string, octets int64) {
	t.Helper()
	list, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if filepath.Ext(name) != ext {
			continue
		}
		st, err := fs.Stat(fs.PathJoin(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has gone meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		names, octets = append(names, name), octets+st.Size()
	}
	return names, octets
}

// A large body stays what it is through restart and backup, and leaves the disk soon after its
// message, with nobody writing anything else.
func TestLargeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, want := vfs.NewMem(), largeBody()
		s := mustOpen(t, Options{Dir: "db", fs: fs})
		in := insertion(bytes.NewReader(want))
		if err := s.Insert(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if left, _ := files(t, fs, "db", bodyExt); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if _, n := files(t, fs, "db", ".sst"); n < int64(len(want)-aheadChunks*chunkSize) || n > int64(len(want)) {
			t.Errorf("%d octets in tables of a body of %d", n, len(want))
		}
		if !bytes.Equal(readBody(t, s, in.ID), want) {
			t.Error("the body is not what it was")
		}
		if err := s.Checkpoint("copy"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"copy", "db"} {
			s = mustOpen(t, Options{Dir: dir, fs: fs})
			if !bytes.Equal(readBody(t, s, in.ID), want) {
				t.Errorf("%s: the body is not what it was", dir)
			}
			if dir == "copy" {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Commit(t.Context(), &queue.Change{Remove: claimAll(t, s)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(deletedAfter + time.Minute)
		if _, n := files(t, fs, "db", ".sst"); n > chunkSize {
			t.Errorf("%d octets are still there", n)
		}
		if got := fmt.Sprint(keys(t, s)); got != "map[j:1 t:1]" {
			t.Errorf("left: %s", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// The power goes while a large body comes in, or when Pebble has it and the message is not
// accepted yet: nothing of it is left.
func TestLargeBodyCut(t *testing.T) {
	t.Parallel()
	for name, cutAt := range map[string]struct {
		octets int // how many have come; -1: all, and the table is there
		keep   int // percent of what was not synced
	}{
		"ahead":      {2 * chunkSize, 0},
		"table":      {7 * chunkSize, 0},
		"table kept": {7 * chunkSize, 100},
		"ingested":   {-1, 0},
		"all kept":   {-1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, want := newDisk(t), largeBody()
			s := d.Open(t).(*Store)
			defer s.Close()
			if err := s.SetCell(t.Context(), "x", []byte{}); err != nil {
				t.Fatal(err)
			}
			var after disk
			cut := func() { after = d.Cut(cutAt.keep, 1).(disk) }
			r := bytes.NewReader(want)
			in := insertion(readerFunc(func(p []byte) (int, error) {
				if after.fs == nil && cutAt.octets >= 0 && len(want)-r.Len() >= cutAt.octets {
					cut()
				}
				return r.Read(p)
			}))
			if cutAt.octets < 0 {
				in.Finish = func(int64) ([]byte, []byte, error) {
					if n := keys(t, s)["b"]; n != 10 {
						t.Errorf("%d chunks are there", n)
					}
					cut()
					return []byte("record"), []byte("entry"), nil
				}
			}
			if err := s.Insert(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			rest := after.Open(t).(*Store)
			defer rest.Close()
			if got := fmt.Sprint(keys(t, rest)); got != "map[c:1]" {
				t.Errorf("left after the crash: %s", got)
			}
			if left, _ := files(t, after.fs, "db", bodyExt); len(left) > 0 {
				t.Errorf("left after the crash: %v", left)
			}
			whole := d.Cut(0, 1).(disk).Open(t).(*Store)
			defer whole.Close()
			if !bytes.Equal(readBody(t, whole, in.ID), want) {
				t.Error("what was accepted is not what it was")
			}
		})
	}
}

// A large body that does not come to its end, or finds no room, leaves nothing, and the relay takes what is small.
func TestLargeBodyFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		body io.Reader
		full errorfs.OpKind
		want error
	}{
		"reader":  {io.MultiReader(bytes.NewReader(largeBody()), iotest.ErrReader(broken)), -1, broken},
		"created": {bytes.NewReader(largeBody()), errorfs.OpCreate, queue.ErrFull},
		"written": {bytes.NewReader(largeBody()), errorfs.OpFileWrite, queue.ErrFull},
		"linked":  {bytes.NewReader(largeBody()), errorfs.OpLink, queue.ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				// What cannot be linked is copied.
				copied := c.full == errorfs.OpLink && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst")
				if op.Kind == c.full && strings.HasSuffix(op.Path, bodyExt) || copied {
					return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
				}
				return nil
			}))
			s := mustOpen(t, Options{Dir: "db", fs: fs})
			defer s.Close()
			if err := s.Insert(t.Context(), insertion(c.body)); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if left, _ := files(t, mem, "db", bodyExt); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if err := s.Insert(t.Context(), insertion(strings.NewReader("small"))); err != nil {
				t.Error(err)
			}
			if got := fmt.Sprint(keys(t, s)); got != "map[b:1 j:1 m:1 r:1 t:1]" {
				t.Errorf("left: %s", got)
			}
		})
	}
}
