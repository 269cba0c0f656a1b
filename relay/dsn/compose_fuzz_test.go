package dsn

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"slices"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

func newQPReader(b []byte) io.Reader { return quotedprintable.NewReader(bytes.NewReader(b)) }

// FuzzCompose lets strangers write everything that strangers can write.
func FuzzCompose(f *testing.F) {
	f.Add("order-4711", "rfc822;bob@example.net", "no such user", "detail", "bob", header+"\r\nbody\r\n", uint8(0))
	f.Add("a\r\nBcc: x@y", "x\r\n\r\n--=_", "550 \r\n.\r\n", "\x00\x85\u2028", "b\"o b", "Message-ID: <a@b>\r\n\r\n\r\n", uint8(7))
	f.Add("é", `utf-8;\x{D800}\x{0a}`, string(make([]byte, 3000)), "", "бобр", "\r\n", uint8(0xff))
	f.Add(" ", "utf-8", "a b", "x", "x", "Subject: x\ny\rz\r\n\r\n", uint8(0x15))
	f.Fuzz(func(t *testing.T, envid, orcpt, text, detail, local, original string, bits uint8) {
		n := notice()
		n.Kind = queue.NoticeKind(bits%3) + 1
		n.Message.EnvelopeID, n.Original, n.Message.Size = envid, []byte(original), int64(len(original))
		n.Message.UTF8 = bits&8 != 0
		n.Message.RequireTLS = bits&16 != 0
		if bits&32 != 0 {
			n.Message.Ret = "FULL"
		}
		rcpt := &n.Recipients[0]
		rcpt.ORcpt, rcpt.Address.Local, rcpt.Last.Reply.Text = orcpt, local, text
		rcpt.Last.Reply.Status = text
		rcpt.Last.Failure = &policy.Failure{Reason: policy.Reason(bits), Detail: detail, Status: detail}
		rcpt.Last.Why = detail
		if bits&64 != 0 {
			rcpt.Last.Reply = nil
		}
		if bits&128 != 0 {
			n.Message.Sender.Local = local
		}
		rcpt.Notify = queue.NotifySuccess | queue.NotifyFailure | queue.NotifyDelay
		d, err := composer(t).Compose(n)
		if err != nil || d == nil {
			t.Fatalf("%v, %v", d, err)
		}
		content, err := io.ReadAll(d.Body)
		if err != nil {
			t.Fatal(err)
		}
		checkWire(t, content)
		checkShape(t, d, content)
	})
}

func checkShape(t *testing.T, d *queue.Draft, content []byte) {
	t.Helper()
	if d.Message.EightBit != !isASCII(content) {
		t.Error("EightBit is wrong")
	}
	o := open(t, content)
	for name := range o.Header {
		if !slices.Contains([]string{"Date", "From", "To", "Subject", "Message-Id", "In-Reply-To", "References",
			"Auto-Submitted", "Mime-Version", "Content-Type", "Content-Transfer-Encoding"}, name) {
			t.Errorf("header field %q", name)
		}
	}
	if len(o.types) > 3 || len(o.fields) != 2 {
		t.Errorf("%d parts, %d groups\n%s", len(o.types), len(o.fields), content)
	}
	for _, group := range o.fields {
		for name, values := range group {
			if !slices.Contains([]string{"Original-Envelope-Id", "Reporting-Mta", "Arrival-Date", "X-Sealpost-Message",
				"Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-Mta", "Diagnostic-Code",
				"Last-Attempt-Date", "X-Sealpost-Reason", "X-Sealpost-Decision"}, name) || len(values) != 1 {
				t.Errorf("status field %q: %q", name, values)
			}
		}
		if s := group.Get("Status"); s != "" && !statusCode.MatchString(s) {
			t.Errorf("status %q", s)
		}
	}
}
