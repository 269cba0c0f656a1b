package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// idle is a courier that does nothing but deliver.
type idle struct{ done atomic.Int64 }

func (c *idle) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	b, err := l.Body(ctx)
	if err != nil {
		return queue.Report{}
	}
	defer b.Close()
	var buf [4096]byte
	for {
		if _, err := b.Read(buf[:]); err != nil {
			break
		}
	}
	c.done.Add(1)
	r := queue.Report{Attempt: []byte(`{"v":1}`)}
	for i := range l.Envelope.Recipients {
		r.Outcomes = append(r.Outcomes, queue.Outcome{Recipient: i, Kind: queue.DeliveredNow})
	}
	return r
}

// BenchmarkThroughput is the vault's share of a relay's work: synced acceptance,
// lease, delivery to nowhere, synced settlement; one lane, 4 KiB, 50 sessions.
func BenchmarkThroughput(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir()})
	defer s.Close()
	q, err := queue.New(queue.Options{Store: s, Workers: 100})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	c := &idle{}
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, c) }()
	body := []byte(strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 64))
	b.SetParallelism(25)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d := &queue.Draft{
				Message:    queue.Message{Sender: queue.Address{Local: "app", Domain: "sender.example"}},
				Recipients: []queue.Recipient{{Address: queue.Address{Local: "u", Domain: "rcpt.example"}}},
				Body:       bytes.NewReader(body),
			}
			if _, err := q.Enqueue(ctx, d); err != nil {
				b.Error(err)
			}
		}
	})
	for s.Stats().Envelopes["waiting"]+s.Stats().Envelopes["leased"] > 0 {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	cancel()
	<-done
	if c.done.Load() != int64(b.N) {
		b.Errorf("%d deliveries of %d messages", c.done.Load(), b.N)
	}
}

// BenchmarkInsert is acceptance alone.
func BenchmarkInsert(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := mustOpen(b, Options{Dir: b.TempDir()})
			defer s.Close()
			q, err := queue.New(queue.Options{Store: s})
			if err != nil {
				b.Fatal(err)
			}
			body := bytes.Repeat([]byte("x"), size)
			b.SetBytes(int64(size))
			b.SetParallelism(25)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					d := &queue.Draft{
						Recipients: []queue.Recipient{{Address: queue.Address{Local: "u", Domain: "rcpt.example"}}},
						Body:       bytes.NewReader(body),
					}
					if _, err := q.Enqueue(b.Context(), d); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkJournal is what an entry of 900 octets costs before the log: its hash outside of
// the lock, its number and link under it.
func BenchmarkJournal(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir()})
	defer s.Close()
	entries := [][]byte{bytes.Repeat([]byte("x"), 900)}
	leaves := []queue.Hash{queue.Leaf(entries[0])}
	b.Run("leaf", func(b *testing.B) {
		for b.Loop() {
			leaves[0] = queue.Leaf(entries[0])
		}
	})
	b.Run("locked", func(b *testing.B) {
		batch := s.db.NewBatchWithSize(4 << 10)
		b.ReportAllocs()
		for b.Loop() {
			batch.Reset()
			s.journal.add(batch, entries, leaves)
		}
		if err := batch.Close(); err != nil {
			b.Error(err)
		}
	})
	b.Run("head", func(b *testing.B) {
		for b.Loop() {
			h := s.signer.next(1, queue.Hash{}, time.Now())
			_ = queue.SignHead(&h, s.signer.key)
		}
	})
}
