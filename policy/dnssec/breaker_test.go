package dnssec

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The breaker as a table: events with the time that has passed, and the phase behind each.
func TestBreaker(t *testing.T) {
	t.Parallel()
	const (
		fresh  = "" // the signed name was never answered
		proven = "probe answered; 20s; "
	)
	// outage is five names of five domains that fail so.
	outage := func(h string) string {
		var b strings.Builder
		for i := range 5 {
			fmt.Fprintf(&b, "mx.d%d.example %s; ", i, h)
		}
		return b.String()
	}
	fails := "; probe silent"
	cases := []struct {
		name   string
		events string // "NAME HEARING", "probe HEARING" or a duration that passes; separated by "; "
		asked  bool   // the witness was asked for
		want   phase
	}{
		{"nothing", fresh, false, flowing},
		{"the resolver is silent", proven + outage("silent") + fails, true, down},
		{"it says SERVFAIL for everything", proven + outage("failing") + "; probe failing", true, down},
		{"nobody listens", proven + outage("gone") + "; probe gone", true, down},
		{"suspicion alone does nothing", proven + outage("silent"), true, flowing},
		{"the witness is answered", proven + outage("silent") + "; probe answered", true, flowing},
		{"the witness is refused: somebody speaks", proven + outage("silent") + "; probe spoke", true, flowing},
		{"at the start", fresh + outage("silent") + fails, true, down},

		{"four names", proven + "a.a silent; b.b silent; c.c silent; d.d silent" + fails, false, flowing},
		{"one name again and again", proven + strings.Repeat("mx.a.example silent; 1s; ", 9) + fails, false, flowing},
		{"five names of one domain", proven + "a.x.y silent; b.x.y silent; c.x.y silent; d.x.y silent; e.x.y silent" + fails, false, flowing},
		{"five names of two domains", proven + "a.x.y silent; b.x.y silent; c.z.y silent; d.z.y silent; e.z.y silent" + fails, false, flowing},
		{"five names of three domains", proven + "a.x.y silent; b.x.y silent; c.z.y silent; d.z.y silent; w.y silent" + fails, true, down},
		{"two names with four types each are two", proven + strings.Repeat("a.a silent; b.b silent; ", 4) + fails, false, flowing},
		{"one broken domain with its mail hosts", proven + "d.example failing; mx1.d.example failing; mx2.d.example failing; _25._tcp.mx1.d.example failing; " +
			"_mta-sts.d.example failing; mta-sts.d.example failing; probe failing", false, flowing},
		{"too slow: the failures are not of one time", proven + "a.a silent; 4s; b.b silent; 4s; c.c silent; 4s; d.d silent; 4s; e.e silent" + fails, false, flowing},
		{"a success in between", proven + "a.a silent; b.b silent; c.c silent; ok.ok answered; d.d silent; e.e silent" + fails, false, flowing},
		{"a refusal in between", proven + "a.a silent; b.b silent; c.c silent; no.no spoke; d.d silent; e.e silent" + fails, false, flowing},
		{"a success seven seconds ago", proven + "ok.ok answered; 7s; " + outage("silent") + fails, false, flowing},
		{"a success eleven seconds ago", proven + "ok.ok answered; 11s; " + outage("silent") + fails, true, down},
		{"a success a moment ago, and now nobody listens", proven + "ok.ok answered; 1s; " + outage("gone") + "; probe gone", true, down},
		{"a success while the witness is asked", proven + outage("silent") + "ok.ok answered" + fails, true, flowing},
		{"the witness takes long", proven + outage("silent") + "; 11s" + fails, true, flowing},

		{"200 bogus domains where the root is not served", fresh + bogus(200) + "; probe failing; 11s; " + bogus(200) + "; probe failing", false, flowing},
		{"the same, and the root does not even fail", fresh + bogus(200) + fails, false, flowing},
		{"200 bogus domains beside a root that is served", proven + bogus(200) + "; probe answered; 11s; " + bogus(200) + "; probe answered", true, flowing},

		{"it stays down", proven + outage("silent") + fails + strings.Repeat("; 3s; probe silent", 10), true, down},
		{"a probe ends it", proven + outage("silent") + fails + "; 3s; probe answered", true, flowing},
		{"a late success ends it", proven + outage("silent") + fails + "; ok.ok answered", true, flowing},
		{"late failures do not matter", proven + outage("silent") + fails + "; " + outage("silent"), true, down},
		{"a trial after a minute", proven + outage("silent") + fails + "; 61s; probe silent", true, trial},
		{"the trial is short", proven + outage("silent") + fails + "; 61s; probe silent; 3s; probe silent; 3s; probe silent; 4s; probe silent", true, down},
		{"a success in the trial ends it, whatever the witness says", proven + outage("silent") + fails + "; 61s; probe silent; ok.ok answered; 1s; probe silent", true, flowing},
		{"afterwards it takes as much again", proven + outage("silent") + fails + "; 3s; probe answered; 11s; a.a silent" + fails, true, flowing},
		{"and it happens again", proven + outage("silent") + fails + "; 3s; probe answered; 11s; " + outage("silent") + fails, true, down},
		{"never answered, silent, then SERVFAIL: it speaks", fresh + outage("silent") + fails + "; 3s; probe failing", true, flowing},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := breaker{limits: defaultLimits()}
				asked := false
				for event := range strings.SplitSeq(c.events, ";") {
					word, h, _ := strings.Cut(strings.TrimSpace(event), " ")
					switch d, err := time.ParseDuration(word); {
					case word == "":
					case err == nil:
						time.Sleep(d)
					case word == "probe":
						b.probed(time.Now(), hearingNamed(t, h))
					default:
						asked = b.heard(time.Now(), word, hearingNamed(t, h)) || asked
					}
				}
				if b.phase != c.want || asked != c.asked {
					t.Errorf("phase %d, witness asked: %t; want %d, %t", b.phase, asked, c.want, c.asked)
				}
				if len(b.failed) > maxFailed {
					t.Errorf("%d names are remembered", len(b.failed))
				}
			})
		})
	}
}

func bogus(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "d%d.example failing; ", i)
	}
	return b.String()
}

func hearingNamed(t *testing.T, s string) hearing {
	t.Helper()
	for h, name := range []string{"answered", "spoke", "failing", "silent", "gone"} {
		if s == name {
			return hearing(h)
		}
	}
	t.Fatalf("%q is no hearing", s)
	return 0
}

// The memory is bounded, however many names fail.
func TestBreakerBounded(t *testing.T) {
	t.Parallel()
	b := breaker{limits: defaultLimits()}
	now := time.Unix(1e9, 0)
	for i := range 10 * maxFailed {
		b.heard(now, fmt.Sprintf("d%d.example.", i), silent)
	}
	if len(b.failed) != maxFailed {
		t.Errorf("%d names", len(b.failed))
	}
}

func TestRegistered(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"_25._tcp.mx.d.example.": "d.example", "d.example.": "d.example", "example.": "example", ".": "", "a.co.uk.": "co.uk",
	} {
		if got := registered(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Every outcome is sorted, and only replies of a living resolver count as such.
func TestHearingOf(t *testing.T) {
	t.Parallel()
	want := map[string]hearing{
		"records": answered, "no-data": answered, "no-name": answered, "servfail": failing, "refused": spoke,
		"error": spoke, "malformed": spoke, "timeout": silent, "unreachable": gone,
	}
	for _, o := range Outcomes() {
		if got, ok := want[o]; !ok || hearingOf(o) != got {
			t.Errorf("%s: %d, want %d", o, hearingOf(o), got)
		}
	}
}
