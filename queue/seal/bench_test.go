package seal

import (
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// sink is a store that keeps nothing: what is measured is the seal.
type sink struct {
	queue.Store
	body []byte
}

func (k *sink) Insert(_ context.Context, in *queue.Insertion) error {
	n := 0
	for {
		m, err := in.Body.Read(k.body[n:])
		n += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	_, _, err := in.Finish(int64(n))
	return err
}

func (k *sink) Cell(context.Context, string) ([]byte, error)                        { return nil, nil }
func (k *sink) SetCell(context.Context, string, []byte) error                       { return nil }
func (k *sink) Close() error                                                        { return nil }
func (k *sink) Scan(context.Context, queue.ScanQuery, func(queue.Item) error) error { return nil }

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchInsert(b *testing.B, size int) {
	s := mustNew(b, &sink{body: make([]byte, size+1)}, mustRing(b, RingOptions{}), Options{})
	defer s.Close()
	body := bytes.NewReader(bytes.Repeat([]byte("x"), size))
	record, entry := []byte(strings.Repeat("r", 400)), []byte(strings.Repeat("e", 500))
	id := queue.NewID(time.Now())
	in := &queue.Insertion{ID: id, Body: body, Finish: func(int64) ([]byte, []byte, error) { return record, entry, nil },
		Rows: []queue.Row{{Message: id, Lane: "example.com", State: queue.RowWaiting, Data: record}}}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	before := processorTime(b)
	// Processor time is what counts on a machine that is shared.
	defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	for b.Loop() {
		_, _ = body.Seek(0, io.SeekStart)
		if err := s.Insert(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen reads a sealed body from a store in memory.
func BenchmarkOpen(b *testing.B) {
	const size = 25 << 20
	s := mustNew(b, storetest.NewModel(), mustRing(b, RingOptions{}), Options{})
	defer s.Close()
	id := queue.NewID(time.Now())
	in := &queue.Insertion{ID: id, Body: bytes.NewReader(make([]byte, size)),
		Finish: func(int64) ([]byte, []byte, error) { return nil, nil, nil },
		Rows:   []queue.Row{{Message: id, State: queue.RowWaiting}}}
	if err := s.Insert(b.Context(), in); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	before := processorTime(b)
	defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	for b.Loop() {
		body, err := s.Body(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, body); n != size || err != nil {
			b.Fatal(n, err)
		}
		body.Close()
	}
}

// BenchmarkSeal seals a message with one row, its record and its journal entry.
func BenchmarkSeal(b *testing.B) {
	b.Run("4KiB", func(b *testing.B) { benchInsert(b, 4<<10) })
	b.Run("25MiB", func(b *testing.B) { benchInsert(b, 25<<20) })
}

// crowd is a store with many messages that wait: all under one name after another, each with
// the same record.
type crowd struct {
	sink
	n int
	s *Store
}

func (c *crowd) Scan(_ context.Context, _ queue.ScanQuery, fn func(queue.Item) error) error {
	now := time.Unix(1_800_000_000, 0)
	e := c.s.ring.pin()
	defer c.s.ring.unpin(e)
	old := *e // what is sealed under an epoch that goes
	for id := range c.s.ring.epochs {
		if id < old.id {
			old = *c.s.ring.epochs[id]
		}
	}
	for i := range c.n {
		id := queue.NewID(now.Add(time.Duration(i) * time.Millisecond))
		b := append(make([]byte, 0, 200), version, boxRecord)
		b, err := c.s.ring.wrap(b, &old, keyName{id, ownRecord}, make([]byte, keySize), make([]byte, nonceSize))
		if err != nil {
			return err
		}
		if err := fn(queue.Item{Row: queue.Row{Message: id, Record: append(b, make([]byte, 64)...)}}); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkSweep carries 100,000 waiting messages, besides what the store behind needs to
// read them.
func BenchmarkSweep(b *testing.B) {
	const n = 100_000
	c := &crowd{}
	s := mustNew(b, c, mustRing(b, RingOptions{}), Options{})
	defer s.Close()
	s.sweeps <- struct{}{}
	c.n, c.s = n, s
	<-s.sweeps
	b.ReportAllocs()
	for b.Loop() {
		rec, err := s.Erase(b.Context())
		if err != nil || rec.Swept.Carried != n {
			b.Fatal(rec, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}
