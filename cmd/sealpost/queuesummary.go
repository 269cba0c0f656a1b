package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sealpost/sealpost/queue"
)

type queueSummaryCmd struct {
	queueFilter
	By   string `help:"Group by domain, reason, host, credential, stream, tag or state." default:"domain"`
	Top  int    `help:"So many groups, the largest ones." default:"10"`
	JSON bool   `help:"As JSON."`
}

// Run counts.
func (c *queueSummaryCmd) Run(ctx context.Context, s streams, parent *queueCmd) error {
	return summarize(ctx, s, parent, summaryOrder{in: queue.Inquiry{Filter: c.filter(), By: c.By, Top: c.Top}, json: c.JSON})
}

// summaryOrder is what is counted, and how it is shown.
type summaryOrder struct {
	in   queue.Inquiry
	json bool
	dry  bool // what the verb would mean
}

func summarize(ctx context.Context, s streams, parent *queueCmd, o summaryOrder) error {
	client, err := parent.client()
	if err != nil {
		return err
	}
	v, err := client.Survey(ctx, o.in)
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(s.out)
		if !o.dry {
			return enc.Encode(v)
		}
		return enc.Encode(struct {
			Verb    queue.Verb `json:"verb"`
			Matched int        `json:"matched"`
			DryRun  bool       `json:"dry_run"`
			queue.Survey
		}{o.in.Verb, v.Envelopes, true, v})
	}
	if o.dry {
		fmt.Fprintf(s.out, "%d envelopes would be meant by %s\n", v.Envelopes, o.in.Verb)
	}
	return showSurvey(s.out, &v)
}

func showSurvey(out io.Writer, v *queue.Survey) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "envelopes\t%d\t(waiting %d, leased %d, held %d)\nmessages\t%d\t%s\nrecipients\t%d\t\n", v.Envelopes,
		v.States["waiting"], v.States["leased"], v.States["held"], v.Messages, octets(v.Octets), v.Recipients)
	if n := v.States["damaged"]; n > 0 {
		fmt.Fprintf(w, "damaged\t%d\t(cannot be read)\n", n)
	}
	if v.Envelopes > 0 {
		fmt.Fprintf(w, "oldest\t%s\t\n\nENVELOPES\tRECIPIENTS\tOLDEST\tBY %s\n", since(v.Oldest), v.By)
	}
	for _, g := range v.Top {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", g.Envelopes, g.Recipients, since(g.Oldest), orDash(g.Name))
	}
	if v.Others > 0 {
		fmt.Fprintf(w, "%d\t\t\tothers\n", v.Others)
	}
	if v.Slack > 0 {
		fmt.Fprintf(w, "(there are very many groups: a count may be too high by %d)\n", v.Slack)
	}
	return w.Flush()
}

// octets writes a size with one unit.
func octets(n int64) string {
	const unit = 1 << 10
	switch {
	case n < unit:
		return fmt.Sprintf("%d octets", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MiB", float64(n)/unit/unit)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/unit/unit/unit)
}
