package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// summaryDomains bounds the domains that are counted one by one: the rest is counted together.
const summaryDomains = 100_000

// auditSummaryCmd counts.
type auditSummaryCmd struct {
	auditFilter
	Top  int  `help:"So many domains, the largest first." default:"20"`
	JSON bool `help:"As JSON."`
}

// auditCount is how many recipients there were of a kind.
type auditCount struct {
	Outcome string        `json:"outcome,omitempty"`
	Level   policy.Level  `json:"level,omitempty"`
	Domain  policy.Domain `json:"domain,omitempty"`
	Count   int           `json:"recipients"`
}

// auditSums are the counts.
type auditSums struct {
	All      int          `json:"recipients"`
	ByLevel  []auditCount `json:"by_level"`
	ByDomain []auditCount `json:"by_domain"`
	Rest     int          `json:"other_domains"` // recipients at domains that are not listed
}

// Run counts line by line.
func (c *auditSummaryCmd) Run(ctx context.Context, s streams, parent *auditCmd) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	sums, levels, domains := auditSums{}, make(map[auditCount]int), make(map[policy.Domain]int)
	err = parent.each(ctx, f, func(l queue.AuditLine) error {
		sums.All++
		levels[auditCount{Outcome: l.Outcome, Level: l.Level}]++
		if _, known := domains[l.Domain]; known || len(domains) < summaryDomains {
			domains[l.Domain]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, n := range levels {
		k.Count = n
		sums.ByLevel = append(sums.ByLevel, k)
	}
	for d, n := range domains {
		sums.ByDomain = append(sums.ByDomain, auditCount{Domain: d, Count: n})
	}
	slices.SortFunc(sums.ByLevel, func(a, b auditCount) int {
		return cmp.Or(cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(b.Level, a.Level))
	})
	slices.SortFunc(sums.ByDomain, func(a, b auditCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Domain, b.Domain))
	})
	sums.ByDomain = sums.ByDomain[:min(max(c.Top, 0), len(sums.ByDomain))]
	sums.Rest = sums.All
	for _, d := range sums.ByDomain {
		sums.Rest -= d.Count
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(sums)
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "OUTCOME\tLEVEL\tRECIPIENTS\n")
	for _, k := range sums.ByLevel {
		fmt.Fprintf(w, "%s\t%s\t%d\n", k.Outcome, levelWord(k.Level), k.Count)
	}
	fmt.Fprintf(w, "all\t\t%d\n\nDOMAIN\t\tRECIPIENTS\n", sums.All)
	for _, k := range sums.ByDomain {
		fmt.Fprintf(w, "%s\t\t%d\n", k.Domain, k.Count)
	}
	if sums.Rest > 0 {
		fmt.Fprintf(w, "others\t\t%d\n", sums.Rest)
	}
	return w.Flush()
}
