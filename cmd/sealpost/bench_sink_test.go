//go:build bench

package main_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sinkJob says what the sink of the benchmarks is like.
type sinkJob struct {
	Addr      string // to listen on
	More      []string
	Cert, Key string // files
	Chunking  bool   // offer it (RFC 3030)
	Delay     time.Duration
	Once      bool // end a session after its first message
	Stamped   bool // recipients are t<nanoseconds>: tell the time that each took
}

// sinkCount is what the sink has seen so far.
type sinkCount struct {
	Messages, Sessions, Clear int64
	Last                      int64           // when the last message was whole, in nanoseconds since 1970
	Took                      []time.Duration // with Stamped
}

// benchSink is a mail host that parses no more than it must, in a process of its own: what it costs is not
// the relay's. It answers questions on standard input, a number each: it replies when that many messages
// have arrived, or nothing more has for ten seconds.
type benchSink struct {
	job  sinkJob
	conf *tls.Config

	messages, sessions, clear, last atomic.Int64

	mu   sync.Mutex
	took []time.Duration
}

func runBenchSink(t *testing.T, job sinkJob) {
	cert, err := tls.LoadX509KeyPair(job.Cert, job.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := &benchSink{job: job, conf: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, addr := range append(job.More, job.Addr) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go s.serve(c)
			}
		}()
	}
	answer(t, sinkCount{}) // it listens
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		answer(t, s.await(n))
	}
}

// answer writes one value for the process that started this one.
func answer(t *testing.T, v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		t.Fatal(err)
	}
}

// await returns when n messages have arrived, or none has for a while.
func (s *benchSink) await(n int64) sinkCount {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	seen, since := s.messages.Load(), time.Now()
	for now := range tick.C {
		have := s.messages.Load()
		if have >= n || now.Sub(since) > 10*time.Second {
			break
		}
		if have != seen {
			seen, since = have, now
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return sinkCount{s.messages.Load(), s.sessions.Load(), s.clear.Load(), s.last.Load(), s.took}
}

// sinkSession is one connection to the sink.
type sinkSession struct {
	sink   *benchSink
	raw    net.Conn
	conn   net.Conn
	r      *bufio.Reader
	out    []byte // replies that are not on their way yet
	later  chan lateReply
	secure bool
	rcpts  int
	stamp  int64
}

// lateReply is what leaves when its time has come; done, if any, is closed then.
type lateReply struct {
	due  time.Time
	text []byte
	done chan struct{}
}

func (s *benchSink) serve(c net.Conn) {
	defer c.Close()
	s.sessions.Add(1)
	x := &sinkSession{sink: s, raw: c, conn: c, r: bufio.NewReaderSize(c, 32<<10)}
	if s.job.Delay > 0 {
		x.later = make(chan lateReply, 1024)
		defer close(x.later)
		go x.sendLate()
	}
	defer func() { _ = x.conn.Close() }() // over TLS with its close_notify
	x.out = append(x.out, "220 mx.load.test ESMTP\r\n"...)
	for {
		line, err := x.line()
		if err != nil || !x.command(line) {
			return
		}
	}
}

// line reads one, and lets the replies go before it waits.
func (x *sinkSession) line() ([]byte, error) {
	if x.r.Buffered() == 0 && !x.flush(false) {
		return nil, net.ErrClosed
	}
	return x.r.ReadSlice('\n')
}

// flush lets the replies go: now, or each at its time. wait waits until they are gone.
func (x *sinkSession) flush(wait bool) bool {
	if len(x.out) == 0 {
		return true
	}
	if x.later == nil {
		_, err := x.conn.Write(x.out)
		x.out = x.out[:0]
		return err == nil
	}
	l := lateReply{due: time.Now().Add(x.sink.job.Delay), text: x.out}
	if wait {
		l.done = make(chan struct{})
	}
	x.later <- l
	x.out = nil
	if wait {
		<-l.done
	}
	return true
}

// sendLate is the way back of a far host: every reply takes its time, none waits for another's.
func (x *sinkSession) sendLate() {
	for l := range x.later {
		time.Sleep(time.Until(l.due))
		_, _ = x.conn.Write(l.text) // a relay that is gone is noticed by the reader
		if l.done != nil {
			close(l.done)
		}
	}
}

// command carries out one command line. false: the session is over.
func (x *sinkSession) command(line []byte) bool {
	if len(line) < 5 {
		return false
	}
	switch string(bytes.ToUpper(line[:4])) {
	case "MAIL":
		x.out = append(x.out, "250 2.1.0 ok\r\n"...)
	case "RCPT":
		x.rcpts++
		if !x.secure {
			x.sink.clear.Add(1)
		}
		if x.sink.job.Stamped {
			x.stamp = stampOf(line)
		}
		x.out = append(x.out, "250 2.1.5 ok\r\n"...)
	case "DATA":
		x.out = append(x.out, "354 go on\r\n"...)
		return x.data()
	case "BDAT":
		return x.bdat(line)
	case "RSET", "NOOP":
		x.rcpts = 0
		x.out = append(x.out, "250 2.0.0 ok\r\n"...)
	case "EHLO":
		x.out = append(x.out, "250-mx.load.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 100000000\r\n250-ENHANCEDSTATUSCODES\r\n"...)
		if x.sink.job.Chunking {
			x.out = append(x.out, "250-CHUNKING\r\n"...)
		}
		if !x.secure {
			x.out = append(x.out, "250-STARTTLS\r\n"...)
		}
		x.out = append(x.out, "250 HELP\r\n"...)
	case "STAR":
		x.out = append(x.out, "220 2.0.0 go on\r\n"...)
		if !x.flush(true) {
			return false
		}
		x.conn, x.secure = tls.Server(x.raw, x.sink.conf), true
		x.r.Reset(x.conn)
	case "QUIT":
		x.out = append(x.out, "221 2.0.0 bye\r\n"...)
		x.flush(true)
		return false
	default:
		x.out = append(x.out, "500 5.5.2 what?\r\n"...)
	}
	return true
}

// data reads to the lone dot.
func (x *sinkSession) data() bool {
	for {
		line, err := x.line()
		switch {
		case err == bufio.ErrBufferFull: // a long line cannot be the last one
		case err != nil:
			return false
		case string(line) == ".\r\n":
			return x.whole()
		}
	}
}

func (x *sinkSession) bdat(line []byte) bool {
	words := bytes.Fields(line)
	if len(words) < 2 {
		return false
	}
	n, err := strconv.ParseInt(string(words[1]), 10, 64)
	if err != nil {
		return false
	}
	for n > 0 {
		if x.r.Buffered() == 0 && !x.flush(false) {
			return false
		}
		took, err := x.r.Discard(int(min(n, 16<<10)))
		if n -= int64(took); err != nil {
			return false
		}
	}
	if len(words) > 2 {
		return x.whole()
	}
	x.out = append(x.out, "250 2.0.0 ok\r\n"...)
	return true
}

// whole counts a message.
func (x *sinkSession) whole() bool {
	s := x.sink
	now := time.Now().UnixNano()
	if x.rcpts > 0 {
		s.last.Store(now)
		if s.job.Stamped {
			s.mu.Lock()
			s.took = append(s.took, time.Duration(now-x.stamp))
			s.mu.Unlock()
		}
		s.messages.Add(1)
	}
	x.rcpts = 0
	x.out = append(x.out, "250 2.0.0 taken\r\n"...)
	if s.job.Once {
		x.flush(true)
		return false
	}
	return true
}

// stampOf reads the time in "RCPT TO:<t123@...".
func stampOf(line []byte) int64 {
	_, rest, _ := bytes.Cut(line, []byte("<t"))
	digits, _, _ := bytes.Cut(rest, []byte("@"))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
