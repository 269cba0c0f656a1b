package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/sealpost/sealpost/queue"
)

// FuzzReply: whatever a host says, the reader is bounded, does not depend on how
// the octets are cut, and what is kept of it is one printable line.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		"250 ok\r\n", "250\r\n", "250-a\r\n250 b\r\n", "250-a\r\n251 b\r\n", "550 5.1.1 <b@example.test> unknown\r\n",
		"550-5.1.1 a\r\n550 5.1.1 b\r\n", "421 4.7.0\n", "25 0\r\n", "250+ok\r\n", "650 x\r\n", "199 x\r\n", "\r\n", "", "250",
		"250 " + strings.Repeat("x", 5000) + "\r\n", strings.Repeat("250-x\r\n", 101) + "250 x\r\n",
		"550 4.1.1 wrong class\r\n", "550 5.1.1x\r\n", "550 5.01.1 x\r\n", "550 5.1000.1 x\r\n", "550 5.7.1\x00\x1b[31m\xff x\r\n",
		"550 5.1.1 B@EXAMPLE.TEST and b@example.test\r\n", "500 \xe2\x80\xa8\r\n", "250-\r\n250 \r\n", "550 .\r\n", "550 5..1 x\r\n",
	} {
		f.Add([]byte(s))
	}
	hide := func() []string { return []string{"b@example.test", ""} }
	f.Fuzz(func(t *testing.T, in []byte) {
		rep, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), 4<<10), nil)
		var kept *queue.Reply
		if err == nil {
			kept = rep.record(hide)
		}
		small, err2 := readReply(bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(in)), 16), nil)
		if (err == nil) != (err2 == nil) || err == nil && (small.code != rep.code || !bytes.Equal(small.text, rep.text)) {
			t.Fatalf("cut differently: %v %+v, %v %+v", err, rep, err2, small)
		}
		var bad *protocolError
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.As(err, &bad) {
				t.Errorf("error %v", err)
			}
			return
		}
		if rep.code < 200 || rep.code > 599 || len(rep.text) > maxReply {
			t.Errorf("code %d, %d octets", rep.code, len(rep.text))
		}
		if len(kept.Text) > maxText || !utf8.ValidString(kept.Text) || strings.ContainsFunc(kept.Text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("kept %q", kept.Text)
		}
		if strings.Contains(strings.ToLower(kept.Text), "b@example.test") {
			t.Errorf("an address is kept: %q", kept.Text)
		}
		if kept.Status != "" && int(kept.Status[0]-'0') != rep.code/100 {
			t.Errorf("status %s for %d", kept.Status, rep.code)
		}
	})
}

// FuzzEHLO: the reply to EHLO is read without a fault, and keywords do not depend
// on their case.
func FuzzEHLO(f *testing.F) {
	f.Add([]byte("mx\nSTARTTLS\nSIZE 100\nLIMITS RCPTMAX=5 MAILMAX=3"))
	f.Add([]byte("mx\nsize 99999999999999999999\nlimits RCPTMAX=0 x MAILMAX=1000000 =\n \nPIPELINING x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		x := parseEHLO(in)
		if x.maxSize < 0 || x.rcptMax < 0 || x.rcptMax > 999999 || x.mailMax < 0 || x.mailMax > 999999 {
			t.Errorf("%+v", x)
		}
		ascii := bytes.IndexFunc(in, func(r rune) bool { return r > 0x7f }) < 0
		if ascii && parseEHLO(bytes.ToLower(in)) != parseEHLO(bytes.ToUpper(in)) {
			t.Error("the case of a keyword counts")
		}
	})
}

// FuzzStuff: what the host unstuffs is what we had, however the content is cut;
// no end of data is inside; what is not made of CRLF lines is refused.
func FuzzStuff(f *testing.F) {
	for _, s := range []string{
		"", "a\r\n", ".\r\n", "..\r\n.\r\n", "\r\n.\r\n\r\n", "a\r\n.b\r\n", ".", "a", "\r", "\n", "\r\r\n", "a\n.\r\n", "a\r.\r\n",
		"\r\n.\r", "\r\n.\n", "a\r\n.\r\nMAIL FROM:<>\r\n", "x.\r\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		want := wellFormed(in)
		var s stuffer
		var out []byte
		var err error
		for rest := in; len(rest) > 0 && err == nil; {
			n := min(len(rest), 1+int(cut)%7)
			out, err = s.appendTo(out, rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			err = s.end()
		}
		if (err == nil) != want {
			t.Fatalf("%q: %v", in, err)
		}
		if err == nil {
			got, end := unstuff(append(out, ".\r\n"...))
			if !bytes.Equal(got, in) || end != len(out)+3 {
				t.Errorf("%q became %q, read as %q", in, out, got)
			}
		}
	})
}

// Every cut into two, of contents that are hard.
func TestStuffAnyCut(t *testing.T) {
	t.Parallel()
	for _, in := range []string{".\r\n", "a\r\n.\r\n..\r\n\r\n.", "\r\n.\r\n", "x\r\n.\r\n\r\n", "a\r\n.\n", "a\r\n.\rb\r\n"} {
		whole, wantErr := stuffIn([]byte(in), len(in))
		for i := range in {
			got, err := stuffIn([]byte(in), i)
			if !errors.Is(err, wantErr) || wantErr == nil && !bytes.Equal(got, whole) {
				t.Errorf("%q cut at %d: %q %v, want %q %v", in, i, got, err, whole, wantErr)
			}
		}
	}
}

func stuffIn(in []byte, cut int) ([]byte, error) {
	var s stuffer
	out, err := s.appendTo(nil, in[:cut])
	if err == nil {
		out, err = s.appendTo(out, in[cut:])
	}
	if err == nil {
		err = s.end()
	}
	return out, err
}

// wellFormed: CRLF lines and nothing else; said in another way than lines does.
func wellFormed(in []byte) bool {
	for _, line := range strings.SplitAfter(string(in), "\r\n") {
		if strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n") {
			return false
		}
	}
	return len(in) == 0 || bytes.HasSuffix(in, []byte("\r\n"))
}

// unstuff is the receiver's half of RFC 5321 4.5.2; end is behind the end of data.
func unstuff(in []byte) (out []byte, end int) {
	for {
		line, _, ok := bytes.Cut(in[end:], []byte("\r\n"))
		if !ok {
			return out, -1
		}
		end += len(line) + 2
		if string(line) == "." {
			return out, end
		}
		out = append(append(out, bytes.TrimPrefix(line, []byte("."))...), "\r\n"...)
	}
}

// FuzzXtext: what is encoded has only xchar and hexchar, and decodes to the same.
func FuzzXtext(f *testing.F) {
	f.Add("a+b=c d@e")
	f.Add("\x00\xff~!")
	f.Fuzz(func(t *testing.T, in string) {
		enc := string(appendXtext(nil, in))
		var dec []byte
		for i := 0; i < len(enc); i++ {
			c := enc[i]
			switch {
			case c == '+':
				hi, lo := strings.IndexByte(upperHex, enc[i+1]), strings.IndexByte(upperHex, enc[i+2])
				dec = append(dec, byte(hi<<4|lo))
				i += 2
			case c < '!' || c > '~' || c == '=':
				t.Fatalf("%q has the octet %#x", enc, c)
			default:
				dec = append(dec, c)
			}
		}
		if string(dec) != in {
			t.Errorf("%q became %q", in, dec)
		}
	})
}
