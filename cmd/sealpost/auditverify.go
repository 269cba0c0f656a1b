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

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// auditVerifyCmd proves that the journal is as it was written.
type auditVerifyCmd struct {
	Dir  string   `help:"A data directory or a backup to look at, without a relay. Nothing is written there. Default: the running relay is asked; if none runs, its data directory is looked at." type:"path"`
	Key  []string `help:"Public key file (journal.pub) that must have signed; may be given several times. Keep a copy where the relay's machine cannot write. Default: the one in the key directory." placeholder:"FILE" type:"path"`
	Head string   `help:"A head that you wrote down when you verified before: it must still be part of the chain. Shows that a whole older state was put back." placeholder:"NUMBER:HASH"`
	JSON bool     `help:"As JSON."`
}

// Help is the long text.
func (c *auditVerifyCmd) Help() string {
	return `The entries of the journal are a hash chain, and its heads are signed (Ed25519). This checks every entry that is kept, names the first one that is missing, was changed, moved or put in, or that the disk does not give back, and ends with 0 when all is fine, with 1 when not. No decryption key is needed, and erased entries count like any other.

It cannot show what somebody with the signing key itself has written anew, nor that a whole older state was put back: for those keep a copy of the public key and the last line of this command elsewhere (--key, --head).`
}

// Run checks, and says what was found.
func (c *auditVerifyCmd) Run(ctx context.Context, s streams, parent *auditCmd) error {
	o := queue.VerifyOptions{}
	for _, path := range c.Key {
		key, err := readPublicKey(path)
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("--key: %w", err)}
		}
		o.Keys = append(o.Keys, key)
	}
	if c.Head != "" {
		note, err := queue.ParseNote(c.Head)
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("--head: %w", err)}
		}
		o.Note = &note
	}
	p, err := c.verify(ctx, parent, &o)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(struct {
			Fine bool `json:"fine"`
			queue.Proof
		}{p.Fine(), p})
	} else {
		err = showProof(s.out, &p, len(o.Keys) > 0)
	}
	if err == nil && !p.Fine() {
		err = &exitError{exitFailed, fmt.Errorf("sealpost: the journal is broken, first at %s", p.Breaks[0])}
	}
	return err
}

// verify asks the relay, or looks by itself. It fills in the key.
func (c *auditVerifyCmd) verify(ctx context.Context, parent *auditCmd, o *queue.VerifyOptions) (queue.Proof, error) {
	if c.Dir != "" {
		dir := c.Dir
		if _, err := os.Stat(filepath.Join(dir, "queue")); err == nil {
			dir = filepath.Join(dir, "queue")
		}
		keys := filepath.Join(c.Dir, "keys")
		if _, err := os.Stat(filepath.Join(keys, pebblestore.PublicKeyFile)); err != nil {
			// A backup has no keys in it: it is most likely one of this relay.
			if cfg, err := loadConfig(parent.Config, io.Discard); err == nil {
				keys = cfg.KeyDir()
			}
		}
		return verifyDir(ctx, dir, keys, o)
	}
	cfg, err := loadConfig(parent.Config, io.Discard)
	if err != nil {
		return queue.Proof{}, err
	}
	if err := defaultKey(cfg.KeyDir(), o); err != nil {
		return queue.Proof{}, err
	}
	p, err := httpapi.NewClient(adminSocket(cfg)).VerifyJournal(ctx, *o)
	if !errors.Is(err, httpapi.ErrNotRunning) {
		return p, err
	}
	return verifyDir(ctx, cfg.QueueDir(), cfg.KeyDir(), o)
}

func verifyDir(ctx context.Context, dir, keys string, o *queue.VerifyOptions) (p queue.Proof, err error) {
	if err := defaultKey(keys, o); err != nil {
		return p, err
	}
	if _, err := os.Stat(dir); err != nil {
		return p, fmt.Errorf("there is no queue: %w: give the relay's data directory or a backup", err)
	}
	a, err := pebblestore.Inspect(pebblestore.Options{Dir: dir})
	if err != nil {
		return p, fmt.Errorf("%w (if a relay uses it: leave --dir out, and the relay is asked)", err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return a.Verify(ctx, *o)
}

// defaultKey takes the public key of a key directory when none was given and one is there.
func defaultKey(dir string, o *queue.VerifyOptions) error {
	if len(o.Keys) > 0 {
		return nil
	}
	key, err := readPublicKey(filepath.Join(dir, pebblestore.PublicKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		o.Keys = append(o.Keys, key)
	}
	return err
}

func readPublicKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := pebblestore.ParsePublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func showProof(out io.Writer, p *queue.Proof, keyed bool) error {
	fmt.Fprintf(out, "%d entries of the chain looked at (%d to %d), %d of them under %d signed heads\n", p.Entries, p.Low, p.Last, p.Signed, p.Heads)
	if p.Before > 0 {
		fmt.Fprintf(out, "%d entries are from before the chain, which begins at %d: nothing vouches for them\n", p.Before, p.Start)
	}
	if rest := p.Entries - min(p.Signed, p.Entries); rest > 0 {
		fmt.Fprintf(out, "%d entries are under no head yet\n", rest)
	}
	if !keyed {
		fmt.Fprintln(out, "no public key was given or found: this shows accidents, but no forger (--key)")
	}
	for _, b := range p.Breaks {
		fmt.Fprintf(out, "BROKEN %s\n", b)
	}
	if p.More > 0 {
		fmt.Fprintf(out, "BROKEN in %d more places\n", p.More)
	}
	if p.Fine() {
		fmt.Fprintln(out, "fine: nothing is missing, changed, moved or put in")
	}
	if p.Noted != "" {
		fmt.Fprintf(out, "the head you gave: %s\n", p.Noted)
	}
	if p.Head != nil {
		n := queue.Note{Number: p.Head.Number, Hash: p.Head.Hash}
		fmt.Fprintf(out, "newest head, of %s, signed with %x:\n%s\n", p.Head.At.Local().Format(time.DateTime), p.Head.Key, n)
	}
	return nil
}
