package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBadConfigurations reads each bad configuration of testdata and compares all
// of its problems with the golden file.
func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad configurations: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file, nil)
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("problems:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// operatorText is the configuration of the operator's manual, with real files.
func operatorText(t *testing.T) string {
	cert, key := certificate(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/good/operator.toml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("CERT", cert, "KEY", key, "TOKEN", token).Replace(string(text))
}

// certificate writes a self-signed certificate and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"relay.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func mustParse(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	c, err := Parse("test.toml", []byte(text), env)
	if err != nil {
		t.Fatalf("refused:\n%v\nin:\n%s", err, text)
	}
	return c
}

// TestOperatorsManual parses every key of the manual that exists by now.
func TestOperatorsManual(t *testing.T) {
	c := mustParse(t, operatorText(t))
	checks := []struct {
		name      string
		got, want any
	}{
		{"hostname", c.Server.Hostname, "relay.example.com"},
		{"log", c.Server.Log, Log{LogJSON, slog.LevelDebug, true}},
		{"listen", c.Submission[0].Listen, "0.0.0.0:587"},
		{"tls", c.Submission[0].TLS, STARTTLS},
		{"implicit", c.Submission[1].TLS, Implicit},
		{"IPv6 and IPv4", c.Submission[1].Listen, "[::]:465"},
		{"require_auth off loopback", c.Submission[0].RequireAuth, true},
		{"require_auth on loopback", c.Submission[2].RequireAuth, false},
		{"tls on loopback without certificate", c.Submission[2].TLS, NoTLS},
		{"require_auth behind a proxy", c.Submission[3].RequireAuth, true},
		{"max_message_bytes", c.Submission[0].MaxMessageBytes, int64(25 << 20)},
		{"networks", c.Submission[0].TrustedNetworks, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}},
		{"senders", c.Credentials[0].Senders, []string{"@example.com", "postmaster@example.net"}},
		{"credential floor", c.Credentials[0].Floor, policy.Encrypted},
		{"rate", c.Credentials[0].Rate, Rate{200, time.Second}},
		{"rate a second", Rate{90, time.Minute}.PerSecond(), 1.5},
		{"no rate", c.Credentials[1].Rate, Rate{}},
		{"resolvers", c.DNS.Resolvers, []Resolver{{Addr: netip.MustParseAddrPort("127.0.0.1:53")}, {Addr: netip.MustParseAddrPort("[::1]:5353")},
			{netip.MustParseAddrPort("1.1.1.1:853"), "cloudflare-dns.com"}}},
		{"relay_host", c.Delivery.RelayHost, "smarthost:587"},
		{"bind_ipv4", c.Delivery.BindIPv4, netip.MustParseAddr("192.0.2.1")},
		{"timeouts", c.Delivery.Timeouts, Timeouts{30 * time.Second, 5 * time.Minute, 5 * time.Minute, 30 * time.Second, 10 * time.Minute}},
		{"schedule", c.Retry.Schedule[1], 3 * time.Minute},
		{"give_up", c.Retry.GiveUp, 120 * time.Hour},
		{"min_free", c.Queue.MinFree, int64(1 << 30)},
		{"journal_retention", c.Queue.JournalRetention, 720 * time.Hour},
		{"default rule", c.Policy.Ruleset.Default, policy.Rule{Name: "default", Hold: 4 * time.Hour, Floor: policy.Plaintext, OnUnmet: policy.Defer,
			Fallback: []policy.Fallback{{To: policy.Legacy}, {To: policy.Plaintext, After: time.Hour, MinTries: 2}}}},
		{"rule 1", c.Policy.Ruleset.Rules[0], policy.Rule{Name: "rule 1 (contract 2231)", Hold: 4 * time.Hour, Note: "contract 2231",
			Match: policy.Match{Domains: []string{"bank.example", ".gov.example", "xn--bcher-kva.example"}}, Floor: policy.Verified, OnUnmet: policy.Bounce}},
		{"rule 2 inherits", c.Policy.Ruleset.Rules[1], policy.Rule{Name: "rule 2", Hold: 4 * time.Hour, MinTLS: 0x0303,
			Match: policy.Match{Streams: []string{"codes"}, Senders: []string{"example.com"}, Credentials: []string{"reviews"}},
			Floor: policy.Plaintext, OnUnmet: policy.Defer, Fallback: c.Policy.Ruleset.Default.Fallback[1:]}}, // min_tls ends the first
	}
	for _, check := range checks {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: %+v, want %+v", check.name, check.got, check.want)
		}
	}
}

// TestRoundTrip: what Print writes parses to an equal Config, and prints the same.
func TestRoundTrip(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "",
		"manual":      operatorText(t),
		"no HTTP":     "http.listen = \"\"",
		"no fallback": "[policy]\nfloor = \"plaintext\"\nfallback = []",
		"strict":      "[policy]\nfloor = \"dane\"\n[[policy.rule]]\nmatch.domain = [\"a.example\"]\nfloor = \"plaintext\"",
		"odd text":    "[server]\ndata_dir = 'C:\\\"q\"'\n[[policy.rule]]\nnote = \"a \\\"b\\\" \\\\ \u00fc\"",
		"short":       "[retry]\nschedule = [\"1s500ms\"]\ngive_up = \"3s\"\n[queue]\nmin_free = 1_000_001",
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, mustParse(t, text)) })
	}
}

func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	var first, second bytes.Buffer
	if err := c.Print(&first); err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, first.String())
	if err := again.Print(&second); err != nil {
		t.Fatal(err)
	}
	a, b := *c, *again
	a.Notes, b.Notes = nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Errorf("read again:\n%+v\nwas:\n%+v\nprinted:\n%s", b, a, first.String())
	}
	if first.String() != second.String() {
		t.Errorf("printed again:\n%s\nwas:\n%s", second.String(), first.String())
	}
}

// TestDefault: an empty text is a valid configuration, with the manual's defaults.
func TestDefault(t *testing.T) {
	c := Default()
	want := []Submission{{Listen: "127.0.0.1:2525", TLS: NoTLS, MaxMessageBytes: 25 << 20, MaxRecipients: 1000}}
	if !reflect.DeepEqual(c.Submission, want) {
		t.Errorf("submission %+v, want %+v", c.Submission, want)
	}
	if c.HTTP.Listen != "127.0.0.1:8025" || c.Server.DataDir != "./sealpost-data" || c.Delivery.Port != 25 || c.Server.Hostname == "" {
		t.Errorf("defaults: %+v", c)
	}
	if got := c.Policy.Ruleset.Default.Fallback; !reflect.DeepEqual(got, defaultFallback()) {
		t.Errorf("fallback %+v", got)
	}
	if got := fmt.Sprint(c.Retry.Schedule); got != "[1m0s 3m0s 5m0s 10m0s 15m0s 30m0s 1h0m0s 2h0m0s 4h0m0s]" {
		t.Errorf("schedule %s", got)
	}
}

func TestEnvironment(t *testing.T) {
	const two = "[[submission]]\nlisten = \"127.0.0.1:1\"\n[[submission]]\nlisten = \"127.0.0.1:2\"\n"
	for _, test := range []struct {
		name, text string
		env        []string
		get        func(*Config) any
		want       any
		problem    string // in place of a value
	}{
		{name: "number", env: []string{"SEALPOST_DELIVERY__PORT=2525"}, get: func(c *Config) any { return c.Delivery.Port }, want: 2525},
		{name: "over the file", text: "delivery.port = 1", env: []string{"SEALPOST_DELIVERY__PORT=2525"}, get: func(c *Config) any { return c.Delivery.Port }, want: 2525},
		{name: "in place of a mistake", text: "delivery.port = 'x'", env: []string{"SEALPOST_DELIVERY__PORT=2525"}, get: func(c *Config) any { return c.Delivery.Port }, want: 2525},
		{name: "flag", env: []string{"SEALPOST_DELIVERY__ALLOW_PRIVATE=true"}, get: func(c *Config) any { return c.Delivery.AllowPrivate }, want: true},
		{name: "inner table", env: []string{"SEALPOST_SERVER__LOG__LEVEL=debug"}, get: func(c *Config) any { return c.Server.Log.Level }, want: slog.LevelDebug},
		{name: "inner table after inline", text: "server.log = { format = \"json\" }", env: []string{"SEALPOST_SERVER__LOG__LEVEL=debug"},
			get: func(c *Config) any { return c.Server.Log }, want: Log{LogJSON, slog.LevelDebug, false}},
		{name: "list by commas", env: []string{"SEALPOST_RETRY__SCHEDULE=1s, 2s"}, get: func(c *Config) any { return c.Retry.Schedule }, want: []time.Duration{time.Second, 2 * time.Second}},
		{name: "list as TOML", env: []string{`SEALPOST_RETRY__SCHEDULE=["1s", "2s"]`}, get: func(c *Config) any { return c.Retry.Schedule }, want: []time.Duration{time.Second, 2 * time.Second}},
		{name: "the only listener", env: []string{"SEALPOST_SUBMISSION__LISTEN=127.0.0.1:0"}, get: func(c *Config) any { return c.Submission[0].Listen }, want: "127.0.0.1:0"},
		{name: "a bracket that is no list", env: []string{"SEALPOST_HTTP__LISTEN=[::1]:80"}, get: func(c *Config) any { return c.HTTP.Listen }, want: "[::1]:80"},
		{name: "by number", text: two, env: []string{"SEALPOST_SUBMISSION__1__LISTEN=127.0.0.1:3"}, get: func(c *Config) any { return c.Submission[1].Listen }, want: "127.0.0.1:3"},
		{name: "one more", text: two, env: []string{"SEALPOST_SUBMISSION__2__LISTEN=127.0.0.1:3"}, get: func(c *Config) any { return len(c.Submission) }, want: 3},
		{name: "a table as TOML", env: []string{`SEALPOST_SERVER__LOG={ format = "json", level = "warn" }`},
			get: func(c *Config) any { return c.Server.Log }, want: Log{LogJSON, slog.LevelWarn, false}},
		{name: "a table that is none", env: []string{"SEALPOST_SERVER__LOG=json"}, problem: `SEALPOST_SERVER__LOG: server.log is "json" in place of a table`},
		{name: "empty words", env: []string{"SEALPOST___=1", "SEALPOST_DELIVERY__=1", "SEALPOST_SUBMISSION__0__=1"}, problem: `SEALPOST_SUBMISSION__0__: the variable names the unknown key ""`},
		{name: "emptied", env: []string{"SEALPOST_HTTP__LISTEN="}, get: func(c *Config) any { return c.HTTP.Listen }, want: ""},
		{name: "not ours", env: []string{"SEALPOST_PORT_25_TCP=tcp://10.0.0.1:25", "SEALPOST_CONFIG=x", "OTHER__KEY=1"}, get: func(c *Config) any { return c.Delivery.Port }, want: 25},
		{name: "which listener", text: two, env: []string{"SEALPOST_SUBMISSION__LISTEN=127.0.0.1:3"}, problem: "SEALPOST_SUBMISSION__LISTEN: the variable does not say which of the 2"},
		{name: "too far", env: []string{"SEALPOST_SUBMISSION__4__LISTEN=127.0.0.1:3"}, problem: "there is no table number 4"},
		{name: "negative", env: []string{"SEALPOST_SUBMISSION__-1__LISTEN=127.0.0.1:3"}, problem: "there is no table number -1"},
		{name: "unknown key", env: []string{"SEALPOST_DELIVERY__PROT=1"}, problem: `SEALPOST_DELIVERY__PROT: the variable names the unknown key "prot": unset it, or write SEALPOST_SECTION__KEY with the words of the configuration (did you mean "PORT"?)`},
		{name: "bad value", env: []string{"SEALPOST_DELIVERY__PORT=smtp"}, problem: `SEALPOST_DELIVERY__PORT: delivery.port "smtp" is no whole number`},
		{name: "no key", env: []string{"SEALPOST_SUBMISSION__0=x"}, problem: "the variable names no key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse("test.toml", []byte(test.text), test.env)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := test.get(c); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestNotes: what is accepted without effect is said, with its line.
func TestNotes(t *testing.T) {
	c := mustParse(t, "server.hostname = \"relay\"\n[policy]\nmta_sts = true\ninsecure_mx_dane = false\ndowngrade_hold = \"4h\"\n"+
		"[queue]\nencryption.enabled = false\n[[submission]]\nmax_recipients = 5\n")
	var got []string
	for _, n := range c.Notes {
		got = append(got, n.String()[:len("test.toml:1:1")])
	}
	slices.Sort(got)
	if want := []string{"test.toml:1:1", "test.toml:7:2", "test.toml:9:1"}; !slices.Equal(got, want) {
		t.Errorf("notes %v, want %v: %v", got, want, c.Notes)
	}
}

// TestPlaces: lines and columns hold with a byte order mark, CRLF line ends and
// letters of several octets.
func TestPlaces(t *testing.T) {
	text := "\ufeff# \u00fcber\r\n[delivery]\r\nport = 25 # \u00fc\r\n\r\n[[policy.rule]]\r\nnote = \"\u00fc\u00fc\"\r\nmatch = { stream = [\"\u00fc\"], domain = [\"*\"] }\r\n" +
		"floor = \"x\r\n[retry]\r\ngive_up = 1\r\n"
	_, err := Parse("test.toml", []byte(text), nil)
	var list Errors
	if !errors.As(err, &list) || len(list) != 3 {
		t.Fatalf("problems:\n%v", err)
	}
	for i, want := range [][2]int{{7, 37}, {8, 11}, {10, 11}} {
		if p := list[i]; p.Line != want[0] || p.Column != want[1] {
			t.Errorf("%s: want %v", p, want)
		}
	}
}

// TestUnreadableFile: the configuration file itself is a problem like others.
func TestUnreadableFile(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none.toml"), t.TempDir(), "/dev/null"} {
		_, err := Load(path, nil)
		var list Errors
		if !errors.As(err, &list) || len(list) != 1 || list[0].File != path || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSecretsAreNotShown: what may be a password does not come back in a message.
func TestSecretsAreNotShown(t *testing.T) {
	for _, text := range []string{
		"[[credential]]\nname = \"a\"\npassword_hash = \"hunter2\"",
		"[[credential]]\nname = \"a\"\npassword_hash = 78787878",
		"[[credential]]\nname = \"a\"\npassword = \"hunter2\"",
	} {
		_, err := Parse("test.toml", []byte(text), nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "78787878") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestCertificates: pairs are accepted, strangers are not, and age is a note.
func TestCertificates(t *testing.T) {
	cert, key := certificate(t)
	_, otherKey := certificate(t)
	listener := func(cert, key string) string {
		return fmt.Sprintf("[[submission]]\nlisten = \"0.0.0.0:587\"\ncert_file = %q\nkey_file = %q", cert, key)
	}
	mustParse(t, listener(cert, key))
	for name, text := range map[string]string{"no pair": listener(cert, otherKey), "swapped": listener(key, cert)} {
		if _, err := Parse("test.toml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), "test.toml:3:13: cert_file and key_file are no pair") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMachineName: the full name comes from the machine or its hosts file.
func TestMachineName(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n# 10.0.0.1 mx1.wrong.example mx1\n127.0.1.1 mx1.example.com mx1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ own, want string }{
		{"mail.example.org", "mail.example.org"}, {"mx1", "mx1.example.com"}, {"mx2", "mx2"}, {"MX1", "mx1.example.com"},
		{"", "localhost"}, {"under_score", "localhost"}, {"10.0.0.1", "localhost"},
	} {
		if got := machineName(func() (string, error) { return test.own, nil }, hosts); got != test.want {
			t.Errorf("%q: %q, want %q", test.own, got, test.want)
		}
	}
}

// TestReference: every key is in the reference, with its default.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## `[[submission]]`", "## `[delivery.timeouts]`", "| `connect` | duration | `\"30s\"` |", "## `[policy.rule.match]`", "| `domain_file` |",
		"| `schedule` | list of: duration | `[\"1m\", \"3m\"", `starttls \| implicit \| none`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the reference:\n%s", want, b.String())
		}
	}
}

// TestDefaultsParse: every default is a value that its own key accepts.
func TestDefaultsParse(t *testing.T) {
	var walk func(t table, path string)
	walk = func(tab table, path string) {
		for _, f := range tab.fields {
			_, def, _ := f.explain()
			if def == "" || def == `""` {
				continue
			}
			b := newBuilder("default", []byte("x = "+def), nil)
			if fault, _ := b.build(); fault != nil {
				t.Errorf("%s.%s: default %s is no TOML: %v", path, f.label(), def, fault)
			}
		}
		for _, i := range tab.inner {
			walk(i, join(path, i.name))
		}
	}
	walk(schema(), "")
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range append(files, "testdata/good/operator.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("[a]\n[[a.b]]\na.b.c=1\n[a.b.c]\n"))
	f.Add([]byte("[[policy.rule]]\nfallback=[[]]\n[policy.rule.match]\n[policy.rule.match.domain]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.toml", text, nil)
		if err == nil {
			roundTrip(t, c)
			return
		}
		var list Errors
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("an error without problems: %#v", err)
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for i, p := range list {
			if p.File != "fuzz.toml" { // a file that it names
				break
			}
			if p.Line < 0 || p.Line > lines || p.What == "" || p.File == "" {
				t.Errorf("problem %+v in a text of %d lines", p, lines)
			}
			if i > 0 && p.Line > 0 && p.Line < list[i-1].Line {
				t.Errorf("problem of line %d behind one of line %d", p.Line, list[i-1].Line)
			}
		}
	})
}
