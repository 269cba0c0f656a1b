package relay

import (
	"strconv"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// What hosts say, by code, enhanced status, stage and words.
func TestSignOfReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at     stage
		code   int
		status string
		text   string
		want   Sign
	}{
		{atOpen, 421, "4.7.0", "Too many connections from your host", SignConnections},
		{atOpen, 421, "", "mx.example Too many concurrent SMTP connections; please try again later.", SignConnections},
		{atOpen, 421, "4.3.2", "Service not available, closing transmission channel", SignBusy},
		{atOpen, 421, "4.7.0", "Try again later", SignRate},
		{atOpen, 421, "", "", SignBusy},
		{atOpen, 450, "", "", SignBusy},
		{atOpen, 554, "5.7.1", "Too many connections", SignNone},
		{atSender, 421, "4.7.0", "Connection rate limit exceeded", SignConnections},
		{atSender, 451, "4.7.1", "Try again later", SignRate},
		{atSender, 450, "4.7.1", "come back", SignRate},
		{atSender, 452, "4.3.1", "Insufficient system storage", SignBusy},
		{atSender, 451, "4.3.2", "Try later", SignBusy},
		{atSender, 451, "4.4.5", "congested", SignBusy},
		{atSender, 450, "4.1.8", "sender domain not found", SignGood},
		{atSender, 451, "4.7.1", "Greylisting in action, please come back in 00:05:00", SignGood},
		{afterwards, 421, "4.4.2", "closing", SignBusy},
		{afterwards, 421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail", SignRate},
		{afterwards, 450, "4.7.28", "x", SignRate},
		{afterwards, 451, "4.7.650", "The mail server has been temporarily rate limited due to IP reputation", SignRate},
		{afterwards, 451, "4.7.500", "Server busy. Please try again later from", SignRate},
		{afterwards, 451, "4.7.400", "something", SignGood},
		{afterwards, 450, "4.7.1", "Error: too many messages from you, slow down", SignRate},
		{afterwards, 450, "4.2.1", "The user you are trying to contact is receiving mail at a rate limit", SignGood},
		{afterwards, 452, "4.5.3", "Too many recipients, too many messages", SignGood},
		{afterwards, 452, "4.2.2", "Mailbox full", SignGood},
		{afterwards, 450, "4.7.1", "Greylisted, try again in 300 seconds", SignGood},
		{afterwards, 451, "4.7.1", "Please try again later", SignGood},
		{afterwards, 450, "", "mailbox busy", SignGood},
		{afterwards, 451, "4.3.0", "local error", SignGood},
		{afterwards, 550, "5.7.1", "rate limit", SignGood},
	} {
		var got Sign
		switch c.at {
		case atOpen:
			f := &policy.Failure{Reason: policy.GreetingTemporary, Status: c.status, Detail: "greeting: " + c.text}
			if c.code >= 500 {
				f.Reason = policy.GreetingPermanent
			}
			got = signOfOpen(f)
		default:
			command := "RCPT"
			if c.at == atSender {
				command = "MAIL"
			}
			got = signOfReply(&queue.Reply{Code: c.code, Status: c.status, Text: c.text}, &policy.Failure{Reason: policy.ReplyTemporary, Detail: command + ": x"})
		}
		if got != c.want {
			t.Errorf("stage %d, %d %s %s: %v, want %v", c.at, c.code, c.status, c.text, got, c.want)
		}
	}
	for r, want := range map[policy.Reason]Sign{
		policy.EHLOTemporary: SignBusy, policy.ConnectRefused: SignDown, policy.ConnectTimeout: SignDown, policy.ConnectionLost: SignDown,
		policy.Interrupted: SignNone, policy.HandshakeAlert: SignNone, policy.STARTTLSMissing: SignNone, policy.GreetingPermanent: SignNone, policy.Internal: SignNone,
	} {
		if got := signOfOpen(&policy.Failure{Reason: r}); got != want {
			t.Errorf("%v at open: %v, want %v", r, got, want)
		}
	}
	if signOfReply(nil, nil) != SignGood || signOfReply(nil, &policy.Failure{Reason: policy.ConnectionLost}) != SignNone {
		t.Error("no reply is misread")
	}
	// The connection was lost before the message's turn, and the next one was refused.
	moved := &policy.Failure{Reason: policy.GreetingTemporary, Status: "4.7.0", Detail: "greeting: 421 4.7.0 too many connections from you"}
	if got := signOf(&Sent{Results: []RecipientResult{{Failure: moved}}}); got != SignConnections {
		t.Errorf("a connection refused in the middle: %v", got)
	}
	sent := &Sent{Results: []RecipientResult{{}, {Reply: &queue.Reply{Code: 451, Status: "4.7.28"}, Failure: &policy.Failure{Reason: policy.ReplyTemporary}}}}
	if signOf(sent) != SignRate {
		t.Error("throttling of one recipient is lost beside a delivery")
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"Greylisted, try again in 300 seconds":                                           300 * time.Second,
		"<a@b.example>: Recipient address rejected: Greylisted, see http://x.example/y1": 0,
		"Recipient address rejected: Greylisted for 5 minutes":                           5 * time.Minute,
		"Greylisted for 300 seconds (see http://postgrey.example/?r=b.example)":          300 * time.Second,
		"Greylisting in action, please come back in 00:05:00":                            5 * time.Minute,
		"greylisted, come back in 00:00:30":                                              30 * time.Second,
		"Please try again in 5 minutes":                                                  5 * time.Minute,
		"Temporarily rejected. Retry after 10 min.":                                      10 * time.Minute,
		"retry timeout 60s":                time.Minute,
		"Try again in 1 hour":              time.Hour,
		"Try again in 5 hours":             time.Hour,
		"Try again in 0 seconds":           0,
		"Deferred, wait 1m please":         time.Minute,
		"try again later":                  0,
		"mailbox full for 300 seconds":     0,
		"try again, 192.0.2.7 seconds":     0,
		"try again in 99999999999 seconds": 0,
		"try again [id 20 s]":              20 * time.Second,
		"greylisted 12:99:00":              0,
		"":                                 0,
	} {
		if want > 0 {
			want += hintMargin
		}
		if got := hintOf(&queue.Reply{Code: 450, Text: text}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if hintOf(nil) != 0 || hintOf(&queue.Reply{Code: 550, Text: "try again in 5 minutes"}) != 0 {
		t.Error("a hint without a temporary reply")
	}
}

func FuzzHint(f *testing.F) {
	for _, s := range []string{"Greylisted, try again in 300 seconds", "come back in 00:05:00", "retry 5m", "wait 1h 2s", "again in 9:9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := hintOf(&queue.Reply{Code: 451, Text: s})
		if d != 0 && (d < minHint+hintMargin || d > maxHint+hintMargin) {
			t.Fatalf("%q: %v", s, d)
		}
		if d != 0 && !strings.ContainsAny(s, "0123456789") {
			t.Fatalf("%q: %v out of nothing", s, d)
		}
	})
}

// Whatever number is between the words is read as it is written.
func TestHintNumbers(t *testing.T) {
	t.Parallel()
	err := quick.Check(func(n uint16) bool {
		want := min(max(time.Duration(n)*time.Second, minHint), maxHint) + hintMargin
		got := hintOf(&queue.Reply{Code: 450, Text: "try again in " + strconv.Itoa(int(n)) + " seconds"})
		return n == 0 && got == 0 || got == want
	}, nil)
	if err != nil {
		t.Error(err)
	}
}
