package policytest

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

// Fault is a way in which the server fails a question.
type Fault uint8

// The faults. Those that name a reply code come at the end of an alias chain too:
// the whole answer fails then (RFC 7672 2.1.3).
const (
	FaultUnset    Fault = iota
	ServFail            // RCODE 2
	Refused             // RCODE 5
	NotImp              // RCODE 4
	FormErr             // RCODE 1
	FormErrEDNS         // RCODE 1, but only for queries with EDNS (RFC 6891 7)
	Timeout             // no reply
	Truncate            // over UDP: TC and nothing else; over TCP: the answer
	WrongID             // the reply carries another id
	WrongQuestion       // the reply is for another name
	Garbage             // the reply cannot be parsed
	Referral            // empty answer and an NS record: no recursion was done
	FirstAlias          // only the first CNAME, without the rest of the chain
	BadSignature        // the name is bogus, the rest of its zone is good
)

type fault struct {
	kind Fault
	wait time.Duration
	hold chan struct{} // nil, or closed when released
}

// Fail makes questions for name and type ("" for every type) fail until [Zones.Heal].
func (z *Zones) Fail(name, qtype string, f Fault) {
	z.setFault(name, qtype, &fault{kind: f})
}

// Delay makes the answers for name and type ("" for every type) late.
func (z *Zones) Delay(name, qtype string, d time.Duration) {
	z.setFault(name, qtype, &fault{wait: d})
}

// Hold keeps the answers for name and type ("" for every type) back until release
// is called. It is what a test uses in place of sleeping.
func (z *Zones) Hold(name, qtype string) (release func()) {
	f := &fault{hold: make(chan struct{})}
	z.setFault(name, qtype, f)
	return func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		select {
		case <-f.hold:
		default:
			close(f.hold)
		}
	}
}

// Heal takes the fault, delay or hold of name and type back. Answers that are held
// are let go.
func (z *Zones) Heal(name, qtype string) {
	q := faultKey(name, qtype)
	z.mu.Lock()
	defer z.mu.Unlock()
	if f := z.faults[q]; f != nil && f.hold != nil {
		select {
		case <-f.hold:
		default:
			close(f.hold)
		}
	}
	delete(z.faults, q)
}

func (z *Zones) setFault(name, qtype string, f *fault) {
	q := faultKey(name, qtype)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults[q] = f
}

func faultKey(name, qtype string) question {
	if qtype == "" {
		return question{canonical(name), dns.TypeANY}
	}
	return question{canonical(name), typeOf(qtype)}
}

// faultAt returns the fault of a question, or nil. z.mu is held.
func (z *Zones) faultAt(q question) *fault {
	if f := z.faults[q]; f != nil {
		return f
	}
	return z.faults[question{q.name, dns.TypeANY}]
}

// stall keeps an answer back as long as the fault says.
func (f *fault) stall(ctx context.Context) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
		}
	}
	if f.wait > 0 {
		t := time.NewTimer(f.wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// rcode returns the reply code of a fault that has one.
func (f Fault) rcode() (int, bool) {
	switch f {
	case ServFail:
		return dns.RcodeServerFailure, true
	case Refused:
		return dns.RcodeRefused, true
	case NotImp:
		return dns.RcodeNotImplemented, true
	case FormErr, FormErrEDNS:
		return dns.RcodeFormatError, true
	}
	return 0, false
}

// spoil sends a reply that must not be believed, and reports whether the fault is
// of that kind; or it drops the query.
func (f Fault) spoil(w dns.ResponseWriter, r *dns.Msg) bool {
	m := new(dns.Msg).SetReply(r)
	switch f {
	case Timeout:
		return true
	case WrongID:
		m.Id++
	case WrongQuestion:
		m.Question[0].Name = "elsewhere.invalid."
	case Garbage:
		raw := make([]byte, 20)
		binary.BigEndian.PutUint16(raw, r.Id)
		raw[2], raw[5], raw[7] = 0x80, 1, 9 // a reply with one question and nine answers in 8 octets
		_, _ = w.Write(raw)                 // the client is left to time out when this fails
		return true
	default:
		return false
	}
	_ = w.WriteMsg(m) // as above
	return true
}
