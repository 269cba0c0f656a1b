package seal

import (
	"bytes"
	"crypto/sha256"
)

// A key file holds everything twice, a block of the disk apart: with one octet of
// it a quarter of an hour's mail would be lost, or with that of a KEK all of it.

// copyBlock is what the second copy's place is a multiple of: what disks lose, they
// lose by blocks.
const copyBlock = 4096

// twice makes a key file's octets of its content: two copies, each with a check sum.
func twice(content []byte) []byte {
	sum := sha256.Sum256(content)
	size := len(content) + checkSize
	second := roundUp(size)
	b := make([]byte, second+size)
	for _, at := range []int{0, second} {
		copy(b[at:], content)
		copy(b[at+len(content):], sum[:checkSize])
	}
	return b
}

// either returns the content of a copy that is good. wrong says what is not as it was
// written, the room between the copies too; "" when all is. Where no copy is good it is the first
// one, which then does not open.
func either(b []byte) (content []byte, wrong string) {
	second := roundUp((len(b) + 1) / 2)
	size := len(b) - second
	if size < checkSize {
		return b, ""
	}
	good := func(at int) ([]byte, bool) {
		content, sum := b[at:at+size-checkSize], b[at+size-checkSize:at+size]
		want := sha256.Sum256(content)
		return content, bytes.Equal(sum, want[:checkSize])
	}
	first, ok := good(0)
	other, spare := good(second)
	switch {
	case !ok && !spare:
		return first, ""
	case !ok:
		return other, "its first copy: the second one is used"
	case !spare:
		return first, "its second copy: the first one is used"
	case !zero(b[size:second]):
		return first, "the room between its copies: both are good"
	}
	return first, ""
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func roundUp(n int) int { return (n + copyBlock - 1) / copyBlock * copyBlock }
