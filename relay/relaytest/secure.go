package relaytest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// startTLS answers the command; the handshake follows when the reply was a 220.
func (s *session) startTLS(arg string) (string, error) {
	usual := "220 2.0.0 go ahead"
	switch {
	case arg != "":
		s.breach("STARTTLS with a parameter (RFC 3207 4)")
		usual = "501 5.5.4 no parameters"
	case s.state != nil:
		s.breach("STARTTLS under TLS")
		usual = "503 5.5.1 TLS is on already"
	case s.b.TLS == nil:
		s.breach("STARTTLS was not offered")
		usual = "502 5.5.1 not here"
	}
	return s.say(STARTTLS, arg, usual)
}

// handshake makes the session an encrypted one, or breaks as the script says.
func (s *session) handshake() error {
	if a := s.ask(Event{Phase: Handshake}); !a.ordinary() {
		if _, err := s.reply(a, ""); err != nil {
			return err
		}
	}
	if err := s.w.Flush(); err != nil {
		return errOver
	}
	if s.b.TLS == nil {
		_ = s.raw.Close()
		return errOver
	}
	under := net.Conn(&buffered{s.raw, s.r})
	if s.b.MaxClientHello > 0 {
		head, err := s.r.Peek(5)
		if err != nil || int(binary.BigEndian.Uint16(head[3:])) > s.b.MaxClientHello {
			s.failed(errors.New("the ClientHello is too long"))
			return s.then(max(s.b.LongHello, Drop))
		}
	}
	conn := tls.Server(under, s.b.TLS)
	if err := conn.HandshakeContext(s.host.ctx); err != nil {
		s.failed(err)
		_ = s.raw.Close()
		return errOver
	}
	state := conn.ConnectionState()
	s.conn, s.state = conn, &state
	s.r, s.w = bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 16<<10)
	// RFC 3207 4.2: what was learned before is forgotten.
	s.helo, s.offered = false, nil
	s.reset()
	s.host.record.change(func() {
		s.host.record.stats.Handshakes++
		r := &s.host.record.sessions[s.number-1]
		r.TLS, r.Suite, r.Curve = state.Version, state.CipherSuite, uint16(state.CurveID)
		r.SNI, r.Resumed = state.ServerName, state.DidResume
	})
	return nil
}

func (s *session) failed(err error) {
	s.edit(func(r *SessionRecord) { r.HandshakeError = err.Error() })
}

// buffered is a connection whose first octets were read already.
type buffered struct {
	net.Conn
	r io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
