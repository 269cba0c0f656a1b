package submission

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/sealpost/sealpost/policy"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// withApp opens a dock that wants credentials and knows app / secret.
func withApp(t testing.TB, change func(*Options)) *dock {
	return open(t, func(o *Options) {
		o.Credentials = []Credential{withPassword(t, "app", "secret")}
		o.Listeners[0].RequireAuth = true
		if change != nil {
			change(o)
		}
	})
}

// RFC 4954, case by case.
func TestAuthExchanges(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	for _, c := range []struct {
		name  string
		steps []string // command, reply, command, reply
	}{
		{"PLAIN with initial response", []string{"AUTH PLAIN " + b64("\x00app\x00secret"), "235 2.7.0"}},
		{"PLAIN with identity", []string{"auth plain " + b64("app\x00app\x00secret"), "235 2.7.0"}},
		{"PLAIN in two steps", []string{"AUTH PLAIN", "334 ", b64("\x00app\x00secret"), "235 2.7.0"}},
		{"PLAIN for somebody else", []string{"AUTH PLAIN " + b64("boss\x00app\x00secret"), "535 5.7.8"}},
		{"PLAIN malformed", []string{"AUTH PLAIN " + b64("app secret"), "501 5.5.4"}},
		{"PLAIN empty", []string{"AUTH PLAIN =", "501 5.5.4"}},
		{"LOGIN", []string{"AUTH LOGIN", "334 VXNlcm5hbWU6", b64("app"), "334 UGFzc3dvcmQ6", b64("secret"), "235 2.7.0"}},
		{"LOGIN with name", []string{"AUTH LOGIN " + b64("app"), "334 UGFzc3dvcmQ6", b64("secret"), "235 2.7.0"}},
		{"LOGIN wrong", []string{"AUTH LOGIN", "334", b64("app"), "334", b64("wrong"), "535 5.7.8", "NOOP", "250"}},
		{"LOGIN empty", []string{"AUTH LOGIN", "334", "=", "334", "=", "535 5.7.8"}},
		{"unknown user", []string{"AUTH PLAIN " + b64("\x00nobody\x00secret"), "535 5.7.8"}},
		{"unknown mechanism", []string{"AUTH CRAM-MD5", "504 5.5.4"}},
		{"no mechanism", []string{"AUTH", "501 5.5.4"}},
		{"bad base64", []string{"AUTH PLAIN !!!!", "501 5.5.2", "NOOP", "250"}},
		{"bad base64 later", []string{"AUTH PLAIN", "334", "!!!!", "501 5.5.2", "NOOP", "250"}},
		{"cancelled", []string{"AUTH PLAIN", "334", "*", "501", "NOOP", "250"}},
		{"second AUTH", []string{"AUTH PLAIN " + b64("\x00app\x00secret"), "235", "AUTH PLAIN " + b64("\x00app\x00secret"), "503 5.5.1"}},
		{"second AUTH after RSET", []string{"AUTH PLAIN " + b64("\x00app\x00secret"), "235", "RSET", "250", "EHLO x.example", "250", "AUTH LOGIN", "503 5.5.1"}},
		{"long response", []string{"AUTH PLAIN", "334", strings.Repeat("A", 13000), "500 5.5.6", "NOOP", "250"}},
		{"long command", []string{"AUTH PLAIN " + strings.Repeat("A", 13000), "500 5.5.6", "NOOP", "250"}},
		{"mail without", []string{"MAIL FROM:<a@sender.example>", "530 5.7.0"}},
		{"mail after failure", []string{"AUTH PLAIN " + b64("\x00app\x00no"), "535", "MAIL FROM:<a@sender.example>", "530 5.7.0"}},
		{"mail", []string{"AUTH PLAIN " + b64("\x00app\x00secret"), "235", "MAIL FROM:<a@sender.example>", "250"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := d.secured(t)
			for i := 0; i < len(c.steps); i += 2 {
				w.do(c.steps[i], c.steps[i+1])
			}
		})
	}
}

func TestAuthLineOf12288Octets(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	w := d.secured(t)
	w.do("AUTH PLAIN "+strings.Repeat("QUFB", 3060), "501 5.5.4") // read and understood: no PLAIN response (RFC 4954 4)
}

func TestAuthIsNotOfferedInClear(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) { // the client is far away, says the proxy
		o.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	w := d.dial(t)
	w.raw("PROXY TCP4 192.0.2.1 192.0.2.2 1000 587\r\n")
	w.want("220")
	if r := w.do("EHLO client.example", "250"); strings.Contains(r, "AUTH") || !strings.Contains(r, "STARTTLS") {
		t.Errorf("%q", r)
	}
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "530 5.7.0")
	w.do("MAIL FROM:<a@sender.example>", "530 5.7.0")
	w.startTLS(d)
	if r := w.do("EHLO client.example", "250"); !strings.Contains(r, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN") || strings.Contains(r, "STARTTLS") {
		t.Errorf("%q", r)
	}
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
	if got := w.send(plainMail); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if b := d.sink.only(t).body; !strings.Contains(b, "([192.0.2.1])") || !strings.Contains(b, "with ESMTPSA") {
		t.Errorf("%q", b)
	}
}

func TestAuthBeforeSTARTTLSIsForgotten(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	w := d.hello(t)
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
	w.startTLS(d)
	w.do("MAIL FROM:<a@sender.example>", "503 5.5.1") // EHLO again (RFC 3207 4.2)
	w.do("EHLO client.example", "250")
	w.do("MAIL FROM:<a@sender.example>", "530 5.7.0")
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
}

// scramLogin runs a SCRAM exchange with the library's client.
func scramLogin(t *testing.T, w *wire, mechanism string, talk *scram.ClientConversation) string {
	t.Helper()
	msg, err := talk.Step("")
	if err != nil {
		t.Fatal(err)
	}
	w.raw("AUTH " + mechanism + " " + b64(msg) + "\r\n")
	for {
		r := w.want("")
		if !strings.HasPrefix(r, "334 ") {
			return r
		}
		challenge, err := base64.StdEncoding.DecodeString(r[4:])
		if err != nil {
			t.Fatal(err)
		}
		if msg, err = talk.Step(string(challenge)); err != nil {
			t.Fatal(err)
		}
		if msg == "" && !talk.Valid() {
			t.Fatal("the server has not proved itself")
		}
		w.raw(b64(msg) + "\r\n")
	}
}

func TestAuthSCRAM(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	client := func(name, password string) *scram.Client {
		c, err := scram.SHA256.NewClient(name, password, "")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	binding := func(w *wire) scram.ChannelBinding {
		state := w.Conn.(*tls.Conn).ConnectionState()
		cb, err := scram.NewTLSExporterBinding(&state)
		if err != nil {
			t.Fatal(err)
		}
		return cb
	}
	t.Run("in clear on loopback", func(t *testing.T) {
		if r := scramLogin(t, d.hello(t), mechSCRAM, client("app", "secret").NewConversation()); !strings.HasPrefix(r, "235") {
			t.Error(r)
		}
	})
	t.Run("PLUS", func(t *testing.T) {
		w := d.secured(t)
		r := scramLogin(t, w, mechSCRAMPlus, client("app", "secret").NewConversationWithChannelBinding(binding(w)))
		if !strings.HasPrefix(r, "235") {
			t.Error(r)
		}
		w.send(plainMail)
	})
	t.Run("PLUS with another channel", func(t *testing.T) {
		w := d.secured(t)
		cb := binding(d.secured(t))
		r := scramLogin(t, w, mechSCRAMPlus, client("app", "secret").NewConversationWithChannelBinding(cb))
		if !strings.HasPrefix(r, "535 5.7.8") {
			t.Error(r)
		}
	})
	t.Run("downgrade noticed", func(t *testing.T) { // RFC 5802 6: "y" though PLUS was offered
		w := d.secured(t)
		r := scramLogin(t, w, mechSCRAM, client("app", "secret").NewConversationAdvertisingChannelBinding())
		if !strings.HasPrefix(r, "5") {
			t.Error(r)
		}
	})
	for _, c := range [][2]string{{"app", "wrong"}, {"nobody", "secret"}} {
		t.Run("refused "+c[0], func(t *testing.T) {
			w := d.secured(t)
			// Unknown names get as far as known ones (RFC 5802 9).
			if r := scramLogin(t, w, mechSCRAM, client(c[0], c[1]).NewConversation()); !strings.HasPrefix(r, "535 5.7.8") {
				t.Error(r)
			}
			w.do("MAIL FROM:<a@sender.example>", "530")
		})
	}
	t.Run("malformed", func(t *testing.T) {
		d.secured(t).do("AUTH SCRAM-SHA-256 "+b64("hello"), "501 5.5.4")
	})
}

func TestAuthCutOffByAddressAndForgiveness(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) { o.Limits.AuthPerAddress, o.Limits.AuthForgive = 4, time.Hour })
	for range 4 {
		d.secured(t).do("AUTH PLAIN "+b64("\x00app\x00wrong"), "535")
	}
	w := d.secured(t)
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "421 4.7.0") // even the right one
	w.closed()
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	l := Limits{AuthPerAddress: 3, AuthPerUser: 5, AuthForgive: time.Hour}.withDefaults()
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	neighbour := netip.MustParseAddr("2001:db8::2")
	t.Run("by address", func(t *testing.T) {
		th := newThrottle(l)
		for i := range 3 {
			if th.blocked(here, "a") {
				t.Fatalf("blocked after %d", i)
			}
			th.failed(here, fmt.Sprint(i))
		}
		if !th.blocked(here, "a") || th.blocked(there, "a") {
			t.Error("the address is to be blocked, and it alone")
		}
	})
	t.Run("IPv6 by /64", func(t *testing.T) {
		th := newThrottle(l)
		for range 3 {
			th.failed(there, "a")
		}
		if !th.blocked(neighbour, "b") {
			t.Error("the neighbour is let in")
		}
	})
	t.Run("by user, but not for those who know the password", func(t *testing.T) {
		th := newThrottle(l)
		th.succeeded(here, "app")
		for i := range 5 {
			th.failed(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "app")
		}
		if !th.blocked(there, "app") || th.blocked(here, "app") {
			t.Error("strangers are to be blocked, the application is not")
		}
	})
	t.Run("delay grows to a bound", func(t *testing.T) {
		th := newThrottle(l)
		var delays []time.Duration
		for range 8 {
			delays = append(delays, th.failed(here, "a"))
		}
		if delays[0] != l.AuthDelay || !slices.IsSorted(delays) || delays[7] != 16*l.AuthDelay {
			t.Error(delays)
		}
	})
	t.Run("forgives", func(t *testing.T) {
		quick := l
		quick.AuthForgive = time.Nanosecond
		th := newThrottle(quick)
		for range 10 {
			th.failed(here, "a")
		}
		eventually(t, func() bool { return !th.blocked(here, "a") })
	})
	t.Run("bounded", func(t *testing.T) {
		th := newThrottle(l)
		for i := range 3 * maxBuckets {
			a := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})
			th.failed(a, fmt.Sprint(i))
			th.succeeded(a, fmt.Sprint(i))
		}
		if n := max(len(th.networks), len(th.users), len(th.known)); n > maxBuckets {
			t.Errorf("%d buckets", n)
		}
	})
}

// 50 sessions with the same credential cost one hash, not 50.
func TestLoginIsHashedOnce(t *testing.T) {
	t.Parallel()
	hash, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, func(o *Options) { o.Credentials = []Credential{{Name: "app", PasswordHash: hash}} })
	n := d.accounts.Load()
	login := func(password string) *account {
		a, err := n.login(context.Background(), d.hashing, "app", password)
		if err != nil {
			t.Error(err)
		}
		return a
	}
	single := time.Now()
	login("wrong")
	cost := time.Since(single)
	begun := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if login("secret") == nil {
				t.Error("refused")
			}
		})
	}
	wg.Wait()
	if took := time.Since(begun); took > 20*cost+time.Second {
		t.Errorf("50 logins took %v, one hash takes %v", took, cost)
	}
	if len(n.right) != 1 {
		t.Errorf("%d remembered", len(n.right))
	}
	if login("wrong") != nil {
		t.Error("a wrong password passes")
	}
}

func TestSetCredentials(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	stays, changes := d.secured(t), d.secured(t)
	for _, w := range []*wire{stays, changes} {
		w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
		w.send(plainMail)
	}
	same := d.accounts.Load().byName["app"].Credential
	same.Senders = []string{"@other.example"}
	if err := d.SetCredentials([]Credential{same}); err != nil {
		t.Fatal(err)
	}
	stays.do("MAIL FROM:<a@sender.example>", "550 5.7.1") // new rules hold at once
	if err := d.SetCredentials([]Credential{withPassword(t, "app", "new")}); err != nil {
		t.Fatal(err)
	}
	changes.do("MAIL FROM:<a@sender.example>", "421 4.7.0")
	changes.closed()
	w := d.secured(t)
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "535")
	w.do("AUTH PLAIN "+b64("\x00app\x00new"), "235")
	// Bad ones change nothing, and are all named.
	err := d.SetCredentials([]Credential{{Name: "x y", PasswordHash: "$1$"}, {Name: "z", Senders: []string{"@"}}, {Name: "app", SCRAM: "?"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{`"x y"`, "argon2id", `"z"`, "password_hash is missing", "senders", "scram:"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	d.secured(t).do("AUTH PLAIN "+b64("\x00app\x00new"), "235")
}

func TestSenders(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) {
		o.Credentials[0].Senders = []string{"@sender.example", "one@other.example"}
		o.Credentials[0].Floor = policy.Verified
		free := withPassword(t, "bounces", "secret")
		free.Senders = []string{"@sender.example", "<>"}
		o.Credentials = append(o.Credentials, free)
	})
	login := func(t *testing.T, name string) *wire {
		w := d.secured(t)
		w.do("AUTH PLAIN "+b64("\x00"+name+"\x00secret"), "235")
		return w
	}
	for _, c := range []struct{ path, want string }{
		{"a@sender.example", "250"}, {"A@SENDER.example", "250"}, {"one@other.example", "250"},
		{"two@other.example", "550 5.7.1"}, {"a@sub.sender.example", "550 5.7.1"}, {"", "550 5.7.1"},
		{`"x@sender.example"@evil.example`, "550 5.7.1"},
	} {
		t.Run("MAIL "+c.path, func(t *testing.T) { login(t, "app").do("MAIL FROM:<"+c.path+">", c.want) })
	}
	t.Run("null with <>", func(t *testing.T) { login(t, "bounces").do("MAIL FROM:<>", "250") })
	for _, c := range []struct{ from, want string }{
		{"From: x <a@sender.example>\r\n", "250"},
		{"From: =?x-odd?q?x?= <a@sender.example>\r\n", "250"},
		{"from :\r\n\t\"b, c\"\r\n\t<one@other.example>\r\n", "250"},
		{"Subject: none\r\n", "250"},
		{"From: a@evil.example\r\n", "550 5.7.1"},
		{"From: a@sender.example, b@evil.example\r\n", "550 5.7.1"},
		{"From: a@sender.example\r\nFrom: b@evil.example\r\n", "550 5.7.1"},
		{"From: \"a@sender.example\" <b@evil.example>\r\n", "550 5.7.1"},
		{"From: friends: a@sender.example, b@evil.example;\r\n", "550 5.7.1"},
		{"From: ???\r\n", "550 5.7.1"},
		{"From: \r\n", "550 5.7.1"},
	} {
		t.Run(c.from, func(t *testing.T) {
			w := login(t, "app")
			if r := w.send(c.from + "\r\nhello\r\n"); !strings.HasPrefix(r, c.want) {
				t.Error(r)
			}
		})
	}
	if m := d.sink.all()[0].message; m.Credential != "app" || m.Account != policy.Verified || m.Listener != "test" {
		t.Errorf("%+v", m)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) { o.Credentials[0].Rate = Rate{PerSecond: 0.001, Burst: 2} })
	w := d.secured(t)
	w.do("AUTH PLAIN "+b64("\x00app\x00secret"), "235")
	w.send(plainMail)
	w.send(plainMail)
	w.do("MAIL FROM:<a@sender.example>", "450 4.7.0")
	w.do("NOOP", "250")
}

func TestTrustedNetworksNeedNoCredentials(t *testing.T) {
	t.Parallel()
	d := withApp(t, func(o *Options) {
		o.Listeners[0].TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	w := d.hello(t)
	w.send(plainMail)
	if m := d.sink.only(t).message; m.Credential != "" {
		t.Errorf("%+v", m)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	s, err := HashPassword("correct horse")
	if err != nil || !strings.HasPrefix(s, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(s, err)
	}
	h, err := ParseHash(s)
	if err != nil || h.String() != s || !h.Matches("correct horse") || h.Matches("correct hors") {
		t.Error(h, err)
	}
	// From the reference implementation: echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1.
	known := "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if h, err = ParseHash(known); err != nil || !h.Matches("password") {
		t.Error("the known hash does not match", err)
	}
	for _, bad := range []string{
		"", "secret", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(known, "v=19", "v=16", 1), strings.Replace(known, "m=65536", "m=99999999", 1),
		strings.Replace(known, "t=2", "t=0", 1), strings.Replace(known, "p=1", "p=0", 1), strings.Replace(known, "t=2,", "", 1),
		known + "$x", known[:len(known)-40], strings.Replace(known, "c29tZXNhbHQ", "!!!", 1),
	} {
		if _, err := ParseHash(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := HashPassword(""); err == nil {
		t.Error("an empty password is accepted")
	}
	if (Hash{}).Matches("") {
		t.Error("the zero hash matches")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAA:AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHash(s); err == nil {
			again, err := ParseHash(h.String())
			if err != nil || again.String() != h.String() {
				t.Errorf("%q does not survive printing: %v", s, err)
			}
		}
		_, _ = parseSCRAM(s)
	})
}

func BenchmarkHash(b *testing.B) {
	h := Hash{time: argonTime, memory: argonMemory, threads: argonThreads, salt: []byte("saltsaltsaltsalt"), key: make([]byte, keyLength)}
	for b.Loop() {
		h.Matches("password")
	}
}
