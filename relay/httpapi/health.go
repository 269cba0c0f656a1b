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
	writeVerdicts(w, r, probe(r.Context(), s.o.Live))
}

// ready answers /readyz: mail can be taken and sent now.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	writeVerdicts(w, r, s.readiness(r.Context()))
}

func (s *Server) readiness(ctx context.Context) []verdict {
	list := probe(ctx, s.o.Ready)
	if s.draining.Load() {
		list = append(list, verdict{Name: "draining", Problem: "the relay is stopping"})
	}
	return list
}

// probe runs all checks at once, each for checkLimit at most.
func probe(ctx context.Context, checks []Check) []verdict {
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
func (c Check) verdict(ctx context.Context) verdict {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if recover() != nil {
				done <- errors.New("the check itself failed")
			}
		}()
		done <- c.Probe(ctx)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("no answer within %v", checkLimit)
	}
	if err != nil {
		return verdict{Name: c.Name, Problem: oneLine(err.Error())}
	}
	return verdict{Name: c.Name, OK: true}
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
