package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

type queueShowCmd struct {
	ID   string `arg:"" help:"Message or envelope ID."`
	JSON bool   `help:"As JSON."`
}

// Run shows a message, recipients included: the operator asked for this one.
func (c *queueShowCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	if strings.TrimSpace(c.ID) == "" {
		return errors.New("the ID is empty: give that of a message or an envelope, as sealpost queue list shows it")
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	id := queue.ID(c.ID)
	if message, _, err := queue.EnvelopeID(c.ID).Split(); err == nil {
		id = message
	}
	entries, err := client.Show(ctx, id)
	if err != nil {
		return err
	}
	var attempts []relay.Attempt
	err = client.Attempts(ctx, id, func(raw json.RawMessage) error {
		var a relay.Attempt
		if err := json.Unmarshal(raw, &a); err != nil {
			return err
		}
		attempts = append(attempts, a)
		return nil
	})
	if err != nil {
		return err
	}
	suspensions, err := client.Suspensions(ctx)
	if err != nil {
		return err
	}
	suspensions = slices.DeleteFunc(suspensions, func(x queue.Suspension) bool {
		return !slices.ContainsFunc(entries, func(e queue.Entry) bool { return x.Covers(e.Envelope.Lane) })
	})
	if c.JSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"envelopes": entries, "attempts": attempts, "suspensions": suspensions})
	}
	if len(entries) == 0 {
		return errors.New("no such message")
	}
	return showMessage(s.out, entries, attempts, suspensions)
}

func showMessage(out io.Writer, entries []queue.Entry, attempts []relay.Attempt, suspensions []queue.Suspension) error {
	m := &entries[0].Message
	for i := range entries {
		if entries[i].State != queue.RowDamaged {
			m = &entries[i].Message
		}
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "message\t%s\naccepted\t%s (%s ago)\nfrom\t<%s>\ncredential\t%s\nsize\t%d octets\n", m.ID,
		m.AcceptedAt.Local().Format(time.DateTime), since(m.AcceptedAt), m.Sender, orDash(m.Credential), m.Size)
	if m.Floor != 0 {
		fmt.Fprintf(w, "own floor\t%s\n", m.Floor)
	}
	for i := range entries {
		e := &entries[i]
		if e.State == queue.RowDamaged {
			fmt.Fprintf(w, "\nenvelope\t%s\nstate\t%s\nwhy\t%s\nto do\tput back what is missing, or: sealpost queue drop --id %s\n", e.Envelope.ID, e.State, e.Damage, e.Envelope.ID)
			continue
		}
		fmt.Fprintf(w, "\nenvelope\t%s\ndomain\t%s\nstate\t%s\ntries\t%d\nnext\t%s\n", e.Envelope.ID, e.Envelope.Lane, e.State, e.Envelope.Tries, next(*e))
		for i := range suspensions {
			if x := &suspensions[i]; x.Covers(e.Envelope.Lane) {
				fmt.Fprintf(w, "suspended\t%s\n", suspensionWords(x))
			}
		}
		for _, r := range e.Envelope.Recipients {
			fmt.Fprintf(w, "to\t<%s>\t%s\t%s\n", r.Address, r.State, lastWord(r.Last))
		}
	}
	for i := range attempts {
		showAttempt(w, &attempts[i])
	}
	return w.Flush()
}

func lastWord(o *queue.Outcome) string {
	switch {
	case o == nil:
		return "not tried yet"
	case o.Failure != nil:
		return o.Failure.Code() + " " + o.Failure.Error()
	default:
		return "taken by " + string(o.Host) + " at level " + o.Level.String()
	}
}

func showAttempt(w io.Writer, a *relay.Attempt) {
	fmt.Fprintf(w, "\nattempt %d\t%s\twanted %s (%s), achieved %s\n", a.Tries, a.At.Local().Format(time.DateTime), a.Wanted, a.Basis, a.Achieved)
	for _, t := range a.Trace {
		said := "ok"
		if t.Reason != 0 {
			said = t.Reason.English()
		}
		fmt.Fprintf(w, "\t%s\t%s\t%s\n", t.Host, t.Rung, said)
	}
	if a.Failure != nil {
		fmt.Fprintf(w, "\t%s\n", a.Failure.Error())
	}
	fmt.Fprintf(w, "in short\t%s\n", a.Summary())
}
