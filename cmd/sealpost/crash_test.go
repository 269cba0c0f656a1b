package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// The promise of the 250: the process is killed (SIGKILL) again and again under the
// load of 50 sessions; after the last start every message that was answered with 250
// arrives, and only what was in flight at a kill may arrive twice.
func TestKillUnderLoad(t *testing.T) {
	const kills, sessions = 10, 50
	n, err := openInternet(t.Context(), []exchanger{one(t, "load.example", "modern"), one(t, "other.example", "self-signed")})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	submission := loopbackPort(0, true)
	text, err := n.configure(dir, submission, loopbackPort(0, true), "[retry]\nschedule = [\"100ms\"]\n[server.log]\nlevel = \"error\"\n")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "sealpost.toml")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	l := &load{addr: submission, accepted: map[string]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var crew sync.WaitGroup
	for i := range sessions {
		crew.Go(func() { l.session(ctx, i) })
	}
	child := startChild(t, conf)
	for i := range kills {
		l.await(t, l.count()+50+rand.IntN(200))
		kill(t, child)
		t.Logf("kill %d with %d accepted", i+1, l.count())
		child = startChild(t, conf)
	}
	l.await(t, l.count()+100)
	stop()
	crew.Wait()
	arrived := awaitAll(t, n, l)
	twice := 0
	for _, times := range arrived {
		if times > 1 {
			twice++
		}
	}
	t.Logf("%d accepted, %d arrived, %d of them more than once", l.count(), len(arrived), twice)
	// In flight are at most 20 connections to each of two hosts at each kill.
	if limit := kills * 40; twice > limit {
		t.Errorf("%d messages arrived more than once, at most %d were in flight at the kills", twice, limit)
	}
}

// startChild runs this test binary as sealpost.
func startChild(t *testing.T, conf string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", conf)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // as a rule it is gone already
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("kill: %v", err)
	}
	_ = cmd.Wait() // killed: that is the point
}

// load submits messages and keeps the ids of those that got a 250.
type load struct {
	addr     string
	size     int // octets of a message about; 0: small ones
	mu       sync.Mutex
	accepted map[string]bool
	refused  int // with 452
}

func (l *load) refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// await waits for so many accepted messages.
func (l *load) await(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.count() < n {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of %d messages accepted", l.count(), n)
		}
	}
}

// session submits until ctx ends, over a new connection whenever one breaks.
func (l *load) session(ctx context.Context, worker int) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for n := 0; ctx.Err() == nil; {
		l.connection(ctx, worker, &n)
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
	}
}

func (l *load) connection(ctx context.Context, worker int, n *int) {
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a broken one is replaced
	c := textproto.NewConn(conn)
	if _, _, err := c.ReadResponse(220); err != nil {
		return
	}
	domains := []string{"load.example", "other.example"}
	for ctx.Err() == nil {
		*n++
		id := fmt.Sprintf("load-%d-%d", worker, *n)
		dialogue := []struct {
			line string
			code int
		}{
			{"EHLO app.shop.example", 250}, {"MAIL FROM:<reviews@shop.example>", 250},
			{"RCPT TO:<ann@" + domains[*n%2] + ">", 250}, {"DATA", 354},
			{"X-Load: " + id + "\r\nSubject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", rand.IntN(200)+l.size/18) + ".", 250},
		}
		for _, d := range dialogue {
			if err := c.PrintfLine("%s", d.line); err != nil {
				return
			}
			if code, _, err := c.ReadResponse(d.code); err != nil {
				if code == 452 {
					l.mu.Lock()
					l.refused++
					l.mu.Unlock()
				}
				return
			}
		}
		l.mu.Lock()
		l.accepted[id] = true
		l.mu.Unlock()
	}
}

// awaitAll waits until every accepted message arrived, and counts how often each
// did. It gives up when nothing new arrives for a while.
func awaitAll(t *testing.T, n *internet, l *load) map[string]int {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	before, moved := -1, time.Now()
	for {
		<-tick.C
		if now := finished(n); now != before {
			before, moved = now, time.Now()
			continue
		}
		arrived := arrivals(t, n)
		missing := 0
		l.mu.Lock()
		for id := range l.accepted {
			if arrived[id] == 0 {
				missing++
			}
		}
		l.mu.Unlock()
		switch {
		case missing == 0:
			return arrived
		case time.Since(moved) > 30*time.Second:
			t.Fatalf("%d messages that got a 250 never arrived", missing)
		}
	}
}

func finished(n *internet) int {
	sum := 0
	for _, h := range n.farm.Hosts {
		sum += h.Stats().Finished
	}
	return sum
}

func arrivals(t *testing.T, n *internet) map[string]int {
	t.Helper()
	header := regexp.MustCompile(`^X-Load: (\S+)$`)
	arrived := map[string]int{}
	for _, h := range n.farm.Hosts {
		for _, m := range h.Accepted() {
			s := bufio.NewScanner(strings.NewReader(string(m.Body)))
			for s.Scan() {
				if f := header.FindStringSubmatch(s.Text()); f != nil {
					arrived[f[1]]++
					break
				}
			}
		}
	}
	return arrived
}
