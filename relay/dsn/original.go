package dsn

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/queue"
)

// originalPart is the message that the report is about, whole or its header
// (RFC 3461 6.2). There is none when nothing of it is at hand.
func (r *report) originalPart() (part, bool) {
	if r.returnsAll() {
		return part{mediaType: "message/rfc822", about: "Your message", content: r.Original}, true
	}
	header := headerOf(r.Original)
	if len(header) == 0 {
		return part{}, false
	}
	p := part{mediaType: "text/rfc822-headers", about: "Header of your message", content: header}
	if isASCII(header) && fitsLines(header) {
		return p, true
	}
	if r.Message.UTF8 {
		p.mediaType = "message/global-headers" // RFC 6533 4.3
	}
	if r.wide && r.Message.UTF8 && fitsLines(header) {
		p.encoding = eightBit
		return p, true
	}
	// RFC 6533 4.5; for the text type RFC 2045 6.7. It carries any octet and any
	// line over any road.
	p.content, p.encoding = encodeQP(header), quotedPrintable
	return p, true
}

// returnsAll reports whether the whole message goes back.
func (r *report) returnsAll() bool {
	switch {
	case r.Kind != queue.NoticeFailed: // RFC 3461 4.3: RET is about failures only
		return false
	case r.Message.RequireTLS: // RFC 8689 5: MUST behave as if RET=HDRS was present
		return false
	case !strings.EqualFold(r.Message.Ret, "FULL"):
		return false
	case r.Message.Size <= 0 || int64(len(r.Original)) < r.Message.Size: // the queue held some back
		return false
	case !isASCII(r.Original):
		// RFC 2046 5.2.1 allows no encoding of a message/rfc822 but 8bit, and then the
		// notice would be lost at a host without 8BITMIME: the header comes through.
		return false
	}
	return fitsLines(r.Original)
}

// headerOf returns the header section with its last CRLF and without the empty
// line. Of a header that was cut off, the last field, perhaps incomplete, is left out.
func headerOf(b []byte) []byte {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return nil
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return b[:i+2]
	}
	end := 0
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '\r' && b[i+1] == '\n' && b[i+2] != ' ' && b[i+2] != '\t' {
			end = i + 2
		}
	}
	return b[:end]
}

// msgID is RFC 5322 3.6.4's msg-id, narrowly: what is stranger is not repeated.
var msgID = regexp.MustCompile(`^<[!-;=?A-~]{1,250}@[!-;=?A-~]{1,250}>$`)

// messageID returns the Message-ID of the original, or "".
func messageID(b []byte) string {
	header := string(headerOf(b))
	for header != "" {
		line, rest, _ := strings.Cut(header, "\r\n")
		for strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t") {
			more, after, _ := strings.Cut(rest, "\r\n")
			line, rest = line+more, after
		}
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(strings.TrimSpace(name), "Message-ID") {
			if value = strings.TrimSpace(value); msgID.MatchString(value) {
				return value
			}
			return ""
		}
		header = rest
	}
	return ""
}
