package relaytest

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Kind is a ready-made sort of host, with what a relay with the default rules must
// get from it when it is a domain's only host.
type Kind struct {
	Name string
	Doc  string
	// Certificate is what the host must be given; NoCertificate: none.
	Certificate Certificate
	// First is what becomes of the first attempt for one recipient, and Level the
	// level that is achieved when a session stands (Unset: none does). A self-signed
	// certificate is taken for granted to have no TLSA record.
	First queue.OutcomeKind
	Level policy.Level
	// Later is what becomes of it in the end, when attempts go on for ever.
	Later queue.OutcomeKind
	// behave makes the behaviour.
	behave func() Behaviour
}

// Behaviour is what a host of this kind does, with that certificate.
func (k Kind) Behaviour(cert tls.Certificate) Behaviour {
	b := k.behave()
	if b.TLS != nil {
		b.TLS.Certificates = []tls.Certificate{cert}
	}
	return b
}

// Certificate says which certificate a kind of host has.
type Certificate uint8

// The sorts of certificate. Key types do not matter unless said.
const (
	NoCertificate Certificate = iota
	Trusted                   // for the host's name, by a CA that the relay trusts
	SelfSigned                // nobody vouches for it
	Expired                   // by the trusted CA, out of date
	WrongName                 // by the trusted CA, for another name
	TrustedRSA                // as Trusted, with an RSA key (for old suites)
)

func certificateNames() []string {
	return []string{"none", "trusted", "self-signed", "expired", "wrong-name", "trusted-rsa"}
}

// String returns the sort's word.
func (c Certificate) String() string {
	if names := certificateNames(); int(c) < len(names) {
		return names[c]
	}
	return "none"
}

// KindNamed returns the kind of that name.
func KindNamed(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Kinds returns all ready-made kinds: TLS first, then STARTTLS that breaks, then
// the transaction, then the connection.
func Kinds() []Kind {
	var all []Kind
	all = append(all, tlsKinds()...)
	all = append(all, brokenTLSKinds()...)
	all = append(all, replyKinds()...)
	all = append(all, extensionKinds()...)
	return append(all, connectionKinds()...)
}

const (
	delivered = queue.DeliveredNow
	deferred  = queue.DeferredNow
	bounced   = queue.BouncedNow
)

func versions(low, high uint16, suites ...uint16) *tls.Config {
	return &tls.Config{MinVersion: low, MaxVersion: high, CipherSuites: suites}
}

func modernTLS() *tls.Config { return versions(tls.VersionTLS12, tls.VersionTLS13) }

// with is a modern host with a script.
func with(s Script) func() Behaviour {
	return func() Behaviour { return Behaviour{TLS: modernTLS(), Script: s} }
}

func cbcSuites() []uint16 {
	return []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
}

func tlsKinds() []Kind {
	only := func(c *tls.Config) func() Behaviour {
		return func() Behaviour { return Behaviour{TLS: c.Clone()} }
	}
	return []Kind{
		{"modern", "TLS 1.3 and a good certificate", Trusted, delivered, policy.Verified, delivered, only(versions(tls.VersionTLS13, tls.VersionTLS13))},
		{"tls12-only", "TLS 1.2 and nothing newer", Trusted, delivered, policy.Verified, delivered, only(versions(tls.VersionTLS12, tls.VersionTLS12))},
		{"self-signed", "a certificate that nobody vouches for", SelfSigned, delivered, policy.Encrypted, delivered, only(modernTLS())},
		{"expired", "a certificate that is out of date", Expired, delivered, policy.Encrypted, delivered, only(modernTLS())},
		{"wrong-name", "a certificate for another host", WrongName, delivered, policy.Encrypted, delivered, only(modernTLS())},
		{"tls11-only", "TLS 1.1 and nothing newer", SelfSigned, delivered, policy.Legacy, delivered, only(versions(tls.VersionTLS11, tls.VersionTLS11, cbcSuites()...))},
		{"tls10-only", "TLS 1.0 and nothing newer", SelfSigned, delivered, policy.Legacy, delivered, only(versions(tls.VersionTLS10, tls.VersionTLS10, cbcSuites()...))},
		{"rsa-exchange", "TLS 1.2 without forward secrecy: RSA key exchange and CBC", TrustedRSA, delivered, policy.Legacy, delivered,
			only(versions(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA))},
		{"triple-des", "TLS 1.2 with 3DES only", TrustedRSA, delivered, policy.Legacy, delivered,
			only(versions(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA))},
		{"small-hello", "hangs up at a ClientHello as large as post-quantum key shares make it", Trusted, delivered, policy.Verified, delivered,
			func() Behaviour { return Behaviour{TLS: modernTLS(), MaxClientHello: 1000} }},
		{"small-hello-stall", "swallows a ClientHello as large as post-quantum key shares make it, without a word", Trusted, delivered, policy.Verified, delivered,
			func() Behaviour { return Behaviour{TLS: modernTLS(), MaxClientHello: 1000, LongHello: Stall} }},
		{"requiretls", "offers REQUIRETLS under TLS (RFC 8689)", Trusted, delivered, policy.Verified, delivered,
			func() Behaviour { return Behaviour{TLS: modernTLS(), TLSExtensions: []string{"REQUIRETLS"}} }},
		{"tls-demanded", "refuses mail without TLS (530)", Trusted, delivered, policy.Verified, delivered,
			with(InClear(At(MAIL, Act{Reply: "530 5.7.0 Must issue a STARTTLS command first"})))},
		{"no-tls", "has no STARTTLS", NoCertificate, delivered, policy.Plaintext, delivered, func() Behaviour { return Behaviour{} }},
	}
}

func brokenTLSKinds() []Kind {
	kind := func(name, doc string, s Script) Kind {
		return Kind{name, doc, Trusted, delivered, policy.Plaintext, delivered, with(s)}
	}
	return []Kind{
		{"starttls-454", "cannot do STARTTLS now", Trusted, deferred, policy.Unset, delivered, with(At(STARTTLS, Act{Reply: "454 4.7.0 TLS not available due to temporary reason"}))},
		kind("starttls-554", "offers STARTTLS and refuses it", At(STARTTLS, Act{Reply: "554 5.7.3 Unable to initialize security subsystem"})),
		kind("starttls-502", "offers STARTTLS and does not know it", At(STARTTLS, Act{Reply: "502 5.5.1 Command not implemented"})),
		kind("starttls-drop", "hangs up behind the 220 to STARTTLS", At(Handshake, Act{Then: Drop})),
		kind("starttls-reset", "resets the connection behind the 220 to STARTTLS", At(Handshake, Act{Then: Reset})),
		kind("starttls-garbage", "answers the ClientHello with octets that are no TLS", Scripts(
			At(Handshake, Act{Delay: 20 * time.Millisecond, Raw: "\x00\x01nothing that TLS knows\r\n", Then: Stall}))),
		kind("starttls-stall", "says nothing behind the 220 to STARTTLS", At(Handshake, Act{Then: Stall})),
		{"starttls-injected", "sends clear text behind the 220 to STARTTLS, then a good handshake", Trusted, deferred, policy.Unset, deferred,
			with(At(STARTTLS, Act{Reply: "220 2.0.0 go ahead\n250 2.0.0 injected"}))},
		{"starttls-once", "the first handshake breaks, the next ones are good", Trusted, delivered, policy.Verified, delivered,
			with(Times(1, Handshake, Act{Then: Drop}))},
	}
}

func replyKinds() []Kind {
	kind := func(name, doc string, first, later queue.OutcomeKind, s Script) Kind {
		return Kind{name, doc, Trusted, first, policy.Verified, later, with(s)}
	}
	return []Kind{
		kind("greylisting", "puts off each new pair of sender and recipient once", deferred, delivered, Greylist(1)),
		kind("refusing", "knows no recipient", bounced, bounced, At(RCPT, Act{Reply: "550 5.1.1 No such user here"})),
		kind("refusing-sender", "refuses every sender", bounced, bounced, At(MAIL, Act{Reply: "554 5.7.1 Sender refused"})),
		kind("refusing-content", "refuses every message after its content", bounced, bounced, At(Dot, Act{Reply: "554 5.7.1 Looks like spam"})),
		kind("refusing-data", "refuses DATA and BDAT", bounced, bounced, Scripts(At(DATA, Act{Reply: "554 5.5.0 No valid recipients"}),
			At(BDAT, Act{Reply: "554 5.5.0 No valid recipients"}))),
		kind("busy-sender", "puts off every sender", deferred, deferred, At(MAIL, Act{Reply: "451 4.3.2 Try later"})),
		kind("busy-content", "puts off the first message after its content", deferred, delivered, Times(1, Dot, Act{Reply: "451 4.3.0 Try later"})),
		kind("full-mailbox", "the mailbox is full for now", deferred, deferred, At(RCPT, Act{Reply: "452 4.2.2 Mailbox full"})),
		kind("mixed", "by recipient: bounce@ 550, defer@ 450 once, all others 250", delivered, delivered, mixed),
		kind("multi-line", "says everything in several lines", delivered, delivered, multiLine),
		kind("terse", "says codes without a text", delivered, delivered, terse),
		kind("no-status", "says codes without enhanced status", bounced, bounced, At(RCPT, Act{Reply: "550 no such user"})),
		kind("421-between", "says 421 to the second message of each session", delivered, delivered,
			Sequence(MAIL, Act{}, Act{Reply: "421 4.3.2 Too many messages", Then: Drop})),
		kind("421-at-rcpt", "says 421 to the first recipient, once", deferred, delivered,
			Times(1, RCPT, Act{Reply: "421 4.3.2 Shutting down", Then: Drop})),
		kind("garbage-reply", "answers RCPT with what is no SMTP", deferred, deferred, At(RCPT, Act{Reply: "hello there", Then: Drop})),
		kind("endless-reply", "answers RCPT without end", deferred, deferred, At(RCPT, Act{Then: Flood})),
		kind("long-reply", "answers RCPT with a line of 100,000 octets", deferred, deferred,
			At(RCPT, Act{Reply: "250 " + strings.Repeat("x", 100_000), Then: Drop})),
	}
}

// mixed answers by the local part.
func mixed(e Event) Act {
	local, _, _ := strings.Cut(e.Recipient, "@")
	switch {
	case e.Phase != RCPT:
		return Act{}
	case local == "bounce":
		return Act{Reply: "550 5.1.1 No such user here"}
	case local == "defer" && e.ForPair == 1:
		return Act{Reply: "450 4.2.1 Try later"}
	default:
		return Act{}
	}
}

func multiLine(e Event) Act {
	switch e.Phase {
	case Greeting:
		return Act{Reply: "220-mx.test ESMTP\n220-No unsolicited mail\n220 Go ahead"}
	case MAIL, RCPT, RSET, NOOP:
		return Act{Reply: "250-2.1.0 it\n250-2.1.0 is\n250 2.1.0 ok"}
	case DATA:
		return Act{Reply: "354-Send it\n354 End with a dot"}
	case Dot, BDAT:
		return Act{Reply: "250-2.0.0 taken\n250 2.0.0 and kept"}
	case QUIT:
		return Act{Reply: "221-2.0.0 good\n221 2.0.0 bye"}
	default:
		return Act{}
	}
}

func terse(e Event) Act {
	switch e.Phase {
	case Greeting, STARTTLS:
		return Act{Reply: "220"}
	case MAIL, RCPT, RSET, NOOP, Dot:
		return Act{Reply: "250"}
	case DATA:
		return Act{Reply: "354"}
	default:
		return Act{}
	}
}

func extensionKinds() []Kind {
	kind := func(name, doc string, b Behaviour) Kind {
		return Kind{name, doc, Trusted, delivered, policy.Verified, delivered, func() Behaviour {
			b := b
			b.TLS = modernTLS()
			return b
		}}
	}
	none := []string{}
	return []Kind{
		kind("lower-case", "offers its extensions in lower and mixed case", Behaviour{
			Extensions: []string{"pipelining", "8bitMime", "smtputf8", "Dsn", "enhancedStatusCodes", "chunking", "X-SOMETHING of its own", "auth=login plain"}}),
		kind("bare", "knows ESMTP and STARTTLS, and no other extension", Behaviour{Extensions: none, Size: -1}),
		kind("no-pipelining", "wants each command by itself", Behaviour{Extensions: []string{"8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"}}),
		kind("no-chunking", "has no BDAT", Behaviour{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}}),
		{"small-size", "takes messages of 2 KiB at most (RFC 1870)", Trusted, delivered, policy.Verified, delivered,
			func() Behaviour { return Behaviour{TLS: modernTLS(), Size: 2048} }},
		{"helo-only", "knows no EHLO", NoCertificate, delivered, policy.Plaintext, delivered, func() Behaviour { return Behaviour{HELOOnly: true} }},
	}
}

func connectionKinds() []Kind {
	early := func(name, doc string, first, later queue.OutcomeKind, s Script) Kind {
		return Kind{name, doc, Trusted, first, policy.Unset, later, with(s)}
	}
	kind := func(name, doc string, later queue.OutcomeKind, s Script) Kind {
		return Kind{name, doc, Trusted, deferred, policy.Verified, later, with(s)}
	}
	half := Act{Then: Drop, Octets: 100}
	return []Kind{
		early("greeting-554", "refuses to speak with anybody", bounced, bounced, At(Greeting, Act{Reply: "554 5.3.2 No SMTP service here", Then: Drop})),
		early("greeting-421", "is not ready", deferred, deferred, At(Greeting, Act{Reply: "421 4.3.2 Not ready", Then: Drop})),
		{"crowded", "takes three connections at a time, and says 421 to more", Trusted, delivered, policy.Verified, delivered, with(Crowded(3))},
		{"throttling", "puts off every sender (451 4.7.1) for two seconds", Trusted, deferred, policy.Verified, delivered,
			func() Behaviour { return Behaviour{TLS: modernTLS(), Script: Throttle(2 * time.Second)} }},
		{"throttling-always", "puts off every sender (451 4.7.1), for ever", Trusted, deferred, policy.Verified, deferred,
			with(At(MAIL, Act{Reply: "451 4.7.1 You are sending too fast, slow down"}))},
		{"greylisting-hint", "puts off each new pair of sender and recipient twice, and says for how long", Trusted, deferred, policy.Verified, delivered,
			with(Greylist(2))},
		early("greeting-none", "hangs up without a greeting", deferred, deferred, At(Greeting, Act{Then: Drop})),
		early("greeting-reset", "resets every connection", deferred, deferred, At(Greeting, Act{Then: Reset})),
		early("greeting-stall", "never greets", deferred, deferred, At(Greeting, Act{Then: Stall})),
		early("greeting-garbage", "is no mail server", deferred, deferred, At(Greeting, Act{Reply: "HTTP/1.1 400 Bad Request\n\n", Then: Drop})),
		early("ehlo-421", "says 421 to EHLO", deferred, deferred, At(EHLO, Act{Reply: "421 4.3.2 Busy", Then: Drop})),
		early("ehlo-drop", "hangs up at EHLO", deferred, deferred, At(EHLO, Act{Then: Drop})),
		{"slow", "greets octet by octet", Trusted, delivered, policy.Verified, delivered, with(At(Greeting, Act{Reply: "220 slow", Drip: 5 * time.Millisecond}))},
		kind("drop-at-mail", "hangs up at MAIL", deferred, At(MAIL, Act{Then: Drop})),
		kind("drop-in-data", "hangs up within the first body", delivered, Times(1, Body, half)),
		kind("drop-before-reply", "hangs up after the final dot of the first message, without a reply", delivered, Times(1, Dot, Act{Then: Drop})),
		kind("reset-in-data", "resets the connection within the first body", delivered, Times(1, Body, Act{Then: Reset, Octets: 100})),
		kind("stall-at-dot", "never answers the final dot", deferred, At(Dot, Act{Then: Stall})),
		kind("stall-at-mail", "never answers MAIL", deferred, At(MAIL, Act{Then: Stall})),
		kind("frozen-in-data", "reads no more within a body", deferred, At(Body, Act{Then: Freeze, Octets: 100})),
		{"drop-after-reply", "hangs up after each message that it took", Trusted, delivered, policy.Verified, delivered,
			with(At(Dot, Act{Reply: "250 2.0.0 taken", Then: Drop}))},
		{"drop-at-quit", "hangs up at QUIT", Trusted, delivered, policy.Verified, delivered, with(At(QUIT, Act{Then: Drop}))},
	}
}
