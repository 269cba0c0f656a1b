package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// matched is the answer to a verb.
type matched struct {
	Matched int `json:"matched"`
	Done    int `json:"done"`
}

// counted is the answer to a dry run.
type counted struct {
	Matched int `json:"matched"`
	queue.Survey
}

// told is a line of a verb's progress. The last one has End or Error.
type told struct {
	queue.Progress
	End   bool     `json:"end,omitempty"`
	Error *Problem `json:"error,omitempty"`
}

// act does a verb to what matches.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	verb := queue.Verb(r.PathValue("verb"))
	switch verb {
	case queue.VerbRetry, queue.VerbHold, queue.VerbRelease, queue.VerbDrop:
	default:
		writeProblem(w, problem(http.StatusNotFound, "no such verb: use retry, hold, release or drop"))
		return
	}
	q := r.URL.Query()
	f, err := parseFilter(q, "dry_run", "progress", "all")
	var dry, progress, all bool
	if err == nil {
		all, err = parseTruthOf("all", q.Get("all"))
	}
	if err == nil {
		err = meansAll(f, all)
	}
	if err == nil {
		dry, err = parseTruthOf("dry_run", q.Get("dry_run"))
	}
	if err == nil {
		progress, err = parseTruthOf("progress", q.Get("progress"))
	}
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if dry {
		s.count(w, r, queue.Inquiry{Filter: f, Verb: verb})
		return
	}
	// A queue of millions takes its time: the limit is the client's patience.
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	o := queue.Order{Action: queue.Action{Verb: verb, By: by(r)}, Filter: f}
	if progress || strings.Contains(r.Header.Get("Accept"), lines) {
		s.actTelling(w, r, o)
		return
	}
	p, err := s.do(r, o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, matched{p.Matched, p.Done})
}

// do carries out an order and logs it.
func (s *Server) do(r *http.Request, o queue.Order) (queue.Progress, error) {
	p, err := s.o.Queue.Do(r.Context(), o)
	var bad *queue.FilterError
	if !errors.As(err, &bad) {
		s.log.Info("queue: operator's hand", "verb", string(o.Verb), "filter", o.Filter.String(), "matched", p.Matched, "done", p.Done, "by", o.By, "ended", err == nil)
	}
	return p, err
}

// actTelling streams how far the work is. A client that leaves ends the work.
func (s *Server) actTelling(w http.ResponseWriter, r *http.Request, o queue.Order) {
	out := newStream(w)
	news, done := make(chan queue.Progress, 1), make(chan struct{})
	o.Tell = func(p queue.Progress) {
		select {
		case news <- p:
		default: // the client is slow: it gets a later one
		}
	}
	var p queue.Progress
	var err error
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				s.log.Error("http: handler failed", "path", r.URL.Path, "error", v)
				err = errors.New("the work failed")
			}
		}()
		p, err = s.do(r, o)
	}()
	for working := true; working; {
		select {
		case n := <-news:
			// One that cannot be written is to nobody: the request's context ends then.
			_ = out.writeNow(told{Progress: n})
		case <-done:
			working = false
		}
	}
	if err != nil && !out.begun {
		s.fail(w, r, err)
		return
	}
	last := told{Progress: p, End: err == nil}
	if err != nil {
		s.log.Error("http: request failed", "path", r.URL.Path, "error", err)
		last.Error = problemOf(err)
	}
	_ = out.writeNow(last)
}

// writeNow writes a line and sends it.
func (s *stream) writeNow(v any) error {
	s.n = 0 // each line may take its time
	if err := s.write(v); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// survey counts what matches.
func (s *Server) survey(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f, err := parseFilter(q, "by", "top", "verb")
	in := queue.Inquiry{Filter: f, By: q.Get("by"), Verb: queue.Verb(q.Get("verb"))}
	if err == nil && q.Has("top") {
		if in.Top, err = strconv.Atoi(q.Get("top")); err == nil && in.Top < 1 {
			err = strconv.ErrRange
		}
		if err != nil {
			err = errors.New("top is no number above 0")
		}
	}
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	s.count(w, r, in)
}

// count answers with a survey.
func (s *Server) count(w http.ResponseWriter, r *http.Request, in queue.Inquiry) {
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	v, err := s.o.Queue.Survey(r.Context(), in)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, counted{v.Envelopes, v})
}

// suspensions answers with those that are in force.
func (s *Server) suspensions(w http.ResponseWriter, r *http.Request) {
	if err := onlyKeys(r.URL.Query()); err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	list := s.o.Queue.Suspensions()
	if list == nil {
		list = []queue.Suspension{}
	}
	writeJSON(w, list)
}

// suspend keeps mail to a destination from being tried.
func (s *Server) suspend(w http.ResponseWriter, r *http.Request) {
	x, err := parseSuspension(r)
	if err == nil {
		x, err = s.o.Queue.Suspend(r.Context(), x)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, x)
}

// resume ends suspensions and answers with those that it ended.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	target, err := parseTarget(r)
	if err == nil {
		err = onlyKeys(r.URL.Query(), "domain", "all")
	}
	var ended []queue.Suspension
	if err == nil {
		ended, err = s.o.Queue.Resume(r.Context(), target, by(r))
	} else {
		err = &queue.FilterError{Detail: err.Error()}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, ended)
}

// parseSuspension reads a suspension from a query: domain or all, reason, for or until.
func parseSuspension(r *http.Request) (x queue.Suspension, err error) {
	q := r.URL.Query()
	mistake := func(text string) (queue.Suspension, error) { return x, &queue.FilterError{Detail: text} }
	if err := onlyKeys(q, "domain", "all", "reason", "for", "until"); err != nil {
		return mistake(err.Error())
	}
	if x.Target, err = parseTarget(r); err != nil {
		return mistake(err.Error())
	}
	x.Reason, x.By = q.Get("reason"), by(r)
	switch {
	case q.Has("for") && q.Has("until"):
		return mistake("for and until are both given: leave one of them out")
	case q.Has("for"):
		d, err := queue.ParseSpan(q.Get("for"))
		if err != nil {
			return mistake("for is no time span: use for example 90m, 4h or 5d")
		}
		x.Until = time.Now().Add(d)
	case q.Has("until"):
		if x.Until, err = time.Parse(time.RFC3339, q.Get("until")); err != nil {
			return mistake("until is no time: use for example 2026-12-24T18:00:00Z")
		}
	}
	return x, nil
}

func parseTarget(r *http.Request) (string, error) {
	q := r.URL.Query()
	all, err := parseTruthOf("all", q.Get("all"))
	switch {
	case err != nil:
		return "", err
	case all && q.Has("domain"):
		return "", errors.New("domain and all are both given: leave one of them out")
	case all:
		return queue.Everything, nil
	case !q.Has("domain"):
		return "", errors.New("no destination: give domain=example.net, domain=.example.net for all below it, or all=true")
	}
	return q.Get("domain"), nil
}
