package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Persons is what the admin API needs to show what is held of a person, and to erase it.
// *queue.Queue is one.
type Persons interface {
	Export(ctx context.Context, a queue.Address, fn func(queue.Holding) error) error
	Erase(ctx context.Context, a queue.Address, o queue.EraseOptions) (*queue.Erasure, error)
}

var _ Persons = (*queue.Queue)(nil)

// addressLimit bounds a request that holds an address, in octets.
const addressLimit = 4096

// person reads the address of a request. It is in the body, because what stands in a URL gets
// into logs, of proxies too.
func person(w http.ResponseWriter, r *http.Request, more ...string) (queue.Address, url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, addressLimit)
	if err := r.ParseForm(); err != nil {
		return queue.Address{}, nil, errors.New("the request's form cannot be read")
	}
	if err := onlyKeys(r.PostForm, append(more, "address")...); err != nil {
		return queue.Address{}, nil, err
	}
	a, err := queue.ParseAddress(r.PostForm.Get("address"))
	if err == nil && a.IsNull() {
		err = errors.New("address is missing")
	}
	return a, r.PostForm, err
}

// exportPerson streams what is held of a person.
func (s *Server) exportPerson(w http.ResponseWriter, r *http.Request) {
	a, _, err := person(w, r)
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if s.o.Persons == nil {
		writeProblem(w, notAvailable("the queue"))
		return
	}
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	out := newStream(w)
	err = s.o.Persons.Export(r.Context(), a, func(h queue.Holding) error { return out.write(h) })
	if errors.Is(err, queue.ErrNobody) {
		err = nil
	}
	s.end(w, r, out, err)
}

// erasing is a line of the answer to an erasure: news while it lasts, then how it ended.
type erasing struct {
	News    *ErasureNews   `json:"news,omitempty"`
	Result  *queue.Erasure `json:"result,omitempty"`
	Problem *Problem       `json:"problem,omitempty"`
}

// ErasureNews says how far an erasure is: what is looked at, how much of it, and how much of
// that was the person's.
type ErasureNews struct {
	What string `json:"what"` // "queue", "delivery", "journal", "stand-ins"
	Seen int    `json:"seen"`
	Hit  int    `json:"hit"`
}

// erasePerson erases a person. The work goes on when the client leaves: it would only have
// to be done again.
func (s *Server) erasePerson(w http.ResponseWriter, r *http.Request) {
	a, form, err := person(w, r, "dry_run")
	dry := false
	if err == nil {
		dry, err = parseTruthOf("dry_run", form.Get("dry_run"))
	}
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if s.o.Persons == nil {
		writeProblem(w, notAvailable("the queue"))
		return
	}
	ctl := http.NewResponseController(w)
	if err := patient(ctl, time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	out := newStream(w)
	tell := func(e erasing) {
		// A client that has left does not end the work.
		_ = out.write(e)
		_ = ctl.Flush()
		_ = patient(ctl, time.Time{})
	}
	res, err := s.o.Persons.Erase(context.WithoutCancel(r.Context()), a, queue.EraseOptions{
		DryRun: dry, By: by(r), News: func(what string, seen, hit int) { tell(erasing{News: &ErasureNews{what, seen, hit}}) },
	})
	if err != nil && !errors.Is(err, queue.ErrNobody) {
		tell(erasing{Problem: s.erasureProblem(err)})
		return
	}
	if err == nil && !dry {
		s.log.Info("queue: operator's hand", "verb", "erase", "by", res.By, "receipt", res.ID, "messages", res.Messages, "entries", res.Entries)
	}
	tell(erasing{Result: res})
}

// erasureProblem is an error of an erasure for the operator.
func (s *Server) erasureProblem(err error) *Problem {
	for _, e := range []error{queue.ErrNoEraser, queue.ErrErasing, queue.ErrNotAPerson} {
		if errors.Is(err, e) {
			return problem(http.StatusConflict, err.Error())
		}
	}
	s.log.Error("erasure failed: what it has not done yet, the next one does", "error", err)
	return internal()
}

// Export calls fn with all that the relay holds of a person.
func (c *Client) Export(ctx context.Context, a queue.Address, fn func(queue.Holding) error) error {
	body, err := c.submitForm(ctx, "/admin/export", url.Values{"address": {a.String()}})
	if err != nil {
		return err
	}
	return lineByLine(body, fn)
}

// Erase has the relay erase a person; news is told of long work. An erasure without an ID in
// the journal found nothing: its Messages and Entries are 0.
func (c *Client) Erase(ctx context.Context, a queue.Address, dryRun bool, news func(ErasureNews)) (*queue.Erasure, error) {
	form := url.Values{"address": {a.String()}, "dry_run": {strconv.FormatBool(dryRun)}}
	body, err := c.submitForm(ctx, "/admin/erase", form)
	if err != nil {
		return nil, err
	}
	var res *queue.Erasure
	err = lineByLine(body, func(e erasing) error {
		switch {
		case e.Problem != nil:
			return e.Problem
		case e.News != nil:
			news(*e.News)
		}
		res = e.Result
		return nil
	})
	if err == nil && res == nil {
		err = errors.New("the relay's answer ended too soon: ask again, erasing twice is harmless")
	}
	return res, err
}
