package discover_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/discover"
	"github.com/sealpost/sealpost/policy/policytest"
)

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
		{"by address", three, func(o *discover.Options) {
			o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.2")}
			o.AllowPrivate = false
		}, "a", true},
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
		}, func(o *discover.Options) {
			o.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.9")}
			o.AllowPrivate = false
		}, "a", true},
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
		{"Smart.Example", nil, "unknown operator | 0 smart.example v4=records+[127.0.0.9] v6=no-data+[] tlsa=no-name+", 25},
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
