package smtpclient

import (
	"bytes"
	"strconv"
	"strings"
)

// extensions is what a host offers in its EHLO reply. The zero value offers
// nothing: that of a host that knows only HELO.
type extensions struct {
	startTLS, pipelining, chunking, eightBit, utf8, dsn, requireTLS bool

	size     bool  // SIZE parameter understood (RFC 1870)
	maxSize  int64 // octets; 0: no fixed limit
	rcptMax  int   // RFC 9422 RCPTMAX; 0: none
	mailMax  int   // RFC 9422 MAILMAX; 0: none
	domMax   int   // RFC 9422 RCPTDOMAINMAX; 0: none
	greeting bool  // EHLO itself was understood
}

// parseEHLO reads the text of an EHLO reply: the first line is the host's name,
// each other one is a keyword with parameters (RFC 5321 4.1.1.1). Keywords are
// case-insensitive (2.4): a client that misses "starttls" downgrades in silence.
func parseEHLO(text []byte) extensions {
	x := extensions{greeting: true}
	_, lines, _ := bytes.Cut(text, []byte("\n"))
	for line := range bytes.SplitSeq(lines, []byte("\n")) {
		words := strings.Fields(string(line))
		if len(words) == 0 {
			continue
		}
		switch strings.ToUpper(words[0]) {
		case "STARTTLS":
			x.startTLS = true
		case "PIPELINING":
			x.pipelining = true
		case "CHUNKING":
			x.chunking = true
		case "8BITMIME":
			x.eightBit = true
		case "SMTPUTF8":
			x.utf8 = true
		case "DSN":
			x.dsn = true
		case "REQUIRETLS":
			x.requireTLS = true
		case "SIZE":
			x.size = true
			x.maxSize = sizeLimit(words[1:])
		case "LIMITS":
			x.limits(words[1:])
		}
	}
	return x
}

// sizeLimit: RFC 1870 4, 1*20DIGIT or nothing; 0 means no fixed limit.
func sizeLimit(params []string) int64 {
	if len(params) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(params[0], 10, 64)
	if err != nil || n < 0 {
		return 0 // too large to be a limit for us, or nonsense: the host will say so
	}
	return n
}

// limits: RFC 9422 3 and 4. Values are 1 to 999999; what is not understood is
// ignored.
func (x *extensions) limits(params []string) {
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 999999 {
			continue
		}
		switch strings.ToUpper(name) {
		case "RCPTMAX":
			x.rcptMax = n
		case "MAILMAX":
			x.mailMax = n
		case "RCPTDOMAINMAX":
			x.domMax = n
		}
	}
}
