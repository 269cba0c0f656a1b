package policy

import (
	"strings"
	"time"
)

// STSMode is the mode of an MTA-STS policy (RFC 8461 5). The zero value: no policy.
type STSMode uint8

// The modes.
const (
	STSAbsent STSMode = iota
	STSNone
	STSTesting
	STSEnforce
)

func stsModeNames() []string { return []string{"absent", "none", "testing", "enforce"} }

// String returns the mode's word; "absent" where there is no policy.
func (m STSMode) String() string { return enumName(stsModeNames(), m) }

// MarshalText writes the mode's word.
func (m STSMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the mode's word.
func (m *STSMode) UnmarshalText(b []byte) (err error) {
	*m, err = unmarshalEnum[STSMode]("mode", stsModeNames(), string(b))
	return err
}

// STS is what is known of the domain's MTA-STS policy (RFC 8461). It is a value that
// somebody cached: whether it has expired is for [Decide], by the query's time.
type STS struct {
	// Mode is STSAbsent when no policy is to be had and none is cached.
	Mode STSMode `json:"mode"`
	// ID is that of the TXT record under which the policy was fetched.
	ID string `json:"id,omitempty"`
	// MX are the policy's patterns, as written, in order (RFC 8461 3.2).
	MX []string `json:"mx,omitempty"`
	// Fetched is when the policy was fetched with success last; it may be used until Expires.
	Fetched time.Time `json:"fetched,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Record is what the last question for the TXT record came back with. An unexpired
	// policy applies whatever it says (RFC 8461 3.3 MUST).
	Record Lookup `json:"record,omitzero"`
	// Problem says in English why there is no policy although the domain seems to want
	// one, or why the cached one could not be renewed; else empty.
	Problem string `json:"problem,omitempty"`
	// Failure classifies Problem for reports and metrics: STSFetchFailed, STSInvalid, STSWebPKI, or unset.
	Failure Reason `json:"failure,omitempty"`
}

// In returns the mode that is in force at a time: STSAbsent once the policy has expired.
func (s *STS) In(now time.Time) STSMode {
	if s.Mode == STSAbsent || !s.Expires.IsZero() && !now.Before(s.Expires) {
		return STSAbsent
	}
	return s.Mode
}

// Matches reports whether a host may take the domain's mail by the policy's patterns.
func (s *STS) Matches(host Domain) bool {
	for _, pattern := range s.MX {
		if MatchMX(pattern, host) {
			return true
		}
	}
	return false
}

// MatchMX reports whether an MX name matches a pattern of an MTA-STS policy
// (RFC 8461 4.1): without regard to case, and a wildcard is the whole left-most
// label and stands for exactly one label.
func MatchMX(pattern string, host Domain) bool {
	pattern = strings.ToLower(strings.TrimSuffix(pattern, "."))
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, parent, found := strings.Cut(string(host), ".")
		return found && rest != "" && parent == rest
	}
	return pattern == string(host)
}
