package pebblestore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// What was written is there after each call that promises it, whatever the sizes.
func TestWideFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after func(vfs.File) error
	}{
		{"Sync", vfs.File.Sync},
		{"SyncData", vfs.File.SyncData},
		{"SyncTo", func(f vfs.File) error { _, err := f.SyncTo(1); return err }},
		{"Close", func(f vfs.File) error { return nil }},
	} {
		mem := vfs.NewMem()
		f, err := wideFS{mem}.Create("000001.sst", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for i, n := range []int{1, 4096, 0, wideSize - 4097, 1, wideSize, wideSize + 1, 7, 3 * wideSize, 5} {
			p := bytes.Repeat([]byte{byte('a' + i)}, n)
			want = append(want, p...)
			if m, err := f.Write(p); m != n || err != nil {
				t.Fatalf("%s: write %d: %d, %v", tt.name, n, m, err)
			}
			if err := tt.after(f); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if got := content(t, mem); tt.name != "Close" && !bytes.Equal(got, want) {
				t.Fatalf("%s: %d octets are there after a write of %d, want %d", tt.name, len(got), n, len(want))
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, mem); !bytes.Equal(got, want) {
			t.Errorf("%s: %d octets are there at the end, want %d", tt.name, len(got), len(want))
		}
	}
}

func content(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	f, err := fs.Open("000001.sst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, st.Size())
	if _, err := f.ReadAt(p, 0); err != nil && len(p) > 0 {
		t.Fatal(err)
	}
	return p
}

// A write that fails late fails the call that promises what it wrote, and every later one.
func TestWideFileFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var fail errorfs.InjectorFunc = func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite {
			return broken
		}
		return nil
	}
	for _, do := range []func(vfs.File) error{
		vfs.File.Sync, vfs.File.SyncData, vfs.File.Close,
		func(f vfs.File) error { _, err := f.SyncTo(1); return err },
		func(f vfs.File) error { _, err := f.Write(make([]byte, wideSize)); return err },
	} {
		f, err := wideFS{errorfs.Wrap(vfs.NewMem(), fail)}.Create("000001.sst", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := do(f); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		if err := f.SyncData(); !errors.Is(err, broken) {
			t.Errorf("and then %v", err)
		}
		if _, err := f.Write([]byte("b")); !errors.Is(err, broken) {
			t.Errorf("and then %v", err)
		}
	}
}
