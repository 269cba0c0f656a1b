package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/seal"
	"github.com/sealpost/sealpost/queue/storetest"
)

// sealedDir is a data directory with a sealed store on disk, and its keys.
type sealedDir struct {
	dir   string
	ring  *seal.Ring
	store *seal.Store
}

func openSealed(t *testing.T, dir string) *sealedDir {
	t.Helper()
	ring, err := seal.OpenRing(seal.RingOptions{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := pebblestore.Open(pebblestore.Options{Dir: filepath.Join(dir, "queue")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.New(inner, ring, seal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &sealedDir{dir, ring, s}
}

func (d *sealedDir) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(d.store.Close(), d.ring.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestSealedStore: the contract of a store, with the seal in front of the one on disk.
func TestSealedStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) queue.Store {
		d := openSealed(t, t.TempDir())
		t.Cleanup(func() {
			if err := d.ring.Close(); err != nil {
				t.Error(err)
			}
		})
		return d.store
	})
	for seed := range uint64(3) {
		d := openSealed(t, t.TempDir())
		storetest.Compare(t, d.store, seed, 300)
		d.close(t)
	}
}

// needles are what must be in no file.
func needles() []string {
	return []string{"Zebra-Subject", "the-body-text-itself", "reviewer.seven", "author.nine", "journal-of-zebras", "zebra-lab"}
}

// scanFiles returns the needles that are in the files below a directory.
func scanFiles(t *testing.T, dir string) (found []string) {
	t.Helper()
	eachFile(t, dir, func(path string, b []byte) {
		for _, n := range needles() {
			if bytes.Contains(b, []byte(n)) || strings.Contains(path, n) {
				found = append(found, fmt.Sprint(n, " in ", path))
			}
		}
	})
	return found
}

// eachFile calls fn with each file below a directory. What goes meanwhile is left out: a
// relay may be at work in it.
func eachFile(t *testing.T, dir string, fn func(path string, b []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		n++
		fn(path, b)
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files in %s, %v", n, dir, err)
	}
}

// delivering is a courier that delivers everything.
type delivering struct{ done chan queue.ID }

func (c delivering) Deliver(ctx context.Context, l *queue.Lease) queue.Report {
	var rep queue.Report
	if b, err := l.Body(ctx); err == nil {
		_, err = io.Copy(io.Discard, b)
		b.Close()
		if err != nil {
			return rep
		}
	}
	for i := range l.Envelope.Recipients {
		rep.Outcomes = append(rep.Outcomes, queue.Outcome{Recipient: i, Kind: queue.DeliveredNow, Host: l.Envelope.Lane, Level: policy.DANE})
	}
	rep.Attempt = []byte(`{"host":"mx.journal-of-zebras.example"}`)
	c.done <- l.Message.ID
	return rep
}

func enqueueZebras(t *testing.T, q *queue.Queue, size int) queue.ID {
	t.Helper()
	from, to := address(t, "author.nine@zebra-lab.example"), address(t, "reviewer.seven@journal-of-zebras.example")
	body := "Subject: Zebra-Subject\r\nTo: <reviewer.seven@journal-of-zebras.example>\r\n\r\n" + strings.Repeat("the-body-text-itself\r\n", size/22)
	id, err := q.Enqueue(t.Context(), &queue.Draft{Message: queue.Message{Sender: from}, Recipients: []queue.Recipient{{Address: to}},
		Body: strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestNothingPlainOnDisk searches every file of a data directory, while mail waits and when
// it is gone; and tries a backup of before with the keys of after.
func TestNothingPlainOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openSealed(t, dir)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	ids := []queue.ID{enqueueZebras(t, q, 1000), enqueueZebras(t, q, 300<<10)}
	if err := d.store.SetCell(t.Context(), "hosts/journal-of-zebras.example", []byte("zebra-lab")); err != nil {
		t.Fatal(err)
	}
	nothingPlain := func(when, dir string) {
		t.Helper()
		if found := scanFiles(t, dir); found != nil {
			t.Errorf("%s: %q", when, found)
		}
	}
	nothingPlain("while it waits", dir)
	d.close(t)
	nothingPlain("while it waits, after a stop", dir)
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	tighten(t, backup)

	d = openSealed(t, dir)
	if q, err = queue.New(queue.Options{Store: d.store}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	c, ended := delivering{make(chan queue.ID, 4)}, make(chan error)
	go func() { ended <- q.Run(ctx, c) }()
	for range ids {
		<-c.done
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	nothingPlain("after delivery", dir)
	if rec, err := d.store.Erase(t.Context(), ids...); err != nil || rec.Journal < 2 {
		t.Fatalf("erased: %+v, %v", rec, err)
	}
	d.close(t)
	nothingPlain("after erasure", dir)

	// The control: the backup with the keys of its time opens, so what follows can fail.
	readBackup(t, backup, ids, nil)
	if err := os.RemoveAll(filepath.Join(backup, "keys")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(backup, "keys"), os.DirFS(filepath.Join(dir, "keys"))); err != nil {
		t.Fatal(err)
	}
	tighten(t, backup)
	readBackup(t, backup, ids, seal.ErrKeyGone)

	// And the search finds what is plain.
	plain := t.TempDir()
	inner, err := pebblestore.Open(pebblestore.Options{Dir: plain})
	if err != nil {
		t.Fatal(err)
	}
	if q, err = queue.New(queue.Options{Store: inner}); err != nil {
		t.Fatal(err)
	}
	enqueueZebras(t, q, 1000)
	if found := scanFiles(t, plain); len(found) < len(needles()) {
		t.Errorf("in a plain store only %q", found)
	}
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}
}

// tighten gives copied keys the mode that they had.
func tighten(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if e.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readBackup reads messages from a data directory and wants an error, or none; with one, no
// entry of theirs in the journal opens either.
func readBackup(t *testing.T, dir string, ids []queue.ID, want error) {
	t.Helper()
	d := openSealed(t, dir)
	defer d.close(t)
	for _, id := range ids {
		_, rows, err := d.store.Read(t.Context(), id)
		if err == nil {
			err = rows[0].Damage
		}
		var damage *seal.Damage
		if !errors.Is(err, want) || want != nil && (!errors.As(err, &damage) || damage.Message != id) {
			t.Errorf("message %s: %v, want %v", id, err, want)
		}
	}
	n := 0
	err := d.store.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(queue.Item) error { n++; return nil })
	if err != nil || (n == len(ids)) != (want == nil) || want != nil && n != 0 {
		t.Errorf("%d journal entries, %v", n, err)
	}
}

// TestFlippedOctetInKeys changes an octet of each epoch key. In one of its two copies it
// costs nothing; in both the messages of that epoch are named, and all else goes on.
func TestFlippedOctetInKeys(t *testing.T) {
	t.Parallel()
	origin := t.TempDir()
	d := openSealed(t, origin)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	var ids []queue.ID
	for range 5 {
		ids = append(ids, enqueueZebras(t, q, 1000))
	}
	d.close(t)
	keys, err := filepath.Glob(filepath.Join(origin, "keys", "epoch-*"))
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	for _, tt := range []struct {
		name string
		at   []int // octets that are changed, from the beginnings of the copies
		want int
	}{{"in the first copy", []int{80}, 0}, {"in the second copy", []int{4096 + 80}, 0}, {"in both", []int{80, 4096 + 80}, len(ids)}} {
		lost := 0
		for _, name := range keys {
			dir := copyVault(t, origin, origin)
			path := filepath.Join(dir, "keys", filepath.Base(name))
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range tt.at {
				b[at] ^= 1
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			lost += damagedOf(t, dir, ids)
		}
		if lost != tt.want {
			t.Errorf("%s: %d messages were named, want %d", tt.name, lost, tt.want)
		}
	}
}

// damagedOf counts the messages of a data directory that show as damaged, where new mail
// must go on.
func damagedOf(t *testing.T, dir string, ids []queue.ID) (n int) {
	t.Helper()
	d := openSealed(t, dir)
	defer d.close(t)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Show(t.Context(), enqueueZebras(t, q, 100)); err != nil {
		t.Errorf("new mail: %v", err)
	}
	for _, id := range ids {
		list, err := q.Show(t.Context(), id)
		if err != nil || len(list) != 1 || list[0].Message.ID != id {
			t.Fatalf("message %s: %+v, %v", id, list, err)
		}
		if list[0].State == queue.RowDamaged {
			n++
		}
	}
	return n
}
