package main

import (
	"bytes"
	"strings"
	"testing"
)

// The thing that a newcomer runs first: it ends by itself, and its table has every
// sample with an outcome that fits what the receiver is.
func TestDemoOnce(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--once"}, streams{strings.NewReader(""), &out, &errs}); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	_, table, found := strings.Cut(out.String(), "RECEIVER ")
	if !found {
		t.Fatalf("no table:\n%s", out.String())
	}
	rows := strings.Split(table, "\n")[1:]
	outcomes := []string{"delivered", "delivered", "delivered", "delivered", "delivered", "delivered", "delivered",
		"delivered", "delivered", "delivered", "bounced", "bounced", "bounced"}
	levels := []string{" dane ", " mta-sts ", " verified ", " verified ", " encrypted ", " verified ", " legacy ",
		" plaintext ", " plaintext ", " verified ", " nothing ", " nothing ", " nothing "}
	for i, s := range demoSamples() {
		if !strings.HasPrefix(rows[i], s.to) || !strings.Contains(rows[i], outcomes[i]) || !strings.Contains(rows[i], levels[i]) {
			t.Errorf("row %d is %q: want %s %s at%s", i, rows[i], s.to, outcomes[i], levels[i])
		}
	}
	if !strings.Contains(out.String(), "8 invitations that came over TLS, 2 in the clear, 3 notices") {
		t.Errorf("what the hosts hold is not what the table says:\n%s", out.String()[max(0, out.Len()-200):])
	}
}
