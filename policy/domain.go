package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Domain is a DNS name as used in mail: A-labels, lower case, no trailing dot
// (RFC 5321 2.3.5, RFC 5890 2.3.2.1). Make one with [ParseDomain]; U-labels are
// converted by the caller before (queue.ParseDomain does).
type Domain string

// ParseDomain checks and normalises an ASCII domain name. One trailing dot is
// taken off. Labels are letters, digits, hyphens and underscores (the last is
// found in real MX names); 63 octets a label, 253 a name (RFC 1035 2.3.4).
func ParseDomain(s string) (Domain, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	switch {
	case s == "":
		return "", errors.New("domain is empty")
	case len(s) > 253:
		return "", fmt.Errorf("domain has %d octets: 253 is the limit (RFC 1035 2.3.4)", len(s))
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("domain %q: %w", s, err)
		}
	}
	return Domain(s), nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("empty label")
	}
	if len(label) > 63 {
		return fmt.Errorf("label of %d octets: 63 is the limit", len(label))
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("label %q begins or ends with a hyphen", label)
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("label %q has the octet %#02x: letters, digits and hyphens only", label, c)
		}
	}
	return nil
}

// Within reports whether d is suffix or lies below it; suffix begins with a dot
// (".example.com" matches "a.example.com", not "example.com") or is a whole name.
func (d Domain) Within(suffix string) bool {
	if strings.HasPrefix(suffix, ".") {
		return strings.HasSuffix(string(d), suffix)
	}
	return string(d) == suffix
}
