package submission

import (
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"
)

// reason is why something was refused: a metric label from a closed set.
type reason string

const (
	reasonAddress  reason = "address"
	reasonAuth     reason = "auth"
	reasonContent  reason = "content"
	reasonFull     reason = "full"
	reasonHeader   reason = "header"
	reasonInternal reason = "internal"
	reasonLoop     reason = "loop"
	reasonNewline  reason = "newline"
	reasonRate     reason = "rate"
	reasonRcpts    reason = "recipients"
	reasonSender   reason = "sender"
	reasonShutdown reason = "shutdown"
	reasonSize     reason = "size"
	reasonSyntax   reason = "syntax"
	reasonTLS      reason = "tls"
	reasonUTF8     reason = "utf8"
	reasonBroken   reason = "broken" // the connection ended or stalled inside the content
)

// Reasons returns every reason that Observer.Rejected can be called with.
func Reasons() []string {
	all := []reason{
		reasonAddress, reasonAuth, reasonBroken, reasonContent, reasonFull, reasonHeader, reasonInternal, reasonLoop,
		reasonNewline, reasonRate, reasonRcpts, reasonSender, reasonShutdown, reasonSize, reasonSyntax, reasonTLS, reasonUTF8,
	}
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = string(r)
	}
	return out
}

// status is an enhanced status code (RFC 3463).
type status [3]int

// reply is what a client is told. It is an error inside this package; at the
// boundary it becomes exactly *smtp.SMTPError, because go-smtp matches by type
// assertion and would show any other error's text to the client (field notes S8).
type reply struct {
	code   int
	status status
	text   string // one line of printable ASCII, without anything of the client's
	why    reason
}

func (r *reply) Error() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.code, r.status[0], r.status[1], r.status[2], r.text)
}

func (r *reply) smtp() *smtp.SMTPError {
	return &smtp.SMTPError{Code: r.code, EnhancedCode: smtp.EnhancedCode(r.status), Message: r.text}
}

// asReply is the one place where an error becomes a reply: ours as it is, every
// other one as a temporary failure without its text (field notes F48).
func asReply(err error) *reply {
	var r *reply
	if errors.As(err, &r) {
		return r
	}
	return errInternal("")
}

// The table of replies: RFC 5321 4.2.3, with the enhanced codes of RFC 3463,
// 4954 6, 6531 3.5 and 3207 4.

func errGoingDown() *reply {
	return &reply{421, status{4, 3, 2}, "going down, try again", reasonShutdown}
}
func errBusy() *reply {
	return &reply{421, status{4, 7, 0}, "too many connections, try again later", reasonRate}
}
func errTooManyErrors() *reply {
	return &reply{421, status{4, 7, 0}, "too many errors", reasonSyntax}
}
func errTooManyCommands() *reply {
	return &reply{421, status{4, 7, 0}, "too many commands for one connection", reasonRate}
}
func errNotHTTP() *reply { return &reply{421, status{4, 7, 0}, "this is SMTP", reasonSyntax} }
func errIdle() *reply    { return &reply{421, status{4, 4, 2}, "timeout, closing", reasonBroken} }
func errStalled() *reply {
	return &reply{421, status{4, 4, 2}, "content came too slowly", reasonBroken}
}
func errTruncated() *reply { return &reply{421, status{4, 4, 2}, "content ended early", reasonBroken} }
func errAborted() *reply   { return &reply{451, status{4, 3, 0}, "transaction aborted", reasonBroken} }
func errLoginLimit() *reply {
	return &reply{421, status{4, 7, 0}, "too many failed logins", reasonAuth}
}
func errWithdrawn() *reply {
	return &reply{421, status{4, 7, 0}, "the credential has changed, authenticate again", reasonAuth}
}

func errRate() *reply {
	return &reply{450, status{4, 7, 0}, "too many messages for this credential, slow down", reasonRate}
}
func errInternal(id string) *reply {
	text := "internal error, try again"
	if id != "" {
		text = "internal error, try again (" + id + ")"
	}
	return &reply{451, status{4, 3, 0}, text, reasonInternal}
}
func errFull() *reply {
	return &reply{452, status{4, 3, 1}, "no room now, try again later", reasonFull}
}
func errAuthBusy() *reply {
	return &reply{454, status{4, 7, 0}, "authentication not available now, try again", reasonAuth}
}

func errLineTooLong() *reply { return &reply{500, status{5, 5, 2}, "line too long", reasonSyntax} }
func errAuthTooLong() *reply { return &reply{500, status{5, 5, 6}, "AUTH line too long", reasonSyntax} }
func errUnknown() *reply     { return &reply{500, status{5, 5, 2}, "command not known", reasonSyntax} }
func errLineEnd() *reply     { return &reply{500, status{5, 5, 2}, "lines end in CR LF", reasonSyntax} }
func errOctets() *reply {
	return &reply{500, status{5, 5, 2}, "control or non-ASCII octet", reasonSyntax}
}
func errNoChunking() *reply { return &reply{501, status{5, 5, 4}, "bad BDAT argument", reasonSyntax} }
func errBase64() *reply     { return &reply{501, status{5, 5, 2}, "not base64", reasonSyntax} }
func errCancelled() *reply {
	return &reply{501, status{5, 7, 0}, "authentication cancelled", reasonAuth}
}
func errNotOffered() *reply {
	return &reply{502, status{5, 5, 1}, "command not available", reasonSyntax}
}
func errMechanism() *reply {
	return &reply{504, status{5, 5, 4}, "AUTH mechanism not known", reasonAuth}
}
func errNeedAuth() *reply { return &reply{530, status{5, 7, 0}, "authentication required", reasonAuth} }
func errNeedTLS() *reply  { return &reply{530, status{5, 7, 0}, "STARTTLS required first", reasonTLS} }
func errCredentials() *reply {
	return &reply{535, status{5, 7, 8}, "credentials not accepted", reasonAuth}
}
func errNoRecipients() *reply { return &reply{503, status{5, 5, 1}, "no recipient yet", reasonSyntax} }

func errParameter(what string) *reply {
	return &reply{501, status{5, 5, 4}, "bad value: " + what, reasonSyntax}
}
func errUnknownParameter(command string) *reply {
	return &reply{555, status{5, 5, 4}, "parameter of " + command + " not known", reasonSyntax}
}
func errSequence(what string) *reply {
	return &reply{503, status{5, 5, 1}, what, reasonSyntax}
}
func errSender(what string) *reply {
	return &reply{501, status{5, 1, 7}, "bad sender " + what, reasonAddress}
}
func errRecipient(what string) *reply {
	return &reply{501, status{5, 1, 3}, "bad recipient " + what, reasonAddress}
}
func errSenderUTF8() *reply {
	return &reply{550, status{5, 6, 7}, "a non-ASCII address needs SMTPUTF8", reasonUTF8} // RFC 6531 3.5
}
func errRecipientUTF8() *reply {
	return &reply{553, status{5, 6, 7}, "a non-ASCII address needs SMTPUTF8", reasonUTF8} // RFC 6531 3.5
}
func errHeaderUTF8() *reply {
	return &reply{554, status{5, 6, 9}, "a non-ASCII header needs SMTPUTF8", reasonUTF8}
}
func errSenderRefused(what string) *reply {
	return &reply{550, status{5, 7, 1}, what, reasonSender}
}
func errHeader(what string) *reply { return &reply{550, status{5, 6, 0}, what, reasonHeader} }
func errTooBig() *reply {
	return &reply{552, status{5, 3, 4}, "message is larger than this server takes", reasonSize}
}
func errHeaderTooBig(limit int) *reply {
	return &reply{552, status{5, 3, 4}, fmt.Sprintf("header is larger than %d octets", limit), reasonSize}
}
func errNewline() *reply {
	return &reply{554, status{5, 6, 0}, "bare CR or bare LF in the content: lines end in CR LF", reasonNewline}
}
func errContent(what string) *reply { return &reply{554, status{5, 6, 0}, what, reasonContent} }
func errLoop() *reply {
	return &reply{554, status{5, 4, 0}, "mail loop: too many Received fields", reasonLoop}
}
