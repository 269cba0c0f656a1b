package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// The real parts: the sealpost binary as users have it, against the programs of other people. What is
// missing on a machine is brought by .ci/parts (`make test` calls it); a test whose part is missing
// all the same is skipped by name, and fails where SEALPOST_REAL=required (.ci/run sets it).

// part finds a program on the path or among the unpacked daemons.
func part(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/postfix/sbin"} {
		path := filepath.Join(partsDir(), dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	missing(t, name)
	return ""
}

// missing ends a test whose real part this machine lacks.
func missing(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("SEALPOST_REAL") == "required" {
		t.Fatalf("real part missing: %s (.ci/parts brings it)", name)
	}
	t.Skipf("real part missing: %s (.ci/parts brings it)", name)
}

// needRoot is for the daemons that want to change users.
func needRoot(t *testing.T, name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, name+" (needs root)")
	}
}

func partsDir() string {
	if dir := os.Getenv("SEALPOST_PARTS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "sealpost-test")
}

// raceBinary makes the binary with the race detector in it, once for a run of the tests.
var raceBinary = sync.OnceValues(func() (string, error) { return buildBinary("race", "-race") })

// buildBinary makes the binary in the parts' folder, where the next run finds most of it done.
func buildBinary(kind string, flags ...string) (string, error) {
	path := filepath.Join(partsDir(), "bin", "sealpost-"+kind)
	args := append([]string{"build", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// freeAddr returns a loopback address that nobody else uses: its own host number, its own port.
func freeAddr(t *testing.T) (host string, port int) {
	t.Helper()
	// A host number of 127.0.0.0/8 per test keeps two tests from taking the same port between
	// closing it here and opening it there.
	host = fmt.Sprintf("127.%d.%d.%d", 64+randByte(t)%128, randByte(t), 1+randByte(t)%250)
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return host, l.Addr().(*net.TCPAddr).Port
}

// sharedDir is a folder that daemons under other users can reach (t.TempDir's parent is closed to them).
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost-real")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("left behind: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually waits until ok says yes: it asks at short intervals, and fails the test after a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("a minute has passed, and still not: %s", what)
		case <-tick.C:
		}
	}
}

// daemon is a process of a test: started with it, stopped by SIGTERM at its end.
type daemon struct {
	cmd  *exec.Cmd
	out  string        // file of all that it prints: a pipe would stay open as long as its children live
	done chan struct{} // closed when the process is gone; err is set then
	err  error
}

func startDaemon(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd, out: filepath.Join(t.TempDir(), "output"), done: make(chan struct{})}
	output, err := os.Create(d.out)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close() // the process has its own
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	go func() {
		d.err = cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() {
		d.stop(t)
		// What the daemon left behind in its group, and only that.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH: nothing was left
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), readLog(d.out))
		}
	})
	return d
}

// stop asks the process to end and waits for it. It may be called twice.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-d.done:
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not end on SIGTERM", d.cmd.Path)
		_ = d.cmd.Process.Kill() // as above
		<-d.done
	}
}

func (d *daemon) alive() bool {
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// sealpost is a running `sealpost serve`.
type sealpost struct {
	*daemon
	dir  string
	http string // host:port
}

// serve starts the binary with the configuration and waits until it is ready. At the test's end it
// must end well by itself: exit code 0, and nothing from the race detector.
func serve(t *testing.T, config string) *sealpost {
	t.Helper()
	binary, err := raceBinary()
	if err != nil {
		t.Fatal(err)
	}
	return serveBinary(t, binary, config)
}

func serveBinary(t *testing.T, binary, config string) *sealpost {
	t.Helper()
	host, port := freeAddr(t)
	s := &sealpost{dir: t.TempDir(), http: fmt.Sprintf("%s:%d", host, port)}
	config = fmt.Sprintf("[http]\nlisten = %q\n", s.http) + config
	file := filepath.Join(s.dir, "sealpost.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", file)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66")
	s.daemon = startDaemon(t, cmd)
	t.Cleanup(func() {
		s.stop(t)
		if s.err != nil {
			t.Errorf("sealpost serve: %v", s.err)
		}
	})
	eventually(t, "sealpost is ready", func() bool {
		if !s.alive() {
			t.Fatalf("sealpost serve ended: %v", s.err)
		}
		status, _ := s.get("/readyz")
		return status == http.StatusOK
	})
	return s
}

// get asks the relay over HTTP; 0 when it does not answer.
func (s *sealpost) get(path string) (status int, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// delivered reads sealpost_delivered_recipients_total, summed over the bases, by level.
func (s *sealpost) delivered(t *testing.T) map[string]int {
	t.Helper()
	return s.counts(t, "sealpost_delivered_recipients_total", "level")
}

// counts reads a counter, summed by one of its labels; what is 0 is left out.
func (s *sealpost) counts(t *testing.T, name, label string) map[string]int {
	t.Helper()
	status, body := s.get("/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	sample := regexp.MustCompile(`(?m)^` + name + `\{[^}]*` + label + `="([^"]+)"[^}]*\} (\d+)$`)
	levels := map[string]int{}
	for _, m := range sample.FindAllStringSubmatch(body, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			levels[m[1]] += n
		}
	}
	return levels
}

// zones starts a private DNS for the test.
func zones(t *testing.T) *policytest.Zones {
	t.Helper()
	z := policytest.NewZones()
	if err := z.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("DNS: %v", err)
		}
	})
	return z
}

// deliverySection is the configuration that every test here needs: mail goes to loopback, by the test's DNS.
func deliverySection(z *policytest.Zones, port int, caFile string) string {
	return fmt.Sprintf(`
[server]
hostname = "relay.sealpost.test"
log = { level = "debug" }
[dns]
resolvers = [%q]
[delivery]
port = %d
allow_private = true
ca_file = %q
ca_file_only = true
[retry]
schedule = ["1s"]
`, z.Addr(), port, caFile)
}

// write puts a file into dir and returns its path.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate issues one for the name and writes its files.
func certificate(t *testing.T, ca *policytest.CA, dir, name string) (certFile, keyFile string) {
	t.Helper()
	chain, key := policytest.PEM(ca.Leaf(policytest.LeafOptions{Names: []string{name}}))
	return write(t, dir, "cert.pem", chain), write(t, dir, "key.pem", key)
}

// invitation is a message with everything that a careless relay changes: lines of dots, lines that
// begin with dots, "From " in the body, octets above 127, a line of 990, trailing blanks, no text at all
// in a line, blank lines at the end. Lines end in CRLF.
func invitation(from, to string) string {
	lines := []string{
		"From: Sealpost <" + from + ">",
		"To: <" + to + ">",
		"Subject: You are invited",
		"X-Folded: one",
		"\ttwo",
		"Date: Mon, 02 Mar 2026 10:00:00 +0000",
		"Message-ID: <invitation@sealpost.test>",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
		"Grüße, Größe 40 — naïve 漢字",
		".",
		"..",
		".dot",
		"From here on",
		"trailing blanks   ",
		"\ttab",
		strings.Repeat("0123456789", 99),
		"",
		"=20 is no escape here",
		"the end",
		"",
		"",
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}
