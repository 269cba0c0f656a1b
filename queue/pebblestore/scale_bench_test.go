//go:build bench

package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// The aims of a million waiting messages.
const (
	aimMemory = 300 // MiB of resident memory, at the peak of a start and when serving
	aimStart  = 5 * time.Second
	aimPage   = 100 * time.Millisecond
	aimRatio  = 0.9 // throughput beside them, against an empty queue
)

// scaleDir names the store that a child process of TestScale looks at.
const scaleDir = "SEALPOST_SCALE_DIR"

// scaleNumber is a number from the environment.
func scaleNumber(t testing.TB, name string, usual int) int {
	v := os.Getenv(name)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// deferred inserts without waiting for the disk, as something to be tried tomorrow.
type deferred struct {
	*Store
	due time.Time
}

func (s deferred) Insert(ctx context.Context, in *queue.Insertion) error {
	b := s.db.NewBatch()
	size, err := (&upload{s: s.Store, id: in.ID, body: in.Body}).stream(ctx, b)
	if err != nil {
		return err
	}
	record, _, err := in.Finish(size)
	if err != nil {
		return err
	}
	for i := range in.Rows {
		in.Rows[i].Due = s.due
	}
	s.schedule.Add(s.put(b, in, size, record)...)
	return b.Commit(pebble.NoSync)
}

func scaleDraft(domain string, body []byte) *queue.Draft {
	return &queue.Draft{
		Message: queue.Message{
			Credential: "app", Listener: "127.0.0.1:587",
			Sender: queue.Address{Local: "bounces+4711", Domain: "sender.example"},
		},
		Recipients: []queue.Recipient{{Address: queue.Address{Local: "somebody", Domain: policy.Domain(domain)}}},
		Body:       bytes.NewReader(body),
	}
}

// fillScale puts n waiting messages into a store.
func fillScale(t testing.TB, dir string, n, lanes int) {
	s := mustOpen(t, Options{Dir: dir})
	start := time.Now()
	q, err := queue.New(queue.Options{Store: deferred{s, start.Add(24 * time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 16)
	for i := range n {
		if _, err := q.Enqueue(t.Context(), scaleDraft(fmt.Sprintf("d%d.example", i%lanes), body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages written in %.1f s", n, time.Since(start).Seconds())
}

// memory is a field of /proc/self/status, in MiB.
func memory(t testing.TB, field string) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	kib := 0
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, field+": %d kB", &kib); err == nil {
			break
		}
	}
	return kib >> 10
}

// pace is how fast work went. On a machine that is not ours alone the processor's time
// says more than the clock.
type pace struct {
	rate float64       // messages a second
	cpu  time.Duration // of a message
}

// scaleRounds is how often the two are measured.
const scaleRounds = 4

// add counts a round in.
func (p pace) add(q pace) pace { return pace{p.rate + q.rate/scaleRounds, p.cpu + q.cpu/scaleRounds} }

// used is the processor's time that the process has used.
func used(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// work has n messages accepted by 50 sessions and delivered to nowhere.
func work(t testing.TB, s *Store, n int) pace {
	q, err := queue.New(queue.Options{Store: s, Workers: 100})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c, ran := &idle{}, make(chan error, 1)
	go func() { ran <- q.Run(ctx, c) }()
	body := bytes.Repeat([]byte("0123456789abcdef"), 256)
	before := s.Stats().Envelopes["waiting"]
	start, cpu := time.Now(), used(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range n / 50 {
				if _, err := q.Enqueue(ctx, scaleDraft("fresh.example", body)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for st := s.Stats(); st.Envelopes["waiting"]+st.Envelopes["leased"] > before; st = s.Stats() {
		time.Sleep(time.Millisecond)
	}
	p := pace{float64(n) / time.Since(start).Seconds(), (used(t) - cpu) / time.Duration(n)}
	cancel()
	<-ran
	return p
}

func firstPage(t testing.TB, s *Store) time.Duration {
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	start, n := time.Now(), 0
	err = q.List(t.Context(), queue.Filter{Limit: 100}, func(queue.Entry) error { n++; return nil })
	if err != nil || n != 100 {
		t.Fatalf("%d entries, %v", n, err)
	}
	return time.Since(start)
}

// TestScaleChild is what TestScale measures in a process of its own.
func TestScaleChild(t *testing.T) {
	dir := os.Getenv(scaleDir)
	if dir == "" {
		t.Skip("a part of TestScale")
	}
	debug.SetGCPercent(25) // as sealpost serve does
	start, cpu := time.Now(), used(t)
	s := mustOpen(t, Options{Dir: dir})
	defer s.Close()
	opened, openCPU := time.Since(start), used(t)-cpu
	atStart := memory(t, "VmHWM")
	page := firstPage(t, s)
	n := scaleNumber(t, "SEALPOST_SCALE_WORK", 60_000)
	work(t, s, n)
	atWork := memory(t, "VmHWM")
	// In turn, and all rounds count: the best ones would say what the noise was.
	empty := mustOpen(t, Options{Dir: t.TempDir()})
	work(t, empty, n)
	var full, none pace
	for range scaleRounds {
		full, none = full.add(work(t, s, n)), none.add(work(t, empty, n))
	}
	if err := empty.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("start %.2f s (%.2f s of processor), first page %.1f ms, memory at most %d MiB at the start and %d MiB at work",
		opened.Seconds(), openCPU.Seconds(), page.Seconds()*1000, atStart, atWork)
	t.Logf("%.0f/s and %v of processor a message, empty queue %.0f/s and %v: %.2f and %.2f",
		full.rate, full.cpu, none.rate, none.cpu, full.rate/none.rate, float64(none.cpu)/float64(full.cpu))
	if max(atStart, atWork) > aimMemory || opened > aimStart || page > aimPage || float64(none.cpu) < float64(full.cpu)*aimRatio {
		t.Errorf("the aims are %d MiB, %v, %v and %.2f", aimMemory, aimStart, aimPage, aimRatio)
	}
}

// TestScale measures a million waiting messages. About two minutes.
func TestScale(t *testing.T) {
	n := scaleNumber(t, "SEALPOST_SCALE", 1_000_000)
	for _, lanes := range []int{10_000, 1} {
		t.Run(fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			dir := t.TempDir()
			fillScale(t, dir, n, lanes)
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestScaleChild$", "-test.v", "-test.timeout", "5m")
			child.Env = append(os.Environ(), scaleDir+"="+dir)
			out, err := child.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScaleTrend has a queue see a million messages (SEALPOST_SCALE_SEEN) and go:
// it is as fast at the end as it was at first.
func TestScaleTrend(t *testing.T) {
	seen, step := scaleNumber(t, "SEALPOST_SCALE_SEEN", 1_000_000), 50_000
	s := mustOpen(t, Options{Dir: t.TempDir()})
	defer s.Close()
	var rates, costs []float64
	for range seen / step {
		p := work(t, s, step)
		rates, costs = append(rates, p.rate), append(costs, float64(p.cpu.Microseconds()))
	}
	start := time.Now()
	err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanRows}, func(queue.Item) error { return errors.New("not empty") })
	if err != nil {
		t.Error(err)
	}
	scan := time.Since(start)
	start = time.Now()
	if _, _, err := s.Claim(t.Context(), queue.ClaimQuery{Now: start, Until: start, Limit: 1}); err != nil {
		t.Error(err)
	}
	claim := time.Since(start)
	third := len(rates) / 3
	first, last := mean(costs[:third]), mean(costs[len(costs)-third:])
	t.Logf("messages a second by %d: %.0f", step, rates)
	t.Logf("µs of processor a message: %.0f", costs)
	t.Logf("first third %.0f µs, last third %.0f µs: %.2f; a scan of the empty queue %v, a claim %v; %d MiB at most",
		first, last, first/last, scan, claim, memory(t, "VmHWM"))
	if first < last*aimRatio || scan > aimPage || claim > aimPage {
		t.Errorf("the aims are %.2f and %v", aimRatio, aimPage)
	}
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(len(list))
}
