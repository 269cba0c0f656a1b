package discover_test

import (
	"fmt"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
)

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
		z.TLSA("a.d.example", 25, record) // it is there: no denial can be cached (RFC 8198)
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
		z.TLSA("mx.host.example", 25, record)
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
	}, "records+ | 10 a.d.example v4=records+[192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8] v6=no-data+[] tlsa=no-name+"},
}
