package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

func testInsert(f *fixture) {
	in := f.insertion("Subject: x\r\n\r\nhello\r\n", "a.example", "b.example")
	in.Rows[1].State, in.Rows[1].Due = queue.RowHeld, f.now.Add(time.Hour)
	if err := f.s.Insert(f.ctx, in); err != nil {
		f.Fatal(err)
	}
	record, rows, err := f.s.Read(f.ctx, in.ID)
	if err != nil {
		f.Fatal(err)
	}
	if want := fmt.Sprintf("record %s 21", in.ID); string(record) != want {
		f.Errorf("record %q, want %q", record, want)
	}
	if len(rows) != 2 {
		f.Fatalf("%d rows, want 2", len(rows))
	}
	for i, r := range rows {
		want := in.Rows[i]
		if r.Message != in.ID || r.Number != i || r.Lane != want.Lane || !r.Due.Equal(want.Due) ||
			r.State != want.State || !bytes.Equal(r.Data, want.Data) {
			f.Errorf("row %d is %+v, want %+v", i, r, want)
		}
	}
	if got := f.body(in.ID); got != "Subject: x\r\n\r\nhello\r\n" {
		f.Errorf("body %q", got)
	}
	if got := f.entries(); !slices.Equal(got, []string{"accepted " + string(in.ID)}) {
		f.Errorf("journal %q", got)
	}
	f.gone(f.id())
}

func testInsertRefused(f *fixture) {
	id := f.insert("x", "a.example")
	for name, spoil := range map[string]func(*queue.Insertion){
		"an ID that is taken": func(in *queue.Insertion) { in.ID, in.Rows[0].Message = id, id },
		"no ID":               func(in *queue.Insertion) { in.ID = "x" },
		"no rows":             func(in *queue.Insertion) { in.Rows = nil },
		"a row twice":         func(in *queue.Insertion) { in.Rows = append(in.Rows, in.Rows[0]) },
		"another's row":       func(in *queue.Insertion) { in.Rows[0].Message = id },
		"a leased row":        func(in *queue.Insertion) { in.Rows[0].State = queue.RowLeased },
	} {
		in := f.insertion("y", "a.example")
		spoil(in)
		if err := f.s.Insert(f.ctx, in); err == nil {
			f.Errorf("%s was inserted", name)
		}
		if err := f.s.Commit(f.ctx, &queue.Change{Insert: []*queue.Insertion{in}}); err == nil {
			f.Errorf("%s was inserted by Commit", name)
		}
	}
	if got := f.body(id); got != "x" {
		f.Errorf("the message became %q", got)
	}
	if n := len(f.entries()); n != 1 {
		f.Errorf("%d journal entries, want 1", n)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	in := f.insertion("y", "a.example")
	if err := f.s.Insert(ctx, in); !errors.Is(err, context.Canceled) {
		f.Errorf("Insert with ctx done: %v", err)
	}
	f.gone(in.ID)
}

func testInsertAtomic(f *fixture) {
	broken := errors.New("the client went away")
	for _, size := range []int{0, 10, 300 << 10, 1 << 20} {
		in := f.insertion("", "a.example")
		in.Body = io.MultiReader(strings.NewReader(strings.Repeat("x", size)), iotest.ErrReader(broken))
		if err := f.s.Insert(f.ctx, in); err != broken {
			f.Errorf("body of %d octets: error %v, want the reader's own", size, err)
		}
		f.gone(in.ID)
		// The ID is free again, and nothing is left of the first body.
		again := f.insertion("", "a.example")
		again.ID, again.Rows[0].Message = in.ID, in.ID
		again.Body = strings.NewReader("second")
		if err := f.s.Insert(f.ctx, again); err != nil {
			f.Errorf("second attempt: %v", err)
		} else if got := f.body(in.ID); got != "second" {
			f.Errorf("body %q, want the second one's", got)
		}
	}
	in := f.insertion("x", "a.example")
	in.Body = io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := f.s.Insert(f.ctx, in); err != io.ErrUnexpectedEOF {
		f.Errorf("io.ErrUnexpectedEOF of the reader: error %v", err)
	}
	in = f.insertion("x", "a.example")
	in.Finish = func(int64) ([]byte, []byte, error) { return nil, nil, broken }
	if err := f.s.Insert(f.ctx, in); err != broken {
		f.Errorf("Finish failed: error %v", err)
	}
	f.gone(in.ID)
	if n := len(f.entries()); n != 4 {
		f.Errorf("%d journal entries, want 4", n)
	}
	if rows, _ := f.claim(10, 0); len(rows) != 4 {
		f.Errorf("%d rows to claim, want 4", len(rows))
	}
}

func testBodies(f *fixture) {
	pattern := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 1+(3<<20)/38)
	for _, size := range []int{0, 1, 4 << 10, 16<<10 - 1, 16 << 10, 16<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512 << 10, 3 << 20} {
		in := f.insertion("", "a.example")
		// Readers that give little, and EOF together with data.
		in.Body = iotest.DataErrReader(iotest.HalfReader(strings.NewReader(pattern[:size])))
		if err := f.s.Insert(f.ctx, in); err != nil {
			f.Fatal(err)
		}
		if f.body(in.ID) != pattern[:size] {
			f.Errorf("a body of %d octets came back another", size)
		}
		rows, _ := f.claim(1, 0)
		if want := fmt.Sprintf("record %s %d", in.ID, size); len(rows) != 1 || string(rows[0].Record) != want {
			f.Fatalf("claimed %v, want the record %q", rows, want)
		}
		f.commit(&queue.Change{Remove: rows})
		f.gone(in.ID)
	}
}
