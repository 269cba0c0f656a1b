package pebblestore

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// Every wrong octet is found, wherever it is.
func TestFlipIsFound(t *testing.T) {
	t.Parallel()
	c, rng := newChecker(), rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 9, 4000, 300 << 10} {
		good := make([]byte, n+blockTrailer)
		for i := range good[:n+1] {
			good[i] = byte(rng.Uint32())
		}
		binary.LittleEndian.PutUint32(good[n+1:], c.sum(good[:n+1]))
		if at, ok := c.mendBlock(bytes.Clone(good)); at != -1 || !ok {
			t.Fatalf("%d octets: a good block is mended at %d, %v", n, at, ok)
		}
		for range 300 {
			at := rng.IntN(len(good))
			bad := bytes.Clone(good)
			bad[at] ^= byte(1 + rng.IntN(255))
			if got, ok := c.mendBlock(bad); !ok || got != at || !bytes.Equal(bad, good) {
				// Another octet may have the same effect, in a large block: then nothing is done.
				if ok || n < 4000 {
					t.Fatalf("%d octets, wrong at %d: mended at %d, %v", n, at, got, ok)
				}
			}
		}
		if n != 4000 {
			continue
		}
		for range 20 {
			bad := bytes.Clone(good)
			for i := range 3 {
				bad[i*1000] ^= byte(1 + rng.IntN(255))
			}
			before := bytes.Clone(bad)
			if at, ok := c.mendBlock(bad); ok || !bytes.Equal(bad, before) {
				t.Errorf("three wrong octets: mended at %d", at)
			}
		}
	}
	foot := make([]byte, footerSize)
	for i := range foot {
		foot[i] = byte(rng.Uint32())
	}
	binary.LittleEndian.PutUint32(foot[footerCheck:], c.sum(foot[:footerCheck], foot[footerCheck+4:]))
	for at := range foot {
		bad := bytes.Clone(foot)
		bad[at] ^= 0x80
		if got, ok := c.mendFooter(bad); !ok || got != at || !bytes.Equal(bad, foot) {
			t.Errorf("footer wrong at %d: mended at %d, %v", at, got, ok)
		}
	}
}
