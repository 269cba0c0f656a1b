package submission

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// go-smtp's client, as a sender that we have not written.
func TestClientGoSMTP(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	c, err := smtp.DialStartTLS(d.addr, &tls.Config{RootCAs: d.pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Auth(sasl.NewPlainClient("", "app", "secret")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := c.SendMail("a@sender.example", []string{"b@rcpt.example", "c@rcpt.example"}, strings.NewReader("Subject: x\r\n\r\n.\r\nbody\r\n"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	all := d.sink.all()
	if len(all) != 3 || !strings.HasSuffix(all[0].body, "\r\n\r\n.\r\nbody\r\n") || len(all[0].recipients) != 2 {
		t.Errorf("%d messages, the first %q", len(all), all[0].body)
	}
}

func TestClientGoSMTPLogin(t *testing.T) {
	t.Parallel()
	d := withApp(t, nil)
	c, err := smtp.DialStartTLS(d.addr, &tls.Config{RootCAs: d.pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Auth(sasl.NewLoginClient("app", "secret")); err != nil {
		t.Fatal(err)
	}
}

const pythonClient = `
import smtplib, ssl, sys
host, port, ca = sys.argv[1:4]
ctx = ssl.create_default_context(cafile=ca)
ctx.check_hostname = False
s = smtplib.SMTP(host, int(port), local_hostname="python.example")
s.starttls(context=ctx)
s.login("app", "secret")
s.sendmail("a@sender.example", ["b@rcpt.example"], "Subject: one\n\n.\ntext\n")
s.sendmail("jürgen@sender.example", ["ü@rcpt.example"], "Subject: two ü\r\n\r\ntext\r\n".encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
try:
    s.sendmail("a@sender.example", ["b@[127.0.0.1]"], "x")
    sys.exit("a literal was accepted")
except smtplib.SMTPRecipientsRefused:
    pass
s.quit()
`

// Python's smtplib, as another.
func TestClientPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	d := withApp(t, nil)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := d.doors[0].certificate.current.Load().Certificate[0]
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(d.addr, ":")
	out, err := exec.CommandContext(t.Context(), python, "-c", pythonClient, host, port, ca).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := d.sink.all()
	if len(all) != 2 || !strings.HasSuffix(all[0].body, "\r\n\r\n.\r\ntext\r\n") || all[1].message.Sender.Local != "jürgen" {
		t.Errorf("%d: %s", len(all), fmt.Sprint(all))
	}
}
