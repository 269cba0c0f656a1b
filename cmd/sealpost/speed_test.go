package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/relay/relaytest"
)

// BenchmarkEndToEnd carries 4-KiB messages from 50 sessions with STARTTLS through the
// whole relay, synced to disk, to one domain's host with TLS. Source, relay and sink
// share the process and the machine.
func BenchmarkEndToEnd(b *testing.B) {
	const sessions = 50
	k, _ := relaytest.KindNamed("modern")
	k2 := k
	n, err := openInternet(b.Context(), []exchanger{{"load.example", 10, "mx.load.example", k2, false}})
	if err != nil {
		b.Fatal(err)
	}
	defer n.close()
	sink := k.Behaviour(n.certificate("mx.load.example", relaytest.Trusted))
	sink.Sink = true
	n.farm.Hosts[0].Become(sink)
	w := secureWorld(b, n, "\n[server.log]\nlevel = \"error\"\n")
	body := "Subject: speed\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + "."

	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var crew sync.WaitGroup
	for range sessions {
		crew.Go(func() {
			c, err := secureSession(w.submission())
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			for left.Add(-1) >= 0 {
				if err := sendOne(c, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	crew.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepted/s")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := n.farm.Hosts[0].AwaitStats(ctx, func(s relaytest.Stats) bool { return s.Messages >= b.N }); err != nil {
		b.Fatalf("%+v: %v", n.farm.Hosts[0].Stats(), err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
}

func secureSession(addr string) (*textproto.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := textproto.NewConn(conn)
	if _, _, err := c.ReadResponse(220); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		line string
		code int
	}{{"EHLO app.shop.example", 250}, {"STARTTLS", 220}} {
		if err := c.PrintfLine("%s", d.line); err != nil {
			return nil, err
		}
		if _, _, err := c.ReadResponse(d.code); err != nil {
			return nil, err
		}
	}
	c = textproto.NewConn(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	if err := c.PrintfLine("EHLO app.shop.example"); err != nil {
		return nil, err
	}
	_, _, err = c.ReadResponse(250)
	return c, err
}

// sendOne sends one message, the envelope in one flight (RFC 2920).
func sendOne(c *textproto.Conn, body string) error {
	if err := c.PrintfLine("MAIL FROM:<reviews@shop.example>\r\nRCPT TO:<ann@load.example>\r\nDATA"); err != nil {
		return err
	}
	for _, code := range []int{250, 250, 354} {
		if _, _, err := c.ReadResponse(code); err != nil {
			return err
		}
	}
	if err := c.PrintfLine("%s", body); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(250)
	return err
}
