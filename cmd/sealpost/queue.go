package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// queueCmd works on the queue of a running relay, over its admin socket.
type queueCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	List    queueListCmd    `cmd:"" help:"List envelopes: one line each."`
	Summary queueSummaryCmd `cmd:"" help:"Count the matching envelopes, by domain, reason, host, credential, stream, tag or state."`
	Show    queueShowCmd    `cmd:"" help:"Show a message: its envelopes, recipients and latest attempts."`
	Retry   queueRetryCmd   `cmd:"" help:"Try the matching envelopes now."`
	Hold    queueHoldCmd    `cmd:"" help:"Keep the matching envelopes from being tried."`
	Release queueReleaseCmd `cmd:"" help:"Let held envelopes be tried again."`
	Drop    queueDropCmd    `cmd:"" help:"Remove the matching envelopes for good, without a notice to the sender."`

	Suspend     queueSuspendCmd     `cmd:"" help:"Keep mail to a destination from being tried, for a time or until it is resumed."`
	Resume      queueResumeCmd      `cmd:"" help:"End a suspension."`
	Suspensions queueSuspensionsCmd `cmd:"" help:"List what is suspended."`

	Backup  queueBackupCmd  `cmd:"" help:"Write a backup of the queue, or verify one."`
	Restore queueRestoreCmd `cmd:"" help:"Put a backup in the place of the queue of a relay that is stopped."`
}

// client connects to the relay's admin socket.
func (c *queueCmd) client() (*httpapi.Client, error) {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return nil, err
	}
	return httpapi.NewClient(adminSocket(cfg)), nil
}

type queueListCmd struct {
	queueFilter
	Limit int    `help:"At most so many."`
	After string `help:"Go on behind the last envelope of the page before: its cursor." placeholder:"CURSOR"`
	Count bool   `help:"Only count, by domain: as summary does."`
	JSON  bool   `help:"One JSON object a line."`
}

// Run lists envelopes as they come: a long queue needs no memory here.
func (c *queueListCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	f := c.filter()
	f.Limit, f.After = c.Limit, c.After
	if c.Count {
		return summarize(ctx, s, parent, summaryOrder{in: queue.Inquiry{Filter: f}, json: c.JSON})
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		return client.List(ctx, f, func(e queue.Entry) error { return enc.Encode(e) })
	}
	n, cursor := 0, ""
	err = client.List(ctx, f, func(e queue.Entry) error {
		if n++; n == 1 {
			fmt.Fprintf(s.out, "%-30s %-8s %6s %5s %-10s %-28s %s\n", "ENVELOPE", "STATE", "AGE", "TRIES", "NEXT", "DOMAIN", "LAST REASON")
		}
		cursor = e.Cursor
		_, err := fmt.Fprintf(s.out, "%-30s %-8s %6s %5d %-10s %-28s %s\n", e.Envelope.ID, e.State, since(e.Message.AcceptedAt),
			e.Envelope.Tries, next(e), orDash(string(e.Envelope.Lane)), lastReason(&e))
		return err
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		_, err = fmt.Fprintln(s.out, "no envelope matches")
	case n == c.Limit && cursor != "":
		_, err = fmt.Fprintf(s.err, "there may be more: --after %s\n", cursor)
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
	case !e.Envelope.Suspended.IsZero():
		return "suspended"
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
