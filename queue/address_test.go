package queue

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	deep := strings.Repeat("a.", 94) + "example" // 195 octets
	for _, c := range []struct {
		name, in, want string
		utf8           bool
	}{
		{"RFC 5321 4.5.5 null reverse path", "", "", false},
		{"RFC 5321 4.1.2 Dot-string", "John.Doe+tag@Example.COM", "John.Doe+tag@example.com", false},
		{"RFC 5321 4.1.2 all of atext", "!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com", false},
		{"RFC 5321 4.1.2 one label", "root@localhost", "root@localhost", false},
		{"RFC 5321 4.1.2 redundant quotes", `"john"@example.com`, "john@example.com", false},
		{"RFC 5321 4.1.2 redundant backslash", `"jo\hn"@example.com`, "john@example.com", false},
		{"RFC 5321 4.1.2 Joe,Smith", `"Joe\,Smith"@example.com`, `"Joe,Smith"@example.com`, false},
		{"RFC 5321 4.1.2 quote and backslash", `"a\"b\\c"@example.com`, `"a\"b\\c"@example.com`, false},
		{"RFC 5321 4.1.2 empty quoted string", `""@example.com`, `""@example.com`, false},
		{"RFC 5321 4.1.2 leading dot in quotes", `".a"@example.com`, `".a"@example.com`, false},
		{"RFC 5321 4.1.2 @ in quotes", `"a@b"@example.com`, `"a@b"@example.com`, false},
		{"a parameter cannot be injected", `"x> NOTIFY=NEVER y"@good.example`, `"x> NOTIFY=NEVER y"@good.example`, false},
		{"RFC 5321 4.5.3.1.1 64 octets", long + "@example.com", long + "@example.com", false},
		{"RFC 5321 4.5.3.1.1 64 octets in needless quotes", `"` + long + `"@example.com`, long + "@example.com", false},
		{"RFC 5321 4.5.3.1.3 254 octets", long[:58] + "@" + deep, long[:58] + "@" + deep, false},
		{"RFC 6531 3.3 UTF-8 local part", "jürgen@example.com", "jürgen@example.com", true},
		{"RFC 6531 3.3 UTF-8 in quotes", `"jürgen m"@example.com`, `"jürgen m"@example.com`, true},
		{"RFC 5890 U-label", "x@Bücher.example", "x@xn--bcher-kva.example", false},
		{"RFC 5891 ideographic full stop", "x@例。テスト", "x@xn--fsq.xn--zckzah", false},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%s: ParseAddress(%q): %v", c.name, c.in, err)
			continue
		}
		if got := a.String(); got != c.want {
			t.Errorf("%s: ParseAddress(%q) = %q, want %q", c.name, c.in, got, c.want)
		}
		if a.NeedsUTF8() != c.utf8 {
			t.Errorf("%s: NeedsUTF8 = %v, want %v", c.name, a.NeedsUTF8(), c.utf8)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"RFC 5321 4.1.1.3 postmaster without a domain", "postmaster", "no @domain"},
		{"RFC 5321 C source route", "@a.example,@b.example:c@d.example", "source route"},
		{"RFC 5321 4.1.3 IPv4 literal", "a@[192.0.2.1]", "literal"},
		{"RFC 5321 4.1.3 IPv6 literal", "a@[IPv6:2001:db8::1]", "literal"},
		{"an IP address as a name", "a@192.0.2.1", "IP address"},
		{"an IP address in full-width digits", "a@１９２.0.2.１", "IP address"},
		{"no local part", "@example.com", "source route"},
		{"no domain", "a@", "no domain"},
		{"RFC 5321 2.3.5 trailing dot", "a@example.com.", "dot"},
		{"RFC 5321 4.1.2 underscore", "a@my_host.example", "underscore"},
		{"two dots", "a..b@example.com", "quotes"},
		{"leading dot", ".a@example.com", "quotes"},
		{"trailing dot in the local part", "a.@example.com", "quotes"},
		{"two @", "a@b@example.com", "quotes"},
		{"space", "a b@example.com", "quotes"},
		{"angle brackets", "<a@example.com>", "quotes"},
		{"space before", " a@example.com", "quotes"},
		{"space behind", "a@example.com ", "letters"},
		{"parameter behind", "a@example.com NOTIFY=NEVER", "letters"},
		{"bracket in the domain", "a@example.com>", "letters"},
		{"full-width @ in the domain", "a@b＠example.com", "internationalised"},
		{"CR", "a\r@example.com", "control"},
		{"LF in quotes", "\"a\nb\"@example.com", "control"},
		{"NUL in quotes", "\"a\x00\"@example.com", "control"},
		{"quoted CR", "\"a\\\r\"@example.com", "control"},
		{"DEL", "a\x7f@example.com", "control"},
		{"C1 control", "a\u0085@example.com", "control"},
		{"line separator", "a\u2028@example.com", "control"},
		{"control in the domain", "a@exam\tple.com", "control"},
		{"invalid UTF-8", "a\xff@example.com", "UTF-8"},
		{"open quote", `"a@example.com`, "no end"},
		{"text behind the quotes", `"a"b@example.com`, "no @"},
		{"backslash at the end", `"a\`, "backslash"},
		{"backslash before UTF-8", `"\ü"@example.com`, "backslash"},
		{"RFC 5321 4.5.3.1.1 65 octets", strings.Repeat("a", 65) + "@example.com", "64"},
		{"RFC 5321 4.5.3.1.2 254 octets of domain", "a@" + strings.Repeat("a.", 126) + "ab", "253"},
		{"RFC 5321 4.5.3.1.3 255 octets", strings.Repeat("a", 59) + "@" + strings.Repeat("a.", 94) + "example", "254"},
		{"RFC 1035 2.3.4 long label", "a@" + strings.Repeat("a", 64) + ".example", "63"},
		{"empty label", "a@b..example", "empty label"},
	} {
		a, err := ParseAddress(c.in)
		if err == nil {
			t.Errorf("%s: ParseAddress(%q) = %q, want an error", c.name, c.in, a)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", c.name, err, c.want)
		}
		if !a.IsNull() {
			t.Errorf("%s: an error with the address %q", c.name, a)
		}
	}
}

func TestAddressJSON(t *testing.T) {
	t.Parallel()
	in := []Address{{}, {Local: "a b", Domain: "example.com"}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `["","\"a b\"@example.com"]`; string(b) != want {
		t.Fatalf("marshalled %s, want %s", b, want)
	}
	var out []Address
	if err := json.Unmarshal(b, &out); err != nil || out[0] != in[0] || out[1] != in[1] {
		t.Fatalf("unmarshalled %v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`["a b@example.com"]`), &out); err == nil {
		t.Fatal("a bad address was unmarshalled")
	}
}

// FuzzAddress: parse, print, parse is a fixed point, and what is printed cannot
// end the path of a MAIL or RCPT command early.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"a@example.com", `"x> NOTIFY=NEVER y"@good`, `"a\"\\b"@c.d`, `""@x`, "jürgen@bücher.example",
		`"a b"@xn--bcher-kva.example`, "a@例。テスト", "@a:b@c", "a@[::1]", "a@１.ｅ", "\"\\\x00\"@b", "a@ß.example", "a@\u00ad.b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		p := a.String()
		b, err := ParseAddress(p)
		if err != nil {
			t.Fatalf("%q was parsed, its print %q is not: %v", s, p, err)
		}
		if a != b || b.String() != p {
			t.Fatalf("%q: %q and %q differ", s, p, b.String())
		}
		if len(p) > 254 || len(a.Domain) > 253 {
			t.Fatalf("%q prints as %d octets", s, len(p))
		}
		quoted, escaped := false, false
		for i := range len(p) {
			switch c := p[i]; {
			case c < ' ' || c == 0x7f:
				t.Fatalf("%q prints the control character %#x", s, c)
			case escaped:
				escaped = false
			case quoted && c == '\\':
				escaped = true
			case c == '"':
				quoted = !quoted
			case !quoted && strings.IndexByte(" <>", c) >= 0:
				t.Fatalf("%q prints %q outside of quotes", s, c)
			}
		}
	})
}
