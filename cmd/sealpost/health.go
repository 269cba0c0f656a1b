package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sealpost/sealpost/queue/pebblestore"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// liveChecks are those of /healthz: the process can still do its work.
func (h *house) liveChecks() []httpapi.Check {
	return []httpapi.Check{{Name: "storage", Probe: h.storageAnswers}}
}

// readyChecks are those of /readyz: mail can be taken in now.
func (h *house) readyChecks() []httpapi.Check {
	return []httpapi.Check{
		{Name: "storage", Probe: h.storageAnswers},
		{Name: "intake", Probe: h.space.check},
		{Name: "listeners", Probe: h.listenersAnswer},
	}
}

// storageAnswers writes a cell and so waits for the disk.
func (h *house) storageAnswers(ctx context.Context) error {
	return h.store.SetCell(ctx, "health", []byte(time.Now().UTC().Format(time.RFC3339)))
}

// listenersAnswer connects to each submission listener.
func (h *house) listenersAnswer(ctx context.Context) error {
	addrs := h.submissionAddrs()
	if len(addrs) == 0 {
		return errors.New("no submission listener is open")
	}
	var d net.Dialer
	for _, a := range addrs {
		c, err := d.DialContext(ctx, "tcp", a.String())
		if err != nil {
			return fmt.Errorf("submission listener %s does not answer", a)
		}
		_ = c.Close() // only to see that it stands
	}
	return nil
}

// warnings are what the status page says first.
func (h *house) warnings() []string {
	var list []string
	cfg := h.cfg.Load()
	if cfg.Policy.Ruleset.DANE && !h.resolver.Available() {
		list = append(list, "DNSSEC is unavailable: no delivery can reach the level dane. Use a validating resolver on loopback.")
	}
	if h.resolver.Outage() {
		list = append(list, "The DNS resolver is down: deliveries are paused and burn no try. Mail is accepted and kept.")
	}
	if err := h.space.gate(); err != nil {
		list = append(list, "New mail is refused (452): "+err.Error())
	}
	if late := h.overdue(); late > 0 {
		list = append(list, "Keys of messages that are gone should have been destroyed "+short(late)+" ago: the log says why they were not. Until then such mail can be decrypted.")
	}
	list = append(list, damaged(h.disk.Damage())...)
	if cfg.Delivery.Paused {
		list = append(list, "Delivery is paused (delivery.paused): mail is accepted and kept.")
	}
	return append(list, suspensionWarnings(h.queue.Suspensions())...)
}

// damaged says what was found on disk that is not what was written.
func damaged(found []pebblestore.Damage) (list []string) {
	mended := 0
	for _, d := range found {
		if d.Mended {
			mended++
			continue
		}
		list = append(list, "The storage is damaged: "+d.String())
	}
	if mended > 0 {
		list = append(list, fmt.Sprintf("The storage was damaged in %d places, and mended: see the log, and look after the disk.", mended))
	}
	return list
}

type healthCmd struct {
	Config string `help:"Configuration file of the relay: says where it listens." placeholder:"FILE" type:"path"`
	URL    string `help:"Address of the readiness check, in place of the configuration's."`
}

// Run asks a running relay whether it is ready; the exit code says so.
func (c *healthCmd) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if c.URL == "" {
		cfg, err := loadConfig(c.Config, io.Discard)
		if err != nil {
			return err
		}
		c.URL = "http://" + reachable(cfg.HTTP.Listen) + "/readyz"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
	}
	_, err = s.out.Write(body)
	return err
}

// reachable is a listen address as a client on the same machine uses it.
func reachable(listen string) string {
	a, err := netip.ParseAddrPort(listen)
	if err != nil || !a.Addr().IsUnspecified() {
		return listen
	}
	if a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port()).String()
}
