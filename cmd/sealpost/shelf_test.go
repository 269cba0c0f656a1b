package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/memory"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/storetest"
	"github.com/sealpost/sealpost/relay"
)

var (
	_ relay.Memory = (*memory.Book)(nil)
	_ memory.Shelf = shelf{}
)

// restarts calls test with each kind of store; reopen closes the store and opens it again.
func restarts(t *testing.T, test func(t *testing.T, reopen func() queue.Store)) {
	t.Run("model", func(t *testing.T) {
		t.Parallel()
		m := storetest.NewModel()
		test(t, func() queue.Store { return m })
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		var open *pebblestore.Store
		shut := func() {
			if open == nil {
				return
			}
			if err := open.Close(); err != nil {
				t.Error(err)
			}
			open = nil
		}
		t.Cleanup(shut)
		test(t, func() queue.Store {
			shut()
			var err error
			if open, err = pebblestore.Open(pebblestore.Options{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			return open
		})
	})
}

func TestShelf(t *testing.T) {
	t.Parallel()
	restarts(t, func(t *testing.T, reopen func() queue.Store) {
		store := reopen()
		put := func(prefix, name string, value []byte) {
			t.Helper()
			if err := (shelf{store, prefix}).Put(t.Context(), name, value); err != nil {
				t.Fatal(err)
			}
		}
		list := func(prefix string) (all []string) {
			t.Helper()
			err := shelf{store, prefix}.Each(t.Context(), func(name string, value []byte) error {
				all = append(all, name+"="+string(value))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		for _, cell := range []string{"health", "hosts", "hosts.", "hosts0", "sts", "zzz"} { // of others
			if err := store.SetCell(t.Context(), cell, []byte("not ours")); err != nil {
				t.Fatal(err)
			}
		}
		if got := list(hostsShelf); got != nil {
			t.Errorf("an empty shelf has %q", got)
		}
		put(hostsShelf, "b", []byte("2"))
		put(hostsShelf, "a", []byte("1"))
		put(hostsShelf, "gone", []byte("3"))
		put(hostsShelf, "gone", nil)
		put(hostsShelf, "empty", []byte{})
		put(stsShelf, "a", []byte("other"))
		put(stsShelf, "a", []byte("policy"))
		store = reopen()
		if got, want := list(hostsShelf), []string{"a=1", "b=2", "empty="}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := list(stsShelf), []string{"a=policy"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		broken, n := errors.New("broken"), 0
		err := shelf{store, hostsShelf}.Each(t.Context(), func(string, []byte) error { n++; return broken })
		if err != broken || n != 1 {
			t.Errorf("an error of fn: %v after %d values", err, n)
		}
		if err := (shelf{store, hostsShelf}).Put(t.Context(), "", []byte("x")); err == nil {
			t.Error("a value without a name was put")
		}
	})
}

// What was seen of hosts is there again after a restart.
func TestHostMemoryRestarts(t *testing.T) {
	t.Parallel()
	restarts(t, func(t *testing.T, reopen func() queue.Store) {
		at := time.Now()
		seen := policy.Sighting{Level: policy.Encrypted, Delivered: true, Steps: []policy.Tried{{Rung: policy.Modern, Level: policy.Encrypted}}}
		var want []memory.Entry
		for round := range 3 {
			b := memory.New(memory.Options{Shelf: shelf{reopen(), hostsShelf}})
			if err := b.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := b.Entries(); !slices.Equal(got, want) {
				t.Fatalf("round %d: %d entries, want %d as they were", round, len(got), len(want))
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { b.Run(ctx); close(done) }()
			seen.At = at.Add(time.Duration(round) * time.Minute)
			for i := range 1000 {
				b.Saw(policy.Domain(fmt.Sprintf("mx%d.example", i)), i%3 == 0, seen)
			}
			cancel()
			<-done
			want = b.Entries()
		}
		if len(want) != 1000 || want[0].Memory.Good != 3 {
			t.Errorf("%d entries, the first is %+v", len(want), want[0])
		}
	})
}
