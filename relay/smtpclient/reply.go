package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/queue"
)

// Bounds of a reply. RFC 5321 4.5.3.1.5 allows 512 octets a line; real hosts send
// more, and what is beyond maxLine is cut off.
const (
	maxLine  = 2 << 10
	maxLines = 100
	maxReply = 64 << 10
	maxText  = 500 // octets of a reply's text that we keep
)

// protocolError: what came is no SMTP reply, or is out of bounds. The session is
// unusable then, since replies and commands can no longer be matched.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// reply is one reply (RFC 5321 4.2). Its text is valid until the next one is read.
type reply struct {
	code int
	// text is the lines without code and line end, joined by \n.
	text []byte
}

func (r reply) positive() bool  { return r.code/100 == 2 }
func (r reply) temporary() bool { return r.code/100 == 4 }
func (r reply) permanent() bool { return r.code/100 == 5 }
func (r reply) closing() bool   { return r.code == 421 } // RFC 5321 3.8: the host hangs up

// readReply reads one reply, multi-line or not, within the bounds. buf is reused
// for the text; the grown buffer is in reply.text.
func readReply(r *bufio.Reader, buf []byte) (reply, error) {
	rep := reply{text: buf[:0]}
	for lines, size := 1, 0; ; lines++ {
		if lines > maxLines {
			return reply{}, &protocolError{fmt.Sprintf("a reply of more than %d lines", maxLines)}
		}
		line, n, err := readLine(r, maxReply-size)
		if err != nil {
			return reply{}, err
		}
		size += n
		code, more, err := parseLine(line)
		if err != nil {
			return reply{}, err
		}
		// RFC 5321 4.2.1: the code on each of the lines MUST be the same.
		if lines > 1 && code != rep.code {
			return reply{}, &protocolError{fmt.Sprintf("a reply with the codes %d and %d", rep.code, code)}
		}
		rep.code = code
		if lines > 1 {
			rep.text = append(rep.text, '\n')
		}
		if len(line) > 4 {
			rep.text = append(rep.text, line[4:]...)
		}
		if !more {
			return rep, nil
		}
	}
}

// readLine reads a line, at most limit octets of it, and returns its first
// maxLine octets without the line end, and the number of octets read. A bare LF
// ends a line too. The result is valid until the next read.
func readLine(r *bufio.Reader, limit int) ([]byte, int, error) {
	line, err := r.ReadSlice('\n')
	n := len(line)
	if errors.Is(err, bufio.ErrBufferFull) {
		const keep = maxLine + len("\r\n")
		line = append([]byte(nil), line[:min(n, keep)]...)
		for errors.Is(err, bufio.ErrBufferFull) && n <= limit {
			var rest []byte
			rest, err = r.ReadSlice('\n')
			n += len(rest)
			line = append(line, rest[:min(len(rest), keep-len(line))]...)
		}
	}
	switch {
	case n > limit:
		return nil, n, &protocolError{fmt.Sprintf("a reply of more than %d octets", maxReply)}
	case err != nil:
		return nil, n, err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	return line[:min(len(line), maxLine)], n, nil
}

// parseLine reads code and separator (RFC 5321 4.2: Reply-line).
func parseLine(line []byte) (code int, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, &protocolError{"a line that is no SMTP reply"}
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 || line[3] == ' ' {
		return code, false, nil
	}
	if line[3] == '-' {
		return code, true, nil
	}
	return 0, false, &protocolError{"a line that is no SMTP reply"}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// record turns a reply into what is kept of it: bounded, one line, printable, and
// without the addresses in hide.
func (r reply) record(hide func() []string) *queue.Reply {
	status, text := enhancedStatus(r.code, r.text)
	one := make([]byte, 0, min(len(text)+1, maxText))
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		// RFC 2034 4: the code is repeated at the beginning of each line.
		if status != "" {
			line = bytes.TrimPrefix(line, []byte(status))
		}
		line = bytes.TrimSpace(line)
		if len(one) > 0 && len(line) > 0 {
			one = append(one, ' ')
		}
		one = appendPrintable(one, line)
		if len(one) >= 4*maxText {
			break
		}
	}
	s := string(one)
	if strings.IndexByte(s, '@') >= 0 {
		s = mask(s, hide())
	}
	return &queue.Reply{Code: r.code, Status: status, Text: cut(s)}
}

// cut shortens s to maxText octets at a rune's border.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// appendPrintable appends text with everything that is not printable UTF-8
// (RFC 6531 3.5 allows UTF-8 in replies) replaced by a question mark.
func appendPrintable(b, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1, r != '\t' && !unicode.IsPrint(r):
			b = append(b, '?')
		case r == '\t':
			b = append(b, ' ')
		default:
			b = append(b, text[:n]...)
		}
		text = text[n:]
	}
	return b
}

// mask replaces each of the addresses in s, whatever its case.
func mask(s string, addresses []string) string {
	for _, a := range addresses {
		if a == "" {
			continue
		}
		for from := 0; ; {
			i := indexFold(s[from:], a)
			if i < 0 {
				break
			}
			s = s[:from+i] + "[address]" + s[from+i+len(a):]
			from += i + len("[address]")
		}
	}
	return s
}

// indexFold is strings.Index for ASCII letters of either case. Non-ASCII octets
// must be equal.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}

// enhancedStatus takes the enhanced status code off the text (RFC 2034 4): it
// must be well-formed, of the reply's class, and stand by itself. "" when there
// is none; the text is whole then.
func enhancedStatus(code int, text []byte) (string, []byte) {
	n := 0
	for n < len(text) && (isDigit(text[n]) || text[n] == '.') {
		n++
	}
	if n < len(text) && text[n] != ' ' && text[n] != '\n' && text[n] != '\t' {
		return "", text
	}
	word := text[:n]
	// class "." subject "." detail, of 1 and of 1 to 3 digits.
	if n < 5 || n > 9 || int(word[0]-'0') != code/100 || word[1] != '.' {
		return "", text
	}
	subject, detail, ok := bytes.Cut(word[2:], []byte("."))
	if !ok || !subCode(subject) || !subCode(detail) {
		return "", text
	}
	return string(word), text[n:]
}

// subCode: RFC 3463 2, one to three digits without leading zeros.
func subCode(b []byte) bool {
	if len(b) == 0 || len(b) > 3 || (len(b) > 1 && b[0] == '0') {
		return false
	}
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
