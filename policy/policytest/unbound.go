package policytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoUnbound says that the machine has no unbound: the package of that name
// brings it on Debian.
var ErrNoUnbound = errors.New("unbound is not installed")

// Unbound is a running validating resolver.
type Unbound struct {
	// Addr is "127.0.0.1:port", UDP and TCP.
	Addr   string
	cancel context.CancelFunc
	done   chan struct{} // closed when the process is gone
	dir    string
}

// StartUnbound runs a real unbound in front of z, which serves already. Its trust
// anchor is the root of z; it keeps nothing for longer than a second. It runs until
// ctx ends or Close is called. The error is ErrNoUnbound where there is none. When the
// server does not answer for a name, unbound shuns it for a while; zones in apart are
// asked for as if of another server, so that the rest does not suffer.
func StartUnbound(ctx context.Context, z *Zones, apart ...string) (*Unbound, error) {
	path := findUnbound()
	if path == "" {
		return nil, ErrNoUnbound
	}
	var last error
	for range 3 { // the port is free when we look, and may be gone when unbound does
		u, err := startUnbound(ctx, path, z, apart)
		if err == nil {
			return u, nil
		}
		last = err
	}
	return nil, last
}

// findUnbound looks on the path, where the package puts it, and among the parts that
// .ci/parts unpacks; "" when it is nowhere.
func findUnbound() string {
	if path, err := exec.LookPath("unbound"); err == nil {
		return path
	}
	parts := os.Getenv("SEALPOST_PARTS")
	if cache, err := os.UserCacheDir(); parts == "" && err == nil {
		parts = filepath.Join(cache, "sealpost-test")
	}
	for _, path := range []string{"/usr/sbin/unbound", filepath.Join(parts, "usr/sbin/unbound")} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func startUnbound(ctx context.Context, path string, z *Zones, apart []string) (*Unbound, error) {
	udp, tcp, err := listenBoth()
	if err != nil {
		return nil, err
	}
	u := &Unbound{Addr: tcp.Addr().String(), done: make(chan struct{})}
	_, port, _ := strings.Cut(u.Addr, ":")
	_, _ = udp.Close(), tcp.Close() // unbound takes the port over
	if u.dir, err = os.MkdirTemp("", "unbound"); err != nil {
		return nil, err
	}
	file := filepath.Join(u.dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(z.unboundConf(port, apart)), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(u.dir))
	}
	ctx, u.cancel = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, path, "-d", "-p", "-c", file)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		u.cancel()
		return nil, errors.Join(err, os.RemoveAll(u.dir))
	}
	ready := make(chan error, 1)
	go func() {
		defer close(u.done)
		var said strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "start of service") {
				ready <- nil
			} else if said.Len() < 4096 {
				said.WriteString(lines.Text() + "\n")
			}
		}
		err := cmd.Wait()
		select {
		case ready <- fmt.Errorf("unbound ended (%w): %s", err, &said):
		default: // it was ready before
		}
	}()
	if err := <-ready; err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// Close ends the process and waits for it.
func (u *Unbound) Close() error {
	u.cancel()
	<-u.done
	return os.RemoveAll(u.dir)
}

// unboundConf is the configuration: everything is asked of z, and validated. Absences are
// not derived from others that were proved (RFC 8198), so that every fault is met.
func (z *Zones) unboundConf(port string, apart []string) string {
	upstream := strings.Replace(z.Addr(), ":", "@", 1)
	forward := ""
	for _, name := range append([]string{"."}, apart...) {
		forward += fmt.Sprintf("forward-zone:\n  name: %q\n  forward-addr: %s\n", name, upstream)
	}
	return fmt.Sprintf(`server:
  interface: 127.0.0.1
  port: %s
  access-control: 127.0.0.0/8 allow
  username: ""
  chroot: ""
  directory: ""
  pidfile: ""
  use-syslog: no
  verbosity: 1
  num-threads: 1
  module-config: "validator iterator"
  trust-anchor: "%s"
  do-not-query-localhost: no
  do-ip6: no
  qname-minimisation: no
  rrset-roundrobin: no
  ede: yes
  aggressive-nsec: no
  local-zone: "test." nodefault
  local-zone: "invalid." nodefault
  local-zone: "localhost." nodefault
  cache-max-ttl: 1
  cache-max-negative-ttl: 1
  infra-host-ttl: 1
  infra-keep-probing: yes
  unknown-server-time-limit: 1500
%sremote-control:
  control-enable: no
`, port, strings.ReplaceAll(z.TrustAnchor(), "\t", " "), forward)
}
