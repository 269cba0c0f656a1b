package main_test

import (
	"crypto/rand"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
)

// receiver is somebody else's mail server on loopback, which delivers all that it takes to a maildir.
type receiver struct {
	name    string // host name of its certificate
	host    string // loopback address
	port    int
	maildir string
	// log returns what it logged.
	log func() string
}

// mail returns the messages in the maildir, as the receiver wrote them (with bare LF).
func (r *receiver) mail(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.maildir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// fill replaces @NAME@ in a configuration text.
func fill(text string, values map[string]string) []byte {
	for k, v := range values {
		text = strings.ReplaceAll(text, "@"+k+"@", v)
	}
	return []byte(text)
}

// startPostfix runs Debian's Postfix without installing it: own folders and users, own port. extra lines
// take the place of those in main.cf with the same key.
func startPostfix(t *testing.T, ca *policytest.CA, extra ...string) *receiver {
	t.Helper()
	return startPostfixIn(t, ca, nil, extra...)
}

// startPostfixIn is startPostfix under another command: master's command line comes after it.
func startPostfixIn(t *testing.T, ca *policytest.CA, under []string, extra ...string) *receiver {
	t.Helper()
	needRoot(t, "postfix")
	master := part(t, "master")
	dir := sharedDir(t)
	r := &receiver{name: "mx.postfix.test", maildir: filepath.Join(dir, "mail", "all")}
	r.host, r.port = freeAddr(t)
	postfixFolders(t, dir)
	conf := filepath.Join(dir, "conf")
	mustMkdir(t, conf, 0o755, "root")
	cert, key := certificate(t, ca, conf, r.name)
	values := map[string]string{
		"DIR": dir, "DAEMONS": filepath.Dir(master), "LIBS": filepath.Dir(filepath.Dir(master)),
		"COMMANDS": filepath.Join(partsDir(), "usr/sbin"), "NAME": r.name, "CERT": cert, "KEY": key,
		"HOST": r.host, "PORT": strconv.Itoa(r.port), "UID": strconv.Itoa(uid(t, "mail")),
	}
	for _, name := range []string{"main.cf", "master.cf"} {
		text, err := os.ReadFile(filepath.Join("testdata/real/postfix", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "main.cf" {
			text = override(text, extra)
		}
		write(t, conf, name, fill(string(text), values))
	}
	line := append(slices.Clone(under), master, "-d", "-c", conf)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+conf, "MAIL_LOGTAG=postfix",
		"LD_LIBRARY_PATH="+values["LIBS"])
	d := startDaemon(t, cmd)
	logFile := filepath.Join(dir, "log", "maillog")
	r.log = func() string { return readLog(logFile) }
	await(t, d, r)
	return r
}

// override puts the lines into a main.cf, in place of those with the same key.
func override(text []byte, lines []string) []byte {
	kept := slices.DeleteFunc(strings.Split(string(text), "\n"), func(old string) bool {
		return slices.ContainsFunc(lines, func(line string) bool {
			key, _, _ := strings.Cut(line, "=")
			return strings.HasPrefix(old, key+"=")
		})
	})
	return []byte(strings.Join(append(kept, lines...), "\n") + "\n")
}

// postfixFolders makes what `postfix start` would: the queue's folders with their owners.
func postfixFolders(t *testing.T, dir string) {
	t.Helper()
	mustMkdir(t, filepath.Join(dir, "log"), 0o755, "root")
	mustMkdir(t, filepath.Join(dir, "data"), 0o700, "mail")
	mustMkdir(t, filepath.Join(dir, "mail"), 0o755, "mail")
	queue := filepath.Join(dir, "queue")
	mustMkdir(t, queue, 0o755, "root")
	mustMkdir(t, filepath.Join(queue, "pid"), 0o755, "root")
	for _, name := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
		"incoming", "private", "saved", "trace", "maildrop", "public"} {
		mustMkdir(t, filepath.Join(queue, name), 0o700, "mail")
	}
}

// startExim runs Debian's Exim without installing it. The binary is copied to where its user can
// start it again: Exim runs itself anew for each delivery. extra lines go before the ACLs.
func startExim(t *testing.T, ca *policytest.CA, extra ...string) *receiver {
	t.Helper()
	needRoot(t, "exim4")
	if _, err := user.Lookup("Debian-exim"); err != nil {
		missing(t, "user Debian-exim")
	}
	binary, err := os.ReadFile(part(t, "exim4"))
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir(t)
	r := &receiver{name: "mx.exim.test", maildir: filepath.Join(dir, "mail")}
	r.host, r.port = freeAddr(t)
	for _, name := range []string{"mail", "spool", "log"} {
		mustMkdir(t, filepath.Join(dir, name), 0o755, "Debian-exim")
	}
	exim := write(t, dir, "exim4", binary)
	if err := os.Chmod(exim, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t, ca, dir, r.name)
	text, err := os.ReadFile("testdata/real/exim.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := write(t, dir, "exim.conf", fill(string(text), map[string]string{
		"DIR": dir, "NAME": r.name, "CERT": cert, "KEY": key, "HOST": r.host, "PORT": strconv.Itoa(r.port),
		"EXTRA": strings.Join(extra, "\n"),
	}))
	d := startDaemon(t, exec.Command(exim, "-C", conf, "-bdf"))
	r.log = func() string { return readLog(filepath.Join(dir, "log", "mainlog")) }
	await(t, d, r)
	return r
}

func await(t *testing.T, d *daemon, r *receiver) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s logged:\n%s", r.name, r.log())
		}
	})
	addr := fmt.Sprintf("%s:%d", r.host, r.port)
	eventually(t, r.name+" greets", func() bool {
		if !d.alive() {
			t.Fatalf("%s ended: %v\n%s\n%s", r.name, d.err, readLog(d.out), r.log())
		}
		c, err := smtp.Dial(addr)
		if err != nil {
			return false
		}
		return c.Quit() == nil
	})
}

func readLog(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-64<<10):]) // the end of it
}

func uid(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustMkdir(t *testing.T, dir string, mode os.FileMode, owner string) {
	t.Helper()
	if err := os.Mkdir(dir, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid(t, owner), -1); err != nil {
		t.Fatal(err)
	}
}

func randByte(t *testing.T) int {
	t.Helper()
	var b [1]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return int(b[0])
}

// TestRealReceivers sends invitations to Debian's Postfix and Exim: each arrives byte for byte, over a
// verified TLS 1.3 session.
func TestRealReceivers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		start func(*testing.T, *policytest.CA, ...string) *receiver
		// encrypted is what the receiver writes of the session into its Received header.
		encrypted string
	}{
		{"Postfix", startPostfix, "(using TLSv1.3 with cipher"},
		{"Exim", startExim, "with esmtps  (TLS1.3)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca := policytest.NewCA()
			r := test.start(t, ca)
			domain := strings.TrimPrefix(r.name, "mx.")
			z := zones(t)
			z.MX(domain, 10, r.name)
			z.A(r.name, r.host)
			s, submission := serveTo(t, z, ca, r.port)
			head, _, _ := strings.Cut(invitation("a@sealpost.test", "b@"+domain), "MIME-Version:")
			wants := []string{
				invitation("a@sealpost.test", "b@"+domain),
				head + "\r\n.\r\n",
				head + "\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20_000),
			}
			for i, want := range wants {
				to := []string{fmt.Sprintf("b%d@%s", i, domain)}
				if err := smtp.SendMail(submission, nil, "a@sealpost.test", to, []byte(want)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all mail has arrived", func() bool { return len(r.mail(t)) == len(wants) })
			for _, got := range r.mail(t) {
				checkArrival(t, got, wants)
				if !strings.Contains(got, test.encrypted) {
					t.Errorf("the receiver's Received header has no %q:\n%.1000s", test.encrypted, got)
				}
			}
			eventually(t, "the deliveries are counted", func() bool { return s.delivered(t)["verified"] == len(wants) })
			if got := s.delivered(t); len(got) != 1 {
				t.Errorf("delivered by level: %v, want verified only", got)
			}
		})
	}
}

// serveTo starts a relay with one open listener on loopback, for receivers on the port.
func serveTo(t *testing.T, z *policytest.Zones, ca *policytest.CA, port int) (s *sealpost, submission string) {
	t.Helper()
	host, sub := freeAddr(t)
	submission = fmt.Sprintf("%s:%d", host, sub)
	caFile := write(t, t.TempDir(), "ca.pem", ca.PEM())
	config := deliverySection(z, port, caFile) + fmt.Sprintf("[[submission]]\nlisten = %q\ntls = \"none\"\n", submission)
	return serve(t, config), submission
}

// checkArrival wants one of the messages at the end of what arrived, byte for byte, behind nothing but
// header lines.
func checkArrival(t *testing.T, got string, wants []string) {
	t.Helper()
	got = strings.ReplaceAll(got, "\r\n", "\n")
	for _, want := range wants {
		before, ok := strings.CutSuffix(got, strings.ReplaceAll(want, "\r\n", "\n"))
		if !ok {
			continue
		}
		if strings.Contains(before, "\n\n") || before != "" && !strings.HasSuffix(before, "\n") {
			t.Errorf("more than a header stands before the message:\n%s", before)
		}
		return
	}
	t.Errorf("what arrived ends in none of the messages that were sent:\n%.3000q", got)
}
