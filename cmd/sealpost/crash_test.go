package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
)

// killsVariable says how often TestKillUnderLoad kills; without it, ten times.
const killsVariable = "SEALPOST_TEST_KILLS"

// mixedHosts take mail, put it off and refuse it; what is refused comes back as a notice to
// the sender's domain, which is one of them.
func mixedHosts(t *testing.T) []exchanger {
	return []exchanger{
		one(t, "load.example", "modern"), one(t, "other.example", "self-signed"), one(t, "grey.example", "greylisting"),
		one(t, "none.example", "refusing"), one(t, "shop.example", "modern"),
	}
}

// The promise of the 250: the process is killed (SIGKILL) again and again under the
// load of 50 sessions, with deliveries, retries and notices under way; after the last start
// every message that was answered with 250 arrives, or a notice of it does; only what was in
// flight at a kill may arrive twice; and the journal has one end for each recipient.
func TestKillUnderLoad(t *testing.T) {
	kills := 10
	if v := os.Getenv(killsVariable); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	n, conf, l := mixedLoad(t)
	stop := l.begin(t, sessions)
	defer stop()
	child := startChild(t, conf)
	for i := range kills {
		l.await(t, l.count()+50+rand.IntN(200))
		kill(t, child)
		t.Logf("kill %d with %d accepted", i+1, l.count())
		child = startChild(t, conf)
	}
	l.await(t, l.count()+100)
	stop()
	arrived := awaitAll(t, n, l)
	twice := 0
	for _, times := range arrived {
		if times > 1 {
			twice++
		}
	}
	// In flight are at most 20 connections to each host at each kill.
	if limit := kills * 20 * len(n.farm.Hosts); twice > limit {
		t.Errorf("%d messages arrived more than once, at most %d were in flight at the kills", twice, limit)
	}
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	tally := readTally(t, conf)
	t.Logf("%d kills: %d accepted, %d arrived, %d of them more than once; journal: %+v", kills, l.count(), len(arrived), twice, *tally)
	if tally.Accepted < l.count() || tally.Open > 0 || tally.Again > 0 || tally.Unheard > 0 || tally.Notices != tally.NoticesTaken {
		t.Errorf("the journal does not agree: %+v", *tally)
	}
}

// mixedLoad is an internet of mixedHosts, the configuration of a relay in it, and a load for that.
func mixedLoad(t *testing.T) (*internet, string, *load) {
	t.Helper()
	n, err := openInternet(t.Context(), mixedHosts(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.close() })
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	submission := loopbackPort(0, true)
	text, err := n.configure(dir, submission, loopbackPort(0, true), "[retry]\nschedule = [\"100ms\"]\n[server.log]\nlevel = \"error\"\n")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "sealpost.toml")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n, conf, &load{addr: submission, accepted: map[string]bool{}, domains: []string{"load.example", "other.example", "grey.example", "none.example"}}
}

// sessions are how many submit at once.
const sessions = 50

// begin lets the sessions submit until they are stopped.
func (l *load) begin(t *testing.T, sessions int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var crew sync.WaitGroup
	for i := range sessions {
		crew.Go(func() { l.session(ctx, i) })
	}
	return func() { cancel(); crew.Wait() }
}

// tally is what a journal tells.
type tally struct {
	Accepted     int // messages
	NoticesTaken int // of them notices
	Notices      int // that settlements brought
	Ends         int // recipients with a final state
	Open         int // recipients without
	Again        int // ends of a recipient that had one
	Unheard      int // recipients that failed, without a notice
}

// readTally opens the storage of a relay that has ended, and reads its journal.
func readTally(t *testing.T, conf string) *tally {
	t.Helper()
	cfg, err := config.Load(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(cfg, seams{log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(map[string]bool)
	sum := &tally{}
	// A last entry of its own says where the journal ends.
	end, err := h.queue.Enqueue(ctx, &queue.Draft{
		Message:    queue.Message{Sender: queue.Address{Local: "end", Domain: "shop.example"}},
		Recipients: []queue.Recipient{{Address: queue.Address{Local: "end", Domain: "load.example"}}}, Body: strings.NewReader("\r\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = h.queue.Follow(ctx, "tally", func(b []byte) error {
		var e queue.JournalEntry
		if err := json.Unmarshal(b, &e); err != nil {
			return err
		}
		if e.Message == end {
			cancel()
			return nil
		}
		sum.add(&e, left)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum.Open = len(left)
	return sum
}

func (s *tally) add(e *queue.JournalEntry, left map[string]bool) {
	if e.Kind == queue.EntryAccepted {
		s.Accepted++
		if e.Sender.IsNull() {
			s.NoticesTaken++
		}
	}
	s.Notices += len(e.Notices)
	for _, r := range e.Recipients {
		key := fmt.Sprint(e.Message, " ", r.Address)
		switch {
		case e.Kind == queue.EntryAccepted:
			left[key] = true
			continue
		case r.State == queue.Pending:
			continue
		case !left[key]:
			s.Again++
		}
		delete(left, key)
		s.Ends++
		if r.State == queue.Bounced && !e.Sender.IsNull() && !slices.Contains(e.Notices, queue.NoticeFailed) {
			s.Unheard++
		}
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
	domains  []string // that mail is for; none: the first two
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
	domains := l.domains
	if domains == nil {
		domains = []string{"load.example", "other.example"}
	}
	for ctx.Err() == nil {
		*n++
		id := fmt.Sprintf("load-%d-%d", worker, *n)
		dialogue := []struct {
			line string
			code int
		}{
			{"EHLO app.shop.example", 250}, {"MAIL FROM:<reviews@shop.example>", 250},
			{fmt.Sprintf("RCPT TO:<ann-%d-%d@%s>", worker, *n, domains[*n%len(domains)]), 250}, {"DATA", 354},
			{"X-Load: " + id + "\r\nSubject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", rand.IntN(200)) + dense(l.size) + ".", 250},
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

// dense is text that does not compress, of about so many octets.
func dense(size int) string {
	var b strings.Builder
	for b.Len() < size {
		var line [54]byte
		for i := range line {
			line[i] = byte(rand.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(line[:]) + "\r\n")
	}
	return b.String()
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
