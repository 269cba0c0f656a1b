package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// queueCmd works on the queue of a running relay, over its admin socket.
type queueCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	List    queueListCmd    `cmd:"" help:"List envelopes: one line each."`
	Show    queueShowCmd    `cmd:"" help:"Show a message: its envelopes, recipients and latest attempts."`
	Retry   queueRetryCmd   `cmd:"" help:"Try the matching envelopes now."`
	Hold    queueHoldCmd    `cmd:"" help:"Keep the matching envelopes from being tried."`
	Release queueReleaseCmd `cmd:"" help:"Let held envelopes be tried again."`
	Drop    queueDropCmd    `cmd:"" help:"Remove the matching envelopes for good, without a notice to the sender."`
}

// client connects to the relay's admin socket.
func (c *queueCmd) client(s streams) (*httpapi.Client, error) {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return nil, err
	}
	return httpapi.NewClient(adminSocket(cfg)), nil
}

// queueFilter says which envelopes are meant.
type queueFilter struct {
	Domain    string `help:"Recipient domain, or .domain for all below it."`
	Sender    string `help:"Envelope sender: an address, @domain, or <>."`
	ID        string `name:"id" help:"Message or envelope ID."`
	State     string `enum:"waiting,leased,held,damaged,-" default:"-" help:"State: waiting, leased, held or damaged (cannot be read)."`
	Reason    string `help:"Reason of the last failure, such as connect-timeout."`
	OlderThan age    `help:"Least age since acceptance, such as 2h or 3d." placeholder:"AGE"`
	Limit     int    `help:"At most so many."`
}

// age is a duration that may be in days and weeks, as in the configuration.
type age time.Duration

// UnmarshalText reads "90s", "2h", "3d", "1w".
func (a *age) UnmarshalText(b []byte) error {
	text, unit := string(b), time.Duration(0)
	switch {
	case strings.HasSuffix(text, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(text, "w"):
		unit = 7 * 24 * time.Hour
	}
	if unit > 0 {
		n, err := strconv.Atoi(text[:len(text)-1])
		if err != nil || n < 0 {
			return fmt.Errorf("%q is no age: use a number with s, m, h, d or w, such as 2h or 3d", text)
		}
		*a = age(time.Duration(n) * unit)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no age: use a number with s, m, h, d or w, such as 2h or 3d", text)
	}
	*a = age(d)
	return nil
}

func (f *queueFilter) filter() queue.Filter {
	q := queue.Filter{ID: f.ID, Domain: f.Domain, Sender: f.Sender, Reason: f.Reason, OlderThan: time.Duration(f.OlderThan), Limit: f.Limit}
	if f.State != "-" {
		q.State = f.State
	}
	return q
}

type queueListCmd struct {
	queueFilter
	JSON bool `help:"One JSON object a line."`
}

// Run lists envelopes as they come: a long queue needs no memory here.
func (c *queueListCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	client, err := parent.client(s)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		return client.List(ctx, c.filter(), func(e queue.Entry) error { return enc.Encode(e) })
	}
	n := 0
	err = client.List(ctx, c.filter(), func(e queue.Entry) error {
		if n++; n == 1 {
			fmt.Fprintf(s.out, "%-30s %-8s %6s %5s %-10s %-28s %s\n", "ENVELOPE", "STATE", "AGE", "TRIES", "NEXT", "DOMAIN", "LAST REASON")
		}
		_, err := fmt.Fprintf(s.out, "%-30s %-8s %6s %5d %-10s %-28s %s\n", e.Envelope.ID, e.State, since(e.Message.AcceptedAt),
			e.Envelope.Tries, next(e), orDash(string(e.Envelope.Lane)), lastReason(&e))
		return err
	})
	if err == nil && n == 0 {
		_, err = fmt.Fprintln(s.out, "no envelope matches")
	}
	return err
}

func since(t time.Time) string { return short(time.Since(t)) }

// short writes a duration with one unit: operators compare orders of magnitude.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func next(e queue.Entry) string {
	switch wait := time.Until(e.Envelope.Due); {
	case e.State == queue.RowDamaged:
		return "never"
	case e.State == queue.RowHeld:
		return "held"
	case e.State == queue.RowLeased:
		return "being sent"
	case wait <= 0:
		return "now"
	default:
		return "in " + short(wait)
	}
}

func lastReason(e *queue.Entry) string {
	if e.Damage != "" {
		return e.Damage
	}
	for _, r := range e.Envelope.Recipients {
		if r.State == queue.Pending && r.Last != nil && r.Last.Failure != nil {
			return r.Last.Failure.Reason.String()
		}
	}
	return "-"
}

type queueShowCmd struct {
	ID   string `arg:"" help:"Message or envelope ID."`
	JSON bool   `help:"As JSON."`
}

// Run shows a message, recipients included: the operator asked for this one.
func (c *queueShowCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	client, err := parent.client(s)
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
	if c.JSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"envelopes": entries, "attempts": attempts})
	}
	return showMessage(s.out, entries, attempts)
}

func showMessage(out io.Writer, entries []queue.Entry, attempts []relay.Attempt) error {
	if len(entries) == 0 {
		return errors.New("no such message")
	}
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// queueAct is a verb over a filter.
type queueAct struct {
	queueFilter
	DryRun bool `help:"Only count."`
	All    bool `help:"Needed when no filter is given."`
	JSON   bool `help:"As JSON."`
}

func (c *queueAct) run(ctx context.Context, s streams, parent *queueCmd, verb queue.Verb) error {
	f := c.filter()
	if (f == queue.Filter{}) && !c.All {
		return &exitError{exitUsage, fmt.Errorf("no filter: name what to %s (--id, --domain, --sender, ...), or say --all", verb)}
	}
	client, err := parent.client(s)
	if err != nil {
		return err
	}
	n, err := client.Act(ctx, queue.Action{Verb: verb, DryRun: c.DryRun}, f)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(map[string]any{"verb": verb, "matched": n, "dry_run": c.DryRun})
	case c.DryRun:
		_, err = fmt.Fprintf(s.out, "%d envelopes would be meant by %s\n", n, verb)
	default:
		hint := ""
		if n == 0 && verb == queue.VerbRetry {
			hint = " (held ones need release)"
		}
		_, err = fmt.Fprintf(s.out, "%s: %d envelopes%s\n", verb, n, hint)
	}
	return err
}

type (
	queueRetryCmd   struct{ queueAct }
	queueHoldCmd    struct{ queueAct }
	queueReleaseCmd struct{ queueAct }
	queueDropCmd    struct{ queueAct }
)

// Run makes envelopes due now.
func (c *queueRetryCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	return c.run(ctx, s, parent, queue.VerbRetry)
}

// Run holds envelopes.
func (c *queueHoldCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	return c.run(ctx, s, parent, queue.VerbHold)
}

// Run releases envelopes.
func (c *queueReleaseCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	return c.run(ctx, s, parent, queue.VerbRelease)
}

// Run drops envelopes.
func (c *queueDropCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	return c.run(ctx, s, parent, queue.VerbDrop)
}
