package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// fakeQueue is a queue of given entries. It records what it was asked.
type fakeQueue struct {
	entries []queue.Entry
	err     error // returned by every verb, by List after the entries

	mu     sync.Mutex
	filter queue.Filter
	action queue.Action
}

func (q *fakeQueue) note(a queue.Action, f queue.Filter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.action, q.filter = a, f
}

// asked returns what the last verb was asked.
func (q *fakeQueue) asked() (queue.Action, queue.Filter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.action, q.filter
}

func (q *fakeQueue) List(_ context.Context, f queue.Filter, fn func(queue.Entry) error) error {
	q.note(queue.Action{}, f)
	for _, e := range q.entries {
		if err := fn(e); err != nil {
			return err
		}
	}
	return q.err
}

func (q *fakeQueue) Show(_ context.Context, id queue.ID) ([]queue.Entry, error) {
	var list []queue.Entry
	for _, e := range q.entries {
		if e.Message.ID == id {
			list = append(list, e)
		}
	}
	return list, q.err
}

func (q *fakeQueue) Do(_ context.Context, o queue.Order) (queue.Progress, error) {
	q.note(o.Action, o.Filter)
	n := len(q.entries)
	return queue.Progress{Scanned: n, Total: n, Matched: n, Done: n}, q.err
}

func (q *fakeQueue) Survey(_ context.Context, in queue.Inquiry) (queue.Survey, error) {
	q.note(queue.Action{Verb: in.Verb, DryRun: true}, in.Filter)
	return queue.Survey{Envelopes: len(q.entries), By: in.By, Others: in.Top}, q.err
}

func (q *fakeQueue) Suspend(_ context.Context, s queue.Suspension) (queue.Suspension, error) {
	return s, q.err
}

func (q *fakeQueue) Resume(_ context.Context, target, by string) ([]queue.Suspension, error) {
	return []queue.Suspension{{Target: target, By: by}}, q.err
}

func (q *fakeQueue) Note(context.Context, queue.OperatorAction) error { return q.err }

func (q *fakeQueue) Suspensions() []queue.Suspension { return nil }

func (q *fakeQueue) Stats() queue.Stats {
	return queue.Stats{
		Envelopes: map[string]int{"waiting": 12, "leased": 3, "held": 1},
		Bytes:     map[string]int64{"waiting": 49152, "leased": 12000, "held": 5 << 20},
		Oldest:    map[string]time.Time{"waiting": time.Now().Add(-95 * time.Minute), "held": time.Now().Add(-100 * time.Hour)},
	}
}

func sample() queue.Entry {
	return queue.Entry{
		Message: queue.Message{ID: "01M", AcceptedAt: time.Unix(1e9, 0).UTC(), Sender: queue.Address{Local: "shop", Domain: "example.com"}, Floor: policy.Verified},
		Envelope: queue.Envelope{ID: "01M-0", Message: "01M", Lane: "example.net", Tries: 2, Recipients: []queue.Recipient{{
			Address: queue.Address{Local: "bob", Domain: "example.net"},
			Last:    &queue.Outcome{Host: "mx1.example.net", Failure: &policy.Failure{Reason: policy.ConnectTimeout, Host: "mx1.example.net"}},
		}}},
		State: queue.RowHeld,
	}
}

// get asks a handler as a browser on this machine would.
func get(h http.Handler, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	return ask(h, http.MethodGet, target, change...)
}

func ask(h http.Handler, method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost:8025"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// onSocket serves s on a real unix socket and returns a client of it.
func onSocket(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, s, func() error { return s.ServeAdmin(l) })
	return NewClient(path)
}

func serveUntilEnd(t *testing.T, s *Server, serve func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// onTCP serves s on loopback and returns its address.
func onTCP(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, s, func() error { return s.Serve(l) })
	return l.Addr().String()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func well(name string) Check {
	return Check{name, func(context.Context) error { return nil }}
}

func ill(name, why string) Check {
	return Check{name, func(context.Context) error { return errors.New(why) }}
}

// attempts are one of each kind that the page must show well.
func attempts() []*relay.Attempt {
	addr := netip.MustParseAddrPort("192.0.2.1:25")
	one := func(l policy.Level) []relay.AttemptOutcome {
		return []relay.AttemptOutcome{{Kind: queue.DeliveredNow, Level: l}}
	}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	return []*relay.Attempt{
		{At: ago(3 * time.Hour), Message: "01JCLEAR", Domain: "old.example", Host: "mail.old.example", Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault,
			Achieved: policy.Plaintext, Outcomes: one(policy.Plaintext), Evidence: policy.Evidence{Rung: policy.Clear},
			Trace: policy.Trace{
				{Host: "mail.old.example", Addr: addr, Rung: policy.Modern, Reason: policy.STARTTLSMissing, Millis: 40},
				{Host: "mail.old.example", Addr: addr, Rung: policy.Clear, Level: policy.Plaintext, Millis: 35},
			}},
		{At: ago(90 * time.Minute), Message: "01JREFUSED", Domain: "bank.example", Host: "mx.bank.example", Wanted: policy.Floor{Level: policy.Verified, Needs: policy.NeedRoute}, Basis: policy.BasisMessage,
			Outcomes: []relay.AttemptOutcome{{Kind: queue.BouncedNow}, {Kind: queue.BouncedNow}}, Failure: &policy.Failure{Reason: policy.CertificateUntrusted, Detail: "secret remote words bob@bank.example"},
			Evidence: policy.Evidence{Rung: policy.Modern, Version: 0x0303},
			Trace:    policy.Trace{{Host: "mx.bank.example", Addr: addr, Rung: policy.Modern, Level: policy.Encrypted, Reason: policy.CertificateUntrusted, Millis: 120}},
			Why:      []policy.Note{{Text: "the message asks for verified"}, {Host: "mx.bank.example", Text: "no TLSA record"}}},
		{At: ago(4 * time.Minute), Message: "01JDEFERRED", Domain: "busy.example", Host: "mx2.busy.example", Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault,
			Outcomes: []relay.AttemptOutcome{{Kind: queue.DeliveredNow, Level: policy.Encrypted}, {Kind: queue.DeferredNow}}, Achieved: policy.Encrypted,
			Failure: &policy.Failure{Reason: policy.ReplyTemporary}, Evidence: policy.Evidence{Rung: policy.Modern, Version: 0x0304},
			Trace: policy.Trace{{Host: "mx1.busy.example", Addr: addr, Rung: policy.Modern, Reason: policy.ConnectRefused, Millis: 2}, {Host: "mx2.busy.example", Addr: addr, Rung: policy.Modern, Level: policy.Encrypted, Reason: policy.ReplyTemporary, Millis: 88}}},
		{At: ago(12 * time.Second), Message: "01JDANE", Domain: "good.example", Host: "mx.good.example", Wanted: policy.Floor{Level: policy.DANE}, Basis: policy.BasisDANE,
			Achieved: policy.DANE, Outcomes: one(policy.DANE), Reused: true, Evidence: policy.Evidence{Rung: policy.Modern, Route: policy.RouteDNSSEC, Peer: policy.PeerTLSA, Version: 0x0304},
			Trace: policy.Trace{{Host: "mx.good.example", Addr: addr, Rung: policy.Modern, Level: policy.DANE, Millis: 61}}},
	}
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}
