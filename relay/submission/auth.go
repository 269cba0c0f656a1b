package submission

import (
	"context"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// The mechanisms.
const (
	mechPLAIN     = "PLAIN"
	mechLOGIN     = "LOGIN"
	mechSCRAM     = scramName
	mechSCRAMPlus = scramName + "-PLUS"
)

// Mechanisms returns every mechanism that Observer.Authenticated can be called with.
func Mechanisms() []string { return []string{mechPLAIN, mechLOGIN, mechSCRAM, mechSCRAMPlus} }

// The results of an AUTH exchange.
const (
	authOK      = "ok"
	authRefused = "refused" // wrong name or password
	authBlocked = "blocked" // too many failures before
	authError   = "error"   // malformed, or not available now
)

// AuthResults returns every result that Observer.Authenticated can be called with.
func AuthResults() []string { return []string{authOK, authRefused, authBlocked, authError} }

// hashWait bounds the wait for a free hashing slot.
const hashWait = 20 * time.Second

// maxPassword bounds names and passwords in octets.
const maxPassword = 1024

// AuthMechanisms lists what this client is offered: nothing in clear except to
// loopback (RFC 4954 4, RFC 8314 3), and nothing that no credential has a verifier for.
func (s *session) AuthMechanisms() []string {
	g := s.gate
	if g.tls == nil && !g.peer.local || g.authed {
		return nil
	}
	var out []string
	n := g.server.accounts.Load()
	if n.scrams {
		if _, err := s.binding(); err == nil {
			out = append(out, mechSCRAMPlus)
		}
		out = append(out, mechSCRAM)
	}
	if n.passwords {
		out = append(out, mechPLAIN, mechLOGIN)
	}
	return out
}

// Auth begins an exchange.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	g := s.gate
	offered := false
	for _, m := range s.AuthMechanisms() {
		offered = offered || m == mechanism
	}
	switch {
	case !offered && g.tls == nil && !g.peer.local && g.door.tls != nil:
		return nil, errNeedTLS().smtp() // RFC 4954 4
	case !offered:
		return nil, errMechanism().smtp()
	case g.logins >= g.server.limits.AuthPerConnection:
		g.server.observer.Authenticated(mechanism, authBlocked)
		return nil, errLoginLimit().smtp()
	}
	x := &exchange{session: s, mechanism: mechanism}
	switch mechanism {
	case mechPLAIN:
		x.inner = sasl.NewPlainServer(func(identity, name, password string) error {
			if identity != "" && identity != name {
				return x.refused(name) // nobody acts for somebody else here (RFC 4616 2)
			}
			return x.password(name, password)
		})
	case mechLOGIN:
		x.inner = &loginServer{check: x.password}
	default:
		x.inner = s.newSCRAM(x)
	}
	return x, nil
}

// exchange wraps a mechanism: errors leave it as replies, and are counted.
type exchange struct {
	session   *session
	mechanism string
	inner     sasl.Server
}

// Next goes one step on.
func (x *exchange) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := x.inner.Next(response)
	if err == nil {
		return challenge, done, nil
	}
	r, ok := err.(*reply)
	if !ok {
		r = errParameter("malformed response") // RFC 4954 4; the text of err stays here
	}
	result := authError
	switch r.code {
	case 535:
		result = authRefused
	case 421:
		result = authBlocked
	}
	x.session.gate.server.observer.Authenticated(x.mechanism, result)
	return nil, false, r.smtp()
}

// password judges a name and password (PLAIN, LOGIN).
func (x *exchange) password(name, password string) error {
	s := x.session.gate.server
	if err := x.admit(name); err != nil {
		return err
	}
	if name == "" || len(name) > maxPassword || password == "" || len(password) > maxPassword {
		return x.refused(name)
	}
	n := s.accounts.Load()
	ctx, cancel := context.WithTimeout(s.ctx, hashWait)
	defer cancel()
	a, err := n.login(ctx, s.hashing, name, password)
	switch {
	case err != nil:
		return err
	case a == nil:
		return x.refused(name)
	}
	x.accepted(a)
	return nil
}

// admit turns away who has failed too often.
func (x *exchange) admit(name string) error {
	g := x.session.gate
	if g.server.failures.blocked(g.peer.addr, name) {
		return errLoginLimit()
	}
	return nil
}

// refused counts a failure, waits a while in this session only, and answers.
func (x *exchange) refused(name string) error {
	g := x.session.gate
	g.logins++
	wait := time.NewTimer(g.server.failures.failed(g.peer.addr, name))
	defer wait.Stop()
	_ = g.flush()
	select {
	case <-wait.C:
	case <-g.server.draining:
	}
	g.server.log.Warn("login refused", "listener", g.door.name, "mechanism", x.mechanism, "ip", g.peer.addr)
	return errCredentials()
}

func (x *exchange) accepted(a *account) {
	g := x.session.gate
	g.server.failures.succeeded(g.peer.addr, a.Name)
	x.session.account = a
	g.server.observer.Authenticated(x.mechanism, authOK)
}

// loginServer is the server side of LOGIN (draft-murchison-sasl-login): no
// standard, but all that some old clients speak.
type loginServer struct {
	check func(name, password string) error
	name  string
	step  int
}

// Next asks for the name, then for the password. An initial response is the name.
func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && l.step == 0 {
		return []byte("Username:"), false, nil
	}
	l.step++
	switch l.step {
	case 1:
		l.name = string(response)
		return []byte("Password:"), false, nil
	case 2:
		return nil, true, l.check(l.name, string(response))
	default:
		return nil, false, sasl.ErrUnexpectedClientResponse
	}
}

// scramServer adapts a SCRAM conversation (RFC 5802, RFC 7677) to go-sasl. The
// server's final message goes out as one more challenge, to be answered by an
// empty response (RFC 4954 4: the server never sends data with 235).
type scramServer struct {
	exchange *exchange
	talk     *scram.ServerConversation
	admitted bool
	over     bool
}

// binding is the channel binding tls-exporter (RFC 9266). It needs TLS 1.3, or
// 1.2 with the extended master secret.
func (s *session) binding() (scram.ChannelBinding, error) {
	if s.gate.tls == nil {
		return scram.ChannelBinding{}, errNeedTLS()
	}
	return scram.NewTLSExporterBinding(s.gate.tls)
}

func (s *session) newSCRAM(x *exchange) *scramServer {
	server := s.gate.server.accounts.Load().server
	cb, err := s.binding()
	switch {
	case err != nil:
		return &scramServer{exchange: x, talk: server.NewConversation()}
	case x.mechanism == mechSCRAMPlus:
		return &scramServer{exchange: x, talk: server.NewConversationWithChannelBindingRequired(cb)}
	default: // notices a client that was kept from seeing -PLUS (RFC 5802 6)
		return &scramServer{exchange: x, talk: server.NewConversationWithChannelBinding(cb)}
	}
}

// Next goes one step on.
func (c *scramServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil:
		return nil, false, nil // the client speaks first
	case c.over && len(response) == 0:
		return nil, true, nil
	case c.over:
		return nil, false, sasl.ErrUnexpectedClientResponse
	}
	challenge, err := c.talk.Step(string(response))
	name := c.talk.Username()
	if !c.admitted && name != "" {
		c.admitted = true
		if r := c.exchange.admit(name); r != nil {
			return nil, false, r
		}
	}
	switch {
	case err != nil && name == "":
		return nil, false, err
	case err != nil, c.talk.AuthzID() != "" && c.talk.AuthzID() != name, len(name) > maxPassword:
		return nil, false, c.exchange.refused(name)
	case !c.talk.Done():
		return []byte(challenge), false, nil
	}
	a := c.exchange.session.gate.server.accounts.Load().byName[name]
	if a == nil || !c.talk.Valid() {
		return nil, false, c.exchange.refused(name)
	}
	c.over = true
	c.exchange.accepted(a)
	return []byte(challenge), false, nil
}
