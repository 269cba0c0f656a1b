package main_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// peerCase is a domain of its own with one host, to which Postfix and Sealpost both deliver.
type peerCase struct {
	name string
	kind string
	// dns publishes what is special about the domain and its host.
	dns func(z *policytest.Zones, domain, host string, port uint16, cert tls.Certificate, ca *policytest.CA)
	// want is what the RFC asks for: tls, clear, or nothing (the mail waits).
	want string
}

func peerCases() []peerCase {
	tlsa := func(usage, selector, matching uint8) func(*policytest.Zones, string, string, uint16, tls.Certificate, *policytest.CA) {
		return func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, ca *policytest.CA) {
			c := cert.Leaf
			if usage == 2 {
				c = ca.Certificate()
			}
			z.TLSA(host, port, policytest.TLSA(c, usage, selector, matching))
		}
	}
	wrong := policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}
	return []peerCase{
		{"no TLSA, TLS", "modern", nil, "tls"},
		{"no TLSA, no STARTTLS", "no-tls", nil, "clear"},
		{"3 1 1 matches", "modern", tlsa(3, 1, 1), "tls"},
		{"3 0 2 matches", "self-signed", tlsa(3, 0, 2), "tls"},
		{"2 0 1 matches", "modern", tlsa(2, 0, 1), "tls"},
		{"3 1 1 does not match", "modern", func(z *policytest.Zones, _, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, wrong)
		}, "nothing"},
		{"usage 1 only: unusable, encryption all the same (RFC 7672 2.2)", "self-signed", func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, policytest.TLSA(cert.Leaf, 1, 1, 1))
		}, "tls"},
		{"unusable and no STARTTLS", "no-tls", func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, policytest.TLSA(cert.Leaf, 1, 1, 1))
		}, "nothing"},
		{"TLSA and no STARTTLS", "no-tls", tlsa(3, 1, 1), "nothing"},
		{"TLSA SERVFAIL", "modern", func(z *policytest.Zones, _, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Fail(fmt.Sprintf("_%d._tcp.%s", port, host), "TLSA", policytest.ServFail)
		}, "nothing"},
		{"insecure MX, secure host, 3 1 1 matches (RFC 7672 2.2.1)", "self-signed", func(z *policytest.Zones, domain, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.Zone(domain, policytest.Unsigned)
			z.TLSA(host, port, policytest.TLSA(cert.Leaf, 3, 1, 1))
		}, "tls"},
		{"insecure MX, secure host, 3 1 1 does not match", "modern", func(z *policytest.Zones, domain, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Zone(domain, policytest.Unsigned)
			z.TLSA(host, port, wrong)
		}, "nothing"},
		{"a wrong SHA-512 beside a right SHA-256 (RFC 7671 9)", "modern", func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, policytest.TLSA(cert.Leaf, 3, 1, 1), policy.TLSARecord{Usage: 3, Selector: 1, Matching: 2, Data: make([]byte, 64)})
		}, "nothing"},
		{"a wrong record beside a right one", "modern", func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, wrong, policytest.TLSA(cert.Leaf, 3, 1, 1))
		}, "tls"},
		{"an unusable record that is right beside a wrong one", "modern", func(z *policytest.Zones, _, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.TLSA(host, port, wrong, policytest.TLSA(cert.Leaf, 1, 1, 1))
		}, "nothing"},
		{"CNAME at the host, TLSA at its target (RFC 7672 2.2.3)", "modern", func(z *policytest.Zones, domain, host string, port uint16, cert tls.Certificate, _ *policytest.CA) {
			z.Remove(domain, "MX")
			z.MX(domain, 10, "alias."+domain)
			z.CNAME("alias."+domain, host)
			z.TLSA(host, port, policytest.TLSA(cert.Leaf, 3, 1, 1))
		}, "tls"},
		{"CNAME at the host, TLSA at its target, no match", "modern", func(z *policytest.Zones, domain, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Remove(domain, "MX")
			z.MX(domain, 10, "alias."+domain)
			z.CNAME("alias."+domain, host)
			z.TLSA(host, port, wrong)
		}, "nothing"},
		{"an unsigned host whose zone fails TLSA (RFC 7672 2.2.2)", "no-tls", func(z *policytest.Zones, domain, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Zone("out."+domain, policytest.Unsigned)
			z.Remove(domain, "MX")
			z.MX(domain, 10, "mx.out."+domain)
			z.CNAME("mx.out."+domain, host)
			z.Fail(fmt.Sprintf("_%d._tcp.mx.out.%s", port, domain), "TLSA", policytest.ServFail)
		}, "clear"},
		{"TLSA in an insecure child zone", "no-tls", func(z *policytest.Zones, _, host string, port uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Zone("_tcp."+host, policytest.Unsigned)
			z.TLSA(host, port, wrong)
		}, "clear"},
		{"bogus MX", "modern", func(z *policytest.Zones, domain, _ string, _ uint16, _ tls.Certificate, _ *policytest.CA) {
			z.Zone(domain, policytest.Bogus)
		}, "nothing"},
	}
}

// TestPostfixAgrees sends the same mail through Debian's Postfix with its level dane and through
// Sealpost, behind the same validating unbound, to the same hosts: what goes over TLS, in clear or
// not at all is the same for both.
func TestPostfixAgrees(t *testing.T) {
	t.Parallel()
	needRoot(t, "postfix")
	if _, err := exec.LookPath("unshare"); err != nil {
		missing(t, "unshare")
	}
	cases := peerCases()
	z, ca := zones(t), policytest.NewCA()
	behaviours := make([]relaytest.Behaviour, len(cases))
	certs := make([]tls.Certificate, len(cases))
	for i, c := range cases {
		k, ok := relaytest.KindNamed(c.kind)
		if !ok {
			t.Fatalf("no kind %q", c.kind)
		}
		certs[i] = ca.Leaf(policytest.LeafOptions{Names: []string{hostName(i)}, SelfSigned: c.kind == "self-signed", WithRoot: true})
		behaviours[i] = k.Behaviour(certs[i])
		behaviours[i].Name = hostName(i)
	}
	farm, err := relaytest.StartFarm(behaviours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = farm.Close() })
	for i, c := range cases {
		z.Zone(domainName(i), policytest.Signed) // a zone of its own: what is done to it hurts nobody else
		z.MX(domainName(i), 10, hostName(i))
		z.A(hostName(i), farm.Hosts[i].Addr().Addr().String())
		if c.dns != nil {
			c.dns(z, domainName(i), hostName(i), farm.Port, certs[i], ca)
		}
	}
	resolver := unboundAt53(t, z)
	postfix := danePostfix(t, ca, resolver, farm.Port)
	dir := t.TempDir()
	section := strings.Replace(deliverySection(z, int(farm.Port), write(t, dir, "ca.pem", ca.PEM())), z.Addr(), resolver+":53", 1)
	host, port := freeAddr(t)
	submission := fmt.Sprintf("%s:%d", host, port)
	s := serve(t, section+fmt.Sprintf("[[submission]]\nlisten = %q\n", submission))
	for relay, addr := range map[string]string{"postfix": fmt.Sprintf("%s:%d", postfix.host, postfix.port), "sealpost": submission} {
		for i := range cases {
			to := relay + "@" + domainName(i)
			if err := smtp.SendMail(addr, nil, "a@shop.test", []string{to}, []byte("Subject: hello\r\n\r\nhello\r\n")); err != nil {
				t.Fatalf("%s, %s: %v", relay, to, err)
			}
		}
	}
	for i, c := range cases {
		if c.want == "nothing" {
			continue
		}
		eventually(t, c.name+": both have delivered", func() bool {
			return outcome(farm.Hosts[i], "postfix") != "nothing" && outcome(farm.Hosts[i], "sealpost") != "nothing"
		})
	}
	// What waits has been tried: Postfix says so in its log, ours in its metrics.
	waiting, put := 0, map[int]bool{}
	for _, c := range cases {
		if c.want == "nothing" {
			waiting++
		}
	}
	eventually(t, "what waits was tried by Sealpost", func() bool { return s.counts(t, "sealpost_recipients_total", "outcome")["deferred"] >= waiting })
	eventually(t, "what waits was tried by Postfix", func() bool {
		log := postfix.log()
		for i, c := range cases {
			if c.want == "nothing" && regexp.MustCompile("to=<postfix@"+domainName(i)+">.*status=deferred").MatchString(log) {
				put[i] = true
			}
		}
		return len(put) == waiting
	})
	for i, c := range cases {
		for _, relay := range []string{"postfix", "sealpost"} {
			if got := outcome(farm.Hosts[i], relay); got != c.want {
				t.Errorf("%s: %s sent %s, want %s", c.name, relay, got, c.want)
			}
		}
	}
}

func domainName(i int) string { return fmt.Sprintf("d%d.test", i) }
func hostName(i int) string   { return fmt.Sprintf("mx%d.hosts.test", i) }

// outcome is how a relay's mail came to a host: tls, clear or nothing.
func outcome(h *relaytest.Host, relay string) string {
	for _, m := range h.Accepted() {
		if slices.ContainsFunc(m.Addresses(), func(a string) bool { return strings.HasPrefix(a, relay+"@") }) {
			if m.TLS != 0 {
				return "tls"
			}
			return "clear"
		}
	}
	return "nothing"
}

// unboundAt53 starts an unbound and returns a loopback address whose port 53 leads to it: Postfix asks
// by the C library, which knows no other port.
func unboundAt53(t *testing.T, z *policytest.Zones) string {
	t.Helper()
	part(t, "unbound")
	u, err := policytest.StartUnbound(context.WithoutCancel(t.Context()), z)
	if errors.Is(err, policytest.ErrNoUnbound) {
		missing(t, "unbound")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	host, _ := freeAddr(t)
	udp, err := net.ListenPacket("udp", host+":53")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", host+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
	go func() {
		for buf := make([]byte, 4096); ; {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			go forward(udp, from, slices.Clone(buf[:n]), u.Addr)
		}
	}()
	go pass(tcp, u.Addr)
	return host
}

// pass hands connections on until the listener is closed.
func pass(l net.Listener, upstream string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				return
			}
			defer up.Close()
			go func() { _, _ = io.Copy(up, c) }()
			_, _ = io.Copy(c, up)
		}()
	}
}

// forward hands one question on and its answer back.
func forward(udp net.PacketConn, from net.Addr, question []byte, upstream string) {
	up, err := net.Dial("udp", upstream)
	if err != nil {
		return
	}
	defer up.Close()
	_ = up.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 4096)
	if _, err = up.Write(question); err != nil {
		return
	}
	if n, err := up.Read(buf); err == nil {
		_, _ = udp.WriteTo(buf[:n], from)
	}
}

// danePostfix is Debian's Postfix as a sender with the level dane, in a mount namespace in which the C
// library's resolver is ours.
func danePostfix(t *testing.T, ca *policytest.CA, resolver string, port uint16) *receiver {
	t.Helper()
	conf := write(t, sharedDir(t), "resolv.conf", []byte("nameserver "+resolver+"\noptions trust-ad edns0\n"))
	return startPostfixIn(t, ca, []string{"unshare", "--mount", "--propagation", "private", "sh", "-c",
		"mount --bind " + conf + ` /etc/resolv.conf && exec "$0" "$@"`},
		"virtual_mailbox_domains =", "smtpd_tls_security_level = none", "smtp_tls_security_level = dane", "smtp_dns_support_level = dnssec", "smtp_host_lookup = dns",
		fmt.Sprintf("smtp_tcp_port = %d", port), "smtp_tls_CAfile = "+write(t, sharedDir(t), "ca.pem", ca.PEM()), "smtp_tls_loglevel = 1")
}
