package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

func backupDraft(domain string, body []byte) *queue.Draft {
	return &queue.Draft{
		Recipients: []queue.Recipient{{Address: queue.Address{Local: "somebody", Domain: policy.Domain(domain)}}},
		Body:       bytes.NewReader(body),
	}
}

// taker delivers to domains that begin with an even digit, and refuses for the rest; it
// knows whom it was given.
type taker struct {
	mu    sync.Mutex
	given map[queue.ID]bool
}

func (c *taker) Deliver(_ context.Context, l *queue.Lease) (r queue.Report) {
	c.mu.Lock()
	c.given[l.Message.ID] = true
	c.mu.Unlock()
	if (l.Envelope.Lane[0]-'0')%2 == 0 {
		r.Outcomes = []queue.Outcome{{Kind: queue.DeliveredNow}}
	}
	return r
}

// A backup while mail is accepted and delivered: what was accepted before it, and is not
// delivered when it ends, is in it, to the last octet.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: t.TempDir()})
	q, err := queue.New(queue.Options{Store: s, Workers: 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &taker{given: make(map[queue.ID]bool)}
	var load sync.WaitGroup
	load.Go(func() { _ = q.Run(ctx, c) })
	var mu sync.Mutex
	accepted, enough := make(map[queue.ID]int), make(chan struct{})
	for w := range 4 {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				size := 100 + i%3*300_000
				d := backupDraft(fmt.Sprintf("%d.example", (w+i)%10), []byte(strings.Repeat("x", size)))
				if id, err := q.Enqueue(ctx, d); err == nil {
					mu.Lock()
					if accepted[id] = size; len(accepted) == 200 {
						close(enough)
					}
					mu.Unlock()
				}
			}
		})
	}
	<-enough
	mu.Lock()
	before := make(map[queue.ID]int, len(accepted))
	for id, size := range accepted {
		before[id] = size
	}
	mu.Unlock()
	dir := filepath.Join(t.TempDir(), "a", "backup")
	m, err := s.Backup(t.Context(), dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	for id := range before { // what is there at its end was there at its time
		if _, _, err := s.Read(ctx, id); errors.Is(err, queue.ErrNotFound) {
			delete(before, id)
		} else if err != nil {
			t.Error(err)
		}
	}
	cancel()
	load.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if m.Octets == 0 || m.Version != "test" || !strings.Contains(m.Keys, "not in this backup") {
		t.Errorf("manifest %+v", m)
	}
	if _, wrong, err := VerifyBackup(t.Context(), dir); err != nil || len(wrong) > 0 {
		t.Fatalf("verify: %q, %v", wrong, err)
	}
	to := filepath.Join(t.TempDir(), "queue")
	if _, err := RestoreBackup(t.Context(), dir, to); err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, Options{Dir: to})
	if len(before) < 50 {
		t.Fatalf("only %d messages were waiting", len(before))
	}
	for id, size := range before {
		if _, rows, err := r.Read(t.Context(), id); err != nil || len(rows) != 1 {
			t.Errorf("message %s: %d rows, %v", id, len(rows), err)
			continue
		}
		b, err := r.Body(t.Context(), id)
		if err != nil {
			t.Error(err)
			continue
		}
		if n, err := io.Copy(io.Discard, b); err != nil || n != int64(size) {
			t.Errorf("message %s: %d octets of %d, %v", id, n, size, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	// The restored queue has lived; the backup is as it was.
	if _, wrong, err := VerifyBackup(t.Context(), dir); err != nil || len(wrong) > 0 {
		t.Errorf("verify after the restore: %q, %v", wrong, err)
	}
}

// smallBackup is a backup of ten messages.
func smallBackup(t *testing.T) string {
	t.Helper()
	s := mustOpen(t, Options{Dir: t.TempDir()})
	defer s.Close()
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := q.Enqueue(t.Context(), backupDraft("a.example", []byte("body"))); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir() // there, and empty
	if _, err := s.Backup(t.Context(), dir, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), dir, "test"); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second backup into the same place: %v", err)
	}
	return dir
}

// What is wrong with a backup is said by name, and nothing is restored from it.
func TestBackupDamaged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		harm func(t *testing.T, dir, data string, log string)
		want string // of verify: one line, or the error
	}{
		{"a flipped bit", func(t *testing.T, _, data, log string) {
			b, err := os.ReadFile(filepath.Join(data, log))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(filepath.Join(data, log), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "%s was changed"},
		{"cut short", func(t *testing.T, _, data, log string) {
			if err := os.Truncate(filepath.Join(data, log), 10); err != nil {
				t.Fatal(err)
			}
		}, "%s has 10 octets"},
		{"a file is gone", func(t *testing.T, _, data, log string) {
			if err := os.Remove(filepath.Join(data, log)); err != nil {
				t.Fatal(err)
			}
		}, "%s is missing"},
		{"no manifest", func(t *testing.T, dir, _, _ string) {
			if err := os.Remove(filepath.Join(dir, "manifest.json")); err != nil {
				t.Fatal(err)
			}
		}, "is no backup, or one that was not written to its end"},
		{"a newer manifest", func(t *testing.T, dir, _, _ string) {
			if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(`{"format":99,"version":"v9"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "use the version that wrote it (v9)"},
		{"a name that leads elsewhere", func(t *testing.T, dir, _, _ string) {
			if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(`{"format":1,"files":[{"name":"../x"}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, `names a file "../x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := smallBackup(t)
			data := filepath.Join(dir, "queue")
			logs, err := filepath.Glob(filepath.Join(data, "*.log"))
			if err != nil || len(logs) == 0 {
				t.Fatal(logs, err)
			}
			log := filepath.Base(logs[0])
			c.harm(t, dir, data, log)
			want := strings.ReplaceAll(c.want, "%s", log)
			_, wrong, err := VerifyBackup(t.Context(), dir)
			if got := fmt.Sprint(strings.Join(wrong, "; "), err); !strings.Contains(got, want) {
				t.Errorf("verify: %s, want %q", got, want)
			}
			to := filepath.Join(t.TempDir(), "queue")
			if _, err := RestoreBackup(t.Context(), dir, to); err == nil {
				t.Error("it was restored")
			}
			if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left of the restore: %v", err)
			}
		})
	}
	t.Run("a file too many", func(t *testing.T) {
		t.Parallel()
		dir := smallBackup(t)
		if err := os.WriteFile(filepath.Join(dir, "queue", "x.sst"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, wrong, err := VerifyBackup(t.Context(), dir); err != nil || len(wrong) != 1 || !strings.Contains(wrong[0], "x.sst is not in the manifest") {
			t.Errorf("verify: %q, %v", wrong, err)
		}
	})
}

// A backup that ends in the middle leaves nothing.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: t.TempDir()})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "backup")
	if _, err := s.Backup(ctx, dir, "test"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// crowded is a file system that has no room below one directory.
type crowded struct {
	vfs.FS
	dir string
}

func (c crowded) Create(name string, w vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, w)
	if strings.HasPrefix(name, c.dir) {
		return crowdedFile{f}, err
	}
	return f, err
}

type crowdedFile struct{ vfs.File }

func (crowdedFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
func (crowdedFile) Sync() error               { return syscall.ENOSPC }

// The disk of the backup is full: the backup fails, the relay does not.
func TestCheckpointToAFullDisk(t *testing.T) {
	t.Parallel()
	var codes []int
	mem := vfs.NewMem()
	s := mustOpen(t, Options{Dir: "store", fs: crowded{mem, "backup"}, Fatal: func(code int) { codes = append(codes, code) }})
	q, err := queue.New(queue.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	accept := func() {
		if _, err := q.Enqueue(t.Context(), backupDraft("a.example", []byte("body"))); err != nil {
			t.Fatal(err)
		}
	}
	accept()
	if err := s.Checkpoint("backup"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("checkpoint: %v", err)
	}
	accept()
	if len(codes) > 0 {
		t.Errorf("the process ends with %v", codes)
	}
	if _, err := mem.Stat("backup"); err == nil {
		t.Error("something is left of the backup")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
