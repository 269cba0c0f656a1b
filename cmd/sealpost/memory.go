package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// memoryCmd looks at what a running relay remembers, over its admin socket.
type memoryCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	Hosts    memoryHostsCmd    `cmd:"" help:"List what is remembered of mail exchangers: one line each."`
	Policies memoryPoliciesCmd `cmd:"" help:"List the cached MTA-STS policies: one line each."`
	Forget   memoryForgetCmd   `cmd:"" help:"Forget a mail exchanger, or a domain's MTA-STS policy."`
}

func (c *memoryCmd) client() (*httpapi.Client, error) {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return nil, err
	}
	return httpapi.NewClient(adminSocket(cfg)), nil
}

type memoryHostsCmd struct {
	JSON bool `help:"One JSON object a line."`
}

// Run lists hosts as they come.
func (c *memoryHostsCmd) Run(ctx context.Context, s streams, parent *memoryCmd) error {
	client, err := parent.client()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		return client.RememberedHosts(ctx, func(h httpapi.RememberedHost) error { return enc.Encode(h) })
	}
	n, now := 0, time.Now()
	err = client.RememberedHosts(ctx, func(h httpapi.RememberedHost) error {
		if n++; n == 1 {
			fmt.Fprintf(s.out, "%-36s %-6s %-10s %-10s %5s %6s  %s\n", "HOST", "FAMILY", "LAST", "BEST", "GOOD", "SEEN", "NOW")
		}
		_, err := fmt.Fprintln(s.out, hostLine(&h, now))
		return err
	})
	if err == nil && n == 0 {
		_, err = fmt.Fprintln(s.out, "nothing is remembered of any host")
	}
	return err
}

// hostLine is one host in a table: what it did last and at best, how often it was good for
// TLS, and what follows from it now.
func hostLine(h *httpapi.RememberedHost, now time.Time) string {
	return strings.TrimRight(fmt.Sprintf("%-36s %-6s %-10s %-10s %5d %6s  %s", h.Host, h.Family, levelOrDash(h.Last), levelOrDash(h.Best),
		h.Good, agoOrDash(h.LastSeen, now), strings.Join(consequences(&h.Memory, now), ", ")), " ")
}

func levelOrDash(l policy.Level) string {
	if l == policy.Unset {
		return "-"
	}
	return l.String()
}

func agoOrDash(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(max(now.Sub(t), 0))
}

// consequences are what a memory makes the relay do now.
func consequences(m *policy.Memory, now time.Time) []string {
	var list []string
	for _, c := range []struct {
		until time.Time
		text  string
	}{{m.ClassicalUntil, "small first message"}, {m.BrokenUntil, "TLS broken"}, {m.DownUntil, "not reachable"}} {
		if now.Before(c.until) {
			list = append(list, c.text+" for "+short(c.until.Sub(now)))
		}
	}
	if !m.WeakSince.IsZero() {
		list = append(list, "weaker since "+onDate(m.WeakSince))
	}
	return list
}

type memoryPoliciesCmd struct {
	JSON bool `help:"One JSON object a line."`
}

// Run lists policies as they come.
func (c *memoryPoliciesCmd) Run(ctx context.Context, s streams, parent *memoryCmd) error {
	client, err := parent.client()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		return client.RememberedPolicies(ctx, func(p httpapi.RememberedPolicy) error { return enc.Encode(p) })
	}
	n, now := 0, time.Now()
	err = client.RememberedPolicies(ctx, func(p httpapi.RememberedPolicy) error {
		if n++; n == 1 {
			fmt.Fprintf(s.out, "%-36s %-8s %7s %7s  %s\n", "DOMAIN", "MODE", "FETCHED", "LEFT", "HOSTS")
		}
		_, err := fmt.Fprintln(s.out, policyLine(&p, now))
		return err
	})
	if err == nil && n == 0 {
		_, err = fmt.Fprintln(s.out, "no MTA-STS policy is cached")
	}
	return err
}

func policyLine(p *httpapi.RememberedPolicy, now time.Time) string {
	left := "over"
	if d := p.Expires.Sub(now); d > 0 {
		left = short(d)
	}
	line := fmt.Sprintf("%-36s %-8s %7s %7s  %s", p.Domain, p.Mode, agoOrDash(p.Fetched, now), left, strings.Join(p.MX, " "))
	if p.Problem != "" {
		line += "  (not renewed: " + p.Problem + ")"
	}
	return strings.TrimRight(line, " ")
}

type memoryForgetCmd struct {
	Name string `arg:"" help:"Name of a mail exchanger, or a domain."`
	JSON bool   `help:"As JSON."`
}

// Run forgets what there is under a name.
func (c *memoryForgetCmd) Run(ctx context.Context, s streams, parent *memoryCmd) error {
	name, err := domainOf(c.Name)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("sealpost: %w", err)}
	}
	client, err := parent.client()
	if err != nil {
		return err
	}
	f, err := client.Forget(ctx, name)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(f)
	case f.Host && f.Policy:
		_, err = fmt.Fprintf(s.out, "forgotten: the host %s, and the MTA-STS policy of that domain\n", name)
	case f.Host:
		_, err = fmt.Fprintf(s.out, "forgotten: the host %s\n", name)
	case f.Policy:
		_, err = fmt.Fprintf(s.out, "forgotten: the MTA-STS policy of %s\n", name)
	default:
		_, err = fmt.Fprintf(s.out, "nothing is remembered under %s\n", name)
	}
	return err
}
