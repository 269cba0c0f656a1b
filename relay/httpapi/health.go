package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// verdict is what a check said. Problem is empty when it is well.
type verdict struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
}

// health answers /healthz: the process lives, and its loops run.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	writeVerdicts(w, r, probe(r.Context(), s.live))
}

// ready answers /readyz: mail can be taken and sent now.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	writeVerdicts(w, r, s.readiness(r.Context()))
}

func (s *Server) readiness(ctx context.Context) []verdict {
	list := probe(ctx, s.probes)
	if s.draining.Load() {
		list = append(list, verdict{Name: "draining", Problem: "the relay is stopping"})
	}
	return list
}

// runner runs a check, once at a time: requests that come while it runs share its
// answer, so that a probe that hangs costs one goroutine, not one for each request.
type runner struct {
	Check

	mu  sync.Mutex
	now *run // the one in flight, nil when there is none
}

// run is one run of a probe. err is set when done is closed.
type run struct {
	done chan struct{}
	err  error
}

func runners(checks []Check) []*runner {
	list := make([]*runner, len(checks))
	for i, c := range checks {
		list[i] = &runner{Check: c}
	}
	return list
}

// probe runs all checks at once and waits checkLimit at most.
func probe(ctx context.Context, checks []*runner) []verdict {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	list := make([]verdict, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { list[i] = c.verdict(ctx) })
	}
	wg.Wait()
	return list
}

// verdict waits for the probe no longer than ctx, even when the probe does.
func (c *runner) verdict(ctx context.Context) verdict {
	r := c.start(ctx)
	var err error
	select {
	case <-r.done:
		err = r.err
	case <-ctx.Done():
		err = fmt.Errorf("no answer within %v", checkLimit)
	}
	if err != nil {
		return verdict{Name: c.Name, Problem: oneLine(err.Error())}
	}
	return verdict{Name: c.Name, OK: true}
}

// start returns the run in flight, or a new one. It belongs to no request: one
// client that leaves must not fail the check of the others.
func (c *runner) start(ctx context.Context) *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		return c.now
	}
	r := &run{done: make(chan struct{})}
	c.now = r
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
	go func() {
		defer cancel()
		r.err = c.guardedProbe(own)
		c.mu.Lock()
		c.now = nil
		c.mu.Unlock()
		close(r.done)
	}()
	return r
}

func (c *runner) guardedProbe(ctx context.Context) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the check itself failed")
		}
	}()
	return c.Probe(ctx)
}

// oneLine keeps a text from pretending to be another check.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.ToValidUTF8(fmt.Sprintf("%.300s", s), "?")
}

func writeVerdicts(w http.ResponseWriter, r *http.Request, list []verdict) {
	status, word := http.StatusOK, "ok"
	for _, v := range list {
		if !v.OK {
			status, word = http.StatusServiceUnavailable, "unavailable"
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(struct {
			Status string    `json:"status"`
			Checks []verdict `json:"checks"`
		}{word, list})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, word)
	for _, v := range list {
		if v.OK {
			fmt.Fprintf(w, "%s: ok\n", v.Name)
		} else {
			fmt.Fprintf(w, "%s: %s\n", v.Name, v.Problem)
		}
	}
}
