package main_test

import (
	"fmt"
	"net"
	"net/smtp"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// TestRealPolicyHost has the binary, as users have it, fetch MTA-STS policies where they are: HTTPS on
// port 443 of mta-sts.DOMAIN, behind a validating unbound. The policy survives a restart and the loss of
// record and policy host (RFC 8461 3.3), and explain tells what is known.
func TestRealPolicyHost(t *testing.T) {
	t.Parallel()
	needRoot(t, "port 443")
	z, ca := zones(t), policytest.NewCA()
	web, err := policytest.StartSTS(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = web.Close() })
	host, _ := freeAddr(t)
	door, err := net.Listen("tcp", host+":443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = door.Close() })
	go pass(door, web.Addr().String())

	behaviours := make([]relaytest.Behaviour, 2)
	for i, kind := range []string{"modern", "no-tls"} {
		k, _ := relaytest.KindNamed(kind)
		behaviours[i] = k.Behaviour(ca.Leaf(policytest.LeafOptions{Names: []string{hostName(i)}}))
	}
	farm, err := relaytest.StartFarm(behaviours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = farm.Close() })
	for i := range behaviours {
		z.MX(domainName(i), 10, hostName(i))
		z.A(hostName(i), farm.Hosts[i].Addr().Addr().String())
		z.TXT("_mta-sts."+domainName(i), "v=STSv1; id=1;")
		z.A("mta-sts."+domainName(i), host)
		web.Set(domainName(i), "version: STSv1\nmode: enforce\nmx: *.hosts.test\nmax_age: 86400\n")
	}
	dir := t.TempDir()
	listen, port := freeAddr(t)
	submission := fmt.Sprintf("%s:%d", listen, port)
	config := strings.Replace(deliverySection(z, int(farm.Port), write(t, dir, "ca.pem", ca.PEM())), z.Addr(), unboundAt53(t, z)+":53", 1) +
		fmt.Sprintf("[[submission]]\nlisten = %q\n", submission)
	config = strings.Replace(config, "[server]", "[server]\ndata_dir = \""+filepath.Join(dir, "data")+"\"", 1)
	send := func(i int) {
		t.Helper()
		if err := smtp.SendMail(submission, nil, "a@shop.test", []string{"ann@" + domainName(i)}, []byte("Subject: hello\r\n\r\nhello\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, config)
	send(0)
	send(1)
	eventually(t, "the listed host with TLS has the mail, at level mta-sts", func() bool { return s.delivered(t)["mta-sts"] == 1 })
	eventually(t, "the other one is refused", func() bool { return s.counts(t, "sealpost_refusals_total", "basis")["mta-sts"] > 0 })
	binary, err := raceBinary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "explain", domainName(1), "--config", filepath.Join(s.dir, "sealpost.toml")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "MTA-STS") || !strings.HasPrefix(string(out), "Mail to d1.test waits") && !strings.Contains(string(out), "or waits") {
		t.Errorf("explain (%v):\n%s", err, out)
	}
	s.stop(t)
	// Record and policy host are gone: what is kept counts.
	for i := range behaviours {
		z.Remove("_mta-sts."+domainName(i), "TXT")
	}
	_ = door.Close()
	s = serve(t, config)
	send(1)
	eventually(t, "the policy is still in force", func() bool { return s.counts(t, "sealpost_refusals_total", "basis")["mta-sts"] > 0 })
	if n := len(farm.Hosts[1].ClearEnvelopes()); n > 0 {
		t.Errorf("%d commands of an envelope in clear", n)
	}
}
