package policy

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// Route is the set of those who vouch that a host may take the domain's mail. It is
// one of the two axes of evidence; a host can have several at once (a signed MX answer
// and an MTA-STS policy), and each proves something of its own.
type Route uint8

// The routes.
const (
	RouteNone       Route = 0
	RouteOperator   Route = 1 << iota >> 1 // a configured relay
	RouteSelf                              // no MX record: the host is the domain (RFC 5321 5.1)
	RouteSTS                               // the MX name matches a valid MTA-STS policy, also a testing one (RFC 8461 4.1)
	RouteSTSEnforce                        // that policy is in enforce mode
	RouteDNSSEC                            // the MX answer is secure
)

func routeNames() []string { return []string{"operator", "self", "sts-testing", "sts", "dnssec"} }

// Vouched reports whether the route lets usable TLSA records prove DANE
// (RFC 7672 2.2): the MX answer is secure, or there was none to forge.
func (r Route) Vouched() bool { return r&(RouteDNSSEC|RouteSelf|RouteOperator) != 0 }

// String returns the words joined by "+", as in "sts+dnssec"; "none" for none.
func (r Route) String() string {
	if r&RouteSTSEnforce != 0 {
		r &^= RouteSTS // an enforced policy says more than "there is one"
	}
	return setName(routeNames(), uint8(r))
}

// MarshalText writes the words.
func (r Route) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the words.
func (r *Route) UnmarshalText(b []byte) error {
	n, err := parseSet("route", routeNames(), string(b))
	if *r = Route(n); *r&RouteSTSEnforce != 0 {
		*r |= RouteSTS
	}
	return err
}

// Peer is the set of those who vouch for the host that answered: the other axis.
type Peer uint8

// The peers.
const (
	PeerNone   Peer = 0
	PeerWebPKI Peer = 1 << iota >> 1 // a trusted root, and the MX name (RFC 8461 4.2)
	PeerTLSA                         // a usable TLSA record (RFC 7672 3)
)

func peerNames() []string { return []string{"webpki", "tlsa"} }

// String returns the words joined by "+", as in "webpki+tlsa"; "none" for none.
func (p Peer) String() string { return setName(peerNames(), uint8(p)) }

// MarshalText writes the words.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the words.
func (p *Peer) UnmarshalText(b []byte) error {
	n, err := parseSet("peer", peerNames(), string(b))
	*p = Peer(n)
	return err
}

// setName writes a set of bits in words.
func setName(names []string, set uint8) string {
	if set == 0 {
		return "none"
	}
	var words []string
	for i, n := range names {
		if set&(1<<i) != 0 {
			words = append(words, n)
		}
	}
	return strings.Join(words, "+")
}

func parseSet(what string, names []string, s string) (set uint8, err error) {
	if s == "none" {
		return 0, nil
	}
next:
	for word := range strings.SplitSeq(s, "+") {
		for i, n := range names {
			if n == word {
				set |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("%s %q is unknown: use some of %s", what, word, strings.Join(names, ", "))
	}
	return set, nil
}

// Evidence is what one session proved, measured on two axes: route and peer. The
// zero value proves nothing: not even that the session is in the clear.
type Evidence struct {
	Rung  Rung  `json:"rung"`
	Route Route `json:"route"`
	Peer  Peer  `json:"peer"`
	// WebPKI and TLSA are both always measured; nil means that the proof holds
	// (WebPKI) or that there was nothing to match (TLSA, without PeerTLSA).
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
