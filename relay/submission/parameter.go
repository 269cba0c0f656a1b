package submission

import (
	"strconv"
	"strings"
)

// checkMailParams checks the parameters of MAIL and reports whether SMTPUTF8 is one.
func (g *gate) checkMailParams(params string) (utf8 bool, r *reply) {
	r = checkParams(params, func(p parameter) *reply {
		switch p.key {
		case "SIZE":
			return g.checkSize(p.value)
		case "BODY":
			if v := strings.ToUpper(p.value); v != "7BIT" && v != "8BITMIME" {
				return errParameter("BODY is 7BIT or 8BITMIME") // RFC 6152
			}
		case "SMTPUTF8":
			utf8 = true
			if p.valued {
				return errParameter("SMTPUTF8 takes none") // RFC 6531 3.4
			}
		case "REQUIRETLS":
			return g.checkRequireTLS(p)
		case "ENVID":
			if len(p.value) > 100 {
				return errParameter("ENVID has more than 100 octets") // RFC 3461 4.4
			}
		case "RET", "AUTH":
		default:
			return errUnknownParameter("MAIL")
		}
		return nil
	})
	return utf8, r
}

// checkSize reads SIZE= (RFC 1870 5: up to 20 digits).
func (g *gate) checkSize(value string) *reply {
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" {
		return errParameter("SIZE is a number of at most 20 digits")
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n > uint64(g.door.maxBytes) {
		return errTooBig()
	}
	return nil
}

// checkRequireTLS: the parameter exists only under TLS (RFC 8689 2).
func (g *gate) checkRequireTLS(p parameter) *reply {
	switch {
	case p.valued:
		return errParameter("REQUIRETLS takes none")
	case g.tls != nil:
		return nil
	case g.door.tls != nil:
		return errNeedTLS()
	default:
		return errUnknownParameter("MAIL")
	}
}

func checkRcptParam(p parameter) *reply {
	switch p.key {
	case "NOTIFY":
	case "ORCPT":
		if len(p.value) > 500 {
			return errParameter("ORCPT has more than 500 octets") // RFC 3461 4.2
		}
	default:
		return errUnknownParameter("RCPT")
	}
	return nil
}

// parameter is one ESMTP parameter.
type parameter struct {
	key, value string // key in capitals
	valued     bool   // there was a "="
}

// checkParams goes through " KEY=value KEY" (RFC 5321 4.1.2). go-smtp would take the
// last of two equal keys in silence.
func checkParams(params string, each func(parameter) *reply) *reply {
	var seen [16]string
	n := 0
	for word := range strings.SplitSeq(params, " ") {
		if word == "" {
			continue
		}
		var p parameter
		p.key, p.value, p.valued = strings.Cut(word, "=")
		p.key = strings.ToUpper(p.key)
		switch {
		case !keyword(p.key) || strings.Contains(p.value, "=") || p.valued && p.value == "":
			return errParameter("parameters are KEY or KEY=value")
		case n == len(seen):
			return errParameter("too many parameters")
		}
		for _, s := range seen[:n] {
			if s == p.key {
				return errParameter("a parameter was given twice")
			}
		}
		seen[n] = p.key
		n++
		if r := each(p); r != nil {
			return r
		}
	}
	return nil
}

func keyword(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
