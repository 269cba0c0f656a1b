package smtpclient

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is a host that takes everything. It follows the grammar of what it is sent
// and counts what it took for whole messages.
type sink struct {
	addr netip.AddrPort
	ln   net.Listener
	tls  *tls.Config

	blind bool          // do not keep what is taken
	late  time.Duration // each reply arrives so much later
	caps  []string
	// answer says what is replied to a line on a connection for that name (SNI); "": as
	// usual. nil: nothing of that.
	answer func(sni, line string) string
	group  sync.WaitGroup
	mu     sync.Mutex
	seen   taken
}

type taken struct {
	whole       int
	last        string
	connections int
}

// startSink offers what a script's greeting offers.
func startSink(t testing.TB, greet string) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{ln: ln, addr: netip.MustParseAddrPort(ln.Addr().String())}
	s.tls = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	for _, c := range []string{"PIPELINING", "CHUNKING", "STARTTLS"} {
		if strings.Contains(greet, c) {
			s.caps = append(s.caps, c)
		}
	}
	s.group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.seen.connections++
			s.mu.Unlock()
			s.group.Go(func() {
				defer func() { _ = c.Close() }()
				_ = s.serve(c) // however it ends
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); s.group.Wait() })
	return s
}

// wait returns what was taken, once all connections have ended.
func (s *sink) wait() taken {
	_ = s.ln.Close()
	s.group.Wait()
	return s.seen
}

func (s *sink) took(body string) {
	s.mu.Lock()
	s.seen.whole++
	s.seen.last = body
	s.mu.Unlock()
}

// lateConn is a connection whose writes arrive later: those of a host far away.
type lateConn struct {
	net.Conn
	late time.Duration
	out  chan lateWrite
}

type lateWrite struct {
	b   []byte
	due time.Time
}

func (s *sink) far(c net.Conn) net.Conn {
	l := &lateConn{c, s.late, make(chan lateWrite, 4096)}
	s.group.Go(func() {
		for w := range l.out {
			time.Sleep(time.Until(w.due))
			_, _ = c.Write(w.b)
		}
	})
	return l
}

func (l *lateConn) Write(p []byte) (int, error) {
	l.out <- lateWrite{slices.Clone(p), time.Now().Add(l.late)}
	return len(p), nil
}

// hangUp is the answer of a host that ends the connection.
const hangUp = "hang up"

func sniOf(c net.Conn) string {
	if t, ok := c.(*tls.Conn); ok {
		return t.ConnectionState().ServerName
	}
	return ""
}

func (s *sink) serve(c net.Conn) error {
	if s.late > 0 {
		l := s.far(c)
		defer close(l.(*lateConn).out)
		c = l
	}
	r, w := bufio.NewReaderSize(c, 32<<10), bufio.NewWriter(c)
	var chunks strings.Builder
	reply := func(f string, a ...any) { fmt.Fprintf(w, f+"\r\n", a...) }
	reply("220 sink")
	for {
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		verb := strings.ToUpper(string(line[:min(4, len(line))]))
		special := ""
		if s.answer != nil {
			special = s.answer(sniOf(c), strings.TrimRight(string(line), "\r\n"))
		}
		if special == hangUp {
			return nil
		}
		if special != "" && verb != "BDAT" {
			reply("%s", special)
			continue
		}
		switch verb {
		case "EHLO":
			reply("250-sink")
			for _, cap := range s.caps {
				reply("250-%s", cap)
			}
			reply("250 8BITMIME")
		case "STAR":
			reply("220 go")
			if err := w.Flush(); err != nil {
				return err
			}
			c = tls.Server(c, s.tls)
			r, w = bufio.NewReaderSize(c, 32<<10), bufio.NewWriter(c)
		case "DATA":
			reply("354 go")
			if err := w.Flush(); err != nil {
				return err
			}
			var b strings.Builder
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return err
				}
				if string(line) == ".\r\n" {
					break
				}
				if !s.blind {
					b.Write(line)
				}
			}
			s.took(b.String())
			reply("250 2.0.0 queued")
		case "BDAT":
			f := strings.Fields(string(line))
			n, err := strconv.Atoi(f[1])
			if err != nil {
				return err
			}
			if s.blind {
				_, err = r.Discard(n)
			} else {
				_, err = io.CopyN(&chunks, r, int64(n))
			}
			if err != nil {
				return err
			}
			if len(f) == 3 {
				s.took(chunks.String())
				chunks.Reset()
			}
			reply("%s", cmp.Or(special, "250 2.0.0 taken"))
		case "QUIT":
			return nil
		default:
			reply("250 2.0.0 ok")
		}
	}
}
