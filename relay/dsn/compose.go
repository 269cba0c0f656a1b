package dsn

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Listener is the name under which notices enter the queue (queue.Message.Listener).
const Listener = "dsn"

// dateTime is RFC 5322 3.3 with a numeric zone, which RFC 3464 2.2.5 demands.
const dateTime = "Mon, 02 Jan 2006 15:04:05 -0700"

// Options of a Composer.
type Options struct {
	// Hostname is this relay's name: Reporting-MTA, and the domain of From and
	// Message-ID. Needed.
	Hostname policy.Domain
	// NewID makes message IDs; nil means queue.NewID.
	NewID func(time.Time) queue.ID
}

// Composer writes notices. It is safe for concurrent use and holds no state.
type Composer struct {
	host  policy.Domain
	newID func(time.Time) queue.ID
}

var _ queue.Composer = (*Composer)(nil)

// New returns a composer. It fails when the hostname is no domain name.
func New(o Options) (*Composer, error) {
	host, err := policy.ParseDomain(string(o.Hostname))
	if err != nil {
		return nil, fmt.Errorf("dsn: hostname: %w", err)
	}
	if o.NewID == nil {
		o.NewID = queue.NewID
	}
	return &Composer{host: host, newID: o.NewID}, nil
}

// Compose writes one notice about n.Recipients. It returns nil and no error when
// none must be sent: to the null reverse path (RFC 5321 4.5.5), or when no
// recipient wants it (RFC 3461 4.1). The draft's body is in memory; the draft
// belongs to the caller.
func (c *Composer) Compose(n queue.Notice) (*queue.Draft, error) {
	// RFC 5321 6.1: a notice about a message from the null reverse path must not
	// be sent; it is what ends every loop.
	if n.Message.Sender.IsNull() {
		return nil, nil
	}
	if n.Kind < queue.NoticeFailed || n.Kind > queue.NoticeRelayed {
		return nil, fmt.Errorf("dsn: notice of unknown kind %d", n.Kind)
	}
	if n.Now.IsZero() {
		return nil, errors.New("dsn: notice without a time")
	}
	n.Recipients = wanted(n)
	if len(n.Recipients) == 0 {
		return nil, nil
	}
	id := c.newID(n.Now)
	r := &report{Notice: n, host: c.host, id: id, wide: n.Message.Sender.NeedsUTF8()}
	content, err := r.write()
	if err != nil {
		return nil, fmt.Errorf("dsn: %w", err)
	}
	return &queue.Draft{
		Message: queue.Message{
			ID:       id,
			Listener: Listener,
			// RFC 3461 6.1: RET must not be used when a DSN is sent, so Ret stays "".
			EightBit: !isASCII(content),
			UTF8:     r.wide,
			// RFC 8689 5: the notice must ask for REQUIRETLS as the message did.
			RequireTLS: n.Message.RequireTLS,
			Floor:      noticeFloor(n.Message),
		},
		Recipients: []queue.Recipient{{
			Address: n.Message.Sender,
			Notify:  queue.NotifyNever, // RFC 3461 6.1: the only value allowed
		}},
		Body: bytes.NewReader(content),
	}, nil
}

// wanted returns the recipients that a notice of this kind is due for.
func wanted(n queue.Notice) []queue.Recipient {
	list := make([]queue.Recipient, 0, len(n.Recipients))
	for _, rcpt := range n.Recipients {
		if wants(n.Kind, rcpt) {
			list = append(list, rcpt)
		}
	}
	return list
}

func wants(kind queue.NoticeKind, rcpt queue.Recipient) bool {
	if rcpt.Notify&queue.NotifyNever != 0 {
		return false
	}
	switch kind {
	case queue.NoticeFailed: // RFC 3461 5.2.6: also without a wish
		return rcpt.Notify == 0 || rcpt.Notify&queue.NotifyFailure != 0
	case queue.NoticeDelayed: // RFC 3461 5.2.5
		return rcpt.Notify == 0 || rcpt.Notify&queue.NotifyDelay != 0
	default: // RFC 3461 5.2.2 (b), (e): only by wish, and only when the next host does not do it
		return rcpt.Notify&queue.NotifySuccess != 0 && (rcpt.Last == nil || !rcpt.Last.DSNHandedOn)
	}
}

// noticeFloor protects a notice as its message was to be protected, as far as a
// return path can be asked to: the notice holds the message's header. Beyond
// encryption the sender's own mail host may not be able to follow, and a notice
// that never arrives helps nobody (own, in the spirit of RFC 8689 5).
func noticeFloor(m queue.Message) policy.Level {
	return min(max(m.Floor, m.Account), policy.Encrypted)
}

// report is one notice being written.
type report struct {
	queue.Notice
	host policy.Domain
	id   queue.ID
	// wide: the notice itself needs SMTPUTF8, because the sender's address does.
	// Only then may header and fields hold octets above 127 as they are (RFC 6533 4.5).
	wide bool
}

// part is one MIME part, encoded.
type part struct {
	mediaType string
	encoding  string // Content-Transfer-Encoding; "" is 7bit
	about     string // Content-Description
	content   []byte
}

func (r *report) write() ([]byte, error) {
	parts := []part{r.textPart(), r.statusPart()}
	if p, ok := r.originalPart(); ok {
		parts = append(parts, p)
	}
	var out bytes.Buffer
	boundary := boundaryFor(parts)
	r.writeHeader(&out, boundary, parts)
	w := multipart.NewWriter(&out)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, err
	}
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		h.Set("Content-Type", p.mediaType)
		h.Set("Content-Description", p.about)
		if p.encoding != "" {
			h.Set("Content-Transfer-Encoding", p.encoding)
		}
		pw, err := w.CreatePart(h)
		if err != nil {
			return nil, err
		}
		if _, err := pw.Write(p.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (r *report) writeHeader(out *bytes.Buffer, boundary string, parts []part) {
	field(out, "Date", r.Now.UTC().Format(dateTime))
	field(out, "From", "Mail Delivery System <MAILER-DAEMON@"+string(r.host)+">")
	field(out, "To", "<"+r.clean(r.Message.Sender.String())+">")
	field(out, "Subject", subject(r.Kind))
	field(out, "Message-ID", "<"+cleanASCII(string(r.id))+"@"+string(r.host)+">")
	// RFC 3834 3.1.6: an answer names what it answers.
	if id := messageID(r.Original); id != "" {
		field(out, "In-Reply-To", id)
		field(out, "References", id)
	}
	field(out, "Auto-Submitted", "auto-replied") // RFC 3834 5.2: never auto-generated
	field(out, "MIME-Version", "1.0")
	out.WriteString("Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"" + boundary + "\"\r\n")
	for _, p := range parts {
		if p.encoding == eightBit {
			field(out, "Content-Transfer-Encoding", eightBit) // RFC 2045 6.4
			break
		}
	}
	out.WriteString("\r\n")
}

func subject(kind queue.NoticeKind) string {
	switch kind {
	case queue.NoticeFailed:
		return "Your message could not be delivered"
	case queue.NoticeDelayed:
		return "Your message is delayed"
	default:
		return "Your message was passed on"
	}
}

// boundaryFor makes a boundary out of a digest of the parts: whoever writes a
// part's content cannot know the boundary that this content leads to, and the
// rest of luck is checked. "=_" is in no quoted-printable text (RFC 2045 6.7 (1)).
func boundaryFor(parts []part) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p.content))))
		h.Write(p.content)
	}
	for {
		sum := h.Sum(nil)
		b := "=_" + hex.EncodeToString(sum[:16])
		if !occurs(b, parts) {
			return b
		}
		h.Write(sum)
	}
}

func occurs(boundary string, parts []part) bool {
	for _, p := range parts {
		if bytes.Contains(p.content, []byte(boundary)) {
			return true
		}
	}
	return false
}
