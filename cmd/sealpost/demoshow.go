package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// demo prints what happens and keeps the score. It is a relay.Observer.
type demo struct {
	out io.Writer
	net *internet

	mu      sync.Mutex
	began   time.Time
	rows    []*demoRow // in the order of submission
	changed chan struct{}
}

// demoRow is one sample with what became of it.
type demoRow struct {
	sample  *sample
	id      queue.ID
	last    *relay.Attempt // nil: not tried yet
	outcome string         // "" while it is under way
}

func newDemo(out io.Writer, n *internet) *demo {
	return &demo{out: out, net: n, began: time.Now(), changed: make(chan struct{}, 1)}
}

func (d *demo) begin(submission string) {
	fmt.Fprintf(d.out, "A private internet is up on loopback: signed DNS on %s, %d mail exchangers on port %d, Sealpost's submission on %s.\n"+
		"The operator's floor is plaintext: TLS wherever any host of a domain has it, clear text only where none does.\n"+
		"On disk everything is encrypted; an hour after a message is gone nothing decrypts it.\n\n",
		d.net.zones.Addr(), len(d.net.farm.Hosts), d.net.farm.Port, submission)
}

// send submits a sample through the real submission port.
func (d *demo) send(addr string, s *sample) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	defer c.Close()
	text := "From: Shop <reviews@shop.example>\r\nTo: <ann@" + s.to + ">\r\nSubject: How was your order?\r\n" + s.header +
		"\r\nDear Ann,\r\n\r\ntell others how it was.\r\n"
	if err := c.Mail("reviews@shop.example"); err != nil {
		return err
	}
	if err := c.Rcpt("ann@" + s.to); err != nil {
		return err
	}
	// By hand, because the reply holds the message's ID. The row must be there before
	// the first attempt is: the lock holds attempts up until then.
	d.mu.Lock()
	defer d.mu.Unlock()
	said, err := submitData(c, text)
	if err != nil {
		return err
	}
	id := queue.ID(said[strings.LastIndexByte(said, ' ')+1:])
	d.rows = append(d.rows, &demoRow{sample: s, id: id})
	fmt.Fprintf(d.out, "%s  accepted   ann@%s  (250 %s)\n", d.clock(), s.to, said)
	return c.Quit()
}

func submitData(c *smtp.Client, text string) (string, error) {
	if err := c.Text.PrintfLine("DATA"); err != nil {
		return "", err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return "", err
	}
	w := c.Text.DotWriter()
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, said, err := c.Text.ReadResponse(250)
	return said, err
}

func (d *demo) clock() string { return fmt.Sprintf("%6.2fs", time.Since(d.began).Seconds()) }

// Attempted prints an attempt as it happens.
func (d *demo) Attempted(a *relay.Attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	word := verdictOf(a)
	for _, r := range d.rows {
		if r.id == a.Message && r.outcome == "" {
			r.last = a
			if word != "deferred" {
				r.outcome = word
			}
		}
	}
	who := string(a.Domain)
	if a.Domain == "shop.example" {
		who += " (notice to the sender)"
	}
	fmt.Fprintf(d.out, "%s  %-10s %s  wanted %s, achieved %s: %s\n", d.clock(), word, who, a.Wanted, achieved(a), why(a))
	for _, t := range a.Trace {
		if t.Reason != policy.ReasonUnset {
			fmt.Fprintf(d.out, "         .           %s, %s: %s\n", t.Host, t.Rung, t.Reason.English())
		}
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func verdictOf(a *relay.Attempt) string {
	for _, o := range a.Outcomes {
		switch o.Kind {
		case queue.DeliveredNow:
			return "delivered"
		case queue.BouncedNow:
			return "bounced"
		}
	}
	return "deferred"
}

func achieved(a *relay.Attempt) string {
	if a.Achieved == policy.Unset {
		return "nothing"
	}
	return a.Achieved.String()
}

// why says in words what led to the outcome.
func why(a *relay.Attempt) string {
	if a.Failure != nil {
		return a.Failure.Error()
	}
	e := a.Evidence
	via := "in the clear, since no host of the domain can do TLS"
	switch {
	case e.Version != 0 && a.Achieved == policy.Legacy:
		via = e.VersionName() + ", nothing better is there"
	case e.Version != 0 && e.Peer&policy.PeerTLSA != 0:
		via = e.VersionName() + ", certificate proven by TLSA, route by DNSSEC"
	case e.Version != 0 && e.Peer&policy.PeerWebPKI != 0:
		via = e.VersionName() + ", certificate proven for " + string(a.Host)
	case e.Version != 0:
		via = e.VersionName() + ", nobody vouches for the certificate"
		if e.WebPKI != nil {
			via += " (" + e.WebPKI.Reason.String() + ")"
		}
	}
	return via
}

// await returns when every sample has its outcome and the notices are out too.
func (d *demo) await(ctx context.Context, h *house) error {
	tick := time.NewTicker(100 * time.Millisecond) // the queue empties after the last attempt is told
	defer tick.Stop()
	for {
		if d.settled() {
			s := h.queue.Stats()
			if s.Envelopes["waiting"]+s.Envelopes["leased"] == 0 {
				return nil
			}
		}
		select {
		case <-d.changed:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not every sample has its outcome: %w", ctx.Err())
		}
	}
}

func (d *demo) settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rows {
		if r.outcome == "" {
			return false
		}
	}
	return true
}

// table prints every receiver with its outcome.
func (d *demo) table() {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RECEIVER\tWHAT IT IS\tOUTCOME\tWANTED\tACHIEVED\tBY\tTRIES\tWHY")
	for _, r := range d.rows {
		outcome := r.outcome
		if outcome == "" {
			outcome = "under way"
		}
		if r.last == nil {
			fmt.Fprintf(w, "%s\t%s\t%s\t-\t-\t-\t0\t-\n", r.sample.to, r.sample.about, outcome)
			continue
		}
		a := r.last
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.sample.to, r.sample.about, outcome, a.Wanted, achieved(a), orDash(string(a.Host)), a.Tries, why(a))
	}
	_ = w.Flush() // the terminal is gone: nobody is left to tell
	fmt.Fprintf(d.out, "\nWhat the hosts hold: %s.\n", d.holdings())
}

// holdings counts what really arrived, as the hosts tell it.
func (d *demo) holdings() string {
	secure, clear, notices := 0, 0, 0
	for _, h := range d.net.farm.Hosts {
		for _, m := range h.Accepted() {
			switch {
			case m.From == "":
				notices++
			case m.TLS != 0:
				secure++
			default:
				clear++
			}
		}
	}
	return fmt.Sprintf("%d invitations that came over TLS, %d in the clear, %d notices of bounces to the sender", secure, clear, notices)
}
