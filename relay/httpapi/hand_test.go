package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// myself is who this process is at the other end of the admin socket.
func myself() string {
	if runtime.GOOS != "linux" {
		return "admin socket"
	}
	return fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid())
}

// handed is a real queue of n messages for each of the domains, behind a client.
func handed(t *testing.T, n int, domains ...string) (*queue.Queue, *Client) {
	t.Helper()
	q, err := queue.New(queue.Options{Store: storetest.NewModel()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		for _, d := range domains {
			to, err := queue.ParseAddress(fmt.Sprintf("u%d@%s", i, d))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.Enqueue(t.Context(), &queue.Draft{Recipients: []queue.Recipient{{Address: to}}, Body: strings.NewReader("x")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return q, onSocket(t, New(Options{Queue: q}))
}

// operator is the last operator's entry of the journal.
func operator(t *testing.T, q *queue.Queue) (last queue.OperatorAction) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	enough := errors.New("enough")
	end := fmt.Sprint("end ", time.Now())
	if err := q.Note(ctx, queue.OperatorAction{Verb: end}); err != nil {
		t.Fatal(err)
	}
	err := q.Follow(ctx, end, func(b []byte) error {
		var e queue.JournalEntry
		switch err := json.Unmarshal(b, &e); {
		case err != nil:
			return err
		case e.Kind != queue.EntryOperator:
		case e.Operator.Verb == end:
			return enough
		case !strings.HasPrefix(e.Operator.Verb, "end "):
			last = *e.Operator
		}
		return nil
	})
	if err != enough {
		t.Fatal(err)
	}
	return last
}

func TestHandOverSocket(t *testing.T) {
	t.Parallel()
	q, c := handed(t, 30, "one.example", "two.example")
	ctx := t.Context()

	s, err := c.Survey(ctx, queue.Inquiry{Filter: queue.Filter{Domain: "one.example"}, Verb: queue.VerbDrop, By: "state", Top: 3})
	if err != nil || s.Envelopes != 30 || s.By != "state" || len(s.Top) != 1 || s.Top[0].Name != "waiting" || s.Octets != 30 {
		t.Errorf("survey: %+v, %v", s, err)
	}
	p, err := c.Do(ctx, queue.Order{Action: queue.Action{Verb: queue.VerbHold, By: "somebody else"}, Filter: queue.Filter{Recipient: "u7@one.example"}})
	if err != nil || p.Done != 1 || p.Scanned != 60 {
		t.Errorf("do: %+v, %v", p, err)
	}
	if o := operator(t, q); o.Verb != "hold" || o.By != myself() || o.Target != "recipient=*@one.example" || o.Done != 1 {
		t.Errorf("the journal has %+v", o)
	}
	p, err = c.Do(ctx, queue.Order{Action: queue.Action{Verb: queue.VerbDrop, DryRun: true}, Filter: queue.Filter{State: "held"}})
	if err != nil || p.Matched != 1 || q.Stats().Envelopes["held"] != 1 {
		t.Errorf("a dry run: %+v, %v", p, err)
	}

	if list, err := c.Suspensions(ctx); err != nil || list == nil || len(list) != 0 {
		t.Errorf("suspensions: %v, %v", list, err)
	}
	until := time.Now().Add(time.Hour)
	x, err := c.Suspend(ctx, queue.Suspension{Target: "BÜcher.example", Reason: "moving & more", Until: until})
	if err != nil || x.Target != "xn--bcher-kva.example" || x.Reason != "moving & more" || !x.Until.Equal(until) || x.By != myself() {
		t.Errorf("suspend: %+v, %v", x, err)
	}
	if _, err := c.Suspend(ctx, queue.Suspension{Target: queue.Everything}); err != nil {
		t.Error(err)
	}
	if list, err := c.Suspensions(ctx); err != nil || len(list) != 2 || list[0].Target != queue.Everything || !list[0].Until.IsZero() {
		t.Errorf("suspensions: %+v, %v", list, err)
	}
	if ended, err := c.Resume(ctx, queue.Everything); err != nil || len(ended) != 2 {
		t.Errorf("resume: %+v, %v", ended, err)
	}
	if o := operator(t, q); o.Verb != "resume" || o.By != myself() {
		t.Errorf("the journal has %+v", o)
	}
}

// Every mistake is a 400 that says how to mend it, and nothing is done.
func TestHandMistakes(t *testing.T) {
	t.Parallel()
	q, _ := handed(t, 1, "one.example")
	h := New(Options{Queue: q}).AdminHandler()
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/admin/queue?domian=one.example", "did you mean domain?"},
		{"GET", "/admin/queue?after=nonsense&id=01K0000000000000000000000A", "leave one of them out"},
		{"POST", "/admin/queue/drop?domain=a.example&domain=b.example", "given 2 times"},
		{"POST", "/admin/queue/drop?dryrun=true", "did you mean dry_run?"},
		{"POST", "/admin/queue/drop?older_than=soon", "use for example 90m"},
		{"POST", "/admin/queue/drop?all=true&dry_run=perhaps", "use true or false"},
		{"POST", "/admin/queue/drop", "no filter"},
		{"POST", "/admin/queue/drop?limit=2", "no filter"},
		{"POST", "/admin/queue/drop?all=true&domain=one.example", "leave one of them out"},
		{"POST", "/admin/keys/rotate?x=1", "unknown"},
		{"GET", "/admin/memory/hosts?x=1", "unknown"},
		{"POST", "/admin/queue/drop?progress=true&domain=a..b", "for domain use a name"},
		{"GET", "/admin/queue/summary?by=domian", "did you mean domain?"},
		{"GET", "/admin/queue/summary?top=0", "no number above 0"},
		{"GET", "/admin/queue/summary?verb=burn", "use retry, hold"},
		{"POST", "/admin/queue/suspend", "no destination"},
		{"POST", "/admin/queue/suspend?domain=one.example&all=true", "leave one of them out"},
		{"POST", "/admin/queue/suspend?domain=one.example&for=1h&until=2999-01-01T00:00:00Z", "leave one of them out"},
		{"POST", "/admin/queue/suspend?domain=one.example&for=x", "for is no time span"},
		{"POST", "/admin/queue/suspend?domain=one.example&until=tomorrow", "until is no time"},
		{"POST", "/admin/queue/suspend?domain=one.example&until=1999-01-01T00:00:00Z", "is past"},
		{"POST", "/admin/queue/suspend?domain=one.example&raeson=x", "did you mean reason?"},
		{"POST", "/admin/queue/resume?domain=one.example", "is not suspended"},
		{"POST", "/admin/queue/resume?all=true", "nothing is suspended"},
		{"GET", "/admin/queue/suspensions?x=1", "unknown"},
	} {
		w := ask(h, c.method, c.target)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s, want %q", c.method, c.target, w.Code, w.Body, c.want)
		}
	}
	if q.Stats().Envelopes["waiting"] != 1 || len(q.Suspensions()) != 0 {
		t.Error("something was done")
	}
}

// lasting is a queue whose work never ends by itself.
type lasting struct {
	fakeQueue
	ended chan error
}

func (q *lasting) Do(ctx context.Context, o queue.Order) (queue.Progress, error) {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			q.ended <- err
			return queue.Progress{Done: n}, err
		}
		o.Tell(queue.Progress{Scanned: n, Total: 1 << 40, Matched: n, Done: n})
		runtime.Gosched()
	}
}

// The client hears how far the work is; when it leaves, the work ends.
func TestWorkIsToldAndEnds(t *testing.T) {
	t.Parallel()
	q := &lasting{ended: make(chan error, 1)}
	c := onSocket(t, New(Options{Queue: q}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	p, err := c.Do(ctx, queue.Order{Action: queue.Action{Verb: queue.VerbDrop}, Tell: func(p queue.Progress) {
		if n++; n == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || n < 3 || p.Done == 0 || p.Total != 1<<40 {
		t.Errorf("%d lines, %+v, %v", n, p, err)
	}
	select {
	case <-q.ended:
	case <-time.After(10 * time.Second):
		t.Error("the work goes on without a client")
	}
}

// A fault in the middle of the work reaches the client as a problem without its text.
func TestWorkFails(t *testing.T) {
	t.Parallel()
	c := onSocket(t, New(Options{Queue: &fakeQueue{entries: []queue.Entry{sample()}, err: errors.New("secret path")}}))
	_, err := c.Do(t.Context(), queue.Order{Action: queue.Action{Verb: queue.VerbHold}})
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusInternalServerError || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// Who acts over TCP is who has the token.
func TestByToken(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{}
	addr := onTCP(t, New(Options{Queue: q, Token: "0123456789abcdef"}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/admin/queue/retry?all=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer 0123456789abcdef")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if text := body(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(text, `"matched":0`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if a, _ := q.asked(); a.By != "token" {
		t.Errorf("by %q", a.By)
	}
}

// Parameters in the body would not be read: an order on one domain would be one on everything.
func TestNoBody(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{}
	h := New(Options{Queue: q}).AdminHandler()
	for _, target := range []string{"/admin/queue/drop?all=true", "/admin/queue/suspend?all=true", "/admin/queue/resume?all=true", "/admin/memory/forget?host=a.example", "/admin/keys/rotate"} {
		w := ask(h, "POST", target, func(r *http.Request) {
			b := "domain=d1.example&dry_run=true"
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
		})
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "into the query") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if a, _ := q.asked(); a.Verb != "" {
		t.Errorf("%s was carried out", a.Verb)
	}
}

// A backup is written for who has the socket, and for nobody else.
func TestBackup(t *testing.T) {
	t.Parallel()
	q, _ := handed(t, 1, "one.example")
	o := Options{Queue: q, Token: "0123456789abcdef", Backup: func(_ context.Context, dir string) (Backup, error) {
		if dir == "/full" {
			return Backup{}, errors.New("no space left on /full")
		}
		return Backup{Dir: dir, Files: 3, Octets: 4096}, nil
	}}
	c := onSocket(t, New(o))
	b, err := c.Backup(t.Context(), "/backup/a b")
	if err != nil || b.Dir != "/backup/a b" || b.Files != 3 {
		t.Errorf("%+v, %v", b, err)
	}
	if o := operator(t, q); o.Verb != "backup" || o.By != myself() || o.Target != "/backup/a b" || o.Failed != "" {
		t.Errorf("the journal has %+v", o)
	}
	if _, err := c.Backup(t.Context(), "/full"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	if o := operator(t, q); !strings.Contains(o.Failed, "no space left") {
		t.Errorf("the journal has %+v", o)
	}
	for _, dir := range []string{"", "backup", "/a/../b"} {
		if _, err := c.Backup(t.Context(), dir); err == nil {
			t.Errorf("a backup into %q", dir)
		}
	}
	w := ask(New(o).Handler(), http.MethodPost, "/admin/backup?dir=/x", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer 0123456789abcdef")
	})
	if w.Code != http.StatusNotFound {
		t.Errorf("over TCP: %d", w.Code)
	}
}
