package smtpclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// Scripts of hosts that offer all, PIPELINING alone, and nothing.
const (
	greetAll   = "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250-PIPELINING\nS: 250 CHUNKING\n"
	greetGroup = "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250 PIPELINING\n"
	greetPlain = "S: 220 mx\nC: EHLO relay.test\nS: 250 mx\n"

	mailFrom = "C: MAIL FROM:<a@relay.test>\n"
	rcptB    = "C: RCPT TO:<b@example.test>\n"
	rcptC    = "C: RCPT TO:<c@example.test>\n"
	chunk    = "C: BDAT 25 LAST\nCHUNK 25\nKEEP\n"
	ok       = "S: 250 2.0.0 ok\n"
)

func TestSend(t *testing.T) {
	t.Parallel()
	const flight = mailFrom + rcptB + rcptC + chunk
	const group = mailFrom + rcptB + rcptC + "C: DATA\n"
	const plain = mailFrom + ok + rcptB + ok + rcptC + ok + "C: DATA\n"
	const end = "IDLE"
	tests := []struct {
		name   string
		script string
		want   [2]string // of b and c
		bodies int       // contents that the host took as whole
		stall  bool
		fit    bool // the session is good for another transaction
	}{
		{"S15, S16 one flight", greetAll + flight + ok + ok + ok + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, true},
		{"one flight, replies of many lines", greetAll + flight + "S: 250-a\nS: 250 b\n" + ok + "S: 250-2.1.5 a\nS: 250-2.1.5 b\nS: 250 2.1.5 c\n" + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, true},
		{"one flight, a recipient refused", greetAll + flight + ok + "S: 550 5.1.1 no\n" + ok + ok + end, [2]string{"reply-permanent 5.1.1 550", "ok 250"}, 1, false, true},
		{"one flight, 452 4.5.3 on a later recipient", greetAll + flight + ok + ok + "S: 452 4.5.3 too many\n" + ok + end, [2]string{"ok 250", "reply-temporary 4.5.3 452"}, 1, false, true},
		{"one flight, all refused", greetAll + flight + ok + "S: 550 no\nS: 450 4.2.1 no\nS: 503 5.5.1 no\n" + end, [2]string{"reply-permanent 5.0.0 550", "reply-temporary 4.2.1 450"}, 1, false, true},
		{"one flight, MAIL 5xx", greetAll + flight + "S: 550 5.7.1 no\nS: 503 no\nS: 503 no\nS: 503 no\n" + end, [2]string{"reply-permanent 5.7.1 550", "reply-permanent 5.7.1 550"}, 1, false, true},
		{"one flight, MAIL 4xx", greetAll + flight + "S: 451 no\nS: 503 no\nS: 503 no\nS: 503 no\n" + end, [2]string{"reply-temporary 4.0.0 451", "reply-temporary 4.0.0 451"}, 1, false, true},
		{"one flight, content 5xx", greetAll + flight + ok + ok + ok + "S: 554 5.6.0 no\n" + end, [2]string{"reply-permanent 5.6.0 554", "reply-permanent 5.6.0 554"}, 1, false, true},
		{"one flight, content 4xx", greetAll + flight + ok + ok + ok + "S: 452 4.3.1 no\n" + end, [2]string{"reply-temporary 4.3.1 452", "reply-temporary 4.3.1 452"}, 1, false, true},
		{"one flight, 421 at MAIL", greetAll + flight + "S: 421 4.3.2 bye\nGONE", [2]string{"reply-temporary 4.3.2 421", "reply-temporary 4.3.2 421"}, 1, false, false},
		{"one flight, 421 in the middle", greetAll + flight + ok + "S: 550 5.1.1 no\nS: 421 bye\nGONE", [2]string{"reply-permanent 5.1.1 550", "reply-temporary 4.0.0 421"}, 1, false, false},
		{"one flight, 421 at the end", greetAll + flight + ok + ok + ok + "S: 421 bye\nGONE", [2]string{"reply-temporary 4.0.0 421", "reply-temporary 4.0.0 421"}, 1, false, false},
		{"one flight, lost before all replies", greetAll + flight + "DROP", [2]string{"uncertain", "uncertain"}, 1, false, false},
		{"one flight, lost after RCPT", greetAll + flight + ok + "S: 550 5.1.1 no\n" + "DROP", [2]string{"reply-permanent 5.1.1 550", "uncertain"}, 1, false, false},
		{"one flight, lost at the last reply", greetAll + flight + ok + ok + ok + "DROP", [2]string{"uncertain", "uncertain"}, 1, false, false},
		{"one flight, last reply stalls", greetAll + flight + ok + ok + ok + "STALL", [2]string{"uncertain", "uncertain"}, 1, true, false},
		{"one flight, last reply is garbage", greetAll + flight + ok + ok + ok + "S: hm\nGONE", [2]string{"uncertain", "uncertain"}, 1, false, false},
		{"one flight, 354 in its place", greetAll + flight + ok + ok + ok + "S: 354 hm\nGONE", [2]string{"uncertain", "uncertain"}, 1, false, false},
		{"S17 one flight, replies without end", greetAll + flight + ok + strings.Repeat("S: 250-x\n", 101) + "GONE", [2]string{"uncertain", "uncertain"}, 1, false, false},

		{"group", greetGroup + group + ok + ok + ok + "S: 354 go\nBODY\n" + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, true},
		{"group, a recipient refused", greetGroup + group + ok + ok + "S: 550 5.1.1 no\nS: 354 go\nBODY\n" + ok + end, [2]string{"ok 250", "reply-permanent 5.1.1 550"}, 1, false, true},
		{"RFC 2920 3.1 group, all refused, 354 all the same", greetGroup + group + ok + "S: 550 no\nS: 550 no\nS: 354 go\nC: .\nS: 554 nobody\n" + end, [2]string{"reply-permanent 5.0.0 550", "reply-permanent 5.0.0 550"}, 0, false, true},
		{"group, all refused, DATA refused", greetGroup + group + ok + "S: 550 no\nS: 450 no\nS: 554 nobody\n" + end, [2]string{"reply-permanent 5.0.0 550", "reply-temporary 4.0.0 450"}, 0, false, true},
		{"group, MAIL refused, 354 all the same", greetGroup + group + "S: 451 no\n" + ok + ok + "S: 354 go\nC: .\n" + ok + end, [2]string{"reply-temporary 4.0.0 451", "reply-temporary 4.0.0 451"}, 0, false, true},
		{"group, DATA 4xx", greetGroup + group + ok + ok + "S: 550 5.1.1 no\nS: 451 4.3.0 no\n" + end, [2]string{"reply-temporary 4.3.0 451", "reply-permanent 5.1.1 550"}, 0, false, true},
		{"group, DATA 250", greetGroup + group + ok + ok + ok + "S: 250 hm\nGONE", [2]string{"protocol-error", "protocol-error"}, 0, false, false},
		{"group, DATA 421", greetGroup + group + ok + ok + ok + "S: 421 bye\nGONE", [2]string{"reply-temporary 4.0.0 421", "reply-temporary 4.0.0 421"}, 0, false, false},
		{"group, RCPT 354", greetGroup + group + ok + "S: 354 hm\nGONE", [2]string{"protocol-error", "protocol-error"}, 0, false, false},
		{"group, lost in the middle", greetGroup + group + ok + "S: 550 5.1.1 no\nDROP", [2]string{"reply-permanent 5.1.1 550", "connection-lost"}, 0, false, false},
		{"group, stalls in the middle", greetGroup + group + ok + "STALL", [2]string{"reply-timeout", "reply-timeout"}, 0, true, false},
		{"group, garbage", greetGroup + group + ok + "S: x\nGONE", [2]string{"protocol-error", "protocol-error"}, 0, false, false},
		{"group, dropped instead of the last reply", greetGroup + group + ok + ok + ok + "S: 354 go\nBODY\nDROP", [2]string{"uncertain", "uncertain"}, 1, false, false},
		{"group, last reply stalls", greetGroup + group + ok + ok + ok + "S: 354 go\nBODY\nSTALL", [2]string{"uncertain", "uncertain"}, 1, true, false},
		{"group, content 5xx", greetGroup + group + ok + ok + ok + "S: 354 go\nBODY\nS: 550 5.7.1 spam\n" + end, [2]string{"reply-permanent 5.7.1 550", "reply-permanent 5.7.1 550"}, 1, false, true},

		{"dialogue", greetPlain + plain + "S: 354 go\nBODY\n" + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, true},
		{"dialogue, MAIL 5xx", greetPlain + mailFrom + "S: 550 5.1.8 no\n" + end, [2]string{"reply-permanent 5.1.8 550", "reply-permanent 5.1.8 550"}, 0, false, true},
		{"dialogue, MAIL 421", greetPlain + mailFrom + "S: 421 no\nGONE", [2]string{"reply-temporary 4.0.0 421", "reply-temporary 4.0.0 421"}, 0, false, false},
		{"dialogue, MAIL dropped", greetPlain + mailFrom + "DROP", [2]string{"connection-lost", "connection-lost"}, 0, false, false},
		{"dialogue, MAIL stalls", greetPlain + mailFrom + "STALL", [2]string{"reply-timeout", "reply-timeout"}, 0, true, false},
		{"dialogue, all refused", greetPlain + mailFrom + ok + rcptB + "S: 550 5.1.1 no\n" + rcptC + "S: 450 no\n" + end, [2]string{"reply-permanent 5.1.1 550", "reply-temporary 4.0.0 450"}, 0, false, true},
		{"dialogue, RCPT 421", greetPlain + mailFrom + ok + rcptB + ok + rcptC + "S: 421 4.7.0 no\nGONE", [2]string{"reply-temporary 4.7.0 421", "reply-temporary 4.7.0 421"}, 0, false, false},
		{"dialogue, RCPT dropped", greetPlain + mailFrom + ok + rcptB + ok + rcptC + "DROP", [2]string{"connection-lost", "connection-lost"}, 0, false, false},
		{"dialogue, DATA 5xx", greetPlain + plain + "S: 554 no\n" + end, [2]string{"reply-permanent 5.0.0 554", "reply-permanent 5.0.0 554"}, 0, false, true},
		{"dialogue, DATA stalls", greetPlain + plain + "STALL", [2]string{"reply-timeout", "reply-timeout"}, 0, true, false},
		{"dialogue, RCPT 251", greetPlain + mailFrom + ok + rcptB + "S: 251 elsewhere\n" + rcptC + ok + "C: DATA\nS: 354 go\nBODY\n" + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, true},
		{"S29 dialogue, class and code do not fit", greetPlain + mailFrom + ok + rcptB + "S: 550 4.1.1 no\n" + rcptC + "S: 450 4.1.1.1 no\n" + end, [2]string{"reply-permanent 5.0.0 550", "reply-temporary 4.0.0 450"}, 0, false, true},
		{"dialogue, a reply too many", greetPlain + plain + "S: 354 go\nBODY\n" + ok + ok + end, [2]string{"ok 250", "ok 250"}, 1, false, false},
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
			s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
			if f != nil {
				t.Fatal(f)
			}
			sent := s.Send(t.Context(), mail(hello, "b@example.test", "c@example.test"))
			if got := results(sent); !slices.Equal(got, tt.want[:]) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if fit := s.(*session).c.fit(); fit != tt.fit {
				t.Errorf("fit is %v, want %v", fit, tt.fit)
			}
			bodies := h.received()
			if len(bodies) != tt.bodies {
				t.Errorf("%d contents, want %d", len(bodies), tt.bodies)
			}
			for _, b := range bodies {
				if b != hello {
					t.Errorf("content %q", b)
				}
			}
			s.Release()
			p.Close()
			if n := p.held(); n != 0 {
				t.Errorf("%d slots are still held", n)
			}
		})
	}
}

// S21: after a success the next MAIL follows directly; RSET goes only behind a
// failed transaction, and where there is PIPELINING in the same flight.
func TestResetOnlyAfterFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, script string }{
		{"S15, S16 one flight", greetAll +
			mailFrom + rcptB + chunk + ok + ok + ok +
			mailFrom + rcptB + chunk + ok + "S: 550 no\nS: 503 no\n" +
			"C: RSET\n" + mailFrom + rcptB + chunk + ok + ok + ok + ok +
			mailFrom + rcptB + chunk + ok + ok + ok + "IDLE"},
		{"group", greetGroup +
			mailFrom + rcptB + "C: DATA\n" + ok + ok + "S: 354 go\nBODY\n" + ok +
			mailFrom + rcptB + "C: DATA\n" + ok + "S: 550 no\nS: 503 no\n" +
			"C: RSET\n" + mailFrom + rcptB + "C: DATA\n" + ok + ok + ok + "S: 354 go\nBODY\n" + ok +
			mailFrom + rcptB + "C: DATA\n" + ok + ok + "S: 354 go\nBODY\n" + ok + "IDLE"},
		{"dialogue", greetPlain +
			mailFrom + ok + rcptB + ok + "C: DATA\nS: 354 go\nBODY\n" + ok +
			mailFrom + ok + rcptB + "S: 550 no\n" +
			"C: RSET\n" + ok + mailFrom + ok + rcptB + ok + "C: DATA\nS: 354 go\nBODY\n" + ok +
			mailFrom + ok + rcptB + ok + "C: DATA\nS: 354 go\nBODY\n" + ok + "IDLE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			p := newPool(t, options())
			for i, want := range []string{"ok 250", "reply-permanent 5.0.0 550", "ok 250", "ok 250"} {
				sendNext(t, p, h, i, want)
			}
			if n := h.connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// A host that offers CHUNKING and stumbles over BDAT gets DATA, at once and later.
func TestStumblesOverBDAT(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetAll+
		mailFrom+rcptB+rcptC+chunk+ok+"S: 550 5.1.1 no\n"+ok+"S: 502 5.5.1 what?\n"+
		"C: RSET\n"+mailFrom+rcptC+"C: DATA\n"+ok+ok+ok+"S: 354 go\nBODY\n"+ok+
		mailFrom+rcptB+"C: DATA\n"+ok+ok+"S: 354 go\nBODY\n"+ok+"IDLE")
	p := newPool(t, options())
	s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
	if f != nil {
		t.Fatal(f)
	}
	got := results(s.Send(t.Context(), mail(hello, "b@example.test", "c@example.test")))
	if want := []string{"reply-permanent 5.1.1 550", "ok 250"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := results(s.Send(t.Context(), mail(hello, "b@example.test"))); got[0] != "ok 250" {
		t.Errorf("second message: %q", got)
	}
	s.Release()
}

// A host that breaks down over a group is served more plainly the next time.
func TestStumblesOverGroups(t *testing.T) {
	t.Parallel()
	h := startHost(t,
		greetAll+mailFrom+"S: hm?\nDROP",
		greetAll+mailFrom+rcptB+"C: DATA\n"+ok+"DROP",
		greetAll+mailFrom+ok+rcptB+ok+"C: DATA\nS: 354 go\nBODY\n"+ok+"IDLE")
	p := newPool(t, options())
	for i, want := range []string{"uncertain", "connection-lost", "ok 250"} {
		sendNext(t, p, h, i, want)
	}
}

func TestPlainDataOption(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetAll+mailFrom+rcptB+"C: DATA\n"+ok+ok+"S: 354 go\nBODY\n"+ok+"IDLE")
	o := options()
	o.PlainData = true
	sendOne(t, o, h, mail(hello, "b@example.test"), "ok 250")
}

// sendOne opens a session in the clear, sends, and compares the results.
func sendOne(t *testing.T, o Options, h *fakeHost, m *relay.Transaction, want ...string) relay.Sent {
	t.Helper()
	p := newPool(t, o)
	s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
	if f != nil {
		t.Fatal(f)
	}
	sent := s.Send(t.Context(), m)
	if got := results(sent); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Release()
	return sent
}

// A large content: the first chunk is bounded, the rest waits for the replies.
func TestLargeContentInChunks(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 98) + "\r\n"
	body := strings.Repeat(line, 2000) // 200 000 octets
	rest := len(body) - chunkSize
	first := mailFrom + rcptB + "C: BDAT 65536\nCHUNK 65536\n"
	t.Run("all goes well", func(t *testing.T) {
		t.Parallel()
		h := startHost(t, greetAll+first+ok+ok+ok+"C: BDAT 134464 LAST\nCHUNK 134464\nKEEP\n"+ok+"IDLE")
		sendOne(t, options(), h, mail(body, "b@example.test"), "ok 250")
		if got := h.received(); len(got) != 1 || got[0] != body {
			t.Error("the content arrived changed")
		}
		if rest != 134464 {
			t.Error(rest)
		}
	})
	t.Run("recipient refused", func(t *testing.T) {
		t.Parallel()
		h := startHost(t, greetAll+first+ok+"S: 550 no\nS: 503 no\nC: QUIT")
		o := options()
		o.MessagesPerConnection = 1
		sendOne(t, o, h, mail(body, "b@example.test"), "reply-permanent 5.0.0 550")
	})
	t.Run("first chunk refused", func(t *testing.T) {
		t.Parallel()
		h := startHost(t, greetAll+first+ok+ok+"S: 452 4.3.1 full\nC: QUIT")
		o := options()
		o.MessagesPerConnection = 1
		sendOne(t, o, h, mail(body, "b@example.test"), "reply-temporary 4.3.1 452")
	})
	t.Run("lost in the rest", func(t *testing.T) {
		t.Parallel()
		h := startHost(t, greetAll+first+ok+ok+ok+"C: BDAT 134464 LAST\nCHUNK 100\nRESET")
		p := newPool(t, options())
		s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
		if f != nil {
			t.Fatal(f)
		}
		// All may have been in the socket's buffer already: then nobody can know.
		got := results(s.Send(t.Context(), mail(body, "b@example.test")))[0]
		if got != "connection-lost" && got != "uncertain" {
			t.Error(got)
		}
		s.Release()
	})
}

// F33, S1: a host that stops reading cannot hold us for longer than the deadline.
func TestHostThatStopsReading(t *testing.T) {
	t.Parallel()
	body := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 200000) // 20 MB: more than socket buffers hold
	for _, tt := range []struct{ name, script string }{
		{"DATA", greetGroup + mailFrom + rcptB + "C: DATA\n" + ok + ok + "S: 354 go\nC: xx*\nSTALL"},
		{"BDAT", greetAll + mailFrom + rcptB + "C: BDAT 65536\nCHUNK 65536\n" + ok + ok + ok + "C: BDAT 19934464 LAST\nSTALL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			o := options()
			o.Timeouts.Data = 100 * time.Millisecond
			sendOne(t, o, h, mail(body, "b@example.test"), "reply-timeout")
		})
	}
}

// What a host says before it stops listening counts.
func TestRefusedInMidContent(t *testing.T) {
	t.Parallel()
	body := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 200000)
	h := startHost(t, greetGroup+mailFrom+rcptB+"C: DATA\n"+ok+ok+"S: 354 go\nC: xx*\nS: 552 5.3.4 too big\nSTALL")
	o := options()
	o.Timeouts.Data = 100 * time.Millisecond
	sendOne(t, o, h, mail(body, "b@example.test"), "reply-permanent 5.3.4 552")
}

// S2: after an error of the content the connection is cut; nothing that follows
// could make the host take a part for the whole.
func TestContentErrors(t *testing.T) {
	t.Parallel()
	far := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 2000)
	boom := errors.New("the disk is gone")
	tests := []struct {
		name string
		body string
		size int64
		err  error
	}{
		{"bare LF", "a: b\r\n\r\nx\ny\r\n", -1, nil},
		{"bare CR", "a: b\r\n\r\nx\ry\r\n", -1, nil},
		{"CR CR LF", "a: b\r\n\r\nx\r\r\n", -1, nil},
		{"S13 CR dot CR", "a: b\r\n\r\nx\r.\r", -1, nil},
		{"LF dot CRLF", "a: b\r\n\r\nx\n.\r\nMAIL FROM:<evil@example.test>\r\n", -1, nil},
		{"no line end", "a: b\r\n\r\nx", -1, nil},
		{"shorter than it said", hello, int64(len(hello) + 2), nil},
		{"longer than it said", hello + hello, int64(len(hello)), nil},
		{"read error", hello, int64(len(hello) + 2), boom},
		{"far bare LF", far + "x\ny\r\n", -1, nil},
		{"far end missing", far + "x", -1, nil},
		{"far shorter than it said", far, int64(len(far) + 2), nil},
		{"far longer than it said", far + far, int64(len(far)), nil},
		{"far read error", far, int64(len(far) + 2), boom},
	}
	for _, tt := range tests {
		for style, greet := range map[string]string{"one flight": greetAll, "group": greetGroup, "dialogue": greetPlain} {
			t.Run(tt.name+", "+style, func(t *testing.T) {
				t.Parallel()
				sink := startSink(t, greet)
				m := mail(tt.body, "b@example.test")
				closed := 0
				m.Body = func(context.Context) (queue.Body, error) {
					var r io.Reader = strings.NewReader(tt.body)
					if tt.err != nil {
						r = io.MultiReader(r, failing{tt.err})
					}
					size := tt.size
					if size < 0 {
						size = int64(len(tt.body))
					}
					return &content{Reader: r, size: size, closed: &closed}, nil
				}
				p := newPool(t, options())
				s, _, f := p.Open(t.Context(), step(sink.addr, policy.Clear))
				if f != nil {
					t.Fatal(f)
				}
				if got := results(s.Send(t.Context(), m)); got[0] != "internal" {
					t.Errorf("got %q", got)
				}
				s.Release()
				p.Close()
				if closed != 1 {
					t.Errorf("the content was closed %d times", closed)
				}
				if w := sink.wait(); w.whole > 0 {
					t.Errorf("the host took %d contents for whole: %q", w.whole, w.last)
				}
			})
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A body that cannot be opened: nothing is sent and the session stays good.
func TestBodyCannotBeOpened(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetAll+"C: QUIT")
	p := newPool(t, options())
	s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
	if f != nil {
		t.Fatal(f)
	}
	m := mail(hello, "b@example.test")
	m.Body = func(context.Context) (queue.Body, error) { return nil, queue.ErrNotFound }
	if got := results(s.Send(t.Context(), m)); got[0] != "internal" {
		t.Error(got)
	}
	if !s.(*session).c.fit() {
		t.Error("the session is not fit any more")
	}
	s.Quit()
}

// A context that ends while the host is silent ends the transaction: for a stop
// the message was interrupted, for a deadline the host took too long; behind the
// end of data it is uncertain in both cases.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	const early = greetPlain + mailFrom + "STALL"
	const late = greetGroup + mailFrom + rcptB + "C: DATA\n" + ok + ok + "S: 354 go\nBODY\nSTALL"
	for _, tt := range []struct {
		name, script, want string
		stop               bool
	}{
		{"stopped before the end of data", early, "interrupted", true},
		{"out of time before the end of data", early, "reply-timeout", false},
		{"stopped behind the end of data", late, "uncertain", true},
		{"out of time behind the end of data", late, "uncertain", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, tt.script)
			p := newPool(t, options())
			s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
			if f != nil {
				t.Fatal(f)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if tt.stop {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			if got := results(s.Send(ctx, mail(hello, "b@example.test"))); got[0] != tt.want {
				t.Errorf("got %q, want %q", got[0], tt.want)
			}
			if s.(*session).c.fit() {
				t.Error("the session is still fit")
			}
			s.Release()
		})
	}
}

// S23, S25: the host's own words about the queue are kept, and that it hangs up at
// once behind them, without hearing our QUIT, changes nothing.
func TestQueuedAs(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetAll+mailFrom+rcptB+chunk+ok+ok+"S: 250 2.6.0 queued as 4Xy1z\nRESET")
	sent := sendOne(t, options(), h, mail(hello, "b@example.test"), "ok 250")
	if got := *sent.Results[0].Reply; got != (queue.Reply{Code: 250, Status: "2.6.0", Text: "queued as 4Xy1z"}) {
		t.Errorf("%+v", got)
	}
}
