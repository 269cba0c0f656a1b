package queue

import "github.com/sealpost/sealpost/policy"

// Address is a mailbox (RFC 5321 4.1.2), parsed strictly and kept apart: the
// local part with its quoting resolved, and the domain. The zero value is the
// null reverse path. It marshals as its String.
type Address struct {
	// Local is the content of the local part, unquoted; UTF-8 when internationalised.
	Local string
	// Domain is in A-labels, lower case.
	Domain policy.Domain
}

// ParseAddress reads a mailbox as it stands between < and > in MAIL or RCPT. The
// empty string is the null reverse path.
func ParseAddress(s string) (Address, error) { return Address{}, nil }

// ParseDomain reads a domain name, U-labels (RFC 5890) included.
func ParseDomain(s string) (policy.Domain, error) { return policy.ParseDomain(s) }

// String writes the mailbox for the wire: the local part is quoted when it must
// be, the domain is in A-labels.
func (a Address) String() string { return "" }

// IsNull reports whether this is the null reverse path.
func (a Address) IsNull() bool { return a == Address{} }

// NeedsUTF8 reports whether the address can go only to a host with SMTPUTF8.
func (a Address) NeedsUTF8() bool { return false }
