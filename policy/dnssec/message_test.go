package dnssec

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

func rrs(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func replyTo(q question, rcode int, answer, authority []dns.RR) *dns.Msg {
	m := new(dns.Msg).SetReply(newQuery(q, true))
	m.Rcode, m.Answer, m.Ns, m.AuthenticatedData, m.RecursionAvailable = rcode, answer, authority, true, true
	return m
}

// How long an answer may be kept, and what the shapes of an absence mean.
func TestInterpret(t *testing.T) {
	t.Parallel()
	q := question{"d.example.", dns.TypeMX}
	soa := "example. 300 IN SOA ns. host. 1 2 3 4 60"
	cases := []struct {
		clause            string
		rcode             int
		answer, authority []string
		want              policy.Answer
		ttl               time.Duration
		open              bool
	}{
		{"RFC 2181 5.2 TTL of the RRset", dns.RcodeSuccess, []string{"d.example. 120 IN MX 1 m."}, nil, policy.Records, 2 * time.Minute, false},
		{"shortest TTL of a chain", dns.RcodeSuccess, []string{"d.example. 30 IN CNAME e.", "e. 120 IN MX 1 m."}, nil, policy.Records, 30 * time.Second, false},
		{"own: an hour at most", dns.RcodeSuccess, []string{"d.example. 999999 IN MX 1 m."}, nil, policy.Records, time.Hour, false},
		{"RFC 2181 8 TTL beyond 31 bits", dns.RcodeSuccess, []string{"d.example. 4294967295 IN MX 1 m."}, nil, policy.Records, 0, false},
		{"RFC 2308 5 SOA minimum", dns.RcodeSuccess, nil, []string{soa}, policy.NoData, time.Minute, false},
		{"RFC 2308 5 TTL of the SOA", dns.RcodeNameError, nil, []string{"example. 20 IN SOA ns. host. 1 2 3 4 60"}, policy.NoName, 20 * time.Second, false},
		{"RFC 2308 5 no SOA: not kept", dns.RcodeNameError, nil, nil, policy.NoName, 0, false},
		{"RFC 2308 2.2 no data, type 3", dns.RcodeSuccess, nil, nil, policy.NoData, 0, false},
		{"RFC 2308 2.2 no data, type 1", dns.RcodeSuccess, nil, []string{"example. 5 IN NS ns.", soa}, policy.NoData, time.Minute, false},
		{"RFC 2308 2.2 referral", dns.RcodeSuccess, nil, []string{"example. 5 IN NS ns."}, policy.Unknown, 0, false},
		{"foreign SOA proves nothing", dns.RcodeSuccess, nil, []string{"other. 300 IN SOA ns. host. 1 2 3 4 60"}, policy.NoData, 0, false},
		{"RFC 7672 2.1.3 alias alone", dns.RcodeSuccess, []string{"d.example. 30 IN CNAME e."}, nil, policy.NoData, 30 * time.Second, true},
		{"RFC 7672 2.1.3 alias, its zone says no data", dns.RcodeSuccess, []string{"d.example. 90 IN CNAME e.example."}, []string{soa}, policy.NoData, time.Minute, false},
		{"RFC 7672 2.1.3 alias, another zone's SOA", dns.RcodeSuccess, []string{"d.example. 30 IN CNAME e.other."}, []string{soa}, policy.NoData, 30 * time.Second, true},
		{"RFC 6604 3 alias to no name", dns.RcodeNameError, []string{"d.example. 30 IN CNAME e.example."}, []string{soa}, policy.NoName, 30 * time.Second, false},
		{"records of others do not count", dns.RcodeSuccess, []string{"x.example. 30 IN MX 1 m."}, []string{soa}, policy.NoData, time.Minute, false},
		{"records of another class do not count", dns.RcodeSuccess, []string{"d.example. 30 CH MX 1 m."}, []string{soa}, policy.NoData, time.Minute, false},
		{"name case does not matter", dns.RcodeSuccess, []string{"D.Example. 30 IN MX 1 m."}, nil, policy.Records, 30 * time.Second, false},
		{"NXDOMAIN with records", dns.RcodeNameError, []string{"d.example. 30 IN MX 1 m."}, nil, policy.Unknown, 0, false},
		{"RFC 2181 10.1 two aliases", dns.RcodeSuccess, []string{"d.example. 30 IN CNAME e.", "d.example. 30 IN CNAME f."}, nil, policy.Unknown, 0, false},
		{"alias to itself", dns.RcodeSuccess, []string{"d.example. 30 IN CNAME d.example."}, nil, policy.Unknown, 0, false},
		{"alias to what is no host name", dns.RcodeSuccess, []string{`d.example. 30 IN CNAME a\032b.example.`}, nil, policy.Unknown, 0, false},
		{"RFC 6891 6.1.3 BADVERS", dns.RcodeBadVers, nil, nil, policy.Unknown, 0, false},
		{"YXDOMAIN", dns.RcodeYXDomain, nil, nil, policy.Unknown, 0, false},
	}
	for _, c := range cases {
		m := replyTo(q, c.rcode, rrs(t, c.answer...), rrs(t, c.authority...))
		got := interpret(m, q, true)
		if got.Answer != c.want || got.ttl != c.ttl || got.open != c.open || got.Secure != (c.want != policy.Unknown) {
			t.Errorf("%s: %s, secure %t, ttl %s, open %t (%s); want %s, ttl %s, open %t",
				c.clause, got.Answer, got.Secure, got.ttl, got.open, got.Problem, c.want, c.ttl, c.open)
		}
		if interpret(m, q, false).Secure {
			t.Errorf("%s: secure by the word of a stranger", c.clause)
		}
		if m.AuthenticatedData = false; interpret(m, q, true).Secure {
			t.Errorf("%s: secure without AD", c.clause)
		}
	}
}

// What a reply says beside its records.
func TestInterpretFlags(t *testing.T) {
	t.Parallel()
	q := question{"d.example.", dns.TypeMX}
	soa := "example. 300 IN SOA ns. host. 1 2 3 4 60"
	mx := "d.example. 120 IN MX 1 m."
	ede := func(code uint16, text string) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.AuthenticatedData = false
			m.SetEdns0(1232, true)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
		}
	}
	cases := []struct {
		clause            string
		rcode             int
		answer, authority []string
		set               func(*dns.Msg)
		want              policy.Answer
		problem           string
	}{
		{"RFC 2308 2.2 an empty reply of who did not look", dns.RcodeSuccess, nil, nil, func(m *dns.Msg) { m.RecursionAvailable = false }, policy.Unknown, "no recursion"},
		{"RFC 2308 2.2 an empty reply of the authority", dns.RcodeSuccess, nil, nil, func(m *dns.Msg) { m.RecursionAvailable, m.Authoritative = false, true }, policy.NoData, ""},
		{"RFC 7672 2.1.1 indeterminate records", dns.RcodeSuccess, []string{mx}, nil, ede(dns.ExtendedErrorCodeDNSSECIndeterminate, ""), policy.Unknown, "indeterminate"},
		{"RFC 7672 2.1.1 indeterminate absence", dns.RcodeNameError, nil, []string{soa}, ede(dns.ExtendedErrorCodeDNSSECIndeterminate, ""), policy.Unknown, "DNSSEC Indeterminate"},
		{"own: stale no data", dns.RcodeSuccess, nil, []string{soa}, ede(dns.ExtendedErrorCodeStaleAnswer, ""), policy.Unknown, "expired absence"},
		{"own: stale no name", dns.RcodeNameError, nil, []string{soa}, ede(dns.ExtendedErrorCodeStaleNXDOMAINAnswer, ""), policy.Unknown, "expired absence"},
		{"RFC 8767 4 stale records", dns.RcodeSuccess, []string{mx}, nil, ede(dns.ExtendedErrorCodeStaleAnswer, ""), policy.Records, ""},
		{"RFC 8914 2 an extended error beside an answer is a remark", dns.RcodeSuccess, []string{mx}, nil, ede(dns.ExtendedErrorCodeOther, "hello"), policy.Records, ""},
		{"RFC 8914 2 code and text", dns.RcodeServerFailure, nil, nil, ede(dns.ExtendedErrorCodeSignatureExpired, "since noon"), policy.Unknown, "SERVFAIL for d.example. MX (Signature Expired: since noon)"},
		{"RFC 8914 2 a code that is not known", dns.RcodeServerFailure, nil, nil, ede(4711, ""), policy.Unknown, "(extended error 4711)"},
		{"RFC 8914 2 text with control characters", dns.RcodeRefused, nil, nil, ede(dns.ExtendedErrorCodeProhibited, "a\r\nb\x00\u00fc"), policy.Unknown, "(Prohibited: ab)"},
	}
	for _, c := range cases {
		m := replyTo(q, c.rcode, rrs(t, c.answer...), rrs(t, c.authority...))
		c.set(m)
		got := interpret(m, q, true)
		if got.Answer != c.want || !strings.Contains(got.Problem, c.problem) || (got.Answer != policy.Unknown) != (got.Problem == "") {
			t.Errorf("%s: %s (%s); want %s (%s)", c.clause, got.Answer, got.Problem, c.want, c.problem)
		}
	}
	m := replyTo(q, dns.RcodeServerFailure, nil, nil)
	ede(dns.ExtendedErrorCodeOther, strings.Repeat("x", 4000))(m)
	if got := interpret(m, q, true); len(got.Problem) > 250 {
		t.Errorf("a problem of %d octets", len(got.Problem))
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	q := question{"d.example.", dns.TypeMX}
	cases := []struct {
		name string
		set  func(*dns.Msg)
		ok   bool
	}{
		{"as asked", func(*dns.Msg) {}, true},
		{"RFC 4343 3 case", func(m *dns.Msg) { m.Question[0].Name = "D.eXample." }, true},
		{"another id", func(m *dns.Msg) { m.Id++ }, false},
		{"a query", func(m *dns.Msg) { m.Response = false }, false},
		{"another opcode", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, false},
		{"another name", func(m *dns.Msg) { m.Question[0].Name = "e.example." }, false},
		{"another type", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }, false},
		{"another class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, false},
		{"no question", func(m *dns.Msg) { m.Question = nil }, false},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, false},
		{"no question in an error", func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeFormatError }, true},
		{"no question in an absence", func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeNameError }, false},
	}
	for _, c := range cases {
		m := replyTo(q, dns.RcodeSuccess, nil, nil)
		id := m.Id
		c.set(m)
		if err := matches(m, q, id); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What our queries carry (RFC 6840 5.7, RFC 6891 6.2.3, RFC 4035 3.2.2).
func TestQuery(t *testing.T) {
	t.Parallel()
	m := newQuery(question{"d.example.", dns.TypeMX}, true)
	opt := m.IsEdns0()
	if !m.RecursionDesired || !m.AuthenticatedData || m.CheckingDisabled || opt == nil || !opt.Do() || opt.UDPSize() != 1232 {
		t.Errorf("%v", m)
	}
	ids := map[uint16]bool{}
	for range 64 {
		ids[newQuery(question{".", dns.TypeA}, true).Id] = true
	}
	if len(ids) < 60 {
		t.Errorf("RFC 5452 9.2: %d ids in 64 queries", len(ids))
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`plain`: "plain", `a\\b`: `a\b`, `\"x\"`: `"x"`, `\000\255`: "\x00\xff", `\`: `\`, `x\12`: "x12", `\999`: "999",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Whatever comes over the wire ends in a legal lookup.
func FuzzReply(f *testing.F) {
	q := question{"d.example.", dns.TypeMX}
	seed := func(rcode int, answer, authority []dns.RR) {
		raw, err := replyTo(q, rcode, answer, authority).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	seed(dns.RcodeSuccess, rrs(f, "d.example. 5 IN MX 10 m.example.", "d.example. 5 IN MX 0 ."), nil)
	seed(dns.RcodeSuccess, rrs(f, "d.example. 5 IN CNAME e.example.", "e.example. 5 IN MX 10 m.example."), nil)
	seed(dns.RcodeSuccess, rrs(f, "d.example. 5 IN CNAME e.example.", "e.example. 5 IN CNAME d.example."), nil)
	seed(dns.RcodeNameError, nil, rrs(f, "example. 300 IN SOA ns. host. 1 2 3 4 60"))
	seed(dns.RcodeServerFailure, nil, nil)
	bogus := replyTo(q, dns.RcodeServerFailure, nil, nil)
	bogus.SetEdns0(1232, true)
	bogus.IsEdns0().Option = append(bogus.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus, ExtraText: "no\nway"})
	if raw, err := bogus.Pack(); err != nil {
		f.Fatal(err)
	} else {
		f.Add(raw)
	}
	f.Add([]byte("\x00\x00\x81\x80\x00\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return
		}
		id := binary.BigEndian.Uint16(raw)
		if matches(m, q, id) != nil {
			return
		}
		for _, trusted := range []bool{true, false} {
			p := interpret(m, q, trusted)
			fault := ""
			switch {
			case p.Answer == policy.Unknown && (p.Secure || len(p.records) > 0 || p.Problem == "" || p.open):
				fault = "unknown with something"
			case p.Answer != policy.Unknown && p.Problem != "":
				fault = "a problem with an answer"
			case (p.Answer == policy.Records) != (len(p.records) > 0):
				fault = "records or not"
			case p.Secure && (!trusted || !m.AuthenticatedData):
				fault = "secure without a reason"
			case p.ttl < 0 || p.ttl > maxTTL || len(p.chain) > MaxChain:
				fault = "out of bounds"
			case p.Answer != policy.Unknown && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
				fault = "an error taken for an answer"
			case strings.ContainsFunc(p.Problem, func(r rune) bool { return r < ' ' || r > '~' }):
				fault = "a problem that is no line of text"
			case p.outcome == "":
				fault = "no outcome"
			}
			if fault != "" {
				t.Fatalf("%s: %s\n%v", fault, fmt.Sprintf("%+v", p), m)
			}
		}
	})
}
