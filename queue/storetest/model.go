package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Model is a queue.Store in memory. Each method is one step under one lock.
type Model struct {
	mu       sync.Mutex
	schedule *queue.Schedule
	messages map[queue.ID]*message
	journal  [][]byte
	cells    map[string][]byte
}

type message struct {
	record, body []byte
	rows         map[int][]byte
}

var (
	_ queue.Store   = (*Model)(nil)
	_ queue.Counter = (*Model)(nil)
)

// NewModel returns an empty store. Close does nothing.
func NewModel() *Model {
	return &Model{schedule: queue.NewSchedule(), messages: make(map[queue.ID]*message), cells: make(map[string][]byte)}
}

// Insert implements queue.Store.
func (s *Model) Insert(ctx context.Context, in *queue.Insertion) error {
	if err := in.Check(); err != nil {
		return err
	}
	if err := s.schedule.Reserve(in.ID); err != nil {
		return err
	}
	m, entry, err := prepare(ctx, in)
	if err != nil {
		s.schedule.Cancel(in.ID)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(in, m, entry)
	return nil
}

// prepare reads the body and makes what is kept of an insertion.
func prepare(ctx context.Context, in *queue.Insertion) (*message, []byte, error) {
	body, err := io.ReadAll(in.Body)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, err
	}
	record, entry, err := in.Finish(int64(len(body)))
	if err != nil {
		return nil, nil, err
	}
	return &message{record: bytes.Clone(record), body: body, rows: make(map[int][]byte)}, bytes.Clone(entry), nil
}

func (s *Model) put(in *queue.Insertion, m *message, entry []byte) {
	s.messages[in.ID] = m
	s.journal = append(s.journal, entry)
	for _, r := range in.Rows {
		m.rows[r.Number] = bytes.Clone(r.Data)
		r.Fence = 0
		s.schedule.Add(queue.Booking{Row: r, Size: int64(len(m.body))})
	}
}

// Claim implements queue.Store.
func (s *Model) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	rows, next := s.schedule.Claim(q)
	for i := range rows {
		if q.Known != nil && q.Known(rows[i].Message, rows[i].Number) {
			continue
		}
		m := s.messages[rows[i].Message]
		rows[i].Data, rows[i].Record = bytes.Clone(m.rows[rows[i].Number]), bytes.Clone(m.record)
	}
	return rows, next, nil
}

// Commit implements queue.Store.
func (s *Model) Commit(ctx context.Context, c *queue.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	var inserted []*message
	var entries [][]byte
	cancel := func() {
		for i := range inserted {
			s.schedule.Cancel(c.Insert[i].ID)
		}
	}
	for _, in := range c.Insert {
		if err := in.Check(); err != nil {
			cancel()
			return err
		}
		if err := s.schedule.Reserve(in.ID); err != nil {
			cancel()
			return err
		}
		m, entry, err := prepare(ctx, in)
		inserted, entries = append(inserted, m), append(entries, entry)
		if err != nil {
			cancel()
			return err
		}
	}
	p, err := s.schedule.Prepare(c)
	if err != nil {
		cancel()
		return err
	}
	s.schedule.Apply(c, p)
	for i := range c.Update {
		r := &c.Update[i]
		s.messages[r.Message].rows[r.Number] = bytes.Clone(r.Data)
	}
	for i := range c.Remove {
		r := &c.Remove[i]
		m := s.messages[r.Message]
		if delete(m.rows, r.Number); len(m.rows) == 0 {
			delete(s.messages, r.Message)
		}
	}
	for _, e := range c.Entries {
		s.journal = append(s.journal, bytes.Clone(e))
	}
	for i, in := range c.Insert {
		s.put(in, inserted[i], entries[i])
	}
	return nil
}

// Body implements queue.Store.
func (s *Model) Body(_ context.Context, id queue.ID) (queue.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return nil, queue.ErrNotFound
	}
	return &modelBody{bytes.NewReader(m.body)}, nil
}

type modelBody struct{ r *bytes.Reader }

func (b *modelBody) Size() int64                { return b.r.Size() }
func (b *modelBody) Read(p []byte) (int, error) { return b.r.Read(p) }
func (b *modelBody) Close() error               { return nil }

// Read implements queue.Store.
func (s *Model) Read(_ context.Context, id queue.ID) ([]byte, []queue.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return nil, nil, queue.ErrNotFound
	}
	rows := s.schedule.Rows(id)
	for i := range rows {
		rows[i].Data = bytes.Clone(m.rows[rows[i].Number])
	}
	return bytes.Clone(m.record), rows, nil
}

// Scan implements queue.Store.
func (s *Model) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	items, err := s.items(q)
	if err != nil {
		return err
	}
	for i, it := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.Limit > 0 && i == q.Limit {
			return nil
		}
		if err := fn(it); errors.Is(err, queue.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *Model) items(q queue.ScanQuery) (items []queue.Item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch q.Kind {
	case queue.ScanJournal:
		n := 0
		if q.After != "" {
			if _, err := fmt.Sscanf(q.After, "%d", &n); err != nil {
				return nil, fmt.Errorf("storetest: %q is no position", q.After)
			}
		}
		for i := n; i < len(s.journal) && (q.Limit == 0 || len(items) < q.Limit); i++ {
			items = append(items, queue.Item{Pos: fmt.Sprintf("%012d", i+1), Entry: bytes.Clone(s.journal[i])})
		}
		return items, nil
	case queue.ScanCells:
		for name, value := range s.cells {
			if q.After == "" || name > q.After {
				items = append(items, queue.Item{Pos: name, Entry: bytes.Clone(value)})
			}
		}
		slices.SortFunc(items, func(a, b queue.Item) int { return strings.Compare(a.Pos, b.Pos) })
		return items, nil
	case queue.ScanRows:
		for id, m := range s.messages {
			for n, data := range m.rows {
				r := queue.Row{Message: id, Number: n, Data: bytes.Clone(data), Record: bytes.Clone(m.record)}
				s.schedule.Fill(&r)
				if pos := fmt.Sprintf("%s-%010d", id, n); pos > q.After {
					items = append(items, queue.Item{Pos: pos, Row: r})
				}
			}
		}
		slices.SortFunc(items, func(a, b queue.Item) int { return strings.Compare(a.Pos, b.Pos) })
		return items, nil
	}
	return nil, fmt.Errorf("storetest: unknown scan %d", q.Kind)
}

// Cell implements queue.Store.
func (s *Model) Cell(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.cells[name]), nil
}

// SetCell implements queue.Store.
func (s *Model) SetCell(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil {
		delete(s.cells, name)
		return nil
	}
	s.cells[name] = append([]byte{}, value...)
	return nil
}

// Stats implements queue.Counter.
func (s *Model) Stats() queue.Stats { return s.schedule.Stats() }

// Close implements queue.Store.
func (s *Model) Close() error { return nil }
