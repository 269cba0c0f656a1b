package submission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// header is a header section as it is found: fields by position, nothing rewritten.
type header struct {
	fields []field
	next   int  // where the next line begins
	body   int  // where the body begins, once the end was found
	ended  bool // nothing more comes
}

type field struct {
	kind       kind
	colon      int // position of the colon
	start, end int // the field with its CR LF
}

// kind tells apart the fields that are looked at.
type kind uint8

const (
	kindNone  kind = iota // no field at all
	kindOther             // passed on unseen
	kindOwn               // Sealpost-*
	kindDate
	kindFrom
	kindMessageID
	kindReceived
	kindTLSRequired
)

func kindOf(name []byte) kind {
	is := func(s string) bool { return len(name) == len(s) && bytes.EqualFold(name, []byte(s)) }
	switch {
	case is("received"):
		return kindReceived
	case is("from"):
		return kindFrom
	case is("date"):
		return kindDate
	case is("message-id"):
		return kindMessageID
	case is("tls-required"):
		return kindTLSRequired
	case len(name) >= len(ownPrefix) && bytes.EqualFold(name[:len(ownPrefix)], []byte(ownPrefix)):
		return kindOwn
	default:
		return kindOther
	}
}

// scan goes on over raw, which only ever grows, and returns where the fields end, or -1
// when more is needed. A line that is no field ends the section as an empty one does:
// it belongs to the body.
func (h *header) scan(raw []byte) int {
	for {
		line := raw[h.next:]
		nl := bytes.IndexByte(line, '\n')
		if nl < 0 {
			if !h.ended {
				return -1
			}
			h.body = h.next
			return h.next
		}
		line = line[:nl+1]
		k, colon := parseName(line)
		switch {
		case string(line) == "\r\n":
			h.body = h.next + 2
			return h.next
		case (line[0] == ' ' || line[0] == '\t') && len(h.fields) > 0: // folded (RFC 5322 2.2.3)
			h.fields[len(h.fields)-1].end += len(line)
		case k != kindNone:
			h.fields = append(h.fields, field{k, h.next + colon, h.next, h.next + len(line)})
		default:
			h.body = h.next
			return h.next
		}
		h.next += len(line)
	}
}

// parseName finds out what field a line begins (RFC 5322 2.2, and 4.5.1 for blanks
// before the colon), and where its colon is.
func parseName(line []byte) (kind, int) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[0] == ' ' || line[0] == '\t' {
		return kindNone, -1
	}
	name := bytes.TrimRight(line[:colon], " \t")
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return kindNone, -1
		}
	}
	return kindOf(name), colon
}

// name returns a field's name in lower case.
func (f field) name(raw []byte) string {
	return strings.ToLower(string(bytes.TrimRight(raw[f.start:f.colon], " \t")))
}

// value returns a field's value, unfolded and trimmed.
func (f field) value(raw []byte) string {
	v := raw[f.colon+1 : f.end]
	if bytes.Count(v, []byte("\r\n")) > 1 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	}
	return string(bytes.Trim(v, " \t\r\n"))
}

// ownPrefix is how the fields begin that an application may set and that go no further.
const ownPrefix = "sealpost-"

// maxOwnTrace is how often a message may have come through this host before.
const maxOwnTrace = 5

// edit checks the fields, takes our own ones out, and adds what is missing: Received
// on top, Date and Message-ID below (RFC 6409 8.2, 8.3). The result ends in the empty line.
func (c *content) edit(h *header, raw []byte) ([]byte, error) {
	if queue.HasEightBit(raw) {
		if !c.utf8 {
			return nil, errHeaderUTF8()
		}
		if !utf8.Valid(raw) {
			return nil, errContent("header is not UTF-8") // RFC 6532 3
		}
	}
	out := make([]byte, 0, len(c.trace)+len(raw)+256)
	out = append(out, c.trace...)
	w := wishes{now: c.now, message: c.message}
	var received, own, tlsNo, tlsAny int
	var date, id bool
	for _, f := range h.fields {
		switch f.kind {
		case kindOwn:
			if err := w.set(f.name(raw), f.value(raw)); err != nil {
				return nil, err
			}
			continue
		case kindReceived:
			received++
			if passedHere(f.value(raw), c.hostname) {
				own++
			}
		case kindTLSRequired:
			tlsAny++
			if strings.EqualFold(f.value(raw), "no") {
				tlsNo++
			}
		case kindFrom:
			if err := c.checkFrom(f.value(raw)); err != nil {
				return nil, err
			}
		case kindDate:
			date = true
		case kindMessageID:
			id = true
		}
		out = append(out, raw[f.start:f.end]...)
	}
	if received > c.maxReceived || own > maxOwnTrace {
		return nil, errLoop() // RFC 5321 6.3
	}
	// RFC 8689 3, 4.1: REQUIRETLS makes the field void; only one, and only "No", counts.
	c.message.TLSOff = tlsNo == 1 && tlsAny == 1 && !c.message.RequireTLS
	if !date {
		out = append(append(append(out, "Date: "...), c.now.Format(time.RFC1123Z)...), "\r\n"...)
	}
	if !id {
		out = append(out, "Message-ID: <"+string(c.message.ID)+"@"+c.hostname+">\r\n"...)
	}
	return append(out, "\r\n"...), nil
}

// passedHere reports whether a Received field is one of ours.
func passedHere(value, hostname string) bool {
	words := strings.Fields(value)
	by, id := false, false
	for i := 1; i < len(words); i++ {
		by = by || strings.EqualFold(words[i-1], "by") && strings.EqualFold(words[i], hostname)
		id = id || strings.EqualFold(words[i-1], "id") && len(strings.TrimRight(words[i], ";")) == 26
	}
	return by && id
}

// checkFrom holds the credential to its senders in From too.
func (c *content) checkFrom(value string) error {
	if c.allows == nil {
		return nil
	}
	p := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: anyCharset}}
	list, err := p.ParseList(value)
	if err != nil {
		return errSenderRefused("From cannot be read, and this credential may send as some addresses only")
	}
	for _, m := range list {
		a, err := queue.ParseAddress(quoted(m.Address))
		if err != nil || a.IsNull() || !c.allows(a) {
			return errSenderRefused("this credential may not send with this From address")
		}
	}
	return nil
}

// anyCharset lets display names be in any charset: they are not looked at.
func anyCharset(_ string, r io.Reader) (io.Reader, error) { return r, nil }

// quoted puts the quotes back that net/mail has taken off the local part.
func quoted(address string) string {
	s := (&mail.Address{Address: address}).String()
	return strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
}

// wishes are the Sealpost fields of one message.
type wishes struct {
	now     time.Time
	message *queue.Message
	seen    [8]string
	n       int
}

// set takes one field in. The error says what is wrong and how to mend it: a
// misspelt wish for protection must not be dropped in silence.
func (w *wishes) set(name, value string) error {
	for _, s := range w.seen[:w.n] {
		if s == name {
			return errHeader(title(name) + ": given twice: give it once")
		}
	}
	if w.n < len(w.seen) {
		w.seen[w.n] = name
		w.n++
	}
	m := w.message
	var err error
	switch strings.TrimPrefix(name, ownPrefix) {
	case "min-level":
		m.Floor, err = policy.ParseLevel(value)
	case "on-unmet":
		m.OnUnmet, err = policy.ParseOnUnmet(value)
	case "stream":
		m.Stream, err = token(value, 64)
	case "tag":
		m.Tag, err = text(value, 256)
	case "idempotency-key":
		_, err = text(value, 256)
	case "expires":
		m.Expires, err = parseExpires(value, w.now)
	default:
		return errHeader(oneLine(title(name) + ": unknown field: use Min-Level, On-Unmet, Stream, Tag, Idempotency-Key or Expires after Sealpost-"))
	}
	if err != nil {
		return errHeader(oneLine(title(name) + ": " + err.Error()))
	}
	return nil
}

// title writes a field name as people do: Sealpost-Min-Level.
func title(name string) string {
	parts := strings.Split(name, "-")
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "-")
}

// oneLine keeps a reply within RFC 5321 4.5.3.1.5.
func oneLine(s string) string {
	s = printable(s)
	return s[:min(len(s), 400)]
}

func token(s string, limit int) (string, error) {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return "", errors.New("use letters, digits, dot, hyphen and underscore")
		}
	}
	return text(s, limit)
}

func text(s string, limit int) (string, error) {
	if s == "" || len(s) > limit || printable(s) != s {
		return "", fmt.Errorf("use 1 to %d printable ASCII characters", limit)
	}
	return s, nil
}

// parseExpires reads a time (RFC 3339 or RFC 5322) or a span from now ("90m", "2d").
func parseExpires(s string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		at, err = mail.ParseDate(s)
	}
	if days, ok := strings.CutSuffix(s, "d"); ok && err != nil {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 12); err == nil {
			at = now.AddDate(0, 0, int(n))
		}
	}
	if err != nil {
		var span time.Duration
		if span, err = time.ParseDuration(s); err == nil {
			at = now.Add(span)
		}
	}
	switch {
	case err != nil:
		return time.Time{}, errors.New("use a span like 90m, 4h or 2d, or a time like 2026-01-31T12:00:00Z")
	case !at.After(now):
		return time.Time{}, errors.New("the time is over already: use one in the future")
	default:
		return at, nil
	}
}
