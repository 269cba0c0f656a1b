package policytest_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy/policytest"
)

func start(t *testing.T) *policytest.Zones {
	t.Helper()
	z := policytest.NewZones()
	if err := z.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return z
}

// query asks with DO and RD, and whatever bits set adds.
func query(t *testing.T, addr, name, qtype string, set func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	m.SetEdns0(1232, true)
	if set != nil {
		set(m)
	}
	c := &dns.Client{Net: "tcp"}
	got, _, err := c.ExchangeContext(t.Context(), m, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", name, qtype, err)
	}
	return got
}

// internet fills zones of every kind.
func internet(z *policytest.Zones) {
	z.Zone("insecure.example", policytest.Unsigned)
	z.Zone("bogus.example", policytest.Bogus)
	z.Zone("island.insecure.example", policytest.Signed)
	z.MX("signed.example", 10, "mx.signed.example")
	z.A("mx.signed.example", "192.0.2.1", "2001:db8::1")
	z.TLSA("mx.signed.example", 25, policytest.TLSA(policytest.NewCA().Certificate(), 3, 1, 1))
	z.CNAME("alias.signed.example", "mx.signed.example")
	z.CNAME("out.signed.example", "mx.insecure.example")
	z.CNAME("broken.signed.example", "mx.bogus.example")
	z.CNAME("in.insecure.example", "mx.signed.example")
	z.A("mx.insecure.example", "192.0.2.2")
	z.A("mx.bogus.example", "192.0.2.3")
	z.A("mx.island.insecure.example", "192.0.2.4")
	z.A("deep.below.signed.example", "192.0.2.5")
	z.MX("*.wild.example", 10, "mx.signed.example")
	z.A("there.wild.example", "192.0.2.6")
	z.CNAME("*.alias.wild.example", "mx.signed.example")
	z.CNAME("away.signed.example", "home.insecure.example")
	z.CNAME("home.insecure.example", "mx.signed.example")
	z.Add("moved.signed.example. DNAME wild.example.", "lost.signed.example. DNAME insecure.example.")
	for zone, s := range map[string]policytest.Security{
		"expired.example": policytest.Expired, "stripped.example": policytest.Stripped,
		"undenied.example": policytest.Undenied, "exotic.example": policytest.Exotic,
		"hashed.example": policytest.Signed, "optout.example": policytest.Signed,
		"sub.hashed.example": policytest.Unsigned, "sub.optout.example": policytest.Unsigned, "safe.optout.example": policytest.Signed,
		"broken.hashed.example": policytest.Bogus,
	} {
		z.Zone(zone, s)
		z.A("mx."+zone, "192.0.2.7")
	}
	z.Deny("hashed.example", policytest.NSEC3)
	z.Deny("optout.example", policytest.OptOut)
	for _, zone := range []string{"hashed.example", "optout.example"} {
		z.A("deep.below."+zone, "192.0.2.8")
		z.MX("*.wild."+zone, 10, "mx.signed.example")
	}
}

// cases are what a validating resolver says about them.
var cases = []struct {
	clause, name, qtype string
	rcode               int
	ad                  bool
	answers             int // RRs of the type asked for
}{
	{"RFC 4035 3.2.3 secure", "signed.example", "MX", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.2.3 secure", "_25._tcp.mx.signed.example", "TLSA", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.2.3 secure alias", "alias.signed.example", "A", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.1.3.1 no data", "mx.signed.example", "MX", dns.RcodeSuccess, true, 0},
	{"RFC 4035 3.1.3.2 no name", "nothing.signed.example", "A", dns.RcodeNameError, true, 0},
	{"RFC 4035 3.1.3.2 no name, first in order", "0.signed.example", "A", dns.RcodeNameError, true, 0},
	{"RFC 4035 3.1.3.2 no such zone", "nothing.example", "MX", dns.RcodeNameError, true, 0},
	{"RFC 4035 3.1.3.2 no such top-level domain", "nothing.nowhere", "MX", dns.RcodeNameError, true, 0},
	{"RFC 8020 3.1 empty non-terminal", "below.signed.example", "A", dns.RcodeSuccess, true, 0},
	{"RFC 8020 3.1 empty non-terminal", "_tcp.mx.signed.example", "TLSA", dns.RcodeSuccess, true, 0},
	{"RFC 4035 5.2 insecure delegation", "mx.insecure.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.2 insecure no data", "mx.insecure.example", "MX", dns.RcodeSuccess, false, 0},
	{"RFC 4035 5.2 insecure no name", "nothing.insecure.example", "A", dns.RcodeNameError, false, 0},
	{"RFC 4035 5.2 island below an insecure zone", "mx.island.insecure.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.2 secure alias, insecure end", "out.signed.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.2 insecure alias, secure end", "in.insecure.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.5 bogus", "mx.bogus.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5.5 bogus denial", "mx.bogus.example", "TLSA", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5.5 bogus end of an alias", "broken.signed.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 3.1.3.3 wildcard", "any.wild.example", "MX", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.1.3.3 wildcard, deeper", "a.b.wild.example", "MX", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.1.3.4 wildcard no data", "any.wild.example", "TXT", dns.RcodeSuccess, true, 0},
	{"RFC 4592 2.2.1 a name that is there has no wildcard", "there.wild.example", "MX", dns.RcodeSuccess, true, 0},
	{"RFC 4592 3.3.1 closest encloser without a wildcard", "x.there.wild.example", "MX", dns.RcodeNameError, true, 0},
	{"RFC 4035 3.1.3.3 wildcard alias", "any.alias.wild.example", "A", dns.RcodeSuccess, true, 1},
	{"RFC 4035 5.2 secure, insecure and back", "away.signed.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.3.1 expired signatures", "mx.expired.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5.3.1 expired denial", "no.expired.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5 no signatures", "mx.stripped.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5 unsigned denial", "no.stripped.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5.2 the absence of a DS is not proved", "mx.undenied.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 4035 5.2 a DS of an unknown algorithm", "mx.exotic.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 4035 5.2 a DS of an unknown algorithm, no name", "no.exotic.example", "A", dns.RcodeNameError, false, 0},
	{"RFC 6672 5.3.1 DNAME", "any.moved.signed.example", "MX", dns.RcodeSuccess, true, 1},
	{"RFC 6672 5.3.1 DNAME to no name", "x.there.moved.signed.example", "MX", dns.RcodeNameError, true, 0},
	{"RFC 6672 5.3.1 DNAME out of the secure world", "mx.lost.signed.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 5155 secure", "mx.hashed.example", "A", dns.RcodeSuccess, true, 1},
	{"RFC 5155 7.2.2 no name", "no.hashed.example", "A", dns.RcodeNameError, true, 0},
	{"RFC 5155 7.2.2 no name, deep", "a.b.mx.hashed.example", "A", dns.RcodeNameError, true, 0},
	{"RFC 5155 7.2.3 no data", "mx.hashed.example", "MX", dns.RcodeSuccess, true, 0},
	{"RFC 5155 7.1 empty non-terminal", "below.hashed.example", "A", dns.RcodeSuccess, true, 0},
	{"RFC 5155 7.2.4 no DS", "mx.sub.hashed.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 5155 7.2.5 wildcard no data", "any.wild.hashed.example", "TXT", dns.RcodeSuccess, true, 0},
	{"RFC 5155 7.2.6 wildcard", "any.wild.hashed.example", "MX", dns.RcodeSuccess, true, 1},
	{"RFC 4035 5.5 bogus below NSEC3", "mx.broken.hashed.example", "A", dns.RcodeServerFailure, false, 0},
	{"RFC 5155 6 opt-out: what is there is secure", "mx.optout.example", "A", dns.RcodeSuccess, true, 1},
	{"RFC 5155 6 opt-out: no data is secure", "mx.optout.example", "MX", dns.RcodeSuccess, true, 0},
	{"RFC 5155 9.2 opt-out: no name is insecure", "no.optout.example", "A", dns.RcodeNameError, false, 0},
	{"RFC 5155 7.2.4 opt-out: the delegation is insecure", "mx.sub.optout.example", "A", dns.RcodeSuccess, false, 1},
	{"RFC 5155 6 opt-out: a signed delegation is secure", "mx.safe.optout.example", "A", dns.RcodeSuccess, true, 1},
	{"RFC 5155 9.2 opt-out: a wildcard is insecure", "any.wild.optout.example", "MX", dns.RcodeSuccess, false, 1},
	{"RFC 4035 3.2.3 root", ".", "SOA", dns.RcodeSuccess, true, 1},
	{"RFC 4035 3.2.3 root key", ".", "DNSKEY", dns.RcodeSuccess, true, 1},
}

func check(t *testing.T, addr string) {
	for _, c := range cases {
		t.Run(c.clause+" "+c.name+" "+c.qtype, func(t *testing.T) {
			m := query(t, addr, c.name, c.qtype, nil)
			answers := 0
			for _, rr := range m.Answer {
				if rr.Header().Rrtype == dns.StringToType[c.qtype] {
					answers++
				}
			}
			if m.Rcode != c.rcode || m.AuthenticatedData != c.ad || answers != c.answers {
				t.Errorf("rcode %s, ad %t, %d answers; want %s, %t, %d\n%v", dns.RcodeToString[m.Rcode],
					m.AuthenticatedData, answers, dns.RcodeToString[c.rcode], c.ad, c.answers, m)
			}
		})
	}
}

func TestAsResolver(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	check(t, z.Addr())
}

// RFC 6672 5.3.1: the alias of a DNAME alone. Not in the table: unbound 1.17 takes its
// own question for the DS of that name for a broken chain, and says SERVFAIL.
func TestAliasOfDNAME(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	m := query(t, z.Addr(), "mx.lost.signed.example", "CNAME", nil)
	if m.Rcode != dns.RcodeSuccess || !m.AuthenticatedData || len(m.Answer) != 3 { // DNAME, its signature, CNAME
		t.Errorf("%v", m)
	}
}

// Parts that a whole server plays.
func TestModes(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	z.SetMode(policytest.Failing)
	if m := query(t, z.Addr(), "signed.example", "MX", nil); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	z.SetMode(policytest.Silent)
	c := &dns.Client{Timeout: 100 * time.Millisecond}
	if m, _, err := c.Exchange(new(dns.Msg).SetQuestion("signed.example.", dns.TypeMX), z.Addr()); err == nil {
		t.Errorf("a silent server says %v", m)
	}
	if z.Count("signed.example", "MX") != 2 {
		t.Error("the silent server was not asked")
	}
}

// A real validator agrees with every row: what we sign is what DNSSEC wants.
func TestBehindUnbound(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	u, err := policytest.StartUnbound(t.Context(), z)
	if errors.Is(err, policytest.ErrNoUnbound) && os.Getenv("SEALPOST_REAL") != "required" {
		t.Skip("real part missing: unbound (.ci/parts brings it)")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}()
	check(t, u.Addr)
}

func TestBits(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	plain := func(m *dns.Msg) { m.Extra = nil }
	t.Run("RFC 6840 5.8 neither AD nor DO asked", func(t *testing.T) {
		if query(t, z.Addr(), "signed.example", "MX", plain).AuthenticatedData {
			t.Error("AD is set")
		}
	})
	t.Run("RFC 6840 5.7 AD alone asks", func(t *testing.T) {
		m := query(t, z.Addr(), "signed.example", "MX", func(m *dns.Msg) { m.Extra, m.AuthenticatedData = nil, true })
		if !m.AuthenticatedData || len(m.Answer) != 1 {
			t.Errorf("ad %t, %d answers; want AD and no signature", m.AuthenticatedData, len(m.Answer))
		}
	})
	t.Run("RFC 6840 5.9 CD gets bogus data", func(t *testing.T) {
		m := query(t, z.Addr(), "mx.bogus.example", "A", func(m *dns.Msg) { m.CheckingDisabled = true })
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 2 {
			t.Errorf("%v", m)
		}
	})
	t.Run("oblivious resolver", func(t *testing.T) {
		z.SetMode(policytest.Oblivious)
		defer z.SetMode(policytest.Validating)
		if query(t, z.Addr(), "signed.example", "MX", nil).AuthenticatedData {
			t.Error("AD is set")
		}
		if m := query(t, z.Addr(), "mx.bogus.example", "A", nil); m.Rcode != dns.RcodeSuccess {
			t.Errorf("bogus gives %s", dns.RcodeToString[m.Rcode])
		}
	})
	t.Run("without RD: authoritative and not chased", func(t *testing.T) {
		m := query(t, z.Addr(), "alias.signed.example", "A", func(m *dns.Msg) { m.RecursionDesired = false })
		if !m.Authoritative || len(m.Answer) != 2 { // the alias and its signature
			t.Errorf("%v", m)
		}
	})
}

// What is signed verifies by the library's own check, too.
func TestSignaturesVerify(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	key := query(t, z.Addr(), "signed.example", "DNSKEY", nil).Answer[0].(*dns.DNSKEY)
	m := query(t, z.Addr(), "signed.example", "MX", nil)
	if err := m.Answer[1].(*dns.RRSIG).Verify(key, m.Answer[:1]); err != nil {
		t.Errorf("RFC 4035 5.3.3: %v", err)
	}
	ds := query(t, z.Addr(), "signed.example", "DS", nil).Answer[0].(*dns.DS)
	if want := key.ToDS(dns.SHA256); ds.Digest != want.Digest {
		t.Errorf("RFC 4034 5.1.4: digest %s, want %s", ds.Digest, want.Digest)
	}
	z.Fail("signed.example", "MX", policytest.BadSignature)
	m = query(t, z.Addr(), "signed.example", "MX", func(m *dns.Msg) { m.CheckingDisabled = true })
	if m.Answer[1].(*dns.RRSIG).Verify(key, m.Answer[:1]) == nil {
		t.Error("a bad signature verifies")
	}
}

func TestFaultsAndChanges(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	rcode := func() string { return dns.RcodeToString[query(t, z.Addr(), "signed.example", "MX", nil).Rcode] }
	for f, want := range map[policytest.Fault]string{
		policytest.ServFail: "SERVFAIL", policytest.Refused: "REFUSED", policytest.NotImp: "NOTIMP", policytest.FormErr: "FORMERR",
	} {
		z.Fail("signed.example", "", f)
		if got := rcode(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	z.Heal("signed.example", "")
	if got := rcode(); got != "NOERROR" {
		t.Errorf("healed: %s", got)
	}
	if n := z.Count("signed.example", "MX"); n != 5 {
		t.Errorf("counted %d, want 5", n)
	}
	z.Remove("signed.example", "MX")
	if m := query(t, z.Addr(), "signed.example", "MX", nil); len(m.Ns) == 0 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("removed: %v", m)
	}
	z.Zone("signed.example", policytest.Unsigned)
	if query(t, z.Addr(), "mx.signed.example", "A", nil).AuthenticatedData {
		t.Error("AD in a zone that is unsigned now")
	}
}

func TestHoldAndAwait(t *testing.T) {
	t.Parallel()
	z := start(t)
	internet(z)
	release := z.Hold("signed.example", "MX")
	got := make(chan *dns.Msg)
	go func() {
		m := new(dns.Msg).SetQuestion("signed.example.", dns.TypeMX)
		reply, _ := dns.ExchangeContext(context.Background(), m, z.Addr())
		got <- reply
	}()
	if err := z.Await(t.Context(), "signed.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
		t.Fatal("answered while held")
	default:
	}
	release()
	if m := <-got; m == nil || len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
}
