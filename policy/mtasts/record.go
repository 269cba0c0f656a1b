package mtasts

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoRecord says that none of the TXT records is an MTA-STS record: the domain does
// not have MTA-STS. Other errors of [ParseRecords] are about a record that is broken.
var ErrNoRecord = errors.New(`no TXT record begins with "v=STSv1;" (RFC 8461 3.1)`)

const (
	recordVersion = "v=STSv1"
	maxName       = 32 // octets of a field's name, and of an id (RFC 8461 3.1, 3.2)
)

// Record is the TXT record of a domain: it says that there is a policy, and by a new ID
// that there is a new one. Extension fields are checked and dropped (RFC 8461 3.2).
type Record struct {
	ID string
}

// String prints the record as it would be published.
func (r Record) String() string { return recordVersion + "; id=" + r.ID + ";" }

// ParseRecords reads the TXT records at _mta-sts.DOMAIN, the strings of each joined
// without a space (RFC 8461 3.1). Exactly one record counts, or none.
func ParseRecords(txts []string) (Record, error) {
	var strict, loose []string
	for _, t := range txts {
		rest, ok := strings.CutPrefix(t, recordVersion)
		switch {
		case !ok:
		case strings.HasPrefix(rest, ";"):
			strict = append(strict, t)
		case strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";"):
			loose = append(loose, t)
		}
	}
	// RFC 8461 3.1: the text discards what does not begin with "v=STSv1;", the ABNF
	// allows white space before the semicolon (erratum 6285). Own: that form counts when
	// no record of the other one is there.
	if len(strict) == 0 {
		strict = loose
	}
	switch len(strict) {
	case 0:
		return Record{}, ErrNoRecord
	case 1:
		return parseRecord(strict[0])
	default:
		return Record{}, fmt.Errorf("%d TXT records begin with %q: RFC 8461 3.1 wants exactly one", len(strict), recordVersion+";")
	}
}

// parseRecord reads a record that begins with the version and a delimiter.
func parseRecord(txt string) (Record, error) {
	fields := strings.Split(txt[len(recordVersion):], ";")[1:] // the first is white space
	last := len(fields) - 1
	switch blank := strings.Trim(fields[last], " \t") == ""; {
	case blank && last > 0:
		fields = fields[:last] // RFC 8461 3.1: one delimiter may end the record
	case !blank && strings.TrimRight(fields[last], " \t") != fields[last]:
		return Record{}, fmt.Errorf("field %d: white space at the end of the record: only behind a semicolon", last+2)
	}
	var r Record
	seen := false
	for i, field := range fields {
		name, value, err := recordField(strings.Trim(field, " \t"))
		if err != nil {
			return Record{}, fmt.Errorf("field %d: %w", i+2, err) // v is field 1
		}
		// RFC 8461 3.2: of a repeated field all but the first SHALL be ignored. Names
		// have their case (%s): ID is an extension.
		if name != "id" || seen {
			continue
		}
		seen = true
		if len(value) > maxName || strings.IndexFunc(value, notAlphanumeric) >= 0 {
			return Record{}, fmt.Errorf("field %d: id %s: 1 to 32 letters and digits (RFC 8461 3.1)", i+2, quoted(value))
		}
		r.ID = strings.Clone(value) // not a part of the record: it lives on in a cache
	}
	if !seen {
		return Record{}, errors.New("the record has no id field (RFC 8461 3.1)")
	}
	return r, nil
}

// recordField takes a field apart: sts-ext-name "=" sts-ext-value, which every field
// that is known is too.
func recordField(s string) (name, value string, err error) {
	name, value, found := strings.Cut(s, "=")
	switch {
	case s == "":
		return "", "", errors.New("empty: two semicolons in a row, or nothing behind the version")
	case !found:
		return "", "", fmt.Errorf("%s has no equals sign: NAME=VALUE", quoted(s))
	case !validName(name):
		return "", "", fmt.Errorf("name %s: letters, digits, _, - and ., 32 at most, a letter or digit first", quoted(name))
	case value == "":
		return "", "", fmt.Errorf("%s has no value", name)
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '=' {
			return "", "", fmt.Errorf("the value of %s has the octet %#02x: no spaces, equals signs, control or non-ASCII characters", name, c)
		}
	}
	return name, value, nil
}

// validName reports whether s is the name of a field, in a record (sts-ext-name) or a
// policy (sts-policy-ext-name).
func validName(s string) bool {
	if s == "" || len(s) > maxName || notAlphanumeric(rune(s[0])) {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool { return notAlphanumeric(c) && !strings.ContainsRune("_-.", c) }) < 0
}

func notAlphanumeric(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
}

// quoted writes what somebody else wrote for a person: escaped and not too long.
func quoted(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q...", s[:60])
	}
	return fmt.Sprintf("%q", s)
}
