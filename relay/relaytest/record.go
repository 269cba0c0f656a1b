package relaytest

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Message is one message as it came in.
type Message struct {
	Session    int
	From       string // as between < and >
	FromParams []string
	Recipients []Recipient // those that were accepted
	Body       []byte      // without dot-stuffing; nil in a sink
	Size       int64       // octets of the body
	BDAT       bool        // came in chunks (RFC 3030)
	TLS        uint16      // tls.VersionTLS13...; 0: in clear
	Suite      uint16
	// Reply is what was said to the final dot; "" when nothing was said.
	Reply string
	// Accepted: the reply was a 2xx.
	Accepted bool
}

// Recipient is one RCPT with its parameters.
type Recipient struct {
	Address string
	Params  []string
}

// Addresses lists the accepted recipients.
func (m *Message) Addresses() []string {
	var list []string
	for _, r := range m.Recipients {
		list = append(list, r.Address)
	}
	return list
}

// Command is one command line as received, with the reply.
type Command struct {
	Session int
	Secure  bool
	Line    string // without its line end
	Reply   string // "" when nothing was said
}

// SessionRecord is one connection.
type SessionRecord struct {
	Number  int
	Remote  string
	TLS     uint16 // 0: never encrypted
	Suite   uint16
	Curve   uint16 // tls.CurveID of the key exchange
	SNI     string
	Resumed bool
	// HandshakeError says why a handshake failed, "" when none did.
	HandshakeError string
	// Quit: the client said goodbye.
	Quit bool
	// Open: it is still there.
	Open bool
}

// Stats counts what came in.
type Stats struct {
	Sessions   int // connections
	Open       int // of them, still there
	Handshakes int // that succeeded
	Messages   int // that were accepted
	Finished   int // bodies that came in whole, accepted or not
	Recipients int // of accepted messages
	Bytes      int64
	// ClearEnvelopes counts MAIL, RCPT, DATA and BDAT commands in clear.
	ClearEnvelopes int
}

// record is everything that a host saw. Its owner is the host; all sessions write it.
type record struct {
	mu       sync.Mutex
	changed  chan struct{} // closed at each change, when somebody waits; guarded by mu
	stats    Stats
	messages []Message
	commands []Command
	sessions []SessionRecord
	breaches []string
	phases   map[Phase]int
	pairs    map[string]int
}

// change runs fn under the lock and wakes who waits.
func (r *record) change(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// await waits until cond, called under the lock, is true.
func (r *record) await(ctx context.Context, cond func() bool) error {
	for {
		r.mu.Lock()
		if cond() {
			r.mu.Unlock()
			return nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		wait := r.changed
		r.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Messages returns the messages that came in whole, in order, accepted or not.
func (h *Host) Messages() []Message {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	return slices.Clone(h.record.messages)
}

// Accepted returns the messages that were accepted, in order.
func (h *Host) Accepted() []Message {
	return slices.DeleteFunc(h.Messages(), func(m Message) bool { return !m.Accepted })
}

// Commands returns all commands, in order.
func (h *Host) Commands() []Command {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	return slices.Clone(h.record.commands)
}

// ClearEnvelopes returns the MAIL, RCPT, DATA and BDAT commands that came in
// clear: none, where an envelope must never be seen.
func (h *Host) ClearEnvelopes() []Command {
	return slices.DeleteFunc(h.Commands(), func(c Command) bool { return c.Secure || !ofEnvelope(phaseOf(c.Line)) })
}

func ofEnvelope(p Phase) bool { return p == MAIL || p == RCPT || p == DATA || p == BDAT }

// Sessions returns all connections, in order.
func (h *Host) Sessions() []SessionRecord {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	return slices.Clone(h.record.sessions)
}

// Breaches returns what the client did against the protocol, one line each.
func (h *Host) Breaches() []string {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	return slices.Clone(h.record.breaches)
}

// Stats returns the counts so far.
func (h *Host) Stats() Stats {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	return h.record.stats
}

// Await waits until n messages were accepted in the host's life, and returns them
// all. The error is the context's, with what there was.
func (h *Host) Await(ctx context.Context, n int) ([]Message, error) {
	err := h.AwaitStats(ctx, func(s Stats) bool { return s.Messages >= n })
	got := h.Accepted()
	if err != nil {
		err = fmt.Errorf("relaytest: %s has %d of %d messages: %w", h.name, h.Stats().Messages, n, err)
	}
	return got, err
}

// AwaitIdle waits until no connection is open.
func (h *Host) AwaitIdle(ctx context.Context) error {
	return h.AwaitStats(ctx, func(s Stats) bool { return s.Open == 0 })
}

// AwaitStats waits until the counts are as cond wants them. cond must not call the host.
func (h *Host) AwaitStats(ctx context.Context, cond func(Stats) bool) error {
	return h.record.await(ctx, func() bool { return cond(h.record.stats) })
}

// AwaitCommand waits for a command that begins with these letters, in any case.
func (h *Host) AwaitCommand(ctx context.Context, verb string) (Command, error) {
	var found Command
	err := h.record.await(ctx, func() bool {
		for _, c := range h.record.commands {
			if hasPrefixFold(c.Line, verb) {
				found = c
				return true
			}
		}
		return false
	})
	return found, err
}
