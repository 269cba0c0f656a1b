package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// personArgs are what erase and export have in common.
type personArgs struct {
	Address string `arg:"" help:"Mail address of the person. Its local part counts in upper and lower case."`
	JSON    bool   `help:"As JSON."`
	Config  string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`
}

func (c *personArgs) read() (*config.Config, queue.Address, error) {
	a, err := queue.ParseAddress(c.Address)
	if err == nil && a.IsNull() {
		err = errors.New("address: empty; give the person's mail address")
	}
	if err != nil {
		return nil, a, &exitError{exitUsage, fmt.Errorf("sealpost: %w", err)}
	}
	cfg, err := loadConfig(c.Config, io.Discard)
	return cfg, a, err
}

// withQueue opens the queue of a relay that does not run, for one piece of work. The lock on
// the store says that none does.
func withQueue(cfg *config.Config, log streams, work func(*queue.Queue) error) (err error) {
	v, err := openVault(cfg, vaultOptions{seams: seams{log: newLog(log.err).Logger}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	q, err := queue.New(queue.Options{Store: v.store})
	if err != nil {
		return err
	}
	return work(q)
}

// standIn is who does what no relay does for it: the journal's word for the caller.
func standIn() string { return fmt.Sprintf("sealpost, uid %d", os.Getuid()) }

// nothingHeld is how a search for nobody ends: exit code 1.
func nothingHeld(a queue.Address) error {
	return fmt.Errorf("nothing is held of <%s>: no waiting mail, no entry of the journal", a)
}

type eraseCmd struct {
	personArgs
	DryRun bool `help:"Only say what would be erased."`
}

// Run has the running relay erase a person, or does it itself.
func (c *eraseCmd) Run(ctx context.Context, s streams) error {
	cfg, a, err := c.read()
	if err != nil {
		return err
	}
	news := func(n httpapi.ErasureNews) { fmt.Fprintln(s.err, newsLine(n)) }
	res, err := httpapi.NewClient(adminSocket(cfg)).Erase(ctx, a, c.DryRun, news)
	if errors.Is(err, httpapi.ErrNotRunning) {
		err = withQueue(cfg, s, func(q *queue.Queue) (err error) {
			o := queue.EraseOptions{DryRun: c.DryRun, By: standIn(), News: func(what string, seen, hit int) { news(httpapi.ErasureNews{What: what, Seen: seen, Hit: hit}) }}
			if res, err = q.Erase(ctx, a, o); errors.Is(err, queue.ErrNobody) {
				err = nil
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	found := res.Messages+res.Envelopes+res.Entries+res.Plain > 0 || res.Done
	if c.JSON {
		if err := json.NewEncoder(s.out).Encode(res); err != nil {
			return err
		}
	} else if found {
		c.report(s.out, a, res, cfg)
	}
	if found {
		return nil
	}
	for _, r := range res.Before {
		fmt.Fprintln(s.err, receiptLine(&r))
	}
	return nothingHeld(a)
}

func newsLine(n httpapi.ErasureNews) string {
	switch n.What {
	case "queue":
		return fmt.Sprintf("%d waiting envelopes looked at, %d are meant", n.Seen, n.Hit)
	case "journal":
		return fmt.Sprintf("%d entries of the journal looked at, %d name the address", n.Seen, n.Hit)
	case "delivery":
		return "an envelope is in delivery: waiting for its end"
	default:
		return fmt.Sprintf("%d stand-ins written", n.Seen)
	}
}

func receiptLine(r *queue.ErasureReceipt) string {
	return fmt.Sprintf("erased before: receipt %s of %s", r.ID, r.At.Local().Format(time.DateTime))
}

// report is the receipt, and what remains.
func (c *eraseCmd) report(out io.Writer, a queue.Address, e *queue.Erasure, cfg *config.Config) {
	if e.DryRun {
		fmt.Fprintf(out, "<%s>: %d waiting envelopes and %d entries of the journal would be erased\n", a, e.Envelopes, e.Entries)
	} else {
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintf(w, "erased\t<%s>\n", a)
		fmt.Fprintf(w, "receipt\t%s\n", e.ID)
		fmt.Fprintf(w, "time\t%s\n", e.At.Format(time.RFC3339))
		fmt.Fprintf(w, "waiting mail\t%d envelopes of %d messages, dropped without a notice\n", e.Envelopes, e.Messages)
		fmt.Fprintf(w, "journal\t%d entries destroyed, %d kept without the address\n", e.Entries, e.StandIns)
		fmt.Fprintf(w, "keys\tdestroyed; generation %d began\n", e.Generation)
		_ = w.Flush() // into the same writer as the lines that follow
	}
	for _, line := range remains(e, cfg) {
		fmt.Fprintln(out, "remains:", line)
	}
}

// remains is what an operator must know of what an erasure does not reach.
func remains(e *queue.Erasure, cfg *config.Config) []string {
	var list []string
	after := duration(cfg.Queue.Encryption.EraseAfter)
	if e.Waiting > 0 {
		list = append(list, fmt.Sprintf("%d messages go on for other recipients; their content, and older forms of their envelopes on disk, can name the address until %s after they are gone", e.Waiting, after))
	}
	if e.Plain > 0 {
		list = append(list, fmt.Sprintf("%d entries of the journal from before encryption name it; they go when they are %s old", e.Plain, duration(cfg.Queue.JournalRetention)))
	}
	if e.Unreadable > 0 {
		list = append(list, fmt.Sprintf("%d damaged envelopes cannot be read, so nobody knows whom they name: sealpost queue list --state damaged", e.Unreadable))
	}
	return append(list, "the content of other mail that waits, a bounce say, can name it until "+after+" after that is gone",
		"a copy of the key directory from before, with a copy of the queue, opens what was erased here; logs and mailboxes elsewhere are not ours")
}

type exportCmd struct{ personArgs }

// Run shows what is held of a person.
func (c *exportCmd) Run(ctx context.Context, s streams) error {
	cfg, a, err := c.read()
	if err != nil {
		return err
	}
	n, enc := 0, json.NewEncoder(s.out)
	show := func(h queue.Holding) error {
		n++
		if c.JSON {
			return enc.Encode(h)
		}
		_, err := fmt.Fprintln(s.out, holdingLine(&h))
		return err
	}
	err = httpapi.NewClient(adminSocket(cfg)).Export(ctx, a, show)
	if errors.Is(err, httpapi.ErrNotRunning) {
		err = withQueue(cfg, s, func(q *queue.Queue) error { return q.Export(ctx, a, show) })
	}
	if err == nil && n == 0 || errors.Is(err, queue.ErrNobody) {
		return nothingHeld(a)
	}
	return err
}

// holdingLine is one thing for a person to read; --json has all of it.
func holdingLine(h *queue.Holding) string {
	at := func(t time.Time) string { return t.Local().Format(time.DateTime) }
	switch {
	case h.Envelope != nil:
		e := h.Envelope
		line := fmt.Sprintf("%s  waiting   %s from <%s>", at(e.Message.AcceptedAt), e.Envelope.ID, e.Message.Sender)
		for _, r := range e.Envelope.Recipients {
			line += fmt.Sprintf(" to <%s> (%s)", r.Address, r.State)
		}
		return line
	case h.Erasure != nil:
		return fmt.Sprintf("%s  %s", at(h.Erasure.At), receiptLine(h.Erasure))
	}
	j := h.Entry
	kind := j.Kind
	if j.Was != "" {
		kind = j.Was
	}
	line := fmt.Sprintf("%s  %-8s  %s from <%s>", at(j.At), kind, j.Message, j.Sender)
	for _, r := range j.Recipients {
		line += fmt.Sprintf(" to <%s>", r.Address)
		if j.Kind != queue.EntryAccepted {
			line += fmt.Sprintf(" (%s, level %s)", r.State, levelOrDash(r.Level))
		}
	}
	return line
}
