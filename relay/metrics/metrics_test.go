package metrics

import (
	"crypto/tls"
	"io"
	"math"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

func fresh(t testing.TB) *Metrics {
	t.Helper()
	return New(Options{Version: "1.2.3", Revision: "abc", Labels: Labels{Listeners: []string{"127.0.0.1:2525", "other", "127.0.0.1:2525"}}})
}

// scraped returns every series that a scrape shows, with its value.
func scraped(t testing.TB, m *Metrics) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	series := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		series[line[:i]] = v
	}
	return series
}

func wantSeries(t *testing.T, m *Metrics, want map[string]float64) {
	t.Helper()
	got := scraped(t, m)
	for name, v := range want {
		g, ok := got[name]
		if !ok {
			t.Errorf("%s is missing", name)
		} else if g != v {
			t.Errorf("%s is %v, want %v", name, g, v)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	m := fresh(t)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestTable: every row of the table is registered, with its help, and each series
// of it exists from the start at 0.
func TestTable(t *testing.T) {
	t.Parallel()
	m := fresh(t)
	series := scraped(t, m)
	for _, r := range table(Labels{Listeners: []string{"127.0.0.1:2525"}}.withDefaults()) {
		n := 0
		for name, v := range series {
			base, _, _ := strings.Cut(name, "{")
			if base != prefix+r.name && (r.kind != "histogram" || base != prefix+r.name+"_count") {
				continue
			}
			n++
			if v != 0 && r.name != nameBuild {
				t.Errorf("%s begins at %v", name, v)
			}
		}
		want := 1
		for _, a := range r.axes {
			want *= max(len(a.words), 1)
		}
		switch r.name {
		case nameDowngrades: // 15 pairs go down, and other to other
			want = (15 + 1) * len(r.axes[2].words)
		case nameLookups: // three sources with answers, mta-sts with modes, other with all; each also "other"
			want = 3*6 + 8 + 12
		}
		if n != want {
			t.Errorf("%s: %d series, want %d", r.name, n, want)
		}
	}
	for name := range series {
		if strings.HasPrefix(name, prefix) && !inTable(name) {
			t.Errorf("%s is not in the table", name)
		}
	}
}

func inTable(series string) bool {
	base, _, _ := strings.Cut(series, "{")
	for _, r := range table(Labels{}) {
		if base == prefix+r.name || r.kind == "histogram" && strings.HasPrefix(base, prefix+r.name+"_") {
			return true
		}
	}
	return false
}

// TestOperatorTable holds the names that dashboards build on.
func TestOperatorTable(t *testing.T) {
	t.Parallel()
	wantSeries(t, fresh(t), map[string]float64{
		`sealpost_delivered_recipients_total{basis="default",level="dane"}`:                              0,
		`sealpost_recipients_total{outcome="expired"}`:                                                   0,
		`sealpost_downgrades_total{from="encrypted",reason="starttls-missing",to="plaintext"}`:           0,
		`sealpost_refusals_total{basis="mta-sts",reason="sts-mismatch"}`:                                 0,
		`sealpost_tls_connections_total{cipher_class="aead",direction="out",kex="hybrid",version="1.3"}`: 0,
		`sealpost_tls_failures_total{basis="dane",reason="validation-failure"}`:                          0,
		`sealpost_policy_lookups_total{result="unknown",source="tlsa"}`:                                  0,
		`sealpost_dnssec_available`:                                        0,
		`sealpost_queue_messages{state="held"}`:                            0,
		`sealpost_queue_bytes{state="leased"}`:                             0,
		`sealpost_queue_oldest_seconds{state="waiting"}`:                   0,
		`sealpost_accepted_messages_total{listener="127.0.0.1:2525"}`:      0,
		`sealpost_rejected_messages_total{reason="size"}`:                  0,
		`sealpost_time_to_delivery_seconds_count{level="verified"}`:        0,
		`sealpost_attempt_seconds_count{phase="transaction"}`:              0,
		`sealpost_smtp_connections`:                                        0,
		`sealpost_smtp_connections_reused_total`:                           0,
		`sealpost_auth_attempts_total{mechanism="PLAIN",result="refused"}`: 0,
		`sealpost_bounces_total{kind="permanent",reason="null-mx"}`:        0,
		`sealpost_storage_free_bytes`:                                      0,
		`sealpost_intake_paused`:                                           0,
		`sealpost_certificate_expiry_timestamp_seconds`:                    0,
		`sealpost_config_reload_success_timestamp_seconds`:                 0,
	})
}

// attempt is a delivery to two recipients at level verified.
func attempt() *relay.Attempt {
	return &relay.Attempt{
		Basis: policy.BasisDefault, Achieved: policy.Verified, Age: 3 * time.Second,
		FactsTook: time.Millisecond, OpenTook: time.Second, SendTook: time.Second,
		Trace: policy.Trace{{Host: "mx1.example", Rung: policy.Modern, Level: policy.Verified}},
		Outcomes: []relay.AttemptOutcome{
			{Recipient: 0, Kind: queue.DeliveredNow, Level: policy.Verified},
			{Recipient: 1, Kind: queue.DeliveredNow, Level: policy.Verified},
		},
	}
}

func TestAttempted(t *testing.T) {
	t.Parallel()
	try := func(host policy.Domain, r policy.Rung, why policy.Reason) policy.Tried {
		return policy.Tried{Host: host, Rung: r, Reason: why}
	}
	down := func(from, to, reason string) string {
		return `sealpost_downgrades_total{from="` + from + `",reason="` + reason + `",to="` + to + `"}`
	}
	for _, tt := range []struct {
		name   string
		change func(*relay.Attempt)
		want   map[string]float64
		downs  float64 // sum over all downgrades
	}{
		{"delivered well", func(*relay.Attempt) {}, map[string]float64{
			`sealpost_delivered_recipients_total{basis="default",level="verified"}`: 2,
			`sealpost_time_to_delivery_seconds_sum{level="verified"}`:               6,
			`sealpost_attempt_seconds_count{phase="facts"}`:                         1,
			`sealpost_attempt_seconds_sum{phase="open"}`:                            1,
			`sealpost_attempt_seconds_count{phase="transaction"}`:                   1,
		}, 0},
		{"modern to classical is no step down", func(a *relay.Attempt) {
			a.Trace = policy.Trace{try("a", policy.Modern, policy.HandshakeStall), try("a", policy.Classical, 0)}
		}, map[string]float64{`sealpost_tls_failures_total{basis="default",reason="validation-failure"}`: 1}, 0},
		{"wide before down: two hosts, one step", func(a *relay.Attempt) {
			a.Achieved = policy.Plaintext
			a.Trace = policy.Trace{try("a", policy.Modern, policy.STARTTLSMissing), try("b", policy.Modern, policy.ConnectRefused), try("a", policy.Clear, 0)}
		}, map[string]float64{
			down("encrypted", "plaintext", "starttls-missing"):                             1,
			`sealpost_tls_failures_total{basis="default",reason="starttls-not-supported"}`: 1,
		}, 1},
		{"each step counts", func(a *relay.Attempt) {
			a.Achieved = policy.Plaintext
			a.Trace = policy.Trace{try("a", policy.Modern, policy.HandshakeVersion), try("a", policy.LegacyTLS, policy.HandshakeAlert), try("a", policy.Clear, 0)}
		}, map[string]float64{down("encrypted", "legacy", "handshake-version"): 1, down("legacy", "plaintext", "handshake-alert"): 1}, 2},
		{"below what was tried first, at another host", func(a *relay.Attempt) {
			a.Achieved = policy.Plaintext
			a.Trace = policy.Trace{try("a", policy.Modern, policy.STARTTLSMissing), try("b", policy.Clear, 0)}
		}, map[string]float64{down("encrypted", "plaintext", "starttls-missing"): 1}, 1},
		{"a weak suite on the modern rung", func(a *relay.Attempt) {
			a.Achieved, a.Trace[0].Level = policy.Legacy, policy.Legacy
		}, map[string]float64{down("encrypted", "legacy", "other"): 1}, 1},
		{"kept back", func(a *relay.Attempt) {
			a.Basis, a.Achieved, a.Outcomes = policy.BasisRule, policy.Unset, []relay.AttemptOutcome{{Kind: queue.DeferredNow}}
			a.Trace[0].Reason = policy.CertificateExpired
			a.Failure = &policy.Failure{Reason: policy.CertificateExpired}
		}, map[string]float64{
			`sealpost_refusals_total{basis="rule",reason="certificate-expired"}`:     1,
			`sealpost_tls_failures_total{basis="rule",reason="certificate-expired"}`: 1,
		}, 0},
		{"one of two delivered: not kept back", func(a *relay.Attempt) {
			a.Outcomes[1] = relay.AttemptOutcome{Recipient: 1, Kind: queue.DeferredNow}
			a.Failure = &policy.Failure{Reason: policy.CertificateExpired}
		}, map[string]float64{`sealpost_refusals_total{basis="default",reason="certificate-expired"}`: 0}, 0},
		{"connection trouble is no refusal", func(a *relay.Attempt) {
			a.Achieved, a.Outcomes, a.Trace[0].Reason = policy.Unset, nil, policy.ConnectTimeout
			a.Failure = &policy.Failure{Reason: policy.ConnectTimeout}
		}, map[string]float64{`sealpost_refusals_total{basis="default",reason="other"}`: 0}, 0},
		{"strangers are other", func(a *relay.Attempt) {
			a.Basis = 77
			a.Outcomes[0].Level, a.Outcomes[1].Level = 99, policy.Unset
			a.Age = -time.Second
		}, map[string]float64{`sealpost_delivered_recipients_total{basis="other",level="other"}`: 2, `sealpost_time_to_delivery_seconds_sum{level="other"}`: 0}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, a := fresh(t), attempt()
			tt.change(a)
			m.Attempted(a)
			wantSeries(t, m, tt.want)
			sum := 0.0
			for name, v := range scraped(t, m) {
				if strings.HasPrefix(name, prefix+nameDowngrades) {
					sum += v
				}
			}
			if sum != tt.downs {
				t.Errorf("%v downgrades, want %v", sum, tt.downs)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	m := fresh(t)
	e := &queue.Envelope{Recipients: []queue.Recipient{
		{State: queue.Delivered}, {State: queue.Pending}, {State: queue.Bounced}, {State: queue.Expired}, {State: queue.Dropped}, {State: queue.Bounced},
	}}
	m.Settled(nil, e, []queue.Outcome{
		{Recipient: 0}, {Recipient: 1}, {Recipient: 4},
		{Recipient: 2, Failure: &policy.Failure{Reason: policy.NullMX}},
		{Recipient: 3, Failure: &policy.Failure{Reason: policy.ConnectTimeout}},
		{Recipient: 5, Failure: &policy.Failure{Reason: policy.RequireTLSMissing}},
		{Recipient: 6}, {Recipient: -1},
	})
	m.Settled(nil, e, []queue.Outcome{{Recipient: 2}})
	for _, k := range []queue.NoticeKind{queue.NoticeFailed, queue.NoticeRelayed, 0, 200} {
		m.Noticed(k)
	}
	wantSeries(t, m, map[string]float64{
		`sealpost_recipients_total{outcome="delivered"}`:                        1,
		`sealpost_recipients_total{outcome="deferred"}`:                         1,
		`sealpost_recipients_total{outcome="bounced"}`:                          3,
		`sealpost_recipients_total{outcome="expired"}`:                          1,
		`sealpost_recipients_total{outcome="dropped"}`:                          1,
		`sealpost_bounces_total{kind="permanent",reason="null-mx"}`:             1,
		`sealpost_bounces_total{kind="permanent",reason="other"}`:               1,
		`sealpost_bounces_total{kind="expired",reason="connect-timeout"}`:       1,
		`sealpost_bounces_total{kind="protection",reason="requiretls-missing"}`: 1,
		`sealpost_notices_total{kind="failed"}`:                                 1,
		`sealpost_notices_total{kind="relayed"}`:                                1,
		`sealpost_notices_total{kind="other"}`:                                  2,
	})
}

func TestDocks(t *testing.T) {
	t.Parallel()
	m := fresh(t)
	in, out, facts := m.Submission(), m.Client(), m.Facts()
	modern := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, CurveID: tls.X25519MLKEM768}
	old := tls.ConnectionState{Version: tls.VersionTLS10, CipherSuite: tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	in.Connected("x")
	in.Connected("x")
	in.Disconnected("x")
	in.Secured("x", modern)
	in.Secured("x", tls.ConnectionState{Version: 0x9999, CipherSuite: 0x9999, CurveID: 0x9999})
	in.HandshakeFailed("x")
	in.Authenticated("PLAIN", "ok")
	in.Authenticated("PLAIN\xff", "drop table")
	in.Accepted("127.0.0.1:2525", 100)
	in.Accepted("bob@example.com", -5)
	in.Rejected("x", "size")
	in.Rejected("x", "bob@example.com is unknown")
	in.CertificateLoaded("a", time.Unix(2000, 0))
	in.CertificateLoaded("b", time.Unix(3000, 0))
	in.CertificateLoaded("a", time.Unix(4000, 0)) // renewed: b is the first now
	out.ConnectionOpened(time.Second)
	out.ConnectionOpened(time.Second)
	out.ConnectionClosed()
	out.ConnectionReused()
	out.HandshakeDone(old, 2*time.Second)
	out.OpenFailed(policy.ConnectRefused)
	out.OpenFailed(250)
	facts.LookedUp("mx", "secure")
	facts.Queried("servfail", 3*time.Second)
	facts.Queried("nonsense", -time.Second)
	facts.LookedUp("mta-sts", "enforce")
	facts.LookedUp("mx", "enforce")
	facts.LookedUp("example.com", "x")
	m.Reloaded(time.Unix(5000, 0))
	wantSeries(t, m, map[string]float64{
		`sealpost_submission_connections`: 1,
		`sealpost_tls_connections_total{cipher_class="aead",direction="in",kex="hybrid",version="1.3"}`:   1,
		`sealpost_tls_connections_total{cipher_class="other",direction="in",kex="other",version="other"}`: 1,
		`sealpost_tls_connections_total{cipher_class="weak",direction="out",kex="rsa",version="1.0"}`:     1,
		`sealpost_submission_handshake_failures_total`:                                                    1,
		`sealpost_auth_attempts_total{mechanism="PLAIN",result="ok"}`:                                     1,
		`sealpost_auth_attempts_total{mechanism="other",result="other"}`:                                  1,
		`sealpost_accepted_messages_total{listener="127.0.0.1:2525"}`:                                     1,
		`sealpost_accepted_messages_total{listener="other"}`:                                              1,
		`sealpost_accepted_bytes_total{listener="127.0.0.1:2525"}`:                                        100,
		`sealpost_accepted_bytes_total{listener="other"}`:                                                 0,
		`sealpost_rejected_messages_total{reason="size"}`:                                                 1,
		`sealpost_rejected_messages_total{reason="other"}`:                                                1,
		`sealpost_certificate_expiry_timestamp_seconds`:                                                   3000,
		`sealpost_smtp_connections`:                                                                       1,
		`sealpost_smtp_connections_reused_total`:                                                          1,
		`sealpost_attempt_seconds_sum{phase="connect"}`:                                                   2,
		`sealpost_attempt_seconds_sum{phase="tls"}`:                                                       2,
		`sealpost_open_failures_total{reason="connect-refused"}`:                                          1,
		`sealpost_open_failures_total{reason="other"}`:                                                    1,
		`sealpost_policy_lookups_total{result="secure",source="mx"}`:                                      1,
		`sealpost_policy_lookups_total{result="enforce",source="mta-sts"}`:                                1,
		`sealpost_policy_lookups_total{result="other",source="mx"}`:                                       1,
		`sealpost_policy_lookups_total{result="other",source="other"}`:                                    1,
		`sealpost_config_reload_success_timestamp_seconds`:                                                5000,
	})
}

func TestSources(t *testing.T) {
	t.Parallel()
	m := fresh(t)
	m.Watch(Sources{
		Queue: func() queue.Stats {
			return queue.Stats{
				Envelopes: map[string]int{"waiting": 3}, Bytes: map[string]int64{"waiting": 4096},
				Oldest: map[string]time.Time{"waiting": time.Now().Add(-time.Hour), "held": time.Now().Add(time.Hour)},
			}
		},
		StorageFree:  func() uint64 { return 1 << 30 },
		IntakePaused: func() bool { return true },
		DNSSEC:       func() bool { panic("broken") },
		KeysOverdue:  func() time.Duration { return time.Minute },
		Suspensions:  func() int { return 2 },
	})
	m.Damaged("row")
	m.Damaged("saddle")
	wantSeries(t, m, map[string]float64{
		`sealpost_queue_messages{state="waiting"}`:     3,
		`sealpost_queue_messages{state="held"}`:        0,
		`sealpost_queue_bytes{state="waiting"}`:        4096,
		`sealpost_queue_oldest_seconds{state="held"}`:  0, // a clock that went back
		`sealpost_storage_free_bytes`:                  1 << 30,
		`sealpost_intake_paused`:                       1,
		`sealpost_queue_suspensions`:                   2,
		`sealpost_keys_overdue_seconds`:                60,
		`sealpost_sealed_damaged_total{thing="row"}`:   1,
		`sealpost_sealed_damaged_total{thing="other"}`: 1,
		`sealpost_sealed_damaged_total{thing="body"}`:  0,
		`sealpost_dnssec_available`:                    0,
	})
	if got := scraped(t, m)[`sealpost_queue_oldest_seconds{state="waiting"}`]; math.Abs(got-3600) > 60 {
		t.Errorf("oldest is %v seconds, want about 3600", got)
	}
}

func TestNothingPanics(t *testing.T) {
	t.Parallel()
	m := New(Options{Version: "\xff\xfe", Labels: Labels{Listeners: []string{"\xff", "a", "a"}}})
	m.Attempted(nil)
	m.Attempted(&relay.Attempt{})
	m.Settled(nil, nil, []queue.Outcome{{}})
	m.Accepted(nil, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 300 {
				a := attempt()
				a.Basis, a.Achieved = policy.Basis(i), policy.Level(i)
				a.Trace[0].Reason, a.Trace[0].Rung = policy.Reason(i), policy.Rung(i)
				a.Trace = append(a.Trace, policy.Tried{Host: "mx1.example", Rung: policy.Rung(i + 1)})
				a.Outcomes = a.Outcomes[:1]
				a.Outcomes[0].Kind = queue.OutcomeKind(i % 4)
				a.Failure = &policy.Failure{Reason: policy.Reason(i)}
				m.Attempted(a)
			}
		})
	}
	wg.Wait()
	scraped(t, m)
}

func TestReference(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"`sealpost_downgrades_total`", "plaintext, legacy, encrypted, verified, mta-sts, dane, other", "| `sealpost_build_info` | gauge |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the reference lacks %q", want)
		}
	}
	if err := Reference(failing{}); err == nil {
		t.Error("a failed write is not reported")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestAllocations: the way of a mail allocates nothing here.
func TestAllocations(t *testing.T) {
	m, a := fresh(t), attempt()
	in := m.Submission()
	if n := testing.AllocsPerRun(100, func() {
		m.Attempted(a)
		in.Accepted("127.0.0.1:2525", 1)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAttempted(b *testing.B) {
	m, a := fresh(b), attempt()
	b.ReportAllocs()
	for b.Loop() {
		m.Attempted(a)
	}
}
