package dnssec_test

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

func serve(t *testing.T) *policytest.Zones {
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

func open(t *testing.T, o dnssec.Options) *dnssec.Resolver {
	t.Helper()
	r, err := dnssec.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func internet(z *policytest.Zones) {
	z.Zone("insecure.example", policytest.Unsigned)
	z.Zone("bogus.example", policytest.Bogus)
	z.MX("signed.example", 10, "MX.signed.example")
	z.MX("insecure.example", 20, "mx.insecure.example")
	z.MX("null.example", 0, ".")
	z.A("mx.signed.example", "192.0.2.1", "192.0.2.2", "2001:db8::1")
	z.A("mx.insecure.example", "192.0.2.3")
	z.A("mx.bogus.example", "192.0.2.4")
	z.TLSA("mx.signed.example", 25, policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: []byte{1, 2, 3}})
	z.TXT("_mta-sts.signed.example", "v=STSv1; ", `id="1\2";`)
	z.CNAME("alias.signed.example", "mx.signed.example")
	z.CNAME("out.signed.example", "mx.insecure.example")
	z.CNAME("in.insecure.example", "mx.signed.example")
	z.CNAME("broken.signed.example", "mx.bogus.example")
	z.CNAME("dangling.signed.example", "nothing.signed.example")
	z.CNAME("loop.signed.example", "pool.signed.example")
	z.CNAME("pool.signed.example", "loop.signed.example")
	for i := range 9 { // link0 -> link1 -> ... -> link9
		z.CNAME(fmt.Sprintf("link%d.signed.example", i), fmt.Sprintf("link%d.signed.example", i+1))
	}
	z.A("link9.signed.example", "192.0.2.9")
}

// asker asks one question and returns what is common to all types.
type asker func(*dnssec.Resolver, context.Context, policy.Domain) (policy.Lookup, policy.Domain, int)

func as[T any](ask func(*dnssec.Resolver, context.Context, policy.Domain) dnssec.Reply[T]) asker {
	return func(r *dnssec.Resolver, ctx context.Context, d policy.Domain) (policy.Lookup, policy.Domain, int) {
		reply := ask(r, ctx, d)
		return reply.Lookup, reply.Name, len(reply.Records)
	}
}

var (
	mx    = as((*dnssec.Resolver).MX)
	a     = as((*dnssec.Resolver).A)
	aaaa  = as((*dnssec.Resolver).AAAA)
	txt   = as((*dnssec.Resolver).TXT)
	cname = as((*dnssec.Resolver).CNAME)
	tlsa  = as(func(r *dnssec.Resolver, ctx context.Context, d policy.Domain) dnssec.Reply[policy.TLSARecord] {
		return r.TLSA(ctx, d, 25)
	})
)

// Every answer with and without DNSSEC, by type.
var answers = []struct {
	clause string
	ask    asker
	name   policy.Domain
	answer policy.Answer
	secure bool
	end    policy.Domain // of the alias chain; empty: the name
	n      int
}{
	{"RFC 7672 2.1.1 secure records", mx, "signed.example", policy.Records, true, "", 1},
	{"RFC 7672 2.1.1 secure records", a, "mx.signed.example", policy.Records, true, "", 2},
	{"RFC 7672 2.1.1 secure records", aaaa, "mx.signed.example", policy.Records, true, "", 1},
	{"RFC 7672 2.1.1 secure records", tlsa, "mx.signed.example", policy.Records, true, "", 1},
	{"RFC 7672 2.1.1 secure records", txt, "_mta-sts.signed.example", policy.Records, true, "", 1},
	{"RFC 7505 3 null MX", mx, "null.example", policy.Records, true, "", 1},
	{"RFC 7672 2.1.1 insecure records", mx, "insecure.example", policy.Records, false, "", 1},
	{"RFC 2308 2.2 secure no data", mx, "mx.signed.example", policy.NoData, true, "", 0},
	{"RFC 2308 2.2 insecure no data", mx, "mx.insecure.example", policy.NoData, false, "", 0},
	{"RFC 2308 2.1 secure no name", mx, "nothing.signed.example", policy.NoName, true, "", 0},
	{"RFC 2308 2.1 insecure no name", a, "nothing.insecure.example", policy.NoName, false, "", 0},
	{"RFC 8020 3.1 empty non-terminal", tlsa, "signed.example", policy.NoName, true, "", 0},
	{"RFC 7672 2.1.3 secure alias", a, "alias.signed.example", policy.Records, true, "mx.signed.example", 2},
	{"RFC 7672 2.1.3 secure alias to no data", mx, "alias.signed.example", policy.NoData, true, "mx.signed.example", 0},
	{"RFC 6604 3 alias to no name", a, "dangling.signed.example", policy.NoName, true, "nothing.signed.example", 0},
	{"RFC 7672 2.1.3 insecure end", a, "out.signed.example", policy.Records, false, "mx.insecure.example", 1},
	{"RFC 7672 2.1.3 insecure first link", a, "in.insecure.example", policy.Records, false, "mx.signed.example", 2},
	{"RFC 7672 2.1.3 the first link alone", cname, "out.signed.example", policy.Records, true, "", 1},
	{"RFC 7672 2.1.3 the first link alone", cname, "in.insecure.example", policy.Records, false, "", 1},
	{"RFC 7672 2.1.3 no alias", cname, "mx.signed.example", policy.NoData, true, "", 0},
	{"RFC 7672 2.1.3 eight links", a, "link1.signed.example", policy.Records, true, "link9.signed.example", 1},
}

func checkAnswers(t *testing.T, r *dnssec.Resolver) {
	for _, c := range answers {
		l, end, n := c.ask(r, t.Context(), c.name)
		want := policy.Lookup{Answer: c.answer, Secure: c.secure}
		if c.end == "" {
			c.end = c.name
			if reflect.ValueOf(c.ask).Pointer() == reflect.ValueOf(tlsa).Pointer() {
				c.end = "_25._tcp." + c.end
			}
		}
		if l != want || n != c.n || (end != c.end && end != "_25._tcp."+c.end) {
			t.Errorf("%s: %s: %+v, end %s, %d records; want %+v, end %s, %d", c.clause, c.name, l, end, n, want, c.end, c.n)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	checkAnswers(t, r) // from the wire
	before := z.Total()
	checkAnswers(t, r) // from the cache, the same
	if after := z.Total(); after != before {
		t.Errorf("%d queries for what is cached", after-before)
	}
}

func TestRecordContents(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	ctx := t.Context()
	if got := r.MX(ctx, "signed.example").Records; !slices.Equal(got, []dnssec.MX{{Preference: 10, Host: "mx.signed.example"}}) {
		t.Errorf("MX %v", got)
	}
	if got := r.MX(ctx, "null.example").Records; !slices.Equal(got, []dnssec.MX{{}}) {
		t.Errorf("RFC 7505 3: %v", got)
	}
	if got := r.A(ctx, "mx.signed.example").Records; !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}) {
		t.Errorf("A %v", got)
	}
	if got := r.AAAA(ctx, "mx.signed.example").Records; !slices.Equal(got, []netip.Addr{netip.MustParseAddr("2001:db8::1")}) {
		t.Errorf("AAAA %v", got)
	}
	want := policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: []byte{1, 2, 3}}
	if got := r.TLSA(ctx, "mx.signed.example", 25).Records; len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("TLSA %v", got)
	}
	if got := r.TXT(ctx, "_mta-sts.signed.example").Records; !slices.Equal(got, []string{`v=STSv1; id="1\2";`}) {
		t.Errorf("RFC 8461 3.1 strings joined without a space: %q", got)
	}
	chain := []policy.Domain{"link6.signed.example", "link7.signed.example", "link8.signed.example", "link9.signed.example"}
	if got := r.A(ctx, "link5.signed.example").Chain; !slices.Equal(got, chain) {
		t.Errorf("chain %v", got)
	}
}

// Unknown is never an absence, and never secure.
func TestUnknown(t *testing.T) {
	t.Parallel()
	fail := func(f policytest.Fault) func(*policytest.Zones) {
		return func(z *policytest.Zones) { z.Fail("signed.example", "MX", f) }
	}
	cases := []struct {
		clause  string
		set     func(*policytest.Zones)
		ask     asker
		name    policy.Domain
		problem string
	}{
		{"RFC 7672 2.1.1 SERVFAIL", fail(policytest.ServFail), mx, "signed.example", "SERVFAIL"},
		{"RFC 7672 2.1.1 REFUSED", fail(policytest.Refused), mx, "signed.example", "REFUSED"},
		{"RFC 7672 2.2.2 NOTIMP", fail(policytest.NotImp), mx, "signed.example", "NOTIMP"},
		{"RFC 6891 7 FORMERR, EDNS or not", fail(policytest.FormErr), mx, "signed.example", "FORMERR"},
		{"RFC 7672 2.1.2 timeout", fail(policytest.Timeout), mx, "signed.example", "in time"},
		{"RFC 7672 2.1.2 malformed", fail(policytest.Garbage), mx, "signed.example", "malformed"},
		{"RFC 5452 9.1 another id", fail(policytest.WrongID), mx, "signed.example", "another id"},
		{"RFC 5452 9.1 another question", fail(policytest.WrongQuestion), mx, "signed.example", "another question"},
		{"RFC 2308 2.2 referral", fail(policytest.Referral), mx, "signed.example", "no recursion"},
		{"RFC 4035 5.5 bogus zone", nil, a, "mx.bogus.example", "SERVFAIL"},
		{"RFC 8914 4.7 bogus is said so", nil, a, "mx.bogus.example", "Bogus"},
		{"RFC 4035 5.5 bogus name", fail(policytest.BadSignature), mx, "signed.example", "SERVFAIL"},
		{"RFC 4035 5.5 bogus denial", nil, mx, "mx.bogus.example", "SERVFAIL"},
		{"RFC 7672 2.1.3 error behind an alias", nil, a, "broken.signed.example", "SERVFAIL"},
		{"RFC 7672 2.1.3 timeout behind an alias", func(z *policytest.Zones) { z.Fail("mx.signed.example", "", policytest.Timeout) }, a, "alias.signed.example", "SERVFAIL"},
		{"RFC 7672 2.1.3 alias loop", nil, a, "loop.signed.example", ""},
		{"RFC 7672 2.1.3 nine links", nil, a, "link0.signed.example", "8 links"},
		{"no name", nil, a, "", "no name"},
	}
	for _, c := range cases {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			internet(z)
			if c.set != nil {
				c.set(z)
			}
			r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: 150 * time.Millisecond})
			l, end, n := c.ask(r, t.Context(), c.name)
			if l.Answer != policy.Unknown || l.Secure || end != "" || n != 0 {
				t.Errorf("%+v, end %q, %d records; want unknown", l, end, n)
			}
			if l.Problem == "" || !strings.Contains(l.Problem, c.problem) {
				t.Errorf("problem %q does not say %q", l.Problem, c.problem)
			}
		})
	}
}

// A loop of two names, each told one at a time.
func TestAliasLoopStepByStep(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Fail("loop.signed.example", "", policytest.FirstAlias)
	z.Fail("pool.signed.example", "", policytest.FirstAlias)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	if got := r.A(t.Context(), "loop.signed.example"); got.Answer != policy.Unknown || !strings.Contains(got.Problem, "loop") {
		t.Errorf("%+v", got)
	}
}

// RFC 7672 2.1.3: a reply with the alias alone is completed by asking for its target.
func TestAliasStepByStep(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	for _, name := range []string{"alias.signed.example", "out.signed.example", "in.insecure.example", "broken.signed.example", "dangling.signed.example"} {
		z.Fail(name, "", policytest.FirstAlias)
	}
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	for name, want := range map[policy.Domain]policy.Lookup{
		"alias.signed.example":    {Answer: policy.Records, Secure: true},
		"out.signed.example":      {Answer: policy.Records},
		"in.insecure.example":     {Answer: policy.Records},
		"dangling.signed.example": {Answer: policy.NoName, Secure: true},
	} {
		if got := r.A(t.Context(), name); got.Lookup != want {
			t.Errorf("%s: %+v, want %+v", name, got.Lookup, want)
		}
	}
	if got := r.A(t.Context(), "broken.signed.example"); got.Answer != policy.Unknown {
		t.Errorf("error behind an alias: %+v", got)
	}
	if n := z.Count("mx.signed.example", "A"); n == 0 {
		t.Error("the target was not asked for")
	}
}

// A server that fails is made up for by the next one.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]policytest.Fault{
		"SERVFAIL": policytest.ServFail, "REFUSED": policytest.Refused, "timeout": policytest.Timeout,
		"another id": policytest.WrongID, "another question": policytest.WrongQuestion,
		"malformed": policytest.Garbage, "referral": policytest.Referral,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := serve(t), serve(t)
			internet(good)
			bad.Fail("signed.example", "", f)
			r := open(t, dnssec.Options{Servers: []string{bad.Addr(), good.Addr()}, Timeout: 300 * time.Millisecond})
			got := r.MX(t.Context(), "signed.example")
			if got.Answer != policy.Records || !got.Secure {
				t.Errorf("%+v", got)
			}
			if bad.Count("signed.example", "MX") == 0 {
				t.Error("the first server was not asked")
			}
		})
	}
}

// A server that was silent comes last for a while.
func TestSilentServerComesLast(t *testing.T) {
	t.Parallel()
	bad, good := serve(t), serve(t)
	internet(bad)
	internet(good)
	bad.Fail("signed.example", "", policytest.Timeout)
	r := open(t, dnssec.Options{Servers: []string{bad.Addr(), good.Addr()}, Timeout: time.Second})
	r.MX(t.Context(), "signed.example")
	if got := r.A(t.Context(), "mx.signed.example"); got.Answer != policy.Records {
		t.Errorf("%+v", got)
	}
	if n := bad.Count("mx.signed.example", "A"); n != 0 {
		t.Errorf("the silent server was asked %d times", n)
	}
}

// RFC 7766 5: what is cut off is fetched over TCP, and one connection serves many.
func TestTruncated(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Fail("signed.example", "MX", policytest.Truncate)
	long := strings.Repeat("x", 250)
	z.TXT("long.example", long, long, long, long, long, long, long, long) // does not fit into 1232 octets
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records || !got.Secure {
		t.Errorf("%+v", got)
	}
	if got := r.TXT(t.Context(), "long.example"); len(got.Records) != 1 || len(got.Records[0]) != 8*250 {
		t.Errorf("%+v", got.Lookup)
	}
	if n := z.Count("signed.example", "MX"); n != 2 {
		t.Errorf("%d queries, want one over UDP and one over TCP", n)
	}
}

// RFC 6891 7: a server that knows no EDNS is asked without.
func TestWithoutEDNS(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	z.Fail("signed.example", "MX", policytest.FormErrEDNS)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records {
		t.Errorf("%+v", got)
	}
}

// RFC 7672 2.1.1: the AD bit of somebody who is not trusted means nothing.
func TestTrustNever(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, TrustAD: dnssec.TrustNever})
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records || got.Secure {
		t.Errorf("%+v", got)
	}
	if err := r.Selftest(t.Context()); err == nil || r.Available() {
		t.Errorf("self-test of a resolver that is not trusted: %v", err)
	}
}

// RFC 8310 8.1: DNS over TLS with a verified name is trusted; with another name or
// issuer nothing is asked at all.
func TestDNSOverTLS(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	ca := policytest.NewCA()
	addr, err := z.StartTLS(ca.Leaf(policytest.LeafOptions{Names: []string{"dns.example"}}))
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, dnssec.Options{Servers: []string{"tls://" + addr + "#dns.example"}, RootCAs: ca.Pool()})
	var wg sync.WaitGroup
	for _, name := range []policy.Domain{"signed.example", "insecure.example", "null.example"} {
		wg.Go(func() {
			if got := r.MX(t.Context(), name); got.Answer != policy.Records || got.Secure != (name != "insecure.example") {
				t.Errorf("%s: %+v", name, got)
			}
		})
	}
	wg.Wait()
	asked := z.Total()
	for name, o := range map[string]dnssec.Options{
		"another name":   {Servers: []string{"tls://" + addr + "#other.example"}, RootCAs: ca.Pool()},
		"another issuer": {Servers: []string{"tls://" + addr + "#dns.example"}, RootCAs: policytest.NewCA().Pool()},
	} {
		got := open(t, o).MX(t.Context(), "signed.example")
		if got.Answer != policy.Unknown || !strings.Contains(got.Problem, "certificate") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if z.Total() != asked {
		t.Error("a query went to a server that is not the one named")
	}
}
