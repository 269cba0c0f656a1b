package dnssec

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

// maxTTL bounds how long anything is kept (own; RFC 2308 5 finds one to three hours
// to work well for absences).
const maxTTL = time.Hour

// newQuery makes the query for a question. DO and AD both say that we understand the
// AD bit (RFC 6840 5.7), and DO lets an intermediate cache learn the signatures. 1232
// octets pass every path without fragments. CD stays 0: we want the resolver's check.
func newQuery(q question, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id() // from crypto/rand: RFC 5452 9.2
	m.RecursionDesired = true
	m.AuthenticatedData = true
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}
	if edns {
		m.SetEdns0(1232, true)
	}
	return m
}

// matches reports whether a reply is one to our query (RFC 5452 9.1): id and
// question, and it is a reply at all.
func matches(m *dns.Msg, q question, id uint16) error {
	switch {
	case m.Id != id:
		return fmt.Errorf("reply with another id")
	case !m.Response || m.Opcode != dns.OpcodeQuery:
		return fmt.Errorf("reply that is none")
	case len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil // some servers leave the question out of errors
	case len(m.Question) != 1,
		dns.CanonicalName(m.Question[0].Name) != q.name,
		m.Question[0].Qtype != q.qtype,
		m.Question[0].Qclass != dns.ClassINET:
		return fmt.Errorf("reply to another question")
	}
	return nil
}

// partial is what one reply says. When open is set, the chain's last name is still
// to be asked.
type partial struct {
	answer
	open    bool
	outcome string // as in Outcomes
}

func failed(outcome, problem string) partial {
	return partial{answer: unknown(problem), outcome: outcome}
}

// interpret says what a reply to our question means. secure tells whether the AD
// bit of this server may be believed.
func interpret(m *dns.Msg, q question, trusted bool) partial {
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure: // what bogus answers come as, too (RFC 4035 5.5)
		return failed("servfail", "SERVFAIL for "+q.String()+extended(m))
	case dns.RcodeRefused:
		return failed("refused", "REFUSED for "+q.String()+extended(m))
	default:
		return failed("error", rcodeName(m.Rcode)+" for "+q.String()+extended(m))
	}
	p := partial{answer: answer{ttl: maxTTL}}
	p.Secure = trusted && m.AuthenticatedData
	// RFC 7672 2.1.1, MUST: a signalled "indeterminate" (RFC 8914 4.6) is a lookup error.
	if trusted && !p.Secure && says(m, dns.ExtendedErrorCodeDNSSECIndeterminate) {
		return failed("error", "indeterminate answer for "+q.String()+extended(m))
	}
	name, err := p.chase(m.Answer, q)
	if err != nil {
		return failed("malformed", err.Error())
	}
	if len(p.records) > 0 {
		if m.Rcode != dns.RcodeSuccess {
			return failed("malformed", "NXDOMAIN with an answer for "+q.String())
		}
		p.Answer, p.outcome = policy.Records, "records"
		return p
	}
	return p.absent(m, q, name)
}

// chase follows the aliases in the answer section from the name asked for, and
// takes the records at the end. It returns the last name.
func (p *partial) chase(section []dns.RR, q question) (string, error) {
	name := q.name
	for {
		var alias *dns.CNAME
		for _, rr := range section {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
				continue
			}
			switch c, isAlias := rr.(*dns.CNAME); {
			case h.Rrtype == q.qtype:
				p.records = append(p.records, rr)
				p.keep(h.Ttl)
			case !isAlias:
			case alias != nil && dns.CanonicalName(alias.Target) != dns.CanonicalName(c.Target): // RFC 2181 10.1
				return "", fmt.Errorf("two aliases at %s", name)
			default:
				alias = c
			}
		}
		if alias == nil || len(p.records) > 0 {
			return name, nil
		}
		p.keep(alias.Hdr.Ttl)
		target, err := policy.ParseDomain(alias.Target)
		if err != nil {
			return "", fmt.Errorf("alias of %s: %w", name, err)
		}
		if p.chain = append(p.chain, target); len(p.chain) > MaxChain {
			return "", fmt.Errorf("alias loop, or a chain of more than %d links, at %s", MaxChain, q.name)
		}
		name = dns.CanonicalName(alias.Target)
	}
}

// absent tells no data, no such name, an alias chain that is not complete, and a
// referral apart (RFC 2308 2.1 and 2.2).
func (p partial) absent(m *dns.Msg, q question, name string) partial {
	var soa *dns.SOA
	referral := false
	for _, rr := range m.Ns {
		switch rr := rr.(type) {
		case *dns.SOA:
			if dns.IsSubDomain(rr.Hdr.Name, name) {
				soa = rr
			}
		case *dns.NS:
			referral = true
		}
	}
	switch {
	// Own: an absence that has expired (RFC 8767, RFC 8914 4.4 and 4.20) would be "no TLSA"
	// for as long as somebody keeps the true answer away.
	case says(m, dns.ExtendedErrorCodeStaleAnswer) || says(m, dns.ExtendedErrorCodeStaleNXDOMAINAnswer):
		return failed("error", "expired absence of "+q.String()+extended(m))
	case m.Rcode == dns.RcodeNameError: // of the last name: RFC 6604 3
		p.Answer, p.outcome = policy.NoName, "no-name"
	case len(p.chain) > 0 && soa == nil:
		p.Answer, p.outcome, p.open = policy.NoData, "records", true
		return p
	case soa == nil && referral, // RFC 2308 2.2: no SOA and NS records is no absence
		soa == nil && !m.RecursionAvailable && !m.Authoritative: // nobody has looked
		return failed("malformed", "the resolver refers us to others for "+q.String()+": it does no recursion")
	default:
		p.Answer, p.outcome = policy.NoData, "no-data"
	}
	if soa == nil { // RFC 2308 5: not to be cached
		p.ttl = 0
		return p
	}
	p.keep(min(soa.Hdr.Ttl, soa.Minttl)) // RFC 2308 5
	return p
}

// keep lowers how long the answer may be kept.
func (p *partial) keep(ttl uint32) {
	if ttl > 1<<31-1 { // RFC 2181 8: as if it were zero
		ttl = 0
	}
	p.ttl = min(p.ttl, time.Duration(ttl)*time.Second)
}

// extended returns the server's extended errors (RFC 8914 2) for an operator: what the
// code means, and the text behind it.
func extended(m *dns.Msg) string {
	var words []string
	for e := range extendedErrors(m) {
		text, known := dns.ExtendedErrorCodeToString[e.InfoCode]
		if !known {
			text = fmt.Sprintf("extended error %d", e.InfoCode)
		}
		if extra := plain(e.ExtraText); extra != "" {
			text += ": " + extra
		}
		if words = append(words, text); len(words) == 3 {
			break
		}
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// says reports whether a reply has an extended error.
func says(m *dns.Msg, code uint16) bool {
	for e := range extendedErrors(m) {
		if e.InfoCode == code {
			return true
		}
	}
	return false
}

func extendedErrors(m *dns.Msg) iter.Seq[*dns.EDNS0_EDE] {
	return func(yield func(*dns.EDNS0_EDE) bool) {
		opt := m.IsEdns0()
		if opt == nil {
			return
		}
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && !yield(e) {
				return
			}
		}
	}
}

// maxExtraText bounds what is repeated of a resolver's free text (RFC 8914 2: to be read
// by people; it may come from farther up).
const maxExtraText = 160

// plain makes one short line of printable ASCII.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), maxExtraText)])
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("reply code %d", rcode)
}
