package smtpclient

import (
	"container/list"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
)

// A connection to the same host with the same identity on the same rung resumes; any
// other begins anew. The level is measured in each case.
func TestResumption(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		k := startSink(t, greetAll+"STARTTLS")
		k.tls.MaxVersion = version
		leaf, err := x509.ParseCertificate(k.tls.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		o := options()
		o.Roots = x509.NewCertPool()
		o.Roots.AddCert(leaf)
		now := time.Now()
		o.Now = func() time.Time { return now }
		p := newPool(t, o)
		meet := func(s policy.Step) policy.Evidence {
			n, e, f := p.Open(t.Context(), s)
			if f != nil {
				t.Fatal(f)
			}
			if got := results(n.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
				t.Error(got)
			}
			n.Quit()
			return e
		}
		other := step(k.addr, policy.Modern)
		other.Target.Names = []policy.Domain{"mx.example.test"}
		for _, tt := range []struct {
			name    string
			step    policy.Step
			later   time.Duration
			resumed bool
		}{
			{"the first", step(k.addr, policy.Modern), 0, false},
			{"the second", step(k.addr, policy.Modern), 0, true},
			{"another rung", step(k.addr, policy.Classical), 0, false},
			{"another identity", other, 0, false},
			{"the third, soon", step(k.addr, policy.Modern), ticketAge / 2, true},
			{"the fourth, late: resuming does not make a session younger", step(k.addr, policy.Modern), ticketAge / 2, false},
			{"the fifth: its certificate has run out, and the host may have another", step(k.addr, policy.Modern), 0, false},
		} {
			now = now.Add(tt.later)
			e := meet(tt.step)
			if e.Resumed != tt.resumed {
				t.Errorf("%s, TLS %x: resumed is %v", tt.name, version, e.Resumed)
			}
			if want := now.Before(leaf.NotAfter); (e.Level() == policy.Verified) != want {
				t.Errorf("%s: level %v, the certificate is good: %v", tt.name, e.Level(), want)
			}
		}
	}
}

// A host that cannot bear to be asked for resumption is met anew, on the same rung.
func TestResumptionThatFails(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	k := startSink(t, greetAll+"STARTTLS")
	k.tls.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(h.Extensions, 41) { // pre_shared_key
			asked.Add(1)
			return nil, errors.New("no")
		}
		return nil, nil
	}
	o := options()
	o.Roots = trusting(t, k.tls.Certificates[0])
	p := newPool(t, o)
	for range 3 {
		s := open1(t, p, step(k.addr, policy.Modern))
		if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
			t.Error(got)
		}
		s.Quit()
	}
	if asked.Load() == 0 {
		t.Error("the host was never asked")
	}
	if n := p.held(); n != 0 {
		t.Errorf("%d slots are held", n)
	}
}

// trusting are roots that hold a certificate.
func trusting(t *testing.T, certs ...tls.Certificate) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(leaf)
	}
	return roots
}

// A host that gets a better certificate and still knows its old tickets is judged by the new one at once: whether it
// had proved nothing before, or what it had proved is not enough any more.
func TestMendedCertificate(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		v := newProvider(t, "PIPELINING", nil)
		v.tls.MaxVersion = version
		good := v.ca.Leaf(policytest.LeafOptions{Names: []string{string(nameA)}})
		soonOver := v.ca.Leaf(policytest.LeafOptions{Names: []string{string(nameA)}, NotAfter: v.now.Add(time.Minute)})
		own := v.ca.Leaf(policytest.LeafOptions{Names: []string{string(nameA)}, SelfSigned: true})
		strict := func(s *policy.Step) { s.Target.Floor.Level = policy.Verified }
		for _, tt := range []struct {
			name    string
			shows   tls.Certificate
			later   time.Duration
			change  []func(*policy.Step)
			level   policy.Level
			resumed bool
		}{
			{"its own", own, 0, nil, policy.Encrypted, false},
			{"its own, again", own, 0, nil, policy.Encrypted, false},
			{"mended", soonOver, 0, []func(*policy.Step){strict}, policy.Verified, false},
			{"and again", soonOver, 0, nil, policy.Verified, true},
			{"renewed when the old one has run out", good, 2 * time.Minute, []func(*policy.Step){strict}, policy.Verified, false},
			{"and again", good, 0, []func(*policy.Step){strict}, policy.Verified, true},
		} {
			v.show(string(nameA), tt.shows)
			v.now = v.now.Add(tt.later)
			n, e, f := v.p.Open(t.Context(), v.step(nameA, tt.change...))
			if f != nil {
				t.Fatalf("TLS %x, %s: %v", version, tt.name, f)
			}
			n.Send(t.Context(), mail(hello, "b@example.test")) // a ticket of TLS 1.3 comes with the first reply
			n.Quit()
			if e.Level() != tt.level || e.Resumed != tt.resumed {
				t.Errorf("TLS %x, %s: level %v, resumed %v, want %v, %v", version, tt.name, e.Level(), e.Resumed, tt.level, tt.resumed)
			}
		}
		if n := v.p.held(); n != 0 {
			t.Errorf("%d slots are held", n)
		}
	}
}

func TestTicketsAreBounded(t *testing.T) {
	t.Parallel()
	ts := &tickets{byKey: map[key]*list.Element{}}
	now := time.Now()
	at := func(i int) key { return key{identity: strings.Repeat("x", i)} }
	for i := range maxTickets + 10 {
		ts.for1(at(i), now).Put("", &tls.ClientSessionState{})
		if _, ok := ts.for1(at(0), now).Get(""); !ok {
			t.Fatalf("the one in use went after %d", i)
		}
	}
	if n := len(ts.byKey); n != maxTickets || ts.order.Len() != n {
		t.Errorf("%d tickets, %d in order, want %d", n, ts.order.Len(), maxTickets)
	}
	if _, ok := ts.for1(at(1), now).Get(""); ok {
		t.Error("the longest unused is still there")
	}
}

// One that stalls counts for a second.
func TestTurnstile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := make(turnstile, 2)
		s.enter(nil) // stalls for ever
		leave := s.enter(nil)
		leave()
		leave()
		second := s.enter(nil)
		began := time.Now()
		third := s.enter(nil)
		if took := time.Since(began); took != yieldTime {
			t.Errorf("waited for %v", took)
		}
		over := make(chan struct{})
		close(over)
		s.enter(over)() // nobody is kept who has no time
		second()
		third()
		synctest.Wait()
		if len(s) != 0 {
			t.Errorf("%d places are taken", len(s))
		}
		time.Sleep(2 * yieldTime)
	})
}
