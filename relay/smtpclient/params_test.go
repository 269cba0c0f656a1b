package smtpclient

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

const utf8Header = "Subject: gr\u00fc\u00df\r\n\r\nhello\r\n"

// What MAIL and RCPT say depends on what the message needs and what is offered.
func TestParameters(t *testing.T) {
	t.Parallel()
	type rows map[string]string // offered -> commands, or the reason of all recipients
	dsn := func(m *relay.Transaction) {
		m.Message.Ret, m.Message.EnvelopeID = "HDRS", "id 1+2=3"
		m.Recipients[0].Notify = queue.NotifySuccess | queue.NotifyFailure | queue.NotifyDelay
		m.Recipients[0].ORcpt = "rfc822;b+x=y@example.test"
	}
	tests := []struct {
		name   string
		change func(m *relay.Transaction)
		rows   rows
	}{
		{"plain message", func(*relay.Transaction) {}, rows{
			"":                                      "MAIL FROM:<a@relay.test>|RCPT TO:<b@example.test>",
			"SIZE,8BITMIME,SMTPUTF8,DSN,REQUIRETLS": "MAIL FROM:<a@relay.test> SIZE=25|RCPT TO:<b@example.test>",
		}},
		{"RFC 5321 4.5.5 null reverse path", func(m *relay.Transaction) { m.Message.Sender = queue.Address{} }, rows{
			"": "MAIL FROM:<>|RCPT TO:<b@example.test>",
		}},
		{"RFC 1870 4", func(*relay.Transaction) {}, rows{
			"SIZE 25": "MAIL FROM:<a@relay.test> SIZE=25|RCPT TO:<b@example.test>",
			"SIZE 24": "too-large",
			"SIZE 0":  "MAIL FROM:<a@relay.test> SIZE=25|RCPT TO:<b@example.test>",
			"SIZE x":  "MAIL FROM:<a@relay.test> SIZE=25|RCPT TO:<b@example.test>",
		}},
		{"RFC 6152 3, S19", func(m *relay.Transaction) { m.Message.EightBit = true }, rows{
			"8BITMIME": "MAIL FROM:<a@relay.test> BODY=8BITMIME|RCPT TO:<b@example.test>",
			"":         "8bit-unsupported",
		}},
		{"RFC 6531 3.4, UTF-8 in the header", func(m *relay.Transaction) {
			m.Message.UTF8, m.Message.EightBit = true, true
			withBody(m, utf8Header)
		}, rows{
			"8BITMIME,SMTPUTF8": "MAIL FROM:<a@relay.test> BODY=8BITMIME SMTPUTF8|RCPT TO:<b@example.test>",
			"8BITMIME":          "utf8-unsupported",
		}},
		{"SMTPUTF8 was asked for and is not needed", func(m *relay.Transaction) {
			m.Message.UTF8, m.Message.EightBit = true, true
			withBody(m, "Subject: hello\r\n\r\ngr\u00fc\u00df\r\n")
		}, rows{
			"8BITMIME": "MAIL FROM:<a@relay.test> BODY=8BITMIME|RCPT TO:<b@example.test>",
		}},
		{"RFC 6531 3.2, UTF-8 in the recipient", func(m *relay.Transaction) {
			m.Message.UTF8 = true
			m.Recipients[0].Address = addr("b\u00fc@example.test")
		}, rows{
			"SMTPUTF8": "MAIL FROM:<a@relay.test> SMTPUTF8|RCPT TO:<b\u00fc@example.test>",
			"":         "utf8-unsupported",
		}},
		{"UTF-8 in the sender", func(m *relay.Transaction) { m.Message.Sender = addr("\u00e4@relay.test") }, rows{
			"SMTPUTF8": "MAIL FROM:<\u00e4@relay.test> SMTPUTF8|RCPT TO:<b@example.test>",
			"":         "utf8-unsupported",
		}},
		{"RFC 3461 5.2.1", dsn, rows{
			"DSN": "MAIL FROM:<a@relay.test> RET=HDRS ENVID=id+201+2B2+3D3|RCPT TO:<b@example.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;b+2Bx+3Dy@example.test",
			"":    "MAIL FROM:<a@relay.test>|RCPT TO:<b@example.test>",
		}},
		{"RFC 3461 4.1 NEVER stands alone", func(m *relay.Transaction) {
			m.Recipients[0].Notify = queue.NotifyNever | queue.NotifyDelay
		}, rows{
			"DSN": "MAIL FROM:<a@relay.test>|RCPT TO:<b@example.test> NOTIFY=NEVER",
		}},
		{"RFC 6533 3, ORCPT of type utf-8", func(m *relay.Transaction) {
			m.Message.Sender = addr("\u00e4@relay.test")
			m.Recipients[0].ORcpt = "utf-8;b\u00fc+x@example.test"
		}, rows{
			"DSN,SMTPUTF8": "MAIL FROM:<\u00e4@relay.test> SMTPUTF8|RCPT TO:<b@example.test> ORCPT=utf-8;b\u00fc\\x{2B}x@example.test",
		}},
		{"RFC 6533 3, the same without SMTPUTF8", func(m *relay.Transaction) {
			m.Recipients[0].ORcpt = "utf-8;b\u00fc+x@example.test"
		}, rows{
			"DSN": `MAIL FROM:<a@relay.test>|RCPT TO:<b@example.test> ORCPT=utf-8;b\x{FC}\x{2B}x@example.test`,
		}},
		{"RFC 8689 2: never in the clear", func(m *relay.Transaction) { m.RequireTLS = true }, rows{
			"REQUIRETLS": "MAIL FROM:<a@relay.test>|RCPT TO:<b@example.test>",
		}},
		{"S10, S18: quoting stays", func(m *relay.Transaction) {
			m.Recipients[0].Address = addr(`"x> NOTIFY=NEVER y"@example.test`)
		}, rows{
			"": `MAIL FROM:<a@relay.test>|RCPT TO:<"x> NOTIFY=NEVER y"@example.test>`,
		}},
		{"S18: an address that would end the line", func(m *relay.Transaction) {
			m.Recipients[0].Address = queue.Address{Local: "b\r\nRSET", Domain: "example.test"}
		}, rows{
			"": "internal",
		}},
	}
	for _, tt := range tests {
		for offered, want := range tt.rows {
			t.Run(tt.name+", offered "+offered, func(t *testing.T) {
				t.Parallel()
				script := "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\n"
				for _, k := range strings.Split(offered, ",") {
					script += "S: 250-" + k + "\n"
				}
				script += "S: 250 END\n"
				mailLine, rcptLine, goes := strings.Cut(want, "|")
				if goes {
					script += "C: " + mailLine + "\n" + ok + "C: " + rcptLine + "\nS: 550 enough\n"
				}
				h := startHost(t, script+"IDLE")
				m := mail(hello, "b@example.test")
				tt.change(m)
				result := "reply-permanent 5.0.0 550"
				if !goes {
					result = want
				}
				sent := sendOne(t, options(), h, m, result)
				if sent.DSN != strings.Contains(offered, "DSN") {
					t.Errorf("DSN is %v", sent.DSN)
				}
			})
		}
	}
}

func withBody(m *relay.Transaction, body string) {
	m.Message.Size = int64(len(body))
	m.Body = func(context.Context) (queue.Body, error) {
		return &content{Reader: strings.NewReader(body), size: int64(len(body))}, nil
	}
}

// RFC 8689 2: with TLS and the keyword behind it, the parameter goes out.
func TestRequireTLSParameter(t *testing.T) {
	t.Parallel()
	h := startHost(t, offerTLS+"TLS\nC: EHLO relay.test\nS: 250-mx\nS: 250 REQUIRETLS\n"+
		"C: MAIL FROM:<a@relay.test> REQUIRETLS\n"+ok+rcptB+"S: 550 enough\nC: RSET\n"+ok+mailFrom+ok+rcptB+"S: 550 enough\nIDLE")
	p := newPool(t, options())
	s, e, f := p.Open(t.Context(), step(h.addr, policy.Modern))
	if f != nil {
		t.Fatal(f)
	}
	if !e.RequireTLS {
		t.Error("the evidence lacks REQUIRETLS")
	}
	m := mail(hello, "b@example.test")
	m.RequireTLS = true
	s.Send(t.Context(), m)
	m.RequireTLS = false
	s.Send(t.Context(), m)
	s.Release()
}

// Some recipients need SMTPUTF8, the host has none: the others get the message.
func TestRecipientsNeedUTF8(t *testing.T) {
	t.Parallel()
	h := startHost(t, greetAll+mailFrom+rcptC+chunk+ok+ok+ok+"IDLE")
	m := mail(hello, "b\u00fc@example.test", "c@example.test")
	m.Message.UTF8 = true
	sendOne(t, options(), h, m, "utf8-unsupported", "ok 250")
}

// S24, RFC 9422: the host says how many recipients a transaction may have, and
// how many transactions a session.
func TestLimits(t *testing.T) {
	t.Parallel()
	const limits = "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250-PIPELINING\nS: 250-CHUNKING\nS: 250 LIMITS MAILMAX=2 RCPTMAX=1 RCPTDOMAINMAX=1\n"
	h := startHost(t, limits+mailFrom+rcptB+chunk+ok+"S: 550 5.1.1 no\nS: 503 no\n"+"C: RSET\n"+mailFrom+rcptC+chunk+ok+ok+ok+ok+"C: QUIT",
		limits+mailFrom+"C: RCPT TO:<d@example.test>\n"+chunk+ok+ok+ok+"C: QUIT")
	p := newPool(t, options())
	s := open1(t, p, step(h.addr, policy.Clear))
	got := results(s.Send(t.Context(), mail(hello, "b@example.test", "c@example.test", "d@example.test")))
	if want := []string{"reply-permanent 5.1.1 550", "ok 250", "ok 250"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Release()
}

// RFC 9422 RCPTDOMAINMAX is about a session: another domain at the same host gets a
// connection of its own.
func TestDomainLimit(t *testing.T) {
	t.Parallel()
	const limits = "S: 220 mx\nC: EHLO relay.test\nS: 250-mx\nS: 250-PIPELINING\nS: 250-CHUNKING\nS: 250 LIMITS RCPTDOMAINMAX=1\n"
	const elsewhere = mailFrom + "C: RCPT TO:<b@example.org>\n" + chunk + ok + ok + ok
	h := startHost(t, limits+mailFrom+rcptB+chunk+ok+ok+ok+mailFrom+rcptC+chunk+ok+ok+ok+"C: QUIT", limits+elsewhere+"C: QUIT")
	p := newPool(t, options())
	for _, to := range []string{"b@example.test", "c@example.test", "b@example.org"} {
		s := open1(t, p, step(h.addr, policy.Clear))
		if got := results(s.Send(t.Context(), mail(hello, to))); got[0] != "ok 250" {
			t.Errorf("%s: %q", to, got)
		}
		s.Release()
	}
	p.Close()
	if n := h.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A transaction has no more recipients than every host must take (RFC 5321
// 4.5.3.1.8); when the first batch ends the session, the rest shares its fate.
func TestBatches(t *testing.T) {
	t.Parallel()
	var all []string
	script := greetAll
	for batch := range 2 {
		script += mailFrom
		for i := range 100 {
			name := "r" + string(rune('a'+batch)) + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "@example.test"
			all = append(all, name)
			script += "C: RCPT TO:<" + name + ">\n"
		}
		script += chunk + strings.Repeat(ok, 101)
		if batch == 0 {
			script += ok
		} else {
			script += "S: 421 4.3.2 bye\nDROP"
		}
	}
	all = append(all, "late@example.test")
	h := startHost(t, script)
	want := slices.Repeat([]string{"ok 250"}, 100)
	want = append(want, slices.Repeat([]string{"reply-temporary 4.3.2 421"}, 100)...)
	want = append(want, "reply-temporary 4.3.2") // nobody has spoken to it
	sendOne(t, options(), h, mail(hello, all...), want...)
}

// What is kept of replies: one line, printable, bounded, without the recipient.
func TestRecordedReply(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, status, text string }{
		{"S: 550 5.1.1 <B@Example.Test>: no such user here", "5.1.1", "<[address]>: no such user here"},
		{"S: 550-5.1.1 one\nS: 550-5.1.1  two\nS: 550 5.1.1 three", "5.1.1", "one two three"},
		{"S> \"550 5.1.1 a\\x00b\\x1b[31m\\tc\\xff\\r\\n\"", "5.1.1", "a?b?[31m c?"},
		{"S: 550", "", ""},
		{"S: 550 5.1.1", "5.1.1", ""},
		{"S: 550 5.1.1.1 four numbers", "", "5.1.1.1 four numbers"},
		{"S: 550 5.1.1x", "", "5.1.1x"},
		{"S: 550 2.1.1 of another class", "", "2.1.1 of another class"},
		{"S: 550 5.7.1 a@relay.test may not write to b@example.test", "5.7.1", "[address] may not write to [address]"},
		{"S: 550 " + strings.Repeat("\u00e4", 600), "", strings.Repeat("\u00e4", 250)},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, greetPlain+mailFrom+ok+rcptB+tt.in+"\nIDLE")
			p := newPool(t, options())
			s, _, f := p.Open(t.Context(), step(h.addr, policy.Clear))
			if f != nil {
				t.Fatal(f)
			}
			sent := s.Send(t.Context(), mail(hello, "b@example.test"))
			s.Release()
			r := sent.Results[0]
			if r.Reply == nil || *r.Reply != (queue.Reply{Code: 550, Status: tt.status, Text: tt.text}) {
				t.Errorf("%+v", r.Reply)
			}
			if strings.Contains(r.Failure.Error(), "b@example") {
				t.Errorf("the failure names the recipient: %v", r.Failure)
			}
		})
	}
}
