package submission

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// FuzzSession sends anything at all to a live server. It must answer in whole reply
// lines, come to an end, not panic, and accept nothing that could smuggle.
func FuzzSession(f *testing.F) {
	for _, a := range attempts() {
		f.Add([]byte(a.octets))
	}
	f.Add([]byte("AUTH PLAIN AGFwcABzZWNyZXQ=\r\nMAIL FROM:<a@b.example> RET=HDRS ENVID=x\r\nRCPT TO:<\"a b\"@c.example> NOTIFY=NEVER ORCPT=rfc822;x\r\nBDAT 3\r\nabcBDAT 0 LAST\r\nHELO x\r\n"))
	f.Add([]byte("AUTH SCRAM-SHA-256 biwsbj1hcHAscj1hYmM=\r\n*\r\nVRFY x\r\nHELP\r\nEXPN\r\n"))
	var log syncBuffer
	d := open(f, func(o *Options) {
		o.Credentials = []Credential{withPassword(f, "app", "secret")}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Limits = Limits{AuthDelay: 1, AuthPerAddress: 1 << 30, AuthPerUser: 1 << 30, DataIdle: time.Second, Command: time.Second}
	})
	form := regexp.MustCompile(`^[2-5][0-9][0-9][ -][ -~]*$`)
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(patience))
		go func() {
			_, _ = io.WriteString(c, "EHLO x\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<b@rcpt.example>\r\n"+string(in))
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err == io.EOF && line == "" {
				break
			}
			if err != nil {
				if isReset(err) {
					break
				}
				t.Fatalf("%q: %v", line, err)
			}
			if !strings.HasSuffix(line, "\r\n") || !form.MatchString(line[:len(line)-2]) || len(line) > 512 {
				t.Fatalf("reply %q", line)
			}
		}
		if s := log.String(); strings.Contains(s, "panic") {
			t.Fatal(s)
		}
		d.sink.mu.Lock()
		defer d.sink.mu.Unlock()
		for _, m := range d.sink.mail {
			if rest := strings.ReplaceAll(m.body, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") {
				t.Fatalf("%q", m.body)
			}
		}
		d.sink.mail = nil
	})
}
