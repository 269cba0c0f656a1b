package mtasts

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/policy"
)

const (
	policyVersion = "STSv1"
	// MaxPolicySize bounds a policy's text (RFC 8461 3.3 suggests 64 kilobytes).
	MaxPolicySize = 64 << 10
	// maxAge is the largest max_age (RFC 8461 3.2).
	maxAge = 31557600 * time.Second
)

// Policy is what a policy host serves (RFC 8461 3.2). Unknown keys are checked and
// dropped.
type Policy struct {
	Mode   policy.STSMode
	MaxAge time.Duration // whole seconds
	MX     []string      // patterns as written, in order
}

// String prints the policy as it would be served.
func (p Policy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: %s\r\nmode: %s\r\n", policyVersion, p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int64(p.MaxAge/time.Second))
	return b.String()
}

// ParsePolicy reads a policy (RFC 8461 3.2). The error says in which line what is wrong.
func ParsePolicy(text []byte) (Policy, error) {
	switch {
	case len(text) > MaxPolicySize:
		return Policy{}, fmt.Errorf("the policy has %d octets: %d is the limit (RFC 8461 3.3)", len(text), MaxPolicySize)
	case len(text) == 0:
		return Policy{}, errors.New("the policy is empty")
	}
	// sts-policy-term ends a line; that of the last one may be missing, and no line is empty.
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	unended := !strings.HasSuffix(string(text), "\n")
	r := reader{seen: map[string]bool{}}
	for i, line := range lines {
		if i < len(lines)-1 || !unended {
			line = strings.TrimSuffix(line, "\r") // LF / CRLF; a CR without LF is a control character
		}
		if err := r.line(line); err != nil {
			return Policy{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	for _, key := range []string{"version", "mode", "max_age"} {
		if !r.seen[key] {
			return Policy{}, fmt.Errorf("line %d: the policy ends without a %s key (RFC 8461 3.2)", len(lines), key)
		}
	}
	if r.p.Mode != policy.STSNone && len(r.p.MX) == 0 {
		return Policy{}, fmt.Errorf("line %d: the policy ends without an mx key, which mode %s needs (RFC 8461 3.2)", len(lines), r.p.Mode)
	}
	return r.p, nil
}

// reader is a policy that is being read.
type reader struct {
	p    Policy
	seen map[string]bool
}

// line reads one line, without its end.
func (r *reader) line(line string) error {
	key, value, err := policyField(line)
	if err != nil {
		return err
	}
	// RFC 8461 3.2: of a key that is repeated, mx excepted, all but the first SHALL be
	// ignored, whatever they say; unknown keys are too. Names have their case (%s).
	if key != "mx" && r.seen[key] {
		return nil
	}
	r.seen[key] = true
	switch key {
	case "version":
		if value != policyVersion {
			return fmt.Errorf("version %s: %s is the only one (RFC 8461 3.2)", quoted(value), policyVersion)
		}
	case "mode":
		return r.mode(value)
	case "max_age":
		r.p.MaxAge, err = parseMaxAge(value)
	case "mx":
		if err = checkPattern(value); err == nil {
			r.p.MX = append(r.p.MX, strings.Clone(value)) // not a part of the text: it lives on in a cache
		}
	}
	return err
}

func (r *reader) mode(value string) error {
	switch value {
	case "enforce":
		r.p.Mode = policy.STSEnforce
	case "testing":
		r.p.Mode = policy.STSTesting
	case "none":
		r.p.Mode = policy.STSNone
	default:
		return fmt.Errorf("mode %s: use enforce, testing or none, in lower case (RFC 8461 3.2)", quoted(value))
	}
	return nil
}

// policyField takes a line apart: sts-policy-ext-name ":" *WSP sts-policy-ext-value
// *WSP, which every line that is known is too.
func policyField(line string) (key, value string, err error) {
	key, value, found := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	switch {
	case line == "":
		return "", "", errors.New("empty: a policy has no empty lines (RFC 8461 3.2)")
	case strings.HasPrefix(line, "\ufeff"):
		return "", "", errors.New("the policy begins with a byte order mark: save it without")
	case !found:
		return "", "", fmt.Errorf("%s has no colon: KEY: VALUE", quoted(line))
	case !validName(key):
		return "", "", fmt.Errorf("key %s: letters, digits, _, - and ., 32 at most, a letter or digit first, and no space before the colon", quoted(key))
	case value == "":
		return "", "", fmt.Errorf("%s has no value", key)
	case !utf8.ValidString(value):
		return "", "", fmt.Errorf("the value of %s is not UTF-8", key)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f {
			return "", "", fmt.Errorf("the value of %s has the control character %#02x", key, c)
		}
	}
	return key, value, nil
}

// parseMaxAge reads 1*10(DIGIT). Own: what is above the maximum is cut to it, and not a
// reason to have no policy.
func parseMaxAge(s string) (time.Duration, error) {
	if len(s) > 10 || strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' }) >= 0 {
		return 0, fmt.Errorf("max_age %s: seconds in 1 to 10 digits (RFC 8461 3.2)", quoted(s))
	}
	var n int64
	for i := range len(s) {
		n = n*10 + int64(s[i]-'0')
	}
	return time.Duration(min(n, int64(maxAge/time.Second))) * time.Second, nil
}

// checkPattern checks ["*."] Domain (RFC 8461 3.2; Domain: RFC 5321 4.1.2).
func checkPattern(s string) error {
	domain := strings.TrimPrefix(s, "*.")
	if len(domain) > 253 { // RFC 5321 4.5.3.1.2, RFC 1035 2.3.4: no host can have that name
		return fmt.Errorf("mx %s: a name of %d octets: 253 is the limit", quoted(s), len(domain))
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !validLabel(label) {
			return fmt.Errorf("mx %s: a host name, or a wildcard for one whole label as in *.example.com; "+
				"A-labels, no underscore, no dot at the end (RFC 8461 3.2, RFC 5321 4.1.2)", quoted(s))
		}
	}
	return nil
}

// validLabel reports whether s is a sub-domain of RFC 5321 4.1.2 that DNS can hold.
func validLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.IndexFunc(s, func(c rune) bool { return notAlphanumeric(c) && c != '-' }) < 0
}
