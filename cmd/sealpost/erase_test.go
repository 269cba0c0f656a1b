package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/seal"
)

// levelled delivers each recipient at a level that its name says; "later" is deferred.
type levelled struct{}

func (levelled) Deliver(_ context.Context, l *queue.Lease) queue.Report {
	var rep queue.Report
	for i, r := range l.Envelope.Recipients {
		o := queue.Outcome{Recipient: i, Kind: queue.DeliveredNow, Host: "mx.example"}
		word, _, _ := strings.Cut(r.Address.Local, ".")
		if o.Level.UnmarshalText([]byte(word)) != nil {
			o.Kind, o.Failure = queue.DeferredNow, &policy.Failure{Reason: policy.ReplyTemporary}
		}
		if r.State == queue.Pending {
			rep.Outcomes = append(rep.Outcomes, o)
		}
	}
	rep.Attempt = []byte(`{"v":2}`)
	return rep
}

// statistics counts what a reader of the journal counts: recipients by domain, level and
// state, those of entries that were erased by what they were. It fails when the journal names
// the person.
func statistics(t *testing.T, s queue.Store, person string) map[string]int {
	t.Helper()
	n := make(map[string]int)
	err := s.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		if person != "" && strings.Contains(strings.ToLower(string(it.Entry)), person) {
			t.Errorf("the journal names the person: %s", it.Entry)
		}
		var j queue.JournalEntry
		if err := json.Unmarshal(it.Entry, &j); err != nil {
			return err
		}
		kind := j.Kind
		if kind == queue.EntryErased {
			kind = j.Was
		}
		for _, r := range j.Recipients {
			n[fmt.Sprint(kind, " ", j.Domain, " ", r.Level, " ", r.State, " ", j.Credential)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// post accepts a message.
func post(t *testing.T, q *queue.Queue, from string, to ...string) queue.ID {
	t.Helper()
	d := &queue.Draft{Message: queue.Message{Credential: "shop", Tag: "order-of-" + to[0]}, Body: strings.NewReader("Subject: x\r\n\r\nx\r\n")}
	var err error
	if d.Message.Sender, err = queue.ParseAddress(from); err != nil {
		t.Fatal(err)
	}
	for _, a := range to {
		x, err := queue.ParseAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		d.Recipients = append(d.Recipients, queue.Recipient{Address: x})
	}
	id, err := q.Enqueue(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// settleAll runs the queue until nothing is due.
func settleAll(t *testing.T, q *queue.Queue) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx, levelled{}) }()
	until(t, "everything was tried", func() bool {
		tried := true
		err := q.List(t.Context(), queue.Filter{}, func(e queue.Entry) error {
			tried = tried && e.Envelope.Tries > 0 && e.State != queue.RowLeased
			return nil
		})
		return err == nil && tried
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// faulty fails at one step of an erasure, as a crash would.
type faulty struct {
	*seal.Store
	at string // "commit N", "retire", "erase"; "": never
	n  atomic.Int32
}

var errCrash = errors.New("crash")

func (f *faulty) Commit(ctx context.Context, c *queue.Change) error {
	if n := f.n.Add(1); f.at == fmt.Sprint("commit ", n) {
		return errCrash
	}
	return f.Store.Commit(ctx, c)
}

func (f *faulty) Retire(ctx context.Context, keys []string) error {
	if f.at == "retire" {
		return errCrash
	}
	return f.Store.Retire(ctx, keys)
}

func (f *faulty) EraseEntries(ctx context.Context, keys []string) (uint64, error) {
	if f.at == "erase" {
		return 0, errCrash
	}
	return f.Store.EraseEntries(ctx, keys)
}

// TestErasureKeepsStatistics: what is counted by domain, level and state is the same after
// an erasure, wherever it was interrupted and begun again; the person is in nothing, and
// others are in what they were.
func TestErasureKeepsStatistics(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"", "commit 1", "commit 2", "commit 3", "commit 4", "commit 5", "commit 6", "retire", "erase"} {
		t.Run("interrupted at "+at, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := openSealed(t, dir)
			f := &faulty{Store: d.store}
			q, err := queue.New(queue.Options{Store: f})
			if err != nil {
				t.Fatal(err)
			}
			post(t, q, "a@shop.example", "dane.person@one.example")
			post(t, q, "a@shop.example", "dane.person@one.example", "verified.other@one.example", "later.person@one.example", "dane.far@two.example")
			waits := post(t, q, "a@shop.example", "later.person@one.example", "later.other@one.example", "later.far@two.example")
			post(t, q, "later.person@one.example", "later.dora@two.example")
			settleAll(t, q)
			const person = "later.person@one.example"
			before := statistics(t, f, "")
			// Of the three recipients that waited for or from the person each is dropped, once.
			before["action one.example unset dropped shop"] += 2
			before["action two.example unset dropped shop"]++

			f.at = at
			f.n.Store(0)
			a := address(t, "Later.Person@one.example")
			res, err := q.Erase(t.Context(), a, queue.EraseOptions{})
			if at != "" {
				if !errors.Is(err, errCrash) {
					t.Fatalf("interrupted: %v", err)
				}
				f.at = ""
				d.close(t) // and a new process goes on
				d = openSealed(t, dir)
				f.Store = d.store
				if q, err = queue.New(queue.Options{Store: f}); err != nil {
					t.Fatal(err)
				}
				res, err = q.Erase(t.Context(), a, queue.EraseOptions{})
			}
			if err != nil || !res.Done || res.Generation == 0 {
				t.Fatalf("erased: %+v, %v", res, err)
			}
			if after := statistics(t, f, person); !maps.Equal(before, after) {
				t.Errorf("counted before\n%v\nand after\n%v", before, after)
			}
			if _, err := q.Erase(t.Context(), a, queue.EraseOptions{}); !errors.Is(err, queue.ErrNobody) {
				t.Errorf("erased again: %v", err)
			}
			list, err := q.Show(t.Context(), waits)
			if err != nil || len(list) != 2 || len(list[0].Envelope.Recipients) != 2 || list[0].Envelope.Recipients[1].Address.Local != "later.other" {
				t.Errorf("the others' mail: %+v, %v", list, err)
			}
			// Others are found, and can be erased in their turn.
			for _, other := range []string{"verified.other@one.example", "dane.far@two.example", "dane.person@one.example", "later.dora@two.example"} {
				if err := q.Export(t.Context(), address(t, other), func(queue.Holding) error { return nil }); err != nil {
					t.Errorf("%s: %v", other, err)
				}
			}
			before = statistics(t, f, person)
			if _, err := q.Erase(t.Context(), address(t, "verified.other@one.example"), queue.EraseOptions{}); err != nil {
				t.Error(err)
			}
			if after := statistics(t, f, "verified.other"); !maps.Equal(before, after) {
				t.Errorf("counted before another's erasure\n%v\nand after\n%v", before, after)
			}
			settleAll(t, q)
			d.close(t)
		})
	}
}

func address(t *testing.T, s string) queue.Address {
	t.Helper()
	a, err := queue.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestErasureReachesBackups: with the keys of after, a copy of the queue of before names
// others, and not the person.
func TestErasureReachesBackups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openSealed(t, dir)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	hers := post(t, q, "a@shop.example", "later.person@one.example")
	post(t, q, "a@shop.example", "dane.person@one.example")
	post(t, q, "a@shop.example", "dane.other@one.example")
	settleAll(t, q)
	d.close(t)
	backup := copyVault(t, dir, dir)
	d = openSealed(t, dir)
	if q, err = queue.New(queue.Options{Store: d.store}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"later.person@one.example", "dane.person@one.example"} {
		if _, err := q.Erase(t.Context(), address(t, p), queue.EraseOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	d.close(t)
	read := func(dir string) (journal string, row error) {
		d := openSealed(t, dir)
		defer d.close(t)
		err := d.store.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
			journal += string(it.Entry)
			return nil
		})
		_, rows, err2 := d.store.Read(t.Context(), hers)
		if err := errors.Join(err, err2); err != nil || len(rows) != 1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		return journal, rows[0].Damage
	}
	if journal, row := read(backup); row != nil || strings.Count(journal, "person@one.example") < 4 {
		t.Errorf("the control: with its own keys the backup says %s, %v", journal, row)
	}
	journal, row := read(copyVault(t, backup, dir))
	if !errors.Is(row, seal.ErrKeyGone) || strings.Contains(journal, "person") || !strings.Contains(journal, "dane.other@one.example") {
		t.Errorf("with the keys of after the backup says %s, %v", journal, row)
	}
}

// TestErasureDuringDelivery: what is being delivered goes when that has ended, with what it
// wrote.
func TestErasureDuringDelivery(t *testing.T) {
	t.Parallel()
	d := openSealed(t, filepath.Join(t.TempDir(), "data"))
	defer d.close(t)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	c := &held{began: make(chan struct{}), end: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- q.Run(ctx, c) }()
	id := post(t, q, "a@shop.example", "later.person@one.example")
	<-c.began
	waits := make(chan struct{}, 1)
	erased := make(chan error)
	go func() {
		res, err := q.Erase(t.Context(), address(t, "later.person@one.example"), queue.EraseOptions{News: func(what string, _, _ int) {
			if what == "delivery" {
				select {
				case waits <- struct{}{}:
				default:
				}
			}
		}})
		if err == nil && (res.Messages != 1 || res.Entries < 2) {
			err = fmt.Errorf("receipt %+v", res)
		}
		erased <- err
	}()
	<-waits
	close(c.end)
	if err := <-erased; err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if _, err := q.Show(t.Context(), id); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
	statistics(t, d.store, "later.person")
}

// held is a courier that waits, and then defers.
type held struct{ began, end chan struct{} }

func (c *held) Deliver(context.Context, *queue.Lease) queue.Report {
	close(c.began)
	<-c.end
	return queue.Report{RetryAfter: time.Hour}
}
