package httpapi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/queue"
)

// fakePersons holds one envelope of one person.
type fakePersons struct {
	err   error // of Erase
	asked queue.EraseOptions
}

func (f *fakePersons) Export(_ context.Context, a queue.Address, fn func(queue.Holding) error) error {
	if a.Local != "ann" {
		return queue.ErrNobody
	}
	return fn(queue.Holding{Envelope: &queue.Entry{State: queue.RowHeld}})
}

func (f *fakePersons) Erase(_ context.Context, a queue.Address, o queue.EraseOptions) (*queue.Erasure, error) {
	f.asked = o
	o.News("journal", 10000, 2)
	res := &queue.Erasure{ErasureReceipt: queue.ErasureReceipt{ID: "R1", Done: !o.DryRun, Entries: 2}, DryRun: o.DryRun}
	if a.Local != "ann" {
		return &queue.Erasure{}, queue.ErrNobody
	}
	return res, f.err
}

func TestPersonsRoundTrip(t *testing.T) {
	t.Parallel()
	f := &fakePersons{}
	var log bytes.Buffer
	c := onSocket(t, New(Options{Persons: f, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	ann, bob := queue.Address{Local: "ann", Domain: "a.example"}, queue.Address{Local: "bob", Domain: "a.example"}
	var news []ErasureNews
	tell := func(n ErasureNews) { news = append(news, n) }
	res, err := c.Erase(t.Context(), ann, false, tell)
	if err != nil || !res.Done || res.ID != "R1" || res.Entries != 2 || len(news) != 1 || news[0] != (ErasureNews{"journal", 10000, 2}) {
		t.Errorf("erased %+v, %v, news %v", res, err, news)
	}
	if res, err = c.Erase(t.Context(), ann, true, tell); err != nil || !res.DryRun || !f.asked.DryRun || !strings.HasPrefix(f.asked.By, "uid ") {
		t.Errorf("dry run %+v, %v", res, err)
	}
	if res, err = c.Erase(t.Context(), bob, false, tell); err != nil || res.Done || res.Entries != 0 {
		t.Errorf("nobody %+v, %v", res, err)
	}
	var p *Problem
	for _, test := range []struct {
		err    error
		status int
	}{{queue.ErrErasing, http.StatusConflict}, {queue.ErrNoEraser, http.StatusConflict}, {errors.New("a disk fault"), http.StatusInternalServerError}} {
		f.err = test.err
		if _, err = c.Erase(t.Context(), ann, false, tell); !errors.As(err, &p) || p.Status != test.status || strings.Contains(p.Error(), "disk fault") {
			t.Errorf("%v: %v", test.err, err)
		}
	}
	n := 0
	if err := c.Export(t.Context(), ann, func(h queue.Holding) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("exported %d, %v", n, err)
	}
	if err := c.Export(t.Context(), bob, func(h queue.Holding) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("exported %d of nobody, %v", n, err)
	}
	if !strings.Contains(log.String(), "receipt=R1") || strings.Contains(log.String(), "ann") || strings.Contains(log.String(), "bob") {
		t.Errorf("log %s", log.String())
	}
}

// TestPersonsRefused: a request that is not understood erases nobody.
func TestPersonsRefused(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"", "address=", "address=%3C%3E", "address=ann", "address=ann%40a.example&dry_run=perhaps",
		"address=ann%40a.example&dryrun=true", "address=ann%40a.example&address=bob%40a.example", "address=" + strings.Repeat("a", addressLimit)} {
		f := &fakePersons{}
		r := httptest.NewRequest(http.MethodPost, "/admin/erase?address=ann%40a.example", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		New(Options{Persons: f}).AdminHandler().ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || f.asked.News != nil {
			t.Errorf("form %.60q: %d %s", form, w.Code, w.Body)
		}
	}
}
