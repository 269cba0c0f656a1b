package submission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Sink takes accepted mail. *queue.Queue is one. Enqueue reads d.Body to its end
// and returns nil when the message is durable; it keeps d.Message.ID. EightBit is
// set at the end of the body: a sink that copies d.Message before finds it out itself.
type Sink interface {
	Enqueue(ctx context.Context, d *queue.Draft) (queue.ID, error)
}

// Options of a Server.
type Options struct {
	// Hostname goes into the greeting, the EHLO reply, Received and Message-ID.
	Hostname    string
	Listeners   []Listener
	Credentials []Credential
	Limits      Limits
	Logger      *slog.Logger // nil: nothing is logged
	Observer    Observer     // nil: nobody is told
	// Gate is asked at each MAIL that is otherwise in order. An error that is
	// queue.ErrFull (errors.Is) refuses it with 452 4.3.1, before the message is sent (RFC
	// 1870 6.1); every other one is for the Sink to meet. It is called concurrently and
	// must not block. nil: no gate.
	Gate func() error
}

// TLSMode says how a listener protects its connections.
type TLSMode uint8

// The modes.
const (
	TLSUnset    TLSMode = iota
	TLSNone             // no TLS; only on a loopback address
	TLSStart            // STARTTLS (RFC 3207)
	TLSImplicit         // TLS from the first octet (RFC 8314 3.3)
)

func tlsModeNames() []string { return []string{"unset", "none", "starttls", "implicit"} }

// String returns the mode's configuration word.
func (m TLSMode) String() string {
	if n := tlsModeNames(); int(m) < len(n) {
		return n[m]
	}
	return fmt.Sprintf("unset(%d)", uint8(m))
}

// MarshalText writes the mode's word.
func (m TLSMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the mode's word.
func (m *TLSMode) UnmarshalText(b []byte) (err error) { *m, err = ParseTLSMode(string(b)); return err }

// ParseTLSMode reads "none", "starttls" or "implicit".
func ParseTLSMode(s string) (TLSMode, error) {
	for i, n := range tlsModeNames()[1:] {
		if n == s {
			return TLSMode(i + 1), nil
		}
	}
	return TLSUnset, fmt.Errorf("tls %q is unknown: use starttls, implicit or none", s)
}

// Listener is one submission address.
type Listener struct {
	Name     string       // metric label and queue.Message.Listener; default: Addr
	Addr     string       // host:port to listen on
	Listener net.Listener // already open, used instead of Addr; the Server closes it
	TLS      TLSMode
	// CertFile and KeyFile hold the certificate chain and key in PEM; they are read
	// again when they change. Certificate is a fixed one for tests and demos.
	CertFile, KeyFile string
	Certificate       *tls.Certificate
	// RequireAuth: mail only from clients that authenticated or are in TrustedNetworks.
	RequireAuth     bool
	TrustedNetworks []netip.Prefix
	// ProxyProtocolFrom are the proxies that must send a PROXY header (v1 or v2).
	ProxyProtocolFrom []netip.Prefix
	MaxMessageBytes   int64 // octets of content as received; 0: 25 MiB
	MaxRecipients     int   // for one message; 0: 1000
}

// Limits bound what clients may use up. A zero field takes the default.
type Limits struct {
	Connections  int // at once; 2000
	PerAddress   int // of them from one IPv4 address or IPv6 /64; 250
	Transactions int // for one connection; 10000
	Junk         int // commands that carry no mail, between two messages; 200
	Errors       int // 5xx replies on one connection; 50

	Command   time.Duration // for one whole command line; 5 min (RFC 5321 4.5.3.2.7)
	Handshake time.Duration // for the TLS handshake, and for a PROXY header; 30 s
	Write     time.Duration // for writing replies; 1 min
	DataIdle  time.Duration // between two pieces of content; 3 min
	DataTotal time.Duration // for the content of one message; 2 h
	MinRate   int           // octets per second of content after RateGrace; 256
	RateGrace time.Duration // 1 min
	Drain     time.Duration // how long Serve drains when its context ends; 30 s
	DrainIdle time.Duration // for the next command of an open transaction while draining; 5 s

	HeaderBytes int // octets of the header section; 256 KiB
	LineBytes   int // octets of one line of content; 64 KiB
	Received    int // Received fields; 100 (RFC 5321 6.3)

	Hashing           int           // argon2id computations at once; GOMAXPROCS
	AuthDelay         time.Duration // before the reply to a failed login, doubling up to 8 times; 500 ms
	AuthPerConnection int           // failed logins on one connection; 3
	AuthPerAddress    int           // failed logins from one address before it is cut off; 20
	AuthPerUser       int           // failed logins for one name before strangers to it are cut off; 50
	AuthForgive       time.Duration // one failed login is forgiven each; 1 min
}

func (l Limits) withDefaults() Limits {
	set(&l.Connections, 2000)
	set(&l.PerAddress, 250)
	set(&l.Transactions, 10000)
	set(&l.Junk, 200)
	set(&l.Errors, 50)
	set(&l.Command, 5*time.Minute)
	set(&l.Handshake, 30*time.Second)
	set(&l.Write, time.Minute)
	set(&l.DataIdle, 3*time.Minute)
	set(&l.DataTotal, 2*time.Hour)
	set(&l.MinRate, 256)
	set(&l.RateGrace, time.Minute)
	set(&l.Drain, 30*time.Second)
	set(&l.DrainIdle, 5*time.Second)
	set(&l.HeaderBytes, 256<<10)
	set(&l.LineBytes, 64<<10)
	set(&l.Received, 100)
	set(&l.Hashing, runtime.GOMAXPROCS(0))
	set(&l.AuthDelay, 500*time.Millisecond)
	set(&l.AuthPerConnection, 3)
	set(&l.AuthPerAddress, 20)
	set(&l.AuthPerUser, 50)
	set(&l.AuthForgive, time.Minute)
	return l
}

func set[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// check finds what is wrong with the options, all of it.
func (o *Options) check() error {
	var errs []error
	if _, err := queue.ParseDomain(o.Hostname); err != nil {
		errs = append(errs, fmt.Errorf("submission: hostname: %w", err))
	}
	if len(o.Listeners) == 0 {
		errs = append(errs, errors.New("submission: no listener: give at least one"))
	}
	for i := range o.Listeners {
		if err := o.Listeners[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("submission: listener %d (%s): %w", i+1, o.Listeners[i].name(), err))
		}
	}
	return errors.Join(errs...)
}

func (l *Listener) name() string {
	switch {
	case l.Name != "":
		return l.Name
	case l.Addr != "":
		return l.Addr
	case l.Listener != nil:
		return l.Listener.Addr().String()
	default:
		return "?"
	}
}

func (l *Listener) check() error {
	switch {
	case l.Addr == "" && l.Listener == nil:
		return errors.New("no address: set listen to host:port")
	case l.TLS == TLSUnset || l.TLS > TLSImplicit:
		return errors.New("tls is not set: use starttls, implicit or none")
	case l.TLS != TLSNone && l.Certificate == nil && (l.CertFile == "" || l.KeyFile == ""):
		return fmt.Errorf("tls = %q needs cert_file and key_file", l.TLS)
	case l.MaxMessageBytes < 0 || l.MaxRecipients < 0:
		return errors.New("max_message_bytes and max_recipients must not be negative")
	default:
		return nil
	}
}

// Observer is told what happens at the dock. Calls are concurrent and must not
// block. All strings are from closed sets (see [Reasons], [Mechanisms], [AuthResults])
// or are listener names.
type Observer interface {
	// Connected and Disconnected frame each admitted connection.
	Connected(listener string)
	Disconnected(listener string)
	// Secured is called after each TLS handshake.
	Secured(listener string, state tls.ConnectionState)
	// HandshakeFailed is called for each TLS handshake that did not succeed.
	HandshakeFailed(listener string)
	// Authenticated is called for each AUTH exchange that came to an end.
	Authenticated(mechanism, result string)
	// Accepted is called after each 250 to DATA or BDAT LAST; octets is the size as received.
	Accepted(listener string, octets int64)
	// Rejected is called for each refused sender, recipient or content.
	Rejected(listener, reason string)
	// CertificateLoaded is called when a certificate comes into use.
	CertificateLoaded(listener string, notAfter time.Time)
}

type nobody struct{}

func (nobody) Connected(string)                    {}
func (nobody) Disconnected(string)                 {}
func (nobody) Secured(string, tls.ConnectionState) {}
func (nobody) HandshakeFailed(string)              {}
func (nobody) Authenticated(string, string)        {}
func (nobody) Accepted(string, int64)              {}
func (nobody) Rejected(string, string)             {}
func (nobody) CertificateLoaded(string, time.Time) {}
