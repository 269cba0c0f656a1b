package smtpclient

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
)

// The ways in which an opening can go wrong, by phase.
// S3 and S6 are in all of them: our own name goes out before STARTTLS too, and the
// handshake has its own errors and deadline.
func TestOpenFailures(t *testing.T) {
	t.Parallel()
	const ehlo = "S: 220 mx\nC: EHLO relay.test\n"
	const offer = ehlo + "S: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\n"
	const secured = offer + "S: 220 go\nTLS\nC: EHLO relay.test\n"
	long := strings.Repeat("x", 3000)
	tests := []struct {
		name   string
		script string
		rung   policy.Rung
		want   policy.Reason
		status string
		stall  bool
	}{
		{"greeting 4xx", "S: 450 4.3.2 later\nC: QUIT", policy.Modern, policy.GreetingTemporary, "4.3.2", false},
		{"greeting 421", "S: 421 busy\nGONE", policy.Modern, policy.GreetingTemporary, "", false},
		{"greeting 5xx", "S: 554-no\nS: 554 go away\nC: QUIT", policy.Modern, policy.GreetingPermanent, "", false},
		{"greeting 250", "S: 250 hm\nC: QUIT", policy.Modern, policy.ProtocolError, "", false},
		{"greeting dropped", "DROP", policy.Modern, policy.ConnectionLost, "", false},
		{"greeting reset", "RESET", policy.Modern, policy.ConnectionLost, "", false},
		{"greeting stalls", "STALL", policy.Modern, policy.ReplyTimeout, "", true},
		{"greeting half a line", "S> \"220 m\"\nSTALL", policy.Modern, policy.ReplyTimeout, "", true},
		{"greeting garbage", "S: SSH-2.0-OpenSSH\nGONE", policy.Modern, policy.ProtocolError, "", false},
		{"greeting binary", "S> \"\\x16\\x03\\x01\\x00\\n\"\nGONE", policy.Modern, policy.ProtocolError, "", false},
		{"two greetings", "S: 220 mx\nS: 220 mx\nC: QUIT", policy.Modern, policy.ProtocolError, "", false},
		{"S17 greeting without end", strings.Repeat("S: 220-mx\n", 101) + "GONE", policy.Modern, policy.ProtocolError, "", false},
		{"greeting too big", strings.Repeat("S: 220-"+long+"\n", 23) + "GONE", policy.Modern, policy.ProtocolError, "", false},
		{"EHLO 4xx", ehlo + "S: 450 later\nC: QUIT", policy.Modern, policy.EHLOTemporary, "", false},
		{"EHLO 421", ehlo + "S: 421 4.3.0 later\nGONE", policy.Modern, policy.EHLOTemporary, "4.3.0", false},
		{"S20 EHLO 550", ehlo + "S: 550 5.7.1 no\nC: QUIT", policy.Modern, policy.EHLOPermanent, "5.7.1", false},
		{"S20 EHLO 501", ehlo + "S: 501 no\nC: QUIT", policy.Modern, policy.EHLOPermanent, "", false},
		{"EHLO 354", ehlo + "S: 354 no\nC: QUIT", policy.Modern, policy.ProtocolError, "", false},
		{"EHLO dropped", ehlo + "DROP", policy.Modern, policy.ConnectionLost, "", false},
		{"EHLO stalls", ehlo + "STALL", policy.Modern, policy.ReplyTimeout, "", true},
		{"S17 EHLO without end", ehlo + strings.Repeat("S: 250-X\n", 101) + "GONE", policy.Modern, policy.ProtocolError, "", false},
		{"HELO 5xx", ehlo + "S: 502 eh?\nC: HELO relay.test\nS: 550 no\nC: QUIT", policy.Clear, policy.EHLOPermanent, "", false},
		{"S20 HELO host has no TLS", ehlo + "S: 500 eh?\nC: HELO relay.test\nS: 250 mx\nC: QUIT", policy.Modern, policy.STARTTLSMissing, "", false},
		{"no STARTTLS", ehlo + "S: 250-mx\nS: 250 SIZE\nC: QUIT", policy.Modern, policy.STARTTLSMissing, "", false},
		{"STARTTLS in the name line only", ehlo + "S: 250 STARTTLS\nC: QUIT", policy.Modern, policy.STARTTLSMissing, "", false},
		{"STARTTLS 454", offer + "S: 454 4.7.0 not now\nC: QUIT", policy.Modern, policy.STARTTLSTemporary, "4.7.0", false},
		{"STARTTLS 421", offer + "S: 421 no\nGONE", policy.Modern, policy.GreetingTemporary, "", false},
		{"STARTTLS 5xx", offer + "S: 502 no\nC: QUIT", policy.Modern, policy.STARTTLSRefused, "", false},
		{"STARTTLS 250", offer + "S: 250 ok\nC: QUIT", policy.Modern, policy.ProtocolError, "", false},
		{"STARTTLS dropped", offer + "DROP", policy.Modern, policy.HandshakeEOF, "", false},
		{"STARTTLS stalls", offer + "STALL", policy.Modern, policy.HandshakeStall, "", true},
		{"STARTTLS garbage", offer + "S: hm\nGONE", policy.Modern, policy.ProtocolError, "", false},
		{"S28 bytes behind the 220", offer + "S: 220 go\nS: 250 injected\nGONE", policy.Modern, policy.BytesInjected, "", false},
		{"S28 a byte behind the 220", offer + "S> \"220 go\\r\\n2\"\nGONE", policy.Modern, policy.BytesInjected, "", false},
		{"handshake dropped", offer + "S: 220 go\nDROP", policy.Modern, policy.HandshakeEOF, "", false},
		{"handshake stalls", offer + "S: 220 go\nSTALL", policy.Modern, policy.HandshakeStall, "", true},
		{"EHLO after TLS 4xx", secured + "S: 450 no\nC: QUIT", policy.Modern, policy.EHLOTemporary, "", false},
		{"EHLO after TLS dropped", secured + "DROP", policy.Modern, policy.ConnectionLost, "", false},
		{"EHLO after TLS stalls", secured + "STALL", policy.Modern, policy.ReplyTimeout, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			o := options()
			if tt.stall {
				o = hasty()
			}
			p := newPool(t, o)
			s, _, f := p.Open(t.Context(), step(h.addr, tt.rung))
			if f == nil {
				s.Quit()
				t.Fatal("a session, want a failure")
			}
			if f.Reason != tt.want || f.Status != tt.status || f.Host != "mx.example.test" {
				t.Errorf("got %v (%s) %+v, want %v (%s)", f.Reason, f.Status, f, tt.want, tt.status)
			}
			if n := p.held(); n != 0 {
				t.Errorf("%d slots are still held", n)
			}
		})
	}
}

// held is the number of slots taken.
func (p *Pool) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += h.open
	}
	return n
}

func TestOpen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		script string
		rung   policy.Rung
	}{
		{"clear", "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250 STARTTLS\nIDLE", policy.Clear},
		{"HELO", "S: 220\nC: EHLO relay.test\nS: 500 eh?\nC: HELO relay.test\nS: 250 mx\nIDLE", policy.Clear},
		{"multi-line greeting", "S: 220-mx\nS: 220-beware\nS: 220 go\nC: EHLO relay.test\nS: 250 mx\nIDLE", policy.Clear},
		{"line ends of LF alone", "S> \"220 mx\\n\"\nC: EHLO relay.test\nS> \"250-mx\\n250 SIZE\\n\"\nIDLE", policy.Clear},
		{"S5 lower-case keyword", "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250-starttls\nS: 250 size 10\nC: STARTTLS\nS: 220 go\nTLS\nC: EHLO relay.test\nS: 250-mx\nS: 250 requireTLS\nIDLE", policy.Modern},
		{"classical", "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250 StartTLS\nC: STARTTLS\nS: 220 go\nTLS\nC: EHLO relay.test\nS: 250-mx\nS: 250 REQUIRETLS\nIDLE", policy.Classical},
		{"long line is cut, not refused", "S: 220 " + strings.Repeat("x", 30000) + "\nC: EHLO relay.test\nS: 250 mx\nIDLE", policy.Clear},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			p := newPool(t, options())
			s, e, f := p.Open(t.Context(), step(h.addr, tt.rung))
			if f != nil {
				t.Fatal(f)
			}
			if s.Reused() {
				t.Error("Reused is true for a new session")
			}
			if want := tt.rung != policy.Clear; e.RequireTLS != want {
				t.Errorf("RequireTLS is %v, want %v", e.RequireTLS, want)
			}
			s.Release()
		})
	}
}

// RFC 3207 4.2: what was offered in the clear counts for nothing after TLS.
func TestForgetsWhatWasOfferedInClear(t *testing.T) {
	t.Parallel()
	h := startHost(t, `
		S: 220 mx
		C: EHLO relay.test
		S: 250-mx
		S: 250-SIZE 5
		S: 250-REQUIRETLS
		S: 250-PIPELINING
		S: 250-CHUNKING
		S: 250-DSN
		S: 250 STARTTLS
		C: STARTTLS
		S: 220 go
		TLS
		C: EHLO relay.test
		S: 250 mx
		C: MAIL FROM:<a@relay.test>
		S: 250 ok
		C: RCPT TO:<b@example.test>
		S: 250 ok
		C: DATA
		S: 354 go
		BODY
		S: 250 ok
		IDLE`)
	p := newPool(t, options())
	s, e, f := p.Open(t.Context(), step(h.addr, policy.Modern))
	if f != nil {
		t.Fatal(f)
	}
	defer s.Release()
	if e.RequireTLS {
		t.Error("REQUIRETLS counts though it was offered in the clear only (RFC 8689 2)")
	}
	tr := mail(hello, "b@example.test")
	tr.RequireTLS = true
	sent := s.Send(t.Context(), tr)
	if got := results(sent); got[0] != "ok 250" {
		t.Error(got)
	}
	if sent.DSN {
		t.Error("DSN counts though it was offered in the clear only")
	}
}
