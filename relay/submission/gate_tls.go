package submission

import (
	"crypto/tls"
	"time"
)

// secure does the TLS handshake.
func (g *gate) secure() bool {
	g.lessen() // nothing of before is in the reader
	g.arm(time.Now().Add(g.server.limits.Handshake), waitYielding)
	_ = g.tcp.SetWriteDeadline(time.Now().Add(g.server.limits.Handshake))
	tc := tls.Server(g.conn, g.door.tls)
	if err := tc.Handshake(); err != nil {
		g.server.observer.HandshakeFailed(g.door.name)
		g.server.log.Debug("TLS handshake failed", "listener", g.door.name, "err", err)
		return false
	}
	g.settle()
	state := tc.ConnectionState()
	g.conn, g.tls, g.tlsClause = tc, &state, tlsClause(&state)
	g.br.Reset(tc)
	g.server.observer.Secured(g.door.name, state)
	return true
}

// startTLS answers STARTTLS and passes the connection to a new gate and a new
// go-smtp session, so that nothing from before is known after (RFC 3207 4.2). When
// the handshake fails the connection ends: nobody talks on in clear (F9).
func (g *gate) startTLS() {
	g.out = append(g.out, "220 2.0.0 ready to start TLS\r\n"...)
	err := g.flush()
	g.phase, g.ending = phaseOver, true
	if err != nil || !g.secure() {
		return
	}
	next := &gate{
		server: g.server, door: g.door, conn: g.conn, tcp: g.tcp, br: g.br, peer: g.peer,
		tls: g.tls, tlsClause: g.tlsClause, hush: true,
	}
	next.errors, next.logins = g.errors, g.logins
	next.commands, next.messages = g.commands, g.messages
	g.moved = true
	g.server.conns.replace(g, next)
	if !g.door.serve(next) {
		_ = next.Close()
	}
}
