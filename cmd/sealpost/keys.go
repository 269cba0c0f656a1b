package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/seal"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// keysCmd looks after the keys of the encryption at rest.
type keysCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	List   keysListCmd   `cmd:"" help:"List the keys in the key directory: what they are for and since when they are there."`
	Rotate keysRotateCmd `cmd:"" help:"Make a new key-encryption key, wrap all others by it, destroy the old one."`
}

// directory is where the keys are, and what is in it. There must be some.
func (c *keysCmd) directory() (*config.Config, []seal.Key, error) {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	keys, err := seal.ListDir(cfg.KeyDir())
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	case len(keys) > 0:
		return cfg, keys, nil
	case !cfg.Queue.Encryption.Enabled:
		return nil, nil, errors.New("there are no keys: queue.encryption.enabled is false")
	}
	return nil, nil, fmt.Errorf("there are no keys in %s: they are made when the relay starts for the first time (sealpost serve); should there be some, see queue.encryption.key_dir and whether its volume is mounted", cfg.KeyDir())
}

type keysListCmd struct {
	JSON bool `help:"One JSON object a line."`
}

// Run lists what is in the directory, whether a relay runs or not.
func (c *keysListCmd) Run(s streams, parent *keysCmd) error {
	cfg, keys, err := parent.directory()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		for _, k := range keyList(keys) {
			if err := enc.Encode(k); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "KEY\tID\tAGE\tWRAPPED BY\tFOR\n")
	for _, k := range keys {
		by := "-"
		if k.KEK > 0 {
			by = fmt.Sprint("kek ", k.KEK)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", k.Kind, k.ID, short(max(time.Since(k.Created), 0)), by, keyPurpose(k))
	}
	fmt.Fprintf(w, "\nThey are in %s, which belongs in no backup. Mail that is gone can be decrypted for %s more at most.\n",
		cfg.KeyDir(), duration(cfg.Queue.Encryption.EraseAfter))
	return w.Flush()
}

// keyPurpose says what a key is for.
func keyPurpose(k seal.Key) string {
	switch k.Kind {
	case "kek":
		return "wraps the other keys"
	case "root":
		return "names of domains, values of the memory"
	case "epoch":
		return "mail accepted since " + k.Created.Local().Format(time.DateTime)
	case "carry":
		return "mail that waits for longer"
	case "journal":
		return "journal of that day (UTC)"
	}
	return "not known to this version"
}

// duration writes a configured time as a person would.
func duration(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

type keysRotateCmd struct {
	JSON bool `help:"As JSON."`
}

// Run has the running relay rotate its keys, or does it itself.
func (c *keysRotateCmd) Run(ctx context.Context, s streams, parent *keysCmd) error {
	cfg, _, err := parent.directory()
	if err != nil {
		return err
	}
	made, err := httpapi.NewClient(adminSocket(cfg)).RotateKeys(ctx)
	if errors.Is(err, httpapi.ErrNotRunning) {
		made, err = rotateAlone(ctx, cfg, s)
	}
	switch {
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(made)
	}
	_, err = fmt.Fprintf(s.out, "all keys are wrapped by key-encryption key %d now; the one before is destroyed\n", made.ID)
	return err
}

// rotateAlone rotates where no relay runs, and notes it in the journal. The locks on store and
// keys say that none does.
func rotateAlone(ctx context.Context, cfg *config.Config, log streams) (key httpapi.Key, err error) {
	if _, err := os.Stat(cfg.QueueDir()); errors.Is(err, fs.ErrNotExist) || !cfg.Queue.Encryption.Enabled {
		return rotateUnnoted(cfg) // keys that no queue is known of
	}
	v, err := openVault(cfg, vaultOptions{seams: seams{log: newLog(log.err).Logger}})
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	q, err := queue.New(queue.Options{Store: v.store})
	if err != nil {
		return key, err
	}
	key, err = v.keys().Rotate()
	return key, errors.Join(err, q.Note(context.WithoutCancel(ctx), httpapi.RotationNote(standIn(), key, err)))
}

func rotateUnnoted(cfg *config.Config) (key httpapi.Key, err error) {
	ring, err := seal.OpenRing(ringOptions(cfg, "", seams{}))
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, ring.Close()) }()
	return ringKeys{ring}.Rotate()
}
