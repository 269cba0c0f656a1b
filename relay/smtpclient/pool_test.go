package smtpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watcher counts what an Observer is told.
type watcher struct {
	mu                             sync.Mutex
	opened, closed, reused, shaken int
	failed                         []policy.Reason
	version                        uint16
}

func (w *watcher) ConnectionOpened(time.Duration) { w.mu.Lock(); w.opened++; w.mu.Unlock() }
func (w *watcher) ConnectionClosed()              { w.mu.Lock(); w.closed++; w.mu.Unlock() }
func (w *watcher) ConnectionReused()              { w.mu.Lock(); w.reused++; w.mu.Unlock() }
func (w *watcher) OpenFailed(r policy.Reason) {
	w.mu.Lock()
	w.failed = append(w.failed, r)
	w.mu.Unlock()
}
func (w *watcher) HandshakeDone(cs tls.ConnectionState, _ time.Duration) {
	w.mu.Lock()
	w.shaken++
	w.version = cs.Version
	w.mu.Unlock()
}

func (w *watcher) counts() [4]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return [4]int{w.opened, w.closed, w.reused, w.shaken}
}

func open1(t *testing.T, p *Pool, s policy.Step) *session {
	t.Helper()
	n, _, f := p.Open(t.Context(), s)
	if f != nil {
		t.Fatal(f)
	}
	return n.(*session)
}

// until waits for a condition that other goroutines make true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("in vain waited for: " + what)
		}
	}
}

func TestReuse(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll+"STARTTLS")
	w := &watcher{}
	o := options()
	o.Observer = w
	p := newPool(t, o)
	st := step(k.addr, policy.Modern)
	for i := range 3 {
		s := open1(t, p, st)
		if s.Reused() != (i > 0) {
			t.Errorf("message %d: Reused is %v", i, s.Reused())
		}
		if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
			t.Error(got)
		}
		s.Release()
		s.Release() // harmless
	}
	p.Close()
	if got := w.counts(); got != [4]int{1, 1, 2, 1} || w.version != tls.VersionTLS13 {
		t.Errorf("opened, closed, reused, handshakes: %v, version %x", got, w.version)
	}
	if s, _, f := p.Open(t.Context(), st); f == nil || f.Reason != policy.Interrupted {
		t.Errorf("a closed pool gives %v, %v", s, f)
	}
}

// F15: what must be equal for a connection to be shared.
func TestKey(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll+"STARTTLS")
	base := step(k.addr, policy.Modern)
	change := func(fn func(s *policy.Step, t *policy.Target)) policy.Step {
		s, target := base, *base.Target
		s.Target = &target
		fn(&s, s.Target)
		return s
	}
	record := []policy.TLSARecord{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}}
	tests := []struct {
		name string
		step policy.Step
		same bool
	}{
		{"the same again", change(func(*policy.Step, *policy.Target) {}), true},
		{"another floor: judged, not keyed", change(func(_ *policy.Step, t *policy.Target) { t.Floor.Level = policy.Verified }), true},
		{"another preference", change(func(_ *policy.Step, t *policy.Target) { t.Preference = 99 }), true},
		{"another host", change(func(_ *policy.Step, t *policy.Target) { t.Host = "mx2.example.test" }), false},
		{"another SNI", change(func(_ *policy.Step, t *policy.Target) { t.SNI = "mx2.example.test" }), false},
		{"another rung", change(func(s *policy.Step, _ *policy.Target) { s.Rung = policy.Classical }), false},
		{"clear", change(func(s *policy.Step, _ *policy.Target) { s.Rung = policy.Clear }), false},
		{"TLSA", change(func(_ *policy.Step, t *policy.Target) { t.TLSA = record }), false},
		{"names", change(func(_ *policy.Step, t *policy.Target) { t.Names = []policy.Domain{"example.test"} }), false},
	}
	for _, tt := range tests {
		p := newPool(t, options())
		s := open1(t, p, base)
		s.Release()
		s = open1(t, p, tt.step)
		if s.Reused() != tt.same {
			t.Errorf("%s: reused is %v, want %v", tt.name, s.Reused(), tt.same)
		}
		s.Quit()
		p.Close()
	}
}

func TestMessagesPerConnection(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll)
	o := options()
	o.MessagesPerConnection = 2
	p := newPool(t, o)
	var reused []bool
	for range 5 {
		s := open1(t, p, step(k.addr, policy.Clear))
		reused = append(reused, s.Reused())
		s.Send(t.Context(), mail(hello, "b@example.test"))
		s.Release()
	}
	if want := []bool{false, true, false, true, false}; !slices.Equal(reused, want) {
		t.Errorf("reused: %v, want %v", reused, want)
	}
}

// An idle session ends after its time; its slot is free again.
func TestIdleTime(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetPlain+"C: QUIT", greetPlain+"C: QUIT")
	o := options()
	o.IdleTime = 20 * time.Millisecond
	p := newPool(t, o)
	open1(t, p, step(h.addr, policy.Clear)).Release()
	until(t, "the idle session to end", func() bool { return p.held() == 0 })
	if s := open1(t, p, step(h.addr, policy.Clear)); s.Reused() {
		t.Error("reused")
	} else {
		s.Release()
	}
}

func TestMaxIdle(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll)
	o := options()
	o.MaxIdle = 2
	p := newPool(t, o)
	var held []*session
	for i := range 4 {
		st := step(k.addr, policy.Clear)
		st.Target.Host = policy.Domain('a'+rune(i)) + ".example.test"
		held = append(held, open1(t, p, st))
	}
	for _, s := range held {
		s.Release()
	}
	if n := p.held(); n != 2 {
		t.Errorf("%d connections are kept, want 2", n)
	}
	st := step(k.addr, policy.Clear)
	st.Target.Host = "a.example.test"
	s := open1(t, p, st)
	if s.Reused() {
		t.Error("the longest idle one was kept")
	}
	s.Release()
}

// The limit of connections to a host: who comes later waits, gets the session that
// is released, or the slot of one that ends; or gives up when its context does.
func TestConnectionsPerHost(t *testing.T) {
	t.Parallel()
	k := startSink(t, greetAll+"STARTTLS")
	o := options()
	o.ConnectionsPerHost = 1
	p := newPool(t, o)
	clear, modern := step(k.addr, policy.Clear), step(k.addr, policy.Modern)
	first := open1(t, p, clear)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, f := p.Open(ctx, clear); f == nil || f.Reason != policy.Interrupted {
		t.Fatalf("got %v, want interrupted", f)
	}

	got := make(chan *session)
	next := func(s policy.Step) {
		before := p.waiting()
		go func() {
			n, _, f := p.Open(t.Context(), s)
			if f != nil {
				t.Error(f)
				got <- nil
				return
			}
			got <- n.(*session)
		}()
		until(t, "the next one to wait", func() bool { return p.waiting() > before })
	}
	next(clear)
	first.Release()
	second := <-got
	if !second.Reused() {
		t.Error("the released session was not handed on")
	}
	next(modern)
	second.Release()
	third := <-got
	if third.Reused() || third.c.tls == nil {
		t.Error("the slot was not handed on")
	}
	next(modern)
	third.Quit()
	(<-got).Release()
	if s := open1(t, p, clear); s.Reused() { // the idle one of another rung makes room
		t.Error("reused")
	} else {
		s.Release()
	}
	if n := p.held(); n != 1 {
		t.Errorf("%d slots are held, want 1", n)
	}
}

func (p *Pool) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += len(h.waiters)
	}
	return n
}

// A pooled connection that is dead is replaced, once, and only where nothing of
// the message can have been accepted.
func TestDeadInThePool(t *testing.T) {
	t.Parallel()
	good := greetGroup + mailFrom + rcptB + "C: DATA\n" + ok + ok + "S: 354 go\nBODY\n" + ok
	fine := good + "IDLE"
	again := mailFrom + rcptB + "C: DATA\n"
	tests := []struct {
		name    string
		scripts []string
		want    string
		conns   int
		reused  bool
	}{
		{"hung up while idle", []string{good + "DROP", fine}, "ok 250", 2, false},
		{"421 while idle", []string{good + "S: 421 4.4.2 idle\nDROP", fine}, "ok 250", 2, false},
		{"reset while idle", []string{good + "RESET", fine}, "ok 250", 2, false},
		{"421 to MAIL", []string{good + again + "S: 421 too many\nDROP", fine}, "ok 250", 2, false},
		{"hung up at MAIL", []string{good + again + "DROP", fine}, "ok 250", 2, false},
		{"421 at MAIL twice", []string{good + again + "S: 421 4.7.0 too many\nDROP", greetGroup + again + "S: 421 4.7.0 busy\nDROP"}, "reply-temporary 4.7.0 421", 2, false},
		{"421 to RCPT", []string{good + again + ok + "S: 421 4.7.0 no\nDROP"}, "reply-temporary 4.7.0 421", 1, true},
		{"hung up at RCPT", []string{good + again + ok + "DROP"}, "connection-lost", 1, true},
		{"hung up behind a whole flight", []string{greetAll + mailFrom + rcptB + chunk + ok + ok + ok + mailFrom + rcptB + chunk + "DROP"}, "uncertain", 1, true},
		{"new one refused", []string{good + again + "S: 421 too many\nDROP", "S: 554 5.7.1 no\nC: QUIT"}, "greeting-permanent 5.7.1", 2, true},
	}
	for _, tt := range tests {
		for _, rung := range []policy.Rung{policy.Clear, policy.Modern} {
			t.Run(tt.name+", "+rung.String(), func(t *testing.T) {
				t.Parallel()
				scripts := slices.Clone(tt.scripts)
				for i, s := range scripts {
					if rest, ok := strings.CutPrefix(s, "S: 220 mx\n"); ok && rung == policy.Modern {
						scripts[i] = offerTLS + "TLS\n" + rest
					}
				}
				h := startHost(t, scripts...)
				w := &watcher{}
				o := options()
				o.Observer = w
				p := newPool(t, o)
				s := open1(t, p, step(h.addr, rung))
				s.Send(t.Context(), mail(hello, "b@example.test"))
				s.Release()
				if s = open1(t, p, step(h.addr, rung)); s.c.element != nil {
					t.Error("a session in use is among the idle ones")
				}
				if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != tt.want {
					t.Errorf("got %q, want %q", got[0], tt.want)
				}
				if s.c != nil && s.Reused() != tt.reused {
					t.Errorf("Reused is %v", s.Reused())
				}
				s.Release()
				p.Close()
				if n := h.connections(); n != tt.conns {
					t.Errorf("%d connections, want %d", n, tt.conns)
				}
				if n := p.held(); n != 0 {
					t.Errorf("%d slots are still held", n)
				}
				if c := w.counts(); c[0] != c[1] {
					t.Errorf("%d connections opened, %d closed", c[0], c[1])
				}
			})
		}
	}
}

// The host hangs up between Open and Send: the whole flight meets a closed socket,
// whose reset proves that it was not read.
func TestFlightMeetsClosedSocket(t *testing.T) {
	t.Parallel()
	good := greetAll + mailFrom + rcptB + chunk + ok + ok + ok
	h := startHost(t, good+"WAIT\nDROP", good+"IDLE")
	p := newPool(t, options())
	s := open1(t, p, step(h.addr, policy.Clear))
	s.Send(t.Context(), mail(hello, "b@example.test"))
	s.Release()
	s = open1(t, p, step(h.addr, policy.Clear))
	if !s.Reused() {
		t.Fatal("not reused")
	}
	h.gate <- struct{}{}
	until(t, "the host to hang up", s.c.sys.pending)
	if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
		t.Error(got)
	}
	if s.Reused() || h.connections() != 2 {
		t.Errorf("Reused %v, %d connections", s.Reused(), h.connections())
	}
	s.Release()
}

// Policy, house rule 14: the connection that takes the place of a dead one is
// judged too, and nothing is sent when it proves less.
func TestReplacementIsJudged(t *testing.T) {
	t.Parallel()
	good, weak := newCertificate(t), newCertificate(t)
	leaf, err := x509.ParseCertificate(good.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	const once = offerTLS + "TLS\nC: EHLO relay.test\nS: 250-mx\nS: 250 PIPELINING\n"
	var n atomic.Int32
	h := startHostTLS(t, func(c *tls.Config) {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if n.Add(1) == 1 {
				return &good, nil
			}
			return &weak, nil
		}
		c.Certificates, c.SessionTicketsDisabled = nil, true
	}, once+mailFrom+rcptB+"C: DATA\nS: 421 bye\nDROP", once+"C: QUIT")
	o := options()
	o.Roots = x509.NewCertPool()
	o.Roots.AddCert(leaf)
	p := newPool(t, o)
	st := step(h.addr, policy.Modern)
	st.Target.Floor.Level = policy.Verified
	open1(t, p, st).Release()
	s, e, f := p.Open(t.Context(), st)
	if f != nil {
		t.Fatal(f)
	}
	if level, f := st.Judge(e); level != policy.Verified || f != nil || !s.Reused() {
		t.Fatalf("level %v, %v, reused %v", level, f, s.Reused())
	}
	if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "certificate-untrusted" {
		t.Error(got)
	}
	s.Release()
	if n := p.held(); n != 0 {
		t.Errorf("%d slots are still held", n)
	}
}
