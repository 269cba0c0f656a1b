package queue_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// reads counts what is read of a store.
type reads struct {
	*storetest.Model
	bodies, rows atomic.Int32
	fail         atomic.Bool
}

func (s *reads) Body(ctx context.Context, id queue.ID) (queue.Body, error) {
	s.bodies.Add(1)
	return s.Model.Body(ctx, id)
}

func (s *reads) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	rows, next, err := s.Model.Claim(ctx, q)
	for i := range rows {
		if rows[i].Data != nil {
			s.rows.Add(1)
		}
	}
	return rows, next, err
}

func (s *reads) Insert(ctx context.Context, in *queue.Insertion) error {
	if err := s.Model.Insert(ctx, in); err != nil || !s.fail.Load() {
		return err
	}
	return errors.New("the store is away")
}

// TestHot: the first try needs nothing from the disk, unless the body is large or the
// message has been changed since; each later one does.
func TestHot(t *testing.T) {
	for _, c := range []struct {
		name         string
		size         int // of the body
		touch        queue.Verb
		courier      courier
		bodies, rows int32
	}{
		{"small", 20, "", deliver, 0, 0},
		{"of the largest size", 64 << 10, "", deliver, 0, 0},
		{"large", 64<<10 + 1, "", deliver, 2, 2},
		{"held and released", 20, queue.VerbRelease, deliver, 2, 2},
		{"tried twice", 20, "", func(ctx context.Context, l *queue.Lease) queue.Report {
			if l.Envelope.Tries == 0 {
				return refuse(ctx, l)
			}
			return deliver(ctx, l)
		}, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &reads{Model: storetest.NewModel()}
				q, err := queue.New(queue.Options{Store: s})
				if err != nil {
					t.Fatal(err)
				}
				d := draft(t, "a@one.example", "b@two.example")
				text := strings.Repeat("x", c.size)
				d.Body = strings.NewReader(text)
				if _, err := q.Enqueue(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if c.touch != "" {
					for _, v := range []queue.Verb{queue.VerbHold, c.touch} {
						if n, err := q.Act(t.Context(), queue.Action{Verb: v}, queue.Filter{}); n != 2 || err != nil {
							t.Fatal(n, err)
						}
					}
				}
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				var got atomic.Int32
				err = q.Run(ctx, courier(func(ctx context.Context, l *queue.Lease) queue.Report {
					r := c.courier(ctx, l)
					if r.Outcomes[0].Kind != queue.DeliveredNow {
						return r
					}
					b, err := l.Body(ctx)
					if err != nil {
						t.Error(err)
						return r
					}
					defer b.Close()
					if all, err := io.ReadAll(b); err != nil || string(all) != text || b.Size() != int64(c.size) {
						t.Errorf("%d octets of %d, %v", len(all), b.Size(), err)
					}
					got.Add(1)
					return r
				}))
				if err != nil || got.Load() != 2 {
					t.Fatalf("%d delivered, %v", got.Load(), err)
				}
				if s.bodies.Load() != c.bodies || s.rows.Load() != c.rows {
					t.Errorf("%d bodies and %d rows were read, want %d and %d", s.bodies.Load(), s.rows.Load(), c.bodies, c.rows)
				}
			})
		})
	}
}

// A message that may not be ours, because the store said so, is not kept: what is on the disk counts.
func TestHotAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &reads{Model: storetest.NewModel()}
		q, err := queue.New(queue.Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		s.fail.Store(true)
		if _, err := q.Enqueue(t.Context(), draft(t, "a@one.example")); err == nil {
			t.Fatal("accepted")
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := q.Run(ctx, courier(deliver)); err != nil {
			t.Fatal(err)
		}
		if s.rows.Load() != 1 {
			t.Errorf("%d rows were read", s.rows.Load())
		}
	})
}
