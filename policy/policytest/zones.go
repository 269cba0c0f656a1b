package policytest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

// Security is how a zone stands with DNSSEC.
type Security uint8

// The kinds of zone. The zero value is taken as Signed.
const (
	SecurityUnset Security = iota
	Signed                 // a key, a DS in the parent, good signatures
	Unsigned               // no key and no DS: insecure (RFC 4035 5.2)
	Exotic                 // a DS of an algorithm that nobody knows: insecure (RFC 4035 5.2)
	Bogus                  // a DS in the parent and signatures that do not verify
	Expired                // a DS in the parent and signatures of last year: bogus (RFC 4035 5.3.1)
	Stripped               // a DS in the parent and no signatures: bogus (RFC 4035 5)
	Undenied               // no key, and a parent that does not prove that there is no DS: bogus (RFC 4035 5.2)
)

// signs reports whether the zone's data come with signatures.
func (s Security) signs() bool { return s != Unsigned && s != Undenied && s != Stripped }

// bogus reports whether what the zone says must not be believed.
func (s Security) bogus() bool { return s >= Bogus }

// Denial is how a signed zone proves that something is not there. The zero value is
// taken as NSEC.
type Denial uint8

// The ways.
const (
	DenialUnset Denial = iota
	NSEC               // RFC 4034 4
	NSEC3              // hashed names (RFC 5155)
	OptOut             // NSEC3, and insecure delegations are left out of the chain (RFC 5155 6)
)

// Mode is the part that the server plays.
type Mode uint8

// The modes. The zero value is taken as Validating.
const (
	ModeUnset  Mode = iota
	Validating      // a validating resolver: AD for secure answers, SERVFAIL for bogus ones
	Oblivious       // a resolver that knows nothing of DNSSEC: never AD, never SERVFAIL for bogus
	Silent          // a resolver that is down: no reply to anything
	Failing         // a resolver that reaches nobody: SERVFAIL for everything
)

// Zones is the content of a private DNS and its server. The zero value is not
// usable: make one with [NewZones]. All methods are safe for concurrent use, also
// while it serves. A malformed name or record is a fault of the fixture and panics.
type Zones struct {
	mu       sync.RWMutex
	mode     Mode
	zones    map[string]*zone               // by canonical name
	records  map[string]map[uint16][]dns.RR // by canonical owner and type
	faults   map[question]*fault
	negative uint32 // seconds: SOA MINIMUM and TTL (RFC 2308 4)
	index    index

	asked   map[question]int
	changed chan struct{} // closed and replaced at each query: wakes Await

	serving serving
}

// index is the names of each zone, for the proofs of absence; nil: to be made. Who
// changes zones or records drops it.
type index struct {
	mu    sync.Mutex
	names map[string][]string
}

func (x *index) drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.names = nil
}

// question is a canonical name and a type; dns.TypeANY stands for all types.
type question struct {
	name  string
	qtype uint16
}

// NewZones returns a DNS that holds a signed root zone and nothing else.
func NewZones() *Zones {
	z := &Zones{
		mode:     Validating,
		zones:    map[string]*zone{},
		records:  map[string]map[uint16][]dns.RR{},
		faults:   map[question]*fault{},
		negative: 60,
		asked:    map[question]int{},
		changed:  make(chan struct{}),
	}
	z.zones["."] = newZone(".", Signed)
	return z
}

// SetMode changes the part that the server plays.
func (z *Zones) SetMode(m Mode) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.mode = m
}

// SetNegativeTTL sets how many seconds an absence may be cached (RFC 2308 4).
func (z *Zones) SetNegativeTTL(seconds uint32) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.negative = seconds
}

// Zone makes a zone of its own at name, or changes the security of the one that is
// there. The zones above it that are missing are made, signed.
func (z *Zones) Zone(name string, s Security) {
	n := canonical(name)
	z.mu.Lock()
	defer z.mu.Unlock()
	if have := z.zones[n]; have != nil {
		have.security = s
		return
	}
	z.makeZone(n, s)
}

// Deny sets how a zone that is there proves an absence.
func (z *Zones) Deny(name string, d Denial) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.zones[canonical(name)].denial = d
}

// makeZone makes the zone and its top-level zone. z.mu is held.
func (z *Zones) makeZone(n string, s Security) {
	z.index.drop()
	if labels := dns.SplitDomainName(n); len(labels) > 1 {
		top := dns.Fqdn(labels[len(labels)-1])
		if z.zones[top] == nil {
			z.zones[top] = newZone(top, Signed)
		}
	}
	z.zones[n] = newZone(n, s)
}

// Add adds records in master file format (RFC 1035 5.1), one each, as in
// "example.com. 300 IN MX 10 mx.example.com."; the TTL is 3600 when left out. A
// record belongs to the deepest zone above it. When that is the root or a
// top-level zone, a signed zone of the last two labels is made.
func (z *Zones) Add(lines ...string) {
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			panic(fmt.Sprintf("policytest: record %q: %v", line, err))
		}
		z.add(rr)
	}
}

func (z *Zones) add(rr dns.RR) {
	h := rr.Header()
	h.Name = canonical(h.Name)
	z.mu.Lock()
	defer z.mu.Unlock()
	if labels := dns.SplitDomainName(h.Name); len(labels) > 1 {
		if zone := z.zoneOf(h.Name); dns.CountLabel(zone.name) < 2 && z.zones[h.Name] == nil {
			z.makeZone(dns.Fqdn(strings.Join(labels[len(labels)-2:], ".")), Signed)
		}
	}
	if z.records[h.Name] == nil {
		z.records[h.Name] = map[uint16][]dns.RR{}
	}
	z.index.drop()
	set := z.records[h.Name][h.Rrtype]
	if len(set) > 0 { // RFC 2181 5.2: one TTL for an RRset
		h.Ttl = set[0].Header().Ttl
	}
	// A new slice each time: answers in flight still read the old one.
	z.records[h.Name][h.Rrtype] = append(set[:len(set):len(set)], rr)
}

// Remove takes all records of a type ("" for every type) away from name.
func (z *Zones) Remove(name, qtype string) {
	n := canonical(name)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.index.drop()
	if qtype == "" {
		delete(z.records, n)
		return
	}
	delete(z.records[n], typeOf(qtype))
	if len(z.records[n]) == 0 {
		delete(z.records, n)
	}
}

// MX adds a mail exchanger; host "." with preference 0 is a null MX (RFC 7505 3).
func (z *Zones) MX(name string, preference uint16, host string) {
	z.Add(fmt.Sprintf("%s MX %d %s", dns.Fqdn(name), preference, dns.Fqdn(host)))
}

// A adds addresses of either family: A and AAAA records.
func (z *Zones) A(name string, ips ...string) {
	for _, s := range ips {
		ip, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			panic("policytest: " + err.Error())
		case ip.Is4():
			z.Add(dns.Fqdn(name) + " A " + s)
		default: // AAAA for an IPv4-mapped address too: that is the point of writing one
			h := dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 3600}
			z.add(&dns.AAAA{Hdr: h, AAAA: net.IP(ip.AsSlice())})
		}
	}
}

// CNAME makes name an alias of target.
func (z *Zones) CNAME(name, target string) {
	z.Add(dns.Fqdn(name) + " CNAME " + dns.Fqdn(target))
}

// TXT adds one TXT record made of the given strings (RFC 1035 3.3.14).
func (z *Zones) TXT(name string, parts ...string) {
	h := dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 3600}
	txt := &dns.TXT{Hdr: h}
	for _, p := range parts { // the library reads presentation format
		txt.Txt = append(txt.Txt, strings.ReplaceAll(p, `\`, `\\`))
	}
	z.add(txt)
}

// TLSA adds TLSA records at _port._tcp.host (RFC 6698 3).
func (z *Zones) TLSA(host string, port uint16, records ...policy.TLSARecord) {
	for _, r := range records {
		z.Add(fmt.Sprintf("_%d._tcp.%s TLSA %d %d %d %x", port, dns.Fqdn(host), r.Usage, r.Selector, r.Matching, r.Data))
	}
}

// Count returns how many queries came in for name and type ("" counts every type).
func (z *Zones) Count(name, qtype string) int {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.count(canonical(name), qtype)
}

func (z *Zones) count(n, qtype string) int {
	if qtype != "" {
		return z.asked[question{n, typeOf(qtype)}]
	}
	sum := 0
	for q, c := range z.asked {
		if q.name == n {
			sum += c
		}
	}
	return sum
}

// Total returns how many queries came in altogether.
func (z *Zones) Total() int {
	z.mu.RLock()
	defer z.mu.RUnlock()
	sum := 0
	for _, c := range z.asked {
		sum += c
	}
	return sum
}

// Await returns when at least n queries came in for name and type ("" for every
// type), or with the error of ctx.
func (z *Zones) Await(ctx context.Context, name, qtype string, n int) error {
	for {
		z.mu.RLock()
		have, changed := z.count(canonical(name), qtype), z.changed
		z.mu.RUnlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d queries for %s %s: %w", have, n, name, qtype, ctx.Err())
		}
	}
}

func (z *Zones) note(q question) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked[q]++
	close(z.changed)
	z.changed = make(chan struct{})
}

func canonical(name string) string {
	n := dns.CanonicalName(name)
	if _, ok := dns.IsDomainName(n); !ok {
		panic(fmt.Sprintf("policytest: %q is no domain name", name))
	}
	return n
}

func typeOf(s string) uint16 {
	t, ok := dns.StringToType[strings.ToUpper(s)]
	if !ok {
		panic(fmt.Sprintf("policytest: DNS type %q is unknown", s))
	}
	return t
}
