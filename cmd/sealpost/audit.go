package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/queue/seal"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// auditCmd answers questions about the journal.
type auditCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	List    auditListCmd    `cmd:"" default:"withargs" help:"Who was sent what, when, and how well protected: one line for each recipient."`
	Summary auditSummaryCmd `cmd:"" help:"Count the same by outcome and level, and by domain."`
	Verify  auditVerifyCmd  `cmd:"" help:"Prove that the journal is as it was written, and name the first entry that is not."`
}

// Help is the long text.
func (c *auditCmd) Help() string {
	return `The journal keeps what became of every recipient for queue.journal_retention (and below queue.journal_max_size). The running relay is asked; when none runs, its data directory is read. Who asks for addresses reads personal data: the question goes into the journal (by whom, how many lines; no address).

What went out weaker than authenticated in the last week:

    sealpost audit --below verified --since 7d
    sealpost audit summary --below verified --since 7d

Everything for one recipient's domain in November, for a spreadsheet:

    sealpost audit --domain shop.example --since 2026-11-01 --until 2026-12-01 --outcome all --format csv

Each recipient has exactly one line that is delivered, bounced, expired or dropped; deferred is a line for each try that came to nothing. What was erased has lines without addresses.`
}

// auditFilter says about whom and what.
type auditFilter struct {
	Below      string    `help:"Only what was protected less than that level: dane, mta-sts, verified, encrypted or legacy." placeholder:"LEVEL"`
	Since      timePoint `help:"From that time on: an age such as 7d or 90m, a day such as 2026-11-01, or a time as in RFC 3339." placeholder:"TIME"`
	Until      timePoint `help:"Before that time." placeholder:"TIME"`
	Domain     string    `help:"Recipient domain, or .domain for all below it."`
	Sender     string    `help:"Envelope sender: an address, @domain, or <>."`
	Recipient  string    `help:"Recipient: an address or @domain."`
	Credential string    `help:"Who submitted it."`
	Stream     string    `help:"Stream of the message (Sealpost-Stream)."`
	Outcome    []string  `help:"What became of it: delivered, bounced, expired, dropped, deferred, or all; several with commas." default:"delivered"`
}

// timePoint is a time that may be given as an age.
type timePoint time.Time

// UnmarshalText reads "7d", "2026-11-01" (local midnight) or RFC 3339.
func (t *timePoint) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateTime, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, string(b), time.Local); err == nil {
			*t = timePoint(at)
			return nil
		}
	}
	var a age
	if err := a.UnmarshalText(b); err != nil {
		return fmt.Errorf("%q is no time: use an age such as 7d or 90m, a day such as 2026-11-01, or 2026-11-01T08:00:00Z", b)
	}
	*t = timePoint(time.Now().Add(-time.Duration(a)))
	return nil
}

func (f *auditFilter) filter() (q queue.AuditFilter, err error) {
	q = queue.AuditFilter{
		Since: time.Time(f.Since), Until: time.Time(f.Until), Domain: f.Domain, Sender: f.Sender, Recipient: f.Recipient,
		Credential: f.Credential, Stream: f.Stream, Outcomes: f.Outcome,
	}
	if f.Below != "" {
		if q.Below, err = policy.ParseLevel(f.Below); err != nil {
			return q, &exitError{exitUsage, fmt.Errorf("--below: %w", err)}
		}
	}
	if len(f.Outcome) == 1 && f.Outcome[0] == "all" {
		q.Outcomes = queue.AuditOutcomes()
	}
	return q, nil
}

// each calls fn for every line, from the running relay or from its data directory.
func (c *auditCmd) each(ctx context.Context, f queue.AuditFilter, fn func(queue.AuditLine) error) error {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return err
	}
	err = httpapi.NewClient(adminSocket(cfg)).Audit(ctx, f, fn)
	if errors.Is(err, httpapi.ErrNotRunning) {
		err = auditAlone(ctx, cfg, f, fn)
	}
	var bad *queue.FilterError
	if errors.As(err, &bad) {
		return &exitError{exitUsage, err}
	}
	return err
}

// auditAlone reads the journal where no relay runs. Nothing is written: not in the data
// directory and not among the keys.
func auditAlone(ctx context.Context, cfg *config.Config, f queue.AuditFilter, fn func(queue.AuditLine) error) (err error) {
	if _, err := os.Stat(cfg.QueueDir()); err != nil {
		return fmt.Errorf("no relay runs, and there is no queue: %w: give the relay's --config", err)
	}
	disk, err := pebblestore.Inspect(pebblestore.Options{Dir: cfg.QueueDir()})
	if err != nil {
		return &exitError{exitStorage, fmt.Errorf("sealpost: the storage cannot be used: %w", err)}
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	mark, err := seal.RingOf(ctx, disk)
	switch {
	case err != nil:
		return &exitError{exitStorage, fmt.Errorf("sealpost: the storage cannot be used: %w", err)}
	case mark != "" && !cfg.Queue.Encryption.Enabled:
		return sealedButPlain(cfg, mark)
	}
	look, err := seal.LookAt(ctx, disk, ringOptions(cfg, mark, seams{}), seal.Options{RefusePlain: cfg.Queue.Encryption.RefusePlain})
	if err != nil {
		return &exitError{exitStorage, fmt.Errorf("sealpost: the keys cannot be used: %w", err)}
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	return queue.Audit(ctx, look, f, fn)
}

type auditListCmd struct {
	auditFilter
	Limit  int    `help:"At most so many lines."`
	Format string `enum:"table,csv,json" default:"table" help:"table, csv (with a header) or json (one object a line)."`
	JSON   bool   `help:"The same as --format json."`
}

// Run prints lines as they come: a long journal needs no memory here.
func (c *auditListCmd) Run(ctx context.Context, s streams, parent *auditCmd) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	f.Limit = c.Limit
	if c.JSON {
		c.Format = "json"
	}
	switch c.Format {
	case "json":
		enc := json.NewEncoder(s.out)
		return parent.each(ctx, f, func(l queue.AuditLine) error { return enc.Encode(l) })
	case "csv":
		w := csv.NewWriter(s.out)
		if err := w.Write(auditColumns()); err != nil {
			return err
		}
		err := parent.each(ctx, f, func(l queue.AuditLine) error { return w.Write(auditRecord(&l)) })
		w.Flush()
		return errors.Join(err, w.Error())
	}
	n := 0
	err = parent.each(ctx, f, func(l queue.AuditLine) error {
		if n++; n == 1 {
			fmt.Fprintf(s.out, "%-19s %-9s %-9s %-32s %-28s %-11s %-14s %s\n", "TIME", "OUTCOME", "LEVEL", "RECIPIENT", "HOST OR REASON", "WANTED BY", "CREDENTIAL", "ENVELOPE")
		}
		_, err := fmt.Fprintf(s.out, "%-19s %-9s %-9s %-32s %-28s %-11s %-14s %s\n", l.At.Local().Format(time.DateTime), l.Outcome,
			levelWord(l.Level), orDash(l.Recipient.String()), hostOrReason(&l), basisWord(l.Basis), orDash(l.Credential), l.Envelope)
		return err
	})
	if err == nil && n == 0 {
		_, err = fmt.Fprintln(s.out, "nothing in the journal matches")
	}
	return err
}

func levelWord(l policy.Level) string {
	if l == policy.Unset {
		return "-"
	}
	return l.String()
}

func basisWord(b policy.Basis) string {
	if b == policy.BasisUnset {
		return "-"
	}
	return b.String()
}

func hostOrReason(l *queue.AuditLine) string {
	if l.Reason != policy.ReasonUnset {
		return l.Reason.String()
	}
	return orDash(string(l.Host))
}

// auditColumns are the columns of CSV, which only grow at the end.
func auditColumns() []string {
	return []string{"time", "outcome", "level", "recipient", "domain", "mx", "wanted", "basis", "rule", "reason", "code", "status",
		"sender", "credential", "stream", "tag", "size", "message", "envelope", "tries", "accepted"}
}

func auditRecord(l *queue.AuditLine) []string {
	word := func(s string) string { return strings.TrimPrefix(s, "-") }
	reason, code := "", ""
	if l.Reason != policy.ReasonUnset {
		reason = l.Reason.String()
	}
	if l.Code != 0 {
		code = strconv.Itoa(l.Code)
	}
	return []string{l.At.UTC().Format(time.RFC3339Nano), l.Outcome, word(levelWord(l.Level)), harmless(l.Recipient.String()), string(l.Domain),
		string(l.Host), word(levelWord(l.Wanted)), word(basisWord(l.Basis)), harmless(l.Rule), reason, code, l.Status,
		harmless(l.Sender.String()), harmless(l.Credential), harmless(l.Stream), harmless(l.Tag), strconv.FormatInt(l.Size, 10),
		string(l.Message), string(l.Envelope), strconv.Itoa(l.Tries), l.AcceptedAt.UTC().Format(time.RFC3339Nano)}
}

// harmless keeps a spreadsheet from taking a stranger's text for a formula.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
