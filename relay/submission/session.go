package submission

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/queue"
)

// session is what go-smtp calls back. It works for one gate. Mail, Rcpt, Auth and
// Reset run on the connection's goroutine; for BDAT, Data runs on another one while
// Reset and Logout may be called (field notes S31), so what Data needs is taken out
// at its beginning.
type session struct {
	gate    *gate
	account *account // nil: not authenticated

	mu sync.Mutex
	tx *draft // nil: no transaction
}

// draft is a message in the making: MAIL and RCPT so far.
type draft struct {
	message    queue.Message
	recipients []queue.Recipient
	account    *account
}

var _ smtp.AuthSession = (*session)(nil)

func newSession(g *gate) *session { return &session{gate: g} }

// Reset forgets the transaction.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = nil
}

// Logout forgets everything.
func (s *session) Logout() error {
	s.Reset()
	return nil
}

// refuse is the boundary: every error that leaves the session goes through it.
func (s *session) refuse(err error) error {
	r := asReply(err)
	s.gate.server.observer.Rejected(s.gate.door.name, string(r.why))
	return r.smtp()
}

// Mail begins a transaction. The address is the one that the gate parsed.
func (s *session) Mail(_ string, o *smtp.MailOptions) error {
	g := s.gate
	sender := g.tx.sender
	if err := s.mayMail(sender); err != nil {
		return s.refuse(err)
	}
	tx := &draft{
		message: queue.Message{
			Listener: g.door.name, Sender: sender, UTF8: g.tx.utf8, RequireTLS: o.RequireTLS,
			Ret: string(o.Return), EnvelopeID: o.EnvelopeID,
		},
		account: s.account,
	}
	if s.account != nil {
		tx.message.Credential = s.account.Name
		tx.message.Account = s.account.Floor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = tx
	return nil
}

// mayMail says whether this client may send as this address, now.
func (s *session) mayMail(sender queue.Address) error {
	g := s.gate
	if s.account == nil {
		switch {
		case !g.door.options.RequireAuth || g.peer.trusted:
			return g.server.hasRoom()
		case g.tls == nil && g.door.tls != nil && !g.peer.local:
			return errNeedTLS() // RFC 3207 4
		default:
			return errNeedAuth() // RFC 4954 6
		}
	}
	now := g.server.accounts.Load().byName[s.account.Name]
	if !now.same(s.account) {
		return errWithdrawn()
	}
	s.account = now
	if !now.allows(sender) {
		return errSenderRefused("this credential may not send as this address")
	}
	if err := g.server.hasRoom(); err != nil {
		return err // before the limiter: what is not taken does not count
	}
	if now.limiter != nil && !now.limiter.Allow() {
		return errRate()
	}
	return nil
}

// hasRoom asks Options.Gate. What could not be kept is refused at MAIL, before the
// client sends it (RFC 1870 6.1); Enqueue's own check at the end of the content stays.
func (s *Server) hasRoom() error {
	if s.room == nil {
		return nil
	}
	if err := s.room(); errors.Is(err, queue.ErrFull) {
		return errFull()
	}
	return nil
}

// Rcpt adds the recipient that the gate parsed.
func (s *session) Rcpt(_ string, o *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx == nil {
		return s.refuse(errSequence("MAIL first"))
	}
	r := queue.Recipient{Address: s.gate.tx.rcpt}
	for _, n := range o.Notify {
		switch n {
		case smtp.DSNNotifyNever:
			r.Notify |= queue.NotifyNever
		case smtp.DSNNotifySuccess:
			r.Notify |= queue.NotifySuccess
		case smtp.DSNNotifyFailure:
			r.Notify |= queue.NotifyFailure
		case smtp.DSNNotifyDelayed:
			r.Notify |= queue.NotifyDelay
		}
	}
	switch o.OriginalRecipientType {
	case smtp.DSNAddressTypeRFC822:
		r.ORcpt = "rfc822;" + o.OriginalRecipient
	case smtp.DSNAddressTypeUTF8:
		r.ORcpt = "utf-8;" + o.OriginalRecipient
	}
	s.tx.recipients = append(s.tx.recipients, r)
	return nil
}

// Data takes the content in. nil from the sink is the instant of acceptance.
func (s *session) Data(r io.Reader) error {
	g := s.gate
	g.server.work.Add(1)
	defer g.server.work.Done()
	s.mu.Lock()
	tx := s.tx
	s.tx = nil
	s.mu.Unlock()
	if taken := g.taken; taken != nil {
		close(taken)
	} else {
		r = dataReader{g}
	}
	if tx == nil {
		return s.refuse(errAborted())
	}
	now := time.Now()
	tx.message.ID = queue.NewID(now)
	d := &queue.Draft{Message: tx.message, Recipients: tx.recipients}
	raw := g.server.headers.Get().(*[]byte)
	defer g.server.headers.Put(raw)
	rules := tx.rules(g, &d.Message, now)
	rules.buffer = raw
	c, err := newContent(r, rules)
	if err != nil {
		return s.refuse(err)
	}
	d.Body = c
	id, err := g.server.sink.Enqueue(g.server.ctx, d)
	if err == nil && !c.done {
		err = errors.New("the sink accepted a message without reading it to its end")
	}
	if err != nil {
		return s.refuse(g.server.explain(err, c, d.Message.ID))
	}
	g.server.observer.Accepted(g.door.name, c.octets)
	if g.server.log.Enabled(g.server.ctx, slog.LevelDebug) { // else its arguments would be made for nothing
		g.server.log.Debug("message accepted", "msg", id, "listener", g.door.name, "recipients", len(tx.recipients), "octets", c.octets)
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 6, 0}, Message: "queued as " + string(id)}
}

// explain maps an Enqueue error to a reply. The content's own fault comes first,
// however the sink has wrapped it.
func (s *Server) explain(err error, c *content, id queue.ID) error {
	switch {
	case c.err != nil:
		return c.err
	case errors.Is(err, queue.ErrFull):
		return errFull()
	case s.ctx.Err() != nil:
		return errGoingDown()
	default:
		s.log.Error("message not accepted", "msg", id, "err", err)
		return errInternal(string(id))
	}
}
