package smtpclient

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// BenchmarkNear is BenchmarkSend with more couriers than connections: they wait for one, or share.
// Processor time is that of both ends.
func BenchmarkNear(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51)
	for _, style := range []struct{ name, greet string }{{"bdat", greetAll + "STARTTLS"}, {"data", greetGroup + "STARTTLS"}} {
		for _, couriers := range []int{40, 200} {
			b.Run(fmt.Sprintf("%s/couriers=%d", style.name, couriers), func(b *testing.B) {
				k := startSink(b, style.greet)
				k.blind = true
				o := options()
				o.MessagesPerConnection = 1 << 20
				p := newPool(b, o)
				defer p.Close()
				st := step(k.addr, policy.Modern)
				b.ReportAllocs()
				b.SetParallelism(couriers / runtime.GOMAXPROCS(0))
				before := cpuTime(b)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						benchOne(b, p, st, body)
					}
				})
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDial is messages of 4 KiB, each over a new connection whose TLS session is
// resumed. Processor time is that of both ends.
func BenchmarkDial(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51)
	k := startSink(b, greetGroup+"STARTTLS")
	k.blind = true
	w := &watcher{}
	o := options()
	o.Observer, o.MessagesPerConnection = w, 1
	p := newPool(b, o)
	defer p.Close()
	st := step(k.addr, policy.Modern)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		benchOne(b, p, st, body)
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}
