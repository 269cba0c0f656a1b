package memory

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	hold = 4 * time.Hour
	day  = 24 * time.Hour
)

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func good(at time.Time) policy.Sighting {
	return policy.Sighting{At: at, Level: policy.Verified, Delivered: true, Version: 0x0304,
		Steps: []policy.Tried{{Rung: policy.Modern, Level: policy.Verified}}}
}

func weak(at time.Time) policy.Sighting {
	return policy.Sighting{At: at, Steps: []policy.Tried{{Rung: policy.Modern, Reason: policy.STARTTLSMissing}}}
}

func clear(at time.Time) policy.Sighting {
	s := weak(at)
	s.Level, s.Delivered = policy.Plaintext, true
	s.Steps = append(s.Steps, policy.Tried{Rung: policy.Clear, Level: policy.Plaintext})
	return s
}

// makeGood lets the book see three good deliveries, the last one at the time.
func makeGood(b *Book, host policy.Domain, ip6 bool, at time.Time) {
	for i := range 3 {
		b.Saw(host, ip6, good(at.Add(time.Duration(i-2)*time.Minute)))
	}
}

func TestBook(t *testing.T) {
	t.Parallel()
	b := New(Options{})
	if m := b.Recall("mx.example", false); m != (policy.Memory{}) {
		t.Errorf("an empty book recalls %+v", m)
	}
	makeGood(b, "mx.example", true, start())
	b.Saw("a.example", false, clear(start()))
	b.Saw("a.example", true, policy.Sighting{At: start()})
	if m := b.Recall("mx.example", false); m != (policy.Memory{}) {
		t.Errorf("policy 1.5: the other address family is %+v", m)
	}
	m := b.Recall("mx.example", true)
	if m.Good != 3 || m.Best != policy.Verified || !m.GoodAt.Equal(start()) {
		t.Errorf("recalled %+v", m)
	}
	if b.Len() != 2 || b.Held(hold, start()) != 0 {
		t.Errorf("%d hosts, %d held: want 2 and none", b.Len(), b.Held(hold, start()))
	}
	// IPv4 is weaker than what IPv6 was: the hold of the host is running.
	b.Saw("mx.example", false, weak(start().Add(time.Hour)))
	for _, tt := range []struct {
		hold time.Duration
		at   time.Duration
		want int
	}{{hold, 2 * time.Hour, 1}, {hold, 5 * time.Hour, 0}, {6 * time.Hour, 5 * time.Hour, 1}, {0, 2 * time.Hour, 0}} {
		if n := b.Held(tt.hold, start().Add(tt.at)); n != tt.want {
			t.Errorf("a hold of %v after %v: %d held, want %d", tt.hold, tt.at, n, tt.want)
		}
	}
	// TLS by IPv6 ends it, for IPv4 too.
	b.Saw("mx.example", true, good(start().Add(2*time.Hour)))
	if m := b.Recall("mx.example", false); !m.WeakSince.IsZero() || b.Held(hold, start().Add(2*time.Hour)) != 0 {
		t.Errorf("still weak: %+v", m)
	}
	var names []string
	for _, e := range b.Entries() {
		names = append(names, fmt.Sprint(e.Host, " ", e.IP6, " ", e.Memory.Last))
	}
	if want := []string{"a.example false plaintext", "mx.example false unset", "mx.example true verified"}; !slices.Equal(names, want) {
		t.Errorf("entries %q, want %q", names, want)
	}
	if n := b.Forget("mx.example"); n != 2 || b.Recall("mx.example", true) != (policy.Memory{}) {
		t.Errorf("forgot %d families", n)
	}
	if n := b.Forget("mx.example"); n != 0 || b.Len() != 1 {
		t.Errorf("forgot %d families again, %d hosts are left", n, b.Len())
	}
}

// One line when a hold begins, one when mail went with less.
func TestBookTells(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := New(Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		out.Reset()
		if len(got) == 1 && got[0] == "" {
			got = nil
		}
		if len(got) != len(want) {
			t.Fatalf("log %q, want %q", got, want)
		}
		for i, words := range want {
			for w := range strings.SplitSeq(words, "|") {
				if !strings.Contains(got[i], w) {
					t.Errorf("line %q is without %q", got[i], w)
				}
			}
		}
	}
	at := func(h int) time.Time { return start().Add(time.Duration(h) * time.Hour) }
	b.Saw("never.example", false, weak(at(0)))
	b.Saw("never.example", false, clear(at(0)))
	makeGood(b, "mx.example", false, at(0))
	lines()
	b.Saw("mx.example", false, weak(at(1)))
	lines("level=INFO|hold begins|mx=mx.example|best=verified|achieved=unset|since=2026-03-01T13:00:00Z|reason=starttls-missing")
	b.Saw("mx.example", false, weak(at(2)))
	b.Saw("mx.example", true, weak(at(3)))
	lines()
	b.Saw("mx.example", false, clear(at(5)))
	lines("level=INFO|hold is over|mx=mx.example|best=verified|achieved=plaintext|since=2026-03-01T13:00:00Z")
	b.Saw("mx.example", false, clear(at(6)))
	lines()
	b.Saw("mx.example", false, good(at(7)))
	lines()
	b.Saw("mx.example", false, clear(at(8))) // a message with TLS-Required: No
	lines("hold is over")
}

// A flood of new hosts does not push out those that are remembered for TLS.
func TestBookIsBounded(t *testing.T) {
	t.Parallel()
	b := New(Options{Limit: 4 * drawers})
	makeGood(b, "good.example", false, start().Add(-20*day))
	makeGood(b, "held.example", false, start().Add(-20*day))
	b.Saw("held.example", false, weak(start().Add(-time.Minute)))
	for i := range 40 * drawers {
		b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), i%2 == 0, clear(start().Add(time.Duration(i)*time.Second)))
	}
	if n := b.Len(); n > 4*drawers || n < 3*drawers {
		t.Errorf("%d hosts, the limit is %d", n, 4*drawers)
	}
	for _, host := range []policy.Domain{"good.example", "held.example"} {
		if m := b.Recall(host, false); m.Good != 3 {
			t.Errorf("%s was pushed out", host)
		}
	}
}

func TestWhoIsForgottenFirst(t *testing.T) {
	t.Parallel()
	now := start()
	memory := func(events ...policy.Sighting) page {
		var p page
		for _, s := range events {
			p = p.saw(false, s)
		}
		return p
	}
	three := func(last time.Time) []policy.Sighting { return []policy.Sighting{good(last), good(last), good(last)} }
	order := []struct {
		name string
		page page
	}{
		{"faded", memory(clear(now.Add(-31 * day)))},
		{"never reached", memory(policy.Sighting{At: now, Steps: []policy.Tried{{Rung: policy.Modern, Reason: policy.ConnectRefused}}})},
		{"seen long ago", memory(clear(now.Add(-2 * day)))},
		{"seen lately", memory(clear(now.Add(-day)))},
		{"good, long ago", memory(three(now.Add(-20 * day))...)},
		{"good, lately", memory(three(now.Add(-3 * day))...)},
		{"held, long ago", memory(append(three(now.Add(-20*day)), weak(now.Add(-time.Hour)))...)},
		{"held, lately", memory(append(three(now.Add(-3*day)), weak(now.Add(-time.Hour)))...)},
	}
	for last := range order {
		d := drawer{hosts: make(map[policy.Domain]page)}
		for _, o := range order[last:] {
			d.hosts[policy.Domain(o.name)] = o.page
		}
		d.makeRoom(now)
		if _, there := d.hosts[policy.Domain(order[last].name)]; there || len(d.hosts) != len(order)-last-1 || !d.dirty {
			t.Errorf("%q is not the first to go: %d of %d are left", order[last].name, len(d.hosts), len(order)-last)
		}
	}
}

// Hosts are spread over the drawers, and each has its place for ever.
func TestDrawers(t *testing.T) {
	t.Parallel()
	count := make(map[uint8]int)
	for i := range 40 * drawers {
		count[hash(policy.Domain(fmt.Sprintf("mx%d.example", i)))]++
	}
	for i := range drawers {
		if n := count[uint8(i)]; n < 10 || n > 100 {
			t.Errorf("drawer %d has %d hosts, about 40 are fair", i, n)
		}
	}
	if h := hash("mx.example.org"); h != 0xc0 {
		t.Errorf("mx.example.org is in drawer %#02x: what is on the shelf lies elsewhere", h)
	}
}

func TestBookParallel(t *testing.T) {
	t.Parallel()
	s := newShelf()
	b := New(Options{Shelf: s, Limit: 2 * drawers})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 500 {
				host := policy.Domain(fmt.Sprintf("mx%d.example", i%100))
				at := start().Add(time.Duration(i) * time.Second)
				switch {
				case n == 0:
					b.Held(hold, at)
					b.Entries()
					b.sweep(at)
				case n == 1:
					b.write(t.Context(), writeAtOnce)
				case i%50 == 49:
					b.Forget(host)
				case i%2 == 0:
					b.Saw(host, i%4 == 0, good(at))
				default:
					b.Saw(host, i%3 == 0, clear(at))
				}
				b.Recall(host, i%2 == 0)
			}
		})
	}
	wg.Wait()
	for _, e := range b.Entries() {
		if e.Memory.First.IsZero() {
			t.Errorf("%s was remembered without being seen", e.Host)
		}
	}
}

func BenchmarkRecall(b *testing.B) {
	for _, size := range []int{100, 1 << 14} { // in the processor's cache, and not
		b.Run(fmt.Sprint("hosts=", size), func(b *testing.B) {
			book := New(Options{})
			hosts := make([]policy.Domain, size)
			for i := range hosts {
				hosts[i] = policy.Domain(fmt.Sprintf("mx%d.mail.example.com", i))
				makeGood(book, hosts[i], false, start())
			}
			b.ReportAllocs()
			n, found := 0, 0
			for b.Loop() {
				if m := book.Recall(hosts[n%size], false); m.Good == 3 {
					found++
				}
				n++
			}
			if found != n {
				b.Error("not found")
			}
		})
	}
}

func BenchmarkSaw(b *testing.B) {
	book := New(Options{})
	s := good(start())
	b.ReportAllocs()
	for i := range b.N {
		s.At = start().Add(time.Duration(i) * time.Second)
		book.Saw("mx.mail.protection.example.com", false, s)
	}
}
