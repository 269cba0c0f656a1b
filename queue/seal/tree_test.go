package seal

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTree(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	whole := newTree()
	now, lost := whole, map[uint64]bool{}
	leaves := []uint64{0, leafMask, 1 << 16, leafMask - 1<<16}
	for range 200 {
		leaves = append(leaves, rng.Uint64()&leafMask)
	}
	for i, x := range leaves {
		if i%3 != 0 {
			continue
		}
		next, n := now.without(x)
		if n != 1 {
			t.Fatalf("leaf %x was lost before", x)
		}
		if grown := len(next.nodes) - len(now.nodes); grown > treeDepth*(treeWidth-1) {
			t.Errorf("one leaf costs %d nodes", grown)
		}
		now, lost[x] = next, true
		if _, n := now.without(x); n != 0 {
			t.Errorf("leaf %x was lost twice", x)
		}
	}
	var all []uint64
	for x := range lost {
		all = append(all, x, x) // twice counts once
	}
	if once, n := whole.without(all...); n != len(lost) || !slices.Equal(once.nodes, now.nodes) {
		t.Errorf("%d leaves lost at once: %d nodes, want %d", n, len(once.nodes), len(now.nodes))
	}
	back, err := decodeTree(now.encode())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range leaves {
		want, ok := whole.leaf(x)
		if !ok {
			t.Fatal("a whole tree lacks a leaf")
		}
		got, ok := back.leaf(x)
		if ok == lost[x] || ok && got != want {
			t.Errorf("leaf %x: there %v, the same %v; lost %v", x, ok, got == want, lost[x])
		}
		for i := range back.nodes {
			if back.nodes[i].depth == treeDepth && lost[x] && back.nodes[i].path == x {
				t.Errorf("the lost leaf %x is in the tree", x)
			}
		}
	}
}

// FuzzTree punctures a tree wherever and reads it back.
func FuzzTree(f *testing.F) {
	f.Add([]byte("0123456701234567"), []byte{})
	f.Add([]byte{}, []byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, leaves, raw []byte) {
		if x, err := decodeTree(raw); err == nil {
			x.leaf(0)
			if y, n := x.without(leafMask); n > 0 {
				if _, ok := y.leaf(leafMask); ok {
					t.Error("a lost leaf is there")
				}
			}
		}
		x := newTree()
		for len(leaves) >= 8 && len(x.nodes) < 5000 {
			leaf := binary.BigEndian.Uint64(leaves) & leafMask
			leaves = leaves[8:]
			x, _ = x.without(leaf)
			if _, ok := x.leaf(leaf); ok {
				t.Fatal("a lost leaf is there")
			}
		}
		if _, err := decodeTree(x.encode()); err != nil {
			t.Fatal(err)
		}
	})
}
