package policy

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
)

// hostCase is what a host serves, and what RFC 7671 5 says of a right record for it.
type hostCase struct {
	name    string
	sent    []*x509.Certificate
	ee, ta  *x509.Certificate // whom a record of usage 3, and of usage 2, is made for
	other   *x509.Certificate // whom a wrong record is made for
	verdict verdict
}

// verdict is the RFC's table: does a right record match, by usage, selector and
// whether DNS has the whole data or a digest.
type verdict struct {
	eeCert, eeKey             bool // RFC 7671 5.1
	taCertDigest, taKeyDigest bool // RFC 7671 5.2.2: the anchor must be sent
	taCertFull                bool // RFC 7671 5.2.2: or DNS has it
	taKeyFull                 bool // RFC 7671 5.2.3: or its key signed the topmost
}

func (f *forge) hostCases() []hostCase {
	root := f.root("root")
	inter := f.ca(root, "inter")
	leaf, late, elsewhere, self := f.leaf(inter), f.leaf(inter, f.expired), f.leaf(inter, dns("www.example.org")), f.leaf(nil)
	gone := f.root("gone", f.expired)
	underGone := f.ca(gone, "inter")
	leafGone := f.leaf(underGone)
	renewedInter := f.cross(root, inter)
	renewed := f.issue(renewedInter, leaf.key, &x509.Certificate{DNSNames: []string{"mx.example.org"}}, nil)
	other := f.root("other").Certificate
	row := func(name string, ee, ta *entity, v verdict, list ...*entity) hostCase {
		return hostCase{name, sent(list...), ee.Certificate, ta.Certificate, other, v}
	}
	all := verdict{true, true, true, true, true, true}
	onlyEE := verdict{eeCert: true, eeKey: true}
	return []hostCase{
		row("leaf right", leaf, inter, all, leaf, inter),
		row("leaf expired", late, inter, onlyEE, late, inter),
		row("leaf for another name", elsewhere, inter, onlyEE, elsewhere, inter),
		row("leaf self-signed", self, self, verdict{eeCert: true, eeKey: true, taKeyFull: true}, self),
		row("chain with the anchor", leaf, root, all, leaf, inter, root),
		row("chain broken below the anchor", leaf, root, onlyEE, leaf),
		row("anchor only in DNS", leaf, root, verdict{eeCert: true, eeKey: true, taCertFull: true, taKeyFull: true}, leaf, inter),
		row("anchor expired", leafGone, gone, onlyEE, leafGone, underGone, gone),
		// The records are for the certificates before the renewal.
		row("keys reused under new certificates", leaf, inter,
			verdict{eeKey: true, taKeyDigest: true, taCertFull: true, taKeyFull: true}, renewed, renewedInter),
	}
}

// dataKinds are what may stand in a record's data.
func dataKinds() []string { return []string{"right", "wrong", "short", "long", "empty"} }

func (h hostCase) record(usage, selector, matching uint8, data string) TLSARecord {
	about := h.ee
	if usage == 2 {
		about = h.ta
	}
	if data == "wrong" {
		about = h.other
	}
	r := record(usage, selector, matching, about)
	switch data {
	case "short":
		r.Data = r.Data[:len(r.Data)-1]
	case "long":
		r.Data = append(slices.Clone(r.Data), 0)
	case "empty":
		r.Data = nil
	}
	return r
}

// oracle says what must come of a host with this one record, from the text of the
// RFCs and by nothing that is under test.
func (h hostCase) oracle(usage, selector, matching uint8, data string) (usable, match bool) {
	if usage != 2 && usage != 3 || selector > 1 || matching > 2 || data != "right" && data != "wrong" {
		return false, false // RFC 7672 3.1.3, RFC 6698 4.1
	}
	if data == "wrong" {
		return true, false
	}
	v := h.verdict
	switch [3]bool{usage == 3, selector == 1, matching == 0} {
	case [3]bool{true, false, false}, [3]bool{true, false, true}:
		return true, v.eeCert
	case [3]bool{true, true, false}, [3]bool{true, true, true}:
		return true, v.eeKey
	case [3]bool{false, false, false}:
		return true, v.taCertDigest
	case [3]bool{false, true, false}:
		return true, v.taKeyDigest
	case [3]bool{false, false, true}:
		return true, v.taCertFull
	default:
		return true, v.taKeyFull
	}
}

// dnsCase is what DNS says around the records: both answers' outcome and security.
type dnsCase struct {
	mxSecure bool
	tlsa     TLSAFacts
}

func dnsCases() (list []dnsCase) {
	for _, mx := range []bool{false, true} {
		list = append(list, dnsCase{mx, TLSAFacts{}}) // RFC 7672 2.2.2: not asked
		for _, a := range []Answer{Unknown, Records, NoData, NoName} {
			for _, secure := range []bool{false, true} {
				list = append(list, dnsCase{mx, TLSAFacts{Asked: true, Lookup: Lookup{Answer: a, Secure: secure && a != Unknown}}})
			}
		}
	}
	return list
}

// outcome is what must become of the host.
type outcome struct {
	used, good bool  // it is tried now; the session reaches its floor
	floor      Level // of the domain's promise
	level      Level // of the session
}

// oracle follows RFC 7672 2.1.2, 2.2 and 2.2.1.
func (d dnsCase) oracle(usable, match bool) outcome {
	matched := Encrypted
	if match {
		matched = Verified // RFC 7672 2.2.1: not more behind an insecure MX
		if d.mxSecure {
			matched = DANE
		}
	}
	promised := Verified
	if d.mxSecure {
		promised = DANE
	}
	switch {
	case !d.tlsa.Asked:
		return outcome{true, true, Plaintext, Encrypted}
	case d.tlsa.Answer == Unknown:
		return outcome{} // RFC 7672 2.1.2: not used now
	case d.tlsa.Answer != Records || !d.tlsa.Secure:
		return outcome{true, true, Plaintext, Encrypted}
	case !usable:
		return outcome{true, true, Encrypted, Encrypted} // RFC 7672 2.2
	default:
		return outcome{true, match, promised, matched} // RFC 7672 3.2 MUST
	}
}

// bench measures hosts at a fixed time. A session without records proves the same
// whatever the record was: it is inspected once for each host and route.
type bench struct {
	*forge
	bare map[string]Evidence
}

func (b *bench) inspect(h hostCase, s Step) Evidence {
	if len(s.Target.TLSA) > 0 {
		return Inspect(finished(h.sent), s, x509.NewCertPool(), b.now)
	}
	key := h.name + s.Target.Route.String()
	if _, ok := b.bare[key]; !ok {
		b.bare[key] = Inspect(finished(h.sent), s, x509.NewCertPool(), b.now)
	}
	return b.bare[key]
}

// measure is the code under test from the facts to the verdict.
func (b *bench) measure(h hostCase, r TLSARecord, d dnsCase) outcome {
	facts := happy()
	facts.MX.Secure = d.mxSecure
	facts.Hosts = facts.Hosts[:1]
	facts.Hosts[0].Name, facts.Hosts[0].TLSA = "mx.example.org", d.tlsa
	if d.tlsa.Answer == Records {
		facts.Hosts[0].TLSA.Base, facts.Hosts[0].TLSA.Records = "mx.example.org", []TLSARecord{r}
	}
	p := Decide(&facts, &Ruleset{Default: lenient(), DANE: true, InsecureMXDANE: true}, &Query{Domain: facts.Domain, Now: b.now})
	targets := p.usable()
	if len(targets) == 0 {
		return outcome{}
	}
	s := Step{Target: &targets[0], Rung: Modern}
	level, failure := s.Judge(b.inspect(h, s))
	return outcome{true, failure == nil, targets[0].Floor.Level, level}
}

func finished(chain []*x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, PeerCertificates: chain}
}

// Every lookup outcome, security, usage, selector, matching type and kind of data
// against every kind of certificate: what comes of it is what the RFCs say.
func TestEveryRecordAndChain(t *testing.T) {
	t.Parallel()
	b := &bench{newForge(t), map[string]Evidence{}}
	rows, matches := 0, 0
	for _, h := range b.hostCases() {
		for _, usage := range []uint8{0, 1, 2, 3, 4, 255} {
			for _, selector := range []uint8{0, 1, 2} {
				for _, matching := range []uint8{0, 1, 2, 3} {
					for _, data := range dataKinds() {
						r := h.record(usage, selector, matching, data)
						ok, match := h.oracle(usage, selector, matching, data)
						for _, d := range dnsCases() {
							rows++
							want := d.oracle(ok, match)
							if want.level >= Verified {
								matches++
							}
							if got := b.measure(h, r, d); got != want {
								t.Errorf("%s, TLSA %d %d %d %s, MX secure %t, lookup %+v:\n got %+v\nwant %+v",
									h.name, usage, selector, matching, data, d.mxSecure, d.tlsa, got, want)
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d rows, %d of them match", rows, matches)
	// By the table of verdicts: whole chains 2*12, DANE-EE alone 4*6, and 7, 8 and 7.
	if rows != 9*6*3*4*5*18 || matches != 2*70 {
		t.Errorf("%d rows and %d matches: the product is not whole", rows, matches)
	}
}
