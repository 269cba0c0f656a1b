package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// tb is what a world wants of a testing.T; a script's T has it too.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(f func())
	Context() context.Context
	Output() io.Writer
}

// world is a relay in its private internet, in the test's process.
type world struct {
	*internet
	house *house
	dir   string
	end   func()    // stops the relay
	ports [2]string // submission, HTTP
	// listener is more configuration of the submission listener.
	listener string
	// resolver is the one to ask; "": the zones themselves.
	resolver string
	// stsWait is how long a delivery waits for a policy; 0: the ordinary.
	stsWait time.Duration

	mu       sync.Mutex
	attempts []*relay.Attempt
	news     chan struct{} // closed and replaced at each attempt
}

// kind is a ready-made sort of receiver.
func kind(t tb, name string) relaytest.Kind {
	t.Helper()
	k, ok := relaytest.KindNamed(name)
	if !ok {
		t.Fatalf("no kind of receiver is called %q", name)
	}
	return k
}

// newWorld starts internet and relay; both end with the test. more is
// configuration behind that of internet.configure.
func newWorld(t tb, list []exchanger, more string) *world {
	t.Helper()
	return newWorldWith(t, list, more, nil)
}

// newWorldWith is newWorld with lines for DNS: a record each, or "unsigned ZONE",
// "bogus ZONE", "servfail NAME TYPE". IP stands for the first host's address.
func newWorldWith(t tb, list []exchanger, more string, lines []string) *world {
	t.Helper()
	n, err := openInternet(context.Background(), list)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		line = strings.ReplaceAll(line, "IP", n.farm.Hosts[0].Addr().Addr().String())
		switch f := strings.Fields(line); f[0] {
		case "sts":
			n.announce(t, f[1:])
		case "unsigned":
			n.zones.Zone(f[1], policytest.Unsigned)
		case "bogus":
			n.zones.Zone(f[1], policytest.Bogus)
		case "servfail":
			n.zones.Fail(f[1], f[2], policytest.ServFail)
		default:
			n.zones.Add(line)
		}
	}
	t.Cleanup(func() { _ = n.close() })
	// Not t.TempDir: its path can be too long for a unix socket.
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startWorld(t, n, dir, more, "")
}

// announce publishes an MTA-STS policy: DOMAIN ID MODE[:FAULT] PATTERN...
func (n *internet) announce(t tb, args []string) {
	t.Helper()
	mode, fault, _ := strings.Cut(args[2], ":")
	text := stsPolicy(mode, args[3:]...)
	n.publish(args[0], args[1], text)
	faults := map[string]policytest.STSFault{
		"": policytest.STSGood, "404": policytest.STSNotFound, "503": policytest.STSUnavailable, "302": policytest.STSRedirect,
		"html": policytest.STSHTML, "large": policytest.STSTooLarge, "expired": policytest.STSExpired,
		"self-signed": policytest.STSSelfSigned, "wrong-name": policytest.STSWrongName, "reset": policytest.STSReset, "tls1.1": policytest.STSOldTLS,
	}
	f, ok := faults[fault]
	if !ok {
		t.Fatalf("no fault of a policy host is called %q", fault)
	}
	n.web.SetFault(args[0], text, f)
}

// startWorld starts a relay in an internet, with its data in dir; listener is added
// to its [[submission]].
func startWorld(t tb, n *internet, dir, more, listener string) *world {
	t.Helper()
	w := &world{internet: n, dir: dir, listener: listener}
	w.start(t, more)
	return w
}

// start starts the relay, and a stopped one again; it ends with stop or with the test.
func (w *world) start(t tb, more string) (stop func()) {
	t.Helper()
	w.news, w.attempts = make(chan struct{}), nil
	w.ports = [2]string{loopbackPort(0, true), loopbackPort(0, true)}
	cfg, err := w.load(more)
	if err != nil {
		t.Fatal(err)
	}
	log := newLog(t.Output())
	log.set(cfg.Server.Log)
	if w.house, err = openHouse(cfg, seams{log: log.Logger, observer: w, stsPort: w.web.Addr().Port(), stsWait: w.stsWait}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.house.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	w.end = stop
	return stop
}

// secureWorld is startWorld with STARTTLS at its submission.
func secureWorld(t tb, n *internet, more string) *world {
	t.Helper()
	return secureWorldAt(t, n, "", more)
}

// secureWorldAt is secureWorld with another resolver than the zones, and without much
// patience for policy hosts when it is given.
func secureWorldAt(t tb, n *internet, resolver, more string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	chain, key := policytest.PEM(n.ca.Leaf(policytest.LeafOptions{Names: []string{"relay.shop.example"}}))
	for name, text := range map[string][]byte{"tls.crt": chain, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{internet: n, dir: dir, resolver: resolver}
	if resolver != "" {
		w.stsWait = 3 * time.Second
	}
	w.listener = fmt.Sprintf("tls = \"starttls\"\ncert_file = %q\nkey_file = %q\n", filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	w.start(t, more)
	return w
}

// load writes and reads the relay's configuration, with more at its end.
func (w *world) load(more string) (*config.Config, error) {
	text, err := w.configure(w.dir, w.ports[0], w.ports[1], more)
	if err != nil {
		return nil, err
	}
	text = strings.Replace(text, "[http]", w.listener+"\n[http]", 1)
	if w.resolver != "" {
		text = strings.Replace(text, w.zones.Addr(), w.resolver, 1)
	}
	path := filepath.Join(w.dir, "sealpost.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return config.Load(path, nil)
}

// reload puts another end of the configuration in force.
func (w *world) reload(more string) error {
	cfg, err := w.load(more)
	if err == nil {
		w.house.reload(cfg)
	}
	return err
}

// Attempted implements relay.Observer.
func (w *world) Attempted(a *relay.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts = append(w.attempts, a)
	close(w.news)
	w.news = make(chan struct{})
}

// await returns the n-th attempt (from 1) for a domain.
func (w *world) await(t tb, domain string, n int) *relay.Attempt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		w.mu.Lock()
		news, seen := w.news, 0
		for _, a := range w.attempts {
			if string(a.Domain) == domain {
				if seen++; seen == n {
					w.mu.Unlock()
					return a
				}
			}
		}
		w.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("%s: %d of %d attempts", domain, seen, n)
		}
	}
}

func (w *world) submission() string { return w.house.submissionAddrs()[0].String() }

// submit hands in a message and returns its ID. header lines end in CRLF.
func (w *world) submit(t tb, from, header string, to ...string) queue.ID {
	t.Helper()
	c := dialSMTP(t, w.submission())
	defer c.close()
	c.want("EHLO app.shop.example", 250)
	c.want("MAIL FROM:<"+from+">", 250)
	for _, r := range to {
		c.want("RCPT TO:<"+r+">", 250)
	}
	c.want("DATA", 354)
	said := c.want(header+"Subject: how was it?\r\n\r\nTell us.\r\n.", 250)
	return queue.ID(said[strings.LastIndexByte(said, ' ')+1:])
}

// smtpConn speaks SMTP line by line.
type smtpConn struct {
	t    tb
	conn net.Conn
	r    *textproto.Reader
}

// dialSMTP connects and reads the greeting.
func dialSMTP(t tb, addr string) *smtpConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &smtpConn{t, conn, textproto.NewReader(bufio.NewReader(conn))}
	if _, _, err := c.r.ReadResponse(220); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	return c
}

func (c *smtpConn) close() { _ = c.conn.Close() }

// want sends a line and returns the reply's text, which must have the code.
func (c *smtpConn) want(line string, code int) string {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	_, text, err := c.r.ReadResponse(code)
	if err != nil {
		c.t.Fatalf("%.60q: %v, want %d", line, err, code)
	}
	return text
}

// quick are short limits and retries, so that failing hosts do not take a test long.
const quick = `
[retry]
schedule = ["200ms"]
`

// one is a domain with a single host of a kind.
func one(t tb, domain, kindName string) exchanger {
	return exchanger{domain: domain, preference: 10, host: "mx." + domain, kind: kind(t, kindName)}
}
