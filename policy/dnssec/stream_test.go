package dnssec

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

// tcpServer accepts connections and hands each to its handler; it counts them.
type tcpServer struct {
	addr string
	mu   sync.Mutex
	n    int
}

func serveTCP(t *testing.T, handle func(n int, c net.Conn)) *tcpServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tcpServer{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.n++
			n := s.n
			s.mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(n, c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return s
}

func (s *tcpServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// readQuery reads one framed query; nil at the end.
func readQuery(c net.Conn) *dns.Msg {
	raw, err := readFrame(c)
	if err != nil {
		return nil
	}
	m := new(dns.Msg)
	if m.Unpack(raw) != nil {
		return nil
	}
	return m
}

func writeReply(c net.Conn, query *dns.Msg) {
	m := new(dns.Msg).SetReply(query)
	rr, _ := dns.NewRR(query.Question[0].Name + " 60 IN A 192.0.2.1")
	m.Answer = []dns.RR{rr}
	raw, _ := m.Pack()
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
}

// tcpOnly asks over the stream of an upstream.
func tcpOnly(t *testing.T, addr string) (*upstream, func(name string) (*dns.Msg, error)) {
	t.Helper()
	s, err := ParseServer(addr)
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(s, true, nil)
	t.Cleanup(u.close)
	return u, func(name string) (*dns.Msg, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		q := question{name, dns.TypeA}
		wire, err := newQuery(q, true).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return u.overStream(ctx, wire, q)
	}
}

// RFC 7766 6.2.1.1 and 7: many queries on one connection, answered in any order.
func TestStreamPipelines(t *testing.T) {
	t.Parallel()
	const n = 20
	s := serveTCP(t, func(_ int, c net.Conn) {
		var queries []*dns.Msg
		ids := map[uint16]bool{}
		for len(queries) < n {
			q := readQuery(c)
			if q == nil {
				return
			}
			if ids[q.Id] {
				t.Errorf("RFC 7766 6.2.1: id %d twice in flight", q.Id)
			}
			ids[q.Id] = true
			queries = append(queries, q)
		}
		slices.Reverse(queries)
		for _, q := range queries {
			writeReply(c, q)
		}
		readQuery(c) // until the client goes
	})
	_, ask := tcpOnly(t, s.addr)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name := string(rune('a'+i)) + ".example."
			m, err := ask(name)
			if err != nil || m.Question[0].Name != name {
				t.Errorf("%s: %v, %v", name, m, err)
			}
		})
	}
	wg.Wait()
	if got := s.connections(); got != 1 {
		t.Errorf("RFC 7766 6.2.2: %d connections", got)
	}
}

// RFC 7766 6.2.4: a connection that the server closed meanwhile is made anew.
func TestStreamRetriesOnAFreshConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 10)
	s := serveTCP(t, func(_ int, c net.Conn) {
		if q := readQuery(c); q != nil {
			writeReply(c, q)
		}
		_ = c.Close()
		closed <- struct{}{}
	})
	_, ask := tcpOnly(t, s.addr)
	for range 3 {
		if _, err := ask("d.example."); err != nil {
			t.Fatal(err)
		}
		<-closed
	}
	if got := s.connections(); got != 3 {
		t.Errorf("%d connections", got)
	}
}

// The same when the query had gone out already on the connection that was there.
func TestStreamRetriesALostQuery(t *testing.T) {
	t.Parallel()
	s := serveTCP(t, func(n int, c net.Conn) {
		writeReply(c, readQuery(c))
		if readQuery(c) != nil && n > 1 {
			t.Error("the second connection was to have one query")
		}
	})
	_, ask := tcpOnly(t, s.addr)
	for range 2 {
		if _, err := ask("d.example."); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.connections(); got != 2 {
		t.Errorf("%d connections", got)
	}
}

// A server that closes without an answer is not asked for ever.
func TestStreamGivesUp(t *testing.T) {
	t.Parallel()
	s := serveTCP(t, func(_ int, c net.Conn) { readQuery(c) })
	_, ask := tcpOnly(t, s.addr)
	if m, err := ask("d.example."); err == nil {
		t.Errorf("%v", m)
	}
	if got := s.connections(); got != 1 {
		t.Errorf("%d connections", got)
	}
}

// What cannot be a message breaks the connection, and nobody waits for the deadline.
func TestStreamMalformedFrame(t *testing.T) {
	t.Parallel()
	s := serveTCP(t, func(_ int, c net.Conn) {
		readQuery(c)
		_, _ = c.Write([]byte{0, 1, 0})
		readQuery(c)
	})
	_, ask := tcpOnly(t, s.addr)
	start := time.Now()
	if m, err := ask("d.example."); err == nil {
		t.Errorf("%v", m)
	}
	if time.Since(start) > 4*time.Second {
		t.Error("waited for the deadline")
	}
}

// A connection on which a query timed out is left, since a dead one looks just so.
func TestStreamLeavesASilentConnection(t *testing.T) {
	t.Parallel()
	s := serveTCP(t, func(n int, c net.Conn) {
		for q := readQuery(c); q != nil; q = readQuery(c) {
			if n > 1 {
				writeReply(c, q)
			}
		}
	})
	u, ask := tcpOnly(t, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	q := question{"d.example.", dns.TypeA}
	wire, _ := newQuery(q, true).Pack()
	if _, err := u.overStream(ctx, wire, q); err == nil {
		t.Fatal("an answer from a silent server")
	}
	if _, err := ask("d.example."); err != nil {
		t.Error(err)
	}
	if got := s.connections(); got != 2 {
		t.Errorf("%d connections", got)
	}
}

// RFC 5452 9.2: each query from another port; 9.1: what does not fit is waited past.
func TestUDPPortsAndForeignReplies(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]bool{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			ports[from.String()] = true
			query := new(dns.Msg)
			if query.Unpack(buf[:n]) != nil {
				continue
			}
			right := new(dns.Msg).SetReply(query)
			rr, _ := dns.NewRR(query.Question[0].Name + " 60 IN A 192.0.2.1")
			right.Answer = []dns.RR{rr}
			wrong := right.Copy()
			wrong.Id++
			other := right.Copy()
			other.Question[0].Name = "other.example."
			for _, m := range []*dns.Msg{wrong, other, right} {
				raw, _ := m.Pack()
				_, _ = conn.WriteTo(raw, from)
			}
		}
	}()
	r, err := New(Options{Servers: []string{conn.LocalAddr().String()}, CacheSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		if got := r.A(t.Context(), policy.Domain(string(rune('a'+i))+".example")); got.Answer != policy.Records {
			t.Errorf("%+v", got)
		}
	}
	_ = conn.Close()
	<-ended
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if len(ports) < 12 {
		t.Errorf("%d ports in 16 queries", len(ports))
	}
}
