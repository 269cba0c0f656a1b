package dnssec_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

// validated starts a real validating resolver before the zones.
func validated(t *testing.T, z *policytest.Zones) *policytest.Unbound {
	t.Helper()
	u, err := policytest.StartUnbound(t.Context(), z)
	if errors.Is(err, policytest.ErrNoUnbound) && os.Getenv("SEALPOST_REAL") != "required" {
		t.Skip("real part missing: unbound (.ci/parts brings it)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// field is what DNSSEC comes to in the field.
func field(z *policytest.Zones) {
	internet(z)
	z.CNAME("away.signed.example", "home.insecure.example")
	z.CNAME("home.insecure.example", "mx.signed.example")
	z.CNAME("stale.signed.example", "mx.expired.example")
	z.Add("moved.signed.example. DNAME wild.example.", "lost.signed.example. DNAME insecure.example.")
	z.MX("*.wild.example", 10, "mx.signed.example")
	z.A("there.wild.example", "192.0.2.6")
	z.CNAME("*.alias.wild.example", "mx.signed.example")
	for zone, s := range map[string]policytest.Security{
		"expired.example": policytest.Expired, "stripped.example": policytest.Stripped,
		"undenied.example": policytest.Undenied, "exotic.example": policytest.Exotic,
		"island.insecure.example": policytest.Signed,
		"hashed.example":          policytest.Signed, "sub.hashed.example": policytest.Unsigned, "broken.hashed.example": policytest.Bogus,
		"optout.example": policytest.Signed, "sub.optout.example": policytest.Unsigned, "safe.optout.example": policytest.Signed,
	} {
		z.Zone(zone, s)
		z.A("mx."+zone, "192.0.2.7")
	}
	z.Deny("hashed.example", policytest.NSEC3)
	z.Deny("optout.example", policytest.OptOut)
	z.MX("*.wild.hashed.example", 10, "mx.signed.example")
	z.MX("*.wild.optout.example", 10, "mx.signed.example")
	z.A("deep.below.hashed.example", "192.0.2.8")
}

// What must come of each, whoever validates: the real unbound, and the server that
// plays it in all other tests.
var fieldCases = []struct {
	clause  string
	ask     asker
	name    policy.Domain
	answer  policy.Answer
	secure  bool
	problem string // of an unknown answer, a part
}{
	{"RFC 4033 5 signed", mx, "signed.example", policy.Records, true, ""},
	{"RFC 4033 5 signed TLSA", tlsa, "mx.signed.example", policy.Records, true, ""},
	{"RFC 4035 3.1.3.1 denial of data", mx, "mx.signed.example", policy.NoData, true, ""},
	{"RFC 4035 3.1.3.2 denial of a name", tlsa, "nothing.signed.example", policy.NoName, true, ""},
	{"RFC 4035 5.2 insecure delegation", mx, "insecure.example", policy.Records, false, ""},
	{"RFC 4035 5.2 insecure denial", tlsa, "mx.insecure.example", policy.NoName, false, ""},
	{"RFC 4035 5.2 signed island below an insecure zone", a, "mx.island.insecure.example", policy.Records, false, ""},
	{"RFC 4035 5.2 DS of an unknown algorithm", a, "mx.exotic.example", policy.Records, false, ""},
	{"RFC 4035 5.5 bogus signatures", a, "mx.bogus.example", policy.Unknown, false, "Bogus"},
	{"RFC 4035 5.5 bogus denial", tlsa, "mx.bogus.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 4035 5.3.1 expired signatures", a, "mx.expired.example", policy.Unknown, false, "Signature Expired"},
	{"RFC 4035 5.3.1 expired denial", tlsa, "mx.expired.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 4035 5 signatures taken out", a, "mx.stripped.example", policy.Unknown, false, "Missing"},
	{"RFC 4035 5 signatures of a denial taken out", mx, "mx.stripped.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 4035 5.2 the absence of a DS is not proved", a, "mx.undenied.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 4035 3.1.3.3 wildcard", mx, "any.wild.example", policy.Records, true, ""},
	{"RFC 4035 3.1.3.4 wildcard without data", txt, "any.wild.example", policy.NoData, true, ""},
	{"RFC 4592 2.2.1 no wildcard at a name that is there", mx, "there.wild.example", policy.NoData, true, ""},
	{"RFC 4035 3.1.3.3 wildcard alias", a, "any.alias.wild.example", policy.Records, true, ""},
	{"RFC 7672 2.1.3 secure alias", a, "alias.signed.example", policy.Records, true, ""},
	{"RFC 7672 2.1.3 secure to insecure", a, "out.signed.example", policy.Records, false, ""},
	{"RFC 7672 2.1.3 its first link", cname, "out.signed.example", policy.Records, true, ""},
	{"RFC 7672 2.1.3 insecure to secure", a, "in.insecure.example", policy.Records, false, ""},
	{"RFC 7672 2.1.3 secure to insecure and back", a, "away.signed.example", policy.Records, false, ""},
	{"RFC 7672 2.1.3 secure to insecure and back, no data", mx, "away.signed.example", policy.NoData, false, ""},
	{"RFC 7672 2.1.3 secure to bogus", a, "broken.signed.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 7672 2.1.3 secure to expired", a, "stale.signed.example", policy.Unknown, false, "SERVFAIL"},
	{"RFC 6604 3 alias to no name", a, "dangling.signed.example", policy.NoName, true, ""},
	{"RFC 7672 2.1.3 alias loop", a, "loop.signed.example", policy.Unknown, false, ""},
	{"RFC 7672 2.1.3 DNAME", mx, "any.moved.signed.example", policy.Records, true, ""},
	{"RFC 7672 2.1.3 DNAME to insecure", a, "mx.lost.signed.example", policy.Records, false, ""},
	{"RFC 7672 2.1.3 DNAME to no name", mx, "x.there.moved.signed.example", policy.NoName, true, ""},
	{"RFC 5155 7.2.3 no data", mx, "mx.hashed.example", policy.NoData, true, ""},
	{"RFC 5155 7.2.2 no name", mx, "no.hashed.example", policy.NoName, true, ""},
	{"RFC 5155 7.1 empty non-terminal", mx, "below.hashed.example", policy.NoData, true, ""},
	{"RFC 5155 7.2.4 no DS", a, "mx.sub.hashed.example", policy.Records, false, ""},
	{"RFC 5155 7.2.5 wildcard without data", txt, "any.wild.hashed.example", policy.NoData, true, ""},
	{"RFC 5155 7.2.6 wildcard", mx, "any.wild.hashed.example", policy.Records, true, ""},
	{"RFC 4035 5.5 bogus below NSEC3", a, "mx.broken.hashed.example", policy.Unknown, false, "Bogus"},
	{"RFC 5155 6 opt-out, records", a, "mx.optout.example", policy.Records, true, ""},
	{"RFC 5155 9.2 opt-out, no name", mx, "no.optout.example", policy.NoName, false, ""},
	{"RFC 5155 9.2 opt-out, wildcard", mx, "any.wild.optout.example", policy.Records, false, ""},
	{"RFC 5155 6 opt-out, insecure delegation", a, "mx.sub.optout.example", policy.Records, false, ""},
	{"RFC 5155 6 opt-out, secure delegation", a, "mx.safe.optout.example", policy.Records, true, ""},
}

func checkField(t *testing.T, addr string) {
	r := open(t, dnssec.Options{Servers: []string{addr}, Selftest: dnssec.Selftest{Signed: "signed.example", Bogus: "mx.bogus.example"}})
	for _, c := range fieldCases {
		l, _, _ := c.ask(r, t.Context(), c.name)
		if l.Answer != c.answer || l.Secure != c.secure || !strings.Contains(l.Problem, c.problem) || (l.Problem == "") != (c.answer != policy.Unknown) {
			t.Errorf("%s: %s: %+v; want %s, secure %t, problem with %q", c.clause, c.name, l, c.answer, c.secure, c.problem)
		}
	}
	if err := r.Selftest(t.Context()); err != nil {
		t.Errorf("self-test: %v", err)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	z := serve(t)
	field(z)
	checkField(t, z.Addr())
}

func TestFieldBehindUnbound(t *testing.T) {
	t.Parallel()
	z := serve(t)
	field(z)
	u := validated(t, z)
	checkField(t, u.Addr)
	checkAnswers(t, open(t, dnssec.Options{Servers: []string{u.Addr}}))
}

// An unbound that cannot validate the root is found out; one that is gone is an outage.
func TestUnboundThatCannot(t *testing.T) {
	t.Parallel()
	z := serve(t)
	field(z)
	u := validated(t, z)
	r := open(t, dnssec.Options{Servers: []string{u.Addr}})
	z.Fail(".", "", policytest.BadSignature)
	if err := r.Selftest(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be resolved: SERVFAIL") {
		t.Errorf("bogus root: %v", err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	paused, changed := r.Paused()
	if paused {
		t.Fatal("an outage before anything was asked")
	}
	for _, name := range []policy.Domain{"a.a.example", "b.b.example", "c.c.example", "d.d.example", "e.e.example"} {
		r.MX(t.Context(), name)
	}
	<-changed
	if !r.Outage() {
		t.Error("unbound is gone, and that is no outage")
	}
}
