package smtpclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay"
)

// provider is a host with many names.
type provider struct {
	*sink
	ca  *policytest.CA
	p   *Pool
	now time.Time

	mu    sync.Mutex
	shows map[string]*tls.Certificate // by SNI
	// refuses is the answer to a line on a connection for a name; nil: none.
	refuses func(sni, line string) string
	rcpts   []string // "SNI recipient", those that were accepted
}

func newProvider(t *testing.T, caps string, change func(*Options)) *provider {
	t.Helper()
	v := &provider{sink: startSink(t, "STARTTLS "+caps), ca: policytest.NewCA(), now: time.Now(), shows: map[string]*tls.Certificate{}}
	v.tls.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.shows[h.ServerName], nil
	}
	v.answer = func(sni, line string) (a string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.refuses != nil {
			a = v.refuses(sni, line)
		}
		if a == "" && strings.HasPrefix(line, "RCPT") {
			v.rcpts = append(v.rcpts, sni+" "+strings.TrimSuffix(strings.TrimPrefix(line, "RCPT TO:<"), ">"))
		}
		return a
	}
	o := options()
	o.Roots, o.Now = v.ca.Pool(), func() time.Time { return v.now }
	if change != nil {
		change(&o)
	}
	v.p = newPool(t, o)
	return v
}

func (v *provider) show(name string, c tls.Certificate) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shows[name] = &c
}

func (v *provider) step(name policy.Domain, change ...func(*policy.Step)) policy.Step {
	s := step(v.addr, policy.Modern)
	s.Target.Host, s.Target.SNI = name, name
	for _, c := range change {
		c(&s)
	}
	return s
}

// meeting is what came of one message.
type meeting struct {
	as       string // the name for which its connection was opened
	reused   bool
	level    policy.Level
	evidence policy.Evidence
	results  []string
}

// meet sends a message; the connection ends with it when it is to be gone.
func (v *provider) meet(t *testing.T, s policy.Step, gone bool, rcpts ...string) (m meeting) {
	t.Helper()
	n := open1(t, v.p, s)
	m.level, m.evidence = n.Evidence().Level(), n.Evidence()
	m.evidence.Resumed = false
	if rcpts == nil {
		rcpts = []string{"x@example.test"}
	}
	m.results = results(n.Send(t.Context(), mail(hello, rcpts...)))
	m.as, m.reused = string(n.c.key.host), n.Reused()
	if gone {
		n.Quit()
	} else {
		n.Release()
	}
	return m
}

const (
	nameA = policy.Domain("a.mx.test")
	nameB = policy.Domain("b.mx.test")
)

// When the connection of one name carries the mail of another: only where what it proves
// is what that name's own connection proves, to the last field.
func TestCoalesce(t *testing.T) {
	t.Parallel()
	floor := func(l policy.Level, r policy.Route) func(*policy.Step) {
		return func(s *policy.Step) { s.Target.Floor.Level, s.Target.Route = l, r }
	}
	records := func(rs ...policy.TLSARecord) func(*policy.Step) {
		return func(s *policy.Step) {
			s.Target.TLSA, s.Target.Names = rs, []policy.Domain{s.Target.Host}
		}
	}
	both := []string{"*.mx.test"}
	tests := []struct {
		name    string
		shows   [2][]string // names in the certificates of A and B; B's empty: it shows A's
		b       func(v *provider) []func(*policy.Step)
		between func(v *provider) // after both were met
		host    func(v *provider)
		shared  bool
		level   policy.Level
		tooWeak bool
	}{
		{name: "one certificate for both", shows: [2][]string{both}, shared: true, level: policy.Verified},
		{name: "one certificate, a floor that it reaches", shows: [2][]string{both}, shared: true, level: policy.Verified,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.Verified, policy.RouteNone)}
			}},
		{name: "another certificate with the same names", shows: [2][]string{both, both}, level: policy.Verified},
		{name: "good for A only: B is met as on its own", shows: [2][]string{{"a.mx.test"}}, shared: true, level: policy.Encrypted},
		{name: "good for A only, and B asks for more", shows: [2][]string{{"a.mx.test"}}, level: policy.Encrypted, tooWeak: true,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.Verified, policy.RouteNone)}
			}},
		{name: "DANE that matches", shows: [2][]string{both}, shared: true, level: policy.DANE,
			b: func(v *provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.DANE, policy.RouteDNSSEC), records(policytest.TLSA(v.shows[string(nameA)].Leaf, 3, 1, 1))}
			}},
		{name: "DANE that does not", shows: [2][]string{both}, level: policy.Verified, tooWeak: true,
			b: func(v *provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.DANE, policy.RouteDNSSEC), records(policytest.TLSA(v.ca.Certificate(), 3, 1, 1))}
			}},
		{name: "MTA-STS", shows: [2][]string{both}, shared: true, level: policy.MTASTS,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.MTASTS, policy.RouteSTS|policy.RouteSTSEnforce)}
			}},
		{name: "MTA-STS, and the certificate is A's only", shows: [2][]string{{"a.mx.test"}}, level: policy.Encrypted, tooWeak: true,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){floor(policy.MTASTS, policy.RouteSTS|policy.RouteSTSEnforce)}
			}},
		{name: "in the clear", shows: [2][]string{both}, level: policy.Plaintext,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){func(s *policy.Step) { s.Rung = policy.Clear }}
			}},
		{name: "another rung", shows: [2][]string{both}, level: policy.Verified,
			b: func(*provider) []func(*policy.Step) {
				return []func(*policy.Step){func(s *policy.Step) { s.Rung = policy.Classical }}
			}},
		{name: "TLS 1.2", shows: [2][]string{both}, shared: true, level: policy.Verified,
			host: func(v *provider) { v.tls.MaxVersion = tls.VersionTLS12 }},
		{name: "few domains on a connection", shows: [2][]string{both}, level: policy.Verified,
			host: func(v *provider) { v.caps = append(v.caps, "LIMITS RCPTDOMAINMAX=5") }},
		{name: "B was met an hour ago", shows: [2][]string{both}, level: policy.Verified,
			between: func(v *provider) { v.now = v.now.Add(faceAge) }},
		{name: "B was met less than an hour ago", shows: [2][]string{both}, shared: true, level: policy.Verified,
			between: func(v *provider) { v.now = v.now.Add(faceAge - time.Second) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newProvider(t, "PIPELINING CHUNKING", nil)
			a := v.ca.Leaf(policytest.LeafOptions{Names: tt.shows[0]})
			v.show(string(nameA), a)
			v.show(string(nameB), a)
			if tt.shows[1] != nil {
				v.show(string(nameB), v.ca.Leaf(policytest.LeafOptions{Names: tt.shows[1]}))
			}
			if tt.host != nil {
				tt.host(v)
			}
			b := v.step(nameB)
			if tt.b != nil {
				b = v.step(nameB, tt.b(v)...)
			}
			v.meet(t, v.step(nameA), false)
			own := v.meet(t, b, true)
			if own.as != string(nameB) {
				t.Fatal("a name that nobody has met is taken for another one")
			}
			if tt.between != nil {
				tt.between(v)
			}
			got := v.meet(t, b, false)
			if shared := got.as == string(nameA); shared != tt.shared || got.reused != tt.shared || got.results[0] != "ok 250" {
				t.Errorf("B's mail went over the connection of %s, reused %v: %v", got.as, got.reused, got.results)
			}
			if got.level != tt.level || !reflect.DeepEqual(got.evidence, own.evidence) {
				t.Errorf("B: %v, want %v\n got %+v\nwant %+v", got.level, tt.level, got.evidence, own.evidence)
			}
			if _, f := b.Judge(got.evidence); (f != nil) != tt.tooWeak {
				t.Errorf("judged: %v", f)
			}
			if last := v.meet(t, v.step(nameA), false); last.as != string(nameA) || !last.reused {
				t.Errorf("A's connection is gone: %+v", last)
			}
		})
	}
}

// A name that shows something new is taken for what it shows now.
func TestCoalesceAfterChange(t *testing.T) {
	t.Parallel()
	v := newProvider(t, "PIPELINING", nil)
	first, second := v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}}), v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}})
	v.show(string(nameA), first)
	v.show(string(nameB), first)
	v.meet(t, v.step(nameA), false)
	v.meet(t, v.step(nameB), true)
	if m := v.meet(t, v.step(nameB), true); m.as != string(nameA) { // A's is gone, too
		t.Fatalf("B's mail went over the connection of %s", m.as)
	}
	v.show(string(nameB), second)
	v.p.tickets.drop(v.p.tickets.order.Front())
	v.p.tickets.drop(v.p.tickets.order.Front())
	v.meet(t, v.step(nameB), true) // finds out
	v.meet(t, v.step(nameA), false)
	if m := v.meet(t, v.step(nameB), true); m.as != string(nameB) {
		t.Error("B is taken for what it was")
	}
	v.show(string(nameA), second)
	v.p.tickets.drop(v.p.tickets.order.Front())
	v.meet(t, v.step(nameA), true)
	v.meet(t, v.step(nameA), false)
	if m := v.meet(t, v.step(nameB), true); m.as != string(nameA) {
		t.Error("both show the same again, and do not share")
	}
}

// A refusal, or a loss, on another name's connection counts for nothing: the same goes
// over one of the name's own, whose answer counts, and for an hour it has its own.
func TestCoalesceRefused(t *testing.T) {
	t.Parallel()
	for _, caps := range []string{"", "PIPELINING", "PIPELINING CHUNKING"} {
		for _, tt := range []struct{ what, verb, answer, only string }{
			{"a sender", "MAIL", "550 5.7.1 not you", ""},
			{"a sender for now", "MAIL", "450 4.7.1 not you", ""},
			{"relaying", "RCPT", "550 5.7.1 relaying denied", ""},
			{"one recipient of two", "RCPT", "450 4.2.1 not here", "two@"},
			{"all at DATA", "DATA", "554 5.7.1 no", ""},
			{"a chunk", "BDAT", "554 5.7.1 no", ""},
			{"the connection", "RCPT", "421 4.7.0 go away", ""},
			{"without a word", "RCPT", hangUp, ""},
			{"in no language", "RCPT", "354 what?", ""},
		} {
			if tt.verb == "DATA" && strings.Contains(caps, "CHUNKING") || tt.verb == "BDAT" && !strings.Contains(caps, "CHUNKING") {
				continue
			}
			for _, everywhere := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, everywhere %v", tt.what, caps, everywhere), func(t *testing.T) {
					t.Parallel()
					v := newProvider(t, caps, nil)
					leaf := v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}})
					v.show(string(nameA), leaf)
					v.show(string(nameB), leaf)
					v.meet(t, v.step(nameA), false)
					v.meet(t, v.step(nameB), true)
					v.mu.Lock()
					v.rcpts = nil
					v.refuses = func(sni, line string) string {
						if (everywhere || sni == string(nameA)) && strings.HasPrefix(line, tt.verb) && strings.Contains(line, tt.only) {
							return tt.answer
						}
						return ""
					}
					v.mu.Unlock()
					m := v.meet(t, v.step(nameB), true, "one@example.test", "two@example.test")
					// With a whole message in one flight nobody knows what became of it, as ever.
					uncertain := strings.Contains(caps, "CHUNKING") && tt.verb == "RCPT" && (tt.answer == hangUp || tt.answer[0] == '3')
					if (m.as != string(nameB)) != uncertain {
						t.Errorf("it ended on the connection of %s", m.as)
					}
					if got := fmt.Sprint(m.results); strings.Contains(got, "ok 250 ok 250") == (everywhere || uncertain) {
						t.Errorf("results: %v", got)
					}
					v.mu.Lock()
					accepted := len(slices.DeleteFunc(slices.Clone(v.rcpts), func(r string) bool { return !strings.HasPrefix(r, string(nameB)) }))
					v.refuses = nil
					v.mu.Unlock()
					want := map[bool]int{true: 2, false: 1}[tt.only == ""]
					if !everywhere && !uncertain && accepted != want {
						t.Errorf("%d recipients went over B's own connection, want %d", accepted, want)
					}
					v.meet(t, v.step(nameA), false)
					if m := v.meet(t, v.step(nameB), true); m.as != string(nameB) {
						t.Error("B is on A's connection again, at once")
					}
					v.now = v.now.Add(faceAge)
					v.meet(t, v.step(nameA), false)
					v.meet(t, v.step(nameB), true)
					if m := v.meet(t, v.step(nameB), true); m.as != string(nameA) {
						t.Error("B is not on A's connection, an hour later")
					}
				})
			}
		}
	}
}

// Others' connections are there for those who come while all are in use: beside their
// users where there are seats, behind them where there are none.
func TestCoalesceWhileBusy(t *testing.T) {
	t.Parallel()
	for _, window := range []int{1, 8} {
		v := newProvider(t, "PIPELINING", func(o *Options) { o.ConnectionsPerHost, o.Window = 1, window })
		leaf := v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}})
		v.show(string(nameA), leaf)
		v.show(string(nameB), leaf)
		v.meet(t, v.step(nameB), true)
		v.meet(t, v.step(nameA), false) // its window is open
		a := open1(t, v.p, v.step(nameA))
		came := make(chan relay.Session)
		go func() {
			s, _, _ := v.p.Open(t.Context(), v.step(nameB))
			came <- s
		}()
		if window == 1 {
			until(t, "B to wait", func() bool {
				v.p.mu.Lock()
				defer v.p.mu.Unlock()
				return len(v.p.hosts[a.key.place].waiters) == 1
			})
		}
		c := a.c
		if window == 1 {
			a.Release()
		}
		s := <-came
		if s.(*session).c != c {
			t.Errorf("window %d: B has a connection of its own", window)
		}
		s.Release()
		a.Release()
	}
}

// What a face is made of. A new field of extensions is part of it by itself.
func TestFace(t *testing.T) {
	t.Parallel()
	ca := policytest.NewCA()
	chain := func() (list []*x509.Certificate) {
		for _, der := range ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}, WithRoot: true}).Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, c)
		}
		return list
	}
	shown, other := chain(), chain()
	make1 := func(change func(*conn)) face {
		c := &conn{tls: &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: 1, CurveID: 2, PeerCertificates: shown}}
		c.key = key{hostKey: hostKey{nameA, somewhere}, place: relay.Place{Addr: somewhere}, rung: policy.Modern, identity: "a"}
		change(c)
		return faceOf(c)
	}
	same := make1(func(*conn) {})
	for _, tt := range []struct {
		name   string
		change func(*conn)
		same   bool
	}{
		{"another name", func(c *conn) { c.key.host, c.key.identity = nameB, "b" }, true},
		{"another leaf", func(c *conn) { c.tls.PeerCertificates = other }, false},
		{"without the root", func(c *conn) { c.tls.PeerCertificates = shown[:1] }, false},
		{"another port", func(c *conn) { c.key.addr = netip.AddrPortFrom(somewhere.Addr(), 26) }, false},
		{"a provider's limits", func(c *conn) { c.key.place = relay.Place{Provider: "mx.test"} }, false},
		{"another rung", func(c *conn) { c.key.rung = policy.Classical }, false},
		{"another version", func(c *conn) { c.tls.Version = tls.VersionTLS12 }, false},
		{"another suite", func(c *conn) { c.tls.CipherSuite = 9 }, false},
		{"another group", func(c *conn) { c.tls.CurveID = 9 }, false},
		{"REQUIRETLS", func(c *conn) { c.ext.requireTLS = true }, false},
		{"another size", func(c *conn) { c.ext.maxSize = 1 }, false},
	} {
		if got := make1(tt.change); got.none() || (got == same) != tt.same {
			t.Errorf("%s: %x", tt.name, got)
		}
	}
	if !make1(func(c *conn) { c.tls = nil }).none() || !make1(func(c *conn) { c.tls.PeerCertificates = nil }).none() {
		t.Error("a host that shows no certificate has a face")
	}
}

// What is remembered is bounded.
func TestFacesAreBounded(t *testing.T) {
	t.Parallel()
	p := newPool(t, options())
	now := p.o.Now()
	nth := func(i int) key { return key{identity: fmt.Sprint(i)} }
	for i := range maxFaces + 10 {
		p.faces.saw(nth(i), face{1}, false, now)
		p.faces.of(nth(0), now) // the one that is used stays
	}
	if len(p.faces.byKey) != maxFaces || p.faces.order.Len() != maxFaces {
		t.Errorf("%d are remembered", len(p.faces.byKey))
	}
	if p.faces.of(nth(0), now).none() || !p.faces.of(nth(1), now).none() {
		t.Error("it is not the longest unused that went")
	}
}
