package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/httpapi"
)

type explainCmd struct {
	Domain     string `arg:"" help:"Recipient domain, or an address at it."`
	Probe      bool   `help:"Open sessions with its hosts, without mail, and show what they really offer."`
	JSON       bool   `help:"As JSON."`
	Sender     string `help:"As for mail from this address or domain; <> for a bounce." placeholder:"A"`
	Credential string `help:"As for mail of this credential." placeholder:"NAME"`
	Stream     string `help:"As for mail of this stream." placeholder:"NAME"`
	MinLevel   string `help:"As for a message that asks for this level." placeholder:"LEVEL"`
	RequireTLS bool   `name:"require-tls" help:"As for a message with REQUIRETLS (RFC 8689)."`
	Config     string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`
}

// Run asks the running relay, or reasons by itself when there is none.
func (c *explainCmd) Run(ctx context.Context, s streams) error {
	q, err := c.inquiry()
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("sealpost: %w", err)}
	}
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return err
	}
	if err := account(cfg, &q); err != nil {
		return &exitError{exitUsage, fmt.Errorf("sealpost: %w", err)}
	}
	e := explained{giveUp: cfg.Retry.GiveUp, running: true}
	client := httpapi.NewClient(adminSocket(cfg))
	if e.Explanation, err = client.Explain(ctx, q); err == nil {
		var list []queue.Suspension
		list, err = client.Suspensions(ctx)
		e.suspended = suspensionOver(list, q.Domain)
	}
	if errors.Is(err, httpapi.ErrNotRunning) {
		e.running = false
		e.Explanation, err = explainAlone(ctx, cfg, q)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(explanationJSON{Verdict: e.verdict(), Source: e.source(), Suspended: e.suspended, Explanation: e.Explanation})
	}
	_, err = io.WriteString(s.out, e.text())
	return err
}

// explanationJSON is the explanation for machines; the verdict is for whoever reads them.
type explanationJSON struct {
	Verdict string `json:"verdict"`
	Source  string `json:"source"` // "relay": a running relay said so; "afresh": nothing that it remembers is in it
	// Suspended is the suspension that the domain is under.
	Suspended *queue.Suspension `json:"suspended,omitempty"`
	relay.Explanation
}

func (c *explainCmd) inquiry() (q relay.Inquiry, err error) {
	q.Probe = c.Probe
	q.Credential, q.Stream, q.RequireTLS = c.Credential, c.Stream, c.RequireTLS
	if q.Domain, err = domainOf(c.Domain); err != nil {
		return q, err
	}
	switch c.Sender {
	case "":
	case "<>":
		q.NullSender = true
	default:
		sender, err := domainOf(c.Sender)
		if err != nil {
			return q, fmt.Errorf("--sender: %w", err)
		}
		q.Sender = string(sender)
	}
	if c.MinLevel != "" {
		if q.Message, err = policy.ParseLevel(c.MinLevel); err != nil {
			return q, fmt.Errorf("--min-level: %w", err)
		}
	}
	return q, nil
}

// domainOf cuts an address down to its domain: nobody else needs to see the rest.
func domainOf(s string) (policy.Domain, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	return queue.ParseDomain(s[strings.LastIndexByte(s, '@')+1:])
}

// explained is an explanation with what its reader must know beside it. Its text is a
// pure function of the two.
type explained struct {
	relay.Explanation
	running   bool              // a running relay said so
	giveUp    time.Duration     // retry.give_up
	suspended *queue.Suspension // nil: mail goes
}

func (e *explained) source() string {
	if e.running {
		return "relay"
	}
	return "afresh"
}

// text is the explanation for a person: the verdict, why, then the details.
func (e *explained) text() string {
	var b page
	b.para("", e.verdict())
	b.gap()
	if e.suspended != nil {
		b.item("Nothing is tried now: deliveries are suspended by the operator: " + suspensionWords(e.suspended) + ".")
	}
	for _, why := range e.why() {
		b.item(why)
	}
	b.gap()
	b.para("", e.seen())
	e.details(&b)
	e.hosts(&b)
	return b.String()
}

// seen says who looked, and when.
func (e *explained) seen() string {
	if e.running {
		age := "now"
		if d := e.At.Sub(e.Facts.At); d >= time.Second {
			age = short(d) + " ago"
		}
		return "As the running relay sees it, " + onDate(e.At) + " (DNS asked " + age + ")."
	}
	return "No relay is running: looked up afresh, " + onDate(e.At) + "; what the relay remembers is not known."
}

func onDate(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// pageWidth is where lines end, in octets.
const pageWidth = 98

// page is text in lines of bounded length.
type page struct{ strings.Builder }

func (p *page) gap() { p.WriteByte('\n') }

func (p *page) item(text string) { p.hang("- ", "  ", text) }

func (p *page) para(indent, text string) { p.hang(indent, indent, text) }

// row is a label and its text, as in a table.
func (p *page) row(indent, label, text string) {
	p.hang(fmt.Sprintf("%s%-12s", indent, label), indent+strings.Repeat(" ", 12), text)
}

// hang writes a paragraph: first before its first line, next before the others.
func (p *page) hang(first, next, text string) {
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > pageWidth {
			p.WriteString(line + "\n")
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	p.WriteString(strings.TrimRight(line, " ") + "\n")
}
