package policy

// Reason is why something did not happen. It is ONE table (reasons below): English,
// enhanced status code, RFC 8460 result type, label, whether it may lower a rung,
// and whether it is permanent.
type Reason uint8

// The reasons.
const (
	ReasonUnset Reason = iota

	// Facts: what DNS said about the domain and its hosts.
	DNSUnknown     // SERVFAIL, timeout, bogus: we do not know (RFC 7672 2.1.1)
	DomainNotFound // the domain does not exist
	NullMX         // the domain accepts no mail (RFC 7505)
	NoAddress      // no MX host has a usable address
	LoopsToSelf    // only we ourselves are left in the MX list (RFC 5321 5.1)
	AddressRefused // private, loopback or own address
	ResolverOutage // the resolver itself is down
	TLSAUnknown    // the TLSA lookup failed: the host is not used now (RFC 7672 2.1.2)
	STSFetchFailed // MTA-STS policy could not be fetched
	STSInvalid     // MTA-STS policy invalid
	STSWebPKI      // MTA-STS policy host without a good certificate (RFC 8461 3.3)
	STSMismatch    // the MX name matches no pattern of the policy (RFC 8461 4.1)
	STSMissing     // the floor wants MTA-STS, the domain has no policy in enforce mode
	DNSSECMissing  // the floor wants DNSSEC, the answer is insecure
	// DNSSECUnavailable: the resolver does not vouch for anything now, and the host is known for DANE.
	DNSSECUnavailable
	TLSAUnusable    // no usable TLSA record where the floor wants one
	FallbackNotYet  // the rule's fallback step is not due
	HeldAfterChange // downgrade hold

	// Connection trouble: never lowers a rung.
	ConnectRefused
	ConnectTimeout
	ConnectUnreachable
	ConnectionLost // after the connection stood, before the final dot
	ReplyTimeout
	GreetingTemporary
	GreetingPermanent
	EHLOTemporary
	EHLOPermanent
	ProtocolError // replies that are no SMTP, too long, too many
	BytesInjected // clear-text bytes behind the 220 of STARTTLS
	HostThrottled // the host, or its provider, limits us: it is not asked before its time

	// TLS trouble: may lower a rung.
	STARTTLSMissing
	STARTTLSTemporary // 454 or another 4xx
	STARTTLSRefused   // 5xx
	HandshakeAlert
	HandshakeVersion // no common version or suite: the classical rung cannot help
	HandshakeEOF
	HandshakeStall
	HandshakeCertificate // the certificate cannot even be parsed
	CertificateExpired
	CertificateMismatch
	CertificateUntrusted
	TLSAMismatch
	BelowFloor // the level reached is below the floor
	RequireTLSMissing
	RouteUnproven

	// The transaction.
	ReplyTemporary
	ReplyPermanent
	Uncertain          // connection lost after the final dot: the host may have it
	UTF8Unsupported    // RFC 6531 3.2
	EightBitRefused    // RFC 6152 3: 8-bit content, host without 8BITMIME
	TooLarge           // RFC 1870 6.1: SIZE of the host
	Expired            // its time is over
	Interrupted        // we are stopping
	Internal           // our own fault: always temporary
	TransactionRefused // MAIL or DATA refused for all recipients

	reasonCount
)

type reasonRow struct {
	label     string // metric label, log word, JSON word
	english   string
	status    string // enhanced status code (RFC 3463), digit of the class included
	report    string // RFC 8460 4.3 result type, or ""
	mayLower  bool   // policy: the walk, rule 4
	permanent bool
}

// reasons is the one table; the index is the Reason. Nothing writes it.
var reasons = [reasonCount]reasonRow{
	ReasonUnset:       {"unset", "no reason given", "4.0.0", "", false, false},
	DNSUnknown:        {"dns-unknown", "DNS did not answer, or the answer cannot be trusted", "4.4.3", "", false, false},
	DomainNotFound:    {"domain-not-found", "the recipient's domain does not exist", "5.1.2", "", false, true},
	NullMX:            {"null-mx", "the recipient's domain accepts no mail (null MX)", "5.1.10", "", false, true},
	NoAddress:         {"no-address", "no mail exchanger of the domain has a usable address", "5.4.4", "", false, true},
	LoopsToSelf:       {"loops-to-self", "the domain's mail exchangers lead back to this relay", "5.3.5", "", false, true},
	AddressRefused:    {"address-refused", "the mail exchangers have private or loopback addresses only", "5.4.4", "", false, true},
	ResolverOutage:    {"resolver-outage", "the DNS resolver is down", "4.4.3", "", false, false},
	TLSAUnknown:       {"tlsa-unknown", "the TLSA lookup failed, so the host is not used now", "4.7.5", "dnssec-invalid", false, false},
	STSFetchFailed:    {"sts-fetch-failed", "the MTA-STS policy could not be fetched", "4.7.5", "sts-policy-fetch-error", false, false},
	STSInvalid:        {"sts-invalid", "the MTA-STS policy is invalid", "4.7.5", "sts-policy-invalid", false, false},
	STSWebPKI:         {"sts-webpki", "the host of the MTA-STS policy has no good certificate", "4.7.5", "sts-webpki-invalid", false, false},
	STSMismatch:       {"sts-mismatch", "the host is not in the domain's MTA-STS policy", "4.7.5", "validation-failure", false, false},
	STSMissing:        {"sts-missing", "the floor wants MTA-STS, and the domain has no policy in enforce mode", "4.7.5", "", false, false},
	DNSSECMissing:     {"dnssec-missing", "the floor wants DNSSEC, which the domain does not have", "4.7.5", "dane-required", false, false},
	DNSSECUnavailable: {"dnssec-unavailable", "DNSSEC cannot be checked now, and the host is known for DANE", "4.7.5", "dnssec-invalid", false, false},
	TLSAUnusable:      {"tlsa-unusable", "the floor wants DANE, and the host has no usable TLSA record", "4.7.5", "tlsa-invalid", false, false},
	FallbackNotYet:    {"fallback-not-yet", "a weaker protection is allowed only later by the rule", "4.7.5", "", false, false},
	HeldAfterChange:   {"held-after-change", "the host was better protected before: waiting before a weaker delivery", "4.7.5", "", false, false},

	ConnectRefused:     {"connect-refused", "the host refused the connection", "4.4.1", "", false, false},
	ConnectTimeout:     {"connect-timeout", "the host did not answer in time", "4.4.1", "", false, false},
	ConnectUnreachable: {"connect-unreachable", "the host cannot be reached from here", "4.4.1", "", false, false},
	ConnectionLost:     {"connection-lost", "the connection was lost", "4.4.2", "", false, false},
	ReplyTimeout:       {"reply-timeout", "the host did not reply in time", "4.4.2", "", false, false},
	GreetingTemporary:  {"greeting-temporary", "the host is not ready for mail now", "4.3.2", "", false, false},
	GreetingPermanent:  {"greeting-permanent", "the host refuses to speak with us", "5.3.2", "", false, true},
	EHLOTemporary:      {"ehlo-temporary", "the host did not accept our EHLO for now", "4.3.2", "", false, false},
	EHLOPermanent:      {"ehlo-permanent", "the host refused our EHLO", "5.3.2", "", false, true},
	ProtocolError:      {"protocol-error", "the host's replies are not SMTP", "4.5.0", "", false, false},
	BytesInjected:      {"bytes-injected", "bytes in clear were injected behind STARTTLS", "4.7.5", "validation-failure", false, false},
	HostThrottled:      {"host-throttled", "the host takes only so much of us at a time, and it is not its turn yet", "4.4.5", "", false, false},

	STARTTLSMissing:      {"starttls-missing", "the host does not offer STARTTLS", "4.7.4", "starttls-not-supported", true, false},
	STARTTLSTemporary:    {"starttls-temporary", "the host cannot do STARTTLS now", "4.7.4", "starttls-not-supported", true, false},
	STARTTLSRefused:      {"starttls-refused", "the host offers STARTTLS and refuses it", "4.7.4", "starttls-not-supported", true, false},
	HandshakeAlert:       {"handshake-alert", "the TLS handshake failed with an alert", "4.7.5", "validation-failure", true, false},
	HandshakeVersion:     {"handshake-version", "the host has no TLS version or suite in common with us", "4.7.5", "validation-failure", true, false},
	HandshakeEOF:         {"handshake-eof", "the host closed the connection during the TLS handshake", "4.7.5", "validation-failure", true, false},
	HandshakeStall:       {"handshake-stall", "the TLS handshake stalled", "4.7.5", "validation-failure", true, false},
	HandshakeCertificate: {"handshake-certificate", "the host's certificate cannot be read", "4.7.5", "validation-failure", true, false},
	CertificateExpired:   {"certificate-expired", "the host's certificate has expired", "4.7.5", "certificate-expired", true, false},
	CertificateMismatch:  {"certificate-mismatch", "the host's certificate is for another name", "4.7.5", "certificate-host-mismatch", true, false},
	CertificateUntrusted: {"certificate-untrusted", "nobody trusted vouches for the host's certificate", "4.7.5", "certificate-not-trusted", true, false},
	TLSAMismatch:         {"tlsa-mismatch", "the host's certificate does not match its TLSA records", "4.7.5", "validation-failure", true, false},
	BelowFloor:           {"below-floor", "the protection that was reached is below the floor", "4.7.5", "validation-failure", true, false},
	RequireTLSMissing:    {"requiretls-missing", "the host does not offer REQUIRETLS", "5.7.30", "", false, true},
	RouteUnproven:        {"route-unproven", "nobody vouches for this host's right to take the domain's mail", "5.7.10", "", false, true},

	ReplyTemporary:     {"reply-temporary", "the host asked to try again later", "4.0.0", "", false, false},
	ReplyPermanent:     {"reply-permanent", "the host refused", "5.0.0", "", false, true},
	Uncertain:          {"uncertain", "the connection was lost after the message was sent: the host may have it", "4.4.2", "", false, false},
	UTF8Unsupported:    {"utf8-unsupported", "the message needs SMTPUTF8, which the host does not have", "5.6.7", "", false, true},
	EightBitRefused:    {"8bit-unsupported", "the message has 8-bit content, which the host does not take", "5.6.3", "", false, true},
	TooLarge:           {"too-large", "the message is larger than the host takes", "5.3.4", "", false, true},
	Expired:            {"expired", "the message could not be delivered before its time was over", "5.4.7", "", false, true},
	Interrupted:        {"interrupted", "the relay is stopping", "4.3.2", "", false, false},
	Internal:           {"internal", "a fault of this relay", "4.3.0", "", false, false},
	TransactionRefused: {"transaction-refused", "the host refused the transaction", "5.0.0", "", false, true},
}

func (r Reason) row() reasonRow {
	if r >= reasonCount {
		r = ReasonUnset
	}
	return reasons[r]
}

// Reasons returns every real reason, for readers that need the closed set (metrics).
func Reasons() []Reason {
	list := make([]Reason, 0, reasonCount-1)
	for r := ReasonUnset + 1; r < reasonCount; r++ {
		list = append(list, r)
	}
	return list
}

// String returns the reason's word: log word, JSON word and metric label.
func (r Reason) String() string { return r.row().label }

// English says it in a sentence without a full stop.
func (r Reason) English() string { return r.row().english }

// Status is the enhanced status code (RFC 3463), its class included.
func (r Reason) Status() string { return r.row().status }

// ReportType is the RFC 8460 4.3 result type, or "".
func (r Reason) ReportType() string { return r.row().report }

// MayLower reports whether this failure lets the walk go to a lower rung of the
// same host (RFC 7672 2.2 MAY; policy: the walk, rule 4).
func (r Reason) MayLower() bool { return r.row().mayLower }

// Permanent reports whether trying again cannot help.
func (r Reason) Permanent() bool { return r.row().permanent }

// MarshalText writes the reason's word.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the reason's word.
func (r *Reason) UnmarshalText(b []byte) error {
	for i := range reasons {
		if reasons[i].label == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	*r = ReasonUnset
	return nil
}

// Failure is a typed reason: what went wrong, where, and the remote's own words.
type Failure struct {
	Reason Reason `json:"reason"`
	// Host is the name as in the MX record; empty when no host is to blame.
	Host Domain `json:"host,omitempty"`
	// Detail is for a person: one line, no address of a person, at most a few
	// hundred octets. Never a metric label.
	Detail string `json:"detail,omitempty"`
	// Status overrides the reason's enhanced status code: the remote's own, or
	// the 5.7.x of a bounce for the message's own floor.
	Status string `json:"status,omitempty"`
	// Final makes a failure permanent that its reason alone would not be.
	Final bool `json:"final,omitempty"`
}

// Error says it in English, with host and detail.
func (f *Failure) Error() string {
	s := f.Reason.English()
	if f.Host != "" {
		s = string(f.Host) + ": " + s
	}
	if f.Detail != "" {
		s += " (" + f.Detail + ")"
	}
	return s
}

// Permanent reports whether trying again cannot help.
func (f *Failure) Permanent() bool { return f.Final || f.Reason.Permanent() }

// Code is the enhanced status code to report.
func (f *Failure) Code() string {
	if f.Status != "" {
		return f.Status
	}
	s := f.Reason.Status()
	if f.Final {
		s = "5" + s[1:]
	}
	return s
}
