package pebblestore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// What is written in pieces of any size is there when it is synced, in order.
func TestGather(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	mem := vfs.NewCrashableMem()
	f, err := gatherFS{mem}.Create("1.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []byte
	for i := range 200 {
		p := make([]byte, r.IntN(3)*r.IntN(gatherSize)+r.IntN(9000))
		for j := range p {
			p[j] = byte(r.Uint32())
		}
		want = append(want, p...)
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		switch i % 50 {
		case 10:
			if st, err := f.Stat(); err != nil || st.Size() != int64(len(want)) {
				t.Fatalf("size %v, %v", st, err)
			}
		case 20:
			if _, err := f.SyncTo(int64(len(want))); err != nil {
				t.Fatal(err)
			}
		case 30:
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if dir, err := mem.OpenDir(""); err != nil || dir.Sync() != nil {
		t.Fatal(err)
	}
	after, err := mem.CrashClone(vfs.CrashCloneCfg{}).Open("1.sst")
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	got, err := io.ReadAll(after)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d octets of %d, %v", len(got), len(want), err)
	}
}

// An error of the disk is told at the latest by the sync, and by all that comes after it.
func TestGatherFails(t *testing.T) {
	t.Parallel()
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	for name, last := range map[string]func(vfs.File) error{
		"sync":      vfs.File.Sync,
		"sync data": vfs.File.SyncData,
		"close":     func(f vfs.File) error { return nil },
		"stat":      func(f vfs.File) error { _, err := f.Stat(); return err },
		"large":     func(f vfs.File) error { _, err := f.Write(make([]byte, 2*gatherSize)); return err },
	} {
		f, err := gatherFS{fs}.Create("1.sst", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(strings.Repeat("x", 100))); err != nil {
			t.Errorf("%s: the first write: %v", name, err)
		}
		if err := last(f); name != "close" && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}
