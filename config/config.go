package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Config is a whole configuration: typed, checked, complete. It is a snapshot that
// nobody changes once it is made.
type Config struct {
	Server      Server
	Submission  []Submission
	Credentials []Credential
	HTTP        HTTP
	DNS         DNS
	Delivery    Delivery
	Retry       Retry
	Queue       Queue
	Policy      Policy
	// Notes are things to know that are no mistakes. They are not part of the
	// configuration: Print leaves them out.
	Notes []Problem
}

// Server is [server].
type Server struct {
	Hostname string // the machine's FQDN where the text has none
	DataDir  string
	Log      Log
}

// Log is [server.log].
type Log struct {
	Format    LogFormat
	Level     slog.Level
	Addresses bool // addresses of persons may stand in the log
}

// LogFormat is how log lines are written.
type LogFormat string

// The formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Submission is one [[submission]] listener.
type Submission struct {
	Listen      string // IP:port
	TLS         TLSMode
	CertFile    string // both or none; none only where the listener is not Exposed
	KeyFile     string
	RequireAuth bool
	// TrustedNetworks may submit without credentials.
	TrustedNetworks   []netip.Prefix
	ProxyProtocolFrom []netip.Prefix
	MaxMessageBytes   int64
	MaxRecipients     int
}

// Exposed reports whether other machines can reach the listener: it is not on
// loopback, or a proxy brings it their connections.
func (s *Submission) Exposed() bool {
	a, err := netip.ParseAddrPort(s.Listen)
	return err != nil || !a.Addr().IsLoopback() || len(s.ProxyProtocolFrom) > 0
}

// TLSMode says when a listener's sessions are encrypted.
type TLSMode string

// The modes.
const (
	STARTTLS TLSMode = "starttls" // RFC 3207
	Implicit TLSMode = "implicit" // RFC 8314 3.3
	NoTLS    TLSMode = "none"
)

// Credential is one [[credential]]: an application that may submit.
type Credential struct {
	Name         string
	PasswordHash string // argon2id in PHC form; "" only beside a SCRAM verifier
	SCRAM        string // verifier for SCRAM-SHA-256 (RFC 5803), or ""
	// Senders are the allowed envelope senders and From domains, "@domain" or a
	// full address, or "<>" for the null reverse path; empty: any.
	Senders []string
	Floor   policy.Level // Unset: none of its own
	Rate    Rate         // zero: no limit
}

// Rate is so many in a time. The zero value is no limit.
type Rate struct {
	Count int
	Per   time.Duration
}

// PerSecond is the rate as a number a second; 0 for no limit.
func (r Rate) PerSecond() float64 {
	if r.Per <= 0 {
		return 0
	}
	return float64(r.Count) / r.Per.Seconds()
}

// String writes the rate as in "200/s", "" for no limit.
func (r Rate) String() string {
	for _, u := range timeUnits() {
		if r.Per == u.of {
			return strconv.Itoa(r.Count) + "/" + u.word
		}
	}
	return ""
}

// HTTP is [http].
type HTTP struct {
	Listen         string // IP:port; "": no TCP listener
	AdminTokenFile string
}

// DNS is [dns].
type DNS struct {
	Resolvers []Resolver // empty: the system's
	TrustAD   TrustAD
	Selftest  Selftest
}

// Resolver is one DNS server.
type Resolver struct {
	Addr netip.AddrPort
	// TLSName is the name in its certificate: DNS over TLS (RFC 7858). "": plain DNS.
	TLSName string
}

// String writes the resolver as in the configuration.
func (r Resolver) String() string {
	if r.TLSName != "" {
		return "tls://" + r.Addr.String() + "#" + r.TLSName
	}
	return r.Addr.String()
}

// TrustAD says when the AD bit of a resolver is believed (RFC 7672 2.1.1).
type TrustAD string

// The ways.
const (
	TrustAuto   TrustAD = "auto" // loopback, or DNS over TLS verified
	TrustAlways TrustAD = "always"
	TrustNever  TrustAD = "never"
)

// Selftest is [dns.selftest]: names asked to see whether DNSSEC works; "" for none.
type Selftest struct {
	Signed string
	Bogus  string
}

// Delivery is [delivery].
type Delivery struct {
	Port                  int
	Paused                bool
	BindIPv4              netip.Addr // invalid: the system's choice
	BindIPv6              netip.Addr
	AllowPrivate          bool
	CAFile                string
	CAFileOnly            bool
	ConnectionsPerHost    int
	MessagesPerConnection int
	MessagesInFlight      int
	RatePerHost           Rate // zero: no limit
	Providers             []Provider
	RelayHost             string // host:port; "": deliver by MX
	Timeouts              Timeouts
}

// Provider is one [[delivery.provider]]: hosts that share their limits.
type Provider struct {
	Match                 []string // names of hosts, or ".name" for all below it
	Connections           int      // 0: as connections_per_host
	MessagesPerConnection int      // 0: as messages_per_connection
	Rate                  Rate     // zero: as rate_per_host
}

// Timeouts is [delivery.timeouts].
type Timeouts struct {
	Connect  time.Duration
	Greeting time.Duration
	Command  time.Duration
	TLS      time.Duration
	Data     time.Duration
}

// Retry is [retry].
type Retry struct {
	Schedule  []time.Duration // never empty; the last one repeats
	GiveUp    time.Duration
	WarnAfter time.Duration // 0: never
}

// Queue is [queue].
type Queue struct {
	Store            StoreKind
	Encryption       Encryption
	MinFree          int64
	JournalRetention time.Duration
	JournalMaxSize   int64 // 0: no limit
}

// StoreKind is where the queue is kept.
type StoreKind string

// The stores.
const (
	StorePebble   StoreKind = "pebble"
	StorePostgres StoreKind = "postgres"
)

// Encryption is [queue.encryption].
type Encryption struct {
	Enabled     bool
	KeyDir      string        // "": data_dir/keys; see Config.KeyDir
	EraseAfter  time.Duration // a message is gone: nothing decrypts it from then on
	RefusePlain bool          // what was not sealed is not believed
}

// KeyDir is the directory of the keys.
func (c *Config) KeyDir() string {
	if c.Queue.Encryption.KeyDir != "" {
		return c.Queue.Encryption.KeyDir
	}
	return filepath.Join(c.Server.DataDir, "keys")
}

// QueueDir is the directory of the queue.
func (c *Config) QueueDir() string { return filepath.Join(c.Server.DataDir, "queue") }

// Policy is [policy]. The rule set is complete: what a rule leaves out, it has from
// [policy], and its domains from their file.
type Policy struct {
	Ruleset policy.Ruleset
	// written are its rules as in the text, with what they have from [policy].
	written []writtenRule
}

// Default returns the configuration of an empty text. The host name is the machine's.
func Default() *Config {
	c, err := Parse("", nil, nil)
	if err != nil {
		// The defaults are ours: a test parses them.
		panic("config: the defaults are refused: " + err.Error())
	}
	return c
}

// Load reads a configuration file and applies the environment to it (see [Parse]).
// The path "" is an empty file. A file that cannot be read is an Errors too.
func Load(path string, env []string) (*Config, error) {
	if path == "" {
		return Parse("", nil, env)
	}
	text, err := readFile(path, maxText)
	if err != nil {
		return nil, Errors{{File: path, What: "the configuration cannot be read: " + err.Error(),
			Mend: "give the path of a readable file"}}
	}
	return Parse(path, text, env)
}

// Parse reads a configuration text; name stands for it in problems. env is the
// environment as of os.Environ: SEALPOST_SECTION__KEY overrides a key. The error
// is an [Errors] with every problem. Parse looks at the files that the text names.
func Parse(name string, text []byte, env []string) (*Config, error) {
	if name == "" {
		name = "configuration"
	}
	r := &report{main: name}
	tree := readTree(name, text, r)
	overrideFrom(env, tree, r)
	c := &Config{}
	d := &decoder{report: r, places: map[any]*node{}, top: position{file: name}}
	d.table(schema(), c, tree)
	s := &settler{decoder: d, config: c}
	s.settle()
	if err := r.errors(); err != nil {
		return nil, err
	}
	c.Notes = r.notes
	return c, nil
}

// readFile reads a regular file of at most limit octets. The error says why not,
// without the path.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("it has %d octets, the limit is %d", info.Size(), limit)
	}
	b, err := os.ReadFile(path)
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return b, err
}
