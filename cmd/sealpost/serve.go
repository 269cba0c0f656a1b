package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/sealpost/sealpost/config"
)

type serveCmd struct {
	Config string `help:"Configuration file; none: the defaults." placeholder:"FILE" type:"path"`
}

// Run runs the relay until SIGTERM or SIGINT; SIGHUP reloads.
func (c *serveCmd) Run(ctx context.Context, s streams) error {
	// First of all: a SIGHUP that comes early must not end the process.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	cfg, err := loadConfig(c.Config, s.err)
	if err != nil {
		return err
	}
	thrift()
	overlap()
	log := newLog(s.err)
	log.set(cfg.Server.Log)
	h, err := openHouse(cfg, seams{log: log.Logger})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					log.Info("stopping", "signal", sig.String())
					stop()
					return
				}
				c.reload(h, log)
			}
		}
	}()
	log.Info("serving", "version", version(), "submission", h.submissionAddrs(), "http", h.httpAddr(), "data", cfg.Server.DataDir, "encrypted", h.ring != nil)
	h.noteConfig("start", "serve")
	return h.run(ctx)
}

// reload reads the configuration again. A bad file keeps the old one and says why.
func (c *serveCmd) reload(h *house, log *logs) {
	cfg, err := config.Load(c.Config, os.Environ())
	if err != nil {
		var bad config.Errors
		if errors.As(err, &bad) {
			for _, p := range bad {
				log.Error("reload refused, the old configuration stays", "problem", p.String())
			}
			return
		}
		log.Error("reload refused, the old configuration stays", "problem", err.Error())
		return
	}
	log.set(cfg.Server.Log)
	h.reload(cfg)
}
