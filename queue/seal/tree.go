package seal

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
)

// A tree makes a key for every leaf out of one root, and can lose single leaves for
// good: it then keeps the neighbours of the way down instead of the root, and from
// those no lost leaf can be computed (the puncturable function of Goldreich, Goldwasser and
// Micali). So one message's journal keys can be destroyed without a list of all others.
type tree struct {
	nodes []treeNode // by path; no one is below another
}

// treeNode is a key from which all leaves below it can be computed.
type treeNode struct {
	depth uint8  // steps from the root
	path  uint64 // those steps, four bits each, at the top
	key   [keySize]byte
}

const (
	treeDepth = 12 // steps of four bits: 2^48 leaves
	treeWidth = 16
	leafMask  = ^uint64(1<<16 - 1)
	nodeSize  = 1 + 8 + keySize
)

// newTree returns a whole tree.
func newTree() *tree {
	t := &tree{nodes: make([]treeNode, 1)}
	copy(t.nodes[0].key[:], random(keySize))
	return t
}

// leafOf is the leaf of a name. Two names have the same one in one of 2^48 cases.
func leafOf(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:8]) & leafMask
}

// shift is where the step after depth steps is in a path.
func shift(depth uint8) uint { return 60 - 4*uint(depth) }

// child is the key one step down.
func child(key *[keySize]byte, step byte) [keySize]byte {
	var in [keySize + 1 + 9]byte // one block of SHA-256
	copy(in[:], key[:])
	in[keySize] = step
	copy(in[keySize+1:], "seal tree")
	return sha256.Sum256(in[:])
}

// above returns the index of the node from which a leaf is computed.
func (t *tree) above(leaf uint64) (int, bool) {
	i, found := slices.BinarySearchFunc(t.nodes, leaf, func(n treeNode, leaf uint64) int { return cmp.Compare(n.path, leaf) })
	if !found {
		i--
	}
	if i < 0 {
		return 0, false
	}
	n := &t.nodes[i]
	if n.depth == 0 {
		return i, true
	}
	return i, (n.path^leaf)>>(64-4*uint(n.depth)) == 0
}

// leaf computes a leaf's key; false when it was lost.
func (t *tree) leaf(leaf uint64) (key [keySize]byte, ok bool) {
	i, ok := t.above(leaf)
	if !ok {
		return key, false
	}
	key = t.nodes[i].key
	for d := t.nodes[i].depth; d < treeDepth; d++ {
		key = child(&key, byte(leaf>>shift(d))&(treeWidth-1))
	}
	return key, true
}

// without returns a tree that lacks leaves, too, and how many of them it had.
func (t *tree) without(leaves ...uint64) (*tree, int) {
	leaves = slices.Clone(leaves)
	slices.Sort(leaves)
	leaves = slices.Compact(leaves)
	next, lost := &tree{make([]treeNode, 0, len(t.nodes)+treeDepth*treeWidth)}, 0
	for _, n := range t.nodes {
		lost += next.split(n, n.below(leaves))
	}
	return next, lost
}

// below are those of sorted leaves that are computed from a node.
func (n *treeNode) below(leaves []uint64) []uint64 {
	from, _ := slices.BinarySearch(leaves, n.path)
	last := n.path
	if n.depth == 0 {
		last = ^uint64(0)
	} else {
		last |= 1<<(64-4*uint(n.depth)) - 1
	}
	to := from
	for to < len(leaves) && leaves[to] <= last {
		to++
	}
	return leaves[from:to]
}

// split adds a node without the leaves, which are all below it: as its children where there
// are some. It returns how many there were.
func (t *tree) split(n treeNode, leaves []uint64) (lost int) {
	switch {
	case len(leaves) == 0:
		t.nodes = append(t.nodes, n)
		return 0
	case n.depth == treeDepth:
		return 1
	}
	for b := range byte(treeWidth) {
		c := treeNode{n.depth + 1, n.path | uint64(b)<<shift(n.depth), child(&n.key, b)}
		lost += t.split(c, c.below(leaves))
	}
	return lost
}

// zero forgets all keys.
func (t *tree) zero() { clear(t.nodes) }

func (t *tree) encode() []byte {
	b := make([]byte, 0, len(t.nodes)*nodeSize)
	for i := range t.nodes {
		b = append(b, t.nodes[i].depth)
		b = binary.BigEndian.AppendUint64(b, t.nodes[i].path)
		b = append(b, t.nodes[i].key[:]...)
	}
	return b
}

func decodeTree(b []byte) (*tree, error) {
	if len(b)%nodeSize != 0 {
		return nil, errors.New("tree is cut short")
	}
	t := &tree{nodes: make([]treeNode, len(b)/nodeSize)}
	for i := range t.nodes {
		p, n := b[i*nodeSize:], &t.nodes[i]
		n.depth, n.path = p[0], binary.BigEndian.Uint64(p[1:])
		copy(n.key[:], p[9:nodeSize])
		if n.depth > treeDepth || i > 0 && n.path <= t.nodes[i-1].path {
			return nil, errors.New("tree is out of order")
		}
	}
	return t, nil
}
