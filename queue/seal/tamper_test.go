package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// typed reports whether an error is one that a caller can set something aside by.
func typed(err error) bool {
	var d *Damage
	return errors.As(err, &d) &&
		(errors.Is(err, ErrDamaged) || errors.Is(err, ErrKeyGone) || errors.Is(err, ErrVersion) || errors.Is(err, ErrPlain))
}

// TestFlippedOctets flips each octet of each small value: it is detected and named,
// and what is not touched goes on.
func TestFlippedOctets(t *testing.T) {
	t.Parallel()
	p, seen := newTape(), &damages{}
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, mustRing(t, RingOptions{}), Options{Damaged: seen.add})}
	defer w.s.Close()
	bad := w.insert("the body", "a.example")
	good := w.insert("another body", "b.example")
	flip := func(what string, at int) {
		w.s.secrets.clear()
		p.setTwist(func(found string, b []byte) []byte {
			if found != what {
				return b
			}
			b = bytes.Clone(b)
			b[at] ^= 1 << (at % 8)
			return b
		})
	}
	size := map[string]int{"record": len(p.records[bad]), "row": len(p.rows[0]), "body": len("the body")}
	for what, n := range size {
		for at := range n {
			flip(what+" "+string(bad), at)
			err := w.whole(bad, "the body")
			var d *Damage
			if !typed(err) || !errors.As(err, &d) || d.Message != bad || !strings.Contains(err.Error(), what) && what != "body" {
				t.Fatalf("octet %d of the %s: error %v", at, what, err)
			}
			if what == "body" && !strings.Contains(err.Error(), "frame 0 of the body") {
				t.Fatalf("octet %d of the body: error %v", at, err)
			}
			if err := w.whole(good, "another body"); err != nil {
				t.Fatalf("the other message: %v", err)
			}
		}
	}
	seen.take()
	flip("row "+string(bad), 20)
	rows, _, err := w.s.Claim(w.ctx, queue.ClaimQuery{Now: time.Now().Add(time.Second), Until: time.Now().Add(time.Minute), Limit: 10})
	if err != nil || len(rows) != 1 || rows[0].Message != good || rows[0].Lane != "b.example" {
		t.Errorf("claimed %v, %v; want the good one", rows, err)
	}
	if list := seen.take(); len(list) != 1 || list[0].Message != bad || list[0].What != "row 0" {
		t.Errorf("reported %v", list)
	}
	flip("record "+string(bad), 100)
	w.setAside(bad)
	w.entriesFlipped(p, seen, bad, good)
	w.cellFlipped(p)
}

// setAside: a row whose record does not open is held for a while and shows why, is in
// nobody's way, and comes back by itself when it opens again.
func (w *world) setAside(bad queue.ID) {
	claim := func(now time.Time) ([]queue.Row, time.Time) {
		rows, next, err := w.s.Claim(w.ctx, queue.ClaimQuery{Now: now, Until: now.Add(2 * time.Hour), Limit: 10})
		if err != nil {
			w.Fatal(err)
		}
		return rows, next
	}
	later := time.Now().Add(2 * time.Minute) // the lease of before has run out
	if rows, next := claim(later); len(rows) != 1 || next.After(later.Add(asideFor)) {
		w.Errorf("claimed %v, next %v; want the good one", rows, next)
	}
	var list []queue.Row
	err := w.s.Scan(w.ctx, queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error { list = append(list, it.Row); return nil })
	if err != nil || len(list) != 2 {
		w.Fatalf("scanned %d rows, %v", len(list), err)
	}
	for _, r := range list {
		if (r.Damage != nil) != (r.Message == bad) || r.Message == bad && (!typed(r.Damage) || r.State != queue.RowHeld || r.Data != nil || r.Record != nil) {
			w.Errorf("scanned %+v", r)
		}
	}
	if rows, _ := claim(later); len(rows) != 0 {
		w.Errorf("claimed again: %v", rows)
	}
	w.s.inner.(*tape).setTwist(nil)
	if rows, _ := claim(later.Add(asideFor)); len(rows) != 1 || rows[0].Message != bad || rows[0].Lane != "a.example" {
		w.Errorf("after an hour: claimed %v; want it", rows)
	}
}

func (w *world) entriesFlipped(p *tape, seen *damages, bad, good queue.ID) {
	for at := range p.entries[0] {
		seen.take()
		p.setTwist(func(what string, b []byte) []byte {
			if !bytes.Equal(b, p.entries[0]) {
				return b
			}
			b = bytes.Clone(b)
			b[at] ^= 1
			return b
		})
		if got := w.journal(); len(got) != 1 || got[0] != "accepted "+string(good) {
			w.Fatalf("octet %d of an entry: journal %q", at, got)
		}
		list := seen.take()
		if len(list) != 1 || !typed(list[0]) || list[0].What != "journal entry" || list[0].Pos == "" {
			w.Fatalf("octet %d of an entry: reported %v", at, list)
		}
		if at > 40 && list[0].Message != bad {
			w.Fatalf("octet %d of an entry: message %s, want %s", at, list[0].Message, bad)
		}
	}
	p.setTwist(nil)
}

func (w *world) cellFlipped(p *tape) {
	if err := w.s.SetCell(w.ctx, "follow/reader", []byte("pos")); err != nil {
		w.Fatal(err)
	}
	stored := w.s.names.cell("follow/reader")
	v, err := p.Model.Cell(w.ctx, stored)
	if err != nil || !strings.HasPrefix(stored, "follow/~") || strings.Contains(stored, "reader") {
		w.Fatalf("cell %q, %v", stored, err)
	}
	for at := range v {
		x := bytes.Clone(v)
		x[at] ^= 0x80
		if err := p.Model.SetCell(w.ctx, stored, x); err != nil {
			w.Fatal(err)
		}
		if _, err := w.s.Cell(w.ctx, "follow/reader"); !typed(err) {
			w.Fatalf("octet %d of a cell: %v", at, err)
		}
	}
	if v, err := w.s.Cell(w.ctx, "follow/other"); v != nil || err != nil {
		w.Errorf("another cell: %q, %v", v, err)
	}
}

// TestBodyTampered: order, length and owner of frames.
func TestBodyTampered(t *testing.T) {
	t.Parallel()
	const f = frameSize
	for _, test := range []struct {
		name  string
		twist func(b, other []byte) []byte
		what  string // in the error
		kept  int    // octets that come before it
	}{
		{"frames swapped", func(b, _ []byte) []byte {
			return append(append(append([]byte(nil), b[f:2*f]...), b[:f]...), b[2*f:]...)
		}, "frame 0 ", 0},
		{"a frame twice", func(b, _ []byte) []byte {
			return append(append(append([]byte(nil), b[:f]...), b[:f]...), b[2*f:]...)
		}, "frame 1 ", f},
		{"an octet in the middle frame", func(b, _ []byte) []byte { b[f+5] ^= 1; return b }, "frame 1 ", f},
		{"an octet in the last frame", func(b, _ []byte) []byte { b[len(b)-1] ^= 1; return b }, "frame 2 ", 2 * f},
		{"the last frame is missing", func(b, _ []byte) []byte { return b[:2*f] }, "body of", 0},
		{"the last octet is missing", func(b, _ []byte) []byte { return b[:len(b)-1] }, "frame 2 ", 2 * f},
		{"an octet more", func(b, _ []byte) []byte { return append(b, 0) }, "frame 2 ", 2 * f},
		{"nothing is left", func(b, _ []byte) []byte { return nil }, "body of", 0},
		{"another message's frame", func(b, o []byte) []byte { copy(b[f:2*f], o[f:2*f]); return b }, "frame 1 ", f},
		{"another message's body", func(b, o []byte) []byte { return o }, "frame 0 ", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newTape()
			w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, mustRing(t, RingOptions{}), Options{})}
			defer w.s.Close()
			body := strings.Repeat("0123456789abcdef", (2*f+f/2)/16)
			id, other := w.insert(body, "a.example"), w.insert(body, "a.example")
			p.setTwist(func(what string, b []byte) []byte {
				if what != "body "+string(id) {
					return b
				}
				return test.twist(bytes.Clone(b), bytes.Clone(p.bodies[other]))
			})
			b, err := w.s.Body(w.ctx, id)
			got := 0
			if err == nil {
				buf := make([]byte, 1000)
				for err == nil {
					var n int
					n, err = b.Read(buf)
					if string(buf[:n]) != body[got:got+n] {
						t.Fatal("octets that were not sealed")
					}
					got += n
				}
			}
			var d *Damage
			if !errors.As(err, &d) || d.Message != id || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), test.what) || got != test.kept {
				t.Errorf("%d octets, then %v; want %d, then %q", got, err, test.kept, test.what)
			}
			if err := w.whole(other, body); err != nil {
				t.Errorf("the other message: %v", err)
			}
		})
	}
}

// TestSwappedValues: what belongs to one message opens under no other.
func TestSwappedValues(t *testing.T) {
	t.Parallel()
	p := newTape()
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, mustRing(t, RingOptions{}), Options{})}
	defer w.s.Close()
	id, other := w.insert("body", "a.example", "b.example"), w.insert("body", "a.example")
	for _, test := range []struct {
		what string
		with []byte
	}{
		{"record", p.records[other]},
		{"row", p.rows[2]},
		{"row", p.rows[1]}, // its own other row; the second is itself
		{"record", []byte(`{"id":"plain"}`)},
		{"row", []byte(`{"id":"plain"}`)},
		{"record", []byte{version}},
		{"record", []byte{version + 1, 'R'}},
		{"row", nil},
	} {
		w.s.secrets.clear()
		p.setTwist(func(what string, b []byte) []byte {
			if what == test.what+" "+string(id) {
				return test.with
			}
			return b
		})
		if err := w.whole(id, "body"); !typed(err) {
			t.Errorf("%s is %.20q: %v", test.what, test.with, err)
		}
	}
}
