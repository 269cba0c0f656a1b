package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// logText is a child's standard error, to be asked while it grows.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// until asks at short intervals until it is true; a minute is the limit.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// child is the program in a process of its own, in a private internet.
type child struct {
	*internet
	cmd              *exec.Cmd
	log              *logText
	submission, http string
	dir, conf        string
	exited           chan struct{}
}

func newChild(t *testing.T, more string) *child {
	t.Helper()
	n, err := openInternet(t.Context(), []exchanger{one(t, "modern.example", "modern")})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	c := &child{internet: n, log: &logText{}, submission: loopbackPort(0, true), http: loopbackPort(0, true), dir: dir,
		conf: filepath.Join(dir, "sealpost.toml"), exited: make(chan struct{})}
	c.write(t, more)
	c.cmd = exec.Command(os.Args[0], "serve", "--config", c.conf)
	c.cmd.Env = append(os.Environ(), asMain+"=1")
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // gone already, as a rule
		<-c.exited
		_ = n.close()
		_ = os.RemoveAll(dir)
	})
	until(t, "the relay to be ready", func() bool {
		resp, err := http.Get("http://" + c.http + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return c
}

func (c *child) write(t *testing.T, more string) {
	t.Helper()
	text, err := c.configure(c.dir, c.submission, c.http, more)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestReloadBySIGHUP(t *testing.T) {
	c := newChild(t, "")
	c.write(t, "[policy]\nfloor = \"encryptd\"\nflor = \"x\"\n")
	c.signal(t, syscall.SIGHUP)
	until(t, "both mistakes in the log", func() bool {
		return strings.Contains(c.log.String(), "encryptd") && strings.Contains(c.log.String(), "flor")
	})
	conn := dialSMTP(t, c.submission) // it still serves
	defer conn.close()
	conn.want("NOOP", 250)
	c.write(t, "[policy]\nfloor = \"encrypted\"\n")
	c.signal(t, syscall.SIGHUP)
	until(t, "the reload", func() bool { return strings.Contains(c.log.String(), "configuration reloaded") })
}

// SIGTERM: no new mail, the transaction in flight ends with its 250, idle sessions are
// told, what was accepted is on disk and delivered after the next start; exit code 0.
func TestDrainBySIGTERM(t *testing.T) {
	c := newChild(t, "")
	idle := dialSMTP(t, c.submission)
	defer idle.close()
	busy := dialSMTP(t, c.submission)
	defer busy.close()
	busy.want("EHLO app.shop.example", 250)
	busy.want("MAIL FROM:<reviews@shop.example>", 250)
	busy.want("RCPT TO:<ann@modern.example>", 250)
	busy.want("DATA", 354)
	if _, err := busy.conn.Write([]byte("Subject: half\r\n\r\nthe first half\r\n")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.signal(t, syscall.SIGTERM)
	if _, _, err := idle.r.ReadResponse(421); err != nil {
		t.Errorf("idle session: %v, want 421", err)
	}
	until(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", c.submission)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	busy.want("the second half\r\n.", 250)
	select {
	case <-c.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("the relay did not stop")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after %v, want 0\n%s", code, time.Since(began), c.log)
	}
}
