package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/seal"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/dsn"
	"github.com/sealpost/sealpost/relay/httpapi"
	"github.com/sealpost/sealpost/relay/metrics"
	"github.com/sealpost/sealpost/relay/smtpclient"
	"github.com/sealpost/sealpost/relay/submission"
)

// How long each part of a stop may take. Together they bound SIGTERM.
const (
	drainIntake   = 20 * time.Second // transactions in flight at the inbound dock
	drainDelivery = 20 * time.Second // transactions in flight at the outbound dock
	drainHTTP     = 3 * time.Second
)

// workers bounds the envelopes in delivery at once. It is far above what live hosts
// keep busy, so that dozens of domains with hosts that hang do not hold up the rest.
const workers = 2000

// house is a relay with all its rooms joined: what `serve` and `demo` run.
type house struct {
	log     *slog.Logger
	cfg     atomic.Pointer[config.Config]
	rules   atomic.Pointer[policy.Ruleset]
	metrics *metrics.Metrics
	recent  *httpapi.Recorder
	space   *space

	*vault
	queue *queue.Queue
	*lookout
	pool     *smtpclient.Pool
	throttle *relay.Throttle
	courier  *relay.Courier
	dock     *submission.Server
	web      *httpapi.Server
	tcp      net.Listener // HTTP; nil: none
	admin    net.Listener // the admin socket
	paused   chan bool    // what a reload says about delivery.paused
}

// seams are what tests and the demo put in place of the ordinary.
type seams struct {
	log      *slog.Logger
	observer relay.Observer // told of attempts beside metrics and page; nil: nobody
	fatal    func(int)      // nil: os.Exit
	stsPort  uint16         // of policy hosts; 0: 443
	stsWait  time.Duration  // for a policy that is being fetched; 0: the ordinary
}

// openHouse opens everything that can fail, so that a relay that starts works: the
// store, the listeners, the admin socket. It takes no mail before run.
func openHouse(cfg *config.Config, s seams) (h *house, err error) {
	opened := &house{log: s.log, recent: httpapi.NewRecorder(0), paused: make(chan bool, 1)}
	h = opened
	h.cfg.Store(cfg)
	h.setRules(cfg)
	defer func() {
		if err != nil {
			opened.close() // h is nil by then
		}
	}()
	h.metrics = metrics.New(metricsOptions(cfg, s.log))
	h.metrics.Reloaded(time.Now())
	if h.vault, err = openVault(cfg, vaultOptions{s, func(d *seal.Damage) { h.metrics.Damaged(d.Thing()) }}); err != nil {
		return nil, err
	}
	h.space = newSpace(cfg)
	h.space.spent, h.space.makeRoom, h.space.log = h.disk.Full, h.disk.MakeRoom, s.log
	if err = h.openDelivery(cfg, s); err != nil {
		return nil, err
	}
	if err = h.openQueue(cfg); err != nil {
		return nil, err
	}
	if err = h.openIntake(cfg); err != nil {
		return nil, err
	}
	if err = h.openHTTP(cfg); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *house) openQueue(cfg *config.Config) error {
	composer, err := dsn.New(dsn.Options{Hostname: policy.Domain(cfg.Server.Hostname)})
	if err != nil {
		return err
	}
	o := retryOptions(cfg)
	o.Store, o.Composer, o.Gate, o.Observer, o.Logger = h.store, composer, h.space.gate, h.metrics, h.log
	o.Workers = workers
	o.Short, o.Crowded = h.disk.Full, h.disk.Crowded
	o.Paused = h.resolver.Paused // no attempt can learn anything while the resolver is down
	h.queue, err = queue.New(o)
	return err
}

// openDelivery joins scout, pool and courier.
func (h *house) openDelivery(cfg *config.Config, s seams) (err error) {
	h.lookout, err = openLookout(cfg, lookoutOptions{log: h.log, facts: h.metrics.Facts(), store: h.store, stsPort: s.stsPort, stsWait: s.stsWait})
	if err != nil {
		return err
	}
	client, err := clientOptions(cfg)
	if err != nil {
		return err
	}
	h.throttle = relay.NewThrottle(throttleLimits(&cfg.Delivery), h.metrics)
	client.Logger, client.Observer, client.Limits = h.log, h.metrics.Client(), h.throttle
	h.pool = smtpclient.New(client)
	h.courier = relay.NewCourier(relay.Options{
		Scout: h.scout, Opener: h.pool, Throttle: h.throttle, Rules: h.rules.Load, Memory: h.hosts, Outage: h.resolver.Outage, Logger: h.log, Grace: drainDelivery,
		Observer: observers{h.metrics, h.recent, s.observer},
	})
	return nil
}

func (h *house) openIntake(cfg *config.Config) error {
	o := submissionOptions(cfg)
	o.Logger, o.Observer, o.Gate = h.log, h.metrics.Submission(), h.space.gate
	creds, err := credentials(cfg, h.warnOfCredentials)
	if err != nil {
		return err
	}
	o.Credentials = creds
	if h.dock, err = submission.New(o, h.queue); err != nil {
		return err
	}
	return h.dock.Listen()
}

func (h *house) openHTTP(cfg *config.Config) (err error) {
	token, err := readToken(cfg.HTTP.AdminTokenFile)
	if err != nil {
		return err
	}
	h.metrics.Watch(metrics.Sources{
		Queue: h.queue.Stats, StorageFree: h.space.freeBytes, Suspensions: func() int { return len(h.queue.Suspensions()) },
		IntakePaused: h.space.full, DNSSEC: h.resolver.Available, Holds: h.held, Outage: h.resolver.Outage, Throttled: h.throttled,
		KeysOverdue: h.overdue,
	})
	h.web = httpapi.New(httpapi.Options{
		Hostname: cfg.Server.Hostname, Version: version(), Metrics: h.metrics.Handler(), Queue: h.queue, Recorder: h.recent, Explainer: h.courier,
		HostMemory: rememberedHosts{h.lookout}, PolicyMemory: rememberedPolicies{h.lookout}, Keys: h.keys(), Journal: h.disk, Backup: h.backup, Persons: h.queue,
		Live: h.liveChecks(), Ready: h.readyChecks(), Warnings: h.warnings, Token: token, Logger: h.log,
	})
	if h.admin, err = httpapi.ListenSocket(adminSocket(cfg)); err != nil {
		return err
	}
	if cfg.HTTP.Listen == "" {
		return nil
	}
	network := "tcp"
	if a, err := netip.ParseAddrPort(cfg.HTTP.Listen); err == nil && a.Addr().Is4() {
		network = "tcp4" // else Go takes 0.0.0.0 for IPv6 too
	}
	if h.tcp, err = net.Listen(network, cfg.HTTP.Listen); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

func adminSocket(cfg *config.Config) string { return filepath.Join(cfg.Server.DataDir, "admin.sock") }

// run works until ctx is done, then stops in the order of the mail's way: no new
// mail, transactions in flight end, what they did is on disk. An error is that of a
// part that broke down by itself.
func (h *house) run(ctx context.Context) error {
	defer h.close()
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	broken := make(chan error, 4)
	var crew, web sync.WaitGroup
	report := func(what string, err error) {
		if err != nil {
			broken <- fmt.Errorf("%s: %w", what, err)
		}
	}
	web.Go(func() { report("admin socket", h.web.ServeAdmin(h.admin)) })
	if h.tcp != nil {
		web.Go(func() { report("http", h.web.Serve(h.tcp)) })
	}
	crew.Go(func() { h.resolver.Watch(inner) })
	crew.Go(func() { h.watchCredentials(inner) })
	if h.policies != nil {
		crew.Go(func() { report("mta-sts", h.policies.Run(inner)) })
	}
	crew.Go(func() { report("queue", h.deliver(inner)) })
	keep, remember := context.WithCancel(context.WithoutCancel(ctx))
	defer remember()
	remembered := make(chan struct{})
	go func() { defer close(remembered); h.hosts.Run(keep) }()
	intake := make(chan struct{})
	go func() { defer close(intake); report("submission", h.dock.Serve(inner)) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
		h.log.Error("a part of the relay broke down: stopping", "error", err)
	}
	h.web.Drain() // /readyz says so from here on
	drain, done := context.WithTimeout(inner, drainIntake)
	defer done()
	if e := h.dock.Shutdown(drain); e != nil {
		h.log.Warn("some submissions did not end in time and were cut off")
	}
	<-intake
	cancel()
	crew.Wait()
	remember() // what the last deliveries saw
	<-remembered
	last, finish := context.WithTimeout(context.WithoutCancel(ctx), drainHTTP)
	defer finish()
	if e := h.web.Shutdown(last); e != nil {
		h.log.Debug("http requests were cut off", "error", e)
	}
	web.Wait()
	return err
}

// deliver runs the queue, with breaks while delivery.paused is set.
func (h *house) deliver(ctx context.Context) error {
	paused := h.cfg.Load().Delivery.Paused
	for ctx.Err() == nil {
		spell, end := context.WithCancel(ctx)
		done := make(chan error, 1)
		if paused {
			h.log.Warn("delivery is paused: mail is accepted and kept")
		} else {
			go func() { done <- h.queue.Run(spell, h.courier) }()
		}
		select {
		case err := <-done:
			end()
			if err != nil {
				return err
			}
			continue
		case next := <-h.paused:
			running := !paused
			paused = next
			end()
			if running {
				<-done
			}
		case <-ctx.Done():
			end()
			if !paused {
				return <-done
			}
		}
	}
	return nil
}

// close gives back what openHouse opened, in reverse.
func (h *house) close() {
	var errs []error
	if h.pool != nil {
		h.pool.Close()
	}
	if h.tcp != nil {
		errs = append(errs, h.tcp.Close())
	}
	if h.admin != nil {
		errs = append(errs, h.admin.Close())
	}
	if h.dock != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		errs = append(errs, h.dock.Shutdown(ctx))
		cancel()
	}
	if h.lookout != nil {
		errs = append(errs, h.lookout.close())
	}
	if h.vault != nil {
		errs = append(errs, h.vault.close())
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			h.log.Debug("closing", "error", err)
		}
	}
}

// held counts the downgrade holds that run, by the default rule's time.
func (h *house) held() int {
	return h.hosts.Held(h.rules.Load().Default.Hold, time.Now())
}

// throttled counts the places that get less than the configuration allows.
func (h *house) throttled() int { return len(h.throttle.Throttled(time.Now())) }

func (h *house) submissionAddrs() []net.Addr { return h.dock.Addrs() }

func (h *house) httpAddr() string {
	if h.tcp == nil {
		return ""
	}
	return h.tcp.Addr().String()
}

// observers tells several of an attempt.
type observers []relay.Observer

// Attempted tells each of them.
func (o observers) Attempted(a *relay.Attempt) {
	for _, each := range o {
		if each != nil {
			each.Attempted(a)
		}
	}
}
