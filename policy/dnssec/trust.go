package dnssec

import (
	"fmt"
	"slices"
)

// TrustAD says whose AD bit is believed (RFC 7672 2.1.1, RFC 4035 4.9.3).
type TrustAD uint8

// The choices. The zero value is taken as TrustAuto.
const (
	TrustUnset  TrustAD = iota
	TrustAuto           // loopback, or DNS over TLS with a verified name
	TrustAlways         // every server of the list: the operator vouches for the path
	TrustNever          // nobody: DNSSEC is off
)

func trustNames() []string { return []string{"unset", "auto", "always", "never"} }

// String returns the word that the configuration uses.
func (t TrustAD) String() string {
	if int(t) < len(trustNames()) {
		return trustNames()[t]
	}
	return fmt.Sprintf("trust_ad(%d)", uint8(t))
}

// MarshalText writes the word.
func (t TrustAD) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the word.
func (t *TrustAD) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTrustAD(string(b))
	return err
}

// ParseTrustAD reads "auto", "always" or "never".
func ParseTrustAD(s string) (TrustAD, error) {
	if i := slices.Index(trustNames()[1:], s); i >= 0 {
		return TrustAD(i + 1), nil
	}
	return TrustUnset, fmt.Errorf("trust_ad %q is unknown: use one of auto, always, never", s)
}

// trusts reports whether the server's AD bit is believed.
func (t TrustAD) trusts(s Server) bool {
	switch t {
	case TrustAlways:
		return true
	case TrustNever:
		return false
	default:
		return s.Name != "" || s.Addr.Addr().Unmap().IsLoopback()
	}
}
