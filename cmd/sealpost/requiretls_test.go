package main

import (
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
)

// RFC 8689 through the whole relay: the route must be vouched for (here by DNSSEC), the
// host must prove its name and offer REQUIRETLS after TLS; else the message bounces.
func TestRequireTLS(t *testing.T) {
	n, err := openInternet(t.Context(), []exchanger{
		one(t, "ready.example", "requiretls"), one(t, "unsigned.example", "requiretls"),
		one(t, "modern.example", "modern"), one(t, "selfsigned.example", "self-signed"), one(t, "shop.example", "requiretls"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	n.zones.Zone("unsigned.example", policytest.Unsigned)
	w := secureWorld(t, n, quick)
	c, err := secureSession(w.submission())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		clause, domain string
		outcome        string
		status         string
	}{
		{"4.2.1 everything is there", "ready.example", "d", ""},
		{"4.2.1 nobody vouches for the route", "unsigned.example", "b", "5.7.10"},
		{"4.2.1 the host lacks the keyword only", "modern.example", "b", "5.7.30"},
		{"4.2.1 the host does not prove its name", "selfsigned.example", "b", "5.7.10"},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			for _, line := range []string{"MAIL FROM:<reviews@shop.example> REQUIRETLS", "RCPT TO:<ann@" + tt.domain + ">"} {
				if err := c.PrintfLine("%s", line); err != nil {
					t.Fatal(err)
				}
				if _, _, err := c.ReadResponse(250); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			if err := c.PrintfLine("DATA"); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.ReadResponse(354); err != nil {
				t.Fatal(err)
			}
			if err := c.PrintfLine("Subject: private\r\n\r\nsecret words\r\n."); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.ReadResponse(250); err != nil {
				t.Fatal(err)
			}
			a := w.await(t, tt.domain, 1)
			got := string("fdb"[a.Outcomes[0].Kind])
			if got != tt.outcome || a.Outcomes[0].Status != tt.status {
				t.Fatalf("outcome %s %s, want %s %s (%v)", got, a.Outcomes[0].Status, tt.outcome, tt.status, a.Failure)
			}
			if tt.outcome == "d" && a.Achieved < policy.Verified {
				t.Errorf("level %v", a.Achieved)
			}
			host := w.farm.Host("mx." + tt.domain)
			if len(host.Accepted()) > 0 != (tt.outcome == "d") || len(host.ClearEnvelopes()) > 0 {
				t.Errorf("the host has %d messages and saw %d commands in clear", len(host.Accepted()), len(host.ClearEnvelopes()))
			}
		})
	}
}
