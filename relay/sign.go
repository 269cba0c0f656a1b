package relay

import (
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Sign is what a host's conduct says about how much it will take of us.
type Sign uint8

// The signs. The last three are throttling: the host wants less of us.
const (
	SignNone        Sign = iota // nothing is learned
	SignGood                    // it did its work
	SignDown                    // it cannot be reached
	SignBusy                    // it has no room for anybody now
	SignConnections             // too many connections of ours
	SignRate                    // too many messages of ours
	signCount
)

func signNames() [signCount]string {
	return [signCount]string{"none", "good", "down", "busy", "connections", "rate"}
}

// String returns the sign's word: metric label and JSON word.
func (s Sign) String() string {
	if s >= signCount {
		s = SignNone
	}
	return signNames()[s]
}

// Throttling reports whether the host asks for less.
func (s Sign) Throttling() bool { return s >= SignBusy && s < signCount }

// ThrottleSigns are the signs of throttling, for readers that need the closed set.
func ThrottleSigns() []Sign { return []Sign{SignBusy, SignConnections, SignRate} }

// stage is how far a session was when the host spoke.
type stage uint8

const (
	atOpen     stage = iota // greeting, EHLO, HELO: before anybody's mail is known
	atSender                // MAIL: before any recipient is known
	afterwards              // RCPT and later: it may be about this mail
)

// signRow is a row of the table of throttling. All that is set must fit; the first row
// that fits is taken.
type signRow struct {
	code   string   // beginning of the reply code; "" any 4yz
	status string   // the enhanced status, or its beginning with a point at the end; "" any
	words  []string // one of them is in the text, in lower case; nil any
	until  stage    // the last stage at which it means that
	sign   Sign
}

// throttling is what replies say that the host wants less of us. What a reply says about
// a mailbox (X.1, X.2, X.5.3) or about this pair of sender and recipient (greylisting) is
// not in it. RFC 3463: X.3.2 takes no messages now, X.4.5 congestion, X.7.X policy; the
// X.7.28 and X.7.5xx to X.7.7xx are what large providers say about rates.
func throttling() []signRow {
	connections := []string{"too many connections", "too many concurrent", "too many simultaneous", "too many sessions", "connection limit", "connection rate",
		"concurrent connections", "simultaneous connections", "maximum number of connections", "too many open", "connections from your", "max connections"}
	rate := []string{"rate limit", "ratelimit", "rate-limit", "throttl", "too many messages", "too many mails", "too many emails", "too fast", "slow down",
		"unusual rate", "sending rate", "message rate", "mail rate", "too much mail", "messages per", "quota of messages", "temporarily deferred due to user complaints",
		"exceeded the limit of messages", "message volume", "volume of email"}
	return []signRow{
		{"", "4.1.", nil, afterwards, SignNone},
		{"", "4.2.", nil, afterwards, SignNone},
		{"", "4.5.3", nil, afterwards, SignNone},
		{"", "", connections, afterwards, SignConnections},
		{"", "", rate, afterwards, SignRate},
		{"", "", greyWords(), afterwards, SignNone},
		{"", "4.7.28", nil, afterwards, SignRate},
		{"4", "4.7.", nil, atSender, SignRate},
		{"421", "4.7.", nil, afterwards, SignRate},
		{"", "4.4.5", nil, afterwards, SignBusy},
		{"", "4.3.1", nil, atSender, SignBusy},
		{"", "4.3.2", nil, afterwards, SignBusy},
		{"421", "", nil, afterwards, SignBusy},
		{"", "", nil, atOpen, SignBusy},
	}
}

// said is a reply as the table wants it.
type said struct {
	at     stage
	code   string
	status string
	text   string
}

// sign reads a temporary reply.
func (s said) sign() Sign {
	text := strings.ToLower(s.text)
	if bulk, ok := providerStatus(s.status); ok && bulk {
		return SignRate
	}
	for _, r := range throttling() {
		if r.fits(&s, text) {
			return r.sign
		}
	}
	return SignNone
}

func (r *signRow) fits(s *said, text string) bool {
	switch {
	case s.at > r.until, !strings.HasPrefix(s.code, r.code):
		return false
	case strings.HasSuffix(r.status, "."):
		if !strings.HasPrefix(s.status, r.status) {
			return false
		}
	case r.status != "" && s.status != r.status:
		return false
	}
	return r.words == nil || containsAny(text, r.words)
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// providerStatus reports whether a status is one of 4.7.500 to 4.7.799, which large
// providers made up for rates and reputation.
func providerStatus(status string) (bulk, ok bool) {
	detail, ok := strings.CutPrefix(status, "4.7.")
	if !ok {
		return false, false
	}
	return len(detail) == 3 && detail[0] >= '5' && detail[0] <= '7', true
}

// signOfOpen is what a session that could not be opened says.
func signOfOpen(f *policy.Failure) Sign {
	switch f.Reason {
	case policy.GreetingTemporary, policy.EHLOTemporary:
		return said{at: atOpen, code: "4", status: f.Status, text: f.Detail}.sign()
	case policy.ConnectRefused, policy.ConnectTimeout, policy.ConnectUnreachable, policy.ConnectionLost, policy.ReplyTimeout:
		return SignDown
	}
	return SignNone
}

// signOfReply is what a reply within a transaction says.
func signOfReply(r *queue.Reply, f *policy.Failure) Sign {
	switch {
	case f == nil:
		return SignGood
	case r == nil: // perhaps another connection was wanted in the middle, and was refused
		if s := signOfOpen(f); s.Throttling() {
			return s
		}
		return SignNone
	case r.Code/100 != 4:
		return SignGood // an answer is an answer
	}
	at := afterwards
	if strings.HasPrefix(f.Detail, "MAIL: ") { // as the session writes it before the reply
		at = atSender
	}
	if s := (said{at: at, code: codeText(r.Code), status: r.Status, text: r.Text}).sign(); s != SignNone {
		return s
	}
	return SignGood
}

func codeText(code int) string {
	if code < 100 || code > 999 {
		return ""
	}
	return string([]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)})
}

// signOf is what a whole transaction says: throttling counts more than what went well.
func signOf(sent *Sent) Sign {
	sum := SignNone
	for i := range sent.Results {
		sum = max(sum, signOfReply(sent.Results[i].Reply, sent.Results[i].Failure))
	}
	return sum
}
