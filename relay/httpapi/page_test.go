package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

func pageServer() *Server {
	rec := NewRecorder(0)
	for range 20 {
		rec.Attempted(attempts()[3])
	}
	for _, a := range attempts() {
		rec.Attempted(a)
	}
	return New(Options{
		Hostname: "relay.example.com", Version: "0.1.0", Queue: &fakeQueue{}, Recorder: rec,
		Ready:    []Check{well("storage"), ill("intake", "free space 100 MiB is below 1 GiB: new mail gets 452")},
		Warnings: func() []string { return []string{"DNSSEC is not available: no new dane delivery <now>"} },
	})
}

func TestPage(t *testing.T) {
	t.Parallel()
	w := get(pageServer().Handler(), "/")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	text := w.Body.String()
	contains(t, text, "relay.example.com", "not ready", "free space 100 MiB is below 1 GiB",
		"DNSSEC is not available: no new dane delivery &lt;now&gt;", // escaped
		"<strong>23</strong> recipients reached", "91.3 %", "mail.old.example, clear: reached plaintext (35 ms)",
		"the host does not offer STARTTLS", "verified&#43;route", "by message", "2 bounced", "1 delivered, 1 deferred", "the message asks for verified",
		"oldest: 4 days", "48.0 KiB", "01JREFUSED")
	for _, no := range []string{"bob@", "secret remote words", "<script", "192.0.2.1"} {
		if strings.Contains(text, no) {
			t.Errorf("the page holds %q", no)
		}
	}
	if out := os.Getenv("PAGE_OUT"); out != "" {
		if err := os.WriteFile(out, w.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	tried := func(r policy.Reason) policy.Tried { return policy.Tried{Rung: policy.Modern, Reason: r} }
	for _, tt := range []struct {
		name string
		a    relay.Attempt
		want policy.Reason
	}{
		{"a failure goes before all", relay.Attempt{Achieved: policy.Plaintext, Failure: &policy.Failure{Reason: policy.ReplyTemporary}, Trace: policy.Trace{tried(policy.STARTTLSMissing)}}, policy.ReplyTemporary},
		{"why in the clear", relay.Attempt{Achieved: policy.Plaintext, Trace: policy.Trace{tried(policy.STARTTLSMissing), tried(policy.ConnectRefused), {Rung: policy.Clear}}}, policy.STARTTLSMissing},
		{"why nobody vouches", relay.Attempt{Achieved: policy.Encrypted, Evidence: policy.Evidence{WebPKI: &policy.Failure{Reason: policy.CertificateExpired}}}, policy.CertificateExpired},
		{"well protected, at the second host", relay.Attempt{Achieved: policy.Verified, Trace: policy.Trace{tried(policy.STARTTLSMissing), tried(policy.ReasonUnset)}}, policy.ReasonUnset},
		{"nothing known", relay.Attempt{}, policy.ReasonUnset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := reason(&tt.a); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestPageEmpty(t *testing.T) {
	t.Parallel()
	contains(t, get(New(Options{Recorder: NewRecorder(0)}).Handler(), "/").Body.String(), "None yet.", `class="pill good">ready`)
	contains(t, get(New(Options{}).Handler(), "/").Body.String(), "None yet.")
	contains(t, get(New(Options{}).Handler(), "/?refresh=5").Body.String(), `http-equiv="refresh" content="5"`)
	if strings.Contains(get(New(Options{}).Handler(), "/?refresh=0").Body.String(), "http-equiv") {
		t.Error("the page renews itself unasked")
	}
}

// The policy allows the page's own style, and nothing else at all.
func TestPageSecurity(t *testing.T) {
	t.Parallel()
	w := get(pageServer().Handler(), "/")
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(w.Body.String())
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	csp := w.Header().Get("Content-Security-Policy")
	contains(t, csp, "default-src 'none';", "frame-ancestors 'none'", "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	if strings.Contains(w.Body.String(), ` style="`) || strings.Contains(csp, "unsafe") {
		t.Error("inline style attributes are against the policy")
	}
	if w := ask(pageServer().Handler(), http.MethodPost, "/"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", w.Code)
	}
}

func TestRebinding(t *testing.T) {
	t.Parallel()
	h := New(Options{Hostname: "relay.example.net", Hosts: []string{"Status.example.com"}, Recorder: NewRecorder(0)}).Handler()
	from := func(ip string) func(*http.Request) {
		return func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(ip)}))
		}
	}
	for _, tt := range []struct {
		host, local string
		want        int
	}{
		{"localhost:8025", "127.0.0.1", 200}, {"127.0.0.1:8025", "127.0.0.1", 200}, {"[::1]:8025", "::1", 200}, {"LOCALHOST.", "127.0.0.1", 200},
		{"a.localhost", "127.0.0.1", 200}, {"status.example.com", "127.0.0.1", 200}, {"relay.example.net:80", "127.0.0.1", 200},
		{"evil.example:8025", "127.0.0.1", 421}, {"evil.example", "::1", 421}, {"localhost.evil.example", "127.0.0.1", 421},
		{"192.168.1.1", "127.0.0.1", 421}, {"", "127.0.0.1", 421},
		{"relay.example.com", "192.0.2.1", 200}, // not on loopback: names are the operator's business
	} {
		w := get(h, "/", from(tt.local), func(r *http.Request) { r.Host = tt.host })
		if w.Code != tt.want {
			t.Errorf("%q on %s: %d, want %d", tt.host, tt.local, w.Code, tt.want)
		}
	}
	if w := get(h, "/healthz", func(r *http.Request) { r.Host = "evil.example" }); w.Code != 200 {
		t.Errorf("a probe by another name: %d", w.Code)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	broken := Check{"storage", func(context.Context) error { panic("nil map") }}
	for _, tt := range []struct {
		name   string
		checks []Check
		want   int
		text   string
	}{
		{"nothing to check", nil, 200, "ok\n"},
		{"all well", []Check{well("storage"), well("listeners")}, 200, "ok\nstorage: ok\nlisteners: ok\n"},
		{"one ill", []Check{well("storage"), ill("intake", "disk\nlisteners: ok")}, 503, "unavailable\nstorage: ok\nintake: disk listeners: ok\n"},
		{"one that fails itself", []Check{broken}, 503, "unavailable\nstorage: the check itself failed\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := New(Options{Live: tt.checks, Ready: tt.checks}).Handler()
			for _, path := range []string{"/healthz", "/readyz"} {
				if w := get(h, path); w.Code != tt.want || w.Body.String() != tt.text {
					t.Errorf("%s: %d %q, want %d %q", path, w.Code, w.Body, tt.want, tt.text)
				}
			}
		})
	}
}

// A probe that never comes back does not hold up the answer.
func TestHangingCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var runs atomic.Int64
		slow := Check{"loop", func(context.Context) error { runs.Add(1); <-release; return nil }}
		h := New(Options{Live: []Check{well("storage"), slow}}).Handler()
		began := time.Now()
		w := get(h, "/healthz")
		if w.Code != 503 || w.Body.String() != "unavailable\nstorage: ok\nloop: no answer within 3s\n" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		if took := time.Since(began); took != checkLimit {
			t.Errorf("it took %v", took)
		}
		get(h, "/healthz")
		if runs.Load() != 1 {
			t.Errorf("a probe that hangs was started %d times", runs.Load())
		}
		close(release)
		synctest.Wait()
		if w := get(h, "/healthz"); w.Code != 200 || runs.Load() != 2 {
			t.Errorf("after it came back: %d, %d runs", w.Code, runs.Load())
		}
	})
}

// A client that leaves does not fail the check of those who wait.
func TestImpatientClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := Check{"storage", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		h := New(Options{Live: []Check{slow}}).Handler()
		gone, leave := context.WithCancel(t.Context())
		go get(h, "/healthz", func(r *http.Request) { *r = *r.WithContext(gone) })
		synctest.Wait()
		time.AfterFunc(time.Millisecond, leave)
		if w := get(h, "/healthz"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestDraining(t *testing.T) {
	t.Parallel()
	s := New(Options{Ready: []Check{well("storage")}})
	s.Drain()
	w := get(s.Handler(), "/readyz", func(r *http.Request) { r.Header.Set("Accept", "application/json") })
	var got struct {
		Status string
		Checks []verdict
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != 503 || got.Status != "unavailable" || len(got.Checks) != 2 || got.Checks[1].Name != "draining" {
		t.Errorf("%d %+v", w.Code, got)
	}
	if w := get(s.Handler(), "/healthz"); w.Code != 200 {
		t.Errorf("a draining relay is alive: %d", w.Code)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s := New(Options{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("m 1\n")) })})
	addr := onTCP(t, s)
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "m 1\n" {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + addr + "/metrics"); err == nil {
		t.Error("still serving after Shutdown")
	}
	// Serving after Shutdown ends at once, and closes its listener.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Error(err)
	}
}
