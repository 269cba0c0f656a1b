package smtpclient

import (
	"testing"

	"github.com/sealpost/sealpost/policy"
)

func TestIdleLimit(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]int{0: mostIdle, 40: fewestIdle, 1024: 256, 7999: 1999, 8000: mostIdle, 1 << 63: mostIdle} {
		if got := idleLimit(files); got != want {
			t.Errorf("of %d files: %d, want %d", files, got, want)
		}
	}
}

// An idle connection has no buffers of its own, and works with those that it gets.
func TestIdleHasNoBuffers(t *testing.T) {
	t.Parallel()
	for _, greet := range []string{greetAll, greetGroup, ""} {
		k := startSink(t, greet+"STARTTLS")
		p := newPool(t, options())
		for i := range 3 {
			s := open1(t, p, step(k.addr, policy.Modern))
			c := s.c
			if s.Reused() != (i > 0) || c.r == nil {
				t.Fatalf("reused %v, reader %v", s.Reused(), c.r)
			}
			if got := results(s.Send(t.Context(), mail(hello+randomLines(20_000), "b@example.test"))); got[0] != "ok 250" {
				t.Error(got)
			}
			s.Release()
			p.mu.Lock()
			if c.element == nil || c.r != nil || c.out != nil || c.text != nil {
				t.Errorf("idle %v, with a reader %v, and buffers of %d and %d", c.element != nil, c.r != nil, cap(c.out), cap(c.text))
			}
			p.mu.Unlock()
		}
		p.Close()
		if seen := k.wait(); seen.whole != 3 || seen.connections != 1 {
			t.Errorf("%d messages over %d connections", seen.whole, seen.connections)
		}
	}
}
