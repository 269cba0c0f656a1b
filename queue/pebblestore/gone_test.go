package pebblestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// contents are the files of a directory, but for locks.
func contents(t *testing.T, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, n := range names {
		info, err := fs.Stat(fs.PathJoin(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() || n == "LOCK" {
			continue
		}
		x := examination{fs: fs, dir: dir}
		b, err := x.load(n)
		if err != nil {
			t.Fatal(err)
		}
		files[n] = string(b)
	}
	return files
}

// Any one file of the store gone, or empty: the store opens and says what is lost, or it refuses
// in words that say what to do, and then it has changed nothing, so that the file can be put back.
func TestOneFileIsGone(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		dir := t.TempDir()
		held := populate(t, dir, clean)
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			for _, emptied := range []bool{false, true} {
				if e.IsDir() || e.Name() == "LOCK" || emptied && strings.HasPrefix(e.Name(), "marker.") {
					continue // the markers are empty
				}
				t.Run(fmt.Sprintf("clean=%v/%s/emptied=%v", clean, e.Name(), emptied), func(t *testing.T) {
					t.Parallel()
					goneFile(t, dir, e.Name(), emptied, held)
				})
			}
		}
	}
}

func goneFile(t *testing.T, dir, name string, emptied bool, held holdings) {
	fs := vfs.NewMem()
	if ok, err := vfs.Clone(vfs.Default, fs, dir, "db"); !ok || err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove(fs.PathJoin("db", name)); err != nil {
		t.Fatal(err)
	}
	if emptied {
		f, err := fs.Create(fs.PathJoin("db", name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	before := contents(t, fs, "db")
	log := new(bytes.Buffer)
	s, err := Open(Options{Dir: "db", fs: fs, Logger: slog.New(slog.NewTextHandler(log, nil)), Fatal: func(code int) {
		t.Errorf("ended with %d: %s", code, log)
		select {}
	}})
	if err == nil {
		defer s.Close()
		if isLog(name) && emptied {
			// How much a log held that was not closed nobody can know.
			if newest := newestLog(before); name != newest && held.lost(s) > 0 && !strings.Contains(log.String(), name) {
				t.Errorf("what it held is lost, and nobody says so: %s", log)
			}
			return
		}
		if lost := held.check(t, s, log); lost > 0 {
			t.Errorf("%d messages are lost, and the store opens as if nothing was: %s", lost, log)
		}
		return
	}
	if isLog(name) && (!strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), notesName)) {
		t.Errorf("it does not say what is gone, and how to go on: %v", err)
	}
	if !strings.Contains(err.Error(), "nothing was changed") && !strings.Contains(err.Error(), "move it away") && !strings.Contains(err.Error(), "put it back") {
		t.Errorf("it does not say what to do: %v", err)
	}
	if name == keyFile {
		return // looked for behind Pebble's start, which is a good one
	}
	for n, was := range contents(t, fs, "db") {
		if old, there := before[n]; there && old != was {
			t.Errorf("%s was changed by a start that failed: %v", n, err)
		}
		delete(before, n)
	}
	for n := range before {
		t.Errorf("%s was removed by a start that failed: %v", n, err)
	}
}

func newestLog(files map[string]string) (newest string) {
	for n := range files {
		if isLog(n) {
			newest = max(newest, n)
		}
	}
	return newest
}

// lost counts the messages that are not there.
func (h holdings) lost(s *Store) (n int) {
	for id, size := range h {
		if whole(s, id, size) != nil {
			n++
		}
	}
	return n
}

// The log is gone: the start refuses, again and again, until the notes are removed; then the rest goes on.
func TestGoOnWithoutLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held := populate(t, dir, false)
	fs := vfs.NewMem()
	if ok, err := vfs.Clone(vfs.Default, fs, dir, "db"); !ok || err != nil {
		t.Fatal(err)
	}
	newest := newestLog(contents(t, fs, "db"))
	if err := fs.Remove(fs.PathJoin("db", newest)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(Options{Dir: "db", fs: fs}); err == nil || !strings.Contains(err.Error(), newest) {
		t.Errorf("who looks at it is not told: %v", err)
	}
	for range 2 {
		if _, err := Open(Options{Dir: "db", fs: fs}); err == nil || !strings.Contains(err.Error(), newest) {
			t.Fatalf("without %s: %v", newest, err)
		}
	}
	if err := fs.Remove(fs.PathJoin("db", notesName)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := mustOpen(t, Options{Dir: "db", fs: fs})
		if n := held.lost(s); n == 0 || n > 41 {
			t.Errorf("%d messages are lost, the log had 41", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
