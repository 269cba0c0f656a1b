package dsn

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// textPart says it to a person (RFC 6522 3: the first part).
func (r *report) textPart() part {
	var b bytes.Buffer
	r.opening(&b)
	for i := range r.Recipients {
		b.WriteString("\r\n")
		r.recipientText(&b, &r.Recipients[i])
	}
	b.WriteString("\r\n")
	para(&b, "", r.ending())
	p := part{mediaType: "text/plain; charset=utf-8", about: "Notification", content: b.Bytes()}
	if !isASCII(p.content) {
		p.content, p.encoding = encodeQP(p.content), quotedPrintable
	}
	return p
}

func (r *report) opening(b *bytes.Buffer) {
	para(b, "", "This is the mail relay at "+string(r.host)+".")
	b.WriteString("\r\n")
	who := "this recipient"
	if len(r.Recipients) > 1 {
		who = fmt.Sprintf("these %d recipients", len(r.Recipients))
	}
	switch r.Kind {
	case queue.NoticeFailed:
		para(b, "", "Your message could not be delivered to "+who+".")
	case queue.NoticeDelayed:
		para(b, "", "Your message could not be delivered to "+who+
			" yet. It is not lost, and you need not send it again.")
	default:
		para(b, "", "Your message was passed on to the mail host of "+who+
			". That host sends no notices of its own: this is the last one you will get about it.")
	}
	b.WriteString("\r\n")
	if !r.Message.AcceptedAt.IsZero() {
		para(b, "", "Accepted here: "+when(r.Message.AcceptedAt))
	}
	if r.Message.ID != "" {
		para(b, "", "Message number: "+readable(string(r.Message.ID)))
	}
	if r.Message.EnvelopeID != "" {
		para(b, "", "Your envelope identifier: "+readable(r.Message.EnvelopeID))
	}
}

func (r *report) recipientText(b *bytes.Buffer, rcpt *queue.Recipient) {
	para(b, "", "<"+readable(rcpt.Address.String())+">")
	item := func(label, text string) { para(b, "    ", label+": "+readable(text)) }
	last := rcpt.Last
	if last == nil {
		item("What happened", "no delivery could be tried in time")
		r.protection(item, last)
		return
	}
	if r.Kind == queue.NoticeRelayed {
		item("What happened", "the host took the message")
	} else if f := last.Failure; f != nil {
		item("What happened", happened(rcpt, f))
		if last.Why != "" && f.Reason != policy.Internal {
			item("How it was decided", cut(last.Why)) // policy: rule, source of the floor, what the hosts offered
		}
	}
	if last.Host != "" {
		item("Mail host", string(last.Host))
	}
	if last.Reply != nil {
		item("The host said", replyLine(last.Reply))
	}
	r.protection(item, last)
	if !last.At.IsZero() {
		item("Last try", when(last.At))
	}
	item("Status", status(r.Kind, last))
}

// happened says why, and that time ran out if it did.
func happened(rcpt *queue.Recipient, f *policy.Failure) string {
	why := f.Reason.English()
	if f.Detail != "" && f.Reason != policy.Internal {
		why += " (" + cut(f.Detail) + ")"
	}
	if rcpt.State == queue.Expired && f.Reason != policy.Expired {
		return "its time was over; at the last try " + why
	}
	return why
}

// protection says what was wanted, by whom, and what was reached.
func (r *report) protection(item func(label, text string), last *queue.Outcome) {
	var wishes []string
	if r.Message.RequireTLS {
		wishes = append(wishes, "REQUIRETLS, asked for by the message (RFC 8689)")
	}
	if r.Message.Floor != policy.Unset {
		wishes = append(wishes, atLeast(r.Message.Floor)+", asked for by the message")
	}
	if r.Message.Account != policy.Unset {
		wishes = append(wishes, atLeast(r.Message.Account)+", set for the sending account")
	}
	if len(wishes) > 0 {
		item("Protection wanted", strings.Join(wishes, "; "))
	}
	if last != nil && last.Level != policy.Unset {
		item("Protection reached", last.Level.String())
	}
}

func atLeast(l policy.Level) string {
	if l == policy.DANE {
		return l.String()
	}
	return l.String() + " or better"
}

// ending says what happens next.
func (r *report) ending() string {
	switch {
	case r.Kind == queue.NoticeFailed:
		return "The relay has given up and will not try again. A report for programs and what there is of your message follow."
	case r.Kind == queue.NoticeRelayed:
		return "Nothing more happens here. A report for programs and the header of your message follow."
	case r.WillRetryUntil.IsZero():
		return "The relay goes on trying. A report for programs and the header of your message follow."
	default:
		left := r.WillRetryUntil.Sub(r.Now).Round(time.Minute)
		return fmt.Sprintf("The relay goes on trying until %s (%s from now) and tells you if it gives up. "+
			"A report for programs and the header of your message follow.", when(r.WillRetryUntil), span(left))
	}
}

// span writes a duration for a person: the two largest of days, hours, minutes.
func span(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0 && hours > 0:
		return count(days, "day") + " and " + count(hours, "hour")
	case days > 0:
		return count(days, "day")
	case hours > 0 && minutes > 0:
		return count(hours, "hour") + " and " + count(minutes, "minute")
	case hours > 0:
		return count(hours, "hour")
	default:
		return count(minutes, "minute")
	}
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// para writes a paragraph in lines, each after the indent; text is clean or ours.
func para(b *bytes.Buffer, indent, text string) {
	var p bytes.Buffer
	wrap(&p, text, wrapping{col: len(indent), glue: " ", next: "\r\n" + indent + indent})
	b.WriteString(indent)
	b.Write(bytes.TrimPrefix(p.Bytes(), []byte(" ")))
	b.WriteString("\r\n")
}
