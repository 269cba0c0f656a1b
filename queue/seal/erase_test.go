package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// openAll tries to open with a key directory all that a tape ever held. It returns the
// messages of which a record, a row, a body or a journal entry opens.
func openAll(t *testing.T, p *tape, d *memDisk) (mail, journal []queue.ID) {
	t.Helper()
	r := mustRing(t, RingOptions{Dir: "keys", disk: d})
	s := &Store{inner: p, ring: r, secrets: newSecrets()}
	for id, record := range p.records {
		sec, _, err := s.open(id, record)
		if err != nil {
			if !typed(err) {
				t.Fatal(err)
			}
			continue
		}
		mail = append(mail, id)
		o, err := newOpener(tapeBody{strings.NewReader(string(p.bodies[id]))}, sec, id)
		if err != nil {
			t.Fatal(err)
		}
		o.pool = &s.pool
		if _, err := io.ReadAll(o); err != nil {
			t.Errorf("the record opens, the body does not: %v", err)
		}
	}
	for _, entry := range p.entries {
		if _, err := openEntry(r.dayTree, entry); err == nil {
			_, name, _, _ := entryHead(entry)
			journal = append(journal, queue.ID(name))
		} else if !errors.Is(err, ErrKeyGone) && !errors.Is(err, ErrErased) {
			t.Errorf("entry: %v", err)
		}
	}
	return mail, journal
}

// checkOverwritten: no key is left in the free space of the disk.
func checkOverwritten(t *testing.T, d *memDisk) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, n := range d.freed {
		if head := n.data[:min(len(n.data), 4096)]; len(bytes.Trim(head, "\x00")) > 0 {
			t.Errorf("freed file %d of %d octets was not overwritten", i, len(n.data))
		}
	}
}

// TestErasureDelay: a delay after a message is gone nothing of all that was ever
// written opens it; what waits stays readable for days.
func TestErasureDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, p := newMemDisk(), newTape()
		r := mustRing(t, RingOptions{Dir: "keys", disk: d, Retention: 30 * 24 * time.Hour})
		w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, r, Options{})}
		defer w.s.Close()
		waits := w.insert("waits", "a.example", "b.example")
		gone := map[queue.ID]time.Time{}
		late := map[time.Time]queue.ID{}
		for i := range 60 {
			// Some go at once, some after up to five hours.
			id := w.insert("goes", "a.example")
			if i%2 == 0 {
				w.remove(id)
				gone[id] = time.Now()
			} else {
				late[time.Now().Add(time.Duration(i*5)*time.Minute)] = id
			}
			time.Sleep(7 * time.Minute)
			synctest.Wait()
			for at, id := range late {
				if time.Now().After(at) {
					w.remove(id)
					gone[id] = time.Now()
					delete(late, at)
				}
			}
			if err := w.whole(waits, "waits"); err != nil {
				t.Fatalf("after %d messages: %v", i, err)
			}
			if late := r.Overdue(time.Now()); late > 0 {
				t.Errorf("the destruction is %v overdue", late)
			}
			mail, _ := openAll(t, p, d.clone())
			for id, at := range gone {
				if slices.Contains(mail, id) && time.Since(at) >= time.Hour {
					t.Errorf("message %s is gone for %v and opens", id, time.Since(at))
				}
			}
			for _, id := range late {
				if !slices.Contains(mail, id) {
					t.Errorf("message %s waits and does not open", id)
				}
			}
		}
		time.Sleep(5 * 24 * time.Hour)
		if err := w.whole(waits, "waits"); err != nil {
			t.Errorf("after days: %v", err)
		}
		if n := len(w.journal()); n != len(p.entries) {
			t.Errorf("%d journal entries can be read, want %d", n, len(p.entries))
		}
		checkOverwritten(t, d)
		d.mu.Lock()
		n := len(d.names)
		d.mu.Unlock()
		if n > 20 {
			t.Errorf("%d files in the key directory", n)
		}
		// The journal's own time is over.
		time.Sleep(31 * 24 * time.Hour)
		w.remove(waits)
		if _, journal := openAll(t, p, d.clone()); len(journal) != 1 {
			t.Errorf("%d entries open after their retention, want the new one only", len(journal))
		}
	})
}

// TestErase: what is asked to be forgotten is gone at once, and nothing else.
func TestErase(t *testing.T) {
	t.Parallel()
	d, p := newMemDisk(), newTape()
	r := mustRing(t, RingOptions{Dir: "keys", disk: d})
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, r, Options{})}
	defer w.s.Close()
	person, other, waits := w.insert("hers", "a.example"), w.insert("his", "a.example"), w.insert("waits", "a.example")
	w.remove(other)
	if _, err := w.s.Erase(w.ctx, person); !errors.Is(err, ErrThere) {
		t.Fatalf("a message that is in the queue was erased: %v", err)
	}
	w.remove(person)
	if err := w.s.Commit(w.ctx, &queue.Change{Entries: [][]byte{[]byte("somebody got one, at level dane")}}); err != nil {
		t.Fatal(err)
	}
	rec, err := w.s.Erase(w.ctx, person)
	if err != nil || rec.Messages != 1 || rec.Journal < 1 || rec.Swept.Carried != 1 {
		t.Fatalf("receipt %+v, %v", rec, err)
	}
	want := []string{"accepted " + string(other), "accepted " + string(waits), "settled " + string(other), "somebody got one, at level dane"}
	got := w.journal()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("journal %q, want %q", got, want)
	}
	if err := w.whole(waits, "waits"); err != nil {
		t.Error(err)
	}
	mail, journal := openAll(t, p, d.clone())
	if !slices.Equal(mail, []queue.ID{waits}) || slices.Contains(journal, person) {
		t.Errorf("mail of %v and journal of %v open", mail, journal)
	}
	checkOverwritten(t, d)
	// Its name can be used again; entries then go under names of their own.
	if _, err := w.s.sealEntry(person, []byte("x")); err != nil {
		t.Error(err)
	}
	if rec, err := w.s.Erase(w.ctx, person); err != nil || rec.Journal != 0 {
		t.Errorf("erased again: %+v, %v", rec, err)
	}
}

// TestSweepKeepsWhatItCannotCarry: a failed sweep costs time, never mail.
func TestSweepKeepsWhatItCannotCarry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, p := newMemDisk(), newTape()
		r := mustRing(t, RingOptions{Dir: "keys", disk: d})
		w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, r, Options{})}
		defer w.s.Close()
		synctest.Wait()
		id := w.insert("waits", "a.example")
		d.mu.Lock()
		d.fail = d.steps + 1
		d.mu.Unlock()
		time.Sleep(3 * time.Hour)
		if err := w.whole(id, "waits"); err != nil {
			t.Fatalf("with a broken disk: %v", err)
		}
		if r.Overdue(time.Now()) <= 0 {
			t.Error("nobody is told that it is overdue")
		}
		d.mu.Lock()
		d.fail = 0
		d.mu.Unlock()
		time.Sleep(time.Hour)
		if late := r.Overdue(time.Now()); late > 0 {
			t.Errorf("%v overdue when the disk is well again", late)
		}
		if err := w.whole(id, "waits"); err != nil {
			t.Fatalf("afterwards: %v", err)
		}
	})
}

// stuck is a store whose insertions hang behind Finish, as on a disk that does not answer.
type stuck struct {
	*tape
	behind, free chan struct{}
}

func (k *stuck) Insert(ctx context.Context, in *queue.Insertion) error {
	out := *in
	out.Finish = func(size int64) ([]byte, []byte, error) {
		record, entry, err := in.Finish(size)
		close(k.behind)
		<-k.free
		return record, entry, err
	}
	return k.tape.Insert(ctx, &out)
}

// TestStuckInsertion: the epoch of a message that is being written stays, whatever is
// swept meanwhile, by time or by Erase.
func TestStuckInsertion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &stuck{newTape(), make(chan struct{}), make(chan struct{})}
		w := &world{TB: t, ctx: t.Context(), s: mustNew(t, k, mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})}
		defer w.s.Close()
		inserted := make(chan queue.ID)
		go func() { inserted <- w.insert("body", "a.example") }()
		<-k.behind
		time.Sleep(5 * time.Hour)
		short, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		if _, err := w.s.Erase(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Erase did not wait: %v", err)
		}
		close(k.free)
		id := <-inserted
		for range 4 {
			if err := w.whole(id, "body"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestSlowUpload: a message whose upload lasts longer than the delay gets the epoch of
// its end.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{TB: t, ctx: t.Context()}
		w.s = mustNew(t, newTape(), mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})
		defer w.s.Close()
		in, id := io.Pipe()
		go func() {
			for range 10 {
				_, _ = id.Write([]byte("slow"))
				time.Sleep(time.Hour)
			}
			id.Close()
		}()
		name := queue.NewID(time.Now())
		err := w.s.Insert(w.ctx, &queue.Insertion{ID: name, Body: in,
			Finish: func(int64) ([]byte, []byte, error) { return []byte("record of " + string(name)), nil, nil },
			Rows:   []queue.Row{{Message: name, State: queue.RowWaiting, Data: []byte("row 0 of " + string(name))}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := w.whole(name, strings.Repeat("slow", 10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestEraseEntries: single keys of the journal are destroyed by their names. What is written
// from Retire on is under other keys, about the same message too, and stays.
func TestEraseEntries(t *testing.T) {
	t.Parallel()
	d, p := newMemDisk(), newTape()
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, p, mustRing(t, RingOptions{Dir: "keys", disk: d}), Options{})}
	defer w.s.Close()
	waits, gone := w.insert("waits", "a.example", "b.example"), w.insert("goes", "a.example")
	w.remove(gone)
	for _, text := range []string{"stays", "goes"} { // under no message: each under a key of its own
		if err := w.s.Commit(w.ctx, &queue.Change{Entries: [][]byte{[]byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	keys := make(map[string]string)
	scan := func() {
		t.Helper()
		err := w.s.Scan(w.ctx, queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
			keys[string(it.Entry)] = it.Key
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	scan()
	if keys["stays"] == keys["goes"] || keys["stays"] == "" || keys["accepted "+string(gone)] != keys["settled "+string(gone)] {
		t.Fatalf("keys %v", keys)
	}
	doomed := []string{keys["accepted "+string(waits)], keys["goes"]}
	if err := w.s.Retire(w.ctx, doomed); err != nil {
		t.Fatal(err)
	}
	change := func() {
		t.Helper()
		_, rows, err := w.s.Read(w.ctx, waits)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.s.Commit(w.ctx, &queue.Change{Update: rows[:1], Entries: [][]byte{[]byte("later")}}); err != nil {
			t.Fatal(err)
		}
	}
	change()
	if scan(); keys["later"] == doomed[0] {
		t.Error("an entry is sealed by a key that was retired")
	}
	generation, err := w.s.EraseEntries(w.ctx, doomed)
	if err != nil || generation == 0 {
		t.Fatalf("generation %d, %v", generation, err)
	}
	change() // the leaf is lost now
	want := []string{"accepted " + string(gone), "later", "later", "settled " + string(gone), "stays"}
	got := w.journal()
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("journal %q, want %q", got, want)
	}
	if err := w.whole(waits, "waits"); err != nil {
		t.Error(err)
	}
	if mail, _ := openAll(t, p, d.clone()); !slices.Equal(mail, []queue.ID{waits}) {
		t.Errorf("mail of %v opens, want that which waits", mail)
	}
	checkOverwritten(t, d)
	if _, err := w.s.EraseEntries(w.ctx, doomed); err != nil {
		t.Errorf("erased again: %v", err)
	}
	for _, bad := range []string{"", "20261127/", "x/y", "y"} {
		if err := w.s.Retire(w.ctx, []string{bad}); err == nil {
			t.Errorf("key %q was taken", bad)
		}
	}
	if a, b := w.s.Mark("ann@a.example"), w.s.Mark("bob@a.example"); a == b || a != w.s.Mark("ann@a.example") || strings.Contains(a, "ann") {
		t.Errorf("marks %q, %q", a, b)
	}
}

// TestRetireWaits: who is writing by a key when it is retired has written when Retire is back.
func TestRetireWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &stuck{newTape(), make(chan struct{}), make(chan struct{})}
		w := &world{TB: t, ctx: t.Context(), s: mustNew(t, k, mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})}
		defer w.s.Close()
		go w.insert("body", "a.example")
		<-k.behind
		retired := make(chan error, 1)
		go func() { retired <- w.s.Retire(w.ctx, []string{leafKey(dayNumber(time.Now()), "x")}) }()
		synctest.Wait()
		select {
		case <-retired:
			t.Fatal("an entry is not in the store yet")
		default:
		}
		close(k.free)
		if err := <-retired; err != nil {
			t.Fatal(err)
		}
		if n := len(w.journal()); n != 1 {
			t.Errorf("%d entries", n)
		}
	})
}

// Entries of one change that are about many messages are each sealed under their own: when one
// is erased the others stay.
func TestSubjects(t *testing.T) {
	t.Parallel()
	s := mustNew(t, newTape(), mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()}), Options{})
	defer s.Close()
	w := &world{TB: t, ctx: t.Context(), s: s}
	var ids []queue.ID
	c := &queue.Change{}
	for i := range 4 {
		ids = append(ids, queue.NewID(time.Now()))
		c.Entries = append(c.Entries, fmt.Appendf(nil, "entry %d", i))
	}
	c.Subjects = ids
	if err := w.s.Commit(w.ctx, c); err != nil {
		t.Fatal(err)
	}
	read := func() (texts, keys []string) {
		err := w.s.Scan(w.ctx, queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
			texts, keys = append(texts, string(it.Entry)), append(keys, it.Key)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return texts, keys
	}
	texts, keys := read()
	if len(texts) != 4 || !strings.HasSuffix(keys[2], string(ids[2])) {
		t.Fatalf("%q, sealed by %q", texts, keys)
	}
	if err := w.s.Retire(w.ctx, keys[2:3]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.EraseEntries(w.ctx, keys[2:3]); err != nil {
		t.Fatal(err)
	}
	if texts, _ := read(); !slices.Equal(texts, []string{"entry 0", "entry 1", "entry 3"}) {
		t.Errorf("afterwards %q", texts)
	}
}
