package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/seal"
)

// census is what a queue holds, counted by reading all of it.
type census struct {
	Messages  int    `json:"messages"`
	Envelopes int    `json:"envelopes"`
	Octets    int64  `json:"octets"` // of the bodies
	Entries   int    `json:"journal_entries"`
	Aside     string `json:"aside,omitempty"` // where the queue is that was there before
	// Unopened is why what is sealed was counted and not opened; "" when it was opened.
	Unopened string `json:"unopened,omitempty"`
	// Damaged are the things that cannot be read, by name.
	Damaged []string `json:"damaged"`
}

// lookThrough opens a queue, with its keys when they are there, and reads it through. It
// destroys no keys: those of what is not in a restored queue may be another's.
func lookThrough(ctx context.Context, cfg *config.Config, log *slog.Logger) (*census, error) {
	disk, err := pebblestore.Open(pebblestore.Options{Dir: cfg.QueueDir(), KeyDir: cfg.KeyDir(), Guest: true, Logger: log})
	if err != nil {
		return nil, err
	}
	v, c := &vault{store: disk, disk: disk}, &census{Damaged: []string{}}
	mark, err := seal.RingOf(ctx, disk)
	if err == nil && mark != "" {
		if err := v.look(cfg, mark, c.damaged, log); err != nil {
			c.Unopened = strings.TrimPrefix(err.Error(), "seal: ")
		}
	}
	if err == nil {
		err = c.take(ctx, v.store)
	}
	return c, errors.Join(err, v.close())
}

// look puts the seal in front of the store for reading.
func (v *vault) look(cfg *config.Config, mark string, damaged func(*seal.Damage), log *slog.Logger) error {
	ring, err := seal.OpenRing(ringOptions(cfg, mark, seams{log: log}))
	if err != nil {
		return err
	}
	sealed, err := seal.New(v.store, ring, seal.Options{Logger: log, Damaged: damaged, Still: true})
	if err != nil {
		return errors.Join(err, ring.Close())
	}
	v.store, v.sealed, v.ring = sealed, sealed, ring
	return nil
}

// damaged hears of what the seal leaves out: of rows and bodies the reader hears himself.
func (c *census) damaged(d *seal.Damage) {
	if d.Thing() == "entry" {
		c.harm("%s", strings.TrimPrefix(d.Error(), "seal: "))
	}
}

func (c *census) harm(format string, args ...any) {
	c.Damaged = append(c.Damaged, fmt.Sprintf(format, args...))
}

// take reads a queue through, bodies and journal too.
func (c *census) take(ctx context.Context, store queue.Store) error {
	last := queue.ID("")
	err := store.Scan(ctx, queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		c.Envelopes++
		c.row(&it.Row)
		if it.Row.Message == last {
			return nil
		}
		last = it.Row.Message
		c.Messages++
		n, err := readBody(ctx, store, last)
		if c.Octets += n; err != nil {
			c.harm("message %s: body: %v", last, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return store.Scan(ctx, queue.ScanQuery{Kind: queue.ScanJournal}, func(it queue.Item) error {
		if c.Entries++; c.Unopened == "" && !json.Valid(it.Entry) {
			c.harm("journal entry %s", it.Pos)
		}
		return nil
	})
}

// row looks at one envelope and its message's record.
func (c *census) row(r *queue.Row) {
	var m queue.Message
	var e queue.Envelope
	err := r.Damage
	if err == nil && c.Unopened == "" {
		err = errors.Join(json.Unmarshal(r.Data, &e), json.Unmarshal(r.Record, &m))
	}
	if err != nil {
		c.harm("envelope %s: %v", r.Message.EnvelopeID(r.Number), err)
	}
}

func readBody(ctx context.Context, store queue.Store, id queue.ID) (int64, error) {
	b, err := store.Body(ctx, id)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, b)
	if err == nil && n != b.Size() {
		err = fmt.Errorf("%d octets of %d", n, b.Size())
	}
	return n, errors.Join(err, b.Close())
}

func (c *census) show(out io.Writer) error {
	if c.Aside != "" {
		fmt.Fprintf(out, "moved aside: %s\n", c.Aside)
	}
	for _, d := range c.Damaged {
		fmt.Fprintf(out, "damaged: %s\n", d)
	}
	how := "all read through"
	if c.Unopened != "" {
		fmt.Fprintf(out, "it is sealed, and was not opened: %s\n", c.Unopened)
		how = "all read, none opened"
	}
	_, err := fmt.Fprintf(out, "restored: %d messages (%s), %d envelopes, %d journal entries; %s, %d damaged\n",
		c.Messages, octets(c.Octets), c.Envelopes, c.Entries, how, len(c.Damaged))
	return err
}
