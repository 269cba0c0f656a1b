package main

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// TestScripts runs the scenarios of testdata/script: each is a private internet, a
// relay and what must come of it. The commands are those of scenario, and `exec
// sealpost ...` is the program itself.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: func(env *testscript.Env) error { env.Values[scenarioKey{}] = &scenario{t: env.T()}; return nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host": scene((*scenario).host), "dns": scene((*scenario).dns), "start": scene((*scenario).start), "submit": scene((*scenario).submit),
			"attempt": scene((*scenario).attempt), "trace": scene((*scenario).trace), "received": scene((*scenario).received),
			"sts": scene((*scenario).sts), "disconnect": scene((*scenario).disconnect),
			"noclear": scene((*scenario).noClear), "become": scene((*scenario).become), "reload": scene((*scenario).reload),
			"stop": scene((*scenario).stop), "again": scene((*scenario).again), "forge": scene((*scenario).forge),
		},
	})
}

type scenarioKey struct{}

// scenario is the state of one script.
type scenario struct {
	t     testscript.T
	hosts []exchanger
	lines []string // of DNS, added at the start
	w     *world
	end   func() // stops the relay
}

// scene adapts a method to testscript; none of the commands can be negated.
func scene(f func(*scenario, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		f(ts.Value(scenarioKey{}).(*scenario), ts, args)
	}
}

// test is the testing.T under a script: the world's cleanups hang on it.
func (s *scenario) test(ts *testscript.TestScript) tb {
	t, ok := s.t.(tb)
	if !ok {
		ts.Fatalf("no testing.T under this script")
	}
	return t
}

// host DOMAIN PREFERENCE NAME KIND [tlsa]: a mail exchanger.
func (s *scenario) host(ts *testscript.TestScript, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: host DOMAIN PREFERENCE NAME KIND [tlsa]")
	}
	pref, err := strconv.ParseUint(args[1], 10, 16)
	ts.Check(err)
	k, ok := relaytest.KindNamed(args[3])
	if !ok {
		ts.Fatalf("no kind of receiver is called %q", args[3])
	}
	s.hosts = append(s.hosts, exchanger{args[0], uint16(pref), args[2], k, len(args) > 4 && args[4] == "tlsa"})
}

// dns LINE: a record, or "unsigned ZONE", "bogus ZONE", "servfail NAME TYPE".
func (s *scenario) dns(ts *testscript.TestScript, args []string) {
	s.lines = append(s.lines, strings.Join(args, " "))
}

// sts DOMAIN ID MODE[:FAULT] PATTERN...: the domain's MTA-STS policy, from now on. Faults
// are those of its policy host: 404, 503, 302, html, large, expired, self-signed, ...
func (s *scenario) sts(ts *testscript.TestScript, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: sts DOMAIN ID MODE[:FAULT] PATTERN...")
	}
	if s.w != nil {
		s.w.announce(s.test(ts), args)
		return
	}
	s.lines = append(s.lines, "sts "+strings.Join(args, " "))
}

// start [FILE]: DNS, hosts and relay, with FILE at the end of its configuration.
func (s *scenario) start(ts *testscript.TestScript, args []string) {
	more := quick
	if len(args) > 0 {
		more = ts.ReadFile(args[0])
	}
	if len(s.hosts) == 0 { // a farm has one host at least
		k, _ := relaytest.KindNamed("modern")
		s.hosts = []exchanger{{"shop.example", 10, "mx.shop.example", k, false}}
	}
	s.w = newWorldWith(s.test(ts), s.hosts, more, s.lines)
	s.end = s.w.end
	ts.Setenv("SEALPOST_SERVER__DATA_DIR", s.w.dir)
	ts.Setenv("HTTP", "http://"+s.w.house.httpAddr())
	ts.Setenv("SUBMISSION", s.w.submission())
}

// stop: the relay ends, its data stays.
func (s *scenario) stop(*testscript.TestScript, []string) { s.end() }

// again FILE: the relay starts again, in the same internet and with the same data.
func (s *scenario) again(ts *testscript.TestScript, args []string) {
	s.end = s.w.start(s.test(ts), ts.ReadFile(args[0]))
	ts.Setenv("HTTP", "http://"+s.w.house.httpAddr())
	ts.Setenv("SUBMISSION", s.w.submission())
}

// submit FROM TO[,TO...] [FILE]: hand in a message, with the header lines of FILE.
func (s *scenario) submit(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: submit FROM TO[,TO...] [FILE]")
	}
	header := ""
	if len(args) > 2 {
		header = strings.ReplaceAll(strings.TrimRight(ts.ReadFile(args[2]), "\n")+"\n", "\n", "\r\n")
	}
	from := args[0]
	if from == "<>" {
		from = ""
	}
	id := s.w.submit(s.test(ts), from, header, strings.Split(args[1], ",")...)
	ts.Setenv("ID", string(id))
}

// attempt DOMAIN N key=value...: the N-th attempt was so. Keys: outcome (one letter
// a recipient: d f b), level, wanted, basis, reason, status, mx.
func (s *scenario) attempt(ts *testscript.TestScript, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: attempt DOMAIN N key=value...")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	a := s.w.await(s.test(ts), args[0], n)
	outcome, status := "", ""
	reason := policy.ReasonUnset
	for _, o := range a.Outcomes {
		outcome += string("fdb"[o.Kind])
		status, reason = o.Status, o.Reason
	}
	is := map[string]string{
		"outcome": outcome, "level": a.Achieved.String(), "wanted": a.Wanted.String(), "basis": a.Basis.String(),
		"reason": reason.String(), "status": status, "mx": string(a.Host), "rule": a.Rule,
	}
	for _, arg := range args[2:] {
		key, want, _ := strings.Cut(arg, "=")
		if got, ok := is[key]; !ok || got != want {
			ts.Fatalf("attempt %d for %s: %s is %q, want %q\n%+v", n, args[0], key, got, want, a)
		}
	}
}

// trace DOMAIN N HOST/RUNG[:REASON]...: the N-th attempt walked exactly these steps.
func (s *scenario) trace(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	a := s.w.await(s.test(ts), args[0], n)
	var steps []string
	for _, t := range a.Trace {
		step := string(t.Host) + "/" + t.Rung.String()
		if t.Reason != policy.ReasonUnset {
			step += ":" + t.Reason.String()
		}
		steps = append(steps, step)
	}
	if got, want := strings.Join(steps, " "), strings.Join(args[2:], " "); got != want {
		ts.Fatalf("walked %s\nwant   %s", got, want)
	}
}

// received HOST N [tls|clear]: the host took exactly N messages, all so protected.
func (s *scenario) received(ts *testscript.TestScript, args []string) {
	h := s.w.farm.Host(args[0])
	if h == nil {
		ts.Fatalf("no host is called %s", args[0])
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	// The host writes down what it took behind its reply, so the relay may know of it first.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got, _ := h.Await(ctx, n)
	if len(got) != n {
		ts.Fatalf("%s took %d messages, want %d", args[0], len(got), n)
	}
	for _, m := range got {
		if len(args) > 2 && (m.TLS != 0) != (args[2] == "tls") {
			ts.Fatalf("%s took a message with TLS version %#x, want %s", args[0], m.TLS, args[2])
		}
	}
}

// disconnect HOST: the sessions that it has with the relay end, pooled ones among them.
func (s *scenario) disconnect(_ *testscript.TestScript, args []string) {
	s.w.farm.Host(args[0]).Disconnect()
}

// noclear HOST: no envelope was ever seen in clear there.
func (s *scenario) noClear(ts *testscript.TestScript, args []string) {
	if c := s.w.farm.Host(args[0]).ClearEnvelopes(); len(c) > 0 {
		ts.Fatalf("%s saw envelopes in clear: %+v", args[0], c)
	}
}

// become HOST KIND: sessions that begin from now on meet another kind.
func (s *scenario) become(ts *testscript.TestScript, args []string) {
	k, ok := relaytest.KindNamed(args[1])
	if !ok {
		ts.Fatalf("no kind of receiver is called %q", args[1])
	}
	s.w.farm.Host(args[0]).Become(k.Behaviour(s.w.certificate(args[0], k.Certificate)))
}

// reload FILE [PROBLEM]: the relay gets FILE at the end of its configuration in place of
// what was there, as with SIGHUP. With PROBLEM it must be refused for that.
func (s *scenario) reload(ts *testscript.TestScript, args []string) {
	err := s.w.reload(ts.ReadFile(args[0]))
	if len(args) < 2 {
		ts.Check(err)
		return
	}
	if err == nil || !strings.Contains(err.Error(), args[1]) {
		ts.Fatalf("the reload ended with %v, want %q", err, args[1])
	}
}
