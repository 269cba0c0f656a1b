package submission

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

func testRules() rules {
	return rules{
		maxBytes: 1 << 20, maxHeader: 256 << 10, maxLine: 64 << 10, maxReceived: 100,
		trace: "Received: trace\r\n", hostname: "relay.example", now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		message: &queue.Message{ID: "ID"},
	}
}

// pass sends content through, with reads of the given size.
func pass(src io.Reader, r rules, size int) (string, error) {
	c, err := newContent(src, r)
	if err != nil {
		return "", err
	}
	var out []byte
	buf := make([]byte, size)
	for {
		n, err := c.Read(buf)
		out = append(out, buf[:n]...)
		switch {
		case err == io.EOF && !c.done:
			return "", errors.New("EOF but not done")
		case err == io.EOF:
			return string(out), nil
		case err != nil:
			return "", err
		}
	}
}

const added = "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <ID@relay.example>\r\n"

func TestContent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 64<<10-1)
	received := func(n int) string { return strings.Repeat("Received: from a by b; date\r\n", n) }
	own := "Received: from a by RELAY.example\r\n\twith ESMTP id 01M84VDQSG3RE61453JV0REEJ4; date\r\n"
	for _, c := range []struct {
		name, in string
		want     string // what comes after the trace, or the reply
	}{
		{"plain", "Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n" + added + "\r\nbody\r\n"},
		{"RFC 6409 8.2 Date is kept", "Date: d\r\n\r\n", "Date: d\r\nMessage-ID: <ID@relay.example>\r\n\r\n"},
		{"RFC 6409 8.3 Message-ID is kept", "message-id : i\r\n\r\n", "message-id : i\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n"},
		{"no body", "Subject: x\r\n", "Subject: x\r\n" + added + "\r\n"},
		{"nothing", "", added + "\r\n"},
		{"only the empty line", "\r\n", added + "\r\n"},
		{"no header", "hello\r\nworld\r\n", added + "\r\nhello\r\nworld\r\n"},
		{"header then no field", "Subject: x\r\nhello\r\n", "Subject: x\r\n" + added + "\r\nhello\r\n"},
		{"begins folded", " x\r\nSubject: y\r\n", added + "\r\n x\r\nSubject: y\r\n"},
		{"no last CR LF", "Subject: x\r\n\r\nbody", "Subject: x\r\n" + added + "\r\nbody\r\n"},
		{"header without last CR LF", "Subject: x", "Subject: x\r\n" + added + "\r\n"},
		{"folded stays", "Subject: x\r\n\ty\r\n\r\n", "Subject: x\r\n\ty\r\n" + added + "\r\n"},
		{"dots", "\r\n.\r\n..\r\n", added + "\r\n.\r\n..\r\n"},
		{"long line", "\r\n" + long + "\r\n", added + "\r\n" + long + "\r\n"},
		{"too long line", "\r\n" + long + "y\r\n", "554 5.6.0 line 2 has"},
		{"bare LF", "Subject: x\r\n\r\na\nb\r\n", "554 5.6.0 bare"},
		{"bare CR", "Subject: x\r\n\r\na\rb\r\n", "554 5.6.0 bare"},
		{"CR at the end", "Subject: x\r\n\r\na\r", "554 5.6.0 bare"},
		{"CR CR LF", "Subject: x\r\n\r\na\r\r\n", "554 5.6.0 bare"},
		{"LF in header", "Subject: x\nFrom: y\r\n\r\n", "554 5.6.0 bare"},
		{"NUL", "\r\na\x00b\r\n", "554 5.6.0 NUL"},
		{"RFC 6531 non-ASCII header", "Subject: ä\r\n\r\n", "554 5.6.9"},
		{"RFC 5321 6.3 100 hops", received(100) + "\r\n", received(100) + added + "\r\n"},
		{"RFC 5321 6.3 101 hops", received(101) + "\r\n", "554 5.4.0"},
		{"through us before", strings.Repeat(own, 5) + "\r\n", strings.Repeat(own, 5) + added + "\r\n"},
		{"through us and us again", strings.Repeat(own, 6) + "\r\n", "554 5.4.0"},
		{"big header", strings.Repeat("X-Pad: "+strings.Repeat("p", 990)+"\r\n", 280), "552 5.3.4"},
		{"big", "\r\n" + strings.Repeat("0123456789abcde\r\n", 1<<16), "552 5.3.4"},
	} {
		for _, size := range []int{1, 7, 32 << 10} {
			t.Run(fmt.Sprintf("%s by %d", c.name, size), func(t *testing.T) {
				t.Parallel()
				got, err := pass(strings.NewReader(c.in), testRules(), size)
				var r *reply
				switch {
				case errors.As(err, &r):
					if !strings.HasPrefix(r.Error(), c.want) {
						t.Errorf("%v, want %.80q", r, c.want)
					}
				case err != nil:
					t.Error(err)
				case got != "Received: trace\r\n"+c.want:
					t.Errorf("got %.300q, want %.300q", got, c.want)
				}
			})
		}
	}
}

func TestContentFlags(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name, in string
		utf8     bool
		require  bool
		want     queue.Message
		kept     bool // the header goes out as it came
	}{
		{name: "8-bit body", in: "\r\nä\r\n", want: queue.Message{EightBit: true}, kept: true},
		{name: "8-bit header", in: "Subject: ä\r\n\r\n", utf8: true, want: queue.Message{EightBit: true}, kept: true},
		{name: "level", in: "Sealpost-Min-Level: verified\r\n\r\n", want: queue.Message{Floor: policy.Verified}},
		{name: "level in capitals and folded", in: "SEALPOST-MIN-LEVEL :\r\n  dane\r\n\r\n", want: queue.Message{Floor: policy.DANE}},
		{name: "on unmet", in: "Sealpost-On-Unmet: bounce\r\n\r\n", want: queue.Message{OnUnmet: policy.Bounce}},
		{name: "stream and tag", in: "Sealpost-Stream: review\r\nSealpost-Tag: a b/c\r\nSealpost-Idempotency-Key: k\r\n\r\n", want: queue.Message{Stream: "review", Tag: "a b/c"}},
		{name: "expires in hours", in: "Sealpost-Expires: 4h\r\n\r\n", want: queue.Message{Expires: at("2026-11-23T14:00:00Z")}},
		{name: "expires in days", in: "Sealpost-Expires: 2d\r\n\r\n", want: queue.Message{Expires: at("2026-11-25T10:00:00Z")}},
		{name: "expires at", in: "Sealpost-Expires: 2027-01-01T00:00:00Z\r\n\r\n", want: queue.Message{Expires: at("2027-01-01T00:00:00Z")}},
		{name: "expires at, RFC 5322", in: "Sealpost-Expires: Fri, 01 Jan 2027 00:00:00 +0000\r\n\r\n", want: queue.Message{Expires: at("2027-01-01T00:00:00Z")}},
		{name: "RFC 8689 3 TLS-Required", in: "TLS-Required: No\r\n\r\n", want: queue.Message{TLSOff: true}, kept: true},
		{name: "RFC 8689 4.1 void under REQUIRETLS", in: "TLS-Required: No\r\n\r\n", require: true, want: queue.Message{}, kept: true},
		{name: "TLS-Required twice", in: "TLS-Required: No\r\nTLS-Required: No\r\n\r\n", kept: true},
		{name: "TLS-Required Yes", in: "TLS-Required: Yes\r\n\r\n", kept: true},
		{name: "TLS-Required No and more", in: "TLS-Required: No\r\nTLS-Required: Yes\r\n\r\n", kept: true},
		{name: "in the body it is text", in: "Subject: x\r\n\r\nSealpost-Min-Level: dane\r\n", kept: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testRules()
			r.utf8, r.message.RequireTLS = c.utf8, c.require
			got, err := pass(iotest.OneByteReader(strings.NewReader(c.in)), r, 100)
			if err != nil {
				t.Fatal(err)
			}
			c.want.ID, c.want.RequireTLS = "ID", c.require
			if m := *r.message; !m.Expires.Equal(c.want.Expires) {
				t.Errorf("expires %v", m.Expires)
			}
			r.message.Expires, c.want.Expires = time.Time{}, time.Time{}
			if *r.message != c.want {
				t.Errorf("%+v, want %+v", *r.message, c.want)
			}
			head, body, _ := strings.Cut(c.in, "\r\n\r\n")
			if c.in[:2] == "\r\n" {
				head, body = "", c.in[2:]
			}
			if kept := strings.Contains(got, head); kept != c.kept || !c.kept && strings.Contains(strings.ToLower(got), "sealpost-") {
				t.Errorf("header in %q, out %q", head, got)
			}
			if !strings.HasSuffix(got, "\r\n\r\n"+body) {
				t.Errorf("body changed: %q", got)
			}
		})
	}
}

// A wish that cannot be granted must not be dropped in silence.
func TestContentBadWishes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, mend string }{
		{"Sealpost-Min-Level: high", "use one of plaintext"},
		{"Sealpost-Min-Level: unset", "use one of"},
		{"Sealpost-Min-Level:", "use one of"},
		{"Sealpost-Min-Level: dane\r\nSealpost-min-level: plaintext", "give it once"},
		{"Sealpost-Min-Levl: dane", "use Min-Level"},
		{"Sealpost-On-Unmet: panic", "use one of defer, bounce"},
		{"Sealpost-Stream: a b", "use letters"},
		{"Sealpost-Stream: " + strings.Repeat("a", 65), "use 1 to 64"},
		{"Sealpost-Tag:", "use 1 to 256"},
		{"Sealpost-Expires: yesterday", "use a span"},
		{"Sealpost-Expires: -1h", "in the future"},
		{"Sealpost-Expires: 2020-01-01T00:00:00Z", "in the future"},
		{"Sealpost-Expires: 99999d", "use a span"},
		{"Sealpost-Expires: 99999999h", "use a span"},
	} {
		_, err := pass(strings.NewReader(c.field+"\r\n\r\n"), testRules(), 100)
		if err == nil || !strings.HasPrefix(err.Error(), "550 5.6.0 Sealpost-") || !strings.Contains(err.Error(), c.mend) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

func TestContentSourceFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{errStalled().smtp(), errors.New("secret")} {
		src := io.MultiReader(strings.NewReader("Subject: x\r\n\r\nbody\r\n"), iotest.ErrReader(fault))
		_, err := pass(src, testRules(), 100)
		if err == nil || strings.Contains(asReply(err).Error(), "secret") || err.Error()[0] != '4' {
			t.Errorf("%v", err)
		}
	}
}

// However the octets arrive and are asked for, the outcome is the same, and nothing
// that passes can smuggle.
func FuzzContent(f *testing.F) {
	for _, e := range endings() {
		f.Add([]byte("Subject: x\r\n\r\nbody"+e+injected), uint8(3), uint8(5))
	}
	f.Add([]byte("From: a@b.example\r\nSealpost-Min-Level: dane\r\nReceived: x\r\n\ty\r\n\r\n.\r\n"), uint8(1), uint8(200))
	f.Add([]byte("x"), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, chunk, size uint8) {
		whole := testRules()
		whole.utf8 = true
		whole.maxLine = 2000
		parts := whole
		parts.message = &queue.Message{ID: "ID"}
		want, wantErr := pass(bytes.NewReader(in), whole, 32<<10)
		got, gotErr := pass(pieces{bytes.NewReader(in), int(chunk) + 1}, parts, int(size)+1)
		if got != want || (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("whole: %q %v\nparts: %q %v", want, wantErr, got, gotErr)
		}
		if wantErr != nil {
			var r *reply
			if !errors.As(wantErr, &r) || r.code/100 != 5 {
				t.Fatalf("%v", wantErr)
			}
			return
		}
		if *whole.message != *parts.message {
			t.Fatalf("%+v and %+v", *whole.message, *parts.message)
		}
		checkClean(t, want)
	})
}

// checkClean states what every accepted message keeps to.
func checkClean(t *testing.T, s string) {
	t.Helper()
	rest := strings.ReplaceAll(s, "\r\n", "")
	if strings.ContainsAny(rest, "\r\n\x00") {
		t.Fatalf("bare CR or LF, or NUL: %q", s)
	}
	if !strings.HasSuffix(s, "\r\n") || !strings.HasPrefix(s, "Received: trace\r\n") {
		t.Fatalf("ends: %q", s)
	}
	head, _, ok := strings.Cut(s, "\r\n\r\n")
	if !ok {
		t.Fatalf("no end of the header: %q", s)
	}
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(strings.ToLower(line), ownPrefix) && strings.Contains(line, ":") {
			t.Fatalf("own field goes out: %q", line)
		}
	}
}

// pieces reads at most n octets at a time.
type pieces struct {
	io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.n)]) }

// The end is where the first CR LF . CR LF is, and bad says whether a bare CR or LF
// stood before it: compared with the plain definition.
func FuzzFraming(f *testing.F) {
	for _, e := range endings() {
		f.Add([]byte("Subject: x\r\n\r\nbody"+e+injected), uint8(0))
	}
	f.Add([]byte(".\r\n"), uint8(1))
	f.Add([]byte("\r\n.\r\r\n.\r\n"), uint8(2))
	f.Add([]byte("\r.\r\n.\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		wantEnd := bytes.Index(append([]byte("\r\n"), in...), []byte("\r\n.\r\n")) + 3
		var fr framing
		var dots stuffing
		var got []byte
		n, end := 0, false
		for rest := in; len(rest) > 0 && !end; {
			p := rest[:min(len(rest), int(chunk)+1)]
			k, done := fr.feed(p)
			if k != len(p) && !done {
				t.Fatalf("took %d of %d", k, len(p))
			}
			if !fr.bad {
				out := make([]byte, k)
				got = append(got, out[:dots.copy(out, p[:k])]...)
			}
			n, end, rest = n+k, done, rest[k:]
		}
		if end && !fr.bad {
			want := strings.ReplaceAll("\r\n"+strings.TrimSuffix(string(in[:n]), ".\r\n"), "\r\n.", "\r\n")[2:]
			if string(got) != want {
				t.Fatalf("%q: content %q, want %q", in[:n], got, want)
			}
		}
		if end != (wantEnd > 2) || end && n != wantEnd {
			t.Fatalf("%q: end %v at %d, want %d", in, end, n, wantEnd)
		}
		clean := bytes.ReplaceAll(in[:n], []byte("\r\n"), nil)
		bad := bytes.ContainsAny(bytes.TrimSuffix(clean, []byte("\r")), "\r\n")
		if !end && bytes.HasSuffix(clean, []byte("\r")) && !bytes.HasSuffix(in[:n], []byte("\r")) {
			bad = true
		}
		if end {
			bad = bytes.ContainsAny(clean, "\r\n")
		}
		if fr.bad != bad {
			t.Fatalf("%q: bad %v, want %v", in[:n], fr.bad, bad)
		}
	})
}

// BenchmarkLines is what it takes to look at a large content on its way in: for the end of DATA, and for what is refused.
func BenchmarkLines(b *testing.B) {
	for name, line := range map[string]string{"plain": "", "dots": ".."} {
		content := []byte(strings.Repeat(line+strings.Repeat("x", 62-len(line))+"\r\n", 16<<10/64))
		b.Run(name, func(b *testing.B) {
			g := &gate{server: &Server{}, door: &door{maxBytes: 1 << 60}, phase: phaseData}
			lines := lineCheck{max: 64 << 10, paired: true}
			buf := make([]byte, len(content))
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				g.br = bufio.NewReaderSize(bytes.NewReader(content), len(content))
				_, _ = g.br.Peek(1) // all of it
				n, err := g.readData(buf)
				if err != nil || n == 0 {
					b.Fatal(n, err)
				}
				if err := lines.feed(buf[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
