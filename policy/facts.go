package policy

import (
	"net/netip"
	"time"
)

// Answer is what a DNS query came back with. Absence is an answer; Unknown is an
// error and never an absence (RFC 7672 2.1.1). The zero value is Unknown.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota // SERVFAIL, timeout, REFUSED, bogus, malformed
	Records
	NoData
	NoName
)

func answerNames() []string { return []string{"unknown", "records", "no-data", "no-name"} }

// String returns the answer's word.
func (a Answer) String() string { return enumName(answerNames(), a) }

// MarshalText writes the answer's word.
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the answer's word.
func (a *Answer) UnmarshalText(b []byte) (err error) {
	*a, err = unmarshalEnum[Answer]("answer", answerNames(), string(b))
	return err
}

// Lookup is one DNS answer with its DNSSEC status.
type Lookup struct {
	Answer Answer `json:"answer"`
	// Secure: DNSSEC vouches for the answer (or the absence), along the whole
	// CNAME chain, said by a trusted resolver. False when Answer is Unknown.
	Secure bool `json:"secure"`
	// Problem says in English why the answer is Unknown; else empty.
	Problem string `json:"problem,omitempty"`
}

// Facts is what the network told us about a recipient domain (policy: facts).
// It is a snapshot: nobody changes it once it is made.
type Facts struct {
	Domain Domain `json:"domain"`
	// Expanded is the domain's CNAME-expanded name; the domain itself when it is no alias.
	Expanded Domain `json:"expanded,omitempty"`
	MX       Lookup `json:"mx"`
	NullMX   bool   `json:"null_mx,omitempty"`
	// Implicit: no MX record, the domain is its own host (RFC 5321 5.1).
	Implicit bool `json:"implicit,omitempty"`
	// Operator: the host is a configured relay, not the domain's choice.
	Operator bool `json:"operator,omitempty"`
	// Self: we stood in the list; our preference and all worse ones were taken out.
	Self  bool   `json:"self,omitempty"`
	Hosts []Host `json:"hosts,omitempty"`
	STS   STS    `json:"sts"`
	// DNSSEC says whether secure answers can be believed now (resolver trusted, self-test good).
	DNSSEC bool      `json:"dnssec"`
	At     time.Time `json:"at"`
}

// Host is one mail exchanger, by preference in Facts.Hosts.
type Host struct {
	// Name is as in the MX record, lower case.
	Name       Domain `json:"name"`
	Preference uint16 `json:"preference"`
	Port       uint16 `json:"port"`
	// V4 and V6 are judged apart: a broken denial of one family does not hurt the other.
	V4 Addresses `json:"v4"`
	V6 Addresses `json:"v6"`
	// Refused counts addresses that were taken out (private, loopback, own).
	Refused int       `json:"refused,omitempty"`
	TLSA    TLSAFacts `json:"tlsa"`
}

// Addresses is one address family of a host.
type Addresses struct {
	Lookup
	IPs []netip.Addr `json:"ips,omitempty"`
	// Memory is what was seen of the host in this family before.
	Memory Memory `json:"memory,omitzero"`
}

// TLSAFacts is what was found at the TLSA base domains (RFC 7672 2.2.3).
type TLSAFacts struct {
	// Asked is false where the addresses are not secure (RFC 7672 2.2.2).
	Asked bool `json:"asked"`
	Lookup
	// Base is the TLSA base domain: SNI and first reference name (RFC 7672 3.2.2, 8.1).
	Base    Domain       `json:"base,omitempty"`
	Records []TLSARecord `json:"records,omitempty"`
}

// TLSARecord is one TLSA record (RFC 6698 2.1).
type TLSARecord struct {
	Usage    uint8  `json:"usage"`
	Selector uint8  `json:"selector"`
	Matching uint8  `json:"matching"`
	Data     []byte `json:"data"`
}

// Query is what one delivery asks of the judge.
type Query struct {
	Domain     Domain
	Sender     string // envelope sender's domain, lower case; "" for the null reverse path
	NullSender bool
	Credential string
	Stream     string
	Age        time.Duration // since acceptance
	Tries      int           // earlier attempts
	Seen       Level         // best level at which a host of the domain was met in an earlier attempt, or Unset
	RequireTLS bool          // RFC 8689 2
	TLSOff     bool          // TLS-Required: No, RFC 8689 3
	Message    Level         // the message's own floor, or Unset
	Account    Level         // the credential's floor, or Unset
	OnUnmet    OnUnmet       // the message's own wish, or OnUnmetUnset
	Now        time.Time
}
