package submission

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

func TestS8InternalErrorsStayInternal(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	d.sink.fail = fmt.Errorf("pebble: no space left on /secret: %w", &smtp.SMTPError{Code: 554, Message: "wrapped"})
	for _, chunked := range []bool{false, true} {
		w := d.hello(t)
		var r string
		if chunked {
			w.envelope()
			r = w.do(fmt.Sprintf("BDAT %d LAST\r\n%s", len(plainMail), plainMail[:len(plainMail)-2]), "451 4.3.0")
		} else {
			r = w.send(plainMail)
		}
		if !strings.HasPrefix(r, "451 4.3.0") || strings.Contains(r, "secret") || strings.Contains(r, "wrapped") {
			t.Errorf("%q", r)
		}
	}
}

func TestS30ChunkingIsComplete(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	// Several chunks, pipelined behind the envelope, cut inside a CR LF, the last one empty.
	w.raw("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\nBDAT 11\r\nSubject: x\rBDAT 3\r\n\n\r\nBDAT 6\r\n.\r\nQUIBDAT 0 LAST\r\n")
	w.want("250 2.1.0")
	w.want("250 2.1.5")
	for range 3 {
		w.want("250 2.0.0")
	}
	w.want("250 2.6.0")
	// No dot-stuffing, and the last line gets its end.
	if b := withoutTrace(t, d.sink.only(t).body); !strings.HasPrefix(b, "Subject: x\r\n") || !strings.HasSuffix(b, "\r\n\r\n.\r\nQUI\r\n") {
		t.Errorf("%q", b)
	}
	w.send(plainMail)
}

func TestS31ResetWhileChunksRun(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	for _, command := range []string{"RSET", "EHLO again.example"} {
		w := d.hello(t)
		w.envelope()
		w.do("BDAT 4\r\nabcd", "250") // do adds a CR LF: an empty command line
		w.want("500")
		w.do("MAIL FROM:<x@y.example>", "503")
		w.do("DATA", "503")
		w.do("RCPT TO:<x@y.example>", "503")
		w.do(command, "250")
		w.envelope()
		w.do("RSET", "250")
	}
	w := d.hello(t)
	w.envelope()
	w.do("BDAT 4\r\nab", "250") // the CR LF of do is the rest of the chunk
	_ = w.Close()
	_ = d.Shutdown(t.Context())
	d.sink.none(t)
}

func TestS32ChunkOfARefusedTransactionIsNotCommands(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	size := len(injected)
	t.Run("no transaction", func(t *testing.T) {
		w := d.hello(t)
		w.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", size, injected))
		w.want("503 5.5.1")
		w.want("250")
	})
	t.Run("no recipient", func(t *testing.T) {
		w := d.hello(t)
		w.do("MAIL FROM:<a@sender.example>", "250")
		w.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", size, injected))
		w.want("503 5.5.1")
		w.want("250")
	})
	t.Run("before EHLO", func(t *testing.T) {
		w := d.greeted(t)
		w.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", size, injected))
		w.want("503 5.5.1")
		w.want("250")
	})
	t.Run("after a failed chunk", func(t *testing.T) {
		w := d.hello(t)
		w.envelope()
		bad := "Subject: x\n\n"
		w.raw(fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%sNOOP\r\n", len(bad), bad, size, injected))
		// Refused at once or with the next chunk: the pipe decides.
		if r := w.want(""); !strings.HasPrefix(r, "554 5.6.0") {
			w.want("554 5.6.0")
		}
		w.closed()
	})
	for _, arg := range []string{"x", "-1", "99999999999999999999", "10 FIRST", "", "10 LAST LAST", "0x10"} {
		t.Run("argument "+arg, func(t *testing.T) {
			w := d.hello(t)
			w.envelope()
			w.raw("BDAT " + arg + "\r\n" + injected)
			w.want("501 5.5.4")
			w.closed() // how much to skip is not known
		})
	}
	t.Run("too big", func(t *testing.T) {
		w := d.hello(t)
		w.envelope()
		w.raw("BDAT 5000000000 LAST\r\n" + injected)
		w.want("552 5.3.4")
		w.closed()
	})
	d.sink.none(t)
}

func TestS34NestedMailIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.envelope()
	w.do("MAIL FROM:<other@sender.example>", "503 5.5.1")
	w.do("DATA", "354") // the first transaction stands
	w.raw(plainMail + ".\r\n")
	w.want("250")
	m := d.sink.only(t)
	if m.message.Sender.Local != "a" || len(m.recipients) != 1 {
		t.Errorf("%+v", m)
	}
	w.do("DATA", "503 5.5.1") // and its recipients do not
	w.do("MAIL FROM:<other@sender.example>", "250")
	w.do("DATA", "503 5.5.1")
}

func TestS35UnknownParameterIs555(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	w.do("MAIL FROM:<a@sender.example> HOLDFOR=10", "555 5.5.4")
	w.do("MAIL FROM:<a@sender.example> SIZE=4294967296", "552 5.3.4")
	w.do("MAIL FROM:<a@sender.example>", "250")
	w.do("RCPT TO:<b@rcpt.example> RRVS=x", "555 5.5.4")
}

func TestS13OnlyCRLFDotCRLFEndsData(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	for _, end := range endings() {
		w := d.hello(t)
		w.data()
		w.raw("Subject: x\r\n\r\nbody" + end + injected)
		w.want("554 5.6.0") // one reply for all of it
		if strings.ContainsAny(strings.ReplaceAll(end, "\r\n", ""), "\r\n") {
			w.closed()
			continue
		}
		w.do("NOOP", "250 2.0.0") // a NUL only: where the content ended is not in doubt
		w.do("QUIT", "221")
	}
	d.sink.none(t)
}

// Another reader may see the end of such content elsewhere: a client that fell for that
// has commands behind it, and they must not be carried out, however it was framed.
func TestS13NothingBehindSpoiltContentIsExecuted(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("y", 2<<20) // more than linger takes: the reply must arrive all the same
	for name, octets := range map[string]string{
		"DATA, CR CR LF . CR LF":  "DATA\r\nSubject: x\r\n\r\nbody\r\r\n.\r\n",
		"DATA, LF . LF":           "DATA\r\nSubject: x\r\n\r\nbody\n.\n\r\n.\r\n",
		"BDAT LAST":               chunk("Subject: x\r\n\r\nbody\r\r\n.\r\n"),
		"BDAT, CR at the end":     chunk("Subject: x\r\n\r\nbody\r"),
		"BDAT, much more to come": chunk("Subject: x\n\r\n" + big),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &counter{seen: map[string]int{}}
			d := open(t, func(o *Options) { o.Observer = c })
			w := d.hello(t)
			w.envelope()
			w.raw(octets + injected)
			if strings.HasPrefix(octets, "DATA") {
				w.want("354")
			}
			w.want("554 5.6.0")
			w.closed()
			d.sink.none(t)
			eventually(t, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.seen["disconnected test"] == 1 && c.seen["rejected test newline"] == 1
			})
		})
	}
}

// Also when the message was refused for another fault before the bare LF came.
func TestS13SpoiltContentAfterAnotherFault(t *testing.T) {
	t.Parallel()
	c := &counter{seen: map[string]int{}}
	d := open(t, func(o *Options) { o.Observer = c })
	w := d.hello(t)
	w.data()
	w.raw("Subject: x\r\n\r\na\x00b\r\n" + strings.Repeat("more\r\n", 4000)) // beyond what go-smtp waits for
	eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.seen["rejected test content"] == 1
	})
	w.raw("c\nd\r\n.\r\n" + injected)
	w.want("554 5.6.0 NUL")
	w.closed()
	d.sink.none(t)
}
