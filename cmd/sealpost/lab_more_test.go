package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// labSomeKnobs: with knobs turned off, a promise that is not followed is as if it were not
// there, and the others stay.
func labSomeKnobs() labPart {
	const more = "[policy]\ninsecure_mx_dane = false\nmta_sts = false\n"
	return labPart{name: "knobs", more: more, rows: []labRow{
		{name: "7672 2.2.1 MAY: insecure MX, TLSA: not followed", hosts: "no-tls", setup: "unsigned $D / tlsa $1 3 1 1 wrong", want: "d plaintext"},
		{name: "7672 2.2.1 MAY: insecure MX, TLSA fails: not followed", hosts: "no-tls", setup: "unsigned $D / servfail $T1 TLSA", want: "d plaintext"},
		{name: "7672 2.2: secure MX, TLSA: followed", setup: "tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "7672 2.2: secure MX, TLSA matches", setup: "tlsa $1 3 1 1", want: "d dane"},
		{name: "8461 5: a policy: not followed", hosts: "no-tls", setup: "sts 1 enforce mx.other.example", want: "d plaintext"},
		{name: "8689 4.2.1: a policy that is not followed proves no route", hosts: "requiretls", setup: "unsigned $D / sts 1 enforce $1", send: "REQUIRETLS", want: "b route-unproven 5.7.10"},
	}}
}

// labNoDANE: the knob of DANE turned off.
func labNoDANE() labPart {
	return labPart{name: "no DANE", more: "[policy]\ndane = false\n", rows: []labRow{
		{name: "7672: DANE off: TLSA that does not match", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", want: "d plaintext"},
		{name: "7672: DANE off: TLSA that fails", hosts: "self-signed", setup: "servfail $T1 TLSA", want: "d encrypted"},
		{name: "7672: DANE off: a policy is followed", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong / sts 1 enforce $1", want: "f starttls-missing basis=mta-sts"},
	}}
}

// labUnbelieved: a resolver that answers for a name that is known to be bogus does not validate: nothing
// that it says is believed to be secure, and nothing gets worse by it (policy: facts).
func labUnbelieved() labPart {
	const fine = "[dns.selftest]\nbogus = \"fine.example\"\n"
	available := func(t *testing.T, l *lab) {
		t.Helper()
		if l.house.resolver.Available() {
			t.Error("DNSSEC counts as available")
		}
	}
	return labPart{name: "unbelieved", more: fine, after: available, rows: []labRow{
		{name: "7672 2.1.1: TLSA matches: dane is not claimed", setup: "tlsa $1 3 1 1", want: "d verified"},
		{name: "7672 2.1.1: TLSA does not match: nothing goes", setup: "tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "7672 2.1.1: TLSA and no STARTTLS: nothing goes in clear", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", want: "f starttls-missing"},
		{name: "7672 2.1.1: TLSA fails: nothing goes", hosts: "no-tls", setup: "servfail $T1 TLSA", want: "f tlsa-unknown"},
		{name: "7672 2.2.1: floor dane waits", setup: "tlsa $1 3 1 1", rule: `floor = "dane"`, want: "f dnssec-missing|dnssec-unavailable"},
		{name: "8461 5: TLSA matches, and the policy does not list the host", setup: "tlsa $1 3 1 1 / sts 1 enforce mx.other.example", want: "f sts-mismatch !mx1"},
		{name: "8461 5: a policy is followed", setup: "sts 1 enforce $1", want: "d mta-sts"},
		{name: "8689 4.2.1: a route by DNSSEC that cannot be believed now: not a verdict", hosts: "requiretls", send: "REQUIRETLS", want: "f dnssec-unavailable"},
		{name: "8689 4.2.1: a route by a policy", hosts: "requiretls", setup: "sts 1 enforce $1", send: "REQUIRETLS", want: "d mta-sts param=REQUIRETLS"},
		{name: "7672 2.2: nothing promised: opportunistic", hosts: "no-tls", want: "d plaintext"},
	}}
}

// Peers: Stalwart: policies are lost at a restart. Here one that was fetched keeps the
// mail afterwards, though nothing of it can be asked any more (RFC 8461 3.3, 10.2).
func TestLabRestart(t *testing.T) {
	n, err := openInternet(context.Background(), []exchanger{one(t, "kept.example", "modern")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.close() })
	n.publish("kept.example", "1", stsPolicy("enforce", "mx.kept.example"))
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{internet: n, dir: dir}
	stop := w.start(t, quick)
	w.submit(t, "a@shop.example", "", "ann@kept.example")
	if a := w.await(t, "kept.example", 1); a.Achieved.String() != "mta-sts" {
		t.Fatalf("before the restart: %s", describe(a))
	}
	stop()
	n.zones.Remove("_mta-sts.kept.example", "TXT")
	n.web.SetFault("kept.example", "", policytest.STSReset)
	n.farm.Hosts[0].Become(kind(t, "no-tls").Behaviour(n.certificate("mx.kept.example", kind(t, "no-tls").Certificate)))
	w.start(t, quick)
	w.submit(t, "a@shop.example", "", "ann@kept.example")
	for try := 1; try <= 2; try++ {
		a := w.await(t, "kept.example", try)
		if got := a.Outcomes[0]; got.Reason.String() != "starttls-missing" || a.Basis.String() != "mta-sts" || "fdb"[got.Kind] != 'f' {
			t.Errorf("after the restart, try %d: %s", try, describe(a))
		}
	}
	if bad := n.farm.Hosts[0].ClearEnvelopes(); len(bad) > 0 {
		t.Errorf("in clear: %v", bad)
	}
}

// RFC 8689 5: the notice about a message with REQUIRETLS asks for it too, comes from the
// empty reverse path, and returns the header at most, though RET=FULL was asked.
func TestLabRequireTLSNotice(t *testing.T) {
	for _, tt := range []struct {
		name, sender string // the kind of the sender's host
		notice       bool
		param        bool
	}{
		{"5 MUST: the sender's host has it", "requiretls", true, true},
		{"5 SHOULD NOT: the sender's host has not: the notice is not lost", "modern", true, false},
		{"5 MUST: not in clear", "no-tls", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := openInternet(context.Background(), []exchanger{one(t, "shop.example", tt.sender), one(t, "weak.example", "self-signed")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.close() })
			w := secureWorld(t, n, quick)
			c, err := secureSession(w.submission())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, d := range []struct {
				line string
				code int
			}{{"MAIL FROM:<a@shop.example> REQUIRETLS RET=FULL", 250}, {"RCPT TO:<ann@weak.example>", 250}, {"DATA", 354}, {"Subject: private\r\n\r\nsecret words\r\n.", 250}} {
				if err := c.PrintfLine("%s", d.line); err != nil {
					t.Fatal(err)
				}
				if _, _, err := c.ReadResponse(d.code); err != nil {
					t.Fatalf("%s: %v", d.line, err)
				}
			}
			if a := w.await(t, "weak.example", 1); a.Outcomes[0].Status != "5.7.10" {
				t.Fatal(describe(a))
			}
			a := w.await(t, "shop.example", 1)
			host := n.farm.Hosts[0]
			if bad := host.ClearEnvelopes(); len(bad) > 0 {
				t.Errorf("in clear: %v", bad)
			}
			if delivered := "fdb"[a.Outcomes[0].Kind] == 'd'; delivered != tt.notice {
				t.Fatal(describe(a))
			}
			if !tt.notice {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, err := host.Await(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			m := got[0]
			if m.From != "" || m.TLS == 0 || slices.Contains(m.FromParams, "REQUIRETLS") != tt.param {
				t.Errorf("from %q %v, TLS %#x", m.From, m.FromParams, m.TLS)
			}
			if bytes.Contains(m.Body, []byte("secret words")) || !bytes.Contains(m.Body, []byte("5.7.10")) {
				t.Errorf("the notice:\n%s", m.Body)
			}
		})
	}
}
