package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// manualPolicy is the policy of the operator's manual, word for word.
const manualPolicy = `
[policy]
floor = "plaintext"                     # the default rule; levels as in policy.md
dane = true
mta_sts = true
insecure_mx_dane = true
downgrade_hold = "4h"
on_unmet = "defer"
fallback = [ { to = "legacy", after = "0s" }, { to = "plaintext", after = "0s" } ]

[[policy.rule]]                         # first match wins
match = { domain = ["bank.example", ".gov.example"] }   # also domain_file, mx, sender, credential, stream
floor = "verified"
on_unmet = "bounce"
note = "contract 2231"
`

// write puts a file into a directory of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "domains.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRules: every key of a rule, as it is for the judge.
func TestRules(t *testing.T) {
	if c := mustParse(t, manualPolicy); len(c.Notes) > 0 && strings.Contains(fmt.Sprint(c.Notes), "policy") {
		t.Errorf("notes on the manual's policy: %v", c.Notes)
	}
	file := write(t, "\ufeff# by hand\r\nFirst.example \r\n\t.second.example # all of it\nb\u00fccher.example")
	next := time.Now().UTC().AddDate(0, 1, 0)
	c := mustParse(t, fmt.Sprintf(`[[policy.rule]]
match = { domain = ["own.example"], domain_file = %q, mx = [".MX.example"] }
downgrade_hold = "1h"
ignore = ["mta-sts", "dane"]
reason = "their key is lost"
expires = %s
[[policy.rule]]
match.domain = ["other.example"]
`, file, next.Format(time.DateOnly)))
	day := time.Date(next.Year(), next.Month(), next.Day()+1, 0, 0, 0, 0, time.UTC)
	want := []policy.Rule{
		{Name: "rule 1", Match: policy.Match{Domains: []string{"own.example", "first.example", ".second.example", "xn--bcher-kva.example"}, MX: []string{".mx.example"}},
			Floor: policy.Plaintext, OnUnmet: policy.Defer, Hold: time.Hour, Fallback: defaultFallback(),
			Ignore: policy.PromiseDANE | policy.PromiseMTASTS, Reason: "their key is lost", Expires: day},
		{Name: "rule 2", Match: policy.Match{Domains: []string{"other.example"}}, Floor: policy.Plaintext, OnUnmet: policy.Defer, Hold: 4 * time.Hour, Fallback: defaultFallback()},
	}
	if got := c.Policy.Ruleset.Rules; !reflect.DeepEqual(got, want) {
		t.Errorf("rules\n%+v\nwant\n%+v", got, want)
	}
	roundTrip(t, c)
}

func TestDates(t *testing.T) {
	day := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`2027-01-31`: day, `"2027-01-31"`: day, `2027-02-01T00:00:00Z`: day, `2027-02-01 01:00:00+01:00`: day, `2027-02-01T00:00:00`: day, `""`: {},
		`2027-01-31T18:30:00.5Z`: time.Date(2027, 1, 31, 18, 30, 0, 5e8, time.UTC), `"2027-01-31t18:30z"`: time.Date(2027, 1, 31, 18, 30, 0, 0, time.UTC),
		`2028-02-29`: time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC),
	} {
		r := &report{}
		b := newBuilder("test.toml", []byte("x = "+text), nil)
		if fault, _ := b.build(); fault != nil {
			t.Errorf("%s is no TOML: %v", text, fault)
			continue
		}
		got, ok := date().read(&finding{"x", r}, b.root.member("x").value)
		if !ok || !got.Equal(want) {
			t.Errorf("%s: %v, want %v: %v", text, got, want, r.problems)
		}
		if again := strings.Trim(writeDate(got), `"`); !got.IsZero() {
			if back, err := parseDate(again); err != nil || !back.Equal(got) {
				t.Errorf("%s is written as %s", text, again)
			}
		}
	}
	for _, text := range []string{`"31.1.2027"`, `2027-02-30`, `18:00:00`, `1`, `true`, `[2027-01-31]`, `{}`, `"2027-01-31T25:00:00Z"`, `1970-01-01`} {
		_, err := Parse("test.toml", []byte("[[policy.rule]]\nmatch.domain = [\"a.example\"]\nexpires = "+text), nil)
		if err == nil || !strings.Contains(err.Error(), "expires") && !strings.Contains(err.Error(), "this is not TOML") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestRuleNotes: what a rule says without effect, or in a way that somebody should know.
func TestRuleNotes(t *testing.T) {
	file := write(t, "a.example\nbank.example\n")
	override := func(expires string) string {
		return "[[policy.rule]]\nmatch.domain = [\"a.example\"]\nignore = [\"dane\"]\nreason = \"x\"\nexpires = " + expires
	}
	for _, test := range []struct{ name, text, want string }{
		{"past", override("2020-01-31"), "test.toml:5:11: the override expired on 2020-01-31 and has no effect any more: take ignore, reason and expires out"},
		{"far", override("2999-01-31"), "test.toml:5:11: the override holds until 2999-01-31, which is more than a year: choose a date at which somebody looks again"},
		{"an exception to a file", "[[policy.rule]]\nmatch.domain = [\"bank.example\"]\n[[policy.rule]]\nmatch.domain_file = \"" + file + "\"\nfloor = \"verified\"",
			file + ":2:1: the domain \"bank.example\" can never match here: rule 1 in line 2 takes it: nothing to do if that is an exception to this file"},
		{"old TLS is forbidden", "[policy]\nmin_tls = \"1.2\"\n[[policy.rule]]\nmatch.domain = [\"a.example\"]\nfloor = \"plaintext\"\n",
			"test.toml:1:2: policy goes from TLS 1.2 to clear text, without old TLS between them: a message of age 0s to x.example whose host speaks TLS 1.1 at most " +
				"would go out in clear text, and it could have been of level legacy: permit \"legacy\" before \"plaintext\" if any TLS is better than none"},
		{"hosts choose", "[[policy.rule]]\nmatch.mx = [\".weak.example\"]\n[[policy.rule]]\nmatch.domain = [\"bank.example\"]\nfloor = \"verified\"",
			"test.toml:2:1: policy.rule 1 lowers the floor of rule 2 in line 4 \"verified\" for hosts that an MX record names: mail to bank.example whose MX record names " +
				"mail.weak.example, forged or not, would go out by the floor \"plaintext\": name the domains in match.domain, too, if only some are meant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, n := range mustParse(t, test.text, "SEALPOST_SERVER__HOSTNAME=relay.example.com").Notes {
				got = append(got, n.String())
			}
			if want := []string{test.want}; !slices.Equal(got, want) {
				t.Errorf("notes:\n%s\nwant:\n%s", strings.Join(got, "\n"), test.want)
			}
		})
	}
}

// TestManyDomains: a file of 100000 lines is read, proved and looked up without effort, and
// of the many that never match only some are named.
func TestManyDomains(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "customer-%d.shop%d.example\n", i, i%10)
	}
	file := write(t, b.String())
	rules := func(before string) string {
		return before + "[[policy.rule]]\nmatch.domain_file = \"" + file + "\"\nfloor = \"verified\"\n"
	}
	c := mustParse(t, rules("[[policy.rule]]\nmatch.domain = [\".shop3.example\"]\n"))
	if n := len(c.Policy.Ruleset.Rules[1].Match.Domains); n != 100_000 {
		t.Errorf("%d domains", n)
	}
	named, counted := 0, false
	for _, n := range c.Notes {
		if n.File == file {
			named++
		}
		counted = counted || strings.Contains(n.What, "10000 domains of this file")
	}
	if named != maxShadowed || !counted {
		t.Errorf("%d domains are named, counted %t: %v", named, counted, c.Notes)
	}
	if r := c.Policy.Ruleset.For(&policy.Query{Domain: "customer-99999.shop9.example"}, ""); r.Floor != policy.Verified {
		t.Errorf("rule %s", r.Name)
	}
	_, err := Parse("test.toml", []byte(rules("[[policy.rule]]\nmatch.domain = [\".example\"]\n")), nil)
	var list Errors
	if !errors.As(err, &list) || len(list) != 1 || !strings.Contains(err.Error(), "rule 1 in line 2 takes all that it is for, for example mail to customer-0.shop0.example") {
		t.Errorf("%d problems: %.300v", len(list), err)
	}
}
