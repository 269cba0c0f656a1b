package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
	"github.com/sealpost/sealpost/relay"
)

func TestClientRoundTrip(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{entries: []queue.Entry{sample(), sample()}}
	rec := NewRecorder(10)
	for _, a := range attempts() {
		rec.Attempted(a)
	}
	c := onSocket(t, New(Options{Queue: q, Recorder: rec}))
	ctx := t.Context()

	filter := queue.Filter{ID: "01K0000000000000000000000A,01K0000000000000000000000B-0", Domain: "example.net,.example.org", Recipient: "@example.net", Sender: "shop@example.com", State: "held", Reason: "connect-timeout", OlderThan: 90 * time.Minute, YoungerThan: 24 * time.Hour, DueWithin: time.Hour, MinTries: 2,
		Host: ".mx.example", Credential: "a&b", Stream: "s t", Tag: "t", Limit: 7}
	var got []queue.Entry
	if err := c.List(ctx, filter, func(e queue.Entry) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, f := q.asked(); f != filter {
		t.Errorf("filter %+v arrived as %+v", filter, f)
	}
	if !reflect.DeepEqual(got, q.entries) {
		t.Errorf("entries\n%+v arrived as\n%+v", q.entries, got)
	}

	shown, err := c.Show(ctx, "01M")
	if err != nil || !reflect.DeepEqual(shown, q.entries) {
		t.Errorf("show: %v %+v", err, shown)
	}
	if _, err := c.Show(ctx, "gone/../x"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("show of nothing: %v", err)
	}

	action := queue.Action{Verb: queue.VerbDrop, DryRun: true}
	n, err := c.Act(ctx, action, filter)
	if a, f := q.asked(); err != nil || n != 2 || a != action || f != filter {
		t.Errorf("act: %d %v, %+v %+v", n, err, a, f)
	}
	n, err = c.Act(ctx, queue.Action{Verb: queue.VerbRetry, By: "somebody else"}, queue.Filter{})
	if a, f := q.asked(); err != nil || n != 2 || a.DryRun || a.By != myself() || f != (queue.Filter{}) {
		t.Errorf("act on all: %d %v, %+v %+v", n, err, a, f)
	}

	var ids []string
	err = c.Attempts(ctx, "01JDANE", func(raw json.RawMessage) error {
		var a struct {
			Message string `json:"msg"`
		}
		ids = append(ids, string(raw))
		return json.Unmarshal(raw, &a)
	})
	if err != nil || len(ids) != 1 || !strings.Contains(ids[0], `"msg":"01JDANE"`) {
		t.Errorf("attempts: %v %q", err, ids)
	}

	stop := errors.New("enough")
	if err := c.List(ctx, queue.Filter{}, func(queue.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a caller's error comes back as %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{err: errors.New("pebble: /var/lib/secret is broken")}
	c := onSocket(t, New(Options{Queue: q}))
	ctx := t.Context()
	_, showErr := c.Show(ctx, "01M")
	_, actErr := c.Act(ctx, queue.Action{Verb: queue.VerbHold}, queue.Filter{})
	for what, err := range map[string]error{
		"list": c.List(ctx, queue.Filter{}, func(queue.Entry) error { return nil }), "show": showErr, "act": actErr,
	} {
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusInternalServerError || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.List(ctx, queue.Filter{State: "sleeping"}, nil); err == nil || !strings.Contains(err.Error(), "waiting, leased, held") {
		t.Errorf("a bad filter: %v", err)
	}
	if _, err := c.Act(ctx, queue.Action{Verb: "burn"}, queue.Filter{}); err == nil || !strings.Contains(err.Error(), "retry, hold, release or drop") {
		t.Errorf("a bad verb: %v", err)
	}
	if _, err := NewClient(t.TempDir()+"/none").Show(ctx, "x"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("nobody there: %v", err)
	}
}

// What an operator typed wrong is no fault of the relay, and the text reaches them.
func TestFilterError(t *testing.T) {
	t.Parallel()
	q, err := queue.New(queue.Options{Store: storetest.NewModel()})
	if err != nil {
		t.Fatal(err)
	}
	c := onSocket(t, New(Options{Queue: q}))
	list := func(f queue.Filter) error {
		return c.List(t.Context(), f, func(queue.Entry) error { return nil })
	}
	act := func(f queue.Filter) error {
		_, err := c.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, f)
		return err
	}
	_, show := c.Show(t.Context(), "NOPE")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"show", show, `"NOPE" is no message ID`},
		{"list ID", list(queue.Filter{ID: "NOPE"}), `"NOPE" is no message ID`},
		{"act ID", act(queue.Filter{ID: "NOPE"}), `"NOPE" is no message ID`},
		{"list domain", list(queue.Filter{Domain: "a..b"}), "use a name such as"},
		{"act sender", act(queue.Filter{Sender: "x"}), "use an address"},
	} {
		var p *Problem
		if !errors.As(tt.err, &p) || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, tt.want) {
			t.Errorf("%s: %v, want a 400 that says %q", tt.name, tt.err, tt.want)
		}
	}
	if _, err := c.Show(t.Context(), queue.NewID(time.Now())); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a good ID of nothing: %v", err)
	}
}

// Of one message the latest ten attempts are given, newest first, and more only
// when more are asked for.
func TestAttemptsOfMessage(t *testing.T) {
	t.Parallel()
	rec := NewRecorder(100)
	for i := range 30 {
		rec.Attempted(&relay.Attempt{Message: "01M", Tries: i})
		rec.Attempted(&relay.Attempt{Message: "01OTHER", Tries: i})
	}
	h := New(Options{Recorder: rec}).AdminHandler()
	for target, want := range map[string][]int{ // how many, the first, the last
		"/admin/attempts?msg=01M":          {10, 29, 20},
		"/admin/attempts?msg=01M&limit=3":  {3, 29, 27},
		"/admin/attempts?msg=01M&limit=20": {20, 29, 10},
		"/admin/attempts":                  {60, 29, 0},
	} {
		var tries []int
		for line := range strings.Lines(get(h, target).Body.String()) {
			var a relay.Attempt
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatal(err)
			}
			tries = append(tries, a.Tries)
		}
		if len(tries) != want[0] || tries[0] != want[1] || tries[len(tries)-1] != want[2] {
			t.Errorf("%s: %v, want %v", target, tries, want)
		}
	}
}

// A list that breaks off must not look complete.
func TestListBreaksOff(t *testing.T) {
	t.Parallel()
	c := onSocket(t, New(Options{Queue: &fakeQueue{entries: []queue.Entry{sample()}, err: errors.New("disk")}}))
	n := 0
	err := c.List(t.Context(), queue.Filter{}, func(queue.Entry) error { n++; return nil })
	if err == nil {
		t.Errorf("%d entries and no error", n)
	}
}

// endless is a queue that never ends; it tells how far it came.
type endless struct {
	fakeQueue
	ended chan error
}

func (q *endless) List(ctx context.Context, _ queue.Filter, fn func(queue.Entry) error) error {
	for {
		if err := errors.Join(ctx.Err(), fn(sample())); err != nil {
			q.ended <- err
			return err
		}
	}
}

// A list streams: what the client has not read is not made up, and a client that
// leaves ends it.
func TestListStreams(t *testing.T) {
	t.Parallel()
	q := &endless{ended: make(chan error, 1)}
	addr := onTCP(t, New(Options{Queue: q, Token: "t"}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/admin/queue", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer t")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != lines {
		t.Errorf("content type %q", got)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !json.Valid([]byte(line)) {
		t.Errorf("first line %q, %v", line, err)
	}
	resp.Body.Close()
	if err := <-q.ended; err == nil {
		t.Error("the list ended without an error")
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{entries: []queue.Entry{sample()}}
	bearer := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", v) }
	}
	open, closed := New(Options{Queue: q, Token: "s3cret"}).Handler(), New(Options{Queue: q}).Handler()
	for _, tt := range []struct {
		name string
		h    http.Handler
		auth string
		want int
	}{
		{"no token configured", closed, "Bearer ", http.StatusForbidden},
		{"no token configured, some given", closed, "Bearer s3cret", http.StatusForbidden},
		{"none given", open, "", http.StatusUnauthorized},
		{"wrong", open, "Bearer s3creT", http.StatusUnauthorized},
		{"other scheme", open, "Basic s3cret", http.StatusUnauthorized},
		{"right", open, "Bearer s3cret", http.StatusOK},
		{"RFC 9110 11.1 scheme in any case", open, "bearer s3cret", http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := get(tt.h, "/admin/queue", bearer(tt.auth))
			if w.Code != tt.want {
				t.Errorf("%d, want %d", w.Code, tt.want)
			}
			if tt.want == http.StatusUnauthorized && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Error("RFC 6750 3: no WWW-Authenticate")
			}
			if tt.want != http.StatusOK && strings.Contains(w.Body.String(), "bob") {
				t.Error("the queue was shown")
			}
		})
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	h := New(Options{Queue: &fakeQueue{}}).AdminHandler()
	for _, tt := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/admin/queue?sate=held", 400},
		{"GET", "/admin/queue?state=held&state=leased", 400},
		{"GET", "/admin/queue?domain=", 400},
		{"GET", "/admin/queue?reason=bad-weather", 400},
		{"GET", "/admin/queue?older_than=yesterday", 400},
		{"GET", "/admin/queue?older_than=-5m", 400},
		{"GET", "/admin/queue?older_than=5d&limit=3", 200},
		{"GET", "/admin/queue?limit=0", 400},
		{"GET", "/admin/attempts?limit=x", 400},
		{"GET", "/admin/attempts?message=1", 400},
		{"GET", "/admin/attempts", 200},
		{"GET", "/admin/queue/none", 404},
		{"POST", "/admin/queue/drop?dry_run=maybe", 400},
		{"POST", "/admin/queue/drop?dryrun=true", 400},
		{"POST", "/admin/queue/explode", 404},
		{"POST", "/admin/queue", 405},
		{"DELETE", "/admin/queue/x", 405},
		{"GET", "/admin/nothing", 404},
		{"GET", "/nothing", 404},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			w := ask(h, tt.method, tt.target)
			if w.Code != tt.want {
				t.Fatalf("%d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if tt.want == 200 {
				return
			}
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != tt.want || p.Title == "" {
				t.Errorf("RFC 9457: %v %s", err, w.Body)
			}
			if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("RFC 9457 3: content type %q", got)
			}
			if tt.want == 405 && w.Header().Get("Allow") == "" {
				t.Error("RFC 9110 15.5.6: no Allow")
			}
		})
	}
}

func TestPanicStaysInside(t *testing.T) {
	t.Parallel()
	s := New(Options{Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") })})
	w := get(s.Handler(), "/metrics")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := NewRecorder(3)
	r.Attempted(nil)
	if got := r.Latest(5, ""); len(got) != 0 {
		t.Errorf("an empty recorder has %v", got)
	}
	for _, id := range []queue.ID{"a", "b", "c", "d", "b"} {
		r.Attempted(&relay.Attempt{Message: id})
	}
	order := func(n int, id queue.ID) string {
		var s strings.Builder
		for _, a := range r.Latest(n, id) {
			s.WriteString(string(a.Message))
		}
		return s.String()
	}
	for _, tt := range []struct {
		n    int
		id   queue.ID
		want string
	}{{-1, "", "bdc"}, {2, "", "bd"}, {0, "", ""}, {-1, "b", "b"}, {-1, "a", ""}} {
		if got := order(tt.n, tt.id); got != tt.want {
			t.Errorf("latest %d of %q: %q, want %q", tt.n, tt.id, got, tt.want)
		}
	}
}
