package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/queue"
)

// stopped is a data directory with some mail and a journal, of a relay that does not run. It
// returns a runner of commands about it.
func stopped(t *testing.T) (dir string, command func(want int, args ...string) string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	d := openSealed(t, dir)
	q, err := queue.New(queue.Options{Store: d.store})
	if err != nil {
		t.Fatal(err)
	}
	post(t, q, "a@shop.example", "dane.ann@one.example", "verified.bob@one.example", "later.cid@two.example")
	post(t, q, "a@shop.example", "later.ann@two.example")
	settleAll(t, q)
	d.close(t)
	conf := filepath.Join(t.TempDir(), "sealpost.toml")
	text := fmt.Sprintf("[server]\nhostname = \"relay.example\"\ndata_dir = %q\n", dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "--config", conf), streams{strings.NewReader(""), &out, &errs}); code != want {
			t.Fatalf("%q: code %d: %s%s", args, code, &out, &errs)
		}
		return out.String()
	}
}

// TestAuditLeavesNoTrace: who reads the journal of a stopped relay changes no file of it.
func TestAuditLeavesNoTrace(t *testing.T) {
	t.Parallel()
	dir, command := stopped(t)
	look := func() map[string]string {
		all := make(map[string]string)
		eachFile(t, dir, func(path string, b []byte) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			all[path] = fmt.Sprintf("%x, mode %v", sha256.Sum256(b), info.Mode())
			if info.Name() != "LOCK" { // to take the lock touches its file, which stays empty
				all[path] += fmt.Sprint(" of ", info.ModTime())
			}
		})
		return all
	}
	before := look()
	for _, args := range [][]string{
		{"audit", "list", "--outcome", "all"}, {"audit", "--since", "1h"}, {"audit", "--format", "csv", "--below", "dane"}, {"audit", "summary"}, {"audit", "verify"},
	} {
		out := command(0, args...)
		if args[1] == "list" && (!strings.Contains(out, "dane.ann@one.example") || !strings.Contains(out, "later.ann@two.example")) {
			t.Errorf("%q says %s", args, out)
		}
		if args[1] == "--since" && strings.Count(out, "@one.example") != 2 {
			t.Errorf("%q says %s", args, out)
		}
		after := look()
		for _, m := range []map[string]string{before, after} {
			for path := range m {
				if before[path] != after[path] {
					t.Errorf("%q: %s was %q and is %q", args, path, before[path], after[path])
				}
			}
		}
	}
	// Keys that are missing or another's are said so, and none are made.
	keys := filepath.Join(dir, "keys")
	if err := os.Rename(keys, keys+".away"); err != nil {
		t.Fatal(err)
	}
	command(exitStorage, "audit")
	if _, err := os.Stat(keys); err == nil {
		t.Error("a key directory was made")
	}
}

// TestDeedsOfAStoppedRelay: what an operator does where no relay runs is in the journal, with who
// did it.
func TestDeedsOfAStoppedRelay(t *testing.T) {
	t.Parallel()
	dir, command := stopped(t)
	me := fmt.Sprintf("sealpost, uid %d", os.Getuid())
	command(0, "keys", "rotate")
	var receipt queue.Erasure
	if err := json.Unmarshal([]byte(command(0, "erase", "later.ann@two.example", "--json")), &receipt); err != nil || receipt.By != me {
		t.Errorf("the receipt says %+v, %v", receipt, err)
	}
	command(0, "erase", "dane.ann@one.example", "--dry-run")
	command(exitFailed, "erase", "nobody@one.example")
	d := openSealed(t, dir)
	defer d.close(t)
	var deeds []string
	err := d.store.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		var e queue.JournalEntry
		err := json.Unmarshal(it.Entry, &e)
		switch {
		case e.Operator != nil:
			deeds = append(deeds, fmt.Sprint(e.Operator.Verb, " by ", e.Operator.By, ": ", e.Operator.Target, e.Operator.Failed))
		case e.Erasure != nil && e.Erasure.By != me:
			t.Errorf("a receipt says %+v", e.Erasure)
		}
		return err
	})
	want := []string{"rotate-keys by " + me + ": key-encryption key 2", "erase by " + me + ": receipt " + receipt.ID}
	if err != nil || !slices.Equal(deeds, want) {
		t.Errorf("the journal has %q, %v; want %q", deeds, err, want)
	}
}

// TestKeysAway: while the volume of the keys is not mounted nothing opens the queue for writing, not
// even to sign its journal with a new key; with the keys back it goes on.
func TestKeysAway(t *testing.T) {
	t.Parallel()
	dir, command := stopped(t)
	keys := filepath.Join(dir, "keys")
	if err := os.Rename(keys, keys+".away"); err != nil {
		t.Fatal(err)
	}
	sums := func() map[string]string {
		all := make(map[string]string)
		eachFile(t, dir, func(path string, b []byte) { all[path] = fmt.Sprintf("%x", sha256.Sum256(b)) })
		return all
	}
	for _, empty := range []bool{false, true} { // a mount point is empty
		if empty {
			if err := os.Mkdir(keys, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		before := sums()
		command(exitStorage, "serve")
		command(exitStorage, "erase", "later.ann@two.example")
		if after := sums(); !maps.Equal(before, after) {
			t.Errorf("a start that refuses has changed something (empty directory: %v): %v", empty, after)
		}
	}
	if err := errors.Join(os.Remove(keys), os.Rename(keys+".away", keys)); err != nil {
		t.Fatal(err)
	}
	command(0, "erase", "later.ann@two.example") // opens it for writing
}
