package dsn

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const header = "From: Shop <shop@example.com>\r\nTo: bob@example.net\r\nSubject: We would love\r\n your review\r\nMessage-ID: <invitation.1@example.com>\r\n"

func composer(t testing.TB) *Composer {
	t.Helper()
	c, err := New(Options{Hostname: "Relay.Example.com.", NewID: func(time.Time) queue.ID { return "01TESTNOTICE00000000000000" }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// notice is the happy notice; each test changes what it is about.
func notice() queue.Notice {
	body := header + "\r\nHello Bob.\r\n"
	return queue.Notice{
		Kind: queue.NoticeFailed,
		Message: queue.Message{
			ID: "01TESTMESSAGE0000000000000", AcceptedAt: noon.Add(-time.Hour), Listener: "main",
			Sender: queue.Address{Local: "shop", Domain: "example.com"}, Size: int64(len(body)),
		},
		Recipients: []queue.Recipient{{
			Address: queue.Address{Local: "bob", Domain: "example.net"}, State: queue.Bounced,
			Last: &queue.Outcome{
				Kind: queue.BouncedNow, At: noon.Add(-time.Minute), Host: "mx1.example.net",
				Reply:   &queue.Reply{Code: 550, Status: "5.1.1", Text: "no such user"},
				Level:   policy.DANE,
				Failure: &policy.Failure{Reason: policy.ReplyPermanent, Host: "mx1.example.net"},
			},
		}},
		Original: []byte(body),
		Now:      noon,
	}
}

// compose returns the draft and its content.
func compose(t testing.TB, n queue.Notice) (*queue.Draft, []byte) {
	t.Helper()
	d, err := composer(t).Compose(n)
	if err != nil {
		t.Fatal(err)
	}
	if d == nil {
		t.Fatal("no draft")
	}
	b, err := io.ReadAll(d.Body)
	if err != nil {
		t.Fatal(err)
	}
	return d, b
}

func TestNothingToSend(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*queue.Notice){
		"RFC 5321 6.1 null reverse path": func(n *queue.Notice) { n.Message.Sender = queue.Address{} },
		"RFC 3461 5.2.2 (d) NEVER":       func(n *queue.Notice) { n.Recipients[0].Notify = queue.NotifyNever },
		"RFC 3461 5.2.6 (b) failure not wanted": func(n *queue.Notice) {
			n.Recipients[0].Notify = queue.NotifySuccess | queue.NotifyDelay
		},
		"RFC 3461 5.2.5 (c) delay not wanted": func(n *queue.Notice) {
			n.Kind, n.Recipients[0].Notify = queue.NoticeDelayed, queue.NotifyFailure
		},
		"RFC 3461 5.2.2 (e) relayed without a wish": func(n *queue.Notice) { n.Kind = queue.NoticeRelayed },
		"RFC 3461 5.2.1 the next host sends it": func(n *queue.Notice) {
			n.Kind, n.Recipients[0].Notify = queue.NoticeRelayed, queue.NotifySuccess
			n.Recipients[0].Last = &queue.Outcome{Kind: queue.DeliveredNow, DSNHandedOn: true}
		},
		"no recipients": func(n *queue.Notice) { n.Recipients = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := notice()
			change(&n)
			if d, err := composer(t).Compose(n); d != nil || err != nil {
				t.Errorf("got %v, %v: want no draft, no error", d, err)
			}
		})
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Hostname: "bad name"}); err == nil {
		t.Error("a bad hostname was taken")
	}
	n := notice()
	n.Kind = 9
	if _, err := composer(t).Compose(n); err == nil {
		t.Error("an unknown kind was taken")
	}
	n = notice()
	n.Now = time.Time{}
	if _, err := composer(t).Compose(n); err == nil {
		t.Error("a notice without a time was taken")
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Message.RequireTLS, n.Message.Ret, n.Message.Floor = true, "FULL", policy.DANE
	d, content := compose(t, n)
	m := d.Message
	if !m.Sender.IsNull() {
		t.Errorf("RFC 5321 4.5.5: sender %v", m.Sender)
	}
	if len(d.Recipients) != 1 || d.Recipients[0].Address != n.Message.Sender || d.Recipients[0].Notify != queue.NotifyNever {
		t.Errorf("RFC 3461 6.1: recipients %+v", d.Recipients)
	}
	if m.Ret != "" || m.EnvelopeID != "" {
		t.Errorf("RFC 3461 6.1: RET %q, ENVID %q", m.Ret, m.EnvelopeID)
	}
	if !m.RequireTLS {
		t.Error("RFC 8689 5: the notice does not ask for REQUIRETLS")
	}
	if m.Floor != policy.Encrypted {
		t.Errorf("floor %v of a notice about a message with floor dane: want encrypted", m.Floor)
	}
	if m.EightBit || m.UTF8 {
		t.Error("an ASCII notice claims octets above 127")
	}
	o := open(t, content)
	if bytes.Contains(content, []byte("Hello Bob")) || o.types[2] != "text/rfc822-headers" {
		t.Errorf("RFC 8689 5: the body of a REQUIRETLS message came back (%v)", o.types)
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	_, content := compose(t, notice())
	o := open(t, content)
	for name, want := range map[string]string{
		"From":           "Mail Delivery System <MAILER-DAEMON@relay.example.com>",
		"To":             "<shop@example.com>",
		"Auto-Submitted": "auto-replied", // RFC 3834 5.2
		"Mime-Version":   "1.0",
		"Message-Id":     "<01TESTNOTICE00000000000000@relay.example.com>",
		"In-Reply-To":    "<invitation.1@example.com>", // RFC 3834 3.1.6
		"References":     "<invitation.1@example.com>",
		"Date":           "Wed, 04 Mar 2026 12:00:00 +0000",
		"Subject":        "Your message could not be delivered",
	} {
		if got := o.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(o.Header) != 10 {
		t.Errorf("%d header fields: %v", len(o.Header), o.Header)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Message.EnvelopeID = "Order 4711+x=Y"
	n.Recipients[0].ORcpt = "rfc822;Bob@Example.NET"
	_, content := compose(t, n)
	o := open(t, content)
	want := []map[string]string{
		{
			"Original-Envelope-Id": "Order 4711+x=Y", // RFC 3461 6.3 (a): decoded
			"Reporting-Mta":        "dns; relay.example.com",
			"Arrival-Date":         "Wed, 04 Mar 2026 11:00:00 +0000",
			"X-Sealpost-Message":   "01TESTMESSAGE0000000000000",
		},
		{
			"Original-Recipient": "rfc822; Bob@Example.NET", // RFC 3464 2.3.1: case is kept
			"Final-Recipient":    "rfc822; bob@example.net",
			"Action":             "failed",
			"Status":             "5.1.1",
			"Remote-Mta":         "dns; mx1.example.net",
			"Diagnostic-Code":    "smtp; 550 5.1.1 no such user",
			"Last-Attempt-Date":  "Wed, 04 Mar 2026 11:59:00 +0000",
			"X-Sealpost-Reason":  "reply-permanent",
		},
	}
	if len(o.fields) != len(want) {
		t.Fatalf("%d groups: %v", len(o.fields), o.fields)
	}
	for i, group := range want {
		for name, value := range group {
			if got := o.fields[i][name]; len(got) != 1 || got[0] != value {
				t.Errorf("group %d: %s: %q, want %q", i, name, got, value)
			}
		}
		if len(o.fields[i]) != len(group) {
			t.Errorf("group %d: %v", i, o.fields[i])
		}
	}
}

func TestFieldsAbsent(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Recipients[0].Last.Reply, n.Recipients[0].Last.Host = nil, ""
	n.Recipients[0].Last.Failure = &policy.Failure{Reason: policy.NullMX}
	_, content := compose(t, n)
	o := open(t, content)
	for _, name := range []string{"Original-Envelope-Id"} { // RFC 3461 6.3 (a)
		if _, ok := o.fields[0][name]; ok {
			t.Errorf("%s is there", name)
		}
	}
	// RFC 3461 6.3 (d), RFC 3464 2.3.5, 2.3.9
	for _, name := range []string{"Original-Recipient", "Remote-Mta", "Will-Retry-Until"} {
		if _, ok := o.fields[1][name]; ok {
			t.Errorf("%s is there", name)
		}
	}
	if got := o.fields[1].Get("Status"); got != "5.1.10" {
		t.Errorf("RFC 7505 4.1: status %q", got)
	}
}

// RFC 3464 2.3.5: a host of which only DNS was asked had no part in it.
func TestRemoteMTA(t *testing.T) {
	t.Parallel()
	for reason, want := range map[policy.Reason]string{
		policy.TLSAUnknown: "", policy.NoAddress: "", policy.HeldAfterChange: "",
		policy.ConnectTimeout: "dns; mx1.example.net", policy.STARTTLSMissing: "dns; mx1.example.net",
	} {
		n := notice()
		n.Recipients[0].Last.Reply, n.Recipients[0].Last.Failure = nil, &policy.Failure{Reason: reason, Host: "mx1.example.net"}
		_, content := compose(t, n)
		if got := open(t, content).fields[1].Get("Remote-MTA"); got != want {
			t.Errorf("%s: Remote-MTA %q, want %q", reason, got, want)
		}
	}
}

// RFC 5322 2.1.1: whatever comes in, no line is over the limit.
func TestLongWords(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ж", 1200)
	n := notice()
	n.Message.EnvelopeID, n.Recipients[0].ORcpt = strings.Repeat("e", 3000), "rfc822;"+strings.Repeat("r", 3000)
	n.Recipients[0].Last.Reply.Text, n.Recipients[0].Last.Failure.Detail = long, long
	_, content := compose(t, n)
	checkWire(t, content)
	o := open(t, content)
	if got := strings.ReplaceAll(o.fields[0].Get("Original-Envelope-Id"), " ", ""); got != n.Message.EnvelopeID {
		t.Errorf("%d octets of the envelope identifier are left", len(got))
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	reply := func(code int, status string) *queue.Reply { return &queue.Reply{Code: code, Status: status, Text: "x"} }
	fail := func(r policy.Reason) *policy.Failure { return &policy.Failure{Reason: r} }
	for _, tt := range []struct {
		name string
		kind queue.NoticeKind
		last *queue.Outcome
		want string
	}{
		{"RFC 3463 the host's own code", queue.NoticeFailed, &queue.Outcome{Reply: reply(550, "5.1.1"), Failure: fail(policy.ReplyPermanent)}, "5.1.1"},
		{"RFC 2034 4 class against the reply", queue.NoticeFailed, &queue.Outcome{Reply: reply(550, "4.1.1"), Failure: fail(policy.ReplyPermanent)}, "5.0.0"},
		{"malformed code", queue.NoticeFailed, &queue.Outcome{Reply: reply(550, "5.01.1\r\nX: y"), Failure: fail(policy.ReplyPermanent)}, "5.0.0"},
		{"RFC 3463 3.5 expired keeps the real problem", queue.NoticeFailed, &queue.Outcome{Failure: fail(policy.ConnectRefused)}, "4.4.1"},
		{"expired and nothing else known", queue.NoticeFailed, &queue.Outcome{Failure: fail(policy.Expired)}, "5.4.7"},
		{"never tried", queue.NoticeFailed, nil, "4.4.7"},
		{"RFC 8689 4.2.1", queue.NoticeFailed, &queue.Outcome{Failure: fail(policy.RequireTLSMissing)}, "5.7.30"},
		{"below the floor, bounced by its own wish", queue.NoticeFailed, &queue.Outcome{Failure: &policy.Failure{Reason: policy.STARTTLSMissing, Final: true}}, "5.7.4"},
		{"failure overrides the reply of a host", queue.NoticeFailed, &queue.Outcome{Reply: reply(454, "4.7.0"), Failure: &policy.Failure{Reason: policy.STARTTLSTemporary, Status: "5.7.10"}}, "5.7.10"},
		{"a positive reply explains no failure", queue.NoticeFailed, &queue.Outcome{Reply: reply(220, "2.0.0"), Failure: fail(policy.HandshakeEOF)}, "4.7.5"},
		{"RFC 3464 2.3.4 delayed is temporary", queue.NoticeDelayed, &queue.Outcome{Failure: fail(policy.RequireTLSMissing)}, "4.7.30"},
		{"delayed by a reply", queue.NoticeDelayed, &queue.Outcome{Reply: reply(451, "4.7.1"), Failure: fail(policy.ReplyTemporary)}, "4.7.1"},
		{"relayed with the host's code", queue.NoticeRelayed, &queue.Outcome{Kind: queue.DeliveredNow, Reply: reply(250, "2.6.0")}, "2.6.0"},
		{"relayed without one", queue.NoticeRelayed, &queue.Outcome{Kind: queue.DeliveredNow, Reply: reply(250, "")}, "2.0.0"},
		{"bounced without a reason", queue.NoticeFailed, &queue.Outcome{Kind: queue.BouncedNow}, "5.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := status(tt.kind, tt.last); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestOriginal(t *testing.T) {
	t.Parallel()
	body := header + "\r\nHello Bob.\r\n"
	for _, tt := range []struct {
		name   string
		change func(*queue.Notice)
		kind   string
		holds  string // in the last part
	}{
		{"no RET: the header", func(*queue.Notice) {}, "text/rfc822-headers", "Subject: We would love\r\n your review\r\n"},
		{"RFC 3461 4.3 RET=HDRS", func(n *queue.Notice) { n.Message.Ret = "HDRS" }, "text/rfc822-headers", "Subject"},
		{"RFC 3461 4.3 RET=FULL", func(n *queue.Notice) { n.Message.Ret = "FULL" }, "message/rfc822", "\r\n\r\nHello Bob.\r\n"},
		{"RFC 3461 4.3 RET=FULL of a delay", func(n *queue.Notice) {
			n.Message.Ret, n.Kind = "FULL", queue.NoticeDelayed
		}, "text/rfc822-headers", "Subject"},
		{"RET=FULL, but held back for its size", func(n *queue.Notice) { n.Message.Ret, n.Message.Size = "FULL", 1<<20 }, "text/rfc822-headers", "Subject"},
		{"RET=FULL, 8-bit body: the header, which any road carries", func(n *queue.Notice) {
			n.Original = []byte(header + "\r\nH\xc3\xa9\r\n")
			n.Message.Ret, n.Message.Size = "FULL", int64(len(n.Original))
		}, "text/rfc822-headers", "Subject"},
		{"RET=FULL, a line of 999 octets", func(n *queue.Notice) {
			n.Original = []byte(header + "\r\n" + strings.Repeat("a", 999) + "\r\n")
			n.Message.Ret, n.Message.Size = "FULL", int64(len(n.Original))
		}, "text/rfc822-headers", "Subject"},
		{"a header that was cut off", func(n *queue.Notice) { n.Original = []byte(header + "X-Half: begi") }, "text/rfc822-headers", "Subject"},
		{"an 8-bit header", func(n *queue.Notice) { n.Original = []byte("Subject: \xe9t\xe9\r\n\r\nx") }, "text/rfc822-headers", "\xe9t\xe9"},
		{"RFC 6533 4.3, way back without SMTPUTF8", func(n *queue.Notice) {
			n.Message.UTF8, n.Original = true, []byte("Subject: été\r\n\r\nx")
		}, "message/global-headers", "été"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := notice()
			n.Original = []byte(body)
			tt.change(&n)
			d, content := compose(t, n)
			o := open(t, content)
			if len(o.types) != 3 || o.types[2] != tt.kind {
				t.Fatalf("parts %v", o.types)
			}
			got := string(decode(t, o, 2))
			if !strings.Contains(got, tt.holds) {
				t.Errorf("last part %q does not hold %q", got, tt.holds)
			}
			if strings.Contains(got, "X-Half") {
				t.Error("half a field came back")
			}
			if d.Message.EightBit != !isASCII(content) {
				t.Errorf("EightBit is %v", d.Message.EightBit)
			}
			checkWire(t, content)
		})
	}
	n := notice()
	n.Original = nil
	_, content := compose(t, n)
	if o := open(t, content); len(o.types) != 2 {
		t.Errorf("without an original: parts %v", o.types)
	}
}

func TestInternationalised(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Recipients[0].Address = queue.Address{Local: "бобр", Domain: "example.net"}
	n.Recipients[0].ORcpt = `utf-8;\x{431}\x{43E}\x{431}\x{440}@example.net`
	d, content := compose(t, n)
	o := open(t, content)
	if d.Message.UTF8 || d.Message.EightBit || !isASCII(content) {
		t.Error("RFC 6533 4.5: the notice to an ASCII address is not 7-bit")
	}
	if o.types[1] != "message/global-delivery-status" {
		t.Errorf("RFC 6533 4.1: %v", o.types)
	}
	if got := o.fields[1].Get("Final-Recipient"); got != "utf-8; бобр@example.net" {
		t.Errorf("final recipient %q", got)
	}
	if got := o.fields[1].Get("Original-Recipient"); got != "utf-8; бобр@example.net" {
		t.Errorf("RFC 6533 3: original recipient %q", got)
	}

	n.Message.Sender, n.Message.UTF8 = queue.Address{Local: "лавка", Domain: "example.com"}, true
	n.Original = []byte("Subject: été\r\n\r\n")
	d, content = compose(t, n)
	o = open(t, content)
	if !d.Message.UTF8 || !d.Message.EightBit {
		t.Error("a notice to an internationalised address does not ask for SMTPUTF8")
	}
	if got := o.Get("To"); got != "<лавка@example.com>" {
		t.Errorf("To: %q", got)
	}
	if got := o.heads[2].Get("Content-Transfer-Encoding"); got != eightBit || o.Get("Content-Transfer-Encoding") != eightBit {
		t.Errorf("RFC 2045 6.4: encoding %q in %q", got, o.Get("Content-Transfer-Encoding"))
	}
	checkWire(t, content)
}

func TestInternalFaultStaysInside(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Recipients[0].Last.Reply = nil
	n.Recipients[0].Last.Failure = &policy.Failure{Reason: policy.Internal, Detail: "open /var/secret: nil map"}
	n.Recipients[0].Last.Why = "secret words"
	_, content := compose(t, n)
	if bytes.Contains(content, []byte("secret")) {
		t.Errorf("the text of an internal fault went out:\n%s", content)
	}
}

func TestInjection(t *testing.T) {
	t.Parallel()
	evil := "x\r\nBcc: victim@example.org\r\n\r\n--=_\r\nContent-Type: text/html\r\n\r\n\x00<b>"
	n := notice()
	n.Message.EnvelopeID = evil
	n.Recipients[0].ORcpt = "rfc822;" + evil
	n.Recipients[0].Last.Reply.Text = evil
	n.Recipients[0].Last.Failure.Detail, n.Recipients[0].Last.Why = evil, evil
	n.Original = []byte("Message-ID: <a@b>\r\n\tevil: yes\r\nSubject: s\r\n\r\n")
	_, content := compose(t, n)
	o := open(t, content)
	if o.Get("Bcc") != "" || len(o.types) != 3 || len(o.fields) != 2 {
		t.Errorf("injected: %v %v %v", o.Header, o.types, o.fields)
	}
	if o.Get("In-Reply-To") != "" {
		t.Errorf("a malformed Message-ID was repeated: %q", o.Get("In-Reply-To"))
	}
	checkWire(t, content)
}

// A boundary is in no part, and nobody who writes a part can know it before.
func TestBoundary(t *testing.T) {
	t.Parallel()
	first := boundaryFor([]part{{content: []byte("a")}, {content: []byte("b")}})
	// Whoever saw one boundary and puts it into the next notice gains nothing.
	forged := []part{{content: []byte("a\r\n--" + first + "--\r\n")}, {content: []byte("b")}}
	if again := boundaryFor(forged); again == first || occurs(again, forged) {
		t.Errorf("boundary %q is in a part", again)
	}
	if moved := boundaryFor([]part{{content: []byte("ab")}, {}}); moved == first {
		t.Error("the boundary does not depend on where the parts end")
	}
	if !occurs(first, forged) {
		t.Error("a boundary that is in a part is not seen")
	}
}

// RFC 3464 2.3.2: the address is reported exactly; for the eyes it is made safe.
func TestReadingDirection(t *testing.T) {
	t.Parallel()
	n := notice()
	n.Recipients[0].Address.Local = "bob\u202egpj"
	_, content := compose(t, n)
	o := open(t, content)
	if got := o.fields[1].Get("Final-Recipient"); got != "utf-8; bob\u202egpj@example.net" {
		t.Errorf("final recipient %q", got)
	}
	if text := decode(t, o, 0); bytes.Contains(text, []byte("\u202e")) {
		t.Errorf("the text turns its direction: %q", text)
	}
}
