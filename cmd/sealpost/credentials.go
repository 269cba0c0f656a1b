package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/relay/submission"
)

// credentialsSeen is how soon a running relay notices what `sealpost user` did.
const credentialsSeen = 2 * time.Second

// credentialsFile is where `sealpost user` keeps credentials.
func credentialsFile(cfg *config.Config) string {
	return filepath.Join(cfg.Server.DataDir, "credentials.toml")
}

// credentials joins those of the configuration with those of `sealpost user`. warn is told
// of damage that can be lived with.
func credentials(cfg *config.Config, warn func(problem string)) ([]submission.Credential, error) {
	own, doubt, err := ownCredentials(cfg)
	if err != nil {
		return nil, err
	}
	if doubt != "" {
		warn(doubt)
	}
	var list []submission.Credential
	from := map[string]bool{}
	for i, c := range append(append([]config.Credential(nil), cfg.Credentials...), own...) {
		if i >= len(cfg.Credentials) && from[c.Name] {
			return nil, fmt.Errorf("%s: credential %q stands in the configuration too: take one of them out", credentialsFile(cfg), c.Name)
		}
		from[c.Name] = true
		list = append(list, submission.Credential{
			Name: c.Name, PasswordHash: c.PasswordHash, SCRAM: c.SCRAM, Senders: c.Senders, Floor: c.Floor,
			Rate: submission.Rate{PerSecond: c.Rate.PerSecond(), Burst: c.Rate.Count},
		})
	}
	return list, nil
}

// watchCredentials applies changes of the file until ctx is done. A bad file keeps
// the old credentials and says why, once.
func (h *house) watchCredentials(ctx context.Context) {
	tick := time.NewTicker(credentialsSeen)
	defer tick.Stop()
	last := stamp(credentialsFile(h.cfg.Load()))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := stamp(credentialsFile(h.cfg.Load()))
		if now == last {
			continue
		}
		last = now
		if err := h.applyCredentials(h.cfg.Load()); err != nil {
			h.log.Error("credentials not changed, the old ones stay", "problem", err.Error())
			continue
		}
		h.log.Info("credentials changed")
	}
}

func (h *house) applyCredentials(cfg *config.Config) error {
	list, err := credentials(cfg, h.warnOfCredentials)
	if err != nil {
		return err
	}
	return h.dock.SetCredentials(list)
}

func (h *house) warnOfCredentials(problem string) { h.log.Error("credentials", "problem", problem) }

// stamp tells two states of a file apart; "" when there is none.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size())
}

// storedCredential is a credential as `sealpost user` writes it.
type storedCredential struct {
	Name         string   `toml:"name"`
	PasswordHash string   `toml:"password_hash"`
	SCRAM        string   `toml:"scram,omitempty"`
	Senders      []string `toml:"senders,omitempty"`
	Floor        string   `toml:"floor,omitempty"`
	Rate         string   `toml:"rate,omitempty"`
}

// putCredential puts one credential into the file, in place of one of its name when that is known. Who
// does the same at that time waits.
func putCredential(cfg *config.Config, cred config.Credential, known bool) (err error) {
	if err := os.MkdirAll(cfg.Server.DataDir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Server.DataDir, "credentials.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := errors.Join(keepOwner(lock, cfg.Server.DataDir), lockFile(lock)); err != nil {
		return err
	}
	list, _, err := ownCredentials(cfg)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(o config.Credential) bool { return o.Name == cred.Name })
	switch {
	case i >= 0 && known:
		list[i] = cred
	case i >= 0:
		return fmt.Errorf("there is a credential %q by now: `sealpost user passwd` gives it a new password", cred.Name)
	default:
		list = append(list, cred)
	}
	return writeCredentials(cfg, list)
}

// writeCredentials replaces the file in one step: a reader sees the old one or the
// new one, and after a crash one of them is there.
func writeCredentials(cfg *config.Config, list []config.Credential) error {
	var file struct {
		Credential []storedCredential `toml:"credential"`
	}
	for _, c := range list {
		s := storedCredential{Name: c.Name, PasswordHash: c.PasswordHash, SCRAM: c.SCRAM, Senders: c.Senders, Rate: c.Rate.String()}
		if c.Floor != 0 {
			s.Floor = c.Floor.String()
		}
		file.Credential = append(file.Credential, s)
	}
	text, err := toml.Marshal(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Server.DataDir, 0o700); err != nil {
		return err
	}
	whole := sealText("# Written by `sealpost user`; a running relay notices changes by itself.\n\n" + string(text))
	for _, path := range []string{credentialsFile(cfg), credentialsCopy(cfg)} {
		if err := replaceFile(cfg.Server.DataDir, path, whole); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile replaces a file of a directory, for good when it returns.
func replaceFile(in, path, text string) (err error) {
	tmp, err := os.CreateTemp(in, ".credentials-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, keepOwner(tmp, in), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(in)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
