package dsn

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Content-Transfer-Encodings (RFC 2045 6).
const (
	eightBit        = "8bit"
	quotedPrintable = "quoted-printable"
)

const (
	// maxLine is RFC 5322 2.1.1's limit, without the CRLF.
	maxLine = 998
	// foldAt is where a field that may be folded is folded (RFC 5322 2.1.1 SHOULD).
	foldAt = 76
	// maxText bounds a foreign text in octets; no honest reply line is longer (RFC 5321 4.5.3.1.5).
	maxText = 1024
	// maxWord is the longest run that is left in one piece.
	maxWord = 900
)

// clean makes a text fit for a field: one line, no control characters; not wide:
// ASCII as well.
func (r *report) clean(s string) string {
	if r.wide {
		return cleanUTF8(s)
	}
	return cleanASCII(s)
}

// cleanUTF8 makes one line of valid UTF-8 without control characters.
func cleanUTF8(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// readable is cleanUTF8 for a person's eyes: without the characters that turn the
// reading direction, by which one text can look like another.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Bidi_Control, r) || r == '\ufeff' {
			return -1
		}
		return r
	}, cleanUTF8(s))
}

// cleanASCII is cleanUTF8 with the rest written as \x{HEX}, the 7-bit form that
// RFC 6533 3 has for addresses.
func cleanASCII(s string) string {
	s = cleanUTF8(s)
	if isASCII([]byte(s)) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

// cut shortens a text to maxText octets at a character's start.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + " ..."
}

// field writes a header or status field as one line; value is clean. It is folded
// only where it would break the line limit.
func field(b *bytes.Buffer, name, value string) {
	value = strings.Trim(value, " ")
	if len(name)+2+len(value) > maxWord {
		folded(b, name, value)
		return
	}
	b.WriteString(name + ": " + value + "\r\n")
}

// folded writes a field with continuation lines (RFC 5322 2.2.3). Runs of spaces
// become one: it is for texts, not for identifiers.
func folded(b *bytes.Buffer, name, value string) {
	b.WriteString(name + ":")
	wrap(b, value, wrapping{col: len(name) + 1, glue: " ", next: "\r\n "})
	b.WriteString("\r\n")
}

// wrapping says how wrap breaks lines: words are joined by glue, lines by next.
type wrapping struct {
	col  int // octets already on the first line
	glue string
	next string
}

// wrap writes the words of s in lines of about foldAt octets.
func wrap(b *bytes.Buffer, s string, o wrapping) {
	first := true // the first word stays on the first line, whatever its length
	for _, word := range strings.Fields(s) {
		for _, piece := range pieces(word) {
			if !first && o.col+len(o.glue)+len(piece) > foldAt {
				b.WriteString(o.next)
				o.col = len(o.next) - len("\r\n")
			} else {
				b.WriteString(o.glue)
				o.col += len(o.glue)
			}
			b.WriteString(piece)
			o.col += len(piece)
			first = false
		}
	}
}

// pieces breaks a word that no line could hold.
func pieces(word string) []string {
	var list []string
	for len(word) > maxWord {
		n := maxWord
		for n > maxWord-utf8.UTFMax && !utf8.RuneStart(word[n]) {
			n--
		}
		list = append(list, word[:n])
		word = word[n:]
	}
	return append(list, word)
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// fitsLines reports whether b can stand in a 7bit or 8bit part as it is (RFC 2045
// 2.7, 2.8): CR and LF only together, no NUL, no line over the limit.
func fitsLines(b []byte) bool {
	line := 0
	for i, c := range b {
		switch {
		case c == 0,
			c == '\r' && (i+1 == len(b) || b[i+1] != '\n'),
			c == '\n' && (i == 0 || b[i-1] != '\r'):
			return false
		case c == '\n':
			line = 0
		case c != '\r':
			if line++; line > maxLine {
				return false
			}
		}
	}
	return true
}

// encodeQP encodes text in quoted-printable (RFC 2045 6.7). Line ends become CRLF.
func encodeQP(b []byte) []byte {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	// A bytes.Buffer never fails.
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}
