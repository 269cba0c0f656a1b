package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sealpost/sealpost/queue"
)

// Problem is an error as the API tells it (RFC 9457), and as [Client] returns it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// Error says it in one line.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, p.Title)
	}
	return p.Detail
}

// Is lets errors.Is find queue.ErrNotFound behind a 404.
func (p *Problem) Is(target error) bool {
	return target == queue.ErrNotFound && p.Status == http.StatusNotFound
}

func problem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// internal is a fault of ours: its text stays here.
func internal() *Problem {
	return problem(http.StatusInternalServerError, "a fault of this relay; its log says more")
}

// writeProblem answers with a problem. The type member is left out: RFC 9457 4.2.1
// makes that "about:blank", the status says it all.
func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	// Nobody is left to tell when the client is gone.
	_ = json.NewEncoder(w).Encode(p)
}

// withProblems lets the mux say "not found" and "method not allowed" as problems.
func withProblems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		only := statusOnly{ResponseWriter: w, status: http.StatusNotFound}
		h.ServeHTTP(&only, r) // sets Allow where it must (RFC 9110 15.5.6)
		writeProblem(w, problem(only.status, ""))
	})
}

// statusOnly takes the status and the fields of an answer, and drops its text.
type statusOnly struct {
	http.ResponseWriter
	status int
}

func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
