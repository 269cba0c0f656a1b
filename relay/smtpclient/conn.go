package smtpclient

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// conn is one SMTP connection past EHLO, with what was learned on it. Between
// uses the pool owns it, during a use the sessions that have a seat on it.
type conn struct {
	*wire
	key  key
	face face // what it shows of the host; the same for as long as it stands
	ext  extensions
	tls  *tls.ConnectionState // nil in the clear
	line line
	// reset: the last transaction failed, RSET goes before the next one. Owned by who reads.
	reset bool

	proving sync.Mutex // guards proof
	proof   proof

	// Owned by the pool, under its lock.
	seats   int           // sessions that use it
	links   [ranks]links  // neighbours among the idle ones
	element *list.Element // place among the idle ones; nil while in use
	timer   *time.Timer   // ends an idle connection
	since   time.Time     // idle since
}

// opening is the making of a connection: greet, EHLO, STARTTLS, handshake, EHLO.
type opening struct {
	p    *Pool
	step policy.Step
	ctx  context.Context
	use  *ticketUse
	c    *conn
}

// dial opens a connection for the step and measures it. The caller holds a slot
// of the host. A failure behind a handshake that succeeded comes with the evidence.
// A handshake that failed over a session to be resumed says nothing of the host's TLS, and
// one that resumed a session shows the certificate of then: where that is not enough, the host may
// have a better one by now. It is done again without.
func (p *Pool) dial(ctx context.Context, s policy.Step, k key) (*conn, policy.Evidence, *policy.Failure) {
	use := p.tickets.for1(k, p.o.Now())
	c, e, f := p.dialWith(ctx, s, use)
	fell := c != nil && e.Resumed && short(s, e)
	if fell {
		p.hangUp(c)
	}
	if fell || f != nil && f.Reason.MayLower() && use.offered {
		use.forget()
		use = p.tickets.for1(k, p.o.Now())
		c, e, f = p.dialWith(ctx, s, use)
	}
	if c != nil && e.Peer == policy.PeerNone {
		use.bar()
	}
	if f != nil && f.Reason.MayLower() {
		p.unmet(k)
	}
	return c, e, f
}

// short reports whether a better certificate might prove more that the step asks for.
func short(s policy.Step, e policy.Evidence) bool {
	_, f := s.Judge(e)
	return f != nil || e.Peer == policy.PeerNone
}

func (p *Pool) dialWith(ctx context.Context, s policy.Step, use *ticketUse) (*conn, policy.Evidence, *policy.Failure) {
	dctx, cancel := context.WithTimeout(ctx, p.o.Timeouts.Connect)
	defer cancel()
	begin := time.Now()
	raw, err := p.o.Dial(dctx, "tcp", s.Addr.String())
	if err != nil {
		return nil, policy.Evidence{}, p.failed(s, connectReason(ctx, err), connectDetail(err))
	}
	p.o.Observer.ConnectionOpened(time.Since(begin))
	o := &opening{p: p, step: s, ctx: ctx, use: use, c: &conn{wire: newWire(raw), key: use.key}}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // unblocks every read and write
	f := o.greet()
	if f == nil {
		f = o.secure()
	}
	if !stop() && f == nil {
		f = p.failed(s, lostReason(ctx, net.ErrClosed), "")
	}
	if f != nil {
		o.c.quit()
		p.o.Observer.ConnectionClosed()
		if o.c.tls == nil || f.Reason.MayLower() { // a TLS failure of the host itself proves nothing
			return nil, policy.Evidence{}, f
		}
		return nil, p.inspect(o.c, s), f
	}
	o.c.line.open(p.o, o.c.key.place, o.c.ext)
	o.c.ready()
	p.met(o.c)
	return o.c, p.inspect(o.c, s), nil
}

// ready joins wire and line.
func (c *conn) ready() { c.dry = c.line.uncork }

func connectDetail(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error() // the address is in the step already
	}
	return err.Error()
}

// failed makes the failure of an Open, logs it and tells the observer.
func (p *Pool) failed(s policy.Step, r policy.Reason, detail string) *policy.Failure {
	p.o.Observer.OpenFailed(r)
	p.o.Logger.Debug("no session", "mx", s.Target.Host, "ip", s.Addr, "rung", s.Rung, "reason", r)
	return &policy.Failure{Reason: r, Host: s.Target.Host, Detail: detail}
}

func (o *opening) lost(err error) *policy.Failure {
	return o.p.failed(o.step, lostReason(o.ctx, err), detail(err))
}

// refused makes the failure of a reply, with the host's own status code.
func (o *opening) refused(r policy.Reason, what string, rep reply) *policy.Failure {
	said := rep.record(noAddresses)
	f := o.p.failed(o.step, r, what+": "+printReply(said))
	f.Status = said.Status
	return f
}

func noAddresses() []string { return nil }

// byClass picks the reason for a reply that was not the wanted one.
func byClass(rep reply, temporary, permanent policy.Reason) policy.Reason {
	switch {
	case rep.temporary():
		return temporary
	case rep.permanent():
		return permanent
	}
	return policy.ProtocolError
}

// greet reads the greeting and says EHLO, or HELO where EHLO is not known.
func (o *opening) greet() *policy.Failure {
	rep, err := o.c.reply(o.p.o.Timeouts.Greeting)
	if err != nil {
		return o.lost(err)
	}
	if rep.code != 220 { // RFC 5321 4.3.2: 220, 554 (or any 4yz, 5yz)
		return o.refused(byClass(rep, policy.GreetingTemporary, policy.GreetingPermanent), "greeting", rep)
	}
	if o.c.r.Buffered() > 0 {
		return o.p.failed(o.step, policy.ProtocolError, "more than one greeting")
	}
	return o.hello()
}

func (o *opening) hello() *policy.Failure {
	o.c.ext = extensions{}
	rep, err := o.c.command("EHLO "+o.p.o.Hostname, o.p.o.Timeouts.Command)
	if err != nil {
		return o.lost(err)
	}
	switch {
	case rep.code == 250:
		o.c.ext = parseEHLO(rep.text)
		return nil
	case rep.code != 500 && rep.code != 502: // RFC 5321 3.2: else EHLO is not known, HELO may be
		return o.refused(byClass(rep, policy.EHLOTemporary, policy.EHLOPermanent), "EHLO", rep)
	}
	rep, err = o.c.command("HELO "+o.p.o.Hostname, o.p.o.Timeouts.Command)
	if err != nil {
		return o.lost(err)
	}
	if rep.code != 250 {
		return o.refused(byClass(rep, policy.EHLOTemporary, policy.EHLOPermanent), "HELO", rep)
	}
	return nil
}

// secure does STARTTLS where the rung has TLS (RFC 3207).
func (o *opening) secure() *policy.Failure {
	if o.step.Rung == policy.Clear {
		return nil
	}
	cfg := o.p.profiles[o.step.Rung]
	if cfg == nil {
		return o.p.failed(o.step, policy.Internal, "a step on no rung")
	}
	if !o.c.ext.startTLS {
		return o.p.failed(o.step, policy.STARTTLSMissing, "")
	}
	if f := o.startTLS(); f != nil {
		return f
	}
	cfg = cfg.Clone()
	cfg.ServerName = string(o.step.Target.SNI) // RFC 7672 8.1, RFC 8461 7.1
	cfg.ClientSessionCache = o.use
	leave := o.p.handshakes.enter(o.ctx.Done())
	defer leave()
	ctx, cancel := context.WithTimeout(o.ctx, o.p.o.Timeouts.TLS)
	defer cancel()
	begin := time.Now()
	t, err := o.c.handshake(ctx, cfg)
	if err != nil {
		return o.handshakeFailed(err)
	}
	leave()
	o.p.o.Observer.HandshakeDone(t.ConnectionState(), time.Since(begin))
	return o.afterHandshake(t)
}

// startTLS asks for TLS and makes sure that nothing but the 220 came back.
func (o *opening) startTLS() *policy.Failure {
	rep, err := o.c.command("STARTTLS", o.p.o.Timeouts.TLS)
	if err != nil {
		// A host that offers STARTTLS and drops or hangs on it has failed at TLS, not
		// at connecting: otherwise it could never be reached again.
		var bad *protocolError
		if o.ctx.Err() != nil || errors.As(err, &bad) {
			return o.lost(err)
		}
		return o.handshakeFailed(err)
	}
	if rep.closing() { // RFC 5321 3.8: the service is going down, whatever was asked
		return o.refused(policy.GreetingTemporary, "STARTTLS", rep)
	}
	if rep.code != 220 {
		return o.refused(byClass(rep, policy.STARTTLSTemporary, policy.STARTTLSRefused), "STARTTLS", rep)
	}
	// RFC 3207 4.2 and CVE-2011-0411: before our ClientHello is out there is
	// nothing that an honest host could have to say.
	if o.c.unexpected() {
		o.c.timeout, o.c.armed = lateTimeout, false
		if _, err := o.c.r.Peek(1); err != nil {
			return o.handshakeFailed(err) // it has hung up
		}
		_ = o.c.fail(errInjected)
		return o.p.failed(o.step, policy.BytesInjected, "")
	}
	return nil
}

var errInjected = errors.New("bytes in clear behind the reply to STARTTLS")

func (o *opening) handshakeFailed(err error) *policy.Failure {
	if o.ctx.Err() != nil { // our own time was over, or we are stopping: nobody's fault
		return o.lost(err)
	}
	_ = o.c.fail(err)
	return o.p.failed(o.step, handshakeReason(err), handshakeDetail(err))
}

// afterHandshake forgets what was learned in the clear and asks again.
func (o *opening) afterHandshake(t *tls.Conn) *policy.Failure {
	cs := t.ConnectionState()
	o.c.tls = &cs
	o.c.ext = extensions{} // RFC 3207 4.2: discard any knowledge obtained before
	f := o.hello()
	if f != nil && cs.Version == tls.VersionTLS13 && remoteAlert(o.c.dead()) != "" {
		// RFC 8446 2: our side of the handshake ends before the host has judged it;
		// its alert comes in place of the first reply.
		return o.handshakeFailed(o.c.dead())
	}
	return f
}
