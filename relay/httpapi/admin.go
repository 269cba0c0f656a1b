package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// lines is the media type of JSON lines.
const lines = "application/x-ndjson"

// flushEach is how many entries of a list go out together.
const flushEach = 100

// admin is the admin API. Who may come here was decided before.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	if s.o.Queue != nil {
		mux.HandleFunc("GET /admin/queue", s.list)
		mux.HandleFunc("GET /admin/queue/{id}", s.show)
		mux.HandleFunc("POST /admin/queue/{verb}", inQuery(s.act))
		mux.HandleFunc("GET /admin/queue/summary", s.survey)
		mux.HandleFunc("GET /admin/queue/suspensions", bare(s.suspensions))
		mux.HandleFunc("POST /admin/queue/suspend", inQuery(s.suspend))
		mux.HandleFunc("POST /admin/queue/resume", inQuery(s.resume))
	}
	mux.HandleFunc("GET /admin/attempts", s.attempts)
	mux.HandleFunc("GET /admin/explain", s.explain)
	mux.HandleFunc("GET /admin/memory/hosts", bare(s.listHosts))
	mux.HandleFunc("GET /admin/memory/policies", bare(s.listPolicies))
	mux.HandleFunc("POST /admin/memory/forget", inQuery(s.forget))
	mux.HandleFunc("GET /admin/audit", s.audit)
	mux.HandleFunc("GET /admin/audit/verify", s.verify)
	mux.HandleFunc("POST /admin/export", s.exportPerson)
	mux.HandleFunc("POST /admin/erase", s.erasePerson)
	mux.HandleFunc("GET /admin/keys", bare(s.listKeys))
	mux.HandleFunc("POST /admin/keys/rotate", bare(s.rotateKeys))
	return withProblems(mux)
}

// list streams the envelopes that match.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	out := newStream(w)
	// Between two envelopes that match there may be a million that do not.
	if err := patient(out.ctl, time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	err = s.o.Queue.List(r.Context(), f, func(e queue.Entry) error { return out.write(entryOf(e)) })
	s.end(w, r, out, err)
}

// messageAttempts is how many attempts of one message are given when no limit is
// asked: a person reads them.
const messageAttempts = 10

// attempts streams the latest attempts, newest first.
func (s *Server) attempts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := parseLimit(q.Get("limit"))
	if err == nil {
		err = onlyKeys(q, "msg", "limit")
	}
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	out := newStream(w)
	if s.o.Recorder != nil {
		switch {
		case limit > 0:
		case q.Has("msg"):
			limit = messageAttempts
		default:
			limit = -1 // all
		}
		for _, a := range s.o.Recorder.Latest(limit, queue.ID(q.Get("msg"))) {
			if err = out.write(a); err != nil {
				break
			}
		}
	}
	s.end(w, r, out, err)
}

// end closes a stream. After the first line only a broken connection can say that
// the list is not complete.
func (s *Server) end(w http.ResponseWriter, r *http.Request, out *stream, err error) {
	var bad *queue.FilterError
	switch {
	case err == nil:
		out.begin()
		return
	case errors.As(err, &bad) && !out.begun:
		writeProblem(w, problem(http.StatusBadRequest, bad.Detail))
		return
	case r.Context().Err() == nil:
		s.log.Error("http: list failed", "error", err)
	}
	if out.begun {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, internal())
}

// stream writes JSON lines and keeps pushing the write deadline: a long list is
// fine, a client that stands still is not.
type stream struct {
	w     http.ResponseWriter
	ctl   *http.ResponseController
	enc   *json.Encoder
	begun bool
	n     int
	until time.Time // write deadline; zero: none
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, ctl: http.NewResponseController(w), enc: json.NewEncoder(w)}
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", lines)
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.WriteHeader(http.StatusOK)
	}
}

func (s *stream) write(v any) error {
	s.begin()
	if now := time.Now(); s.n%flushEach == 0 || s.until.Sub(now) < requestLimit/2 {
		s.until = now.Add(requestLimit)
		if err := patient(s.ctl, s.until); err != nil {
			return err
		}
	}
	s.n++
	return s.enc.Encode(v)
}

// patient lets an answer take until t; the zero time means as long as the client
// waits. The request was read: its deadline must not end the answer.
func patient(ctl *http.ResponseController, t time.Time) error {
	err := errors.Join(ctl.SetWriteDeadline(t), ctl.SetReadDeadline(time.Time{}))
	if errors.Is(err, http.ErrNotSupported) {
		return nil // not a connection of net/http: nothing to push
	}
	return err
}

// show answers with one message's envelopes.
func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	entries, err := s.o.Queue.Show(r.Context(), queue.ID(r.PathValue("id")))
	if err == nil && len(entries) == 0 {
		err = queue.ErrNotFound
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	list := make([]entry, len(entries))
	for i, e := range entries {
		list[i] = entryOf(e)
	}
	writeJSON(w, list)
}

// fail answers with what went wrong, unless nobody is there to read it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		s.log.Error("http: request failed", "path", r.URL.Path, "error", err)
	}
	writeProblem(w, p)
}

// problemOf is an error as the client hears of it.
func problemOf(err error) *Problem {
	var bad *queue.FilterError
	switch {
	case errors.As(err, &bad):
		return problem(http.StatusBadRequest, bad.Detail)
	case errors.Is(err, queue.ErrNotFound):
		return problem(http.StatusNotFound, "no such message in the queue")
	case errors.Is(err, queue.ErrFull):
		return problem(http.StatusInsufficientStorage, "the disk is too full for that: what was not done yet stays as it is; deliveries go on, and make room")
	}
	return internal()
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Nobody is left to tell when the client is gone.
	_ = json.NewEncoder(w).Encode(v)
}

// entry is queue.Entry with its state as a word.
type entry struct {
	Message  queue.Message  `json:"message"`
	Envelope queue.Envelope `json:"envelope"`
	State    string         `json:"state"`
	Damage   string         `json:"damage,omitempty"`
	Cursor   string         `json:"cursor,omitempty"`
}

func entryOf(e queue.Entry) entry {
	return entry{e.Message, e.Envelope, stateWord(e.State), e.Damage, e.Cursor}
}

func (e entry) entry() queue.Entry {
	state := queue.RowWaiting
	for _, s := range []queue.RowState{queue.RowLeased, queue.RowHeld, queue.RowDamaged} {
		if stateWord(s) == e.State {
			state = s
		}
	}
	return queue.Entry{Message: e.Message, Envelope: e.Envelope, State: state, Damage: e.Damage, Cursor: e.Cursor}
}

// states are the words of queue.Filter. Those of queue.Stats are all but the last.
func states() []string { return []string{"waiting", "leased", "held", "damaged"} }

func stateWord(s queue.RowState) string {
	if i := int(s) - 1; i >= 0 && i < len(states()) {
		return states()[i]
	}
	return states()[0]
}
