package submission

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealpost/sealpost/queue"
)

// dropSink reads and forgets.
type dropSink struct{}

func (dropSink) Enqueue(_ context.Context, d *queue.Draft) (queue.ID, error) {
	_, err := io.Copy(io.Discard, d.Body)
	return d.Message.ID, err
}

// BenchmarkSubmit: 50 sessions, STARTTLS once for each, 4 KiB messages. The client
// pipelines as far as RFC 2920 allows and shares the processor with the server.
func BenchmarkSubmit(b *testing.B) {
	content := "From: a@sender.example\r\nTo: b@rcpt.example\r\nSubject: invitation\r\nDate: d\r\nMessage-ID: <m@sender.example>\r\n\r\n"
	content += strings.Repeat(strings.Repeat("x", 70)+"\r\n", (4096-len(content))/72)
	for name, message := range map[string]string{
		"DATA": "MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\nDATA\r\n|" + content + ".\r\n",
		"BDAT": fmt.Sprintf("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\nBDAT %d LAST\r\n%s", len(content), content),
	} {
		b.Run(name, func(b *testing.B) { benchSubmit(b, message) })
	}
}

func benchSubmit(b *testing.B, message string) {
	cert, pool := testCertificate(b)
	s, err := New(Options{
		Hostname: "relay.example", Limits: Limits{Transactions: 1 << 30},
		Listeners: []Listener{{Name: "bench", Addr: "127.0.0.1:0", TLS: TLSStart, Certificate: cert}},
	}, dropSink{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	defer func() { cancel(); <-ended }()
	parts := strings.SplitAfter(message, "|")
	var sessions []*bufio.ReadWriter
	for range 50 {
		rw, c, err := benchSession(s.Addrs()[0].String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		sessions = append(sessions, rw)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.SetBytes(4096)
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, rw := range sessions {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				for i, p := range parts {
					_, _ = rw.WriteString(strings.TrimSuffix(p, "|"))
					_ = rw.Flush()
					lines := 3
					if i == 1 {
						lines = 1
					}
					for range lines {
						if line, err := rw.ReadSlice('\n'); err != nil || line[0] > '3' {
							b.Errorf("%q %v", line, err)
							return
						}
					}
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkSession: a connection, STARTTLS and no message. The client's half is in the figures.
func BenchmarkSession(b *testing.B) {
	cert, _ := testCertificate(b)
	s, err := New(Options{
		Hostname:  "relay.example",
		Listeners: []Listener{{Name: "bench", Addr: "127.0.0.1:0", TLS: TLSStart, Certificate: cert}},
	}, dropSink{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	defer func() { cancel(); <-ended }()
	// A client as Debian's: nothing post-quantum; and nothing verified, which is not our work.
	conf := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	b.ReportAllocs()
	for b.Loop() {
		_, c, err := benchSession(s.Addrs()[0].String(), conf)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

func benchSession(addr string, config *tls.Config) (*bufio.ReadWriter, net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(c)
	for _, step := range []string{"", "EHLO x\r\n", "STARTTLS\r\n"} {
		if _, err := io.WriteString(c, step); err != nil {
			return nil, nil, err
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return nil, nil, err
			}
			if line[3] == ' ' {
				break
			}
		}
	}
	tc := tls.Client(c, config)
	rw := bufio.NewReadWriter(bufio.NewReader(tc), bufio.NewWriterSize(tc, 8192))
	if _, err := rw.WriteString("EHLO x\r\n"); err != nil {
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		return nil, nil, err
	}
	for {
		line, err := rw.ReadString('\n')
		if err != nil || line[3] == ' ' {
			return rw, tc, err
		}
	}
}
