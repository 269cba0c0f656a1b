package relaytest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// BenchmarkSink is what a host takes as the far end of a benchmark: one connection
// under TLS, each message one group (RFC 2920), the next sent before the replies.
func BenchmarkSink(b *testing.B) {
	a := newAuthority(b, "mx.test")
	for _, sink := range []bool{true, false} {
		for _, body := range []int{100, 4 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("sink=%v/%d", sink, body), func(b *testing.B) {
				h := start(b, Behaviour{TLS: &tls.Config{Certificates: []tls.Certificate{a.certs[Trusted]}}, Sink: sink})
				benchmark(b, h, body)
			})
		}
	}
}

func benchmark(b *testing.B, h *Host, body int) {
	raw, err := net.Dial("tcp", h.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, "EHLO x\r\nSTARTTLS\r\n"); err != nil {
		b.Fatal(err)
	}
	plain := bufio.NewReader(raw)
	for line := ""; line != "220 2.0.0 go ahead\r\n"; {
		if line, err = plain.ReadString('\n'); err != nil {
			b.Fatal(err)
		}
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	message := "MAIL FROM:<sender@client.test> SIZE=4096\r\nRCPT TO:<reader@example.test>\r\nDATA\r\n" +
		strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", body/72+1) + ".\r\n"
	go func() {
		w := bufio.NewWriterSize(conn, 64<<10)
		_, _ = w.WriteString("EHLO x\r\n")
		for range b.N {
			_, _ = w.WriteString(message)
		}
		_ = w.Flush()
	}()
	r := bufio.NewReader(conn)
	b.SetBytes(int64(body))
	b.ResetTimer()
	for taken := 0; taken < b.N; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if strings.HasPrefix(string(line), "250 2.0.0 taken") {
			taken++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
