package policy

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"slices"
	"testing"
	"time"
)

// daneCase is one chain as a host sends it, and the records that DNS has for it.
type daneCase struct {
	clause string
	rrs    []TLSARecord
	sent   []*x509.Certificate
	ok     bool
	names  []Domain // nil: mx.example.org
	key    *ecdsa.PrivateKey
}

func rrs(list ...TLSARecord) []TLSARecord { return list }

// changes, by what they spoil or add.
func (f *forge) expired(c *x509.Certificate) { c.NotAfter = f.now.Add(-time.Minute) }
func (f *forge) early(c *x509.Certificate)   { c.NotBefore = f.now.Add(time.Minute) }
func pathLen(n int) change {
	return func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }
}
func permits(d string) change {
	return func(c *x509.Certificate) { c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{d} }
}
func excludes(d string) change {
	return func(c *x509.Certificate) { c.PermittedDNSDomainsCritical, c.ExcludedDNSDomains = true, []string{d} }
}
func usages(list ...x509.ExtKeyUsage) change {
	return func(c *x509.Certificate) { c.ExtKeyUsage = list }
}
func dns(names ...string) change { return func(c *x509.Certificate) { c.DNSNames = names } }
func cn(name string) change {
	return func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, name }
}
func noSign(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }
func critical(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}, Critical: true, Value: []byte{5, 0}})
}
func addressOnly(c *x509.Certificate) {
	cn("mx.example.org")(c)
	c.IPAddresses, c.EmailAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}, []string{"postmaster@example.org"}
}

// eeCases: DANE-EE looks at nothing but the leaf's octets.
func (f *forge) eeCases() []daneCase {
	root := f.root("root")
	inter := f.ca(root, "inter")
	good := f.leaf(inter)
	all := func(c *x509.Certificate) { f.expired(c); dns()(c); usages(x509.ExtKeyUsageClientAuth)(c); critical(c) }
	everything, self := f.leaf(inter, all), f.leaf(nil, all)
	stranger := f.leaf(f.root("stranger"))
	row := func(clause string, r []TLSARecord, ok bool, list ...*entity) daneCase {
		return daneCase{clause: clause, rrs: r, sent: sent(list...), ok: ok, key: list[0].key}
	}
	return []daneCase{
		row("RFC 7671 5.1 3 1 1", rrs(record(3, 1, 1, good.Certificate)), true, good, inter),
		row("RFC 7671 5.1 3 0 0", rrs(record(3, 0, 0, good.Certificate)), true, good, inter),
		row("RFC 7671 5.1 dates, names, usage and critical extensions are ignored", rrs(record(3, 1, 1, everything.Certificate)), true, everything, inter),
		row("RFC 7671 5.1 self-signed", rrs(record(3, 0, 2, self.Certificate)), true, self),
		row("RFC 7671 5.1 not yet valid", rrs(record(3, 1, 2, f.leaf(inter, f.early).Certificate)), false, good, inter),
		row("RFC 7671 5.1 the rest of the chain is ignored", rrs(record(3, 1, 1, good.Certificate)), true, good, stranger, f.broken(inter)),
		row("RFC 7671 5.1 only the leaf", rrs(record(3, 1, 1, inter.Certificate)), false, good, inter),
		row("RFC 7672 3.2 another key", rrs(record(3, 1, 1, stranger.Certificate)), false, good, inter),
		row("RFC 7671 8.1 one of several keys", rrs(record(3, 1, 1, stranger.Certificate), record(3, 1, 1, good.Certificate)), true, good, inter),
		row("RFC 7671 8 the EE record is enough where the TA's is wrong", rrs(record(2, 0, 1, stranger.Certificate), record(3, 1, 1, good.Certificate)), true, good, inter),
		row("RFC 7671 8 the TA record is enough where the EE's is wrong", rrs(record(3, 1, 1, stranger.Certificate), record(2, 0, 1, inter.Certificate)), true, good, inter),
	}
}

// anchorCases: where the trust anchor comes from.
func (f *forge) anchorCases() []daneCase {
	root := f.root("root")
	inter := f.ca(root, "inter")
	low := f.ca(inter, "low")
	leaf := f.leaf(low)
	direct := f.leaf(root)
	self := f.leaf(nil)
	selfCA := f.leaf(nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	stranger := f.root("stranger")
	oldRoot := f.cross(nil, root, f.expired)
	v1 := f.v1(root, root)
	ta := func(s, m uint8, c *entity) []TLSARecord { return rrs(record(2, s, m, c.Certificate)) }
	row := func(clause string, r []TLSARecord, ok bool, list ...*entity) daneCase {
		return daneCase{clause: clause, rrs: r, sent: sent(list...), ok: ok, key: list[0].key}
	}
	return []daneCase{
		row("RFC 7671 5.2.2 the root is sent", ta(0, 1, root), true, leaf, low, inter, root),
		row("RFC 7671 5.2.2 a digest of an anchor that is not sent", ta(0, 1, root), false, leaf, low, inter),
		row("RFC 7671 5.2.2 a digest of its key neither", ta(1, 2, root), false, leaf, low, inter),
		row("RFC 7671 5.2.1 not self-signed, in the middle", ta(0, 2, inter), true, leaf, low, inter),
		row("RFC 7671 5.2.1 the lowest", ta(1, 1, low), true, leaf, low),
		row("RFC 7671 5.2.1 what is above the anchor does not count", ta(1, 1, low), true, leaf, low, f.broken(inter), oldRoot),
		row("RFC 7671 5.2.2 2 0 0 of a root only in DNS", ta(0, 0, root), true, leaf, low, inter),
		row("RFC 7671 5.2.2 2 0 0 of a middle one only in DNS", ta(0, 0, low), true, leaf),
		row("RFC 7671 5.2.2 2 0 0 sent as well", ta(0, 0, inter), true, leaf, low, inter),
		row("RFC 7671 5.2.2 2 0 0 does not fill a gap below", ta(0, 0, root), false, leaf, inter),
		row("RFC 7671 5.2.2 two records do not make a chain: only one is its anchor", rrs(record(2, 0, 0, root.Certificate), record(2, 0, 0, low.Certificate)), true, leaf),
		row("RFC 7671 5.2.3 2 1 0 sent", ta(1, 0, root), true, leaf, low, inter, root),
		row("RFC 7671 5.2.3 2 1 0 signed the topmost", ta(1, 0, root), true, leaf, low, inter),
		row("RFC 7671 5.2.3 2 1 0 signed the leaf, alone", ta(1, 0, low), true, leaf),
		row("RFC 7671 5.2.3 2 1 0 of another", ta(1, 0, stranger), false, leaf, low, inter),
		row("RFC 7671 5.2.3 2 1 0 signed one that the leaf does not lead to", ta(1, 0, root), false, leaf, inter),
		row("RFC 7671 5.2.3 2 1 0 the topmost has run out", ta(1, 0, root), false, f.leaf(root, f.expired)),
		row("RFC 7671 5.2.3 2 1 0 signed the topmost, which is no authority", ta(1, 0, root), false, f.leaf(direct), direct),
		row("RFC 5280 6.1.4 k 2 1 0 signed the topmost, version 1, which does not say so", ta(1, 0, root), false, f.leaf(direct), f.v1(root, direct)),
		row("RFC 7671 5.2.3 2 1 0 of a self-signed leaf's own key: it signed the topmost", ta(1, 0, self), true, self),
		row("RFC 5280 4.1.2.1 a version 1 root", ta(0, 1, v1), true, direct, v1),
		row("RFC 7671 5.2 the leaf is not its own anchor", ta(1, 1, self), false, self),
		row("RFC 7671 5.2 nor when sent twice", ta(0, 1, selfCA), false, selfCA, selfCA),
		row("RFC 7671 5.2 nor when also in DNS", ta(0, 0, selfCA), false, selfCA),
		row("RFC 7671 5.2 nor when an authority signed it", ta(1, 1, leaf), false, leaf, low, inter, root),
		row("RFC 7672 3.2 the authority of another", ta(0, 1, stranger), false, leaf, low, inter, stranger),
		row("out of order", ta(0, 1, root), true, leaf, root, inter, low),
		row("strangers in between and twice", ta(0, 1, root), true, leaf, stranger, low, direct, low, inter, root, stranger),
		row("2 1 0, a stranger on top", ta(1, 0, root), true, leaf, low, inter, stranger),
		row("a gap in between", ta(0, 1, root), false, leaf, inter, root),
	}
}

// pathCases: what must hold from the leaf to the anchor (RFC 7672 3.1.2).
func (f *forge) pathCases() []daneCase {
	root, old := f.root("root"), f.root("old")
	inter := f.ca(root, "inter")
	crossed, crossedOld := f.cross(old, inter), f.cross(old, inter, f.expired)
	leaf := f.leaf(inter)
	ta := func(s, m uint8, c *entity) []TLSARecord { return rrs(record(2, s, m, c.Certificate)) }
	row := func(clause string, r []TLSARecord, ok bool, list ...*entity) daneCase {
		return daneCase{clause: clause, rrs: r, sent: sent(list...), ok: ok, key: list[0].key}
	}
	// under has the leaf below a root that is changed, with the root's certificate sent.
	under := func(clause string, ok bool, anchor change, changes ...change) daneCase {
		r := f.root("anchor", anchor)
		return row(clause, ta(0, 1, r), ok, f.leaf(r, changes...), r)
	}
	between := func(clause string, ok bool, changes ...change) daneCase {
		i := f.ca(root, "between", changes...)
		return row(clause, ta(0, 1, root), ok, f.leaf(i), i, root)
	}
	plain := func(*x509.Certificate) {}
	gone, short := f.root("gone", f.expired), f.root("short", pathLen(0))
	below := f.ca(short, "below")
	forged := f.leaf(leaf)
	return []daneCase{
		row("cross-signed: the old root is the anchor", ta(0, 1, old), true, leaf, crossed, inter, old),
		row("cross-signed: the new root is the anchor", ta(0, 1, root), true, leaf, crossed, inter, root),
		row("cross-signed: the way to the anchor is not sent", ta(0, 1, old), false, leaf, inter, old),
		row("cross-signed: 2 0 0 only in DNS", ta(0, 0, root), true, leaf, crossed, inter),
		row("one key, two certificates: the first has run out", ta(1, 1, inter), true, leaf, crossedOld, inter),
		row("one key, two certificates: the second has run out", ta(1, 1, inter), true, leaf, inter, crossedOld),
		row("one key, the digest of the one that has run out", ta(0, 1, crossedOld), false, leaf, crossedOld, inter),
		under("dates: the leaf has run out", false, plain, f.expired),
		under("dates: the leaf is not yet valid", false, plain, f.early),
		between("dates: one in between has run out", false, f.expired),
		row("dates: the anchor has run out (own, as OpenSSL)", ta(0, 1, gone), false, f.leaf(gone), gone),
		row("dates: so by its key", ta(1, 1, gone), false, f.leaf(gone), gone),
		row("dates: so only in DNS", ta(0, 0, gone), false, f.leaf(gone)),
		row("RFC 7671 5.2.3 2 1 0 of one that is sent and has run out", ta(1, 0, gone), false, f.leaf(gone), gone),
		row("RFC 7671 5.2.3 2 1 0 of a key has no dates", ta(1, 0, gone), true, f.leaf(gone)),
		row("RFC 5280 4.2.1.9 a leaf is no issuer", ta(0, 1, root), false, forged, leaf, inter, root),
		row("RFC 5280 4.2.1.9 nor as the anchor", ta(0, 1, leaf), false, forged, leaf),
		row("RFC 5280 4.2.1.9 path length 0 and none between", ta(0, 1, short), true, f.leaf(short), short),
		row("RFC 7671 5.2.1 path length 0 and one between", ta(0, 1, short), false, f.leaf(below), below, short),
		row("RFC 7671 5.2.1 the same by the anchor's key", ta(1, 1, short), false, f.leaf(below), below, short),
		row("RFC 7671 5.2.1 a bare key has no path length", ta(1, 0, short), true, f.leaf(below), below),
		between("RFC 5280 4.2.1.3 an authority that may not sign", false, noSign),
		between("RFC 5280 4.2 an unknown critical extension in between", false, critical),
		under("RFC 5280 4.2 an unknown critical extension in the leaf", false, plain, critical),
		under("RFC 5280 4.2.1.10 name constraints: permitted", true, permits("example.org")),
		under("RFC 7671 5.2.1 name constraints of the anchor: not permitted", false, permits("example.net")),
		under("RFC 7671 5.2.1 name constraints of the anchor: excluded", false, excludes("example.org")),
		under("RFC 7672 3.2.3 name constraints hold for a CN-ID: permitted", true, permits("example.org"), cn("mx.example.org")),
		under("RFC 7672 3.2.3 name constraints hold for a CN-ID: not permitted", false, permits("example.net"), cn("mx.example.org")),
		under("RFC 7672 3.2.3 name constraints hold for a CN-ID: excluded", false, excludes("example.org"), cn("mx.example.org")),
		between("RFC 5280 4.2.1.10 name constraints in between", false, permits("example.net")),
		under("RFC 5280 4.2.1.12 usage serverAuth", true, plain, usages(x509.ExtKeyUsageServerAuth)),
		under("RFC 5280 4.2.1.12 usage serverAuth among others", true, plain, usages(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)),
		under("RFC 5280 4.2.1.12 usage any", true, plain, usages(x509.ExtKeyUsageAny)),
		under("RFC 5280 4.2.1.12 usage clientAuth alone", false, plain, usages(x509.ExtKeyUsageClientAuth)),
		between("RFC 5280 4.2.1.12 an authority for clientAuth alone", false, usages(x509.ExtKeyUsageClientAuth)),
		under("x509: SHA-1 is refused", false, plain, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }),
		row("RFC 5280 6.1.3 a signature in between is broken", ta(0, 1, root), false, leaf, f.broken(inter), root),
		row("RFC 5280 6.1.3 the leaf's signature is broken", ta(0, 1, root), false, f.broken(leaf), inter, root),
	}
}

// nameCases: RFC 7672 3.2.2 and 3.2.3.
func (f *forge) nameCases() []daneCase {
	root := f.root("root")
	// As a plan lists them: the base, the next-hop domain, its expansion.
	three := []Domain{"mx.example.org", "example.net", "expanded.example.com"}
	row := func(clause string, ok bool, names []Domain, changes ...change) daneCase {
		leaf := f.leaf(root, changes...)
		return daneCase{clause, rrs(record(2, 0, 1, root.Certificate)), sent(leaf, root), ok, names, leaf.key}
	}
	return []daneCase{
		row("RFC 7672 3.2.2 the base", true, three),
		row("RFC 7672 3.2.2 the next-hop domain", true, three, dns("example.net")),
		row("RFC 7672 3.2.2 its expansion", true, three, dns("expanded.example.com")),
		row("RFC 7672 3.2.2 one of many presented", true, three, dns("a.example", "b.example", "expanded.example.com")),
		row("RFC 7672 3.2.2 another", false, three, dns("www.example.org")),
		row("RFC 7672 3.2.2 behind an insecure MX the base alone", false, three[:1], dns("example.net")),
		row("RFC 7672 3.2.3 upper case", true, three, dns("MX.Example.ORG")),
		row("RFC 7672 3.2.3 a parent", false, three, dns("example.org")),
		row("RFC 7672 3.2.3 a child", false, three, dns("a.mx.example.org")),
		row("RFC 7672 3.2.3 wildcard", true, three, dns("*.Example.org")),
		row("RFC 7672 3.2.3 wildcard for the next-hop domain's children only", false, three, dns("*.example.net")),
		row("RFC 7672 3.2.3 wildcard stands for one label", false, []Domain{"a.mx.example.org"}, dns("*.example.org")),
		row("RFC 7672 3.2.3 wildcard is the entire label", false, three, dns("m*.example.org", "*x.example.org", "*mx.example.org")),
		row("RFC 7672 3.2.3 wildcard is the first label", false, three, dns("mx.*.org", "*.*.org")),
		row("RFC 7672 3.2.3 a wildcard alone", false, three, dns("*")),
		row("RFC 7672 3.2.3 the CN without a SAN", true, three, cn("mx.example.org")),
		row("RFC 7672 3.2.3 the CN, upper case", true, three, cn("MX.EXAMPLE.ORG")),
		row("RFC 7672 3.2.3 the CN, wildcard", true, three, cn("*.example.org")),
		row("RFC 7672 3.2.3 the CN beside an address and a mailbox: no DNS-ID", true, three, addressOnly),
		row("RFC 7672 3.2.3 the CN beside a DNS-ID", false, []Domain{"cn.example"}),
		row("RFC 7672 3.2.3 the CN is another", false, three, cn("www.example.org")),
		row("RFC 7672 3.2.3 the CN is ASCII: a Kelvin sign is no k", false, []Domain{"k.example"}, cn("\u212a.example")),
		row("RFC 7672 3.2.3 no name at all", false, three, cn("")),
	}
}

// A row for each way in which a chain can match or not.
func TestChains(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	for _, tt := range slices.Concat(f.eeCases(), f.anchorCases(), f.pathCases(), f.nameCases()) {
		t.Run(tt.clause, func(t *testing.T) {
			if tt.names == nil {
				tt.names = []Domain{"mx.example.org"}
			}
			target := Target{Host: "mx.example.org", TLSA: usable(tt.rrs), Names: tt.names}
			if len(target.TLSA) != len(tt.rrs) {
				t.Fatalf("%d of %d records are usable", len(target.TLSA), len(tt.rrs))
			}
			failure := target.verifyTLSA(tt.sent, f.now)
			if (failure == nil) != tt.ok {
				t.Fatalf("failure %+v: want ok=%t", failure, tt.ok)
			}
			if failure != nil && (failure.Reason != TLSAMismatch || failure.Host != target.Host || failure.Detail == "") {
				t.Errorf("failure %+v is not complete", failure)
			}
		})
	}
}

// A domain of ill will cannot make us check signatures without end, and a chain that
// fits is found however long it is.
func TestBareKeysAreBounded(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	root := f.root("root")
	list := []*entity{f.leaf(root)}
	for range 12 {
		list = append(list, f.ca(root, "inter"))
	}
	chain := sent(list...)
	var records []TLSARecord
	for range 20 {
		records = append(records, record(2, 1, 0, f.root("other").Certificate))
	}
	checks := bareKeyChecks
	for _, r := range records {
		if r.signedByKey(chain, &checks) != nil {
			t.Fatal("a key that signed nothing")
		}
	}
	if checks > 0 {
		t.Errorf("%d checks are left of %d after %d keys and %d certificates", checks, bareKeyChecks, len(records), len(chain))
	}
	if found := record(2, 1, 0, root.Certificate).signedByKey(chain, &checks); found != nil {
		t.Errorf("%d found beyond the bound", len(found))
	}
	fresh := bareKeyChecks
	if found := record(2, 1, 0, root.Certificate).signedByKey(chain, &fresh); len(found) != len(chain) {
		t.Errorf("%d found, want %d", len(found), len(chain))
	}
}
