package policytest

import (
	"github.com/miekg/dns"
)

// maxChase bounds an alias chain; a loop ends there with SERVFAIL, as resolvers do.
const maxChase = 12

// reply makes the reply to a query.
func (z *Zones) reply(r *dns.Msg, q question) *dns.Msg {
	a := &answer{query: r, m: new(dns.Msg).SetReply(r), secure: true}
	a.m.RecursionAvailable = true
	a.m.Authoritative = !r.RecursionDesired
	opt := r.IsEdns0()
	if opt != nil {
		a.dnssec = opt.Do()
	}
	z.mu.RLock()
	defer z.mu.RUnlock()
	z.resolve(a, q)
	switch validating := z.mode != Oblivious && !r.CheckingDisabled; {
	case a.m.Rcode != dns.RcodeSuccess && a.m.Rcode != dns.RcodeNameError:
		a.m.Answer, a.m.Ns = nil, nil
	case a.bogus && validating: // RFC 4035 5.5
		a.m.Answer, a.m.Ns = nil, nil
		a.m.Rcode = dns.RcodeServerFailure
	case a.secure && !a.bogus && validating:
		a.m.AuthenticatedData = a.dnssec || r.AuthenticatedData // RFC 6840 5.8
	}
	if opt != nil && !a.noEDNS {
		a.m.SetEdns0(1232, a.dnssec)
		if a.bogus && a.m.Rcode == dns.RcodeServerFailure {
			ede := &dns.EDNS0_EDE{InfoCode: a.why}
			a.m.IsEdns0().Option = append(a.m.IsEdns0().Option, ede)
		}
	}
	return a.m
}

// answer is a reply in the making.
type answer struct {
	query  *dns.Msg
	m      *dns.Msg
	dnssec bool // DO: signatures are wanted (RFC 4035 3.2.1)
	secure bool // all zones so far are secure
	bogus  bool
	why    uint16 // it is bogus: RFC 8914 4
	noEDNS bool
}

// stands takes the standing of one more zone into account.
func (a *answer) stands(s Security) {
	a.secure = a.secure && s == Signed
	if !s.bogus() {
		return
	}
	a.bogus = true
	switch s {
	case Expired:
		a.why = dns.ExtendedErrorCodeSignatureExpired
	case Stripped:
		a.why = dns.ExtendedErrorCodeRRSIGsMissing
	case Undenied:
		a.why = dns.ExtendedErrorCodeNSECMissing
	default:
		a.why = dns.ExtendedErrorCodeDNSBogus
	}
}

// resolve follows the aliases from q on. z.mu is held.
func (z *Zones) resolve(a *answer, q question) {
	for range maxChase {
		f := z.faultAt(q)
		if f != nil {
			if rcode, ok := f.kind.rcode(); ok && (f.kind != FormErrEDNS || a.query.IsEdns0() != nil) {
				a.m.Rcode, a.noEDNS = rcode, f.kind == FormErrEDNS
				return
			}
			if f.kind == Timeout { // a resolver that gives up on the end of a chain
				a.m.Rcode = dns.RcodeServerFailure
				return
			}
			if f.kind == Referral {
				a.m.Ns = append(a.m.Ns, nsOf(z.zoneOf(q.name).name))
				a.secure = false
				return
			}
		}
		next, more := z.step(a, q, f)
		if !more || !a.query.RecursionDesired || (f != nil && f.kind == FirstAlias) {
			return
		}
		q.name = next
	}
	a.m.Rcode = dns.RcodeServerFailure
}

// step adds what the zone of one name has to say, and returns the alias's target
// if there is one to follow. z.mu is held.
func (z *Zones) step(a *answer, q question, f *fault) (string, bool) {
	of := z.zoneOf(q.name)
	if q.qtype == dns.TypeDS && q.name == of.name { // RFC 4035 3.1.4.1
		of = z.parentOf(of.name)
	}
	s := z.standing(of)
	if f != nil && f.kind == BadSignature && s == Signed {
		s = Bogus
	}
	a.stands(s)
	s = keyed(s, of, q)
	sign := func(section *[]dns.RR, set []dns.RR) {
		*section = append(*section, set...)
		if a.dnssec && (of.security.signs() || s == Signed) {
			*section = append(*section, of.sign(set, s))
		}
	}
	if set := z.rrset(of, q.name, q.qtype); len(set) > 0 {
		sign(&a.m.Answer, set)
		return "", false
	}
	if alias := z.rrset(of, q.name, dns.TypeCNAME); len(alias) > 0 && q.qtype != dns.TypeDS {
		sign(&a.m.Answer, alias)
		return dns.CanonicalName(alias[0].(*dns.CNAME).Target), true
	}
	if dname := z.dname(of, q.name); dname != nil {
		sign(&a.m.Answer, []dns.RR{dname})
		alias := substitute(q.name, dname)
		a.m.Answer = append(a.m.Answer, alias) // never signed (RFC 6672 5.3.1)
		return dns.CanonicalName(alias.Target), q.qtype != dns.TypeCNAME && q.qtype != dns.TypeDS
	}
	if next, ok := z.wildcard(a, of, q, s); ok {
		return next, next != ""
	}
	sign(&a.m.Ns, []dns.RR{z.soa(of)})
	if !z.exists(of, q.name) && z.records[z.wildcardFor(of, q.name)] == nil {
		a.m.Rcode = dns.RcodeNameError
	}
	if q.qtype == dns.TypeDS && z.zones[q.name] != nil && z.zones[q.name].security == Undenied {
		a.stands(Undenied)
		return "", false
	}
	proof, optOut := z.denial(of, q.name)
	a.secure = a.secure && !optOut // RFC 5155 9.2
	if a.dnssec && of.security.signs() {
		for _, n := range proof {
			sign(&a.m.Ns, []dns.RR{n})
		}
	}
	return "", false
}

// dname returns the DNAME record above a name, or nil (RFC 6672 2.2). z.mu is held.
func (z *Zones) dname(of *zone, name string) *dns.DNAME {
	for name != of.name {
		off, end := dns.NextLabel(name, 0)
		if end {
			return nil
		}
		if name = name[off:]; len(z.records[name][dns.TypeDNAME]) > 0 {
			return z.records[name][dns.TypeDNAME][0].(*dns.DNAME)
		}
	}
	return nil
}

// substitute makes the alias that a DNAME stands for (RFC 6672 2.2, 3.1).
func substitute(name string, d *dns.DNAME) *dns.CNAME {
	h := dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl}
	return &dns.CNAME{Hdr: h, Target: dns.CanonicalName(name[:len(name)-len(d.Hdr.Name)] + d.Target)}
}

// keyed spares the key set: a bogus zone is one whose data do not verify, while
// its key does.
func keyed(s Security, of *zone, q question) Security {
	if q.qtype == dns.TypeDNSKEY && q.name == of.name && of.security != Unsigned && of.security != Undenied {
		return Signed
	}
	return s
}

// wildcard answers from the wildcard that stands for a name which does not exist
// (RFC 4592 3.3), and returns an alias's target. The signature is the wildcard's, with
// the proof that there is nothing closer (RFC 4035 3.1.3.3). z.mu is held.
func (z *Zones) wildcard(a *answer, of *zone, q question, s Security) (string, bool) {
	if z.exists(of, q.name) {
		return "", false
	}
	owner := z.wildcardFor(of, q.name)
	set, target := z.records[owner][q.qtype], ""
	if alias := z.records[owner][dns.TypeCNAME]; len(set) == 0 && len(alias) > 0 {
		set, target = alias, dns.CanonicalName(alias[0].(*dns.CNAME).Target)
	}
	if len(set) == 0 {
		return "", false
	}
	for _, rr := range set {
		rr = dns.Copy(rr)
		rr.Header().Name = q.name
		a.m.Answer = append(a.m.Answer, rr)
	}
	var proof []dns.RR
	switch of.denial {
	case NSEC3, OptOut:
		proof = z.closer(of, q.name)
	default:
		proof = []dns.RR{z.nsec(of, q.name)}
	}
	a.secure = a.secure && of.denial != OptOut
	if a.dnssec && of.security.signs() {
		sig := of.sign(set, s)
		sig.Header().Name = q.name
		a.m.Answer = append(a.m.Answer, sig)
		for _, n := range proof {
			a.m.Ns = append(a.m.Ns, n, of.sign([]dns.RR{n}, s))
		}
	}
	return target, true
}

// wildcardFor returns the wildcard at the closest encloser of a name (RFC 4592
// 3.3.1). z.mu is held.
func (z *Zones) wildcardFor(of *zone, name string) string {
	for !z.exists(of, name) {
		off, end := dns.NextLabel(name, 0)
		if end {
			return "*."
		}
		name = name[off:]
	}
	if name == "." {
		return "*."
	}
	return "*." + name
}

// denial returns the records that prove an absence, and whether the proof leaves room
// for what opted out. For NSEC (RFC 4035 3.1.3): the one that matches or covers the name,
// and where the name does not exist, the one of the wildcard at its closest encloser.
// z.mu is held.
func (z *Zones) denial(of *zone, name string) ([]dns.RR, bool) {
	if of.denial == NSEC3 || of.denial == OptOut {
		return z.denial3(of, name)
	}
	first := z.nsec(of, name)
	if z.exists(of, name) {
		return []dns.RR{first}, false
	}
	if second := z.nsec(of, z.wildcardFor(of, name)); second.Hdr.Name != first.Hdr.Name {
		return []dns.RR{first, second}, false
	}
	return []dns.RR{first}, false
}
