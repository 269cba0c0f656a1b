package submission

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// endings are what some server or other has taken for the end of data
// (CVE-2023-51764, -51765, -51766 and their kin).
func endings() []string {
	return []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n.\r\r\n", "\n.\r", "\r\n\x00.\r\n",
		"\r\r\n.\r\r\n", "\n\n.\n\n", "\r\n.\rX\r\n", "\n\r.\r\n", "\r\n.\x00\r\n", "\x00\r\n.\r",
	}
}

// smuggling is one attempt: what is sent after EHLO and envelope, and how many
// messages may come of it. Nothing may ever be accepted from the evil sender.
type smuggling struct {
	name, octets string
	accepted     int
}

// inClearOnly names the attempt that is an ordinary error under TLS.
const inClearOnly = "STARTTLS with more behind it"

func attempts() []smuggling {
	var out []smuggling
	for _, e := range endings() {
		out = append(out,
			smuggling{fmt.Sprintf("DATA %q", e), "DATA\r\nSubject: x\r\n\r\nbody" + e + injected + "\r\n.\r\nQUIT\r\n", 0},
			smuggling{fmt.Sprintf("BDAT %q", e), chunk("Subject: x\r\n\r\nbody"+e+injected) + "QUIT\r\n", 0})
	}
	clean := "Subject: x\r\n\r\nbody\r\n"
	return append(out,
		smuggling{"commands in content", "DATA\r\n" + clean + strings.ReplaceAll(injected, "\r\n.", "\r\n..") + ".\r\nQUIT\r\n", 1},
		smuggling{"commands in a chunk", chunk(clean+injected) + "QUIT\r\n", 1},
		smuggling{"chunk size too small", "BDAT 4 LAST\r\n" + clean + "QUIT\r\n", 1},
		smuggling{"chunk size in signs", "BDAT +5 LAST\r\n" + injected, 0},
		smuggling{"lone dots", "DATA\r\n..\r\n...\r\n.\r\nQUIT\r\n", 1},
		smuggling{"DATA with LF", "DATA\n" + "Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n", 0},
		smuggling{"commands with LF", strings.ReplaceAll(injected, "\r\n", "\n"), 0},
		smuggling{"commands with CR", strings.ReplaceAll(injected, "\r\n", "\r"), 0},
		smuggling{"recipient with parameters", "RCPT TO:<\"x> NOTIFY=NEVER\"@rcpt.example>\r\nDATA\r\n" + clean + ".\r\nQUIT\r\n", 1},
		smuggling{"recipient with CR LF in quotes", "RCPT TO:<\"x\r\nDATA\r\n\"@rcpt.example>\r\n.\r\nQUIT\r\n", 1},
		smuggling{"EHLO name with CR", "EHLO x\rMAIL FROM:<smuggled@evil.example>\r\nQUIT\r\n", 0},
		smuggling{"header with CR", "DATA\r\nSubject: x\rFrom: smuggled@evil.example\r\n\r\n.\r\nQUIT\r\n", 0},
		smuggling{"header with LF", "DATA\r\nSubject: x\nFrom: smuggled@evil.example\r\n\r\n.\r\nQUIT\r\n", 0},
		smuggling{"header with NUL", "DATA\r\nSubject: x\x00\r\n\r\n.\r\nQUIT\r\n", 0},
		smuggling{inClearOnly, "STARTTLS\r\nRSET\r\n" + injected, 0},
		smuggling{"pipelined after a refused DATA", "RSET\r\nDATA\r\n" + "From: x\r\n.\r\nQUIT\r\n", 0},
		smuggling{"HTTP", "POST / HTTP/1.1\r\nHost: x\r\n\r\n" + injected, 0},
		smuggling{"AUTH response as command", "RSET\r\nAUTH LOGIN\r\n" + injected, 0},
	)
}

func chunk(s string) string { return fmt.Sprintf("BDAT %d LAST\r\n%s", len(s), s) }

// TestSmuggling sends each attempt whole, and then cut into small pieces, in clear
// and under TLS. The session must come to its end and nothing of the injected commands to life.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	all := attempts()
	if len(all) < 20 {
		t.Fatalf("%d attempts: 20 at least", len(all))
	}
	for _, a := range all {
		for _, piece := range []int{1 << 20, 1, 3} {
			t.Run(fmt.Sprintf("%s by %d", a.name, piece), func(t *testing.T) {
				t.Parallel()
				d := open(t, func(o *Options) {
					o.Limits.DataIdle, o.Limits.Command = time.Second, time.Second
					o.Credentials = []Credential{withPassword(t, "app", "secret")}
				})
				w := d.hello(t)
				if piece == 3 && a.name != inClearOnly {
					w.startTLS(d)
					w.do("EHLO client.example", "250")
				}
				w.envelope()
				go func() {
					for rest := a.octets; rest != ""; {
						n := min(piece, len(rest))
						if _, err := io.WriteString(w.Conn, rest[:n]); err != nil {
							return
						}
						rest = rest[n:]
					}
				}()
				replies, err := io.ReadAll(w.r)
				if err != nil && !isReset(err) {
					t.Errorf("the session did not end: %v", err)
				}
				got := d.sink.all()
				for _, m := range got {
					if m.message.Sender.Domain != "sender.example" {
						t.Errorf("accepted from %s", m.message.Sender)
					}
				}
				if len(got) != a.accepted {
					t.Errorf("%d accepted, want %d; replies %q", len(got), a.accepted, replies)
				}
			})
		}
	}
}
