package httpapi

import (
	"errors"
	"net/http"

	"github.com/sealpost/sealpost/queue"
)

// inQuery is a handler whose parameters are all in the query. What stands in the body would not be
// read, so an order would be carried out without its filter, or without its dry run: it is refused.
func inQuery(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			writeProblem(w, problem(http.StatusBadRequest, "the request has a body, which nobody reads here: put the parameters into the query, behind the question mark"))
			return
		}
		h(w, r)
	}
}

// bare is a handler without parameters.
func bare(h http.HandlerFunc) http.HandlerFunc {
	return inQuery(func(w http.ResponseWriter, r *http.Request) {
		if err := onlyKeys(r.URL.Query()); err != nil {
			writeProblem(w, problem(http.StatusBadRequest, err.Error()))
			return
		}
		h(w, r)
	})
}

// meansAll checks that an order on everything says so: all is true for one without a filter, and for no
// other.
func meansAll(f queue.Filter, all bool) error {
	filtered := false
	for word := range f.Words() {
		filtered = filtered || word != "limit"
	}
	switch {
	case filtered && all:
		return errors.New("a filter and all are both given: leave one of them out")
	case !filtered && !all:
		return errors.New("no filter: give one, or all=true for everything")
	}
	return nil
}
