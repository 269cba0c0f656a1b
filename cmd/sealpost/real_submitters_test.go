package main_test

import (
	"context"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// door is one submission listener as a client sees it.
type door struct {
	host       string // loopback address
	port       int
	tls        string // "none", "starttls", "implicit"
	auth       bool
	caFile     string // vouches for submission.sealpost.test
	mailFile   string // the message, with CRLF
	scratch    string // a folder for the client's own files
	mailFileLF string // the message, with LF, for clients that want a Unix file
}

const (
	submissionName = "submission.sealpost.test"
	submitter      = "invitations"
	password       = "correct horse battery staple"
	// passwordHash is argon2id of password (m=19456, t=2, p=1), as `sealpost user add` writes it.
	passwordHash = "$argon2id$v=19$m=19456,t=2,p=1$c2VhbHBvc3QtdGVzdGluZw$Jp4+OCauOcGHHAOIAHaFzKpcrr384BKvQDMSGFfQ77w"
)

// submitters are the programs that applications use, each with the command line that hands in the
// door's message from a@sealpost.test to the recipient. An empty command: it cannot do this door.
var submitters = []struct {
	name    string
	program string
	command func(t *testing.T, d door, to string) []string
}{
	{"swaks", "swaks", swaksCommand},
	{"smtplib", "python3", smtplibCommand},
	{"nodemailer", "node", nodemailerCommand},
	{"curl", "curl", curlCommand},
	{"msmtp", "msmtp", msmtpCommand},
}

func swaksCommand(t *testing.T, d door, to string) []string {
	text, err := os.ReadFile(d.mailFileLF)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, d.scratch, "mail-swaks", text[:len(text)-1]) // it ends the last line itself
	args := []string{"--server", d.host, "--port", fmt.Sprint(d.port), "--from", "a@sealpost.test", "--to", to,
		"--ehlo", "app.sealpost.test", "--data", "@" + file, "--suppress-data"}
	switch d.tls {
	case "starttls":
		args = append(args, "--tls", "--tls-verify", "--tls-ca-path", d.caFile, "--tls-sni", submissionName)
	case "implicit":
		args = append(args, "--tls-on-connect", "--tls-verify", "--tls-ca-path", d.caFile, "--tls-sni", submissionName)
	}
	if d.auth {
		args = append(args, "--auth", "PLAIN,LOGIN", "--auth-user", submitter, "--auth-password", password)
	}
	return args
}

func smtplibCommand(t *testing.T, d door, to string) []string {
	script, err := filepath.Abs("testdata/real/submit.py")
	if err != nil {
		t.Fatal(err)
	}
	return []string{script, d.host, fmt.Sprint(d.port), d.tls, d.caFile, submissionName, userOf(d), password, to, d.mailFile}
}

func nodemailerCommand(t *testing.T, d door, to string) []string {
	script, err := filepath.Abs("testdata/real/submit.js")
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(partsDir(), "node_modules", "nodemailer")
	if _, err := os.Stat(module); err != nil {
		missing(t, "nodemailer")
	}
	return []string{script, module, d.host, fmt.Sprint(d.port), d.tls, d.caFile, submissionName, userOf(d), password, to, d.mailFile}
}

func curlCommand(_ *testing.T, d door, to string) []string {
	scheme := "smtp"
	if d.tls == "implicit" {
		scheme = "smtps"
	}
	args := []string{"--silent", "--show-error", "--mail-from", "a@sealpost.test", "--mail-rcpt", to, "--upload-file", d.mailFile}
	if d.tls == "none" {
		args = append(args, fmt.Sprintf("smtp://%s:%d/app.sealpost.test", d.host, d.port))
	} else {
		args = append(args, "--ssl-reqd", "--cacert", d.caFile,
			"--resolve", fmt.Sprintf("%s:%d:%s", submissionName, d.port, d.host),
			fmt.Sprintf("%s://%s:%d/app.sealpost.test", scheme, submissionName, d.port))
	}
	if d.auth {
		args = append(args, "--user", submitter+":"+password)
	}
	return args
}

func msmtpCommand(t *testing.T, d door, to string) []string {
	conf := []string{"account default", "host " + d.host, fmt.Sprintf("port %d", d.port), "from a@sealpost.test", "domain app.sealpost.test"}
	switch d.tls {
	case "none":
		conf = append(conf, "tls off")
	case "starttls":
		conf = append(conf, "tls on", "tls_starttls on")
	case "implicit":
		conf = append(conf, "tls on", "tls_starttls off")
	}
	if d.tls != "none" {
		conf = append(conf, "tls_trust_file "+d.caFile, "tls_host_override "+submissionName)
	}
	if d.auth {
		conf = append(conf, "auth plain", "user "+submitter, "passwordeval echo '"+password+"'")
	}
	file := write(t, d.scratch, "msmtprc", []byte(strings.Join(conf, "\n")+"\n"))
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--file=" + file, to}
}

func userOf(d door) string {
	if d.auth {
		return submitter
	}
	return ""
}

// TestRealSubmitters hands in mail by every client on every door: in clear on loopback, STARTTLS and
// implicit TLS, with and without credentials. Each message arrives byte for byte.
func TestRealSubmitters(t *testing.T) {
	t.Parallel()
	host, port := freeAddr(t)
	sink, err := relaytest.Start(relaytest.Behaviour{Addr: fmt.Sprintf("%s:%d", host, port), Name: "mx.sink.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	ca := policytest.NewCA()
	dir := t.TempDir()
	cert, key := certificate(t, ca, dir, submissionName)
	z := zones(t)
	z.MX("sink.test", 10, "mx.sink.test")
	z.A("mx.sink.test", host)
	doors := []door{{tls: "none"}, {tls: "none", auth: true}, {tls: "starttls"}, {tls: "starttls", auth: true}, {tls: "implicit"}, {tls: "implicit", auth: true}}
	config := deliverySection(z, port, write(t, dir, "ca.pem", ca.PEM()))
	for i := range doors {
		d := &doors[i]
		d.host, d.port = freeAddr(t)
		d.caFile = filepath.Join(dir, "ca.pem")
		config += fmt.Sprintf("[[submission]]\nlisten = \"%s:%d\"\ntls = %q\nrequire_auth = %v\n", d.host, d.port, d.tls, d.auth)
		if d.tls != "none" {
			config += fmt.Sprintf("cert_file = %q\nkey_file = %q\n", cert, key)
		}
	}
	config += fmt.Sprintf("[[credential]]\nname = %q\npassword_hash = %q\nsenders = [\"@sealpost.test\"]\n", submitter, passwordHash)
	serve(t, config)
	// The clients run at the same time, and the relay must outlive them: the group waits for them.
	t.Run("clients", func(t *testing.T) {
		for _, client := range submitters {
			for _, d := range doors {
				t.Run(fmt.Sprintf("%s/%s/auth=%v", client.name, d.tls, d.auth), func(t *testing.T) {
					t.Parallel()
					program := part(t, client.program)
					to := strings.ToLower(strings.NewReplacer("/", "-", "=", "-", "#", "-").Replace(t.Name())) + "@sink.test"
					want := invitation("a@sealpost.test", to)
					d.scratch = t.TempDir()
					d.mailFile = write(t, d.scratch, "mail", []byte(want))
					d.mailFileLF = write(t, d.scratch, "mail-lf", []byte(strings.ReplaceAll(want, "\r\n", "\n")))
					submit(t, program, client.command(t, d, to), d)
					eventually(t, "the message has arrived", func() bool { return len(arrived(sink, to)) > 0 })
					got := arrived(sink, to)
					if len(got) != 1 {
						t.Fatalf("%d messages arrived, want 1", len(got))
					}
					checkArrival(t, got[0], []string{want})
					checkReceived(t, got[0], d)
				})
			}
		}
	})
}

// arrived are the contents that the host took for the recipient.
func arrived(h *relaytest.Host, to string) (bodies []string) {
	for _, m := range h.Accepted() {
		if slices.Contains(m.Addresses(), to) {
			bodies = append(bodies, string(m.Body))
		}
	}
	return bodies
}

// submit runs a client with the message on its standard input (msmtp reads it there).
func submit(t *testing.T, program string, args []string, d door) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	in, err := os.Open(d.mailFileLF)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = in
	cmd.Env = append(os.Environ(), "HOME="+d.scratch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// checkReceived wants the protocol that the door spoke in our Received header (RFC 3848).
func checkReceived(t *testing.T, got string, d door) {
	t.Helper()
	with := "ESMTP"
	if d.tls != "none" {
		with += "S"
	}
	if d.auth {
		with += "A"
	}
	head, _, _ := strings.Cut(got, "From: Sealpost")
	if !strings.Contains(head, " with "+with+" ") && !strings.Contains(head, "\twith "+with+" ") {
		t.Errorf("no \"with %s\" in the Received header (RFC 3848):\n%s", with, head)
	}
}

// submitPlain hands in one message in clear by net/smtp.
func submitPlain(t *testing.T, addr, to, message string) {
	t.Helper()
	if err := smtp.SendMail(addr, nil, "a@sealpost.test", []string{to}, []byte(message)); err != nil {
		t.Fatal(err)
	}
}
