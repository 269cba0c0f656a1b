package smtpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// Options of a Pool. The zero value of each field is its default.
type Options struct {
	// Hostname is our name in EHLO: an FQDN, or an address literal (RFC 5321
	// 4.1.4). Default "localhost", which strict hosts refuse.
	Hostname string
	// Roots are the trusted roots of WebPKI; nil means the system's.
	Roots    *x509.CertPool
	Timeouts Timeouts
	// BindIPv4 and BindIPv6 are the local addresses to send from; zero: the system's choice.
	BindIPv4, BindIPv6 netip.Addr
	// ConnectionsPerHost limits open connections to one address. Default 20.
	ConnectionsPerHost int
	// MessagesPerConnection limits transactions on one connection. Default 100.
	MessagesPerConnection int
	// Window limits the messages that are out on one connection without their last
	// reply, where the host has PIPELINING and CHUNKING and is far away; when the connection is lost,
	// each of them may or may not have arrived. 1: each waits for the reply to the one
	// before, and connections are not shared. Default 8.
	Window int
	// Handshakes limits the TLS handshakes that go on at once. Default 16 for each
	// processor.
	Handshakes int
	// Limits says what a host may be asked for now, in place of the two above; nil: they hold.
	Limits Limits
	// IdleTime is how long an idle session stays in the pool. Default 15 s: far below
	// the 5 minutes that a host must wait for us (RFC 5321 4.5.3.2.7), and long enough that a
	// thousand hosts stay warm from 70 messages a second on.
	IdleTime time.Duration
	// MaxIdle bounds idle sessions in all; the oldest goes first. Default 2000, and no more
	// than a quarter of the files that the process may have open.
	MaxIdle int
	// PlainData keeps us from using CHUNKING (RFC 3030) anywhere.
	PlainData bool
	// Logger is for debugging; nil discards.
	Logger *slog.Logger
	// Observer is told of connections; nil: nobody is.
	Observer Observer
	// Dial opens TCP connections; nil means a net.Dialer with the bind addresses.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the time at which certificates are judged; nil means time.Now.
	Now func() time.Time
}

// Limits are how much hosts take of us, and which of them share that. Implemented by
// relay.Throttle. Calls are concurrent and must not block.
type Limits interface {
	Place(host policy.Domain, addr netip.AddrPort) relay.Place
	Connections(p relay.Place) int // at once
	Messages(p relay.Place) int    // over one connection; 0: no limit
	Limited(p relay.Place) bool    // less than the operator allows: no window is opened then
}

// fixed are the limits of the options: the same for every address.
type fixed struct{ connections, messages int }

func (fixed) Place(_ policy.Domain, addr netip.AddrPort) relay.Place { return relay.Place{Addr: addr} }
func (f fixed) Connections(relay.Place) int                          { return f.connections }
func (f fixed) Messages(relay.Place) int                             { return f.messages }
func (fixed) Limited(relay.Place) bool                               { return false }

// Timeouts of the phases (RFC 5321 4.5.3.2). Zero means the default.
type Timeouts struct {
	Connect  time.Duration // TCP connection; 30 s
	Greeting time.Duration // the 220; 5 min
	Command  time.Duration // reply to any command before the end of data; 5 min
	TLS      time.Duration // reply to STARTTLS, and the handshake; 30 s each
	Data     time.Duration // reply to the end of data; 10 min
}

// Observer is told what happens to connections. Calls are concurrent and must
// not block.
type Observer interface {
	// ConnectionOpened: a TCP connection stands; took is the dialling.
	ConnectionOpened(took time.Duration)
	// ConnectionClosed is called once for each ConnectionOpened.
	ConnectionClosed()
	// ConnectionReused: a session was taken from the pool.
	ConnectionReused()
	// HandshakeDone: a TLS session stands, whatever it proves.
	HandshakeDone(cs tls.ConnectionState, took time.Duration)
	// OpenFailed: no session could be opened.
	OpenFailed(reason policy.Reason)
}

type nobody struct{}

func (nobody) ConnectionOpened(time.Duration)                   {}
func (nobody) ConnectionClosed()                                {}
func (nobody) ConnectionReused()                                {}
func (nobody) HandshakeDone(tls.ConnectionState, time.Duration) {}
func (nobody) OpenFailed(policy.Reason)                         {}

func (o Options) withDefaults() Options {
	setDefault(&o.Hostname, "localhost")
	setDefault(&o.Timeouts.Connect, 30*time.Second)
	setDefault(&o.Timeouts.Greeting, 5*time.Minute)
	setDefault(&o.Timeouts.Command, 5*time.Minute)
	setDefault(&o.Timeouts.TLS, 30*time.Second)
	setDefault(&o.Timeouts.Data, 10*time.Minute)
	setDefault(&o.ConnectionsPerHost, 20)
	setDefault(&o.MessagesPerConnection, 100)
	setDefault(&o.Window, 8)
	setDefault(&o.Handshakes, 16*runtime.GOMAXPROCS(0))
	setDefault(&o.IdleTime, 15*time.Second)
	setDefault(&o.MaxIdle, idleLimit(openFiles()))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Limits == nil {
		o.Limits = fixed{o.ConnectionsPerHost, o.MessagesPerConnection}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = boundDialer(o.BindIPv4, o.BindIPv6)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
