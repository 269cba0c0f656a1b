package pebblestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is in the directory of a backup.
const (
	backupData     = "queue"
	backupManifest = "manifest.json"
	backupFormat   = 1
)

// maxManifest bounds what is read of a manifest, in octets.
const maxManifest = 64 << 20

// Manifest says what a backup holds. A directory without one is no backup, or not a whole one.
type Manifest struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	Version string    `json:"version,omitempty"` // of the program that wrote it
	// Keys says where the keys are that open a sealed queue: never here.
	Keys   string       `json:"keys"`
	Octets int64        `json:"octets"`
	Files  []BackupFile `json:"files"` // by name
}

// BackupFile is a file of a backup.
type BackupFile struct {
	Name   string `json:"name"` // in the backup's directory "queue"
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// notHere is Manifest.Keys.
const notHere = "not in this backup: a sealed queue opens only with the key directory that it was sealed with (docs/adr/0012-erasure.md)"

// Checkpoint writes a copy of the store as it is now into a directory that is not there
// yet. All that was acknowledged before is in it. Tables, which never change, are linked where the
// file system can, and copied elsewhere. When it fails nothing is left of it.
func (s *Store) Checkpoint(dir string) error {
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("pebblestore: checkpoint: %w", err)
	}
	return nil
}

// Backup writes a checkpoint and its manifest into a directory that is empty, or not there
// yet. nil: all of it is synced. When it fails nothing is left of it. version is that of the
// program.
func (s *Store) Backup(ctx context.Context, dir, version string) (m Manifest, err error) {
	made, err := emptyDir(dir)
	if err != nil {
		return m, err
	}
	data := filepath.Join(dir, backupData)
	defer func() {
		if err != nil {
			// What is left over would look like a backup.
			err = errors.Join(err, os.RemoveAll(data), removeIf(made, dir))
		}
	}()
	created := time.Now().UTC()
	if err := s.Checkpoint(data); err != nil {
		return m, err
	}
	if err := os.Chmod(data, 0o700); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	m = Manifest{Format: backupFormat, Created: created, Version: version, Keys: notHere}
	names, err := dataFiles(data)
	if err != nil {
		return m, err
	}
	for _, name := range names {
		f, err := sum(ctx, data, name)
		if err != nil {
			return m, err
		}
		m.Files = append(m.Files, f)
		m.Octets += f.Size
	}
	b, err := json.MarshalIndent(&m, "", " ")
	if err != nil {
		return m, err
	}
	return m, writeSynced(dir, backupManifest, append(b, '\n'))
}

// emptyDir makes a directory, unless it is there and empty.
func emptyDir(dir string) (made bool, err error) {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, fmt.Errorf("backup: %w", err)
		}
		return true, nil
	case err != nil:
		return false, fmt.Errorf("backup: %w", err)
	case len(list) > 0:
		return false, fmt.Errorf("backup: %s is not empty: name a directory that is, or that is not there yet", dir)
	}
	return false, nil
}

func removeIf(made bool, dir string) error {
	if !made {
		return nil
	}
	return os.Remove(dir)
}

// dataFiles are the names of the files in a backup's data, in order.
func dataFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	var names []string
	for _, e := range list {
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("backup: %s is no file", filepath.Join(dir, e.Name()))
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// sum reads a file through.
func sum(ctx context.Context, dir, name string) (BackupFile, error) {
	return copyFile(ctx, dir, name, io.Discard)
}

// copyFile copies a file and sums it up.
func copyFile(ctx context.Context, dir, name string, to io.Writer) (b BackupFile, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, to), reader{ctx, f})
	if err != nil {
		return b, fmt.Errorf("backup: %s: %w", name, err)
	}
	return BackupFile{Name: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// writeSynced writes a file that is there as a whole or not at all.
func writeSynced(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncFS(vfs.Default, dir)
	}
	if err == nil {
		err = syncFS(vfs.Default, filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("backup: %w", errors.Join(err, os.RemoveAll(path+".tmp"), os.RemoveAll(path)))
	}
	return nil
}

// ReadManifest reads the manifest of a backup.
func ReadManifest(dir string) (m Manifest, err error) {
	f, err := os.Open(filepath.Join(dir, backupManifest))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no backup, or one that was not written to its end: there is no %s in it", dir, backupManifest)
	}
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	switch {
	case err != nil:
		return m, fmt.Errorf("backup: %s cannot be read: %w", backupManifest, err)
	case m.Format != backupFormat:
		return m, fmt.Errorf("backup: %s is of format %d, this program knows %d: use the version that wrote it (%s), or a newer one", dir, m.Format, backupFormat, m.Version)
	}
	for _, f := range m.Files {
		// Names come from outside: none may lead anywhere else.
		if f.Name == "" || f.Name == "." || f.Name == ".." || filepath.Base(f.Name) != f.Name {
			return m, fmt.Errorf("backup: %s names a file %q", backupManifest, f.Name)
		}
	}
	return m, nil
}

// VerifyBackup reads a backup through and compares it with its manifest. It returns what is
// wrong with which file; none: it is as it was written.
func VerifyBackup(ctx context.Context, dir string) (m Manifest, wrong []string, err error) {
	if m, err = ReadManifest(dir); err != nil {
		return m, nil, err
	}
	data := filepath.Join(dir, backupData)
	for _, want := range m.Files {
		got, err := sum(ctx, data, want.Name)
		switch {
		case ctx.Err() != nil:
			return m, wrong, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, want.Name+" is missing")
		case err != nil:
			wrong = append(wrong, err.Error())
		case got != want:
			wrong = append(wrong, different(got, want))
		}
	}
	names, err := dataFiles(data)
	if err != nil {
		return m, wrong, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(m.Files, func(f BackupFile) bool { return f.Name == name }) {
			wrong = append(wrong, name+" is not in the manifest")
		}
	}
	return m, wrong, nil
}

func different(got, want BackupFile) string {
	if got.Size != want.Size {
		return fmt.Sprintf("%s has %d octets, not %d", want.Name, got.Size, want.Size)
	}
	return want.Name + " was changed: its SHA-256 is another"
}

// RestoreBackup copies a backup's files into a directory that is not there yet, and
// compares each with the manifest on the way. nil: all of it is synced. When it fails nothing is
// left of it.
func RestoreBackup(ctx context.Context, dir, to string) (m Manifest, err error) {
	if m, err = ReadManifest(dir); err != nil {
		return m, err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	for _, want := range m.Files {
		f, err := os.OpenFile(filepath.Join(to, want.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return m, fmt.Errorf("restore: %w", err)
		}
		got, err := copyFile(ctx, filepath.Join(dir, backupData), want.Name, f)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return m, err
		}
		if got != want {
			return m, fmt.Errorf("restore: %s", different(got, want))
		}
	}
	return m, errors.Join(syncFS(vfs.Default, to), syncFS(vfs.Default, filepath.Dir(to)))
}
