package smtpclient

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// headerLimit is how much of a header is looked at.
const headerLimit = 64 << 10

// admit compares the message with what the host offers, gives those who cannot
// be sent to their result, and returns the others.
func (x *transaction) admit() []int {
	ext, m := x.s.c.ext, x.t.Message
	everybody := all(len(x.t.Recipients))
	x.begin(everybody)
	switch {
	case ext.maxSize > 0 && m.Size > ext.maxSize: // RFC 1870 5, 7
		x.failOpen(x.failure(policy.TooLarge, "the host takes "+strconv.FormatInt(ext.maxSize, 10)+" octets"))
		return nil
	case m.EightBit && !ext.eightBit: // RFC 6152 3: 8-bit content MUST NOT be sent
		x.failOpen(x.failure(policy.EightBitRefused, ""))
		return nil
	case !sendable(m.Sender.String()):
		x.failOpen(x.failure(policy.Internal, "a sender that cannot be written"))
		return nil
	}
	content := m.Sender.NeedsUTF8() || x.headerNeedsUTF8()
	if content && !ext.utf8 { // RFC 6531 3.2
		x.failOpen(x.failure(policy.UTF8Unsupported, ""))
		return nil
	}
	x.utf8 = content
	var left []int
	for i := range x.t.Recipients {
		a := x.t.Recipients[i].Address
		switch {
		case a.IsNull() || !sendable(a.String()):
			x.decide(i, nil, x.failure(policy.Internal, "a recipient that cannot be written"))
			continue
		case a.NeedsUTF8() && !ext.utf8:
			x.decide(i, nil, x.failure(policy.UTF8Unsupported, ""))
			continue
		case a.NeedsUTF8():
			x.utf8 = true
		}
		left = append(left, i)
	}
	return left
}

// sendable: whatever an address is, it must not end the command line that it is in.
func sendable(address string) bool {
	for i := range len(address) {
		if address[i] < ' ' || address[i] == 0x7f {
			return false
		}
	}
	return true
}

// headerNeedsUTF8 reports whether the header has UTF-8 (RFC 6532). Only a message
// that came with SMTPUTF8 and with 8-bit content can have it; then the header is
// looked at. When that fails, the answer is yes: MAIL says what the client said.
func (x *transaction) headerNeedsUTF8() bool {
	if !x.t.Message.UTF8 || !x.t.Message.EightBit {
		return false
	}
	body, err := x.t.Body(x.ctx)
	if err != nil {
		return true
	}
	defer func() { _ = body.Close() }()
	head, err := io.ReadAll(io.LimitReader(body, headerLimit))
	end := bytes.Index(head, []byte("\r\n\r\n"))
	if end < 0 && (err != nil || len(head) == headerLimit) {
		return true
	}
	if end >= 0 {
		head = head[:end]
	}
	return bytes.IndexFunc(head, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0
}

// rset goes before the next transaction where the last one failed.
const rset = "RSET\r\n"

// appendMAIL writes MAIL with the parameters that the host offers and the message
// needs.
func (x *transaction) appendMAIL(b []byte) []byte {
	ext, m := x.s.c.ext, x.t.Message
	b = append(b, "MAIL FROM:<"...)
	b = append(append(b, m.Sender.String()...), '>')
	if ext.size { // RFC 1870 6
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if m.EightBit { // RFC 6152 2; admit made sure that it is offered
		b = append(b, " BODY=8BITMIME"...)
	}
	if x.utf8 { // RFC 6531 3.4
		b = append(b, " SMTPUTF8"...)
	}
	if x.t.RequireTLS && ext.requireTLS && x.s.c.tls != nil { // RFC 8689 2: under TLS only
		b = append(b, " REQUIRETLS"...)
	}
	if ext.dsn {
		if m.Ret != "" { // RFC 3461 4.3
			b = append(append(b, " RET="...), m.Ret...)
		}
		if m.EnvelopeID != "" { // RFC 3461 4.4
			b = appendXtext(append(b, " ENVID="...), m.EnvelopeID)
		}
	}
	return append(b, "\r\n"...)
}

// appendEnvelope writes MAIL, and RCPT for the whole batch.
func (x *transaction) appendEnvelope(b []byte) []byte {
	b = x.appendMAIL(b)
	for i := range x.batch {
		b = x.appendRCPT(b, i)
	}
	return b
}

// appendRCPT writes RCPT for the i-th recipient of the batch.
func (x *transaction) appendRCPT(b []byte, i int) []byte {
	r := &x.t.Recipients[x.batch[i]]
	b = append(b, "RCPT TO:<"...)
	b = append(append(b, r.Address.String()...), '>')
	if x.s.c.ext.dsn { // RFC 3461 5.2.1: pass on what was given, nothing else
		b = appendNotify(b, r.Notify)
		b = appendORCPT(b, r.ORcpt, orcptForm(x.utf8))
	}
	return append(b, "\r\n"...)
}

// appendNotify writes NOTIFY (RFC 3461 4.1).
func appendNotify(b []byte, n queue.Notify) []byte {
	if n == 0 {
		return b
	}
	b = append(b, " NOTIFY="...)
	if n&queue.NotifyNever != 0 {
		return append(b, "NEVER"...)
	}
	before := len(b)
	for _, w := range []struct {
		wish queue.Notify
		word string
	}{{queue.NotifySuccess, "SUCCESS"}, {queue.NotifyFailure, "FAILURE"}, {queue.NotifyDelay, "DELAY"}} {
		if n&w.wish == 0 {
			continue
		}
		if len(b) > before {
			b = append(b, ',')
		}
		b = append(b, w.word...)
	}
	return b
}

// orcptForm: whether UTF-8 may stand in the command as it is.
type orcptForm bool

// appendORCPT writes ORCPT (RFC 3461 4.2) of a decoded "type;address".
func appendORCPT(b []byte, orcpt string, native orcptForm) []byte {
	kind, address, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" || address == "" {
		return b
	}
	b = append(append(b, " ORCPT="...), kind...)
	b = append(b, ';')
	if strings.EqualFold(kind, "utf-8") {
		return appendUnitext(b, address, native)
	}
	return appendXtext(b, address)
}

const upperHex = "0123456789ABCDEF"

// appendXtext encodes as RFC 3461 4 says.
func appendXtext(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c < '!' || c > '~' || c == '+' || c == '=' {
			b = append(b, '+', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// appendUnitext encodes an address of type utf-8 (RFC 6533 3): \x{HEX} for
// what may not stand by itself, and for UTF-8 unless it may.
func appendUnitext(b []byte, s string, native orcptForm) []byte {
	for _, r := range s {
		switch {
		case r <= ' ' || r == '\\' || r == '+' || r == '=' || r == 0x7f, r > 0x7f && !bool(native):
			hex := strings.ToUpper(strconv.FormatInt(int64(r), 16))
			if len(hex) == 1 {
				hex = "0" + hex // HEXPOINT has two digits at least
			}
			b = append(append(append(b, `\x{`...), hex...), '}')
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
