package submission

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/queue"
)

// verb is an SMTP command that goes on to go-smtp.
type verb uint8

const (
	verbNone verb = iota
	verbAUTH
	verbBDAT
	verbDATA
	verbEHLO
	verbHELO
	verbMAIL
	verbNOOP
	verbOther // VRFY, EXPN, HELP
	verbQUIT
	verbRCPT
	verbRSET
	verbSTARTTLS
)

func verbOf(word string) verb {
	switch strings.ToUpper(word) {
	case "AUTH":
		return verbAUTH
	case "BDAT":
		return verbBDAT
	case "DATA":
		return verbDATA
	case "EHLO":
		return verbEHLO
	case "HELO":
		return verbHELO
	case "MAIL":
		return verbMAIL
	case "NOOP":
		return verbNOOP
	case "VRFY", "EXPN", "HELP":
		return verbOther
	case "QUIT":
		return verbQUIT
	case "RCPT":
		return verbRCPT
	case "RSET":
		return verbRSET
	case "STARTTLS":
		return verbSTARTTLS
	default:
		return verbNone
	}
}

// envelope is what MAIL and RCPT said, parsed from the command lines as they
// came: go-smtp hands over strings with the quoting already lost (field notes S10).
type envelope struct {
	open   bool // MAIL was accepted
	sender queue.Address
	utf8   bool
	rcpt   queue.Address // of the RCPT that go-smtp is working on
	rcpts  int           // accepted
	bdat   bool          // at least one chunk was taken
	octets int64         // of the chunks so far
}

// screen looks at one command line, without its CR LF, before go-smtp does. It
// returns the line to hand on, or the reply that ends the command here.
func (g *gate) screen(line []byte) (pass []byte, r *reply) {
	word, arg, _ := strings.Cut(string(line), " ")
	v := verbOf(word)
	g.verb = v
	if r := checkOctets(v, line, g.tx.utf8); r != nil {
		return nil, r
	}
	if r := g.count(v); r != nil {
		return nil, r
	}
	switch v {
	case verbNone:
		return nil, refuseUnknown(word)
	case verbEHLO, verbHELO:
		if !plainWord(arg) {
			return nil, errParameter("one domain or address literal, please") // RFC 5321 4.1.1.1
		}
		g.name, g.from, g.helloLines = arg, "", 0
	case verbMAIL:
		return g.screenMAIL(arg)
	case verbRCPT:
		return g.screenRCPT(arg)
	case verbDATA:
		if arg != "" {
			return nil, errParameter("DATA takes none")
		}
		return line, g.needRecipients(v)
	case verbBDAT:
		return g.screenBDAT(line, arg)
	case verbAUTH:
		return line, g.screenAUTH(arg)
	case verbSTARTTLS:
		return nil, g.screenSTARTTLS(arg)
	}
	return line, nil
}

func refuseUnknown(word string) *reply {
	switch strings.ToUpper(word) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT":
		return errNotHTTP() // a browser was talked into speaking to us: end it before its body
	default:
		return errUnknown()
	}
}

// checkOctets refuses what may stand in no command (RFC 5321 2.3.8, 4.1.1): control
// octets, NUL and CR among them, and non-ASCII where SMTPUTF8 does not allow it.
func checkOctets(v verb, line []byte, utf8 bool) *reply {
	for _, c := range line {
		switch {
		case c < ' ' || c == 0x7f:
			switch v {
			case verbMAIL:
				return errSender("address: control octet")
			case verbRCPT:
				return errRecipient("address: control octet")
			}
			return errOctets()
		case c >= 0x80 && v == verbRCPT && !utf8:
			return errRecipientUTF8()
		case c >= 0x80 && v != verbMAIL && v != verbRCPT:
			return errOctets()
		}
	}
	return nil
}

// plainWord reports whether s is one non-empty word of at most 255 octets.
func plainWord(s string) bool {
	return s != "" && len(s) <= 255 && !strings.Contains(s, " ")
}

func (g *gate) needHello() *reply {
	if !g.hello {
		return errSequence("EHLO first")
	}
	return nil
}

func (g *gate) needRecipients(v verb) *reply {
	switch {
	case !g.tx.open:
		return errSequence("MAIL and RCPT first")
	case g.tx.bdat && v != verbBDAT:
		return errSequence("only BDAT or RSET after BDAT") // RFC 3030 2
	case g.tx.rcpts == 0:
		return errNoRecipients()
	default:
		return nil
	}
}

// screenMAIL checks MAIL FROM:<path> and parameters (RFC 5321 4.1.1.2).
func (g *gate) screenMAIL(arg string) ([]byte, *reply) {
	if r := g.needHello(); r != nil {
		return nil, r
	}
	if g.tx.open {
		return nil, errSequence("a transaction is open: RSET first") // RFC 5321 4.1.4, field notes S34
	}
	path, params, ok := cutPath(arg, "FROM:")
	if !ok {
		return nil, errSender("path: MAIL FROM:<address> expected")
	}
	utf8, r := g.checkMailParams(params)
	if r != nil {
		return nil, r
	}
	if !utf8 && !ascii(arg) {
		return nil, errSenderUTF8()
	}
	a, err := parsePath(path)
	if err != nil {
		return nil, errSender(printable(err.Error()))
	}
	g.tx = envelope{sender: a, utf8: utf8}
	return g.rewrite("MAIL FROM:<", a, params), nil
}

// screenRCPT checks RCPT TO:<path> and parameters (RFC 5321 4.1.1.3).
func (g *gate) screenRCPT(arg string) ([]byte, *reply) {
	switch {
	case !g.tx.open:
		return nil, errSequence("MAIL first")
	case g.tx.bdat:
		return nil, errSequence("only BDAT or RSET after BDAT") // RFC 3030 2
	}
	path, params, ok := cutPath(arg, "TO:")
	if !ok {
		return nil, errRecipient("path: RCPT TO:<address> expected")
	}
	if r := checkParams(params, checkRcptParam); r != nil {
		return nil, r
	}
	if strings.EqualFold(path, "postmaster") {
		path = "postmaster@" + g.server.hostname // RFC 5321 4.5.1: works without a domain
	}
	a, err := parsePath(path)
	switch {
	case err != nil:
		return nil, errRecipient(printable(err.Error()))
	case a.IsNull():
		return nil, errRecipient("address: empty")
	}
	g.tx.rcpt = a
	return g.rewrite("RCPT TO:<", a, params), nil
}

// rewrite puts the line for go-smtp where the client's was: its octets are no longer needed.
func (g *gate) rewrite(verb string, a queue.Address, params string) []byte {
	g.buf = append(append(append(append(g.buf[:0], verb...), a.String()...), '>'), params...)
	return g.buf
}

// cutPath takes "FROM:<path> params" apart. params keeps its leading space. Spaces
// between the colon and the path are let pass: many old clients send one.
func cutPath(arg, prefix string) (path, params string, ok bool) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", "", false
	}
	s := strings.TrimLeft(arg[len(prefix):], " ")
	if s == "" || s[0] != '<' {
		return "", "", false
	}
	end := closing(s)
	if end < 0 {
		return "", "", false
	}
	path, params = s[1:end], s[end+1:]
	if params != "" && params[0] != ' ' {
		return "", "", false
	}
	return path, strings.TrimRight(params, " "), true
}

// closing finds the > that ends a path: not one inside a quoted string.
func closing(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}

// parsePath reads what stands between < and >. A source route is checked and
// dropped (RFC 5321 4.1.1.3, appendix C: must be accepted, should be ignored).
func parsePath(path string) (queue.Address, error) {
	if strings.HasPrefix(path, "@") {
		route, mailbox, ok := strings.Cut(path, ":")
		if ok {
			for hop := range strings.SplitSeq(route, ",") {
				if _, err := queue.ParseDomain(strings.TrimPrefix(hop, "@")); err != nil || !strings.HasPrefix(hop, "@") {
					return queue.ParseAddress(path) // says what is wrong
				}
			}
			path = mailbox
			if path == "" {
				path = "@"
			}
		}
	}
	return queue.ParseAddress(path)
}

// screenBDAT reads the size, because the chunk follows whatever we answer (RFC
// 3030 2, field notes S32), and prepares for it.
func (g *gate) screenBDAT(line []byte, arg string) ([]byte, *reply) {
	number, rest, _ := strings.Cut(arg, " ")
	size, err := strconv.ParseUint(number, 10, 63)
	if err != nil || rest != "" && !strings.EqualFold(rest, "LAST") {
		g.ending = true // how much to skip is not known: nothing may be read on
		return nil, errNoChunking()
	}
	r := g.needRecipients(verbBDAT)
	// go-smtp counts a chunk in 32 bits.
	if r == nil && (size > math.MaxUint32 || int64(size) > g.door.maxBytes-g.tx.octets) {
		r = errTooBig()
		g.abort = true
	}
	if r != nil {
		g.skip = int64(size)
		return nil, r
	}
	if !g.tx.bdat {
		g.taken = make(chan struct{})
	}
	g.tx.bdat, g.last = true, rest != ""
	g.tx.octets += int64(size)
	g.beginContent(int64(size))
	return line, nil
}

// screenAUTH checks what go-smtp would answer wrongly (RFC 4954 4).
func (g *gate) screenAUTH(arg string) *reply {
	mechanism, initial, given := strings.Cut(arg, " ")
	switch {
	case !g.hello:
		return errSequence("EHLO first")
	case g.authed:
		return errSequence("already authenticated")
	case g.tx.open:
		return errSequence("AUTH is not allowed inside a transaction")
	case mechanism == "":
		return errParameter("AUTH needs a mechanism")
	case given && initial != "=" && !validBase64([]byte(initial)):
		return errBase64()
	default:
		return nil
	}
}

func validBase64(b []byte) bool {
	if bytes.ContainsAny(b, "\r\n") {
		return false // the decoder would skip them
	}
	_, err := base64.StdEncoding.DecodeString(string(b))
	return err == nil
}

func (g *gate) screenSTARTTLS(arg string) *reply {
	switch {
	case arg != "":
		return errParameter("STARTTLS takes none") // RFC 3207 4
	case g.tls != nil:
		return errSequence("TLS is on already")
	case g.door.tls == nil || g.door.mode != TLSStart:
		return errNotOffered()
	case g.br.Buffered() > 0:
		g.ending = true // RFC 3207 4: STARTTLS is the last of its group; more is an injection
		return errSequence("STARTTLS must not be followed by anything")
	default:
		return nil
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// printable keeps a reply's text to one line of printable ASCII.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
