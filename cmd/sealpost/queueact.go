package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sealpost/sealpost/queue"
)

// queueAct is a verb over a filter.
type queueAct struct {
	queueFilter
	Limit  int  `help:"At most so many."`
	DryRun bool `help:"Only count."`
	All    bool `help:"Needed when no filter is given."`
	JSON   bool `help:"As JSON."`
}

func (c *queueAct) run(ctx context.Context, s streams, parent *queueCmd, verb queue.Verb) error {
	f := c.filter()
	f.Limit = c.Limit
	if (f == queue.Filter{}) && !c.All {
		return &exitError{exitUsage, fmt.Errorf("no filter: name what to %s (--id, --domain, --sender, ...), or say --all", verb)}
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	if c.DryRun {
		return summarize(ctx, s, parent, summaryOrder{in: queue.Inquiry{Filter: f, Verb: verb}, json: c.JSON, dry: true})
	}
	// An interrupt ends the work after what is in hand, and what was done is said.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	live := newLive(s.err)
	p, err := client.Do(ctx, queue.Order{Action: queue.Action{Verb: verb}, Filter: f, Tell: func(p queue.Progress) {
		live.show(fmt.Sprintf("%s: %d envelopes, %s looked through", verb, p.Done, share(p)))
	}})
	live.clear()
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted: %s was done to %d envelopes at least (the journal has the exact number)", verb, p.Done)
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(map[string]any{"verb": verb, "matched": p.Done, "dry_run": false})
	}
	hint := ""
	if p.Done == 0 && verb == queue.VerbRetry {
		hint = " (held ones need release)"
	}
	_, err = fmt.Fprintf(s.out, "%s: %d envelopes%s\n", verb, p.Done, hint)
	return err
}

// share is how much of the queue was looked through.
func share(p queue.Progress) string {
	if p.Total <= 0 {
		return fmt.Sprintf("%d", p.Scanned)
	}
	return fmt.Sprintf("%d%%", min(100, 100*p.Scanned/p.Total))
}

// live is a line that is written over and over, for a person at a terminal; nobody
// else sees it.
type live struct {
	w     io.Writer // nil: nobody looks
	width int
}

func newLive(w io.Writer) *live {
	f, ok := w.(*os.File)
	if !ok {
		return &live{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &live{}
	}
	return &live{w: f}
}

func (l *live) show(text string) {
	if l.w != nil {
		fmt.Fprintf(l.w, "\r%-*s", l.width, text)
		l.width = max(l.width, len(text))
	}
}

func (l *live) clear() {
	if l.w != nil && l.width > 0 {
		fmt.Fprint(l.w, "\r"+strings.Repeat(" ", l.width)+"\r")
	}
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
