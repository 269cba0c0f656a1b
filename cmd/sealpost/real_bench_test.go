//go:build bench

package main_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

// workload is one row of the comparison.
type workload struct {
	name     string
	what     string
	messages int // how many, unless the environment says otherwise
	held     bool
	domains  int // 0: one
	shared   bool
	apart    bool // the MX names are behind a hundred addresses
	sink     sinkJob
	source   sourceJob
}

const benchSize = 4 << 10 // octets of a message, where the row says nothing else

func workloads() []workload {
	load := sourceJob{Sessions: 50, Size: benchSize}
	far := sinkJob{Delay: 50 * time.Millisecond}
	farChunking := sinkJob{Delay: 50 * time.Millisecond, Chunking: true}
	return []workload{
		{name: "accept", what: "acceptance only, deliveries held", messages: 10_000, held: true, source: load},
		{name: "one", what: "end to end, one domain, DATA", messages: 6000, source: load},
		{name: "one-bdat", what: "end to end, one domain, CHUNKING", messages: 6000, source: load, sink: sinkJob{Chunking: true}},
		{name: "fresh", what: "end to end, one domain, a connection in for each message", messages: 3000, source: sourceJob{Sessions: 50, Size: benchSize, Fresh: true}},
		{name: "domains", what: "end to end, 1,000 domains, an MX name each", messages: 6000, domains: 1000, source: load},
		{name: "domains-apart", what: "end to end, 1,000 domains, an MX name each, behind 100 addresses", messages: 6000, domains: 1000, apart: true, source: load},
		{name: "domains-shared", what: "end to end, 1,000 domains, one MX name", messages: 6000, domains: 1000, shared: true, source: load},
		{name: "far-data", what: "replies take 50 ms, DATA", messages: 2000, source: load, sink: far},
		{name: "far-bdat", what: "replies take 50 ms, CHUNKING", messages: 2000, source: load, sink: farChunking},
		{name: "idle", what: "latency at idle: a new connection in and out", messages: 100,
			source: sourceJob{Sessions: 1, Size: benchSize, Fresh: true, Stamped: true, Pause: 40 * time.Millisecond}, sink: sinkJob{Once: true, Stamped: true}},
		{name: "large", what: "24 MiB, 20 at once", messages: 20, source: sourceJob{Sessions: 20, Size: 24 << 20}},
		{name: "large-bdat", what: "24 MiB, 20 at once, CHUNKING", messages: 20, source: sourceJob{Sessions: 20, Size: 24 << 20}, sink: sinkJob{Chunking: true}},
	}
}

// result is what one run has measured.
type result struct {
	rate     float64 // messages per second, from the first connection to the last arrival (or 250)
	cpu      float64 // processor's seconds of the relay per 1,000 messages
	peak     float64 // MiB
	p50, p99 float64 // milliseconds, where times were taken
	sessions float64 // that the sink saw
}

// TestBench has Sealpost and its peers carry the same mail on this machine and disk, in turn, and prints ratios.
// Source, sink and relay are processes of their own; the acceptance of every relay is synced.
//
//	SEALPOST_BENCH           rows, by name, with commas (all)
//	SEALPOST_BENCH_RELAYS    sealpost,postfix,exim (these; also postfix-as-shipped, raw, raw-through, direct)
//	SEALPOST_BENCH_ROUNDS    how often (3)
//	SEALPOST_BENCH_MESSAGES  how many messages, in place of each row's own number
//	SEALPOST_BENCH_BINARY    a sealpost to measure in place of the one built from here
func TestBench(t *testing.T) {
	rows := pick(t, workloads(), func(w workload) string { return w.name }, os.Getenv("SEALPOST_BENCH"))
	relays := strings.Split(cmp.Or(os.Getenv("SEALPOST_BENCH_RELAYS"), "sealpost,postfix,exim"), ",")
	rounds := envInt(t, "SEALPOST_BENCH_ROUNDS", 3)
	got := map[string][]result{}
	for round := range rounds {
		for _, w := range rows {
			w.messages = envInt(t, "SEALPOST_BENCH_MESSAGES", w.messages)
			for _, name := range relays {
				if name == "direct" && w.held {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d", w.name, name, round+1), func(t *testing.T) {
					r := measure(t, w, name)
					t.Logf("%s", r)
					got[w.name+"/"+name] = append(got[w.name+"/"+name], r)
				})
			}
		}
	}
	for _, w := range rows {
		report(t, w, relays, got)
	}
}

// pick takes the rows with the names; all when there are none.
func pick[T any](t *testing.T, all []T, name func(T) string, names string) []T {
	t.Helper()
	if names == "" {
		return all
	}
	var list []T
	for _, want := range strings.Split(names, ",") {
		i := slices.IndexFunc(all, func(x T) bool { return name(x) == want })
		if i < 0 {
			t.Fatalf("no row %q", want)
		}
		list = append(list, all[i])
	}
	return list
}

func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// measure is one run of one relay.
func measure(t *testing.T, w workload, name string) (r result) {
	t.Helper()
	start, ok := benchRelays()[name]
	if !ok && name != "direct" {
		t.Fatalf("no relay %q: there are %v and direct", name, slices.Sorted(maps.Keys(benchRelays())))
	}
	site, sink := openSite(t, w)
	var through relay
	if name == "direct" {
		through = relay{addr: fmt.Sprintf("%s:%d", site.resolver, site.sinkPort)}
	} else {
		through = start(t, site)
	}
	job := w.source
	job.Addr, job.Messages, job.Domains = through.addr, w.messages, w.domains
	var m *meter
	var before time.Duration
	if through.pid != 0 {
		m = startMeter(through.pid)
		before = m.cpu()
	}
	var done sourceDone
	startBenchChild(t, "source", job).read(t, &done)
	if done.Err != "" {
		t.Fatalf("source: %s", done.Err)
	}
	end := done.End
	if !w.held {
		var seen sinkCount
		fmt.Fprintln(sink.in, w.messages)
		sink.read(t, &seen)
		if seen.Messages < int64(w.messages) || seen.Clear > 0 {
			t.Fatalf("%d of %d messages have arrived, %d in clear", seen.Messages, w.messages, seen.Clear)
		}
		end = seen.Last
		r.sessions = float64(seen.Sessions)
		r.p50, r.p99 = percentiles(seen.Took)
	}
	r.rate = float64(w.messages) / (time.Duration(end - done.Begin).Seconds())
	if m != nil {
		r.cpu = (m.cpu() - before).Seconds() * 1000 / float64(w.messages)
		r.peak = float64(m.end()) / (1 << 20)
	}
	return r
}

// openSite starts DNS and sink.
func openSite(t *testing.T, w workload) (benchSite, *child) {
	t.Helper()
	ca, dir := policytest.NewCA(), sharedDir(t)
	s := benchSite{ca: ca, caFile: write(t, dir, "ca.pem", ca.PEM()), held: w.held, idle: w.source.Stamped, size: w.source.Size, chunking: w.sink.Chunking}
	chain, key := policytest.PEM(ca.Leaf(policytest.LeafOptions{Names: []string{"*.hosts.test"}}))
	job := w.sink
	job.Cert, job.Key = write(t, dir, "sink.pem", chain), write(t, dir, "sink.key", key)
	z := zones(t)
	s.resolver = benchDNS(t, z)
	_, s.sinkPort = freeAddr(t)
	job.Addr = fmt.Sprintf("%s:%d", s.resolver, s.sinkPort)
	var others []string
	if w.apart {
		for i := range 100 {
			others = append(others, fmt.Sprintf("%s.%d", s.resolver[:strings.LastIndex(s.resolver, ".")], 1+i))
			if others[i] != s.resolver {
				job.More = append(job.More, fmt.Sprintf("%s:%d", others[i], s.sinkPort))
			}
		}
	}
	names := []string{"load.test"}
	for i := range w.domains {
		names = append(names, benchDomain(i))
	}
	z.A("mx.hosts.test", s.resolver)
	for i, name := range names {
		mx := "mx.hosts.test"
		if i > 0 && !w.shared {
			mx = fmt.Sprintf("mx%d.hosts.test", i)
			at := s.resolver
			if w.apart {
				at = others[i%len(others)]
			}
			z.A(mx, at)
		}
		z.MX(name, 10, mx)
	}
	sink := startBenchChild(t, "sink", job)
	var ready sinkCount
	sink.read(t, &ready)
	return s, sink
}

func percentiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	at := func(share int) float64 {
		return float64(took[min(len(took)*share/100, len(took)-1)].Microseconds()) / 1000
	}
	return at(50), at(99)
}

func (r result) String() string {
	s := fmt.Sprintf("%8.1f messages/s  %6.3f s cpu per 1,000  %6.1f MiB  %4.0f sessions out", r.rate, r.cpu, r.peak, r.sessions)
	if r.p50 > 0 {
		s += fmt.Sprintf("  p50 %.1f ms  p99 %.1f ms", r.p50, r.p99)
	}
	return s
}

// report prints a row: the median of each relay with its least and most, and what Sealpost's median is to it.
func report(t *testing.T, w workload, relays []string, got map[string][]result) {
	t.Helper()
	t.Logf("%s: %s", w.name, w.what)
	ours := got[w.name+"/sealpost"]
	for _, name := range relays {
		runs := got[w.name+"/"+name]
		if len(runs) == 0 {
			continue
		}
		spread := func(what string, f func(result) float64) string {
			low, mid, high := lowMidHigh(runs, f)
			s := fmt.Sprintf("  %s %.4g (%.4g-%.4g)", what, mid, low, high)
			if _, our, _ := lowMidHigh(ours, f); our > 0 && mid > 0 && name != "sealpost" {
				s += fmt.Sprintf(" x%.2f", our/mid)
			}
			return s
		}
		line := fmt.Sprintf("  %-18s", name)
		if w.source.Stamped {
			line += spread("p50 ms", func(r result) float64 { return r.p50 }) + spread("p99 ms", func(r result) float64 { return r.p99 })
		} else {
			line += spread("per second", func(r result) float64 { return r.rate })
		}
		t.Log(line + spread("cpu s/1000", func(r result) float64 { return r.cpu }) + spread("MiB", func(r result) float64 { return r.peak }))
	}
}

func lowMidHigh(runs []result, f func(result) float64) (low, mid, high float64) {
	if len(runs) == 0 {
		return 0, 0, 0
	}
	var all []float64
	for _, r := range runs {
		all = append(all, f(r))
	}
	slices.Sort(all)
	return all[0], all[len(all)/2], all[len(all)-1]
}
