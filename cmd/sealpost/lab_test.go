package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay"
)

// The lab is hundreds of domains behind a real validating unbound, each with hosts of its
// own, and one relay that mails them all. What a row expects is what the RFC's clause in
// its name says, not what the code does.

// labRow is one scenario.
type labRow struct {
	// name is the clause and what is so.
	name string
	// hosts are kinds of relaytest, best preference first: "modern no-tls"; "=" joins
	// those of equal preference.
	hosts string
	// setup is what is special about the zones, hosts and policies: see labSite.do.
	setup string
	// want is what must come of the message: see labSite.check.
	want string
	// rule is the rest of a [[policy.rule]] for the domain; with a match of its own, all of it.
	rule string
	// send is what is special about the message, parted by " / ": header lines, "REQUIRETLS"
	// for the parameter, "<>" for the empty reverse path.
	send string
	// then are steps that follow, "setup => want" each, with the same message again.
	then []string
}

// labSlots is how many rows are under way at once: enough to hide what waits, few enough
// that the time limits of the relay are not reached for want of a processor.
const labSlots = 24

// lab is a relay with a domain for each row.
type lab struct {
	*world
	sites []*labSite
}

// labSite is one row with its domain.
type labSite struct {
	labRow
	lab     *lab
	t       *rowT
	domain  policy.Domain
	zone    string // the hosts' own
	hosts   []*labHost
	stsID   int
	sent    int
	mark    map[int]int // host: commands before the step
	started time.Time
	clear   map[int]bool // hosts at which clear text was expected
	ids     []string
}

// labPart is rows that share a relay; more is its configuration.
type labPart struct {
	name, more string
	rows       []labRow
	after      func(*testing.T, *lab) // more to look at; nil: nothing
}

// TestLab runs all parts, each with a relay and an unbound of its own.
func TestLab(t *testing.T) {
	slots, scenarios := make(chan struct{}, labSlots), 0
	t.Run("parts", func(t *testing.T) {
		for _, p := range []labPart{labDANE(), labMTASTS(), labFloors(t), labSomeKnobs(), labNoDANE(), labUnbelieved()} {
			scenarios += len(p.rows)
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				l := p.run(t, slots)
				if p.after != nil {
					p.after(t, l)
				}
			})
		}
	})
	t.Logf("the lab: %d scenarios", scenarios)
}

// run mails all rows and judges them. On a machine that is short of processor time unbound
// gives up on questions that the zones would have answered: a row in which that shows is
// carried out anew, with a domain of its own, and the log says so. A row that failed in another way
// has failed.
func (p *labPart) run(t *testing.T, slots chan struct{}) *lab {
	t.Helper()
	l := carryOut(t, p.more, p.rows, slots)
	for range 3 {
		var again []labRow
		for _, s := range l.sites {
			if s.starved() {
				again = append(again, s.labRow)
			}
		}
		if len(again) == 0 {
			break
		}
		t.Logf("the resolver was short of processor time: %d rows anew", len(again))
		for _, s := range carryOut(t, p.more, again, slots).sites {
			i := slices.IndexFunc(l.sites, func(old *labSite) bool { return old.name == s.name })
			l.sites[i] = s
		}
	}
	steps := 0
	for _, s := range l.sites {
		steps += 1 + len(s.then)
		t.Run(s.name, func(t *testing.T) {
			for _, e := range s.t.errors {
				t.Errorf("%s: %s", s.domain, e)
			}
		})
	}
	t.Logf("%d scenarios in %d steps", len(l.sites), steps)
	return l
}

// starved reports whether the row failed for a resolver that gave up.
func (s *labSite) starved() bool {
	return slices.ContainsFunc(s.t.errors, func(e string) bool {
		return strings.Contains(e, "dns-unknown") || strings.Contains(e, "tlsa-unknown") || strings.Contains(e, "4.4.3") ||
			strings.Contains(e, "mta-sts") && strings.Contains(e, "wanted plaintext by default") // the policy's record was not had in time
	})
}

// carryOut mails all rows.
func carryOut(t *testing.T, more string, rows []labRow, slots chan struct{}) *lab {
	t.Helper()
	l := openLab(t, more, rows)
	var wg sync.WaitGroup
	for _, s := range slices.SortedStableFunc(slices.Values(l.sites), func(a, b *labSite) int { return b.patience() - a.patience() }) {
		s.t = &rowT{TB: t, ctx: t.Context()}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			done := make(chan struct{})
			go func() { // a goroutine of its own: Fatal ends it
				defer close(done)
				s.run()
			}()
			<-done
		})
	}
	wg.Wait()
	return l
}

// patience is how long a row takes, more or less: what takes long begins first.
func (s *labSite) patience() int {
	return strings.Count(s.setup, "timeout")*10 + strings.Count(s.setup+s.labRow.hosts, "stall")*3 + len(s.then)
}

// openLab makes internet, unbound and relay.
func openLab(t *testing.T, more string, rows []labRow) *lab {
	t.Helper()
	l := &lab{}
	var list []exchanger
	names := map[string]bool{}
	for i, r := range rows {
		if names[r.name] {
			t.Fatalf("two rows are called %q", r.name)
		}
		names[r.name] = true
		s := &labSite{labRow: r, lab: l, domain: policy.Domain(fmt.Sprintf("d%03d.example", i)), zone: fmt.Sprintf("h%03d.example", i),
			mark: map[int]int{}, clear: map[int]bool{}}
		for j, group := range strings.Fields(cmp.Or(r.hosts, "modern")) {
			for k := range strings.SplitSeq(group, "=") {
				h := &labHost{name: fmt.Sprintf("mx%d.%s", len(s.hosts)+1, s.zone), kind: kind(t, k), index: len(list)}
				s.hosts = append(s.hosts, h)
				list = append(list, exchanger{domain: string(s.domain), preference: uint16(10 * (j + 1)), host: h.name, kind: h.kind})
			}
		}
		l.sites = append(l.sites, s)
	}
	n, err := openInternet(context.Background(), list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.close() })
	l.world = &world{internet: n}
	setup := &rowT{TB: t, ctx: t.Context()}
	var apart []string
	rules := ""
	for _, s := range l.sites {
		s.t = setup
		for _, h := range s.hosts {
			h.host, h.ca = n.farm.Hosts[h.index], n.ca
			h.cert = n.certificate(h.name, h.kind.Certificate)
			h.become()
		}
		s.script(s.setup)
		if labShunned.MatchString(s.setup) {
			apart = append(apart, string(s.domain), s.zone)
		}
		if s.rule != "" {
			rules += "[[policy.rule]]\n"
			if !strings.Contains(s.rule, "match") {
				rules += fmt.Sprintf("match = { domain = [%q] }\n", s.domain)
			}
			rules += strings.ReplaceAll(s.expand(s.rule), " / ", "\n") + "\n"
		}
	}
	for _, e := range setup.errors {
		t.Fatal(e)
	}
	resolver := labResolver(t, n.zones, apart)
	n.zones.Zone("bogus.example", policytest.Bogus)
	n.zones.A("bogus.example", "127.0.0.1")
	n.zones.A("fine.example", "127.0.0.1")
	if !strings.Contains(more, "[dns.selftest]") {
		more += labSelftest
	}
	l.world = secureWorldAt(t, n, resolver, labConf+more+rules)
	set := *l.house.rules.Load()
	set.Rules = slices.Clone(set.Rules)
	for i := range set.Rules {
		labNote(&set.Rules[i])
	}
	l.house.rules.Store(&set)
	return l
}

// labConf is the relay's configuration: what failed is not tried again by itself.
const labConf = `
[retry]
schedule = ["1h"]
`

const labSelftest = `
[dns.selftest]
bogus = "bogus.example"
`

// labShunned are faults for which unbound thinks less of the server.
var labShunned = regexp.MustCompile(`timeout|refused|notimp|formerr`)

// labResolver starts unbound; names in apart are asked for in a way that one which never
// answers makes unbound shun the server for that name only.
func labResolver(t *testing.T, z *policytest.Zones, apart []string) string {
	t.Helper()
	u, err := policytest.StartUnbound(context.WithoutCancel(t.Context()), z, apart...)
	switch {
	case errors.Is(err, policytest.ErrNoUnbound) && os.Getenv("SEALPOST_REAL") == "required":
		t.Fatal(err)
	case errors.Is(err, policytest.ErrNoUnbound):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u.Addr
}

// run mails the row's message, and the steps that follow.
func (s *labSite) run() {
	s.step("", s.want)
	for _, step := range s.then {
		do, want, _ := strings.Cut(step, "=>")
		s.step(strings.TrimSpace(do), strings.TrimSpace(want))
	}
}

// step changes something, mails, waits for the attempt and judges it.
func (s *labSite) step(do, want string) {
	retry := false
	if do != "" {
		before := time.Now()
		s.script(strings.TrimSuffix(do, "retry"))
		retry = strings.HasSuffix(do, "retry")
		s.settle(before)
	}
	for i, h := range s.hosts {
		s.mark[i] = len(h.host.Commands())
		h.accepted = len(h.host.Accepted())
		h.sessions = len(h.host.Sessions())
	}
	s.started = time.Now()
	s.sent++
	if retry {
		s.retry()
	} else {
		s.mail()
	}
	s.check(want, s.lab.await(s.t, string(s.domain), s.sent))
}

// settle waits until the relay knows nothing from before a change: unbound keeps answers
// for a second, and the relay keeps what is left of that.
func (s *labSite) settle(changed time.Time) {
	scout := s.lab.house.scout
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-s.t.Context().Done():
			s.t.Fatal("the test is over")
		}
		if time.Since(changed) < 2100*time.Millisecond {
			continue
		}
		scout.Forget(s.domain)
		f, err := scout.Facts(s.t.Context(), s.domain)
		if err != nil {
			s.t.Fatal(err)
		}
		if f.At.After(changed.Add(2 * time.Second)) {
			tick.Stop()
			return
		}
	}
}

// mail hands the row's message in.
func (s *labSite) mail() {
	from, params, header, auth := "reviews@shop.example", "", "", ""
	for part := range strings.SplitSeq(s.send, " / ") {
		switch {
		case part == "":
		case part == "<>":
			from = ""
		case part == "REQUIRETLS":
			params = " REQUIRETLS"
		case strings.HasPrefix(part, "AUTH "):
			auth = "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+part[len("AUTH "):]+"\x00"+labPassword))
		default:
			header += part + "\r\n"
		}
	}
	c, err := secureSession(s.lab.submission())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	for _, d := range []struct {
		line string
		code int
	}{
		{auth, 235}, {"MAIL FROM:<" + from + ">" + params, 250}, {"RCPT TO:<ann@" + string(s.domain) + ">", 250}, {"DATA", 354},
		{header + "Subject: how was it?\r\n\r\nTell us.\r\n.", 250},
	} {
		if d.line == "" {
			continue
		}
		if err := c.PrintfLine("%s", d.line); err != nil {
			s.t.Fatal(err)
		}
		_, text, err := c.ReadResponse(d.code)
		if err != nil {
			s.t.Fatalf("%.50q: %v", d.line, err)
		}
		s.ids = append(s.ids, text[strings.LastIndexByte(text, ' ')+1:])
	}
}

// rowT is what a row's goroutine has in place of a testing.T: errors are kept for the
// row's own subtest.
type rowT struct {
	testing.TB
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

func (t *rowT) Helper()                  {}
func (t *rowT) Context() context.Context { return t.ctx }
func (t *rowT) Output() io.Writer        { return t.TB.Output() }

func (t *rowT) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors = append(t.errors, fmt.Sprintf(format, args...))
}

func (t *rowT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

func (t *rowT) Fatal(args ...any) { t.Fatalf("%s", fmt.Sprint(args...)) }

func describe(a *relay.Attempt) string {
	var b strings.Builder
	fmt.Fprintf(&b, "achieved %s, wanted %s by %s; trace", a.Achieved, a.Wanted, a.Basis)
	for _, s := range a.Trace {
		fmt.Fprintf(&b, " %s/%s:%s", s.Host, s.Rung, s.Reason)
		if s.Detail != "" {
			fmt.Fprintf(&b, "(%.120s)", s.Detail)
		}
	}
	if a.Failure != nil {
		fmt.Fprintf(&b, "; %s %v", a.Failure.Code(), a.Failure)
	}
	return b.String()
}
