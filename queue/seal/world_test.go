package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// tape is the model, and remembers every value that was ever written, as a log, tables and
// backups do. twist changes what is read.
type tape struct {
	*storetest.Model
	mu      sync.Mutex
	records map[queue.ID][]byte
	rows    [][]byte
	entries [][]byte
	bodies  map[queue.ID][]byte
	twist   func(what string, b []byte) []byte // nil: as written
}

func newTape() *tape {
	return &tape{Model: storetest.NewModel(), records: make(map[queue.ID][]byte), bodies: make(map[queue.ID][]byte)}
}

func (p *tape) record(in *queue.Insertion) *queue.Insertion {
	var body strings.Builder
	out := *in
	out.Body = io.TeeReader(in.Body, &body)
	out.Finish = func(size int64) ([]byte, []byte, error) {
		record, entry, err := in.Finish(size)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.records[in.ID], p.bodies[in.ID] = record, []byte(body.String())
		p.entries = append(p.entries, entry)
		for _, r := range in.Rows {
			p.rows = append(p.rows, r.Data)
		}
		return record, entry, err
	}
	return &out
}

func (p *tape) Insert(ctx context.Context, in *queue.Insertion) error {
	return p.Model.Insert(ctx, p.record(in))
}

func (p *tape) Commit(ctx context.Context, c *queue.Change) error {
	out := *c
	out.Insert = nil
	for _, in := range c.Insert {
		out.Insert = append(out.Insert, p.record(in))
	}
	p.mu.Lock()
	for _, r := range c.Update {
		p.rows = append(p.rows, r.Data)
	}
	p.entries = append(p.entries, c.Entries...)
	p.mu.Unlock()
	return p.Model.Commit(ctx, &out)
}

func (p *tape) read(what string, b []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.twist == nil {
		return b
	}
	return p.twist(what, b)
}

func (p *tape) setTwist(f func(what string, b []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.twist = f
}

func (p *tape) Read(ctx context.Context, id queue.ID) ([]byte, []queue.Row, error) {
	record, rows, err := p.Model.Read(ctx, id)
	for i := range rows {
		rows[i].Data = p.read("row "+string(id), rows[i].Data)
	}
	return p.read("record "+string(id), record), rows, err
}

func (p *tape) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	rows, next, err := p.Model.Claim(ctx, q)
	for i := range rows {
		rows[i].Data = p.read("row "+string(rows[i].Message), rows[i].Data)
		rows[i].Record = p.read("record "+string(rows[i].Message), rows[i].Record)
	}
	return rows, next, err
}

func (p *tape) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	return p.Model.Scan(ctx, q, func(it queue.Item) error {
		if q.Kind == queue.ScanRows {
			it.Row.Data = p.read("row "+string(it.Row.Message), it.Row.Data)
			it.Row.Record = p.read("record "+string(it.Row.Message), it.Row.Record)
		} else {
			it.Entry = p.read("entry "+it.Pos, it.Entry)
		}
		return fn(it)
	})
}

func (p *tape) Body(ctx context.Context, id queue.ID) (queue.Body, error) {
	b, err := p.Model.Body(ctx, id)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	all = p.read("body "+string(id), all)
	return tapeBody{strings.NewReader(string(all))}, b.Close()
}

type tapeBody struct{ *strings.Reader }

func (tapeBody) Close() error { return nil }

// world is a sealing store with a few short words.
type world struct {
	testing.TB
	ctx context.Context
	s   *Store
	n   int
}

func (w *world) insert(body string, lanes ...string) queue.ID {
	w.Helper()
	return w.insertFor("", body, lanes...)
}

// insertFor inserts a message of a fairness class.
func (w *world) insertFor(group, body string, lanes ...string) queue.ID {
	w.Helper()
	w.n++
	id := queue.NewID(time.Now().Add(time.Duration(w.n) * time.Millisecond))
	in := &queue.Insertion{ID: id, Body: strings.NewReader(body), Finish: func(int64) ([]byte, []byte, error) {
		return []byte("record of " + string(id)), []byte("accepted " + string(id)), nil
	}}
	for i, lane := range lanes {
		in.Rows = append(in.Rows, queue.Row{Message: id, Number: i, Lane: lane, Group: group, Due: time.Now(), State: queue.RowWaiting,
			Data: fmt.Appendf(nil, "row %d of %s", i, id)})
	}
	if err := w.s.Insert(w.ctx, in); err != nil {
		w.Fatal(err)
	}
	return id
}

// remove takes a message away with a journal entry.
func (w *world) remove(id queue.ID) {
	w.Helper()
	_, rows, err := w.s.Read(w.ctx, id)
	if err != nil {
		w.Fatal(err)
	}
	if err := w.s.Commit(w.ctx, &queue.Change{Remove: rows, Entries: [][]byte{[]byte("settled " + string(id))}}); err != nil {
		w.Fatal(err)
	}
}

// whole returns what is wrong with a message that should be there as it was inserted.
func (w *world) whole(id queue.ID, body string) error {
	record, rows, err := w.s.Read(w.ctx, id)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Damage != nil {
			return r.Damage
		}
		if want := fmt.Sprintf("row %d of %s", r.Number, id); string(r.Data) != want {
			return fmt.Errorf("row %q", r.Data)
		}
	}
	if string(record) != "record of "+string(id) {
		return fmt.Errorf("record %q", record)
	}
	b, err := w.s.Body(w.ctx, id)
	if err != nil {
		return err
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if string(got) != body {
		return errors.New("the body is another")
	}
	return nil
}

func (w *world) journal() (list []string) {
	w.Helper()
	err := w.s.Scan(w.ctx, queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		list = append(list, string(it.Entry))
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// damages gathers what a store reports.
type damages struct {
	mu   sync.Mutex
	list []*Damage
}

func (d *damages) add(x *Damage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, x)
}

func (d *damages) take() []*Damage {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}
