package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Below queue.min_free new mail is refused at MAIL (452 4.3.1) and readiness says so;
// deliveries go on; with space again so does the intake.
func TestDiskTooFull(t *testing.T) {
	w := newWorld(t, []exchanger{one(t, "grey.example", "greylisting")}, quick)
	ready := func() (int, string) {
		resp, err := http.Get("http://" + w.house.httpAddr() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	w.submit(t, "reviews@shop.example", "", "ann@grey.example")
	w.await(t, "grey.example", 1)
	w.house.space.setMinimum(1 << 60)

	c := dialSMTP(t, w.submission())
	defer c.close()
	c.want("EHLO app.shop.example", 250)
	if said := c.want("MAIL FROM:<reviews@shop.example>", 452); !strings.HasPrefix(said, "4.3.1") {
		t.Errorf("452 %s, want 4.3.1", said)
	}
	if code, body := ready(); code != http.StatusServiceUnavailable || !strings.Contains(body, "min_free") {
		t.Errorf("readyz %d %q", code, body)
	}
	if a := w.await(t, "grey.example", 2); string("fdb"[a.Outcomes[0].Kind]) != "d" {
		t.Errorf("delivery does not go on: %+v", a.Outcomes)
	}
	w.house.space.setMinimum(0)
	c.want("MAIL FROM:<reviews@shop.example>", 250)
	if code, body := ready(); code != http.StatusOK {
		t.Errorf("readyz %d %q", code, body)
	}
}
