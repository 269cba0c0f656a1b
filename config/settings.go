package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// schema is THE table of keys: every key that a configuration may hold, of which
// kind, its default and its meaning. It is built anew for each use: nobody can
// change it for another.
func schema() table {
	return table{inner: []table{
		serverTable(), submissionTable(), credentialTable(), httpTable(), dnsTable(),
		deliveryTable(), retryTable(), queueTable(), policyTable(),
	}}
}

func serverTable() table {
	return one("server", "The relay itself.", func(c *Config) *Server { return &c.Server }, []field{
		key[Server, string]{"hostname", hostname(), func(s *Server) *string { return &s.Hostname }, "",
			"Name in EHLO, Received and notices. \"\": the machine's full name."},
		key[Server, string]{"data_dir", text("path"), func(s *Server) *string { return &s.DataDir }, "./sealpost-data",
			"Directory of the queue, keys and caches."},
	}).with(
		one("log", "Logging, to standard error.", func(s *Server) *Log { return &s.Log }, []field{
			key[Log, LogFormat]{"format", oneOf(LogText, LogJSON), func(l *Log) *LogFormat { return &l.Format }, LogText,
				"How log lines are written."},
			key[Log, slog.Level]{"level", logLevel(), func(l *Log) *slog.Level { return &l.Level }, slog.LevelInfo,
				"The least important lines to write."},
			key[Log, bool]{"addresses", boolean(), func(l *Log) *bool { return &l.Addresses }, false,
				"Whether addresses of persons may stand in the log."},
		}),
	)
}

func submissionTable() table {
	return several("submission", "A listener where applications hand in mail. Default: one on 127.0.0.1:2525.",
		func(c *Config) *[]Submission { return &c.Submission }, []field{
			key[Submission, string]{"listen", listenAddress(), func(s *Submission) *string { return &s.Listen }, defaultListen,
				"IP address and port."},
			key[Submission, TLSMode]{"tls", oneOf(STARTTLS, Implicit, NoTLS), func(s *Submission) *TLSMode { return &s.TLS }, STARTTLS,
				"When sessions are encrypted; `none` on loopback only, and the default there for a listener without a certificate."},
			key[Submission, string]{"cert_file", text("path"), func(s *Submission) *string { return &s.CertFile }, "",
				"Certificate chain (PEM), read again when it changes."},
			key[Submission, string]{"key_file", text("path"), func(s *Submission) *string { return &s.KeyFile }, "",
				"Its private key (PEM)."},
			key[Submission, bool]{"require_auth", boolean(), func(s *Submission) *bool { return &s.RequireAuth }, true,
				"Whether mail needs credentials; false by default on loopback."},
			key[Submission, []netip.Prefix]{"trusted_networks", list(network()), func(s *Submission) *[]netip.Prefix { return &s.TrustedNetworks }, nil,
				"Networks that may submit without credentials."},
			key[Submission, []netip.Prefix]{"proxy_protocol_from", list(network()), func(s *Submission) *[]netip.Prefix { return &s.ProxyProtocolFrom }, nil,
				"Networks whose connections must begin with a PROXY header."},
			key[Submission, int64]{"max_message_bytes", size(1), func(s *Submission) *int64 { return &s.MaxMessageBytes }, 25 << 20,
				"Largest message (RFC 1870)."},
			key[Submission, int]{"max_recipients", count(1, 1_000_000), func(s *Submission) *int { return &s.MaxRecipients }, 1000,
				"Most recipients of one message (RFC 5321 4.5.3.1.8: at least 100)."},
		})
}

const defaultListen = "127.0.0.1:2525"

func credentialTable() table {
	return several("credential", "An application that may submit. `sealpost user` keeps more of them in data_dir/credentials.toml.",
		func(c *Config) *[]Credential { return &c.Credentials }, []field{
			key[Credential, string]{"name", credentialName(), func(c *Credential) *string { return &c.Name }, "",
				"User name: up to 128 printable ASCII characters without spaces."},
			key[Credential, string]{"password_hash", passwordHash(), func(c *Credential) *string { return &c.PasswordHash }, "",
				"Hash of the password: argon2id, in PHC form."},
			key[Credential, string]{"scram", scramVerifier(), func(c *Credential) *string { return &c.SCRAM }, "",
				"Verifier for SCRAM-SHA-256, as `sealpost user` writes it. \"\": no SCRAM."},
			key[Credential, []string]{"senders", list(senderPattern()), func(c *Credential) *[]string { return &c.Senders }, nil,
				"Allowed envelope senders and From domains; \"<>\" is the null reverse path. Empty: any."},
			key[Credential, policy.Level]{"floor", optionalLevel(), func(c *Credential) *policy.Level { return &c.Floor }, policy.Unset,
				"Least protection of its mail. \"\": as the policy says."},
			key[Credential, Rate]{"rate", rate(), func(c *Credential) *Rate { return &c.Rate }, Rate{},
				"Most messages in a time. \"\": no limit."},
		})
}

func httpTable() table {
	return one("http", "Metrics, health, status page and API.", func(c *Config) *HTTP { return &c.HTTP }, []field{
		key[HTTP, string]{"listen", optional(listenAddress()), func(h *HTTP) *string { return &h.Listen }, "127.0.0.1:8025",
			"IP address and port. \"\": no TCP listener."},
		key[HTTP, string]{"admin_token_file", text("path"), func(h *HTTP) *string { return &h.AdminTokenFile }, "",
			"File with the token of the admin API over TCP. \"\": admin API on the unix socket only."},
	})
}

func dnsTable() table {
	return one("dns", "The resolvers.", func(c *Config) *DNS { return &c.DNS }, []field{
		key[DNS, []Resolver]{"resolvers", list(resolver()), func(d *DNS) *[]Resolver { return &d.Resolvers }, nil,
			"Servers to ask, in order; `tls://ADDRESS#NAME` for DNS over TLS. Empty: the system's."},
		key[DNS, TrustAD]{"trust_ad", oneOf(TrustAuto, TrustAlways, TrustNever), func(d *DNS) *TrustAD { return &d.TrustAD }, TrustAuto,
			"When a resolver is believed about DNSSEC; `auto`: on loopback, or over verified TLS."},
	}).with(
		one("selftest", "Names asked to see whether DNSSEC works.", func(d *DNS) *Selftest { return &d.Selftest }, []field{
			key[Selftest, string]{"signed", dnsName(), func(s *Selftest) *string { return &s.Signed }, ".",
				"A name that is signed."},
			key[Selftest, string]{"bogus", dnsName(), func(s *Selftest) *string { return &s.Bogus }, "",
				"A name whose signature is wrong on purpose."},
		}),
	)
}

func deliveryTable() table {
	return one("delivery", "Mail on its way out.", func(c *Config) *Delivery { return &c.Delivery }, []field{
		key[Delivery, int]{"port", count(1, 65535), func(d *Delivery) *int { return &d.Port }, 25,
			"Port of the mail exchangers."},
		key[Delivery, bool]{"paused", boolean(), func(d *Delivery) *bool { return &d.Paused }, false,
			"Accept and keep, deliver nothing."},
		key[Delivery, netip.Addr]{"bind_ipv4", address("v4"), func(d *Delivery) *netip.Addr { return &d.BindIPv4 }, netip.Addr{},
			"Our address for IPv4. \"\": the system's choice."},
		key[Delivery, netip.Addr]{"bind_ipv6", address("v6"), func(d *Delivery) *netip.Addr { return &d.BindIPv6 }, netip.Addr{},
			"Our address for IPv6. \"\": the system's choice."},
		key[Delivery, bool]{"allow_private", boolean(), func(d *Delivery) *bool { return &d.AllowPrivate }, false,
			"Whether mail may go to loopback and private addresses (labs, tests)."},
		key[Delivery, string]{"ca_file", text("path"), func(d *Delivery) *string { return &d.CAFile }, "",
			"Root certificates (PEM) beside the system's."},
		key[Delivery, bool]{"ca_file_only", boolean(), func(d *Delivery) *bool { return &d.CAFileOnly }, false,
			"Whether `ca_file` takes the place of the system's roots."},
		key[Delivery, int]{"connections_per_host", count(1, 10_000), func(d *Delivery) *int { return &d.ConnectionsPerHost }, 20,
			"Most connections at once to one host, that is to one address, or to a provider."},
		key[Delivery, int]{"messages_per_connection", count(1, 1_000_000), func(d *Delivery) *int { return &d.MessagesPerConnection }, 100,
			"Most messages over one connection."},
		key[Delivery, int]{"messages_in_flight", count(1, 64), func(d *Delivery) *int { return &d.MessagesInFlight }, 8,
			"Most messages on one connection without their last reply. `1`: one after the other."},
		key[Delivery, Rate]{"rate_per_host", rate(), func(d *Delivery) *Rate { return &d.RatePerHost }, Rate{},
			"Most messages in a time to one host, as in \"20/s\". \"\": no limit but what the host itself makes known."},
		key[Delivery, string]{"relay_host", hostPort(), func(d *Delivery) *string { return &d.RelayHost }, "",
			"Host and port that takes all mail in place of the mail exchangers."},
	}).with(timeoutsTable(), providerTable())
}

func providerTable() table {
	return several("provider", "Hosts that share their limits whatever their names and addresses. The first that names a host is taken.",
		func(d *Delivery) *[]Provider { return &d.Providers }, []field{
			key[Provider, []string]{"match", list(domainPattern()), func(p *Provider) *[]string { return &p.Match }, nil,
				"MX hosts, as in \".google.com\" (all below it) or \"mx.example.net\"."},
			key[Provider, int]{"connections", count(0, 10_000), func(p *Provider) *int { return &p.Connections }, 0,
				"Most connections to all of them together. 0: connections_per_host."},
			key[Provider, int]{"messages_per_connection", count(0, 1_000_000), func(p *Provider) *int { return &p.MessagesPerConnection }, 0,
				"Most messages over one connection. 0: as for every host."},
			key[Provider, Rate]{"rate", rate(), func(p *Provider) *Rate { return &p.Rate }, Rate{},
				"Most messages in a time to all of them together. \"\": as for every host."},
		})
}

func timeoutsTable() table {
	return one("timeouts", "How long to wait for a host (RFC 5321 4.5.3.2).", func(d *Delivery) *Timeouts { return &d.Timeouts }, []field{
		key[Timeouts, time.Duration]{"connect", duration(10 * time.Millisecond), func(t *Timeouts) *time.Duration { return &t.Connect }, 30 * time.Second,
			"For a connection."},
		key[Timeouts, time.Duration]{"greeting", duration(10 * time.Millisecond), func(t *Timeouts) *time.Duration { return &t.Greeting }, 5 * time.Minute,
			"For the greeting."},
		key[Timeouts, time.Duration]{"command", duration(10 * time.Millisecond), func(t *Timeouts) *time.Duration { return &t.Command }, 5 * time.Minute,
			"For the reply to a command."},
		key[Timeouts, time.Duration]{"tls", duration(10 * time.Millisecond), func(t *Timeouts) *time.Duration { return &t.TLS }, 30 * time.Second,
			"For the TLS handshake."},
		key[Timeouts, time.Duration]{"data", duration(10 * time.Millisecond), func(t *Timeouts) *time.Duration { return &t.Data }, 10 * time.Minute,
			"For each part of a body, and for the reply to the final dot."},
	})
}

func retryTable() table {
	return one("retry", "When to try again.", func(c *Config) *Retry { return &c.Retry }, []field{
		key[Retry, []time.Duration]{"schedule", list(duration(10 * time.Millisecond)), func(r *Retry) *[]time.Duration { return &r.Schedule }, []time.Duration{
			time.Minute, 3 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
			"Delays between tries; the last one repeats, jitter is added."},
		key[Retry, time.Duration]{"give_up", duration(time.Second), func(r *Retry) *time.Duration { return &r.GiveUp }, 5 * 24 * time.Hour,
			"Age at which undelivered mail is returned (RFC 5321 4.5.4.1: at least 4-5 days)."},
		key[Retry, time.Duration]{"warn_after", duration(0), func(r *Retry) *time.Duration { return &r.WarnAfter }, 4 * time.Hour,
			"Age at which the sender is told of the delay. \"0s\": never."},
	})
}

func queueTable() table {
	return one("queue", "Mail that waits.", func(c *Config) *Queue { return &c.Queue }, []field{
		key[Queue, StoreKind]{"store", oneOf(StorePebble, StorePostgres), func(q *Queue) *StoreKind { return &q.Store }, StorePebble,
			"Where the queue is kept. `postgres` is not available yet."},
		later{"dsn_file", "path", "File with the connection string of PostgreSQL."},
		key[Queue, int64]{"min_free", size(0), func(q *Queue) *int64 { return &q.MinFree }, 1 << 30,
			"Free disk space below which new mail is put off (452 4.3.1). \"0B\": no limit."},
		key[Queue, time.Duration]{"journal_retention", duration(time.Second), func(q *Queue) *time.Duration { return &q.JournalRetention }, 30 * 24 * time.Hour,
			"How long the record of deliveries is kept."},
		key[Queue, int64]{"journal_max_size", size(0), func(q *Queue) *int64 { return &q.JournalMaxSize }, 0,
			"Size above which the oldest part of that record goes, whatever its age. \"0B\": no limit."},
	}).with(
		one("encryption", "Encryption at rest: see operating.md.", func(q *Queue) *Encryption { return &q.Encryption }, []field{
			key[Encryption, bool]{"enabled", boolean(), func(e *Encryption) *bool { return &e.Enabled }, true,
				"Whether messages, journal and memory are sealed on disk."},
			key[Encryption, string]{"key_dir", text("path"), func(e *Encryption) *string { return &e.KeyDir }, "",
				"Directory of the keys, which belong in no backup; may be on another volume. \"\": data_dir/keys."},
			key[Encryption, time.Duration]{"erase_after", duration(3 * time.Second), func(e *Encryption) *time.Duration { return &e.EraseAfter }, time.Hour,
				"When a message is gone for so long, nothing on disk or in a backup of the queue decrypts it."},
			key[Encryption, bool]{"refuse_plain", boolean(), func(e *Encryption) *bool { return &e.RefusePlain }, false,
				"Whether what lies in the queue unsealed is refused: for a queue that was never used without encryption, or long ago."},
		}),
	)
}
