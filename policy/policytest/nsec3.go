package policytest

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// hashed is one link of a zone's NSEC3 chain.
type hashed struct {
	hash string // upper case, as in RFC 5155 3.3
	name string
}

// chain3 returns the names of a zone in the order of their hashes: those with records,
// and the empty ones between (RFC 5155 7.1). Insecure delegations are left out where the
// zone opts out, so that nothing denies their DS. z.mu is held.
func (z *Zones) chain3(of *zone) []hashed {
	seen := map[string]bool{}
	var out []hashed
	for _, n := range z.names(of) {
		if of.denial == OptOut && z.insecureCut(of, n) {
			continue
		}
		for !seen[n] {
			seen[n] = true
			out = append(out, hashed{dns.HashName(n, dns.SHA1, 0, ""), n})
			if off, end := dns.NextLabel(n, 0); !end && n != of.name {
				n = n[off:]
			}
		}
	}
	slices.SortFunc(out, func(a, b hashed) int { return strings.Compare(a.hash, b.hash) })
	return out
}

// insecureCut reports whether a zone without a DS begins at a name. z.mu is held.
func (z *Zones) insecureCut(of *zone, name string) bool {
	return name != of.name && z.zones[name] != nil && len(z.rrset(of, name, dns.TypeDS)) == 0
}

// nsec3 returns the record that matches a name, or else the one that covers it, and
// whether it matches. z.mu is held.
func (z *Zones) nsec3(of *zone, name string) (*dns.NSEC3, bool) {
	all := z.chain3(of)
	i, found := slices.BinarySearchFunc(all, dns.HashName(name, dns.SHA1, 0, ""), func(h hashed, s string) int { return strings.Compare(h.hash, s) })
	if !found {
		i = (i - 1 + len(all)) % len(all) // the last one covers what comes before the first
	}
	at, next := all[i], all[(i+1)%len(all)]
	n := &dns.NSEC3{
		Hdr:        dns.RR_Header{Name: strings.ToLower(at.hash) + "." + strings.TrimPrefix(of.name, "."), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: z.negative},
		Hash:       dns.SHA1, // no iterations and no salt: RFC 9276 3.1
		HashLength: 20,
		NextDomain: next.hash,
		TypeBitMap: z.types3(of, at.name),
	}
	if of.denial == OptOut {
		n.Flags = 1
	}
	return n, found
}

// types3 returns the types at a name as an NSEC3 record lists them: RRSIG only where
// something is signed, so not at an insecure delegation (RFC 5155 7.1). z.mu is held.
func (z *Zones) types3(of *zone, name string) []uint16 {
	if z.insecureCut(of, name) {
		return []uint16{dns.TypeNS}
	}
	at := z.nsec(of, name)
	if at.Hdr.Name != name { // an empty non-terminal
		return nil
	}
	return slices.DeleteFunc(at.TypeBitMap, func(t uint16) bool { return t == dns.TypeNSEC })
}

// encloser returns the closest name at or above that the chain has, and the name that
// is one label longer (RFC 5155 1.3). z.mu is held.
func (z *Zones) encloser(of *zone, name string) (closest, next string) {
	for {
		if _, ok := z.nsec3(of, name); ok {
			return name, next
		}
		off, end := dns.NextLabel(name, 0)
		if next = name; end {
			return ".", next
		}
		name = name[off:]
	}
}

// closer proves that nothing is closer to a name than its wildcard (RFC 5155 7.2.6).
// z.mu is held.
func (z *Zones) closer(of *zone, name string) []dns.RR {
	_, next := z.encloser(of, name)
	n, _ := z.nsec3(of, next)
	return []dns.RR{n}
}

// denial3 returns the NSEC3 records that prove an absence (RFC 5155 7.2.2 to 7.2.5),
// and whether they leave room for a delegation that opted out. z.mu is held.
func (z *Zones) denial3(of *zone, name string) ([]dns.RR, bool) {
	if n, ok := z.nsec3(of, name); ok {
		return []dns.RR{n}, false
	}
	closest, next := z.encloser(of, name)
	names := []string{closest, next}
	if !z.exists(of, name) {
		names = append(names, "*."+strings.TrimPrefix(closest, "."))
	}
	var out []dns.RR
	for _, n := range names {
		rr, _ := z.nsec3(of, n)
		if !slices.ContainsFunc(out, func(have dns.RR) bool { return have.Header().Name == rr.Hdr.Name }) {
			out = append(out, rr)
		}
	}
	return out, of.denial == OptOut
}
