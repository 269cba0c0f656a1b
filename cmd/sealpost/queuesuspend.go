package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// destination is what a suspension is of.
type destination struct {
	Domain string `help:"Recipient domain, or .domain for all below it."`
	All    bool   `help:"All mail."`
	JSON   bool   `help:"As JSON."`
}

func (d *destination) target() (string, error) {
	switch {
	case d.All && d.Domain != "":
		return "", &exitError{exitUsage, errors.New("sealpost: --domain and --all are both given: leave one of them out")}
	case d.All:
		return queue.Everything, nil
	case d.Domain == "":
		return "", &exitError{exitUsage, errors.New("sealpost: no destination: name a --domain (.domain for all below it), or say --all")}
	}
	return d.Domain, nil
}

type queueSuspendCmd struct {
	destination
	Reason string   `help:"Why, for the list, the log and the journal." placeholder:"TEXT"`
	For    age      `help:"For how long, such as 2h or 3d; else until it is resumed." placeholder:"AGE"`
	Until  deadline `help:"Until when: 2026-12-24T18:00:00Z, \"2026-12-24 18:00\" or 2026-12-24 in local time." placeholder:"TIME"`
}

// deadline is a time to come as a person writes it.
type deadline struct{ time.Time }

// UnmarshalText reads a time with its zone, or a local one.
func (d *deadline) UnmarshalText(b []byte) (err error) {
	if d.Time, err = time.Parse(time.RFC3339, string(b)); err == nil {
		return nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", time.DateOnly} {
		if d.Time, err = time.ParseInLocation(layout, string(b), time.Local); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q is no time: use for example 2026-12-24T18:00:00Z or \"2026-12-24 18:00\"", b)
}

// Run suspends.
func (c *queueSuspendCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	x := queue.Suspension{Reason: c.Reason, Until: c.Until.Time}
	var err error
	if x.Target, err = c.target(); err != nil {
		return err
	}
	if c.For > 0 {
		if !x.Until.IsZero() {
			return &exitError{exitUsage, errors.New("sealpost: --for and --until are both given: leave one of them out")}
		}
		x.Until = time.Now().Add(time.Duration(c.For))
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	if x, err = client.Suspend(ctx, x); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(x)
	}
	_, err = fmt.Fprintf(s.out, "suspended: %s (attempts that fly go on; mail is accepted and kept, and its time goes on)\n", suspensionWords(&x))
	return err
}

// suspensionWords say what is suspended, how long and why.
func suspensionWords(x *queue.Suspension) string {
	words := targetWords(x.Target)
	if x.Until.IsZero() {
		words += " until it is resumed"
	} else {
		words += " until " + onDate(x.Until)
	}
	if x.Reason != "" {
		words += ": " + x.Reason
	}
	return words
}

func targetWords(target string) string {
	switch {
	case target == queue.Everything:
		return "all mail"
	case target[0] == '.':
		return "all domains below " + target[1:]
	}
	return target
}

type queueResumeCmd struct{ destination }

// Run resumes.
func (c *queueResumeCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	ended, err := client.Resume(ctx, target)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(ended)
	}
	for _, x := range ended {
		if _, err := fmt.Fprintf(s.out, "resumed: %s\n", targetWords(x.Target)); err != nil {
			return err
		}
	}
	return nil
}

type queueSuspensionsCmd struct {
	JSON bool `help:"As JSON."`
}

// Run lists what is suspended.
func (c *queueSuspensionsCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	client, err := parent.client()
	if err != nil {
		return err
	}
	list, err := client.Suspensions(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(list)
	}
	if len(list) == 0 {
		_, err = fmt.Fprintln(s.out, "nothing is suspended")
		return err
	}
	fmt.Fprintf(s.out, "%-32s %-6s %-22s %-20s %s\n", "DESTINATION", "SINCE", "UNTIL", "BY", "REASON")
	for i := range list {
		x := &list[i]
		until := "resumed"
		if !x.Until.IsZero() {
			until = onDate(x.Until)
		}
		target := x.Target
		if target == queue.Everything {
			target = "(all mail)"
		}
		if _, err := fmt.Fprintf(s.out, "%-32s %-6s %-22s %-20s %s\n", target, since(x.Since), until, orDash(x.By), orDash(x.Reason)); err != nil {
			return err
		}
	}
	return nil
}

// suspensionOver is the suspension that mail to a domain is under; nil when there is none.
func suspensionOver(list []queue.Suspension, d policy.Domain) *queue.Suspension {
	for i := range list {
		if list[i].Covers(d) {
			return &list[i]
		}
	}
	return nil
}

// suspensionWarnings are what the status page says of suspensions. The operator's reason is
// left out: the page is for everybody who may open it.
func suspensionWarnings(list []queue.Suspension) (warnings []string) {
	const shown = 5
	for i := range list {
		if i == shown {
			return append(warnings, fmt.Sprintf("%d more destinations are suspended: see sealpost queue suspensions.", len(list)-shown))
		}
		x := list[i]
		x.Reason = ""
		warnings = append(warnings, "Deliveries are suspended: "+suspensionWords(&x)+".")
	}
	return warnings
}
