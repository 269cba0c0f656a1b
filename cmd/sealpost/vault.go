package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/seal"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// vault is where mail lies: the store on disk, sealed unless that is switched off, and the
// keys. Whoever uses the store uses this one.
type vault struct {
	store  queue.Store
	disk   *pebblestore.Store // what is under the seal
	sealed *seal.Store        // the same; nil: not sealed
	ring   *seal.Ring         // its keys; nil: none
}

// vaultOptions are what a vault is opened with beside the configuration.
type vaultOptions struct {
	seams
	damaged func(*seal.Damage) // nil: nobody is told
}

// openVault opens store and keys, which must belong together. The store comes first: it
// knows whether there must be keys, so that none are made anew where some are missing.
func openVault(cfg *config.Config, o vaultOptions) (*vault, error) {
	if err := keysThere(cfg, o); err != nil {
		return nil, wrongKeys(err)
	}
	v := &vault{}
	inner, err := pebblestore.Open(pebblestore.Options{
		Dir: cfg.QueueDir(), KeyDir: cfg.KeyDir(), Retention: cfg.Queue.JournalRetention,
		MaxJournal: cfg.Queue.JournalMaxSize, Logger: o.log, Fatal: o.fatal,
		Before: func(s *pebblestore.Store) error { return v.openKeys(cfg, s, o) },
	})
	if err != nil {
		var known *exitError
		if !errors.As(err, &known) && !errors.Is(err, errSealed) {
			err = &exitError{exitStorage, fmt.Errorf("sealpost: the storage cannot be used: %w", err)}
		}
		if v.ring != nil {
			err = errors.Join(err, v.ring.Close())
		}
		return nil, err
	}
	v.store, v.disk = inner, inner
	if v.ring != nil {
		if err := v.seal(cfg, o); err != nil {
			return nil, errors.Join(err, v.close())
		}
	}
	return v, nil
}

// openKeys opens the keys that belong to the store, before anything is signed with one of another's.
func (v *vault) openKeys(cfg *config.Config, disk *pebblestore.Store, o vaultOptions) error {
	mark, err := seal.RingOf(context.Background(), disk)
	switch {
	case err != nil:
		return err
	case cfg.Queue.Encryption.Enabled:
		if v.ring, err = seal.OpenRing(ringOptions(cfg, mark, o.seams)); err != nil {
			return wrongKeys(err)
		}
	case mark != "":
		return sealedButPlain(cfg, mark)
	}
	return nil
}

func wrongKeys(err error) error {
	return &exitError{exitStorage, fmt.Errorf("sealpost: the keys cannot be used: %w", err)}
}

// keysThere looks for the keys that a sealed queue needs before anything is opened for writing,
// where their directory may be another one, such as that of a volume which is not mounted: the
// journal's key is missing, and a new one would be made and sign.
func keysThere(cfg *config.Config, o vaultOptions) error {
	_, err := os.Stat(filepath.Join(cfg.KeyDir(), pebblestore.PublicKeyFile))
	if !cfg.Queue.Encryption.Enabled || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	disk, err := pebblestore.Inspect(pebblestore.Options{Dir: cfg.QueueDir()})
	if err != nil {
		return nil // there is no queue yet, or who opens it says better what is wrong
	}
	look, err := seal.LookAt(context.Background(), disk, ringOptions(cfg, "", o.seams), seal.Options{})
	if err == nil {
		err = look.Close()
	}
	return errors.Join(err, disk.Close())
}

// errSealed: a sealed queue, and a configuration without encryption.
var errSealed = errors.New("is encrypted")

// sealedButPlain is the error of a sealed queue with a configuration that has no keys.
func sealedButPlain(cfg *config.Config, mark string) error {
	return fmt.Errorf("the queue in %s %w (key ring %s), and queue.encryption.enabled is false: write enabled = true; to go on without encryption, let the queue run empty, stop, and move %s away",
		cfg.QueueDir(), errSealed, mark, cfg.QueueDir())
}

// seal puts the seal in front of the store.
func (v *vault) seal(cfg *config.Config, o vaultOptions) (err error) {
	v.sealed, err = seal.New(v.store, v.ring, seal.Options{
		Logger: o.log, Damaged: o.damaged, RefusePlain: cfg.Queue.Encryption.RefusePlain,
	})
	if err != nil {
		return wrongKeys(err)
	}
	v.store = v.sealed
	return nil
}

// ringOptions are those of the keys; mark is the ring that must be there, or "".
func ringOptions(cfg *config.Config, mark string, s seams) seal.RingOptions {
	return seal.RingOptions{
		Dir: cfg.KeyDir(), Delay: cfg.Queue.Encryption.EraseAfter, Retention: cfg.Queue.JournalRetention, ID: mark, Logger: s.log,
	}
}

// close gives the store back, then the keys.
func (v *vault) close() error {
	err := v.store.Close()
	if v.ring != nil {
		err = errors.Join(err, v.ring.Close())
	}
	return err
}

// overdue is how late the destruction of keys is.
func (v *vault) overdue() time.Duration {
	if v.ring == nil {
		return 0
	}
	return v.ring.Overdue(time.Now())
}

// keys are the admin API's view of them; nil when there are none.
func (v *vault) keys() httpapi.Keys {
	if v.ring == nil {
		return nil
	}
	return ringKeys{v.ring}
}

// ringKeys is a ring as the admin API sees it.
type ringKeys struct{ ring *seal.Ring }

// List returns the keys.
func (k ringKeys) List() []httpapi.Key { return keyList(k.ring.List()) }

// Rotate makes a new key-encryption key.
func (k ringKeys) Rotate() (httpapi.Key, error) {
	made, err := k.ring.Rotate()
	return httpapi.Key(made), err
}

func keyList(list []seal.Key) []httpapi.Key {
	keys := make([]httpapi.Key, len(list))
	for i, k := range list {
		keys[i] = httpapi.Key(k)
	}
	return keys
}
