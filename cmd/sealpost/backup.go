package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// backup writes a backup of the queue of a relay that runs.
func (h *house) backup(ctx context.Context, dir string) (httpapi.Backup, error) {
	m, err := h.disk.Backup(ctx, dir, version())
	return backupOf(dir, &m), err
}

func backupOf(dir string, m *pebblestore.Manifest) httpapi.Backup {
	return httpapi.Backup{Dir: dir, Created: m.Created, Files: len(m.Files), Octets: m.Octets, Keys: m.Keys}
}

type queueBackupCmd struct {
	Dir    string `arg:"" help:"Directory for the backup: empty, or not there yet; with --verify one that was written." type:"path"`
	Verify bool   `help:"Read a backup through and compare it with its manifest; nothing is written."`
	JSON   bool   `help:"As JSON."`
}

// Run has the running relay write a backup, or writes it itself when none runs.
func (c *queueBackupCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	if c.Verify {
		return c.verify(ctx, s)
	}
	cfg, err := loadConfig(parent.Config, io.Discard)
	if err != nil {
		return err
	}
	b, err := httpapi.NewClient(adminSocket(cfg)).Backup(ctx, c.Dir)
	if errors.Is(err, httpapi.ErrNotRunning) {
		b, err = backupAlone(ctx, cfg, s, c.Dir)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(b)
	}
	_, err = fmt.Fprintf(s.out, "backup: %d files, %s in %s\nThe keys are %s.\n", b.Files, octets(b.Octets), b.Dir, b.Keys)
	return err
}

// backupAlone backs up the queue of a relay that is stopped.
func backupAlone(ctx context.Context, cfg *config.Config, s streams, dir string) (b httpapi.Backup, err error) {
	if _, err := os.Stat(cfg.QueueDir()); err != nil {
		return b, fmt.Errorf("there is no queue: %w", err)
	}
	store, err := pebblestore.Open(pebblestore.Options{Dir: cfg.QueueDir(), KeyDir: cfg.KeyDir(), Guest: true, Logger: newLog(s.err).Logger})
	if err != nil {
		return b, &exitError{exitStorage, fmt.Errorf("sealpost: the storage cannot be used: %w", err)}
	}
	m, err := store.Backup(ctx, dir, version())
	return backupOf(dir, &m), errors.Join(err, store.Close())
}

func (c *queueBackupCmd) verify(ctx context.Context, s streams) error {
	m, wrong, err := pebblestore.VerifyBackup(ctx, c.Dir)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(map[string]any{"dir": c.Dir, "created": m.Created, "files": len(m.Files), "octets": m.Octets, "wrong": append([]string{}, wrong...)})
	} else if len(wrong) == 0 {
		_, err = fmt.Fprintf(s.out, "the backup of %s is whole: %d files, %s\n", onDate(m.Created), len(m.Files), octets(m.Octets))
	}
	if len(wrong) == 0 || err != nil {
		return err
	}
	for _, w := range wrong {
		fmt.Fprintln(s.err, w)
	}
	return fmt.Errorf("the backup in %s is damaged: %d files are not as they were written", c.Dir, len(wrong))
}

type queueRestoreCmd struct {
	Dir     string `arg:"" help:"Directory of the backup." type:"path"`
	DataDir string `help:"Data directory to restore into; else the configuration's." placeholder:"DIR" type:"path"`
	Replace bool   `help:"Move a queue that is there aside first."`
	JSON    bool   `help:"As JSON."`
}

// Run restores, then reads the result through.
func (c *queueRestoreCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	cfg, err := loadConfig(parent.Config, io.Discard)
	if err != nil {
		return err
	}
	if c.DataDir != "" {
		cfg.Server.DataDir = c.DataDir
	}
	if _, err := httpapi.NewClient(adminSocket(cfg)).Suspensions(ctx); !errors.Is(err, httpapi.ErrNotRunning) {
		return fmt.Errorf("a relay is running on %s: stop it first", cfg.Server.DataDir)
	}
	aside, err := c.putInPlace(ctx, cfg.QueueDir())
	if err != nil {
		return err
	}
	found, err := lookThrough(ctx, cfg, newLog(s.err).Logger)
	if err != nil {
		return fmt.Errorf("the backup is in place, and cannot be read to its end: %w", err)
	}
	if found.Aside = aside; c.JSON {
		err = json.NewEncoder(s.out).Encode(found)
	} else {
		err = found.show(s.out)
	}
	if err == nil && len(found.Damaged) > 0 {
		err = fmt.Errorf("%d things in the restored queue cannot be read; the rest is in place", len(found.Damaged))
	}
	return err
}

// putInPlace makes a backup the queue. It returns where one that was there is now.
func (c *queueRestoreCmd) putInPlace(ctx context.Context, dir string) (aside string, err error) {
	if _, err := pebblestore.ReadManifest(c.Dir); err != nil {
		return "", err
	}
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(list) > 0 && !c.Replace {
		return "", fmt.Errorf("%s is not empty: say --replace to have it moved aside", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	now := time.Now().UTC().Format("20060102T150405Z")
	fresh := dir + ".restoring-" + now
	if _, err := pebblestore.RestoreBackup(ctx, c.Dir, fresh); err != nil {
		return "", err
	}
	if len(list) > 0 {
		aside = dir + ".before-" + now
		err = os.Rename(dir, aside)
	} else if err = os.Remove(dir); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(fresh))
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return aside, err
	}
	return aside, errors.Join(parent.Sync(), parent.Close())
}
