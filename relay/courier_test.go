package relay

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// world is a domain's hosts as a test wants them: it plays scout and opener.
type world struct {
	facts policy.Facts
	hosts map[policy.Domain]*fakeHost
	sent  []string // "host/rung" of each transaction, in order
	wait  chan struct{}

	renewed *policy.Facts // what Renew brings; nil: nothing new
	renews  int
	saw     map[string]policy.Sighting // by host, "+6" for IPv6
}

type fakeHost struct {
	open     map[policy.Rung]policy.Reason // failures to open, by rung
	version  uint16                        // of TLS; 0: TLS 1.3
	peer     policy.Peer
	stuck    bool                     // opening takes until the caller has had enough
	replies  map[string]policy.Reason // by local part; missing: accepted
	code     int                      // of refusing replies; 0: no reply
	quits    int
	released int
}

func (w *world) Facts(context.Context, policy.Domain) (policy.Facts, error) { return w.facts, nil }

func (w *world) Open(ctx context.Context, s policy.Step) (Session, policy.Evidence, *policy.Failure) {
	h := w.hosts[s.Target.Host]
	if h.stuck {
		<-ctx.Done()
		return nil, policy.Evidence{}, &policy.Failure{Reason: policy.HandshakeStall, Host: s.Target.Host}
	}
	if r, bad := h.open[s.Rung]; bad {
		return nil, policy.Evidence{}, &policy.Failure{Reason: r, Host: s.Target.Host}
	}
	e := policy.InClear(s)
	if s.Rung != policy.Clear {
		e.Version, e.Suite, e.Peer = 0x0304, 0x1301, h.peer
		if h.peer == policy.PeerNone {
			e.WebPKI = &policy.Failure{Reason: policy.CertificateUntrusted, Host: s.Target.Host}
		}
		if h.version != 0 {
			e.Version = h.version
		}
	}
	return &fakeSession{w, h, s, e}, e, nil
}

type fakeSession struct {
	w *world
	h *fakeHost
	s policy.Step
	e policy.Evidence
}

func (f *fakeSession) Evidence() policy.Evidence { return f.e }

func (f *fakeSession) Send(ctx context.Context, t *Transaction) Sent {
	f.w.sent = append(f.w.sent, string(f.s.Target.Host)+"/"+f.s.Rung.String())
	if f.w.wait != nil {
		select {
		case <-f.w.wait:
		case <-ctx.Done():
			return failAll(t, policy.ConnectionLost)
		}
	}
	var sent Sent
	for _, r := range t.Recipients {
		var res RecipientResult
		if reason, bad := f.h.replies[r.Address.Local]; bad {
			res.Failure = &policy.Failure{Reason: reason, Host: f.s.Target.Host}
			if f.h.code != 0 {
				res.Reply = &queue.Reply{Code: f.h.code}
			}
		}
		sent.Results = append(sent.Results, res)
	}
	return sent
}

func failAll(t *Transaction, r policy.Reason) (sent Sent) {
	for range t.Recipients {
		sent.Results = append(sent.Results, RecipientResult{Failure: &policy.Failure{Reason: r}})
	}
	return sent
}

func (f *fakeSession) Release()     { f.h.released++ }
func (f *fakeSession) Quit()        { f.h.quits++ }
func (f *fakeSession) Reused() bool { return false }

func newWorld(hosts ...*fakeHost) *world {
	w := &world{hosts: map[policy.Domain]*fakeHost{}}
	w.facts = policy.Facts{Domain: "example.org", MX: policy.Lookup{Answer: policy.Records}}
	for i, h := range hosts {
		name := policy.Domain("mx" + string(rune('1'+i)) + ".example.org")
		w.hosts[name] = h
		w.facts.Hosts = append(w.facts.Hosts, policy.Host{
			Name: name, Preference: uint16(i), Port: 25,
			V4: policy.Addresses{Lookup: policy.Lookup{Answer: policy.Records}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)})}},
			V6: policy.Addresses{Lookup: policy.Lookup{Answer: policy.NoData}},
		})
	}
	return w
}

func opportunistic() *policy.Ruleset {
	return &policy.Ruleset{Default: policy.Rule{Name: "default", Floor: policy.Plaintext, OnUnmet: policy.Defer,
		Fallback: []policy.Fallback{{To: policy.Legacy}, {To: policy.Plaintext}}}}
}

func (w *world) Renew(_ context.Context, _ policy.Domain) (policy.Facts, bool, error) {
	if w.renews++; w.renewed == nil {
		return policy.Facts{}, false, nil
	}
	return *w.renewed, true, nil
}

func (w *world) Saw(host policy.Domain, ip6 bool, s policy.Sighting) {
	if w.saw == nil {
		w.saw = map[string]policy.Sighting{}
	}
	if ip6 {
		host += "+6"
	}
	w.saw[string(host)] = s
}

func (w *world) courier(r *policy.Ruleset) *Courier {
	return NewCourier(Options{Scout: w, Opener: w, Memory: w, Rules: func() *policy.Ruleset { return r }})
}

func lease(locals ...string) *queue.Lease {
	l := &queue.Lease{Envelope: queue.Envelope{ID: "M-0", Lane: "example.org"}}
	l.Message = queue.Message{ID: "M", AcceptedAt: time.Now(), Sender: queue.Address{Local: "shop", Domain: "example.com"}}
	for _, s := range locals {
		l.Envelope.Recipients = append(l.Envelope.Recipients, queue.Recipient{Address: queue.Address{Local: s, Domain: "example.org"}})
	}
	return l
}

func kinds(r queue.Report) string {
	var b strings.Builder
	for _, o := range r.Outcomes {
		b.WriteByte("fdb"[o.Kind]) // deFerred, Delivered, Bounced
	}
	return b.String()
}

func TestDeliver(t *testing.T) {
	noTLS := map[policy.Rung]policy.Reason{policy.Modern: policy.STARTTLSMissing, policy.Classical: policy.STARTTLSMissing, policy.LegacyTLS: policy.STARTTLSMissing}
	later := map[string]policy.Reason{"ann": policy.ReplyTemporary, "bob": policy.ReplyTemporary}
	tests := []struct {
		name     string
		world    *world
		to       string
		want     string // outcomes in order: d delivered, f deferred, b bounced
		sent     string
		achieved policy.Level
	}{
		{"one host, TLS", newWorld(&fakeHost{}), "ann bob", "dd", "mx1.example.org/modern", policy.Encrypted},
		{"a recipient refused, a recipient deferred: per recipient (RFC 5321 3.3)",
			newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.ReplyPermanent, "bob": policy.ReplyTemporary}}), "ann bob cid", "bfd",
			"mx1.example.org/modern", policy.Encrypted},
		{"deferred at the first, delivered at the second", newWorld(&fakeHost{replies: later}, &fakeHost{}), "ann bob cid", "ddd",
			"mx1.example.org/modern mx2.example.org/modern", policy.Encrypted},
		{"deferred over TLS never goes in clear elsewhere", newWorld(&fakeHost{replies: later}, &fakeHost{open: noTLS}), "ann", "f",
			"mx1.example.org/modern", policy.Unset},
		{"only this host lacks 8BITMIME: the next one is asked (RFC 6152 3)",
			newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.EightBitRefused}}, &fakeHost{}), "ann bob", "dd",
			"mx1.example.org/modern mx2.example.org/modern", policy.Encrypted},
		{"every host lacks it: bounced", newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.EightBitRefused}}), "ann", "b",
			"mx1.example.org/modern", policy.Unset},
		{"one host lacks it, the other is down: wait", newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.EightBitRefused}},
			&fakeHost{open: map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectRefused}}), "ann", "f", "mx1.example.org/modern", policy.Unset},
		{"this host lacks it, the other has too little TLS: the lack is the verdict",
			newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.TooLarge}}, &fakeHost{open: noTLS}), "ann", "b", "mx1.example.org/modern", policy.Unset},
		{"TLS at the worse host only", newWorld(&fakeHost{open: noTLS}, &fakeHost{}), "ann", "d", "mx2.example.org/modern", policy.Encrypted},
		{"no TLS anywhere", newWorld(&fakeHost{open: noTLS}), "ann", "d", "mx1.example.org/clear", policy.Plaintext},
		{"a lost reply to the final dot is not repeated elsewhere (RFC 1047)",
			newWorld(&fakeHost{replies: map[string]policy.Reason{"ann": policy.Uncertain}}, &fakeHost{}), "ann", "f", "mx1.example.org/modern", policy.Unset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.world.courier(opportunistic()).Deliver(t.Context(), lease(strings.Fields(tt.to)...))
			if got := kinds(r); got != tt.want {
				t.Errorf("outcomes %s, want %s", got, tt.want)
			}
			if got := strings.Join(tt.world.sent, " "); got != tt.sent {
				t.Errorf("sent %s, want %s", got, tt.sent)
			}
			var a Attempt
			if err := json.Unmarshal(r.Attempt, &a); err != nil || a.Achieved != tt.achieved {
				t.Errorf("attempt %s (%v): want achieved %v", r.Attempt, err, tt.achieved)
			}
		})
	}
}

func TestTooWeakSessionIsQuitBeforeMail(t *testing.T) {
	w := newWorld(&fakeHost{version: 0x0301})
	rules := opportunistic()
	rules.Default.Floor = policy.Encrypted
	r := w.courier(rules).Deliver(t.Context(), lease("ann"))
	if h := w.hosts["mx1.example.org"]; len(w.sent) != 0 || h.quits == 0 || h.released != 0 {
		t.Fatalf("sent %v, quits %d, released %d: want no transaction and a QUIT", w.sent, h.quits, h.released)
	}
	if kinds(r) != "f" || r.Outcomes[0].Failure.Reason != policy.BelowFloor {
		t.Fatalf("outcome %+v", r.Outcomes)
	}
}

func TestDeliveredRecipientsAreNotSentAgain(t *testing.T) {
	w := newWorld(&fakeHost{})
	l := lease("ann", "bob")
	l.Envelope.Recipients[0].State = queue.Delivered
	r := w.courier(opportunistic()).Deliver(t.Context(), l)
	if len(r.Outcomes) != 1 || r.Outcomes[0].Recipient != 1 {
		t.Fatalf("outcomes %+v: want one, for recipient 1", r.Outcomes)
	}
}

// What one attempt met, the next one does not go below: the host answered over TLS and
// put the mail off; then it is down, and only a host without TLS is left.
func TestSeenIsHeld(t *testing.T) {
	first := &fakeHost{replies: map[string]policy.Reason{"ann": policy.ReplyTemporary}}
	noTLS := map[policy.Rung]policy.Reason{policy.Modern: policy.STARTTLSMissing, policy.Classical: policy.STARTTLSMissing, policy.LegacyTLS: policy.STARTTLSMissing}
	w := newWorld(first, &fakeHost{open: noTLS})
	rules := opportunistic()
	rules.Default.Hold = time.Hour
	l := lease("ann")
	r := w.courier(rules).Deliver(t.Context(), l)
	l.Envelope.Recipients[0].Last = &r.Outcomes[0]
	l.Envelope.Tries++
	first.open = map[policy.Rung]policy.Reason{policy.Modern: policy.ConnectTimeout}
	r = w.courier(rules).Deliver(t.Context(), l)
	if kinds(r) != "f" || len(w.sent) != 1 || r.Outcomes[0].Seen != policy.Encrypted {
		t.Fatalf("outcomes %+v, sent %v: want deferred, nothing in clear", r.Outcomes, w.sent)
	}
	l.Message.AcceptedAt = time.Now().Add(-2 * time.Hour)
	if r = w.courier(rules).Deliver(t.Context(), l); kinds(r) != "d" {
		t.Fatalf("outcomes %+v: the hold must end", r.Outcomes)
	}
}

// RFC 3207 4: 530 in clear from a host whose TLS failed a moment ago is no refusal of the
// mail; from one that never offered TLS it is.
func TestTLSDemanded(t *testing.T) {
	for reason, want := range map[policy.Reason]string{policy.HandshakeEOF: "f", policy.STARTTLSMissing: "b"} {
		h := &fakeHost{replies: map[string]policy.Reason{"ann": policy.ReplyPermanent}, code: 530,
			open: map[policy.Rung]policy.Reason{policy.Modern: reason, policy.Classical: reason, policy.LegacyTLS: reason}}
		if r := newWorld(h).courier(opportunistic()).Deliver(t.Context(), lease("ann")); kinds(r) != want {
			t.Errorf("%v: outcomes %+v, want %s", reason, r.Outcomes, want)
		}
	}
}

func TestRefusalBounces(t *testing.T) {
	w := newWorld()
	w.facts.NullMX = true
	r := w.courier(opportunistic()).Deliver(t.Context(), lease("ann"))
	if kinds(r) != "b" || r.Outcomes[0].Failure.Code() != "5.1.10" {
		t.Fatalf("outcomes %+v: want a bounce 5.1.10 (RFC 7505 4.2)", r.Outcomes)
	}
}

// The transaction that has begun may end within the grace; no other is begun.
func TestGrace(t *testing.T) {
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(&fakeHost{}, &fakeHost{})
			w.wait = make(chan struct{})
			c := w.courier(opportunistic())
			c.o.Grace = 10 * time.Second
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if ends {
				time.AfterFunc(5*time.Second, func() { close(w.wait) })
			}
			began := time.Now()
			r := c.Deliver(ctx, lease("ann"))
			took := time.Since(began)
			switch {
			case ends && (kinds(r) != "d" || took != 5*time.Second):
				t.Errorf("outcomes %s after %v: want delivered after 5s", kinds(r), took)
			case !ends && (kinds(r) != "f" || took != 11*time.Second || len(w.sent) != 1):
				t.Errorf("outcomes %s after %v, sent %v: want deferred after 11s, one transaction", kinds(r), took, w.sent)
			}
		})
	}
}
