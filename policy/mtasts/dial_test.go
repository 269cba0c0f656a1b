package mtasts

import (
	"testing"
	"time"
)

// A policy host with one slow address has the whole minute; silent addresses, as many as
// are tried, do not take it from the last one altogether.
func TestShare(t *testing.T) {
	t.Parallel()
	if got := share(time.Minute, 0); got != time.Minute {
		t.Errorf("the only address has %v", got)
	}
	var spent time.Duration
	for others := maxAddresses - 1; others > 0; others-- {
		spent += share(time.Minute, others)
	}
	if left := time.Minute - spent; left < 10*time.Second || spent < 5*time.Second {
		t.Errorf("%v are left for the last address", left)
	}
}
