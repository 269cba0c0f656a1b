package seal

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

func TestKeyDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	r := mustRing(t, RingOptions{Dir: dir})
	if _, err := OpenRing(RingOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a directory in use: %v", err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	listed, err := ListDir(dir)
	if err != nil || len(listed) != len(r.List()) || listed[0].Kind != "kek" || !listed[0].Active {
		t.Errorf("listed %v, %v", listed, err)
	}
}

// TestKeyDirectoryRefused: each error says what, where and how to mend it.
func TestKeyDirectoryRefused(t *testing.T) {
	t.Parallel()
	find := func(t *testing.T, dir, word string) string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(dir, word+"-*"))
		if err != nil || len(list) == 0 {
			t.Fatalf("no %s in %s: %v", word, dir, err)
		}
		return list[0]
	}
	flip := func(t *testing.T, name string, at int) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[at] ^= 1 // in both copies
		b[copyBlock+at] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string) error
		want  []string
	}{
		{"a directory that is open to others", func(t *testing.T, dir string) error { return os.Chmod(dir, 0o755) }, []string{"0755", "chmod 700"}},
		{"a key that the world may read", func(t *testing.T, dir string) error { return os.Chmod(find(t, dir, "kek"), 0o644) }, []string{"0644", "chmod 600", "rotate"}},
		{"a KEK is missing", func(t *testing.T, dir string) error { return os.Remove(find(t, dir, "kek")) }, []string{"kek-1", "is missing", "put it back"}},
		{"the root is missing", func(t *testing.T, dir string) error { return os.Remove(find(t, dir, "root")) }, []string{"root", "is missing", "put it back"}},
		{"a KEK is damaged", func(t *testing.T, dir string) error { flip(t, find(t, dir, "kek"), 60); return nil }, []string{"kek-1", "put it back"}},
		{"the root is damaged", func(t *testing.T, dir string) error { flip(t, find(t, dir, "root"), 60); return nil }, []string{"root-1", "put it back"}},
		{"a KEK is empty", func(t *testing.T, dir string) error { return os.Truncate(find(t, dir, "kek"), 0) }, []string{"kek-1", "put it back"}},
		{"a key under another's name", func(t *testing.T, dir string) error {
			return os.Rename(find(t, dir, "root"), filepath.Join(dir, "root-9.0.key"))
		}, []string{"root-9", "its name back"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "keys")
			r, err := OpenRing(RingOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(t, dir); err != nil {
				t.Fatal(err)
			}
			r, err = OpenRing(RingOptions{Dir: dir})
			if err == nil {
				r.Close()
				t.Fatal("opened")
			}
			for _, word := range append(test.want, dir) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q lacks %q", err, word)
				}
			}
		})
	}
}

// TestRingOfAnother: keys and queue that do not belong together are not joined, and
// nothing is destroyed.
func TestRingOfAnother(t *testing.T) {
	t.Parallel()
	a, b, fresh := newTape(), newTape(), mustRing(t, RingOptions{})
	ring := mustRing(t, RingOptions{})
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, a, ring, Options{})}
	id := w.insert("body", "a.example")
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(a, fresh, Options{}); err == nil || !strings.Contains(err.Error(), ring.ID()) || !strings.Contains(err.Error(), fresh.ID()) {
		t.Errorf("another ring for a sealed queue: %v", err)
	}
	if _, err := New(b, ring, Options{}); err == nil || !strings.Contains(err.Error(), "another queue") {
		t.Errorf("another queue for a ring in use: %v", err)
	}
	w.s = mustNew(t, a, ring, Options{})
	defer w.s.Close()
	if err := w.whole(id, "body"); err != nil {
		t.Error(err)
	}
}

// reopen ends a world's store and ring, and opens them again on a disk.
func (w *world) reopen(p *tape, d *memDisk) {
	w.Helper()
	r, err := OpenRing(RingOptions{Dir: "keys", disk: d})
	if err != nil {
		w.Fatal(err)
	}
	w.s = mustNew(w, p, r, Options{})
}

func (w *world) shut() {
	w.Helper()
	if err := w.s.Close(); err != nil {
		w.Fatal(err)
	}
	if err := w.s.ring.Close(); err != nil {
		w.Fatal(err)
	}
}

// TestDamagedKeyFiles flips an octet of each key file and table without which the rest
// can go on.
func TestDamagedKeyFiles(t *testing.T) {
	t.Parallel()
	d, p := newMemDisk(), newTape()
	w := &world{TB: t, ctx: t.Context()}
	w.reopen(p, d)
	var old []queue.ID
	for range blockEntries + 20 {
		old = append(old, w.insert("old", "a.example"))
	}
	if _, err := w.s.Erase(w.ctx); err != nil { // carries all that are there
		t.Fatal(err)
	}
	fresh := w.insert("new", "a.example")
	whole := func(ids ...queue.ID) (n int) {
		for _, id := range ids {
			err := w.whole(id, map[bool]string{true: "new", false: "old"}[id == fresh])
			if err == nil {
				n++
			} else if !typed(err) {
				t.Errorf("message %s: %v", id, err)
			}
		}
		return n
	}
	mine := fmt.Sprint("epoch-", w.s.ring.current.id, ".")
	w.shut()
	for _, test := range []struct {
		name       string
		at         int
		fresh, old int
	}{
		{mine, 70, 0, len(old)}, {mine, 0, 0, len(old)}, {"carry-", 60, 1, 0}, {"table-", 10, 1, 20}, {"table-", blockSize + 10, 1, blockEntries},
		{"journal-", 80, 1, len(old)},
	} {
		c := d.clone()
		for name := range c.names {
			if strings.HasPrefix(filepath.Base(name), test.name) {
				c.flip(name, test.at)
				if test.name != "table-" {
					c.flip(name, copyBlock+test.at) // the second copy, too
				}
				break
			}
		}
		w.reopen(p, c)
		if got := whole(fresh); got != test.fresh {
			t.Errorf("%s: %d new messages open, want %d", test.name, got, test.fresh)
		}
		if got := whole(old...); got != test.old {
			t.Errorf("%s: %d old messages open, want %d", test.name, got, test.old)
		}
		if err := w.whole(w.insert("later", "a.example"), "later"); err != nil {
			t.Errorf("%s: a new message: %v", test.name, err)
		}
		if _, err := w.s.Sweep(w.ctx); err != nil {
			t.Errorf("%s: sweep: %v", test.name, err)
		}
		w.shut()
	}
}

// TestCrash cuts the power at each step of all that changes the key directory: whatever
// comes through, the directory opens again, what was acknowledged opens, and what was
// erased before does not.
func TestCrash(t *testing.T) {
	t.Parallel()
	ops := []struct {
		name string
		do   func(w *world, gone queue.ID) error
	}{
		{"sweep", func(w *world, _ queue.ID) error {
			now := time.Now()
			_, err := w.s.sweep(w.ctx, now.Add(time.Hour), now.Add(time.Hour))
			return err
		}},
		{"rotate", func(w *world, _ queue.ID) error { _, err := w.s.ring.Rotate(); return err }},
		{"erase", func(w *world, gone queue.ID) error { _, err := w.s.Erase(w.ctx, gone); return err }},
		{"first start", nil},
	}
	for _, op := range ops {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			for step := 1; ; step++ {
				if step > 500 {
					t.Fatal("there is no end of steps")
				}
				if !crashAt(t, step, op.do) {
					return
				}
			}
		})
	}
}

// crashAt does an operation whose given step fails. It reports false when the operation
// ended before that.
func crashAt(t *testing.T, step int, do func(*world, queue.ID) error) bool {
	t.Helper()
	d, p := newMemDisk(), newTape()
	w := &world{TB: t, ctx: t.Context()}
	var ids []queue.ID
	var gone queue.ID
	failed := false
	if do == nil {
		d.fail = step
		r, err := OpenRing(RingOptions{Dir: "keys", disk: d})
		if err == nil {
			defer r.Close()
		}
		failed = err != nil
	} else {
		w.reopen(p, d)
		if _, err := w.s.Sweep(w.ctx); err != nil { // that of the start is over, too
			t.Fatal(err)
		}
		ids = append(ids, w.insert("body", "a.example"))
		if _, err := w.s.Erase(w.ctx); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, w.insert("body", "a.example"))
		gone = w.insert("body", "a.example")
		w.remove(gone)
		d.mu.Lock()
		d.steps, d.fail = 0, step
		d.mu.Unlock()
		failed = do(w, gone) != nil
		defer w.s.Close()
	}
	for _, c := range []*memDisk{d.cut(false, false), d.cut(true, false), d.cut(false, true), d.cut(true, true)} {
		after := &world{TB: t, ctx: t.Context()}
		after.reopen(p, c)
		for _, id := range ids {
			if err := after.whole(id, "body"); err != nil {
				t.Fatalf("step %d, message %s: %v", step, id, err)
			}
		}
		if do == nil {
			// The mark of the store is the first one's.
			p = newTape()
		} else if _, err := after.s.Erase(after.ctx, gone); err != nil {
			t.Fatalf("step %d: erase afterwards: %v", step, err)
		}
		for _, id := range ids {
			if err := after.whole(id, "body"); err != nil {
				t.Fatalf("step %d, after another sweep, message %s: %v", step, id, err)
			}
		}
		if list := after.s.ring.List(); len(list) < 5 || list[0].Kind != "kek" || do != nil && list[1].Kind == "kek" {
			t.Fatalf("step %d: keys %v", step, list)
		}
		after.shut()
		for name := range c.names {
			if strings.HasSuffix(name, suffixTemp) || strings.HasSuffix(name, suffixDead) {
				t.Fatalf("step %d: %s is left", step, name)
			}
		}
		mail, _ := openAll(t, p, c)
		if slices.Contains(mail, gone) {
			t.Fatalf("step %d: the erased message opens", step)
		}
	}
	return failed
}

// TestPowerCutAfterAcceptance: what was acknowledged opens, although nothing but its own
// write came after the start.
func TestPowerCutAfterAcceptance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, p := newMemDisk(), newTape()
		w := &world{TB: t, ctx: t.Context()}
		for i := range 4 {
			w.reopen(p, d)
			synctest.Wait()
			id := w.insert("body", "a.example")
			after := &world{TB: t, ctx: t.Context()}
			after.reopen(p, d.cut(false, false))
			if err := after.whole(id, "body"); err != nil {
				t.Errorf("start %d: %v", i, err)
			}
			after.shut()
			w.shut()
		}
	})
}

// TestRotateUnderLoad rotates and sweeps while messages come and go.
func TestRotateUnderLoad(t *testing.T) {
	t.Parallel()
	r := mustRing(t, RingOptions{Dir: "keys", disk: newMemDisk()})
	w := &world{TB: t, ctx: t.Context(), s: mustNew(t, storetest.NewModel(), r, Options{})}
	defer w.s.Close()
	first := r.List()[0].ID
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			mine := &world{TB: t, ctx: w.ctx, s: w.s, n: n * 1_000_000}
			var kept []queue.ID
			body := strings.Repeat("load", 5000*n)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := mine.insert(body, "a.example", "b.example")
				if err := mine.whole(id, body); err != nil {
					t.Errorf("a new message: %v", err)
					return
				}
				if i%4 > 0 {
					mine.remove(id)
					continue
				}
				kept = append(kept, id)
				if len(kept) > 20 {
					mine.remove(kept[0])
					kept = kept[1:]
				}
				for _, id := range kept {
					if err := mine.whole(id, body); err != nil {
						t.Errorf("one that waits: %v", err)
						return
					}
				}
			}
		})
	}
	for range 15 {
		if _, err := r.Rotate(); err != nil {
			t.Error(err)
		}
		if _, err := w.s.Erase(w.ctx); err != nil { // carries at once
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	list := r.List()
	if list[0].ID != first+15 || list[1].Kind == "kek" {
		t.Errorf("keys %v: want one KEK, the last one", list)
	}
	for _, k := range list[1:] {
		if k.KEK != list[0].ID {
			t.Errorf("%s %d is wrapped by KEK %d", k.Kind, k.ID, k.KEK)
		}
	}
}

// TestUnreadableKey: a key of somebody else is an error that says so.
func TestUnreadableKey(t *testing.T) {
	t.Parallel()
	d := &keyDir{disk: denied{newMemDisk()}, path: "keys"}
	if _, err := d.read("kek-1.0.key"); err == nil || !strings.Contains(err.Error(), "must belong to the user") {
		t.Errorf("error %v", err)
	}
}

type denied struct{ *memDisk }

func (denied) Open(name string, _ int) (file, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// TestKeyFilesHoldNoPlainKey: what is wrapped is nowhere in its file.
func TestKeyFilesHoldNoPlainKey(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	r := mustRing(t, RingOptions{Dir: "keys", disk: d})
	for name, n := range d.names {
		if bytes.Contains(n.data, r.root.secret[:]) {
			t.Errorf("%s has the root's secret in the open", name)
		}
	}
}
