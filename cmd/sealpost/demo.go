package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/relay/relaytest"
)

const (
	// demoLimit bounds the first round: it takes a few seconds.
	demoLimit = 90 * time.Second
	// demoPause is between two invitations after the first round.
	demoPause = 4 * time.Second
)

type demoCmd struct {
	Once bool `help:"End when every sample has its outcome; print the table."`
}

// Run shows the whole relay at work, on loopback and without root or network.
func (c *demoCmd) Run(ctx context.Context, s streams) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "sealpost-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := openInternet(ctx, demoExchangers())
	if err != nil {
		return err
	}
	defer n.close()
	n.publish("mta-sts.example", "20261127", stsPolicy("enforce", "*.mta-sts.example"))
	d := newDemo(s.out, n)
	h, err := c.open(n, dir, s, d)
	if err != nil {
		return err
	}
	inner, end := context.WithCancel(ctx)
	defer end()
	done := make(chan error, 1)
	go func() { done <- h.run(inner) }()

	err = c.play(ctx, d, h)
	end()
	return errors.Join(err, <-done)
}

// open starts the real relay, from a real configuration, in the demo's internet.
func (c *demoCmd) open(n *internet, dir string, s streams, d *demo) (*house, error) {
	submission, http := loopbackPort(2525, c.Once), loopbackPort(8025, c.Once)
	text, err := n.configure(dir, submission, http, `
[server.log]
level = "error"

[retry]
schedule = ["1s", "2s", "3s"]
`)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "sealpost.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cfg, err := config.Load(path, nil)
	if err != nil {
		return nil, err
	}
	log := newLog(s.err)
	log.set(cfg.Server.Log)
	return openHouse(cfg, seams{log: log.Logger, observer: d, stsPort: n.web.Addr().Port()})
}

// loopbackPort is 127.0.0.1 with the wanted port, or with a free one when that is
// taken, or when several demos may run side by side.
func loopbackPort(want int, any bool) string {
	if any {
		want = 0
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return fmt.Sprintf("127.0.0.1:%d", want) // opening it again will say why
		}
	}
	defer l.Close()
	return l.Addr().String()
}

// play sends the samples, waits for their outcomes, and goes on until Ctrl-C.
func (c *demoCmd) play(ctx context.Context, d *demo, h *house) error {
	submission := h.submissionAddrs()[0].String()
	d.begin(submission)
	first, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	samples := demoSamples()
	for i := range samples {
		if err := d.send(submission, &samples[i]); err != nil {
			return fmt.Errorf("submitting to %s: %w", submission, err)
		}
	}
	if err := d.await(first, h); err != nil {
		d.table()
		return err
	}
	d.table()
	if c.Once {
		return nil
	}
	fmt.Fprintf(d.out, "\nLook at   http://%s/         deliveries by level, queue, latest attempts\n"+
		"          http://%s/metrics  what a Prometheus scrapes\nSubmit to %s (plain SMTP): any domain above is reachable. Ctrl-C ends.\n\n",
		h.httpAddr(), h.httpAddr(), submission)
	tick := time.NewTicker(demoPause)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			again := samples[i%len(samples)]
			if err := d.send(submission, &again); err != nil {
				return err
			}
		}
	}
}

// demoExchangers are the receivers, in the order of the table.
func demoExchangers() []exchanger {
	kind := func(name string) relaytest.Kind {
		k, ok := relaytest.KindNamed(name)
		if !ok {
			panic("demo: no kind of receiver is called " + name)
		}
		return k
	}
	return []exchanger{
		{"dane.example", 10, "mx.dane.example", kind("modern"), true},
		{"mta-sts.example", 10, "mx1.mta-sts.example", kind("modern"), false},
		{"modern.example", 10, "mx.modern.example", kind("modern"), false},
		{"tls12.example", 10, "mx.tls12.example", kind("tls12-only"), false},
		{"self-signed.example", 10, "mx.self-signed.example", kind("self-signed"), false},
		{"second.example", 10, "mx1.second.example", kind("no-tls"), false},
		{"second.example", 20, "mx2.second.example", kind("modern"), false},
		{"tls10.example", 10, "mx.tls10.example", kind("tls10-only"), false},
		{"broken.example", 10, "mx.broken.example", kind("starttls-drop"), false},
		{"no-tls.example", 10, "mx.no-tls.example", kind("no-tls"), false},
		{"greylisting.example", 10, "mx.greylisting.example", kind("greylisting"), false},
		{"refusing.example", 10, "mx.refusing.example", kind("refusing"), false},
		{"shop.example", 10, "mx.shop.example", kind("modern"), false},
	}
}

// sample is one invitation.
type sample struct {
	to     string // domain
	about  string // what the receiver is
	header string // what the application asks for, or ""
}

func demoSamples() []sample {
	strict := "Sealpost-Min-Level: verified\r\nSealpost-On-Unmet: bounce\r\n"
	return []sample{
		{"dane.example", "TLS 1.3, TLSA records in signed DNS", ""},
		{"mta-sts.example", "TLS 1.3, an MTA-STS policy in enforce mode", ""},
		{"modern.example", "TLS 1.3, good certificate", ""},
		{"tls12.example", "TLS 1.2 only, good certificate", ""},
		{"self-signed.example", "self-signed certificate", ""},
		{"second.example", "two hosts, only the second has TLS", ""},
		{"tls10.example", "TLS 1.0 only", ""},
		{"broken.example", "offers STARTTLS, which breaks", ""},
		{"no-tls.example", "no TLS at all", ""},
		{"greylisting.example", "greylisting: not at the first try", ""},
		{"refusing.example", "knows no such user", ""},
		{"self-signed.example", "self-signed; the message wants verified or bounce", strict},
		{"no-tls.example", "no TLS; the message wants verified or bounce", strict},
	}
}
