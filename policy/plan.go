package policy

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// Plan is the judge's decision for one delivery: targets in order, each with a
// floor and rungs; or a refusal. The zero Plan refuses.
type Plan struct {
	Domain  Domain  `json:"domain"`
	Floor   Floor   `json:"floor"` // the highest floor that is not a host's own promise
	Basis   Basis   `json:"basis"`
	Rule    string  `json:"rule"` // name of the rule that matched
	OnUnmet OnUnmet `json:"on_unmet"`
	// Hold: the downgrade hold is on. A host whose handshake succeeded, and that failed
	// behind it, is waited for so long.
	Hold bool `json:"hold,omitempty"`
	// First: there was no attempt before. A host that cannot do STARTTLS now (454) is
	// waited for once.
	First   bool     `json:"first,omitempty"`
	Targets []Target `json:"targets,omitempty"`
	// Refusal: nothing can be tried, and why. A zero Plan has no targets, and
	// [Walk.Failure] reports that as an internal fault.
	Refusal *Failure `json:"refusal,omitempty"`
	Why     []Note   `json:"why,omitempty"`
}

// Note is one line of the explanation, made while deciding.
type Note struct {
	Host Domain `json:"host,omitempty"`
	Text string `json:"text"`
}

// Target is one host of a plan.
type Target struct {
	Host       Domain           `json:"host"` // as in the MX record
	Preference uint16           `json:"preference"`
	Addrs      []netip.AddrPort `json:"addrs"`
	Floor      Floor            `json:"floor"`
	Basis      Basis            `json:"basis"`
	Rungs      []Rung           `json:"rungs"` // strongest first
	Route      Route            `json:"route"` // what the facts prove about the route
	SNI        Domain           `json:"sni"`
	TLSA       []TLSARecord     `json:"tlsa,omitempty"`  // usable ones only
	Names      []Domain         `json:"names,omitempty"` // reference names for DANE-TA (RFC 7672 3.2.2)
	// Later: the rule allows a lower rung here, but not yet.
	Later bool `json:"later,omitempty"`
	// MinTLS is the least TLS version of the rule (tls.VersionTLS12...); 0: none.
	MinTLS uint16 `json:"min_tls,omitempty"`
	// RequireTLS asks for the REQUIRETLS parameter to be sent where offered.
	RequireTLS bool `json:"require_tls,omitempty"`
}

// Step is one try: a host, an address and a rung.
type Step struct {
	Target *Target // owned by the plan; read only
	Addr   netip.AddrPort
	Rung   Rung
}

// Route says who vouches that a host may take the domain's mail.
type Route uint8

// The routes.
const (
	RouteNone Route = iota
	RouteOperator
	RouteSelf
	RouteSTS        // the MX name matches a valid policy in testing mode
	RouteSTSEnforce // the MX name matches an enforced policy
	RouteDNSSEC
)

func routeNames() []string {
	return []string{"none", "operator", "self", "sts-testing", "sts", "dnssec"}
}

// String returns the route's word.
func (r Route) String() string { return enumName(routeNames(), r) }

// MarshalText writes the route's word.
func (r Route) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the route's word.
func (r *Route) UnmarshalText(b []byte) (err error) {
	*r, err = unmarshalEnum[Route]("route", routeNames(), string(b))
	return err
}

// Peer says who vouches for the host that answered.
type Peer uint8

// The peers.
const (
	PeerNone Peer = iota
	PeerWebPKI
	PeerTLSA
)

func peerNames() []string { return []string{"none", "webpki", "tlsa"} }

// String returns the peer's word.
func (p Peer) String() string { return enumName(peerNames(), p) }

// MarshalText writes the peer's word.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the peer's word.
func (p *Peer) UnmarshalText(b []byte) (err error) {
	*p, err = unmarshalEnum[Peer]("peer", peerNames(), string(b))
	return err
}

// Evidence is what one session proved, measured on two axes: route and peer. The
// zero value proves nothing: not even that the session is in the clear.
type Evidence struct {
	Rung  Rung  `json:"rung"`
	Route Route `json:"route"`
	Peer  Peer  `json:"peer"`
	// WebPKI and TLSA are both always measured; nil means that the proof holds
	// (WebPKI) or that there was nothing to match (TLSA, with Peer not PeerTLSA).
	WebPKI      *Failure `json:"webpki,omitempty"`
	TLSA        *Failure `json:"tlsa,omitempty"`
	Version     uint16   `json:"version,omitempty"` // tls.VersionTLS13...; 0 in the clear
	Suite       uint16   `json:"suite,omitempty"`
	Group       uint16   `json:"group,omitempty"` // tls.CurveID; 0 for RSA key exchange
	Resumed     bool     `json:"resumed,omitempty"`
	RequireTLS  bool     `json:"requiretls,omitempty"`  // keyword in the EHLO after TLS
	Certificate string   `json:"certificate,omitempty"` // SHA-256 of the leaf, hex
	SPKI        string   `json:"spki,omitempty"`        // SHA-256 of its public key, hex
	NotAfter    string   `json:"not_after,omitempty"`   // of the leaf, RFC 3339
}

// VersionName is "TLS 1.3" or "" in the clear.
func (e Evidence) VersionName() string {
	if e.Version == 0 {
		return ""
	}
	return tls.VersionName(e.Version)
}

// Result is what came of a step.
type Result struct {
	// Failure is nil when the session reached its floor and did its work.
	Failure *Failure
	// Level is what was achieved; Unset when no session stood.
	Level Level
	// Opened: a session stood at a level that reached the floor, whatever came
	// of the transaction. The walk does not go below a rung that was opened.
	Opened bool
	// Secured: a TLS handshake succeeded, and something else failed behind it: TLS
	// was to be had there, so the walk does not go below that rung while the plan's hold is on.
	Secured bool
	// Took is how long the step took.
	Took time.Duration
}

// Tried is one entry of a trace.
type Tried struct {
	Host   Domain         `json:"host"`
	Addr   netip.AddrPort `json:"addr"`
	Rung   Rung           `json:"rung"`
	Level  Level          `json:"level,omitempty"`
	Reason Reason         `json:"reason,omitempty"` // unset when it went well
	Detail string         `json:"detail,omitempty"`
	Millis int64          `json:"ms"`
}

// Trace is the record of a walk, in order.
type Trace []Tried
