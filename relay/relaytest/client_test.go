package relaytest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// authority is a CA for the tests, with one certificate of each sort.
type authority struct {
	roots *x509.CertPool
	certs map[Certificate]tls.Certificate
}

func newAuthority(t testing.TB, host string) *authority {
	t.Helper()
	caKey := ecKey(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der := sign(t, ca, ca, caKey.Public(), caKey)
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{roots: x509.NewCertPool(), certs: map[Certificate]tls.Certificate{}}
	a.roots.AddCert(ca)
	leaf := func(name string, until time.Time) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	}
	later := time.Now().Add(time.Hour)
	k := ecKey(t)
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(der []byte, key any) tls.Certificate {
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	a.certs[Trusted] = pair(sign(t, leaf(host, later), ca, k.Public(), caKey), k)
	a.certs[SelfSigned] = pair(sign(t, leaf(host, later), leaf(host, later), k.Public(), k), k)
	a.certs[Expired] = pair(sign(t, leaf(host, time.Now().Add(-time.Hour)), ca, k.Public(), caKey), k)
	a.certs[WrongName] = pair(sign(t, leaf("other.test", later), ca, k.Public(), caKey), k)
	a.certs[TrustedRSA] = pair(sign(t, leaf(host, later), ca, rk.Public(), caKey), rk)
	return a
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, cert, parent *x509.Certificate, public, private any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// caller is a small client that tries the rungs one after the other, written apart
// from the relay's own, so that the kinds are not judged by what they are to test.
type caller struct {
	roots *x509.CertPool
	name  string
	wait  time.Duration
	from  string
	to    []string
	body  string
	bdat  bool
	again bool // it has called before: 454 to STARTTLS is not waited for any more
}

// outcome is what a call came to.
type outcome struct {
	kind  queue.OutcomeKind
	level policy.Level
	err   error
}

// errTLS marks failures that may lower a rung.
var errTLS = errors.New("TLS failed")

func (c caller) configs() []*tls.Config {
	legacy := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	return []*tls.Config{
		{ServerName: c.name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		{ServerName: c.name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}},
		{ServerName: c.name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: legacy},
		nil,
	}
}

// call walks the rungs.
func (c caller) call(addr string) outcome {
	var o outcome
	for _, config := range c.configs() {
		if o = c.try(addr, config); !errors.Is(o.err, errTLS) {
			return o
		}
	}
	return o
}

// dialogue is one session of a caller.
type dialogue struct {
	conn net.Conn
	r    *bufio.Reader
	text *textproto.Reader
	ext  []string
}

func (d *dialogue) over(conn net.Conn) {
	d.conn, d.r = conn, bufio.NewReader(conn)
	d.text = textproto.NewReader(d.r)
}

// ask sends a line and wants a reply of that class.
func (d *dialogue) ask(class int, format string, args ...any) (string, error) {
	if format != "" {
		if _, err := fmt.Fprintf(d.conn, format+"\r\n", args...); err != nil {
			return "", err
		}
	}
	var lines []string
	for {
		line, err := d.text.ReadLine()
		if err != nil {
			return "", err
		}
		// RFC 5321 4.2: a code may come without a text.
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || len(line) > 10_000 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return "", errors.New("the reply is no SMTP")
		}
		lines = append(lines, line[min(4, len(line)):])
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if code/100 != class {
			return "", &textproto.Error{Code: code, Msg: line}
		}
		return strings.Join(lines, "\n"), nil
	}
}

func (c caller) try(addr string, config *tls.Config) (o outcome) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return outcome{err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(c.wait))
	d := &dialogue{}
	d.over(&bounded{Conn: conn, left: 200_000})
	o.err = func() error {
		if err := d.open(); err != nil {
			return err
		}
		o.level = policy.Plaintext
		if config != nil {
			var err error
			if o.level, err = c.secure(d, config); err != nil {
				return err
			}
		}
		return c.send(d)
	}()
	var reply *textproto.Error
	switch {
	case o.err == nil:
		o.kind = queue.DeliveredNow
		_, _ = d.ask(2, "QUIT")
	case errors.As(o.err, &reply) && reply.Code/100 == 5:
		o.kind = queue.BouncedNow
	}
	return o
}

// bounded ends a connection that says too much.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errors.New("too many octets")
	}
	return n, err
}

func (d *dialogue) open() error {
	if _, err := d.ask(2, ""); err != nil {
		return err
	}
	return d.hello()
}

func (d *dialogue) hello() error {
	msg, err := d.ask(2, "EHLO client.test")
	var reply *textproto.Error
	if errors.As(err, &reply) && reply.Code/100 == 5 {
		d.ext = nil
		_, err = d.ask(2, "HELO client.test")
		return err
	}
	d.ext = strings.Split(strings.ToUpper(msg), "\n")[1:]
	return err
}

func (c caller) secure(d *dialogue, config *tls.Config) (policy.Level, error) {
	if !d.has("STARTTLS") {
		return policy.Plaintext, fmt.Errorf("%w: no STARTTLS", errTLS)
	}
	if _, err := d.ask(2, "STARTTLS"); err != nil {
		var said *textproto.Error
		if errors.As(err, &said) && said.Code == 454 && !c.again {
			return policy.Unset, err
		}
		return policy.Plaintext, fmt.Errorf("%w: %v", errTLS, err)
	}
	if d.r.Buffered() > 0 {
		return policy.Unset, errors.New("octets were injected")
	}
	conn := tls.Client(d.conn, config)
	if err := conn.Handshake(); err != nil {
		return policy.Unset, fmt.Errorf("%w: %v", errTLS, err)
	}
	d.over(conn)
	state := conn.ConnectionState()
	level := policy.Encrypted
	if state.Version < tls.VersionTLS12 || config.CipherSuites != nil {
		level = policy.Legacy
	} else if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: c.roots, DNSName: c.name}); err == nil {
		level = policy.Verified
	}
	return level, d.hello()
}

func (d *dialogue) has(keyword string) bool {
	for _, e := range d.ext {
		if word, _, _ := strings.Cut(e, " "); word == keyword {
			return true
		}
	}
	return false
}

func (c caller) send(d *dialogue) error {
	if _, err := d.ask(2, "MAIL FROM:<%s>", c.from); err != nil {
		return err
	}
	var last error
	good := 0
	for _, to := range c.to {
		if _, err := d.ask(2, "RCPT TO:<%s>", to); err == nil {
			good++
		} else {
			last = err
		}
	}
	if good == 0 {
		return last
	}
	if c.bdat {
		_, err := d.ask(2, "BDAT %d LAST\r\n%s", len(c.body), strings.TrimSuffix(c.body, "\r\n"))
		return err
	}
	if _, err := d.ask(3, "DATA"); err != nil {
		return err
	}
	stuffed := strings.ReplaceAll("\r\n"+c.body, "\r\n.", "\r\n..")[2:]
	_, err := d.ask(2, "%s.", stuffed)
	return err
}

func newCaller(a *authority, name string) caller {
	return caller{roots: a.roots, name: name, wait: 20 * time.Second, from: "sender@client.test", to: []string{"reader@example.test"},
		body: "Subject: test\r\n\r\n.dots\r\n..\r\n" + strings.Repeat("line\r\n", 50)}
}

func start(t testing.TB, b Behaviour) *Host {
	t.Helper()
	h, err := Start(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
