package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// vectors reads testdata/vectors.txt.
func vectors(t *testing.T) func(name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		b, err := hex.DecodeString(value)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = b
	}
	return func(name string) []byte {
		b, ok := all[name]
		if !ok {
			t.Fatalf("no vector %q", name)
		}
		return b
	}
}

// TestVectors holds the forms of doc.go: what was sealed by an earlier version opens for
// ever. The values were made by another program, from doc.go alone.
func TestVectors(t *testing.T) {
	t.Parallel()
	v := vectors(t)
	same := func(name string, got []byte) {
		t.Helper()
		if want := v(name); !bytes.Equal(got, want) {
			t.Errorf("%s is\n%x, want\n%x", name, got, want)
		}
	}
	clone := func(name string) []byte { return bytes.Clone(v(name)) }
	id := queue.ID(v("id"))
	aead := newAEAD(v("message key"))

	r := &Ring{epochs: map[uint64]*epoch{}, o: RingOptions{}}
	e := &epoch{meta: meta{id: 1764203000}, aead: newAEAD(v("epoch key"))}
	wrapped, err := r.wrap(nil, e, keyName{id, ownRecord}, v("message key"), v("wrap nonce"))
	if err != nil {
		t.Fatal(err)
	}
	same("wrapped", wrapped)

	body := bytes.Repeat([]byte("0123456789abcdef"), frameSize/16)
	body = append(body, "end\r\n"...)
	s := &sealer{ctx: t.Context(), r: bytes.NewReader(body), aead: aead, id: id, pool: &buffers{}}
	sealed, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	same("body, last 37 octets", sealed[len(sealed)-37:])
	same("tags", s.tags)
	empty := &sealer{ctx: t.Context(), r: bytes.NewReader(nil), aead: aead, id: id, pool: &buffers{}}
	if _, err := io.ReadAll(empty); err != nil {
		t.Fatal(err)
	}
	same("tag of an empty body", empty.tags)

	same("record", sealRecord(aead, id, recordParts{wrapped, clone("record nonce"), s.tags, v("plain record")}))
	row := queue.Row{Message: id, Number: 3, Lane: "example.com", Data: v("plain row")}
	same("row", sealRow(aead, &row, nil, clone("row nonce")))
	same("own row", sealRow(aead, &row, wrapped, clone("own row nonce")))

	day := &tree{nodes: make([]treeNode, 1)}
	copy(day.nodes[0].key[:], v("day key"))
	leaf, _ := day.leaf(leafOf(string(id)))
	same("leaf", leaf[:])
	same("entry", sealEntry(&leaf, entryParts{20261127, string(id), v("entry nonce"), v("plain entry")}))

	names := newNamer(v("root"))
	same("lane", []byte(names.lane("example.com")))
	groups := newGrouper(names)
	same("group", []byte(groups.hide(string(v("plain group")))))
	if got := groups.show(string(v("group"))); got != string(v("plain group")) {
		t.Errorf("group %q", got)
	}
	stored := names.cell("hosts/example.com")
	same("cell name", []byte(stored))
	same("cell", sealCell(names, cellParts{stored, "hosts/example.com", v("cell nonce"), v("plain cell")}))

	m := &meta{kind: kindEpoch, id: 1764203000, gen: 2, created: time.Unix(1764203000, 0), kek: 7}
	same("epoch file", sealFile(m, newAEAD(v("kek")), v("file nonce"), v("epoch key")))
	k := &meta{kind: kindKEK, id: 7, created: time.Unix(1764203000, 0)}
	same("kek file", sealFile(k, nil, nil, v("kek")))
	if got, err := openFile(v("kek file"), nil); err != nil || !bytes.Equal(got, v("kek")) {
		t.Errorf("KEK %x, %v", got, err)
	}
}

// TestPlainValues: a queue from before sealing goes on; its rows are sealed when they are
// rewritten, its cells when they are set.
func TestPlainValues(t *testing.T) {
	t.Parallel()
	p, d := newTape(), newMemDisk()
	id := queue.NewID(time.Now())
	plain := &queue.Insertion{ID: id, Body: strings.NewReader("plain body"),
		Finish: func(int64) ([]byte, []byte, error) {
			return []byte("record of " + string(id)), []byte("accepted " + string(id)), nil
		},
		Rows: []queue.Row{
			{Message: id, Number: 0, Lane: "a.example", Due: time.Now(), State: queue.RowWaiting, Data: []byte("row 0 of " + string(id))},
			{Message: id, Number: 1, Lane: "b.example", Due: time.Now(), State: queue.RowWaiting, Data: []byte("row 1 of " + string(id))},
		}}
	if err := p.Insert(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	if err := p.SetCell(t.Context(), "follow/reader", []byte("old")); err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ctx: t.Context()}
	w.reopen(p, d)
	defer func() { w.shut() }()
	fresh := w.insert("sealed body", "a.example")
	check := func() {
		t.Helper()
		if err := w.whole(id, "plain body"); err != nil {
			t.Fatal(err)
		}
		if err := w.whole(fresh, "sealed body"); err != nil {
			t.Fatal(err)
		}
	}
	check()
	rows, _, err := w.s.Claim(w.ctx, queue.ClaimQuery{Now: time.Now().Add(time.Second), Until: time.Now().Add(time.Minute), Limit: 10})
	if err != nil || len(rows) != 3 {
		t.Fatalf("claimed %d rows, %v", len(rows), err)
	}
	for _, r := range rows {
		if r.Message == id && r.Number == 1 {
			r.State = queue.RowWaiting
			if err := w.s.Commit(w.ctx, &queue.Change{Update: []queue.Row{r}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, stored, err := p.Read(w.ctx, id)
	if err != nil || isSealed(stored[0].Data) || !isSealed(stored[1].Data) || bytes.Contains(stored[1].Data, []byte("row 1")) {
		t.Errorf("stored rows %x, %x, %v: want the second one sealed", stored[0].Data, stored[1].Data, err)
	}
	check()
	for range 3 {
		if _, err := w.s.Erase(w.ctx); err != nil { // its own key is carried as others are
			t.Fatal(err)
		}
		w.shut()
		w.reopen(p, d)
		check()
	}
	if got := w.journal(); len(got) != 2 {
		t.Errorf("journal %q", got)
	}
	if v, err := w.s.Cell(w.ctx, "follow/reader"); string(v) != "old" || err != nil {
		t.Errorf("cell %q, %v", v, err)
	}
	if err := w.s.SetCell(w.ctx, "follow/reader", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if v, _ := p.Cell(w.ctx, "follow/reader"); v != nil {
		t.Errorf("the plain cell is there still: %q", v)
	}
	if v, err := w.s.Cell(w.ctx, "follow/reader"); string(v) != "new" || err != nil {
		t.Errorf("cell %q, %v", v, err)
	}
	w.s.o.RefusePlain = true
	w.s.secrets.clear()
	if err := w.whole(id, "plain body"); !errors.Is(err, ErrPlain) {
		t.Errorf("plain mail where it is refused: %v", err)
	}
	if err := w.whole(fresh, "sealed body"); err != nil {
		t.Error(err)
	}
}
