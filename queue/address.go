package queue

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/sealpost/sealpost/policy"
)

// Limits of a mailbox in octets, as printed (RFC 5321 4.5.3.1.1 to 4.5.3.1.3: a
// path has at most 256, angle brackets included).
const (
	maxLocal   = 64
	maxMailbox = 254
)

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
// empty string is the null reverse path. Source routes, address literals and
// a postmaster without a domain are errors, and so is everything that the
// grammar of RFC 5321 4.1.2 with RFC 6531 3.3 does not know. Two spellings of one
// mailbox give equal values: redundant quoting is resolved and the domain is in
// lower-case A-labels. The errors quote no part of the address.
func ParseAddress(s string) (Address, error) {
	if s == "" {
		return Address{}, nil
	}
	if err := checkCharacters(s); err != nil {
		return Address{}, err
	}
	local, domain, err := splitMailbox(s)
	if err != nil {
		return Address{}, err
	}
	d, err := parseMailDomain(domain)
	if err != nil {
		return Address{}, err
	}
	a := Address{Local: local, Domain: d}
	// RFC 5321 4.1.2: all quoted forms are equivalent, so the shortest is measured.
	if n := len(quoteLocal(local)); n > maxLocal {
		return Address{}, fmt.Errorf("address: the local part has %d octets: %d is the limit (RFC 5321 4.5.3.1.1)", n, maxLocal)
	}
	if n := len(a.String()); n > maxMailbox {
		return Address{}, fmt.Errorf("address: %d octets: %d is the limit (RFC 5321 4.5.3.1.3)", n, maxMailbox)
	}
	return a, nil
}

// checkCharacters refuses what may stand nowhere in a mailbox, quoted or not.
func checkCharacters(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("address: not valid UTF-8 (RFC 6531 3.3)")
	}
	for i, r := range s {
		// RFC 5321 4.1.2: control characters MUST NOT be used. The two Unicode line
		// ends are held to be the same: they would break a line of a log or a notice.
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return fmt.Errorf("address: control character %U at octet %d (RFC 5321 4.1.2)", r, i+1)
		}
	}
	return nil
}

// splitMailbox takes a mailbox apart at the @ behind the local part and resolves
// the local part's quoting.
func splitMailbox(s string) (local, domain string, err error) {
	switch s[0] {
	case '@':
		// RFC 5321 Appendix C lets a server refuse source routes.
		return "", "", errors.New("address: begins with @: a source route is not accepted; give the mailbox alone")
	case '"':
		local, rest, err := unquoteLocal(s)
		if err != nil {
			return "", "", err
		}
		if rest == "" || rest[0] != '@' {
			return "", "", errors.New("address: no @ behind the quoted local part")
		}
		return local, rest[1:], nil
	}
	// In the unquoted form the last @ splits; one before it is refused as a
	// character of the local part.
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", "", errors.New("address: no @domain")
	}
	return s[:at], s[at+1:], checkDotString(s[:at])
}

// unquoteLocal reads the Quoted-string at the beginning of s.
func unquoteLocal(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			// RFC 5321 4.1.2: quoted-pairSMTP is a backslash and one ASCII character.
			i++
			if i == len(s) || s[i] >= utf8.RuneSelf {
				return "", "", errors.New("address: a backslash must stand before an ASCII character (RFC 5321 4.1.2)")
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("address: the quoted local part has no end")
}

// checkDotString checks an unquoted local part: atoms with single dots between.
func checkDotString(local string) error {
	if local == "" {
		return errors.New("address: nothing before the @")
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return errors.New("address: a dot at the beginning or end of the local part, or two together, must be in quotes (RFC 5321 4.1.2)")
		}
		for _, r := range atom {
			if !isAtext(r) {
				return fmt.Errorf("address: %q in the local part must be in quotes (RFC 5321 4.1.2)", r)
			}
		}
	}
	return nil
}

// isAtext reports whether r is atext (RFC 5322 3.2.3, RFC 6531 3.3).
func isAtext(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r >= utf8.RuneSelf:
		return true
	}
	return strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// parseMailDomain reads the domain of a mailbox, which is stricter than a host
// name from the DNS.
func parseMailDomain(s string) (policy.Domain, error) {
	switch {
	case s == "":
		return "", errors.New("address: no domain behind the @")
	case s[0] == '[':
		return "", errors.New("address: address literals are not accepted; give a domain name")
	case strings.HasSuffix(s, "."):
		return "", errors.New("address: the domain ends in a dot (RFC 5321 2.3.5)")
	}
	d, err := ParseDomain(s)
	if err != nil {
		return "", fmt.Errorf("address: %w", err)
	}
	// RFC 5321 4.1.2: the underscore character is not permitted.
	if strings.Contains(string(d), "_") {
		return "", errors.New("address: the domain has an underscore (RFC 5321 4.1.2)")
	}
	last := string(d[strings.LastIndexByte(string(d), '.')+1:])
	if strings.Trim(last, "0123456789") == "" {
		return "", errors.New("address: the domain ends in a number, like an IP address; give a domain name")
	}
	return d, nil
}

// ParseDomain reads a domain name, U-labels (RFC 5890) included: they become
// A-labels as RFC 5891 says for a lookup, lower case.
func ParseDomain(s string) (policy.Domain, error) {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii, err := idna.Lookup.ToASCII(s)
			if err != nil {
				return "", fmt.Errorf("domain is not a valid internationalised name (RFC 5891): %w", err)
			}
			s = ascii
			break
		}
	}
	return policy.ParseDomain(s)
}

// String writes the mailbox for the wire: the local part is quoted when it must
// be, the domain is in A-labels. What ParseAddress made has no space, angle
// bracket or line end outside of quotes. The null reverse path is "".
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	return quoteLocal(a.Local) + "@" + string(a.Domain)
}

// quoteLocal writes a local part with the least quoting that is possible
// (RFC 5321 4.1.2).
func quoteLocal(local string) string {
	if checkDotString(local) == nil {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(local) {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// IsNull reports whether this is the null reverse path.
func (a Address) IsNull() bool { return a == Address{} }

// NeedsUTF8 reports whether the address can go only to a host with SMTPUTF8
// (RFC 6531 3.1): its local part is not ASCII. The domain never needs it.
func (a Address) NeedsUTF8() bool {
	for i := range len(a.Local) {
		if a.Local[i] >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// MarshalText writes the address as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseAddress reads.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}
