package pebblestore

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDamagedJournalKey: one wrong octet, in either half of the key, at any place, is put
// right and told; two wrong copies are refused, with what to do.
func TestDamagedJournalKey(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	var said bytes.Buffer
	log := newLogger(&Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	load := func() string {
		key, err := loadKey(disk, "keys", log)
		if err != nil {
			return err.Error()
		}
		return string(key)
	}
	read := func(name string) []byte {
		f, err := disk.Open("keys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(name string, b []byte) {
		if err := writeFile(disk, "keys", name, b); err != nil {
			t.Fatal(err)
		}
	}
	want := load()
	for _, name := range []string{keyFile, PublicKeyFile} {
		whole := read(name)
		for at := range whole {
			b := bytes.Clone(whole)
			b[at] ^= 1
			write(name, b)
			said.Reset()
			if got := load(); got != want {
				t.Fatalf("%s, octet %d: %q", name, at, got)
			}
			if mended := !bytes.Equal(read(name), b); mended != strings.Contains(said.String(), "damaged") {
				t.Fatalf("%s, octet %d: written anew %t, said %q", name, at, mended, &said)
			}
			write(name, whole)
		}
	}
	b := read(keyFile)
	b[0] ^= 1
	b[len(b)-3] ^= 1
	write(keyFile, b)
	if got := load(); !strings.Contains(got, "restore it from a copy") {
		t.Fatalf("both copies are damaged: %q", got)
	}
}
