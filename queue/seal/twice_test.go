package seal

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEitherCopy damages each octet of a key file, a block of it, or both copies.
func TestEitherCopy(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 77, copyBlock - checkSize - 1, copyBlock - checkSize, copyBlock - checkSize + 1, 3 * copyBlock} {
		content := bytes.Repeat([]byte{7}, size)
		whole := twice(content)
		if got, wrong := either(bytes.Clone(whole)); wrong != "" || !bytes.Equal(got, content) {
			t.Fatalf("%d octets: %d came back, %q", size, len(got), wrong)
		}
		second := len(whole) - size - checkSize
		for at := range whole {
			b := bytes.Clone(whole)
			b[at] ^= 0x10
			if got, wrong := either(b); wrong == "" || !bytes.Equal(got, content) {
				t.Fatalf("%d octets, one at %d flipped: %q", size, at, wrong)
			}
			if at >= size {
				continue // of the check sum, or of the second copy
			}
			b[at+second] ^= 0x10
			if got, wrong := either(b); wrong != "" || bytes.Equal(got, content) {
				t.Fatalf("%d octets, both copies flipped at %d: passed", size, at)
			}
		}
	}
	for n := range 20 {
		either(make([]byte, n)) // and what is far too short
	}
}

// TestFlippedKeyFile flips an octet of every key file in turn, at several places, the room
// between the copies too: the ring opens with all its keys, says which file is damaged, and puts it right.
func TestFlippedKeyFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	r, err := OpenRing(RingOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	id := r.ID()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffixKey))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		for _, at := range []int{0, 9, metaSize, headSize + 3, 2000, copyBlock - 1, copyBlock, copyBlock + metaSize + 5} {
			t.Run(fmt.Sprintf("%s at %d", strings.Split(filepath.Base(name), ".")[0], at), func(t *testing.T) {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				whole := bytes.Clone(b)
				b[at] ^= 1
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
				var said bytes.Buffer
				r, err := OpenRing(RingOptions{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))})
				if err != nil {
					t.Fatal(err)
				}
				if r.ID() != id || !strings.Contains(said.String(), filepath.Base(name)) {
					t.Errorf("ring %s, said %s", r.ID(), &said)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, whole) {
					t.Errorf("it was not put right: %v", err)
				}
			})
		}
	}
}
