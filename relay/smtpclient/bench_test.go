package smtpclient

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// BenchmarkSend is messages of 4 KiB over TLS to a sink in the same process: the
// whole of Open from the pool, Send and Release. The sink's work is in the figures.
func BenchmarkSend(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51)
	for _, style := range []struct{ name, greet string }{
		{"bdat", greetAll + "STARTTLS"}, {"data", greetGroup + "STARTTLS"}, {"dialogue", "STARTTLS"},
	} {
		for _, conns := range []int{1, 20} {
			b.Run(fmt.Sprintf("%s/connections=%d", style.name, conns), func(b *testing.B) {
				k := startSink(b, style.greet)
				k.blind = true
				p := newPool(b, options())
				defer p.Close()
				st := step(k.addr, policy.Modern)
				b.ReportAllocs()
				b.SetParallelism((conns + 1) / 2)
				if conns == 1 {
					for b.Loop() {
						benchOne(b, p, st, body)
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							benchOne(b, p, st, body)
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// BenchmarkOpen is a new connection with STARTTLS for each message, as to a domain that had
// no mail for a while: its TLS session is resumed, or its host is a new one each time with
// the certificate of all.
func BenchmarkOpen(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51)
	for _, kind := range []string{"resumed", "new host"} {
		b.Run(kind, func(b *testing.B) {
			k := startSink(b, greetAll+"STARTTLS")
			k.blind = true
			leaf, err := x509.ParseCertificate(k.tls.Certificates[0].Certificate[0])
			if err != nil {
				b.Fatal(err)
			}
			o := options()
			o.Roots = x509.NewCertPool()
			o.Roots.AddCert(leaf)
			p := newPool(b, o)
			defer p.Close()
			st := step(k.addr, policy.Modern)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if kind == "new host" {
					st.Target.Names = []policy.Domain{policy.Domain(fmt.Sprintf("mx%d.example.test", i))}
				}
				s, _, f := p.Open(b.Context(), st)
				if f != nil {
					b.Fatal(f)
				}
				if f := s.Send(b.Context(), mail(body, "b@example.test")).Results[0].Failure; f != nil {
					b.Fatal(f)
				}
				s.Quit()
			}
		})
	}
}

func benchOne(b *testing.B, p *Pool, st policy.Step, body string) {
	s, _, f := p.Open(b.Context(), st)
	if f != nil {
		b.Error(f)
		return
	}
	sent := s.Send(b.Context(), mail(body, "b@example.test"))
	if f := sent.Results[0].Failure; f != nil {
		b.Error(f)
	}
	s.Release()
}

// BenchmarkFar is messages of 4 KiB over TLS to a sink whose replies take 50 ms, over 20
// connections, with as many couriers as are of use.
func BenchmarkFar(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51)
	for _, way := range []struct {
		name, greet string
		window      int
	}{
		{"letter", "STARTTLS", 1}, {"data", greetGroup + "STARTTLS", 1}, {"data-ride", greetGroup + "STARTTLS", 8},
		{"flight", greetAll + "STARTTLS", 1}, {"window=4", greetAll + "STARTTLS", 4}, {"window=8", greetAll + "STARTTLS", 8},
	} {
		b.Run(way.name, func(b *testing.B) {
			k := startSink(b, way.greet)
			k.blind, k.late = true, 50*time.Millisecond
			o := options()
			o.Window, o.MessagesPerConnection = way.window, 1<<20
			p := newPool(b, o)
			defer p.Close()
			st := step(k.addr, policy.Modern)
			b.ReportAllocs()
			b.SetParallelism((20*(way.window+1) + 1) / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					benchOne(b, p, st, body)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
