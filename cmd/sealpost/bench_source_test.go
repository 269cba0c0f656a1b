//go:build bench

package main_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sourceJob says what the source of the benchmarks sends.
type sourceJob struct {
	Addr     string
	Sessions int // at once
	Messages int
	Size     int           // octets of a message
	Domains  int           // recipients are at d0.load.test and so on; 0: at load.test
	Fresh    bool          // a connection for each message
	Stamped  bool          // recipients are t<nanoseconds of the beginning>
	Pause    time.Duration // between two messages of a session
}

// sourceDone is what came of it, in nanoseconds since 1970.
type sourceDone struct {
	Begin, End int64
	Err        string
}

// benchBody is a message of lines of 62 octets with the lone dot behind it.
func benchBody(size int) []byte {
	head := "From: a@sealpost.test\r\nTo: b@load.test\r\nSubject: You are invited\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n" +
		"Message-ID: <bench@sealpost.test>\r\n\r\n"
	line := strings.Repeat("x", 62) + "\r\n"
	return []byte(head + strings.Repeat(line, (size-len(head))/len(line)) + ".\r\n")
}

// runBenchSource sends, in a process of its own, as applications' libraries do: over STARTTLS, one message
// after the other, each in two round trips (RFC 2920).
func runBenchSource(t *testing.T, job sourceJob) {
	body := benchBody(job.Size)
	// X25519 alone gives every relay the same work: Debian's OpenSSL knows no post-quantum groups, and neither
	// do the applications that use it. The relays' names differ, so nothing is verified.
	conf := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var crew sync.WaitGroup
	done := sourceDone{Begin: time.Now().UnixNano()}
	for range job.Sessions {
		crew.Go(func() {
			var c *sourceConn
			for failed.Load() == nil {
				n := int(next.Add(1)) - 1
				if n >= job.Messages {
					break
				}
				begin := time.Now()
				var err error
				if c == nil {
					c, err = dialSource(job.Addr, conf)
				}
				if err == nil {
					err = c.send(job.envelope(n, begin), body)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					break
				}
				if job.Fresh {
					c.quit()
					c = nil
				}
				if job.Pause > 0 {
					time.Sleep(job.Pause) // the pace is part of what is measured
				}
			}
			if c != nil {
				c.quit()
			}
		})
	}
	crew.Wait()
	done.End = time.Now().UnixNano()
	if err := failed.Load(); err != nil {
		done.Err = (*err).Error()
	}
	answer(t, done)
}

func (j *sourceJob) envelope(n int, begin time.Time) string {
	local, domain := "b", "load.test"
	if j.Stamped {
		local = fmt.Sprintf("t%d", begin.UnixNano())
	}
	if j.Domains > 0 {
		domain = benchDomain(n % j.Domains)
	}
	return "MAIL FROM:<a@sealpost.test>\r\nRCPT TO:<" + local + "@" + domain + ">\r\nDATA\r\n"
}

func benchDomain(n int) string { return fmt.Sprintf("d%d.load.test", n) }

// sourceConn is a session of the source.
type sourceConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialSource(addr string, conf *tls.Config) (*sourceConn, error) {
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &sourceConn{raw, bufio.NewReaderSize(raw, 2048)}
	if err := c.expect("220"); err != nil {
		return nil, err
	}
	for _, step := range [][2]string{{"EHLO app.sealpost.test\r\n", "250"}, {"STARTTLS\r\n", "220"}} {
		if err := c.ask(step[0], step[1]); err != nil {
			return nil, err
		}
	}
	c.conn = tls.Client(raw, conf)
	c.r.Reset(c.conn)
	return c, c.ask("EHLO app.sealpost.test\r\n", "250")
}

func (c *sourceConn) ask(line, code string) error {
	if _, err := c.conn.Write([]byte(line)); err != nil {
		return err
	}
	return c.expect(code)
}

// expect reads one reply.
func (c *sourceConn) expect(code string) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line[:3]) != code {
			return fmt.Errorf("want %s, got %s", code, line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

func (c *sourceConn) send(envelope string, body []byte) error {
	if err := c.ask(envelope, "250"); err != nil {
		return err
	}
	for _, code := range []string{"250", "354"} {
		if err := c.expect(code); err != nil {
			return err
		}
	}
	if _, err := c.conn.Write(body); err != nil {
		return err
	}
	return c.expect("250")
}

func (c *sourceConn) quit() {
	_ = c.ask("QUIT\r\n", "221") // all is said
	_ = c.conn.Close()
}

// The child processes of the benchmarks are this test binary again.
const benchChild = "SEALPOST_BENCH_CHILD" // source or sink
const benchJob = "SEALPOST_BENCH_JOB"     // its job, JSON

// TestBenchChild is the source or the sink of TestBench.
func TestBenchChild(t *testing.T) {
	switch os.Getenv(benchChild) {
	case "source":
		runBenchSource(t, jobOf[sourceJob](t))
	case "sink":
		runBenchSink(t, jobOf[sinkJob](t))
	case "raw":
		runRaw(t, jobOf[rawJob](t))
	case "reaper":
		runReaper(t)
	default:
		t.Skip("for TestBench only")
	}
}

func jobOf[T any](t *testing.T) (job T) {
	if err := json.Unmarshal([]byte(os.Getenv(benchJob)), &job); err != nil {
		t.Fatal(err)
	}
	return job
}

// child is a source or a sink at work.
type child struct {
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *json.Decoder
}

func startBenchChild(t *testing.T, kind string, job any) *child {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchChild$", "-test.timeout=1h")
	cmd.Env = append(os.Environ(), benchChild+"="+kind, benchJob+"="+string(text))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // a sink ends by that
		_ = cmd.Wait() // a source has told what went wrong
	})
	return &child{cmd, in, json.NewDecoder(out)}
}

// read waits for the child's next answer.
func (c *child) read(t *testing.T, v any) {
	t.Helper()
	if err := c.out.Decode(v); err != nil {
		t.Fatalf("%v: %v", c.cmd, err)
	}
}
