//go:build bench

package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// benchSite is what a relay under test is started in.
type benchSite struct {
	ca       *policytest.CA
	caFile   string
	resolver string // address whose port 53 answers, the same for every relay
	sinkPort int
	held     bool // accept and keep, deliver nothing
	idle     bool // one message at a time
	size     int  // octets of a message
	chunking bool // the sink offers it
}

// relay is what is measured: where it takes mail, and the process at its top.
type relay struct {
	addr string
	pid  int
}

// benchRelays are the relays by name. All of them ask the same DNS, verify or encrypt towards the sink, and
// write their usual log to a file. "direct" is no relay: the source sends to the sink.
// The raw ones are the reference for large bodies.
func benchRelays() map[string]func(*testing.T, benchSite) relay {
	return map[string]func(*testing.T, benchSite) relay{
		"sealpost":           sealpostRelay,
		"postfix":            tunedPostfix,
		"postfix-as-shipped": func(t *testing.T, s benchSite) relay { return postfixRelay(t, s) },
		"exim":               eximRelay,
		"raw":                rawOnDisk,
		"raw-through":        rawThrough,
	}
}

func sealpostRelay(t *testing.T, s benchSite) relay {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0")
	binary, err := buildBinary("bench", "-trimpath", "-ldflags", "-s -w") // as `make build` does
	if path := os.Getenv("SEALPOST_BENCH_BINARY"); path != "" {
		binary, err = path, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := certificate(t, s.ca, dir, submissionName)
	host, port := freeAddr(t)
	addr := fmt.Sprintf("%s:%d", host, port)
	// No more than it takes to deliver to loopback: all else is as shipped.
	config := fmt.Sprintf(`
[server]
hostname = "relay.sealpost.test"
[dns]
resolvers = ["%s:53"]
[delivery]
port = %d
allow_private = true
ca_file = %q
ca_file_only = true
paused = %v
[[submission]]
listen = %q
tls = "starttls"
cert_file = %q
key_file = %q
require_auth = false
`, s.resolver, s.sinkPort, s.caFile, s.held, addr, cert, key)
	return relay{addr, serveBinary(t, binary, config).cmd.Process.Pid}
}

// tunedPostfix is Postfix with what its documentation offers for speed.
func tunedPostfix(t *testing.T, s benchSite) relay {
	t.Helper()
	if s.idle { // nothing can be reused
		return postfixRelay(t, s)
	}
	return postfixRelay(t, s, "in_flow_delay = 0", "smtp_tls_connection_reuse = yes", "smtp_connection_cache_on_demand = yes")
}

func postfixRelay(t *testing.T, s benchSite, extra ...string) relay {
	t.Helper()
	lines := append([]string{
		"virtual_mailbox_domains =", fmt.Sprintf("smtp_tcp_port = %d", s.sinkPort), "smtp_host_lookup = dns",
		"smtp_tls_security_level = encrypt", "smtp_tls_CAfile = " + s.caFile, "smtpd_tls_loglevel = 0",
	}, extra...)
	if s.held {
		lines = append(lines, "smtpd_client_restrictions = check_client_access static:HOLD")
	}
	r := startPostfixIn(t, s.ca, withResolver(t, s), lines...)
	return relay{fmt.Sprintf("%s:%d", r.host, r.port), int(field2(filepath.Join(filepath.Dir(filepath.Dir(r.maildir)), "queue/pid/master.pid")))}
}

// field2 reads a file that holds a number.
func field2(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	var n int64
	_, _ = fmt.Sscan(string(text), &n) // 0: nothing is measured, which shows
	return n
}

// withResolver is the beginning of a command line under which the C library asks our DNS.
func withResolver(t *testing.T, s benchSite) []string {
	t.Helper()
	conf := write(t, sharedDir(t), "resolv.conf", []byte("nameserver "+s.resolver+"\noptions edns0\n"))
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", "mount --bind " + conf + ` /etc/resolv.conf && exec "$0" "$@"`}
}

func eximRelay(t *testing.T, s benchSite) relay {
	t.Helper()
	needRoot(t, "exim4")
	binary, err := os.ReadFile(part(t, "exim4"))
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir(t)
	for _, name := range []string{"spool", "log"} {
		mustMkdir(t, filepath.Join(dir, name), 0o755, "Debian-exim")
	}
	exim := write(t, dir, "exim4", binary)
	if err := os.Chmod(exim, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &receiver{name: "relay.exim.test"}
	r.host, r.port = freeAddr(t)
	cert, key := certificate(t, s.ca, dir, r.name)
	extra := ""
	if s.held {
		extra = "queue_only = true"
	}
	text, err := os.ReadFile("testdata/real/exim-relay.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := write(t, dir, "exim.conf", fill(string(text), map[string]string{
		"DIR": dir, "NAME": r.name, "CERT": cert, "KEY": key, "HOST": r.host, "PORT": strconv.Itoa(r.port),
		"SINK": strconv.Itoa(s.sinkPort), "CA": s.caFile, "EXTRA": extra,
	}))
	line := underReaper(append(withResolver(t, s), exim, "-C", conf, "-bdf")...)
	d := startDaemon(t, exec.Command(line[0], line[1:]...))
	r.log = func() string { return readLog(filepath.Join(dir, "log", "mainlog")) }
	await(t, d, r)
	return relay{fmt.Sprintf("%s:%d", r.host, r.port), d.cmd.Process.Pid}
}

// benchDNS serves the zones on port 53 of a loopback address, the only one that the C library knows, and
// remembers every answer: all relays have the same fast resolver.
func benchDNS(t *testing.T, z *policytest.Zones) string {
	t.Helper()
	host, _ := freeAddr(t)
	udp, err := net.ListenPacket("udp", host+":53")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", host+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
	go pass(tcp, z.Addr())
	var mu sync.Mutex
	answers := map[string][]byte{} // by all of the question but its number
	go func() {
		for buf := make([]byte, 4096); ; {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			q := slices.Clone(buf[:n])
			mu.Lock()
			known := slices.Clone(answers[string(q[2:])])
			mu.Unlock()
			if known != nil {
				copy(known, q[:2])
				_, _ = udp.WriteTo(known, from) // who does not get it asks again
				continue
			}
			go func() {
				a := askUDP(z.Addr(), q)
				if a == nil {
					return
				}
				mu.Lock()
				answers[string(q[2:])] = a
				mu.Unlock()
				_, _ = udp.WriteTo(a, from) // as above
			}()
		}
	}()
	return host
}

// askUDP asks one question; nil when there is no answer.
func askUDP(addr string, q []byte) []byte {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	if _, err := c.Write(q); err != nil {
		return nil
	}
	n, err := c.Read(buf)
	if err != nil || n < 2 {
		return nil
	}
	return buf[:n]
}
