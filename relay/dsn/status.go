package dsn

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// statusPart writes the machine-readable part: message/delivery-status (RFC 3464
// 2.1), or its internationalised sister when an address needs it (RFC 6533 4.1).
func (r *report) statusPart() part {
	s := *r
	p := part{mediaType: "message/delivery-status", about: "Delivery report"}
	if r.international() {
		p.mediaType = "message/global-delivery-status"
		s.wide = true
	}
	var b bytes.Buffer
	s.messageFields(&b)
	for i := range s.Recipients {
		b.WriteString("\r\n") // RFC 3464 2.3: each group is preceded by a blank line
		s.recipientFields(&b, &s.Recipients[i])
	}
	p.content = b.Bytes()
	switch {
	case isASCII(p.content):
	case r.wide:
		p.encoding = eightBit
	default:
		// RFC 6533 4.5: the way back may have no SMTPUTF8 and no 8BITMIME.
		p.content, p.encoding = encodeQP(p.content), quotedPrintable
	}
	return p
}

// international reports whether an address in the report has characters outside ASCII.
func (r *report) international() bool {
	for _, rcpt := range r.Recipients {
		if rcpt.Address.NeedsUTF8() || !isASCII([]byte(original(rcpt.ORcpt))) {
			return true
		}
	}
	return false
}

// messageFields writes RFC 3464 2.2.
func (r *report) messageFields(b *bytes.Buffer) {
	// RFC 3461 6.3 (a): exactly when the message came with one.
	if r.Message.EnvelopeID != "" {
		field(b, "Original-Envelope-Id", cleanASCII(r.Message.EnvelopeID))
	}
	field(b, "Reporting-MTA", "dns; "+string(r.host))
	if !r.Message.AcceptedAt.IsZero() {
		field(b, "Arrival-Date", r.Message.AcceptedAt.UTC().Format(dateTime))
	}
	if r.Message.ID != "" {
		field(b, "X-Sealpost-Message", cleanASCII(string(r.Message.ID)))
	}
}

// recipientFields writes RFC 3464 2.3 for one recipient.
func (r *report) recipientFields(b *bytes.Buffer, rcpt *queue.Recipient) {
	// RFC 3461 6.3 (d): exactly when ORCPT was given.
	if o := original(rcpt.ORcpt); o != "" {
		kind, addr, found := strings.Cut(o, ";")
		if !found {
			kind, addr = "unknown", o // RFC 3464 2.3.1
		}
		field(b, "Original-Recipient", cleanASCII(kind)+"; "+r.clean(addr))
	}
	kind := "rfc822"
	if rcpt.Address.NeedsUTF8() {
		kind = "utf-8" // RFC 6533 3
	}
	field(b, "Final-Recipient", kind+"; "+r.clean(rcpt.Address.String()))
	field(b, "Action", action(r.Kind))
	field(b, "Status", status(r.Kind, rcpt.Last))
	if last := rcpt.Last; last != nil {
		r.lastFields(b, last)
	}
	if r.Kind == queue.NoticeDelayed && !r.WillRetryUntil.IsZero() {
		field(b, "Will-Retry-Until", r.WillRetryUntil.UTC().Format(dateTime)) // RFC 3464 2.3.9
	}
	if f := failure(rcpt.Last); f != nil {
		field(b, "X-Sealpost-Reason", f.Reason.String())
		if rcpt.Last.Why != "" && f.Reason != policy.Internal {
			folded(b, "X-Sealpost-Decision", r.clean(cut(rcpt.Last.Why)))
		}
	}
}

// lastFields writes what the last try said.
func (r *report) lastFields(b *bytes.Buffer, last *queue.Outcome) {
	// RFC 3464 2.3.5: only when a host was involved.
	if last.Host != "" && involved(last) {
		field(b, "Remote-MTA", "dns; "+cleanASCII(string(last.Host)))
	}
	switch {
	case last.Reply != nil:
		folded(b, "Diagnostic-Code", "smtp; "+r.clean(replyLine(last.Reply))) // RFC 3461 9.2
	case failure(last) != nil:
		// RFC 3464 2.1.2: types that begin with X- are nobody else's.
		folded(b, "Diagnostic-Code", "x-sealpost; "+r.clean(said(failure(last))))
	}
	if !last.At.IsZero() {
		field(b, "Last-Attempt-Date", last.At.UTC().Format(dateTime))
	}
}

// involved reports whether the host was spoken to, or tried: what DNS said about
// it before does not count.
func involved(last *queue.Outcome) bool {
	if last.Reply != nil || last.Failure == nil {
		return true
	}
	switch last.Failure.Reason {
	case policy.DNSUnknown, policy.DomainNotFound, policy.NullMX, policy.NoAddress, policy.LoopsToSelf, policy.AddressRefused,
		policy.ResolverOutage, policy.TLSAUnknown, policy.STSFetchFailed, policy.STSInvalid, policy.STSWebPKI, policy.STSMismatch,
		policy.DNSSECMissing, policy.TLSAUnusable, policy.FallbackNotYet, policy.HeldAfterChange:
		return false
	}
	return true
}

func action(kind queue.NoticeKind) string {
	switch kind {
	case queue.NoticeFailed:
		return "failed"
	case queue.NoticeDelayed:
		return "delayed"
	default:
		return "relayed"
	}
}

var (
	statusCode = regexp.MustCompile(`^[245]\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})$`) // RFC 3464 2.3.4
	unitext    = regexp.MustCompile(`\\x\{([0-9A-Fa-f]{2,6})\}`)                         // RFC 6533 3
)

// status is the last real problem (RFC 3463 3.5): what the host said, else what
// we know ourselves. A message that ran out of time keeps the code of what
// stopped it, which may be a 4.x.x in a failed report (RFC 3464 2.3.3, note).
func status(kind queue.NoticeKind, last *queue.Outcome) string {
	code := ""
	if last != nil && last.Reply != nil {
		code = last.Reply.Status
		// RFC 2034 4: the class is the reply's; anything else is a broken host.
		if !statusCode.MatchString(code) || code[0] != strconv.Itoa(last.Reply.Code)[0] {
			code = ""
		}
	}
	f := failure(last)
	switch {
	case kind == queue.NoticeRelayed:
		if code == "" || code[0] != '2' {
			code = "2.0.0"
		}
	case f != nil && (code == "" || code[0] == '2' || f.Status != ""):
		code = f.Code()
	}
	if !statusCode.MatchString(code) || code[0] == '2' && kind != queue.NoticeRelayed {
		code = replyClass(last) + ".0.0" // RFC 3461 6.3 (g)
		if last == nil {
			code = "4.4.7" // never tried in its time
		}
	}
	if kind == queue.NoticeDelayed {
		code = "4" + code[1:] // RFC 3464 2.3.4: delayed is a temporary failure by definition
	}
	return code
}

// replyClass is the class of a failure that has no code of its own.
func replyClass(last *queue.Outcome) string {
	if last != nil && last.Reply != nil && last.Reply.Code >= 500 && last.Reply.Code < 600 {
		return "5"
	}
	if last != nil && last.Kind == queue.BouncedNow {
		return "5"
	}
	return "4"
}

// failure is the outcome's failure, if any.
func failure(last *queue.Outcome) *policy.Failure {
	if last == nil {
		return nil
	}
	return last.Failure
}

// said is a failure in English. The text of an internal fault is ours alone.
func said(f *policy.Failure) string {
	if f.Reason == policy.Internal {
		return f.Reason.English()
	}
	return cut(f.Error())
}

// replyLine is a reply as it came in.
func replyLine(rep *queue.Reply) string {
	line := fmt.Sprintf("%03d ", rep.Code)
	if rep.Status != "" && !strings.HasPrefix(rep.Text, rep.Status) {
		line += rep.Status + " "
	}
	return strings.TrimSpace(line + cut(rep.Text))
}

// original is an ORCPT value with its unitext resolved where it is a UTF-8 one
// (RFC 6533 4.1 SHOULD).
func original(orcpt string) string {
	if len(orcpt) < len("utf-8;") || !strings.EqualFold(orcpt[:len("utf-8;")], "utf-8;") {
		return orcpt
	}
	return unitext.ReplaceAllStringFunc(orcpt, func(s string) string {
		n, err := strconv.ParseUint(s[3:len(s)-1], 16, 32)
		if err != nil || !utf8.ValidRune(rune(n)) {
			return s // RFC 6533 3: what does not conform is copied without alteration
		}
		return string(rune(n))
	})
}

// when writes a time for a person.
func when(t time.Time) string { return t.UTC().Format("Monday, 2 January 2006 15:04 UTC") }
