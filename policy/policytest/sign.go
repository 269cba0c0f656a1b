package policytest

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// zone is one zone: its apex, its standing and its key.
type zone struct {
	name     string // canonical
	security Security
	denial   Denial
	key      *dns.DNSKEY
	private  crypto.Signer
}

func newZone(name string, s Security) *zone {
	k := &dns.DNSKEY{
		Hdr:       dns.RR_Header{Name: name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags:     dns.ZONE | dns.SEP, // one key for all: RFC 6781 3.1 calls it a Single-Type Signing Scheme
		Protocol:  3,
		Algorithm: dns.ECDSAP256SHA256,
	}
	for {
		p, err := k.Generate(256)
		if err != nil {
			panic("policytest: making a key: " + err.Error())
		}
		if k.KeyTag() != 0 { // the library does not sign with a key whose tag is 0, which one in 65536 has
			return &zone{name: name, security: s, key: k, private: p.(crypto.Signer)}
		}
	}
}

// zoneOf returns the deepest zone at or above name. z.mu is held.
func (z *Zones) zoneOf(name string) *zone {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if found := z.zones[name[off:]]; found != nil {
			return found
		}
	}
	return z.zones["."]
}

// parentOf returns the zone above a zone's apex. z.mu is held.
func (z *Zones) parentOf(apex string) *zone {
	if off, end := dns.NextLabel(apex, 0); !end {
		return z.zoneOf(apex[off:])
	}
	return z.zones["."]
}

// standing returns the worst that is found on the way from the root to the zone:
// an unsigned zone makes all below it insecure, even a bogus one. z.mu is held.
func (z *Zones) standing(of *zone) Security {
	above := Signed
	if of.name != "." {
		above = z.standing(z.parentOf(of.name))
	}
	if above != Signed {
		return above
	}
	return cmp.Or(of.security, Signed)
}

// soa returns the SOA record of a zone. z.mu is held.
func (z *Zones) soa(of *zone) dns.RR {
	h := dns.RR_Header{Name: of.name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.negative}
	return &dns.SOA{Hdr: h, Ns: "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: z.negative}
}

// rrset returns the records of a type at a name of the zone, those that the zone
// itself brings along included. z.mu is held.
func (z *Zones) rrset(of *zone, name string, qtype uint16) []dns.RR {
	if own := z.records[name][qtype]; len(own) > 0 {
		return own
	}
	switch at := z.zones[name]; {
	case at == nil:
		return nil
	case qtype == dns.TypeDS && at != of && at.security != Unsigned && at.security != Undenied:
		ds := at.key.ToDS(dns.SHA256)
		ds.Hdr.Ttl = 3600
		if at.security == Exotic {
			ds.Algorithm = 100 // not assigned
		}
		return []dns.RR{ds}
	case at != of:
		return nil // below the cut: only the DS belongs to the parent
	case qtype == dns.TypeSOA:
		return []dns.RR{z.soa(of)}
	case qtype == dns.TypeNS:
		return []dns.RR{nsOf(name)}
	case qtype == dns.TypeDNSKEY && of.security != Unsigned && of.security != Undenied:
		return []dns.RR{of.key}
	}
	return nil
}

func nsOf(name string) dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 3600}
	return &dns.NS{Hdr: h, Ns: "ns.invalid."}
}

// sign returns the signature over an RRset. A bogus one has a bit turned over, an
// expired one was good for a day last year.
func (of *zone) sign(set []dns.RR, s Security) dns.RR {
	now := time.Now()
	if s == Expired {
		now = now.AddDate(-1, 0, 0)
	}
	sig := &dns.RRSIG{
		Hdr:        dns.RR_Header{Ttl: set[0].Header().Ttl},
		Algorithm:  of.key.Algorithm,
		Inception:  uint32(now.Add(-time.Hour).Unix()),
		Expiration: uint32(now.Add(24 * time.Hour).Unix()),
		KeyTag:     of.key.KeyTag(),
		SignerName: of.name,
	}
	if err := sig.Sign(of.private, set); err != nil {
		panic("policytest: signing: " + err.Error())
	}
	if s == Bogus {
		raw, _ := base64.StdEncoding.DecodeString(sig.Signature) // we have just made it
		raw[len(raw)-1] ^= 1
		sig.Signature = base64.StdEncoding.EncodeToString(raw)
	}
	return sig
}

// names returns the names of a zone that have records, in canonical order
// (RFC 4034 6.1), cuts to child zones included. z.mu is held.
func (z *Zones) names(of *zone) []string {
	z.index.mu.Lock()
	defer z.index.mu.Unlock()
	if z.index.names == nil {
		z.index.names = z.allNames()
		for _, list := range z.index.names {
			slices.SortFunc(list, compareCanonical)
		}
	}
	return z.index.names[of.name]
}

// allNames returns the names of each zone, in no order. z.mu is held.
func (z *Zones) allNames() map[string][]string {
	all := map[string][]string{}
	for apex := range z.zones {
		all[apex] = append(all[apex], apex)
		if apex != "." {
			above := z.parentOf(apex).name
			all[above] = append(all[above], apex)
		}
	}
	for n := range z.records {
		if z.zones[n] == nil {
			of := z.zoneOf(n).name
			all[of] = append(all[of], n)
		}
	}
	return all
}

// compareCanonical is the canonical order of names (RFC 4034 6.1): label by label
// from the right. Both are lower case; escapes are not expected in fixtures.
func compareCanonical(a, b string) int {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	for i := 1; i <= len(la) && i <= len(lb); i++ {
		if c := strings.Compare(la[len(la)-i], lb[len(lb)-i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(la), len(lb))
}

// nsec returns the NSEC record that matches name or covers it. z.mu is held.
func (z *Zones) nsec(of *zone, name string) *dns.NSEC {
	all := z.names(of)
	i, found := slices.BinarySearchFunc(all, name, compareCanonical)
	if !found {
		i-- // the apex sorts first, so there is always one before
	}
	owner, next := all[i], all[(i+1)%len(all)]
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	candidates := []uint16{dns.TypeNS, dns.TypeSOA, dns.TypeDS, dns.TypeDNSKEY}
	if z.zones[owner] == nil || owner == of.name {
		for t := range z.records[owner] {
			candidates = append(candidates, t)
		}
	}
	for _, t := range candidates {
		cut := t == dns.TypeNS && z.zones[owner] != nil
		if owner == of.name && t == dns.TypeDS {
			continue // the parent's, not ours
		}
		if cut || len(z.rrset(of, owner, t)) > 0 {
			types = append(types, t)
		}
	}
	slices.Sort(types)
	h := dns.RR_Header{Name: owner, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: z.negative}
	return &dns.NSEC{Hdr: h, NextDomain: next, TypeBitMap: slices.Compact(types)}
}

// exists reports whether name is in the zone: it has records, is a cut, or lies
// above one that has (an empty non-terminal, RFC 8020 3.1). z.mu is held.
func (z *Zones) exists(of *zone, name string) bool {
	all := z.names(of)
	i, found := slices.BinarySearchFunc(all, name, compareCanonical)
	return found || i < len(all) && dns.IsSubDomain(name, all[i]) // what lies below a name follows it
}

// TrustAnchor returns the root's key in master file format: what a validating
// resolver takes as its trust anchor (RFC 4033 2).
func (z *Zones) TrustAnchor() string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.zones["."].key.String()
}
