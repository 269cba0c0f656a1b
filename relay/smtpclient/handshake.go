package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// handshakeReason says what a failed TLS handshake means for the walk.
func handshakeReason(err error) policy.Reason {
	if alert := remoteAlert(err); alert != "" {
		// What a smaller ClientHello cannot cure: no common version, suite or
		// group (RFC 8446 6.2). The classical hello offers less, not more.
		for _, a := range []tls.AlertError{40, 70, 71} { // handshake_failure, protocol_version, insufficient_security
			if alert == a.Error() {
				return policy.HandshakeVersion
			}
		}
		return policy.HandshakeAlert
	}
	switch {
	case isTimeout(err):
		return policy.HandshakeStall
	case isEOF(err), isReset(err), errors.Is(err, net.ErrClosed):
		return policy.HandshakeEOF
	}
	// crypto/tls has no typed errors for what we ourselves could not accept, so
	// its words are all there is; handshake_test.go holds each of them still.
	text := err.Error()
	switch {
	case strings.Contains(text, "unsupported protocol version"),
		strings.Contains(text, "unconfigured cipher suite"),
		strings.Contains(text, "unsupported group"),
		strings.Contains(text, "unsupported curve"):
		return policy.HandshakeVersion
	case strings.Contains(text, "certificate"), strings.Contains(text, "RSA key"):
		return policy.HandshakeCertificate
	}
	return policy.HandshakeAlert
}

// remoteAlert is the text of an alert that the host sent, or "".
func remoteAlert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// handshakeDetail is for a person; the errors of crypto/tls have no secrets, but
// those of the connection have our address.
func handshakeDetail(err error) string {
	if alert := remoteAlert(err); alert != "" {
		return "alert: " + strings.TrimPrefix(alert, "tls: ")
	}
	if text := err.Error(); strings.HasPrefix(text, "tls: ") {
		return cut(string(appendPrintable(nil, []byte(text))))
	}
	return detail(err)
}

// handshake runs TLS over w and puts w on it.
func (w *wire) handshake(ctx context.Context, cfg *tls.Config) (*tls.Conn, error) {
	_ = w.raw.SetDeadline(time.Time{}) // ctx bounds the handshake; a dead connection fails there
	t := tls.Client(w.raw, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, w.fail(err)
	}
	w.conn = t
	w.r.Reset(w)
	return t, nil
}
