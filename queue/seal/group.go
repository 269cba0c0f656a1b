package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"strings"
)

// A fairness class stands beside its row, because the schedule needs it, and it is a plain
// hash of a credential's name, which could be guessed. So it is enciphered, block by block
// under a key of its own: equal classes stay equal, and the queue gets back what it gave.
type grouper struct {
	names *namer
	block cipher.Block
}

func newGrouper(n *namer) *grouper {
	key := n.sum("group key\x00", "")
	defer clear(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil // the key has 32 octets
	}
	return &grouper{n, block}
}

// hide enciphers a class. One that does not fit into a block goes by a hash, and comes
// back as that.
func (g *grouper) hide(group string) string {
	var b [aes.BlockSize]byte
	if len(group) >= len(b) {
		sum := g.names.sum("group\x00", group)
		group = string(sum[:len(b)-1])
	}
	b[0] = byte(len(group))
	copy(b[1:], group)
	g.block.Encrypt(b[:], b[:])
	return string(b[:])
}

// show is a class as the queue knows it. One from before sealing is as it was.
func (g *grouper) show(stored string) string {
	var b [aes.BlockSize]byte
	if len(stored) != len(b) {
		return stored
	}
	g.block.Decrypt(b[:], []byte(stored))
	n := int(b[0])
	if n >= len(b) || strings.Trim(string(b[1+n:]), "\x00") != "" {
		return stored
	}
	return string(b[1 : 1+n])
}
