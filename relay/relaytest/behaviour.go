package relaytest

import (
	"crypto/tls"
	"sync"
	"time"
)

// Behaviour says what a host does. The zero value is a correct host without TLS on
// a free port of 127.0.0.1, which takes every message.
type Behaviour struct {
	// Addr is where to listen: a loopback address and port. "" is 127.0.0.1:0.
	Addr string
	// Name is what the host calls itself; "" is "mx.test".
	Name string
	// TLS makes the host offer STARTTLS; nil: no TLS at all.
	TLS *tls.Config
	// Extensions are the EHLO keywords beside STARTTLS (offered when TLS is there
	// and not on) and SIZE; nil: DefaultExtensions, empty: none. A keyword may be
	// written in any case. What is not offered is refused, and noted as a breach.
	Extensions []string
	// TLSExtensions are more keywords that are offered only under TLS.
	TLSExtensions []string
	// Size is the limit to offer and to keep (RFC 1870); 0: none is kept, SIZE is
	// offered without a number; negative: SIZE is not offered.
	Size int64
	// HELOOnly: EHLO is refused as unknown (RFC 5321 3.2, old hosts).
	HELOOnly bool
	// MaxClientHello is the longest ClientHello that is taken, in octets, as some
	// middleboxes choke on post-quantum key shares; 0: no limit. LongHello is what
	// is done at a longer one: Drop (also for the zero value), Reset or Stall.
	MaxClientHello int
	LongHello      Then
	// Script decides what to do in place of the ordinary; nil: nothing. It is
	// called by many sessions at once.
	Script Script
	// Sink: messages are counted and not kept, commands are not recorded, for
	// benchmarks. Clear envelopes are still counted.
	Sink bool
}

// DefaultExtensions are the keywords of an ordinary modern host.
func DefaultExtensions() []string {
	return []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "CHUNKING"}
}

// Phase is a moment at which a host can misbehave.
type Phase uint8

// The phases. Each is asked for an Act once, before the host's reply.
const (
	PhaseUnset Phase = iota
	Greeting
	EHLO
	HELO
	STARTTLS
	Handshake // after the 220 to STARTTLS, in place of the handshake
	MAIL
	RCPT
	DATA
	Body // while the body comes in: see Act.Octets
	Dot  // after the final dot, or the last chunk of BDAT
	BDAT // at each BDAT command
	RSET
	NOOP
	QUIT
	Unknown // any other command
)

func phaseNames() []string {
	return []string{"unset", "greeting", "EHLO", "HELO", "STARTTLS", "handshake", "MAIL", "RCPT", "DATA", "body", "dot", "BDAT",
		"RSET", "NOOP", "QUIT", "unknown"}
}

// String returns the phase's word.
func (p Phase) String() string {
	if names := phaseNames(); int(p) < len(names) {
		return names[p]
	}
	return "unset"
}

// Event is what happens at a host: a script decides by it.
type Event struct {
	Phase Phase
	// Session counts the host's connections from 1.
	Session int
	// InSession and InHost count the events of this phase from 1, in this session
	// and in the host's life.
	InSession, InHost int
	// ForPair counts, from 1 and in the host's life, the RCPT commands for this
	// recipient from this sender. 0 in other phases.
	ForPair int
	// Open counts the host's connections that are open now, this one included.
	Open int
	// Secure: the session is encrypted.
	Secure bool
	// Argument is the command's, as received; at Dot and in Body it is empty.
	Argument string
	// Sender and Recipient are the envelope's, as far as they are known.
	Sender, Recipient string
}

// Act is what a host does in place of the ordinary. The zero value is the ordinary.
type Act struct {
	// Reply is sent in place of the ordinary reply, lines parted by \n; "" is the
	// ordinary reply, unless Then is set: then nothing is said.
	Reply string
	// Raw is sent after the reply as it is, without a line end.
	Raw string
	// Delay comes before all else; it ends early when the host ends the connection.
	Delay time.Duration
	// Drip sends octet by octet with this pause between.
	Drip time.Duration
	// Octets, in the Body phase: Then happens after so many octets of the body.
	Octets int
	// Then is what follows.
	Then Then
}

// Then is what follows a reply.
type Then uint8

// What can follow. The zero value is to go on.
const (
	GoOn   Then = iota
	Drop        // end the connection without a word: TCP FIN, no close_notify
	Reset       // TCP RST
	Stall       // say nothing more, read on, until the client goes away
	Freeze      // say and read nothing more, until the host ends the connection
	Flood       // send continuation lines without end
)

// ordinary reports whether nothing is to be done.
func (a Act) ordinary() bool { return a == Act{} }

// Script decides what a host does at an event. The zero Act leaves it to others,
// at last to the ordinary.
type Script func(Event) Act

// Scripts asks several in order; the first that wants something is followed.
func Scripts(list ...Script) Script {
	return func(e Event) Act {
		for _, s := range list {
			if s == nil {
				continue
			}
			if a := s(e); !a.ordinary() {
				return a
			}
		}
		return Act{}
	}
}

// At acts at every event of a phase.
func At(p Phase, a Act) Script {
	return func(e Event) Act {
		if e.Phase != p {
			return Act{}
		}
		return a
	}
}

// Times acts at the first n events of a phase in the host's life.
func Times(n int, p Phase, a Act) Script {
	return func(e Event) Act {
		if e.Phase != p || e.InHost > n {
			return Act{}
		}
		return a
	}
}

// Sequence acts at the events of a phase in each session, one act after the other,
// then as usual. A zero Act is the ordinary.
func Sequence(p Phase, acts ...Act) Script {
	return func(e Event) Act {
		if e.Phase != p || e.InSession > len(acts) {
			return Act{}
		}
		return acts[e.InSession-1]
	}
}

// Lifelong is Sequence over all sessions of the host's life.
func Lifelong(p Phase, acts ...Act) Script {
	return func(e Event) Act {
		if e.Phase != p || e.InHost > len(acts) {
			return Act{}
		}
		return acts[e.InHost-1]
	}
}

// ForRecipient answers the RCPT commands for an address, each sender's first with
// the first reply and so on; the last one repeats.
func ForRecipient(address string, replies ...string) Script {
	return func(e Event) Act {
		if e.Phase != RCPT || e.Recipient != address || len(replies) == 0 {
			return Act{}
		}
		return Act{Reply: replies[min(e.ForPair, len(replies))-1]}
	}
}

// Greylist puts off each pair of sender and recipient n times.
func Greylist(n int) Script {
	return func(e Event) Act {
		if e.Phase != RCPT || e.ForPair > n {
			return Act{}
		}
		return Act{Reply: "450 4.7.1 Greylisted, please try again in 1 seconds"}
	}
}

// Crowded refuses connections beyond n at a time, as many large hosts do.
func Crowded(n int) Script {
	return func(e Event) Act {
		if e.Phase != Greeting || e.Open <= n {
			return Act{}
		}
		return Act{Reply: "421 4.7.0 Too many concurrent connections from your address", Then: Drop}
	}
}

// Throttle puts off every sender for a time, which begins with the first one. Make one for
// each host.
func Throttle(d time.Duration) Script {
	var first sync.Once
	var end time.Time
	return func(e Event) Act {
		if e.Phase != MAIL {
			return Act{}
		}
		first.Do(func() { end = time.Now().Add(d) })
		if time.Now().After(end) {
			return Act{}
		}
		return Act{Reply: "451 4.7.1 You are sending too fast, slow down"}
	}
}

// InClear acts only on sessions that are not encrypted.
func InClear(s Script) Script {
	return func(e Event) Act {
		if e.Secure {
			return Act{}
		}
		return s(e)
	}
}

// UnderTLS acts only on sessions that are encrypted.
func UnderTLS(s Script) Script {
	return func(e Event) Act {
		if !e.Secure {
			return Act{}
		}
		return s(e)
	}
}
