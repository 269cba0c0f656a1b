package queue

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"
)

func sampleHead() Head {
	return Head{Index: 3, Number: 77, Hash: Hash{1}, At: time.Unix(1_800_000_000, 5).UTC(), Start: 2, Low: 9, Anchor: Hash{2}, Previous: Hash{3}}
}

// Every octet of a head is signed.
func TestHead(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	h := sampleHead()
	stored := SignHead(&h, key)
	got, err := ParseHead(stored)
	if err != nil || !bytes.Equal(got.Key, h.Key) || got.Hash != h.Hash || got.Low != h.Low || !got.At.Equal(h.At) || got.Previous != h.Previous {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range stored {
		forged := bytes.Clone(stored)
		forged[i] ^= 1
		if _, err := ParseHead(forged); err == nil {
			t.Errorf("octet %d may be changed", i)
		}
	}
	if _, err := ParseHead(stored[:HeadSize-1]); !errors.Is(err, ErrHeadForm) {
		t.Error(err)
	}
}

func FuzzParseHead(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	h := sampleHead()
	f.Add(SignHead(&h, key))
	f.Add([]byte{headVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHead(b)
		if err == nil && bytes.Equal(h.Key, key.Public().(ed25519.PublicKey)) && !bytes.Equal(SignHead(&h, key), b) {
			t.Errorf("%x is another head", b)
		}
	})
}

func TestNote(t *testing.T) {
	t.Parallel()
	n := Note{Number: 12, Hash: Hash{0xab}}
	if got, err := ParseNote(n.String()); err != nil || got != n {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "12", "12:ab", n.String() + "0", "x:" + n.Hash.String(), " " + n.String()} {
		if _, err := ParseNote(s); err == nil {
			t.Errorf("%q is a note", s)
		}
	}
}

// A head that was noted shows that an older state was put back, or another one.
func TestNoted(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	first := Head{Index: 1, Number: 0, Start: 1}
	a := SignHead(&first, key)
	one := Link(Hash{}, 1, 5, Leaf([]byte("one")))
	two := Link(one, 2, 6, Leaf([]byte("two")))
	second := Head{Index: 2, Number: 2, Hash: two, Start: 1, Previous: HeadHash(a)}
	b := SignHead(&second, key)
	tests := []struct {
		name string
		note Note
		kind BreakKind
	}{
		{"as it is", Note{2, two}, ""},
		{"an entry before", Note{1, one}, ""},
		{"another hash", Note{2, one}, BreakRewritten},
		{"an entry that is not there", Note{3, one}, BreakMissing},
	}
	for _, test := range tests {
		c := NewChecker(CheckOptions{Latest: &second, Note: &test.note})
		c.Head(1, a)
		c.Entry(1, 5, one, []byte("one"))
		c.Entry(2, 6, two, []byte("two"))
		c.Head(2, b)
		p := c.End()
		switch {
		case test.kind == "" && !p.Fine(), test.kind != "" && (len(p.Breaks) != 1 || p.Breaks[0].Kind != test.kind):
			t.Errorf("%s: %+v", test.name, p)
		}
	}
}
