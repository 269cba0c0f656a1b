package smtpclient

import (
	"strings"
	"testing"
)

// appendTo appends the next octets, stuffed, to dst. On an error nothing of p was
// appended.
func (s *stuffer) appendTo(dst, p []byte) ([]byte, error) {
	start := !s.midLine
	dotted, err := s.follow(p)
	if err != nil {
		return dst, err
	}
	return stuff(dst, p, start, dotted), nil
}

// On a new connection a content takes one allocation, whatever its dots.
func TestStuffAllocatesOnce(t *testing.T) {
	content := []byte(strings.Repeat(".\r\nline\r\n", 20) + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 60))
	n := testing.AllocsPerRun(50, func() {
		var s stuffer
		out, err := s.appendTo(nil, content)
		if err != nil || len(out) != len(content)+20 {
			t.Fatalf("%d octets, %v", len(out), err)
		}
	})
	if n > 2 { // a build with the race detector makes two, and growing as it goes makes eight
		t.Errorf("%v allocations, want 1", n)
	}
}
