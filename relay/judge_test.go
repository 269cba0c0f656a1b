package relay

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// policy 3.2: of equal hosts the best session is used, the others go back to the pool unused.
func TestKeptSessions(t *testing.T) {
	equal := func(hosts ...*fakeHost) *world {
		w := newWorld(hosts...)
		for i := range w.facts.Hosts {
			w.facts.Hosts[i].Preference = 10
		}
		return w
	}
	later := map[string]policy.Reason{"ann": policy.ReplyTemporary}
	down := map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectRefused}
	tests := []struct {
		name  string
		hosts []*fakeHost
		sent  string
		level policy.Level
	}{
		{"the second is verified", []*fakeHost{{}, {peer: policy.PeerWebPKI}}, "mx2/modern", policy.Verified},
		{"the second is down", []*fakeHost{{}, {open: down}}, "mx1/modern", policy.Encrypted},
		{"the better one defers", []*fakeHost{{}, {peer: policy.PeerWebPKI, replies: later}}, "mx2/modern mx1/modern", policy.Encrypted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := equal(tt.hosts...)
			r := w.courier(opportunistic()).Deliver(t.Context(), lease("ann"))
			if got := strings.ReplaceAll(strings.Join(w.sent, " "), ".example.org", ""); kinds(r) != "d" || got != tt.sent || r.Outcomes[0].Level != tt.level {
				t.Errorf("outcomes %s, sent %s at %v: want %s at %v", kinds(r), got, r.Outcomes[0].Level, tt.sent, tt.level)
			}
			for i, h := range tt.hosts {
				if h.open == nil && h.released != 1 {
					t.Errorf("host %d: %d sessions released, want 1", i+1, h.released)
				}
			}
		})
	}
}

// A look for a better session is bounded: deliveries that keep sessions must not wait for each
// other's in a circle; and our impatience is not the host's fault.
func TestBetterIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&fakeHost{}, &fakeHost{stuck: true})
		w.facts.Hosts[1].Preference = w.facts.Hosts[0].Preference
		began := time.Now()
		r := w.courier(opportunistic()).Deliver(t.Context(), lease("ann"))
		if kinds(r) != "d" || time.Since(began) != betterWait {
			t.Errorf("outcomes %s after %v: want delivered after %v", kinds(r), time.Since(began), betterWait)
		}
		if s := w.saw["mx2.example.org"]; len(s.Steps) != 1 || s.Steps[0].Reason != policy.Interrupted {
			t.Errorf("the other host was seen as %+v", s)
		}
	})
}

// RFC 8461 5.1: where an enforced policy is not met, it is asked for again before the attempt has failed.
func TestPolicyIsRenewed(t *testing.T) {
	sts := func(w *world, pattern string) policy.Facts {
		f := w.facts
		f.STS = policy.STS{Mode: policy.STSEnforce, ID: "2", MX: []string{pattern}, Expires: time.Now().Add(time.Hour)}
		return f
	}
	rules := opportunistic()
	rules.MTASTS = true
	tests := []struct {
		name    string
		host    *fakeHost
		pattern string // of the policy that is cached
		renewed string // of the new one; "": nothing new
		want    string
		renews  int
	}{
		{"met: not asked", &fakeHost{peer: policy.PeerWebPKI}, "mx1.example.org", "", "d", 0},
		{"the domain has moved: the new policy lists the host", &fakeHost{peer: policy.PeerWebPKI}, "mx.old.example", "mx1.example.org", "d", 1},
		{"nothing new: deferred", &fakeHost{peer: policy.PeerWebPKI}, "mx.old.example", "", "f", 1},
		{"new, and not met either: deferred, asked once", &fakeHost{peer: policy.PeerWebPKI}, "mx.old.example", "mx.other.example", "f", 1},
		{"the certificate fails: asked too", &fakeHost{}, "mx1.example.org", "", "f", 1},
		{"a host that is down says nothing of the policy", &fakeHost{open: map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectTimeout}}, "mx1.example.org", "", "f", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.host)
			if tt.renewed != "" {
				f := sts(w, tt.renewed)
				w.renewed = &f
			}
			w.facts = sts(w, tt.pattern)
			r := w.courier(rules).Deliver(t.Context(), lease("ann"))
			if kinds(r) != tt.want || w.renews != tt.renews {
				t.Errorf("outcomes %s, asked %d times: want %s, %d", kinds(r), w.renews, tt.want, tt.renews)
			}
			if tt.want == "f" && len(w.sent) > 0 {
				t.Errorf("sent %v below the promise", w.sent)
			}
		})
	}
}

// What was seen of each host goes to the memory: levels, steps, and whether mail was taken.
func TestSightings(t *testing.T) {
	noTLS := map[policy.Rung]policy.Reason{policy.Modern: policy.STARTTLSMissing, policy.Classical: policy.STARTTLSMissing}
	w := newWorld(&fakeHost{open: noTLS}, &fakeHost{peer: policy.PeerWebPKI})
	w.courier(opportunistic()).Deliver(t.Context(), lease("ann"))
	first, second := w.saw["mx1.example.org"], w.saw["mx2.example.org"]
	if first.Delivered || first.Level != policy.Unset || len(first.Steps) != 1 || first.Steps[0].Reason != policy.STARTTLSMissing {
		t.Errorf("first host %+v: want one step without STARTTLS", first)
	}
	if !second.Delivered || second.Level != policy.Verified || second.Version != 0x0304 {
		t.Errorf("second host %+v: want a delivery at verified over TLS 1.3", second)
	}
	w = newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.ReplyTemporary}})
	w.courier(opportunistic()).Deliver(t.Context(), lease("ann"))
	if s := w.saw["mx1.example.org"]; s.Delivered || s.Level != policy.Encrypted {
		t.Errorf("host that deferred %+v: seen at encrypted, no delivery", s)
	}
}

// The resolver is down: the attempt burns no try and comes back soon.
func TestOutageIsFree(t *testing.T) {
	for _, down := range []bool{true, false} {
		w := newWorld()
		w.facts.MX = policy.Lookup{Problem: "no reply in time"}
		c := w.courier(opportunistic())
		c.o.Outage = func() bool { return down }
		r := c.Deliver(t.Context(), lease("ann"))
		want := policy.DNSUnknown
		if down {
			want = policy.ResolverOutage
		}
		if kinds(r) != "f" || r.Free != down || r.Outcomes[0].Failure.Reason != want {
			t.Errorf("down %t: outcomes %+v, free %t: want %v", down, r.Outcomes, r.Free, want)
		}
	}
}

// The record says what was wanted where it failed, the policy that was in force and each override.
func TestAttemptRecord(t *testing.T) {
	w := newWorld(&fakeHost{})
	w.facts.DNSSEC = true
	w.facts.STS = policy.STS{Mode: policy.STSEnforce, ID: "20261127", MX: []string{"*.example.org"}, Expires: time.Now().Add(time.Hour)}
	rules := opportunistic()
	rules.MTASTS = true
	read := func(r queue.Report) (a Attempt) {
		if err := json.Unmarshal(r.Attempt, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := read(w.courier(rules).Deliver(t.Context(), lease("ann")))
	if a.Version != AttemptVersion || a.Wanted.Level != policy.MTASTS || a.Basis != policy.BasisMTASTS || a.Achieved != policy.Unset ||
		a.STSMode != policy.STSEnforce || a.STSID != "20261127" || !a.DNSSEC || a.Failure == nil || len(a.Why) == 0 {
		t.Errorf("attempt %+v", a)
	}
	set := rules.Default
	set.Name, set.Match.Domains = "rule 1", []string{"example.org"}
	set.Ignore, set.Reason, set.Expires = policy.PromiseMTASTS, "their certificate", time.Now().Add(time.Hour)
	rules.Rules = []policy.Rule{set}
	a = read(w.courier(rules).Deliver(t.Context(), lease("ann")))
	if a.Achieved != policy.Encrypted || a.Rule != "rule 1" || len(a.Overrides) != 1 || a.Overrides[0].Ignored != policy.PromiseMTASTS || a.Overrides[0].Reason != "their certificate" {
		t.Errorf("attempt %+v: want the override recorded", a)
	}
}

// A host that is passed over, because its addresses are unknown, has no address in the log.
func TestLogOfHostPassedOver(t *testing.T) {
	w := newWorld(&fakeHost{open: map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectRefused}}, &fakeHost{})
	w.facts.Hosts[1].V4 = policy.Addresses{Lookup: policy.Lookup{Problem: "no reply in time"}}
	var said strings.Builder
	c := w.courier(opportunistic())
	c.o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	c.Deliver(t.Context(), lease("ann"))
	if got := said.String(); !strings.Contains(got, "attempt") || strings.Contains(got, "invalid") {
		t.Error(got)
	}
}
