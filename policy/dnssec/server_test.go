package dnssec

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseServer(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"127.0.0.1:53":                           "127.0.0.1:53",
		"127.0.0.1":                              "127.0.0.1:53",
		"127.0.0.1:5353":                         "127.0.0.1:5353",
		"[::1]:53":                               "[::1]:53",
		"[::1]":                                  "[::1]:53",
		"::1":                                    "[::1]:53",
		"[fe80::1%eth0]:53":                      "[fe80::1%eth0]:53",
		"[::ffff:127.0.0.1]:53":                  "127.0.0.1:53",
		"tls://1.1.1.1#cloudflare-dns.com":       "tls://1.1.1.1:853#cloudflare-dns.com",
		"tls://1.1.1.1:8853#Cloudflare-DNS.com.": "tls://1.1.1.1:8853#cloudflare-dns.com",
		"tls://[2606:4700::1111]#one.example":    "tls://[2606:4700::1111]:853#one.example",
	}
	for in, want := range good {
		s, err := ParseServer(in)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, s, err, want)
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Errorf("%q does not come back: %v, %v", s, again, err)
		}
	}
	bad := map[string]string{ // and what the error tells
		"":                       "IP address",
		"localhost:53":           "not a name",
		"dns.example":            "IP address",
		"127.0.0.1:":             "port",
		"127.0.0.1:0":            "port 0",
		"127.0.0.1:65536":        "65535",
		"127.0.0.1:dns":          "65535",
		"0.0.0.0:53":             "unspecified",
		"[::]:53":                "unspecified",
		"224.0.0.251:53":         "multicast",
		"[127.0.0.1]":            "IP address",
		"tls://1.1.1.1":          "#cloudflare-dns.com",
		"tls://1.1.1.1#":         "empty",
		"tls://1.1.1.1#a b":      "behind #",
		"tls://dns.example#name": "IP address",
		"https://1.1.1.1":        "IP address",
	}
	for in, want := range bad {
		if s, err := ParseServer(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, error %v; want one that says %q", in, s, err, want)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"127.0.0.1:53", "[::1]:53", "::1", "tls://1.1.1.1#name", "tls://[::1]:853#a.b", "[fe80::1%e]:1", "", ":", "#", "[]:53", "tls://#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseServer(in)
		if err != nil {
			if s != (Server{}) {
				t.Fatalf("%q: a server beside an error: %v", in, s)
			}
			return
		}
		if !s.Addr.IsValid() || s.Addr.Port() == 0 || s.Addr.Addr().IsUnspecified() {
			t.Fatalf("%q gives %v", in, s)
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Fatalf("%q: %v comes back as %v, %v", in, s, again, err)
		}
	})
}

func TestSystemServers(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		p := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cases := []struct{ name, path, want string }{
		{"no file", filepath.Join(t.TempDir(), "none"), "127.0.0.1:53"},
		{"no nameserver", write("search example.com\noptions timeout:1\n"), "127.0.0.1:53"},
		{"several", write("# x\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # second\noptions timeout:1 rotate\n"), "192.0.2.1:53 [2001:db8::1]:53"},
		{"zone", write("nameserver fe80::1%eth0"), "[fe80::1%eth0]:53"},
		{"this machine", write("nameserver 0.0.0.0\n"), "127.0.0.1:53"},
		{"nonsense is passed over", write("nameserver\nnameserver x\nnameservers 192.0.2.9\n;nameserver 192.0.2.8\nnameserver 192.0.2.7\n"), "192.0.2.7:53"},
	}
	for _, c := range cases {
		r, err := New(Options{ResolvConf: c.path})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, s := range r.Servers() {
			got = append(got, s.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestNewNamesEveryBadServer(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Servers: []string{"a:53", "127.0.0.1:53", "b:53"}})
	if err == nil || !strings.Contains(err.Error(), `"a:53"`) || !strings.Contains(err.Error(), `"b:53"`) {
		t.Errorf("%v", err)
	}
}

// RFC 7672 2.1.1, RFC 4035 4.9.3: whose AD bit is believed.
func TestTrust(t *testing.T) {
	t.Parallel()
	cases := []struct {
		trust  TrustAD
		server string
		want   bool
	}{
		{TrustAuto, "127.0.0.1:53", true},
		{TrustUnset, "127.0.0.53", true},
		{TrustAuto, "[::1]:5353", true},
		{TrustAuto, "192.0.2.1:53", false},
		{TrustAuto, "10.0.0.1:53", false},
		{TrustAuto, "[fe80::1%lo]:53", false},
		{TrustAuto, "tls://192.0.2.1#dns.example", true},
		{TrustAlways, "192.0.2.1:53", true},
		{TrustNever, "127.0.0.1:53", false},
		{TrustNever, "tls://192.0.2.1#dns.example", false},
	}
	for _, c := range cases {
		s, err := ParseServer(c.server)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.trust.trusts(s); got != c.want {
			t.Errorf("%s %s: %t", c.trust, c.server, got)
		}
	}
	for _, word := range []string{"auto", "always", "never"} {
		if v, err := ParseTrustAD(word); err != nil || v.String() != word {
			t.Errorf("%q: %v, %v", word, v, err)
		}
	}
	for _, word := range []string{"", "unset", "Auto", "yes"} {
		if v, err := ParseTrustAD(word); err == nil {
			t.Errorf("%q: %v", word, v)
		}
	}
}

// Whoever silences the trusted server must not get us to an untrusted one.
func TestUntrustedBesideTrusted(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		trust   TrustAD
		servers []string
		want    string
	}{
		"trusted stays alone":   {TrustAuto, []string{"192.0.2.1:53", "127.0.0.1:53", "192.0.2.2:53"}, "127.0.0.1:53"},
		"none is trusted":       {TrustAuto, []string{"192.0.2.1:53", "192.0.2.2:53"}, "192.0.2.1:53 192.0.2.2:53"},
		"the operator says all": {TrustAlways, []string{"192.0.2.1:53", "127.0.0.1:53"}, "192.0.2.1:53 127.0.0.1:53"},
		"nobody":                {TrustNever, []string{"192.0.2.1:53", "127.0.0.1:53"}, "192.0.2.1:53 127.0.0.1:53"},
	}
	for name, c := range cases {
		r, err := New(Options{Servers: c.servers, TrustAD: c.trust})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range r.Servers() {
			got = append(got, s.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.1\n")
	f.Add("nameserver\nnameserver fe80::1%x\x00\n#")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseResolvConf(strings.NewReader(text))
		if err != nil {
			return
		}
		if slices.ContainsFunc(got, func(s Server) bool { return s.Addr.Addr() == (netip.Addr{}) || s.Addr.Port() != 53 }) {
			t.Fatalf("%q gives %v", text, got)
		}
	})
}
