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

// BenchmarkStuff is what it takes to look at a large content on its way out, and to stuff it.
func BenchmarkStuff(b *testing.B) {
	for name, line := range map[string]string{"plain": "", "dots": "."} {
		content := []byte(strings.Repeat(line+strings.Repeat("x", 62-len(line))+"\r\n", flightSize/64))
		b.Run(name, func(b *testing.B) {
			var s stuffer
			var out []byte
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				var err error
				if out, err = s.appendTo(out[:0], content); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
