package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

func serve(t testing.TB) *policytest.Zones {
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

func resolver(t testing.TB, addr string) *dnssec.Resolver {
	t.Helper()
	r, err := dnssec.New(dnssec.Options{Servers: []string{addr}, Timeout: 300 * time.Millisecond})
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

// scout makes one over the zones; hosts of equal preference stay in the order of
// the records, unless set says otherwise.
func scout(t testing.TB, z *policytest.Zones, set func(*discover.Options)) *discover.Scout {
	t.Helper()
	o := discover.Options{Resolver: resolver(t, z.Addr()), Shuffle: func(int, func(int, int)) {}}
	if set != nil {
		set(&o)
	}
	s, err := discover.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func facts(t testing.TB, s *discover.Scout, d policy.Domain) policy.Facts {
	t.Helper()
	f, err := s.Facts(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if f.Domain != d || f.At.IsZero() {
		t.Errorf("domain %q at %s", f.Domain, f.At)
	}
	return f
}

// brief writes facts in one line: what a table compares.
func brief(f policy.Facts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", short(f.MX))
	for _, flag := range []struct {
		on   bool
		word string
	}{{f.NullMX, "null"}, {f.Implicit, "implicit"}, {f.Self, "self"}, {f.Operator, "operator"}} {
		if flag.on {
			b.WriteString(" " + flag.word)
		}
	}
	for _, h := range f.Hosts {
		fmt.Fprintf(&b, " | %d %s v4=%s%v v6=%s%v", h.Preference, h.Name, short(h.V4.Lookup), h.V4.IPs, short(h.V6.Lookup), h.V6.IPs)
		if h.Refused > 0 {
			fmt.Fprintf(&b, " refused=%d", h.Refused)
		}
		if h.TLSA.Asked {
			fmt.Fprintf(&b, " tlsa=%s", short(h.TLSA.Lookup))
		}
		if h.TLSA.Base != "" {
			fmt.Fprintf(&b, "@%s", h.TLSA.Base)
		}
	}
	return b.String()
}

func short(l policy.Lookup) string {
	if l.Secure {
		return l.Answer.String() + "+"
	}
	return l.Answer.String()
}

var record = policy.TLSARecord{Usage: 3, Selector: 1, Matching: 1, Data: []byte{1}}

// What DNS says, and what the facts are. Addresses are of TEST-NET and allowed.
var discoveries = []struct {
	clause string
	set    func(*policytest.Zones)
	want   string
}{
	{"RFC 5321 5.1 by preference", func(z *policytest.Zones) {
		z.MX("d.example", 20, "b.d.example")
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1", "2001:db8::1")
		z.A("b.d.example", "192.0.2.2")
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=records+[2001:db8::1] tlsa=no-name+ | 20 b.d.example v4=records+[192.0.2.2] v6=no-data+[] tlsa=no-name+"},
	{"RFC 5321 5.1 implicit MX", func(z *policytest.Zones) { z.A("d.example", "192.0.2.1") },
		"no-data+ implicit | 0 d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"RFC 5321 5.1 MX there: the domain's own addresses do not count", func(z *policytest.Zones) {
		z.MX("d.example", 10, "none.d.example")
		z.A("d.example", "192.0.2.1")
	}, "records+ | 10 none.d.example v4=no-name+[] v6=no-name+[]"},
	{"RFC 5321 5.1 no such domain", nil, "no-name+"},
	{"RFC 7505 3 null MX", func(z *policytest.Zones) { z.MX("d.example", 0, ".") }, "records+ null"},
	{"own: . beside others is dropped", func(z *policytest.Zones) {
		z.MX("d.example", 0, ".")
		z.MX("d.example", 5, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
	}, "records+ | 5 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"RFC 7505 3 a null MX has preference 0", func(z *policytest.Zones) { z.MX("d.example", 10, ".") }, "records+"},
	{"RFC 7672 2.1.2 MX unknown", func(z *policytest.Zones) { z.Fail("d.example", "MX", policytest.ServFail) }, "unknown"},
	{"RFC 7672 2.1.2 MX bogus", func(z *policytest.Zones) {
		z.Zone("d.example", policytest.Bogus)
		z.MX("d.example", 1, "a.d.example")
	}, "unknown"},
	{"RFC 5321 5.1 CNAME at the domain", func(z *policytest.Zones) {
		z.CNAME("d.example", "e.example")
		z.MX("e.example", 10, "a.e.example")
		z.A("a.e.example", "192.0.2.1")
	}, "records+ | 10 a.e.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"RFC 7672 2.2.1 insecure CNAME at the domain", func(z *policytest.Zones) {
		z.Zone("d.example", policytest.Unsigned)
		z.CNAME("d.example", "e.example")
		z.MX("e.example", 10, "a.e.example")
		z.A("a.e.example", "192.0.2.1")
	}, "records | 10 a.e.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"own: an address in place of a name", func(z *policytest.Zones) {
		z.MX("d.example", 5, "192.0.2.9")
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"own: a name that is none", func(z *policytest.Zones) { z.Add(`d.example. MX 5 mail\032server.d.example.`) }, "records+"},
	{"own: the same host twice", func(z *policytest.Zones) {
		z.MX("d.example", 20, "a.d.example")
		z.MX("d.example", 10, "A.d.example")
		z.A("a.d.example", "192.0.2.1")
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"RFC 7672 2.1.2 one host unknown (F6)", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.MX("d.example", 20, "b.d.example")
		z.Fail("a.d.example", "", policytest.ServFail)
		z.A("b.d.example", "192.0.2.2")
	}, "records+ | 10 a.d.example v4=unknown[] v6=unknown[] | 20 b.d.example v4=records+[192.0.2.2] v6=no-data+[] tlsa=no-name+"},
	{"one host has no name (F6)", func(z *policytest.Zones) {
		z.Zone("gone.example", policytest.Unsigned)
		z.MX("d.example", 10, "mx.gone.example")
		z.MX("d.example", 20, "b.d.example")
		z.A("b.d.example", "192.0.2.2")
	}, "records+ | 10 mx.gone.example v4=no-name[] v6=no-name[] | 20 b.d.example v4=records+[192.0.2.2] v6=no-data+[] tlsa=no-name+"},
	{"broken denial of one family (F5)", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
		z.Fail("a.d.example", "AAAA", policytest.BadSignature)
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=unknown[] tlsa=records+@a.d.example"},
	{"broken IPv4, good IPv6", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1", "2001:db8::1")
		z.Fail("a.d.example", "A", policytest.ServFail)
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=unknown[] v6=records+[2001:db8::1] tlsa=records+@a.d.example"},
	{"RFC 7672 2.2.2 insecure addresses: TLSA is not asked (F2, outlook)", func(z *policytest.Zones) {
		z.Zone("outlook.example", policytest.Unsigned)
		z.MX("d.example", 10, "d.mail.outlook.example")
		z.A("d.mail.outlook.example", "192.0.2.1")
		z.Fail("_25._tcp.d.mail.outlook.example", "", policytest.ServFail)
	}, "records+ | 10 d.mail.outlook.example v4=records[192.0.2.1] v6=no-data[]"},
	{"RFC 7672 2.1.2 TLSA unknown", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
		z.Fail("_25._tcp.a.d.example", "", policytest.ServFail)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=unknown"},
	{"RFC 7672 2.1.2 TLSA bogus", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
		z.TLSA("a.d.example", 25, record)
		z.Fail("_25._tcp.a.d.example", "TLSA", policytest.BadSignature)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=unknown"},
	{"RFC 7672 2.2.1 insecure MX, secure host (F7)", func(z *policytest.Zones) {
		z.Zone("d.example", policytest.Unsigned)
		z.MX("d.example", 10, "mx.host.example")
		z.A("mx.host.example", "192.0.2.1")
		z.TLSA("mx.host.example", 25, record)
	}, "records | 10 mx.host.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records+@mx.host.example"},
	{"RFC 7672 2.2.2 no address: TLSA is not asked", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=no-data+[] v6=no-data+[]"},
	{"RFC 7672 2.2.3 secure alias: its end is the base", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "mx.host.example")
		z.A("mx.host.example", "192.0.2.1")
		z.TLSA("mx.host.example", 25, record)
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records+@mx.host.example"},
	{"RFC 7672 2.2.3 secure alias: failing that, the name", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "mx.host.example")
		z.A("mx.host.example", "192.0.2.1")
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records+@a.d.example"},
	{"RFC 7672 2.2.3 never a name in between", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "b.d.example")
		z.CNAME("b.d.example", "c.d.example")
		z.A("c.d.example", "192.0.2.1")
		z.TLSA("b.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=no-name+"},
	{"RFC 7672 2.2.2 secure first link, insecure end (F3)", func(z *policytest.Zones) {
		z.Zone("cloud.example", policytest.Unsigned)
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "mx.cloud.example")
		z.A("mx.cloud.example", "192.0.2.1")
		z.TLSA("a.d.example", 25, record)
		z.Fail("_25._tcp.mx.cloud.example", "", policytest.ServFail) // must not be asked
	}, "records+ | 10 a.d.example v4=records[192.0.2.1] v6=no-data[] tlsa=records+@a.d.example"},
	{"RFC 7672 2.2.2 insecure first link", func(z *policytest.Zones) {
		z.Zone("cloud.example", policytest.Unsigned)
		z.MX("d.example", 10, "mx.cloud.example")
		z.CNAME("mx.cloud.example", "mx.host.example")
		z.A("mx.host.example", "192.0.2.1")
		z.TLSA("mx.host.example", 25, record)
	}, "records+ | 10 mx.cloud.example v4=records[192.0.2.1] v6=no-data[]"},
	{"RFC 7672 2.1.3 the query for the first link fails", func(z *policytest.Zones) {
		z.Zone("cloud.example", policytest.Unsigned)
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "mx.cloud.example")
		z.A("mx.cloud.example", "192.0.2.1")
		z.Fail("a.d.example", "CNAME", policytest.ServFail)
	}, "records+ | 10 a.d.example v4=records[192.0.2.1] v6=no-data[] tlsa=unknown"},
	{"RFC 7672 2.1.2 unknown at the first base, though the second has records", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.CNAME("a.d.example", "mx.host.example")
		z.A("mx.host.example", "192.0.2.1")
		z.Fail("_25._tcp.mx.host.example", "", policytest.ServFail)
		z.TLSA("a.d.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=unknown"},
	{"RFC 7672 2.2.3 CNAME at the TLSA name does not move the base", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
		z.CNAME("_25._tcp.a.d.example", "_25._tcp.shared.example")
		z.TLSA("shared.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records+@a.d.example"},
	{"RFC 7672 2.2.3 insecure CNAME at the TLSA name", func(z *policytest.Zones) {
		z.Zone("shared.example", policytest.Unsigned)
		z.MX("d.example", 10, "a.d.example")
		z.A("a.d.example", "192.0.2.1")
		z.CNAME("_25._tcp.a.d.example", "_25._tcp.shared.example")
		z.TLSA("shared.example", 25, record)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records"},
	{"RFC 7672 2.2.3 implicit MX behind an alias", func(z *policytest.Zones) {
		z.CNAME("d.example", "e.example")
		z.A("e.example", "192.0.2.1")
		z.TLSA("e.example", 25, record)
	}, "no-data+ implicit | 0 d.example v4=records+[192.0.2.1] v6=no-data+[] tlsa=records+@e.example"},
	{"own: eight addresses", func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		for i := range 12 {
			z.A("a.d.example", fmt.Sprintf("192.0.2.%d", i+1))
		}
		z.Fail("_25._tcp.a.d.example", "", policytest.ServFail)
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8] v6=no-data+[] tlsa=unknown"},
}

func TestFacts(t *testing.T) {
	t.Parallel()
	for _, c := range discoveries {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			if c.set != nil {
				c.set(z)
			}
			s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = true })
			f := facts(t, s, "d.example")
			if got := brief(f); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if !f.DNSSEC {
				t.Error("DNSSEC is not available behind a validating resolver")
			}
		})
	}
}

// The same table behind a real validating resolver.
func TestFactsBehindUnbound(t *testing.T) {
	t.Parallel()
	for _, c := range discoveries {
		t.Run(c.clause, func(t *testing.T) {
			z := serve(t)
			if c.set != nil {
				c.set(z)
			}
			u, err := policytest.StartUnbound(t.Context(), z)
			if errors.Is(err, policytest.ErrNoUnbound) {
				t.Skip("unbound is missing: apt-get install unbound")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := u.Close(); err != nil {
					t.Error(err)
				}
			}()
			r, err := dnssec.New(dnssec.Options{Servers: []string{u.Addr}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			s := scout(t, z, func(o *discover.Options) { o.Resolver, o.AllowPrivate = r, true })
			if got := brief(facts(t, s, "d.example")); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// RFC 5321 5.1: where we stand in the list, we and all worse ones are cut.
func TestSelf(t *testing.T) {
	t.Parallel()
	three := func(z *policytest.Zones) {
		z.MX("d.example", 10, "a.d.example")
		z.MX("d.example", 20, "b.d.example")
		z.MX("d.example", 30, "c.d.example")
		z.A("a.d.example", "198.51.100.1")
		z.A("b.d.example", "198.51.100.2")
		z.A("c.d.example", "198.51.100.3")
	}
	port := func(o *discover.Options, ip string, p uint16) {
		o.Listeners = append(o.Listeners, netip.AddrPortFrom(netip.MustParseAddr(ip), p))
	}
	cases := []struct {
		clause string
		zones  func(*policytest.Zones)
		set    func(*discover.Options)
		want   string // names of the hosts left
		self   bool
	}{
		{"nobody is us", three, func(*discover.Options) {}, "a b c", false},
		{"by name", three, func(o *discover.Options) { o.Names = []policy.Domain{"b.d.example"} }, "a", true},
		{"by address", three, func(o *discover.Options) { o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.2")}; o.AllowPrivate = false }, "a", true},
		{"the best one", three, func(o *discover.Options) { o.Names = []policy.Domain{"a.d.example"} }, "", true},
		{"an alias of ours", func(z *policytest.Zones) {
			three(z)
			z.MX("d.example", 15, "x.d.example")
			z.CNAME("x.d.example", "us.example")
			z.A("us.example", "198.51.100.9")
		}, func(o *discover.Options) { o.Names = []policy.Domain{"us.example"} }, "a", true},
		{"equal preference goes too", func(z *policytest.Zones) {
			three(z)
			z.MX("d.example", 20, "us.example")
			z.A("us.example", "198.51.100.9")
		}, func(o *discover.Options) { o.Names = []policy.Domain{"us.example"} }, "a", true},
		{"implicit MX", func(z *policytest.Zones) { z.A("d.example", "198.51.100.1") },
			func(o *discover.Options) { o.Names = []policy.Domain{"d.example"} }, "", true},
		{"implicit MX by an alias", func(z *policytest.Zones) {
			z.CNAME("d.example", "us.example")
			z.A("us.example", "198.51.100.1")
		}, func(o *discover.Options) { o.Names = []policy.Domain{"us.example"} }, "", true},
		{"a listener of ours", three, func(o *discover.Options) { port(o, "198.51.100.2", 25) }, "a", true},
		{"another port is not our listener", three, func(o *discover.Options) { port(o, "198.51.100.2", 587) }, "a b c", false},
		{"a lab: our private address, another port", three, func(o *discover.Options) {
			o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.2")}
			port(o, "0.0.0.0", 587)
		}, "a b c", false},
		{"a lab: our private address, our port", three, func(o *discover.Options) {
			o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.2")}
			port(o, "::", 25)
		}, "a", true},
		{"a lab: loopback and our port", func(z *policytest.Zones) {
			z.MX("d.example", 10, "a.d.example")
			z.A("a.d.example", "127.0.0.7")
		}, func(o *discover.Options) { port(o, "0.0.0.0", 25) }, "", true},
		{"by address through IPv4-mapped IPv6", func(z *policytest.Zones) {
			three(z)
			z.A("b.d.example", "::ffff:198.51.100.9")
		}, func(o *discover.Options) { o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.9")}; o.AllowPrivate = false }, "a", true},
	}
	for _, c := range cases {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			c.zones(z)
			s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = true; c.set(o) })
			f := facts(t, s, "d.example")
			var names []string
			for _, h := range f.Hosts {
				name, _, _ := strings.Cut(string(h.Name), ".")
				names = append(names, name)
			}
			if strings.Join(names, " ") != c.want || f.Self != c.self {
				t.Errorf("hosts %v, self %t; want %q, %t", names, f.Self, c.want, c.self)
			}
		})
	}
}

// Own: what is not for the internet is not connected to.
func TestRefusedAddresses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		ip            string
		public, inLab bool
	}{
		{"93.184.216.34", true, true}, {"2606:2800:220:1::1", true, true}, {"64:ff9b::5db8:d822", true, true},
		{"10.1.2.3", false, true}, {"172.31.0.1", false, true}, {"192.168.1.1", false, true}, {"127.0.0.1", false, true},
		{"127.9.9.9", false, true}, {"169.254.169.254", false, true}, {"100.64.0.1", false, true}, {"192.0.2.1", false, true},
		{"198.51.100.1", false, true}, {"203.0.113.1", false, true}, {"198.18.0.1", false, true}, {"192.0.0.8", false, true},
		{"::1", false, true}, {"fd00::1", false, true}, {"fe80::1", false, true}, {"fec0::1", false, true}, {"2001:db8::1", false, true},
		{"3fff::1", false, true}, {"100::1", false, true}, {"64:ff9b:1::1", false, true},
		{"64:ff9b::7f00:1", false, true}, {"2002:7f00:1::1", false, true}, {"2002:a00:1::1", false, true},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false},
		{"::", false, false}, {"ff02::1", false, false}, {"::ffff:127.0.0.1", false, false}, {"::ffff:93.184.216.34", false, false},
		{"64:ff9b::e000:1", false, false},
	}
	for _, lab := range []bool{false, true} {
		z := serve(t)
		for i, c := range cases {
			z.A(fmt.Sprintf("d%d.example", i), c.ip)
		}
		s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = lab })
		for i, c := range cases {
			f := facts(t, s, policy.Domain(fmt.Sprintf("d%d.example", i)))
			want := c.public || lab && c.inLab
			h := f.Hosts[0]
			if got := len(h.V4.IPs)+len(h.V6.IPs) == 1; got != want || (h.Refused == 0) != want || f.Self {
				t.Errorf("%s, private allowed %t: used %t, refused %d, self %t; want used %t", c.ip, lab, got, h.Refused, f.Self, want)
			}
		}
	}
}

// Own: the first ten hosts by preference.
func TestTenHosts(t *testing.T) {
	t.Parallel()
	z := serve(t)
	for i := range 15 {
		z.MX("d.example", uint16(100-i), fmt.Sprintf("h%d.d.example", i))
		z.A(fmt.Sprintf("h%d.d.example", i), "192.0.2.1")
	}
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate = true }), "d.example")
	if len(f.Hosts) != 10 || f.Hosts[0].Name != "h14.d.example" || f.Hosts[9].Name != "h5.d.example" {
		t.Errorf("%s", brief(f))
	}
	if n := z.Count("h4.d.example", ""); n != 0 {
		t.Errorf("the eleventh host was asked for %d times", n)
	}
}

// RFC 5321 5.1 MUST: equal preference in a random order, anew at each call; other
// preferences never mix.
func TestShuffle(t *testing.T) {
	t.Parallel()
	z := serve(t)
	for i := range 4 {
		z.MX("d.example", 10, fmt.Sprintf("a%d.d.example", i))
		z.MX("d.example", 20, fmt.Sprintf("b%d.d.example", i))
	}
	s := scout(t, z, func(o *discover.Options) { o.Shuffle = nil })
	orders := map[string]bool{}
	for range 200 {
		var names []string
		f := facts(t, s, "d.example")
		for i, h := range f.Hosts {
			if want := uint16(10 + i/4*10); h.Preference != want {
				t.Fatalf("preference %d at place %d", h.Preference, i)
			}
			names = append(names, string(h.Name))
		}
		orders[strings.Join(names[:4], " ")] = true
	}
	if len(orders) < 20 { // of 24; fewer than 20 in 200 throws has a chance below one in a million
		t.Errorf("%d of 24 orders in 200 calls", len(orders))
	}
	reversed := scout(t, z, func(o *discover.Options) {
		o.Shuffle = func(n int, swap func(i, j int)) {
			for i := range n / 2 {
				swap(i, n-1-i)
			}
		}
	})
	a, b := facts(t, reversed, "d.example"), facts(t, reversed, "d.example")
	if a.Hosts[0].Name != b.Hosts[0].Name || a.Hosts[0].Name == a.Hosts[3].Name {
		t.Errorf("one call changed another's order: %s, %s", a.Hosts[0].Name, b.Hosts[0].Name)
	}
}

// Ten thousand messages to one domain cost one look-up.
func TestOneLookUpForAll(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate = true })
	release := z.Hold("d.example", "MX")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 100 {
				if f, err := s.Facts(t.Context(), "d.example"); err != nil || len(f.Hosts) != 1 {
					t.Errorf("%v, %v", f, err)
				}
			}
		})
	}
	if err := z.Await(t.Context(), "d.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	release()
	wg.Wait()
	for q, want := range map[[2]string]int{{"d.example", "MX"}: 1, {"a.d.example", "A"}: 1, {"a.d.example", "AAAA"}: 1, {"_25._tcp.a.d.example", "TLSA"}: 1, {".", "SOA"}: 1} {
		if n := z.Count(q[0], q[1]); n != want {
			t.Errorf("%d queries for %v, want %d", n, q, want)
		}
	}
}

// The caller who is interrupted hears so; the look-up goes on for the others.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	s := scout(t, z, nil)
	release := z.Hold("d.example", "MX")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := s.Facts(ctx, "d.example"); got <- err }()
	if err := z.Await(t.Context(), "d.example", "MX", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Facts(ctx, "d.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("afterwards: %v", err)
	}
}

// The deadline of a domain leaves facts with what is missing as unknown.
func TestDeadline(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.Hold("a.d.example", "AAAA")
	s := scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Deadline = true, 400 * time.Millisecond })
	h := facts(t, s, "d.example").Hosts[0]
	if h.V4.Answer != policy.Records || h.V6.Answer != policy.Unknown || h.V6.Problem == "" {
		t.Errorf("v4 %+v, v6 %+v", h.V4, h.V6)
	}
}

// Failed facts are kept for seconds at most, and Forget drops what is kept.
func TestKept(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.Fail("d.example", "MX", policytest.ServFail)
	s := scout(t, z, func(o *discover.Options) { o.FailedAge = time.Hour })
	for range 3 {
		if f := facts(t, s, "d.example"); f.MX.Answer != policy.Unknown {
			t.Fatal(brief(f))
		}
	}
	if n := z.Count("d.example", "MX"); n != 1 {
		t.Errorf("%d queries while kept", n)
	}
	z.Heal("d.example", "MX")
	z.MX("d.example", 10, "a.d.example")
	s.Forget("d.example")
	if f := facts(t, s, "d.example"); f.MX.Answer != policy.Records {
		t.Errorf("after Forget: %s", brief(f))
	}
	never := scout(t, z, func(o *discover.Options) { o.FailedAge = -1 })
	z.Fail("e.example", "MX", policytest.ServFail)
	facts(t, never, "e.example")
	facts(t, never, "e.example")
	if n := z.Count("e.example", "MX"); n != 2 {
		t.Errorf("%d queries where failures are not kept", n)
	}
}

func TestRelayHost(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.A("smart.example", "127.0.0.9")
	z.TLSA("smart.example", 587, record)
	cases := []struct {
		host string
		set  func(*discover.Options)
		want string
		port uint16
	}{
		{"smart.example:587", nil, "unknown operator | 0 smart.example v4=records+[127.0.0.9] v6=no-data+[] tlsa=records+@smart.example", 587},
		{"Smart.Example", nil, "unknown operator | 0 smart.example v4=records+[127.0.0.9] v6=no-data+[] tlsa=no-data+", 25},
		{"192.0.2.1:2525", nil, "unknown operator | 0 192.0.2.1 v4=records[192.0.2.1] v6=no-data[]", 2525},
		{"[2001:db8::1]:587", nil, "unknown operator | 0 2001:db8::1 v4=no-data[] v6=records[2001:db8::1]", 587},
		{"2001:db8::1", nil, "unknown operator | 0 2001:db8::1 v4=no-data[] v6=records[2001:db8::1]", 25},
		{"127.0.0.1:2525", func(o *discover.Options) { o.Listeners = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2525")} },
			"unknown operator | 0 127.0.0.1 v4=records[] v6=no-data[] refused=1", 2525},
		{"smart.example:587", func(o *discover.Options) {
			o.Names, o.Addrs = []policy.Domain{"smart.example"}, []netip.Addr{netip.MustParseAddr("127.0.0.9")}
		}, "unknown operator | 0 smart.example v4=records+[127.0.0.9] v6=no-data+[] tlsa=records+@smart.example", 587},
	}
	for _, c := range cases {
		s := scout(t, z, func(o *discover.Options) {
			o.RelayHost = c.host
			if c.set != nil {
				c.set(o)
			}
		})
		f := facts(t, s, "d.example")
		if got := brief(f); got != c.want || f.Hosts[0].Port != c.port {
			t.Errorf("%s:\n got %s port %d\nwant %s port %d", c.host, got, f.Hosts[0].Port, c.want, c.port)
		}
		facts(t, s, "other.example")
	}
	if n := z.Count("d.example", ""); n != 0 {
		t.Errorf("the domain was asked for %d times", n)
	}
	for _, bad := range []string{"smart.example:", "smart.example:0", "smart.example:65536", "smart.example:smtp", ":587", "a b:25", "[smart.example]:25"} {
		if _, err := discover.New(discover.Options{Resolver: resolver(t, z.Addr()), RelayHost: bad}); err == nil || !strings.Contains(err.Error(), "relay_host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := discover.New(discover.Options{}); err == nil {
		t.Error("no resolver, no error")
	}
	z := serve(t)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.TLSA("a.d.example", 2525, record)
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Port = true, 2525 }), "d.example")
	if f.Hosts[0].Port != 2525 || len(f.Hosts[0].TLSA.Records) != 1 || !reflect.DeepEqual(f.Hosts[0].TLSA.Records[0], record) {
		t.Errorf("RFC 7672 2.2.3 port: %+v", f.Hosts[0])
	}
	f = facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.NoTLSA = true, true }), "d.example")
	if f.Hosts[0].TLSA.Asked {
		t.Error("TLSA asked though switched off")
	}
}

// A resolver that does not validate: nothing is secure, and the facts say why.
func TestWithoutDNSSEC(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.SetMode(policytest.Oblivious)
	z.MX("d.example", 10, "a.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.TLSA("a.d.example", 25, record)
	f := facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate = true }), "d.example")
	if want := "records | 10 a.d.example v4=records[192.0.2.1] v6=no-data[]"; brief(f) != want || f.DNSSEC {
		t.Errorf("%s, DNSSEC %t", brief(f), f.DNSSEC)
	}
}

type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *tally) LookedUp(source, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[source+" "+result]++
}

func TestObserver(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.Zone("open.example", policytest.Unsigned)
	z.MX("d.example", 10, "a.d.example")
	z.MX("d.example", 20, "mx.open.example")
	z.MX("d.example", 30, "gone.open.example")
	z.MX("d.example", 40, "fails.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.A("mx.open.example", "192.0.2.2", "2001:db8::2")
	z.TLSA("a.d.example", 25, record)
	z.Fail("fails.d.example", "", policytest.Refused)
	c := &tally{seen: map[string]int{}}
	facts(t, scout(t, z, func(o *discover.Options) { o.AllowPrivate, o.Observer = true, c }), "d.example")
	want := map[string]int{
		"mx secure": 1, "address secure": 1, "address absent-secure": 1, "address insecure": 2,
		"address absent-insecure": 2, "address unknown": 2, "tlsa secure": 1,
	}
	if !reflect.DeepEqual(c.seen, want) {
		t.Errorf("%v\nwant %v", c.seen, want)
	}
	for k := range c.seen {
		source, result, _ := strings.Cut(k, " ")
		if !slices.Contains(discover.Sources(), source) || !slices.Contains(discover.Results(), result) {
			t.Errorf("%q is in no closed set", k)
		}
	}
}

func TestLocalAddrs(t *testing.T) {
	t.Parallel()
	got, err := discover.LocalAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range got {
		if !ip.IsValid() || ip.IsLoopback() || ip.Zone() != "" {
			t.Errorf("%s", ip)
		}
	}
}

func BenchmarkFactsCached(b *testing.B) {
	z := serve(b)
	z.MX("d.example", 10, "a.d.example")
	z.MX("d.example", 10, "b.d.example")
	z.A("a.d.example", "192.0.2.1")
	z.A("b.d.example", "192.0.2.2")
	s := scout(b, z, func(o *discover.Options) { o.AllowPrivate, o.MaxAge, o.Shuffle = true, time.Hour, nil })
	facts(b, s, "d.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Facts(b.Context(), "d.example"); err != nil {
			b.Fatal(err)
		}
	}
}
