package submission

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// rules gathers what the content of this draft is held to. m is the draft's message.
func (tx *draft) rules(g *gate, m *queue.Message, now time.Time) rules {
	l := &g.server.limits
	r := rules{
		maxBytes: g.door.maxBytes, maxHeader: l.HeaderBytes, maxLine: l.LineBytes, maxReceived: l.Received,
		utf8: m.UTF8, hostname: g.server.hostname, now: now, message: m,
		trace: g.trace(m, now),
	}
	if tx.account != nil && len(tx.account.Senders) > 0 {
		r.allows = tx.account.allows
	}
	return r
}

// trace writes the Received field (RFC 5321 4.4): who, by whom, how, which ID, under
// which TLS (RFC 8314 4.3). It names no recipient.
func (g *gate) trace(m *queue.Message, now time.Time) string {
	if g.from == "" {
		g.from = fmt.Sprintf("Received: from %s (%s) by %s\r\n\twith ", helloName(g.name), literal(g.peer.addr), g.server.hostname)
	}
	b := make([]byte, 0, 384)
	b = append(append(b, g.from...), g.protocol(m)...)
	b = append(append(b, " id "...), m.ID...)
	b = append(append(b, g.tlsClause...), ";\r\n\t"...)
	b = append(now.AppendFormat(b, time.RFC1123Z), "\r\n"...)
	return string(b)
}

// tlsClause is RFC 8314 4.3's, with the version as a comment. It stays the same for
// the whole connection.
func tlsClause(s *tls.ConnectionState) string {
	return fmt.Sprintf("\r\n\ttls %s group %s (%s)", tls.CipherSuiteName(s.CipherSuite), groupName(s.CurveID),
		strings.ReplaceAll(tls.VersionName(s.Version), " ", ""))
}

// protocol is the transmission type (RFC 3848, RFC 6531 4.3).
func (g *gate) protocol(m *queue.Message) string {
	name := "ESMTP"
	switch {
	case m.UTF8:
		name = "UTF8SMTP"
	case !g.extended:
		return "SMTP"
	}
	if g.tls != nil {
		name += "S"
	}
	if m.Credential != "" {
		name += "A"
	}
	return name
}

// helloName is what the client called itself, if it can stand in a header.
func helloName(s string) string {
	if d, err := policy.ParseDomain(s); err == nil {
		return string(d)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		if a, err := netip.ParseAddr(strings.TrimPrefix(inner, "IPv6:")); err == nil && a.Zone() == "" {
			return literal(a)
		}
	}
	return "unknown"
}

// literal writes an address literal (RFC 5321 4.1.3).
func literal(a netip.Addr) string {
	switch a = a.Unmap().WithZone(""); {
	case a.Is4():
		return "[" + a.String() + "]"
	case a.Is6():
		return "[IPv6:" + a.String() + "]"
	default:
		return "[unknown]"
	}
}

// groupName is the name in the IANA registry, where Go's is another.
func groupName(c tls.CurveID) string {
	switch c {
	case tls.X25519:
		return "x25519"
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	default:
		return c.String()
	}
}
