package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/seal"
)

// waiting is a relay's configuration in which a first attempt that fails is the last for long.
const waiting = "[retry]\nschedule = [\"1h\"]\n"

// idleWorld is an internet with a relay's data directory; start starts the relay.
func idleWorld(t *testing.T, list ...exchanger) *world {
	t.Helper()
	n, err := openInternet(context.Background(), list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.close() })
	// Not t.TempDir: its path can be too long for a unix socket.
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &world{internet: n, dir: dir}
}

// become makes a domain's host one of another kind.
func (w *world) become(t *testing.T, domain, name string) {
	t.Helper()
	k := kind(t, name)
	w.farm.Host("mx." + domain).Become(k.Behaviour(w.certificate("mx."+domain, k.Certificate)))
}

// TestNothingOpensAfterErasure runs the relay: no file in its data directory tells anything
// of a message, and erase_after after its delivery no key of its time is left, nor the message
// readable from a backup of that time with the keys of now.
func TestNothingOpensAfterErasure(t *testing.T) {
	t.Parallel()
	const domain = "journal-of-zebras.example"
	w := idleWorld(t, one(t, domain, "greeting-none"))
	dir := w.dir
	nothingPlain := func(when string) {
		t.Helper()
		if found := scanFiles(t, dir); found != nil {
			t.Errorf("%s: %q", when, found)
		}
	}
	erasing := waiting + "[queue.encryption]\nerase_after = \"3s\"\n"
	stop := w.start(t, erasing)
	id := w.submit(t, "author.nine@zebra-lab.example", "X-Marks: Zebra-Subject, the-body-text-itself\r\n", "reviewer.seven@"+domain)
	w.await(t, domain, 1)
	nothingPlain("while it waits")
	stop()
	nothingPlain("while it waits, stopped")
	backup := copyVault(t, dir, dir)

	stop = w.start(t, erasing)
	until(t, "its key is carried on into a table", func() bool {
		list, _ := filepath.Glob(filepath.Join(dir, "keys", "carry-*.key"))
		return len(list) > 0
	})
	keys := mortalKeys(t, dir)
	w.become(t, domain, "modern")
	if n, err := w.house.queue.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{}); n != 1 || err != nil {
		t.Fatalf("retried %d, %v", n, err)
	}
	if a := w.await(t, domain, 1); a.Achieved != policy.Verified {
		t.Fatalf("achieved %v", a.Achieved)
	}
	gone := time.Now()
	until(t, "the keys of its time are destroyed", func() bool {
		for name := range keys {
			if _, err := os.Stat(name); err == nil {
				return false
			}
		}
		return true
	})
	t.Logf("%d key files were destroyed %v after delivery", len(keys), time.Since(gone))
	nothingPlain("after erasure")
	noKeyLeft(t, dir, keys)
	stop()
	nothingPlain("after erasure, stopped")
	noKeyLeft(t, dir, keys)

	// The control: with the keys of its time the backup opens.
	if err := vaultOpens(t, backup, id); err != nil {
		t.Errorf("a backup with its keys: %v", err)
	}
	if err := vaultOpens(t, copyVault(t, backup, dir), id); !errors.Is(err, seal.ErrKeyGone) {
		t.Errorf("a backup with the keys of now: %v, want %v", err, seal.ErrKeyGone)
	}
	if err := vaultOpens(t, copyVault(t, dir, dir), id); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a copy of now: %v, want %v", err, queue.ErrNotFound)
	}
}

// mortalKeys are the contents of the key files that messages depend on, by path.
func mortalKeys(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	keys := make(map[string][]byte)
	for _, files := range []string{"epoch-*.key", "carry-*.key", "table-*.keys"} {
		list, err := filepath.Glob(filepath.Join(dir, "keys", files))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			content, err := os.ReadFile(name)
			if errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.Trim(content, "\x00")) == 0 {
				continue // a sweep was faster
			}
			if err != nil {
				t.Fatal(err)
			}
			keys[name] = content
		}
	}
	if len(keys) == 0 {
		t.Fatal("no keys")
	}
	return keys
}

// noKeyLeft searches all files for what key files held.
func noKeyLeft(t *testing.T, dir string, keys map[string][]byte) {
	t.Helper()
	eachFile(t, dir, func(path string, b []byte) {
		for name, content := range keys {
			if secret := content[len(content)-48:]; bytes.Contains(b, secret) { // wrapped key and tag
				t.Errorf("what was in %s is in %s", filepath.Base(name), path)
			}
		}
	})
}

// copyVault makes a data directory of the queue of one and the keys of another.
func copyVault(t *testing.T, queueOf, keysOf string) string {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{filepath.Join(queueOf, "queue"): "queue", filepath.Join(keysOf, "keys"): "keys"} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	tighten(t, dir)
	return dir
}

// vaultOpens tries to read a message and its body.
func vaultOpens(t *testing.T, dir string, id queue.ID) error {
	t.Helper()
	d := openSealed(t, dir)
	defer d.close(t)
	_, rows, err := d.store.Read(t.Context(), id)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Damage != nil {
			if _, err := d.store.Body(t.Context(), id); !errors.As(err, new(*seal.Damage)) {
				t.Errorf("its rows do not open, its body: %v", err)
			}
			return r.Damage
		}
	}
	b, err := d.store.Body(t.Context(), id)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, b)
	return err
}

// TestDamagedRow flips a bit of a stored row: the relay names it, delivers the rest, does
// not look at it again and again, shows it and lets the operator drop it.
func TestDamagedRow(t *testing.T) {
	t.Parallel()
	const domain = "shop.example"
	w := idleWorld(t, one(t, domain, "greeting-none"))
	dir := w.dir
	stop := w.start(t, waiting)
	bad, good := w.submit(t, "a@shop.example", "", "ann@"+domain), w.submit(t, "a@shop.example", "", "bob@"+domain)
	w.await(t, domain, 2)
	stop()
	inner, err := pebblestore.Open(pebblestore.Options{Dir: filepath.Join(dir, "queue")})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []queue.ID{bad, good} {
		_, rows, err := inner.Read(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if id == bad {
			rows[0].Data[len(rows[0].Data)/2] ^= 1
		}
		rows[0].Due = time.Now()
		if err := inner.Commit(t.Context(), &queue.Change{Update: rows}); err != nil {
			t.Fatal(err)
		}
	}
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}

	w.become(t, domain, "modern")
	w.start(t, waiting)
	if a := w.await(t, domain, 1); a.Message != good || a.Achieved != policy.Verified {
		t.Errorf("attempted %+v, want the good one", a)
	}
	next := w.submit(t, "a@shop.example", "", "cat@"+domain)
	if a := w.await(t, domain, 2); a.Message != next {
		t.Errorf("attempted %+v, want the next one", a)
	}
	// Claims were made since, and it was looked at once.
	until(t, "the metric", func() bool {
		return strings.Contains(metricsText(t, w), `sealpost_sealed_damaged_total{thing="row"} 1`)
	})

	conf := filepath.Join(dir, "sealpost.toml")
	queueSays := func(want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"queue"}, append(args, "--config", conf)...)
		if code := run(t.Context(), args, streams{strings.NewReader(""), &out, &errs}); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%q: exit code %d, %s%s\nwant %q", args, code, out.String(), errs.String(), want)
		}
	}
	until(t, "the queue is empty but for it", func() bool { return w.house.queue.Stats().Envelopes["waiting"] == 0 })
	queueSays("seal does not hold", "list", "--state", "damaged")
	queueSays("seal does not hold", "show", string(bad))
	queueSays("0 envelopes", "release", "--all")
	queueSays("no envelope matches", "list", "--domain", domain)
	queueSays("no envelope matches", "list", "--sender", "<>")
	queueSays("1 envelopes", "drop", "--state", "damaged")
	queueSays("no envelope matches", "list")
	if _, err := w.house.queue.Show(t.Context(), bad); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("after the drop: %v", err)
	}
}

func metricsText(t *testing.T, w *world) string {
	t.Helper()
	resp, err := http.Get("http://" + w.house.httpAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestVaultRefusesToOpen: a relay whose queue and keys are no pair does not start, says how
// to mend it, and changes nothing.
func TestVaultRefusesToOpen(t *testing.T) {
	t.Parallel()
	origin, stranger := t.TempDir(), t.TempDir()
	for _, dir := range []string{origin, stranger} {
		d := openSealed(t, dir)
		d.close(t)
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string) // of a copy of the origin
		conf   string                         // DIR is that copy
		code   int
		says   []string
	}{
		{"as it was", func(*testing.T, string) {}, "", 0, nil},
		{"keys on another volume", func(t *testing.T, dir string) { rename(t, dir, "keys", "volume/keys") },
			"key_dir = \"DIR/volume/keys\"", 0, nil},
		{"encryption switched off", func(*testing.T, string) {}, "enabled = false", exitFailed,
			[]string{"is encrypted", "write enabled = true"}},
		{"no key directory", func(t *testing.T, dir string) { rename(t, dir, "keys", "away") }, "", exitStorage,
			[]string{"no keys in", "mount its volume"}},
		{"an empty key directory", func(t *testing.T, dir string) { mkdir(t, filepath.Join(dir, "volume")) }, "key_dir = \"DIR/volume\"", exitStorage,
			[]string{"no keys in", "mount its volume"}},
		{"another queue's keys", func(t *testing.T, dir string) {
			rename(t, dir, "keys", "away")
			if err := os.CopyFS(filepath.Join(dir, "keys"), os.DirFS(filepath.Join(stranger, "keys"))); err != nil {
				t.Fatal(err)
			}
			tighten(t, filepath.Join(dir, "keys"))
		}, "", exitStorage, []string{"was sealed with key ring", "give the key directory that belongs to this queue"}},
		{"another queue", func(t *testing.T, dir string) { rename(t, dir, "queue", "away") }, "", exitStorage,
			[]string{"belongs to another queue", "give the queue's own data directory"}},
		{"a directory that others may read", func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "keys"), 0o755) }, "", exitStorage,
			[]string{"open to others", "chmod 700"}},
		{"a key file that others may read", func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "keys", "kek-1.0.key"), 0o644) }, "", exitStorage,
			[]string{"open to others", "chmod 600"}},
		{"the key-encryption key is missing", func(t *testing.T, dir string) { rename(t, dir, "keys/kek-1.0.key", "away") }, "", exitStorage,
			[]string{"is missing", "put it back"}},
		{"the root is damaged", func(t *testing.T, dir string) {
			list, err := filepath.Glob(filepath.Join(dir, "keys", "root-*"))
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			if err := os.WriteFile(list[0], []byte("SEALKEY no more"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "", exitStorage, []string{"is no key file", "put it back"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyVault(t, origin, origin)
			tt.change(t, dir)
			before := fileNames(t, dir)
			conf := filepath.Join(t.TempDir(), "sealpost.toml")
			text := fmt.Sprintf("[server]\nhostname = \"relay.shop.example\"\ndata_dir = %q\n[queue.encryption]\n%s\n", dir, strings.ReplaceAll(tt.conf, "DIR", dir))
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig(conf, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			v, err := openVault(cfg, vaultOptions{})
			if err == nil {
				if err := v.close(); err != nil {
					t.Fatal(err)
				}
			}
			var errs bytes.Buffer
			if code := exitCode(err, &errs); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, errs.String())
			}
			for _, say := range tt.says {
				if !strings.Contains(errs.String(), say) {
					t.Errorf("it says %q, not %q", errs.String(), say)
				}
			}
			if made := fileNames(t, dir); tt.code != 0 && made != before {
				t.Errorf("it made keys: %s, before: %s", made, before)
			}
		})
	}
}

// TestPlainQueueIsSealed: a queue from before encryption goes on, and is sealed from then on.
func TestPlainQueueIsSealed(t *testing.T) {
	t.Parallel()
	const domain = "shop.example"
	w := idleWorld(t, one(t, domain, "greeting-none"))
	dir := w.dir
	stop := w.start(t, waiting+"[queue.encryption]\nenabled = false\n")
	old := w.submit(t, "a@shop.example", "", "ann@"+domain)
	w.await(t, domain, 1)
	stop()
	if made := fileNames(t, dir); made != "" {
		t.Error("keys were made where encryption is off:", made)
	}
	w.become(t, domain, "modern")
	w.start(t, waiting)
	if _, err := w.house.queue.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	if a := w.await(t, domain, 1); a.Message != old || a.Achieved != policy.Verified {
		t.Errorf("the old message: %+v", a)
	}
	w.submit(t, "author.nine@zebra-lab.example", "X-Marks: Zebra-Subject, the-body-text-itself\r\n", "reviewer.seven@"+domain)
	w.await(t, domain, 2)
	if found := scanFiles(t, dir); found != nil {
		t.Errorf("new mail in a queue that was plain: %q", found)
	}
}

func rename(t *testing.T, dir, from, to string) {
	t.Helper()
	mkdir(t, filepath.Dir(filepath.Join(dir, to)))
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// fileNames lists the keys that a ring is made of.
func fileNames(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*", "[kr]*.key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}
