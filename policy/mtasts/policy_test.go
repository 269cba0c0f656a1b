package mtasts_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/mtasts"
)

// short writes a policy for the table: mode, seconds, patterns.
func short(p mtasts.Policy) string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", p.Mode, int64(p.MaxAge/time.Second), strings.Join(p.MX, " ")))
}

// Policies as they are served: what they say, or a part of the error.
var policies = []struct {
	clause, text, want, err string
}{
	{"RFC 8461 3.2 the example", "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n",
		"enforce 604800 mail.example.com *.example.net backupmx.example.com", ""},
	{"3.2 CRLF", "version: STSv1\r\nmode: enforce\r\nmx: a.example\r\nmax_age: 1\r\n", "enforce 1 a.example", ""},
	{"3.2 LF and CRLF mixed", "version: STSv1\r\nmode: enforce\nmx: a.example\r\nmax_age: 1\n", "enforce 1 a.example", ""},
	{"3.2 no line end at the end", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1", "enforce 1 a.example", ""},
	{"3.2 any order", "mx: a.example\nmax_age: 1\nmode: enforce\nmx: b.example\nversion: STSv1", "enforce 1 a.example b.example", ""},
	{"3.2 no white space behind the colon", "version:STSv1\nmode:enforce\nmx:a.example\nmax_age:1\n", "enforce 1 a.example", ""},
	{"3.2 much white space", "version: \t STSv1 \t\nmode:\tenforce \nmx:  a.example\t\nmax_age: 1  \r\n", "enforce 1 a.example", ""},
	{"3.2 testing", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 86400\n", "testing 86400 a.example", ""},
	{"3.2 none without mx", "version: STSv1\nmode: none\nmax_age: 86400\n", "none 86400", ""},
	{"3.2 none with mx", "version: STSv1\nmode: none\nmx: a.example\nmax_age: 86400\n", "none 86400 a.example", ""},
	{"3.2 unknown keys are ignored", "version: STSv1\nmode: enforce\nfoo: bar baz\nx-1_2.3: \u00fcber\nmx: a.example\nmax_age: 1\n", "enforce 1 a.example", ""},
	{"3.2 unknown key: a colon in its value", "version: STSv1\nmode: enforce\nurl: https://a.example/\nmx: a.example\nmax_age: 1\n", "enforce 1 a.example", ""},
	{"3.2 unknown key: UTF-8 of four octets", "version: STSv1\nmode: none\nfoo: \U0001F512\nmax_age: 1\n", "none 1", ""},
	{"3.2 key of 32", "version: STSv1\nmode: none\n" + letters32 + ": x\nmax_age: 1\n", "none 1", ""},
	{"3.2 repeated mode: the first", "version: STSv1\nmode: enforce\nmode: none\nmx: a.example\nmax_age: 1\n", "enforce 1 a.example", ""},
	{"3.2 repeated max_age: the first", "version: STSv1\nmode: none\nmax_age: 1\nmax_age: 2\n", "none 1", ""},
	{"3.2 repeated version: the first", "version: STSv1\nversion: STSv2\nmode: none\nmax_age: 1\n", "none 1", ""},
	{"3.2 repeated: whatever the second says", "version: STSv1\nmode: none\nmode: all\nmax_age: 1\nmax_age: soon\n", "none 1", ""},
	{"3.2 max_age 0", "version: STSv1\nmode: none\nmax_age: 0\n", "none 0", ""},
	{"3.2 max_age with zeros before it", "version: STSv1\nmode: none\nmax_age: 0000000060\n", "none 60", ""},
	{"3.2 the largest max_age", "version: STSv1\nmode: none\nmax_age: 31557600\n", "none 31557600", ""},
	{"own: max_age is cut", "version: STSv1\nmode: none\nmax_age: 31557601\n", "none 31557600", ""},
	{"own: ten digits are cut", "version: STSv1\nmode: none\nmax_age: 9999999999\n", "none 31557600", ""},
	{"3.2 mx: one label", "version: STSv1\nmode: enforce\nmx: mail\nmax_age: 1\n", "enforce 1 mail", ""},
	{"3.2 mx: a wildcard on one label", "version: STSv1\nmode: enforce\nmx: *.example\nmax_age: 1\n", "enforce 1 *.example", ""},
	{"3.2 mx: as written", "version: STSv1\nmode: enforce\nmx: MAIL.Example.COM\nmax_age: 1\n", "enforce 1 MAIL.Example.COM", ""},
	{"3.2 mx: A-label", "version: STSv1\nmode: enforce\nmx: xn--bcher-kva.example\nmax_age: 1\n", "enforce 1 xn--bcher-kva.example", ""},
	{"3.2 mx: digits first", "version: STSv1\nmode: enforce\nmx: 1and1.example\nmax_age: 1\n", "enforce 1 1and1.example", ""},
	{"3.2 mx: the same twice", "version: STSv1\nmode: enforce\nmx: a.example\nmx: a.example\nmax_age: 1\n", "enforce 1 a.example a.example", ""},
	{"3.2 mx: a label of 63", "version: STSv1\nmode: enforce\nmx: " + strings.Repeat("a", 63) + ".example\nmax_age: 1\n", "enforce 1 " + strings.Repeat("a", 63) + ".example", ""},
	{"3.3 64 KiB", filled(64 << 10), "none 1", ""},

	{"empty", "", "", "empty"},
	{"a line end alone", "\n", "", "line 1: empty"},
	{"3.2 an empty line first", "\nversion: STSv1\nmode: none\nmax_age: 1\n", "", "line 1: empty"},
	{"3.2 an empty line between", "version: STSv1\n\nmode: none\nmax_age: 1\n", "", "line 2: empty"},
	{"3.2 an empty line last", "version: STSv1\nmode: none\nmax_age: 1\n\n", "", "line 4: empty"},
	{"3.2 a line of white space", "version: STSv1\n \nmode: none\nmax_age: 1\n", "", "line 2"},
	{"3.2 no version", "mode: none\nmax_age: 1\n", "", "without a version"},
	{"3.2 another version", "version: STSv2\nmode: none\nmax_age: 1\n", "", "line 1: version"},
	{"3.2 %s: the version has its case", "version: stsv1\nmode: none\nmax_age: 1\n", "", "line 1: version"},
	{"3.2 no mode", "version: STSv1\nmx: a.example\nmax_age: 1\n", "", "without a mode"},
	{"3.2 another mode", "version: STSv1\nmode: report\nmx: a.example\nmax_age: 1\n", "", "line 2: mode"},
	{"3.2 %s: modes have their case", "version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 1\n", "", "line 2: mode"},
	{"3.2 mode with something behind it", "version: STSv1\nmode: enforce now\nmx: a.example\nmax_age: 1\n", "", "line 2: mode"},
	{"3.2 first mode counts, the second is no cure", "version: STSv1\nmode: all\nmode: none\nmax_age: 1\n", "", "line 2: mode"},
	{"3.2 %s: keys have their case", "version: STSv1\nMode: none\nmax_age: 1\n", "", "without a mode"},
	{"3.2 %s: mx has its case (typo)", "version: STSv1\nmode: enforce\nMX: a.example\nmax_age: 1\n", "", "without an mx"},
	{"field: F18, nmx", "version: STSv1\nmode: enforce\nnmx: a.example\nmax_age: 1\n", "", "without an mx"},
	{"3.2 enforce without mx", "version: STSv1\nmode: enforce\nmax_age: 1\n", "", "without an mx"},
	{"3.2 testing without mx", "version: STSv1\nmode: testing\nmax_age: 1\n", "", "without an mx"},
	{"3.2 no max_age", "version: STSv1\nmode: none\n", "", "without a max_age"},
	{"3.2 max_age of 11 digits", "version: STSv1\nmode: none\nmax_age: 00000000001\n", "", "line 3: max_age"},
	{"3.2 max_age with a sign", "version: STSv1\nmode: none\nmax_age: -1\n", "", "line 3: max_age"},
	{"3.2 max_age with a plus", "version: STSv1\nmode: none\nmax_age: +1\n", "", "line 3: max_age"},
	{"3.2 max_age with a unit", "version: STSv1\nmode: none\nmax_age: 1d\n", "", "line 3: max_age"},
	{"3.2 max_age with a point", "version: STSv1\nmode: none\nmax_age: 1.5\n", "", "line 3: max_age"},
	{"3.2 max_age of two numbers", "version: STSv1\nmode: none\nmax_age: 1 2\n", "", "line 3: max_age"},
	{"3.2 max_age of other digits", "version: STSv1\nmode: none\nmax_age: \u0661\n", "", "line 3: max_age"},
	{"3.2 max_age without a value", "version: STSv1\nmode: none\nmax_age:\n", "", "line 3: max_age has no value"},
	{"3.2 max-age", "version: STSv1\nmode: none\nmax-age: 1\n", "", "without a max_age"},
	{"3.2 white space first in a line", "version: STSv1\n mode: none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 white space before the colon", "version: STSv1\nmode : none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 no colon", "version: STSv1\nmode none\nmax_age: 1\n", "", "line 2: \"mode none\" has no colon"},
	{"3.2 an equals sign", "version=STSv1\nmode=none\nmax_age=1\n", "", "line 1"},
	{"3.2 semicolons for line ends", "version: STSv1; mode: none; max_age: 1;\n", "", "line 1: version"},
	{"3.2 a comment", "# ours\nversion: STSv1\nmode: none\nmax_age: 1\n", "", "line 1"},
	{"3.2 a key without a name", "version: STSv1\n: x\nmode: none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 an unknown key without a value", "version: STSv1\nfoo:\nmode: none\nmax_age: 1\n", "", "line 2: foo has no value"},
	{"3.2 key of 33", "version: STSv1\n" + letters32 + "1: x\nmode: none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 a key with non-ASCII", "version: STSv1\nf\u00f6o: x\nmode: none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 a key that begins with an underscore", "version: STSv1\n_foo: x\nmode: none\nmax_age: 1\n", "", "line 2: key"},
	{"3.2 CR alone", "version: STSv1\rmode: none\rmax_age: 1\r", "", "0x0d"},
	{"3.2 CR at the end without LF", "version: STSv1\nmode: none\nmax_age: 1\r", "", "line 3"},
	{"3.2 CR twice", "version: STSv1\r\r\nmode: none\nmax_age: 1\n", "", "line 1"},
	{"3.2 NUL", "version: STSv1\nmode: none\x00\nmax_age: 1\n", "", "0x00"},
	{"3.2 NUL in an unknown key", "version: STSv1\nfoo: a\x00b\nmode: none\nmax_age: 1\n", "", "line 2"},
	{"3.2 a tab inside a value", "version: STSv1\nfoo: a\tb\nmode: none\nmax_age: 1\n", "", "0x09"},
	{"3.2 not UTF-8", "version: STSv1\nfoo: \xff\nmode: none\nmax_age: 1\n", "", "line 2: the value of foo is not UTF-8"},
	{"3.2 UTF-8 too long", "version: STSv1\nfoo: \xc0\xaf\nmode: none\nmax_age: 1\n", "", "not UTF-8"},
	{"byte order mark", "\ufeffversion: STSv1\nmode: none\nmax_age: 1\n", "", "byte order mark"},
	{"UTF-16", "v\x00e\x00r\x00", "", "line 1"},
	{"a page", "<!DOCTYPE html>\n<html><body>404</body></html>\n", "", "line 1"},
	{"3.2 a line end missing between two", "version: STSv1mode: none\nmax_age: 1\n", "", "line 1: version"},

	{"3.2 mx: empty", policyWith(""), "", "line 3: mx has no value"},
	{"3.2 mx: a star", policyWith("*"), "", "line 3: mx"},
	{"3.2 mx: star and dot", policyWith("*."), "", "line 3: mx"},
	{"3.2 mx: a dot first", policyWith(".example.com"), "", "line 3: mx"},
	{"3.2 mx: a star that is not the whole label", policyWith("mx*.example.com"), "", "line 3: mx"},
	{"3.2 mx: a star in the middle", policyWith("mx.*.example.com"), "", "line 3: mx"},
	{"3.2 mx: two stars", policyWith("*.*.example.com"), "", "line 3: mx"},
	{"3.2 mx: an empty label", policyWith("mx..example.com"), "", "line 3: mx"},
	{"RFC 5321 4.1.2 mx: a dot at the end", policyWith("mx.example.com."), "", "line 3: mx"},
	{"RFC 5321 4.1.2 mx: an underscore", policyWith("mx_1.example.com"), "", "line 3: mx"},
	{"RFC 5321 4.1.2 mx: a hyphen first", policyWith("-mx.example.com"), "", "line 3: mx"},
	{"RFC 5321 4.1.2 mx: a hyphen last in a label", policyWith("mx-.example.com"), "", "line 3: mx"},
	{"3.2 mx: a U-label", policyWith("b\u00fccher.example"), "", "line 3: mx"},
	{"3.2 mx: two on a line", policyWith("a.example, b.example"), "", "line 3: mx"},
	{"3.2 mx: two on a line, spaces", policyWith("a.example b.example"), "", "line 3: mx"},
	{"3.2 mx: an address literal", policyWith("[192.0.2.1]"), "", "line 3: mx"},
	{"3.2 mx: an IPv6 address", policyWith("2001:db8::1"), "", "line 3: mx"},
	{"3.2 mx: a preference", policyWith("10 mx.example.com"), "", "line 3: mx"},
	{"3.2 mx: a URL", policyWith("https://mx.example.com/"), "", "line 3: mx"},
	{"3.2 mx: a port", policyWith("mx.example.com:25"), "", "line 3: mx"},
	{"RFC 1035 2.3.4 mx: a label of 64", policyWith(strings.Repeat("a", 64) + ".example"), "", "line 3: mx"},
	{"RFC 1035 2.3.4 mx: a name of 255", policyWith(strings.Repeat("a.", 127) + "a"), "", "line 3: mx"},
	{"3.2 mx: one good, one bad", "version: STSv1\nmode: enforce\nmx: a.example\nmx: *\nmax_age: 1\n", "", "line 4: mx"},
	{"3.3 more than 64 KiB", filled(64<<10 + 1), "", "65537 octets"},
}

func policyWith(mx string) string {
	return "version: STSv1\nmode: enforce\nmx: " + mx + "\nmax_age: 1\n"
}

// filled is a valid policy of a size.
func filled(size int) string {
	text := "version: STSv1\nmode: none\nmax_age: 1\nfoo: "
	return text + strings.Repeat("x", size-len(text)-1) + "\n"
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for _, c := range policies {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			p, err := mtasts.ParsePolicy([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || len(err.Error()) > 300 {
					t.Errorf("error %v, want one with %q", err, c.err)
				}
				if !reflect.DeepEqual(p, mtasts.Policy{}) {
					t.Errorf("an error and a policy: %+v", p)
				}
				return
			}
			if err != nil || short(p) != c.want {
				t.Errorf("%s, %v; want %s", short(p), err, c.want)
			}
		})
	}
}

// Whatever is served: no panic, and what is accepted prints as a policy that is accepted
// and says the same.
func FuzzPolicy(f *testing.F) {
	for _, c := range policies {
		if len(c.text) < 1000 {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := mtasts.ParsePolicy(text)
		if err != nil {
			return
		}
		if p.Mode == policy.STSAbsent || p.Mode != policy.STSNone && len(p.MX) == 0 || p.MaxAge < 0 || p.MaxAge > 31557600*time.Second {
			t.Errorf("%q: %+v", text, p)
		}
		printed := p.String()
		if len(printed) > mtasts.MaxPolicySize {
			return // fewer octets on each line than we print
		}
		again, err := mtasts.ParsePolicy([]byte(printed))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%q: %+v, printed %q, read %+v, %v", text, p, printed, again, err)
		}
	})
}
