package policy

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// This file is the prover's list of what a remote party can do: how its mail host behaves
// (hostKind), and what its DNS and web server say, or fail to say (domainKind). What a
// domain promises by it stands beside it, as policy.md has it and not as Decide computes it.

// hostKind is one way for a mail host to behave.
type hostKind struct {
	says    string          // behind "whose host"
	fails   map[Rung]Reason // why no session stands on a rung
	all     Reason          // the same for every TLS rung
	secured bool            // the handshake stood when all came
	version map[Rung]uint16 // of TLS; left out: TLS 1.3, and TLS 1.1 on the legacy rung
	suite   uint16          // 0: a good one
	webpki  Reason          // what is wrong with the certificate's chain or name
	tlsa    bool            // it is what its TLSA records say
	keyword bool            // REQUIRETLS stands in the EHLO after TLS
	after   Reason          // what comes of the transaction
	paired  bool            // it is played beside another host, too
	best    Level           // of what the host can do, where that is below encrypted
}

// hostKinds lists them, the commonest first: the first that breaks a rule is its example.
func hostKinds() []hostKind {
	failing := func(says string, r Reason) hostKind { return hostKind{says: says, all: r} }
	paired := func(k hostKind) hostKind { k.paired = true; return k }
	return []hostKind{
		paired(failing("offers no STARTTLS", STARTTLSMissing)),
		{paired: true, says: "speaks TLS 1.1 at most", best: Legacy, fails: map[Rung]Reason{Modern: HandshakeVersion, Classical: HandshakeVersion}},
		{paired: true, says: "sends a certificate that nobody vouches for", webpki: CertificateUntrusted, keyword: true},
		paired(failing("answers STARTTLS with 454", STARTTLSTemporary)),
		failing("refuses STARTTLS with a 5xx reply", STARTTLSRefused),
		paired(failing("breaks every handshake off with an alert", HandshakeAlert)),
		failing("has no TLS version in common with us", HandshakeVersion),
		failing("closes the connection in every handshake", HandshakeEOF),
		failing("stalls in every handshake", HandshakeStall),
		failing("sends a certificate that cannot be read", HandshakeCertificate),
		failing("injects octets behind STARTTLS", BytesInjected),
		paired(failing("refuses the connection", ConnectRefused)),
		{paired: true, says: "loses the connection behind the handshake", all: ConnectionLost, secured: true},
		{says: "has weak TLS suites only", best: Legacy, suite: tls.TLS_RSA_WITH_AES_128_CBC_SHA,
			fails: map[Rung]Reason{Modern: HandshakeVersion, Classical: HandshakeVersion}, version: map[Rung]uint16{LegacyTLS: tls.VersionTLS12}},
		{says: "sends an expired certificate", webpki: CertificateExpired, keyword: true},
		{says: "sends a certificate for another name", webpki: CertificateMismatch, keyword: true},
		{paired: true, says: "sends a good certificate that its TLSA records do not have", keyword: true},
		{says: "sends a self-signed certificate that its TLSA records have", webpki: CertificateUntrusted, tlsa: true, keyword: true},
		{says: "has TLS 1.2 at most, and all else right", tlsa: true, keyword: true, version: map[Rung]uint16{Modern: tls.VersionTLS12, Classical: tls.VersionTLS12}},
		{says: "chokes on a large ClientHello, and does all else right", tlsa: true, keyword: true, fails: map[Rung]Reason{Modern: HandshakeEOF}},
		{says: "offers STARTTLS at the first connection only", fails: map[Rung]Reason{
			Modern: HandshakeEOF, Classical: STARTTLSMissing, LegacyTLS: STARTTLSMissing}},
		{paired: true, says: "defers the transaction", tlsa: true, keyword: true, after: ReplyTemporary},
		{says: "has all but the REQUIRETLS keyword", tlsa: true},
		perfectHost(),
	}
}

func perfectHost() hostKind {
	return hostKind{paired: true, says: "does everything right", tlsa: true, keyword: true}
}

// open is what a session with the host on a rung comes to.
func (k *hostKind) open(s Step) (e Evidence, secured bool, f *Failure) {
	why := k.fails[s.Rung]
	if why == ReasonUnset && s.Rung != Clear {
		why, secured = k.all, k.secured
	}
	switch {
	case k.all == ConnectRefused:
		return e, false, &Failure{Reason: k.all, Host: s.Target.Host}
	case why != ReasonUnset:
		return e, secured, &Failure{Reason: why, Host: s.Target.Host}
	case s.Rung == Clear:
		return InClear(s), false, nil
	}
	e = Evidence{Rung: s.Rung, Route: s.Target.Route, Version: k.version[s.Rung], Suite: k.suite, RequireTLS: k.keyword}
	switch {
	case e.Version != 0:
	case s.Rung == LegacyTLS:
		e.Version = tls.VersionTLS11
	default:
		e.Version = tls.VersionTLS13
	}
	if e.Suite == 0 {
		e.Suite = tls.TLS_AES_128_GCM_SHA256
	}
	if e.Peer = PeerWebPKI; k.webpki != ReasonUnset {
		e.Peer, e.WebPKI = PeerNone, &Failure{Reason: k.webpki, Host: s.Target.Host}
	}
	switch {
	case len(s.Target.TLSA) == 0:
	case k.tlsa:
		e.Peer |= PeerTLSA
	default:
		e.TLSA = &Failure{Reason: TLSAMismatch, Host: s.Target.Host}
	}
	return e, false, nil
}

// domainKind is one thing for DNS, the policy host and our memory to say of a domain.
type domainKind struct {
	says     string // in brackets behind the domain
	change   func(f *Facts, r *Rule)
	promises []pledge
}

// pledge is what a host of the domain must be good for.
type pledge struct {
	by       Promise // that an override may set aside; 0: none can
	level    Level
	tlsa     bool // by TLSA and nothing else (RFC 7672 2.2.1, RFC 8461 2)
	never    bool // not used at all
	decides  bool // what stands behind it has no say (RFC 8461 2)
	insecure bool // it holds by insecure_mx_dane only
	hold     bool // it is our memory's, for as long as the rule's hold
}

func domainKinds() []domainKind {
	dane := pledge{by: PromiseDANE, level: DANE, tlsa: true, decides: true}
	unproven := pledge{by: PromiseDANE, level: Verified, tlsa: true, decides: true}
	unknown := pledge{by: PromiseDANE, never: true, decides: true}
	unusable := pledge{by: PromiseDANE, level: Encrypted}
	enforced := pledge{by: PromiseMTASTS, level: MTASTS}
	hold := pledge{level: Encrypted, hold: true}
	insecure := unproven
	insecure.insecure = true
	return []domainKind{
		{"", nil, nil},
		{"signed, without TLSA records", signed, nil},
		{"with TLSA records", func(f *Facts, _ *Rule) { signed(f, nil); records(f, 32) }, []pledge{dane}},
		{"with an MTA-STS policy in enforce mode", func(f *Facts, _ *Rule) { listed(f, STSEnforce) }, []pledge{enforced}},
		{"with TLSA records behind an unsigned MX record", func(f *Facts, _ *Rule) { records(f, 32) }, []pledge{insecure}},
		{"with TLSA records of which none is usable", func(f *Facts, _ *Rule) { signed(f, nil); records(f, 7) }, []pledge{unusable}},
		{"whose TLSA records cannot be looked up", func(f *Facts, _ *Rule) { signed(f, nil); lost(f) }, []pledge{unknown}},
		{"with an MTA-STS policy in testing mode", func(f *Facts, _ *Rule) { listed(f, STSTesting) }, nil},
		{"with an MTA-STS policy in testing mode for another host", func(f *Facts, _ *Rule) { others(f, STSTesting) }, nil},
		{"with an MTA-STS policy of mode none", func(f *Facts, _ *Rule) { listed(f, STSNone) }, nil},
		{"with an MTA-STS policy in enforce mode for another host", func(f *Facts, _ *Rule) { others(f, STSEnforce) },
			[]pledge{{by: PromiseMTASTS, never: true}}},
		{"whose MTA-STS policy cannot be fetched", func(f *Facts, _ *Rule) { f.STS = STS{Failure: STSFetchFailed} }, nil},
		{"whose MTA-STS policy is invalid", func(f *Facts, _ *Rule) { f.STS = STS{Failure: STSInvalid} }, nil},
		{"whose MTA-STS record cannot be looked up", func(f *Facts, _ *Rule) { f.STS.Record = Lookup{Problem: "SERVFAIL"} }, nil},
		{"whose MTA-STS policy has expired", func(f *Facts, _ *Rule) { listed(f, STSEnforce); f.STS.Expires = f.At }, nil},
		{"with TLSA records and an MTA-STS policy in enforce mode", func(f *Facts, _ *Rule) {
			signed(f, nil)
			records(f, 32)
			listed(f, STSEnforce)
		}, []pledge{dane, enforced}},
		{"with unusable TLSA records and an MTA-STS policy in enforce mode", func(f *Facts, _ *Rule) {
			signed(f, nil)
			records(f, 7)
			listed(f, STSEnforce)
		}, []pledge{unusable, enforced}},
		{"whose TLSA records cannot be looked up, with an MTA-STS policy in enforce mode", func(f *Facts, _ *Rule) {
			signed(f, nil)
			lost(f)
			listed(f, STSEnforce)
		}, []pledge{unknown, enforced}},
		{"with TLSA records, while DNSSEC cannot be checked", func(f *Facts, _ *Rule) { signed(f, nil); records(f, 32); f.DNSSEC = false }, []pledge{unproven}},
		{"known for DANE, while DNSSEC cannot be checked", func(f *Facts, _ *Rule) {
			f.DNSSEC = false
			remembered(f, Memory{Best: DANE, BestAt: f.At, LastSeen: f.At, Last: DANE})
		}, []pledge{unknown}},
		{"whose host was good for TLS before", func(f *Facts, _ *Rule) { remembered(f, good(f)) }, []pledge{hold}},
		{"whose host was good for TLS until lately", func(f *Facts, _ *Rule) {
			m := good(f)
			m.WeakSince, m.WeakAt, m.Last = f.At, f.At, Plaintext
			remembered(f, m)
		}, []pledge{hold}},
		{"whose host was good for TLS, and has been worse for longer than the hold", func(f *Facts, r *Rule) {
			m := good(f)
			m.WeakSince, m.WeakAt, m.ClassicalUntil = f.At.Add(-r.Hold), f.At, f.At.Add(time.Hour)
			remembered(f, m)
		}, nil},
		{"without MX records, with TLSA records", func(f *Facts, _ *Rule) { f.Implicit = true; records(f, 32) }, []pledge{dane}},
		{"by a configured relay", func(f *Facts, _ *Rule) { f.Operator = true }, nil},
	}
}

func signed(f *Facts, _ *Rule) { f.MX.Secure = true }

// records gives every host a TLSA record, which is usable when its digest has 32 octets.
func records(f *Facts, octets int) {
	for i := range f.Hosts {
		f.Hosts[i].TLSA = TLSAFacts{Asked: true, Lookup: Lookup{Answer: Records, Secure: true}, Base: f.Hosts[i].Name,
			Records: []TLSARecord{{Usage: usageEE, Selector: selectorSPKI, Matching: matchingSHA2, Data: make([]byte, octets)}}}
	}
}

func lost(f *Facts) {
	for i := range f.Hosts {
		f.Hosts[i].TLSA = TLSAFacts{Asked: true, Lookup: Lookup{Problem: "SERVFAIL"}}
	}
}

func listed(f *Facts, mode STSMode) {
	f.STS = STS{Mode: mode, Expires: f.At.Add(time.Hour)}
	for i := range f.Hosts {
		f.STS.MX = append(f.STS.MX, string(f.Hosts[i].Name))
	}
}

func others(f *Facts, mode STSMode) {
	f.STS = STS{Mode: mode, MX: []string{"another.invalid"}, Expires: f.At.Add(time.Hour)}
}

func good(f *Facts) Memory {
	return Memory{Best: Verified, BestAt: f.At, Last: Encrypted, LastSeen: f.At, Good: memoryGood, GoodAt: f.At, GoodBefore: [memoryGood - 1]time.Time{f.At, f.At}}
}

func remembered(f *Facts, m Memory) {
	for i := range f.Hosts {
		f.Hosts[i].V4.Memory = m
	}
}

// domainFacts are those of a domain with some hosts about which nothing is known, at one
// preference or at several.
func domainFacts(domain Domain, now time.Time, equal bool, hosts ...Domain) Facts {
	f := Facts{Domain: domain, Expanded: domain, MX: Lookup{Answer: Records}, DNSSEC: true, At: now}
	for i, name := range hosts {
		h := Host{Name: name, Preference: 10, Port: 25,
			V4: Addresses{Lookup: Lookup{Answer: Records}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}},
			V6: Addresses{Lookup: Lookup{Answer: NoData}}}
		if !equal {
			h.Preference += uint16(i)
		}
		f.Hosts = append(f.Hosts, h)
	}
	return f
}
