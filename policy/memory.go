package policy

import (
	"net/netip"
	"time"
)

// How long what was seen of a host counts (policy: host memory; all own).
const (
	MemoryLife     = 30 * 24 * time.Hour // a level that was reached; it fades after that
	memoryGood     = 3                   // deliveries at encrypted or better from which a host is held to it
	classicalLife  = 24 * time.Hour      // a host that chokes on the large ClientHello; then modern is tried anew
	brokenLife     = time.Hour           // a host whose handshakes all failed goes behind its equals
	downLife       = 10 * time.Minute    // an address family that cannot be connected to goes last
	memoryIsRecent = 24 * time.Hour      // what a host offered last counts as what it will offer
	// weakLife is how long a weaker answer that no other followed counts: longer than
	// the gap between two tries of a message. Behind it the next one is the first again,
	// or one forged failure would use up the hold of a month.
	weakLife = 48 * time.Hour
)

// Memory is what was seen of one address family of a host (policy: host memory).
// It can raise a floor and choose an order, never lower a floor, and it fades. The
// zero value: never seen. It is a value; [Memory.After] makes the next one. Clocks jump:
// a time that lies ahead counts no longer than one that is as far behind.
type Memory struct {
	// Best is the best level of a delivery in the last [MemoryLife], reached at BestAt last.
	Best   Level     `json:"best,omitempty"`
	BestAt time.Time `json:"best_at,omitzero"`
	// Last is the level of the last session that stood, at LastSeen.
	Last     Level     `json:"last,omitempty"`
	First    time.Time `json:"first,omitzero"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Good counts the deliveries at encrypted or better, the last one at GoodAt, those
	// before it at GoodBefore. It begins anew when none came for [MemoryLife].
	Good       int                       `json:"good,omitempty"`
	GoodAt     time.Time                 `json:"good_at,omitzero"`
	GoodBefore [memoryGood - 1]time.Time `json:"good_before,omitzero"`
	Version    uint16                    `json:"version,omitempty"` // TLS version of the last session
	// WeakSince is when the host first offered less than encrypted, and WeakAt when it did
	// so last, since a delivery at encrypted or better; zero: it does not.
	WeakSince time.Time `json:"weak_since,omitzero"`
	WeakAt    time.Time `json:"weak_at,omitzero"`
	// ClassicalUntil: it chokes on the large ClientHello; until then modern is skipped.
	ClassicalUntil time.Time `json:"classical_until,omitzero"`
	// BrokenUntil: every handshake failed; until then it goes behind its equals. Never a
	// reason to go without TLS: a memory that could say so could be poisoned.
	BrokenUntil time.Time `json:"broken_until,omitzero"`
	// DownUntil: it could not be connected to; until then the other family goes first.
	DownUntil time.Time `json:"down_until,omitzero"`
}

// Sighting is what one attempt saw of one address family of a host: the steps there
// in order, and what became of them.
type Sighting struct {
	At    time.Time // needed
	Steps []Tried
	// Level is that of the session that was used; Unset when none stood.
	Level Level
	// Delivered: the host took the mail for somebody.
	Delivered bool
	Version   uint16 // TLS version of the last session that stood; 0: none or in clear
}

// good reports whether it was a delivery at encrypted or better.
func (s *Sighting) good() bool { return s.Delivered && s.Level >= Encrypted }

// within reports whether a time is less than life away. Behind is the usual case; ahead
// is a clock that was set back, and counts for so long at most, not for ever.
func within(now, at time.Time, life time.Duration) bool {
	return !at.IsZero() && now.Sub(at).Abs() < life
}

// until reports whether a mark that was set for life is still on.
func until(now, end time.Time, life time.Duration) bool {
	return now.Before(end) && end.Sub(now) <= life
}

// good reports whether the host is remembered for TLS: often enough and lately.
func (m *Memory) good(now time.Time) bool {
	return m.Good >= memoryGood && within(now, m.GoodAt, MemoryLife) && within(now, m.GoodBefore[memoryGood-2], MemoryLife)
}

// weak is since when the host offers less, zero when it does not; never ahead of now.
func (m *Memory) weak(now time.Time) time.Time {
	switch {
	case !within(now, m.WeakAt, weakLife):
		return time.Time{}
	case m.WeakSince.After(now):
		return now
	}
	return m.WeakSince
}

// Held reports whether the host keeps the floor encrypted at a time, and until when:
// it was good, and it offers less now, if at all, for less than hold (policy: downgrade
// hold). While it was not yet seen to offer less, end is zero.
func (m *Memory) Held(now time.Time, hold time.Duration) (held bool, end time.Time) {
	return HostHeld(m, &Memory{}, now, hold)
}

// HostHeld is [Memory.Held] for a host with both its address families. The host is one:
// it was good when one family was, and its first weaker answer in either starts the end of
// the hold, for the good one may be out of our reach by now and would hold it for ever.
func HostHeld(v4, v6 *Memory, now time.Time, hold time.Duration) (held bool, end time.Time) {
	if hold <= 0 || !v4.good(now) && !v6.good(now) {
		return false, time.Time{}
	}
	since, other := v4.weak(now), v6.weak(now)
	if since.IsZero() || !other.IsZero() && other.Before(since) {
		since = other
	}
	if since.IsZero() {
		return true, time.Time{}
	}
	end = since.Add(hold)
	return now.Before(end), end
}

// KnownDANE reports whether the host was met at level dane in the last [MemoryLife].
func (m *Memory) KnownDANE(now time.Time) bool {
	return m.Best >= DANE && within(now, m.BestAt, MemoryLife)
}

// chokes reports whether the host is not to be troubled with the large ClientHello now.
func (m *Memory) chokes(now time.Time) bool { return until(now, m.ClassicalUntil, classicalLife) }

// down reports whether the family could not be connected to lately.
func (m *Memory) down(now time.Time) bool { return until(now, m.DownUntil, downLife) }

// expect is the level that the host will probably offer; Unset: nobody knows.
func (m *Memory) expect(now time.Time) Level {
	switch {
	case until(now, m.BrokenUntil, brokenLife):
		return Plaintext
	case within(now, m.LastSeen, memoryIsRecent):
		return m.Last
	}
	return Unset
}

// Faded reports whether the memory says nothing any more and may be dropped. One from
// ahead of now is kept: it counts again when the clock is right again.
func (m *Memory) Faded(now time.Time) bool {
	return now.Sub(m.LastSeen) >= MemoryLife && now.Sub(m.GoodAt) >= MemoryLife && now.Sub(m.BestAt) >= MemoryLife &&
		now.Sub(m.WeakAt) >= weakLife &&
		!now.Before(m.ClassicalUntil) && !now.Before(m.BrokenUntil) && !now.Before(m.DownUntil)
}

// After is the memory once s was seen. It is pure. A sighting without a time or
// without anything seen changes nothing.
func (m Memory) After(s Sighting) Memory {
	if s.At.IsZero() || len(s.Steps) == 0 && s.Level == Unset {
		return m
	}
	m.settle(s.At)
	if m.First.IsZero() {
		m.First = s.At
	}
	if stood := s.stood(); stood != Unset {
		m.Last, m.LastSeen, m.Version = stood, s.At, s.Version
	}
	if s.good() {
		if !within(s.At, m.GoodAt, MemoryLife) {
			m.Good = 0
		}
		copy(m.GoodBefore[1:], m.GoodBefore[:])
		m.GoodBefore[0] = m.GoodAt
		m.Good, m.GoodAt = min(m.Good+1, 1000), s.At
	}
	if s.Delivered && (s.Level >= m.Best || !within(s.At, m.BestAt, MemoryLife)) {
		m.Best, m.BestAt = s.Level, s.At
	}
	m.afterHello(&s)
	m.afterTLS(&s)
	return m
}

// AfterOther is the memory once s was seen in the host's other address family: TLS that
// took mail there ends the host's weakness. Nothing else is the other family's affair.
func (m Memory) AfterOther(s Sighting) Memory {
	if !s.At.IsZero() && s.good() {
		m.WeakSince, m.WeakAt = time.Time{}, time.Time{}
	}
	return m
}

// settle brings times that lie ahead back to now: the clock was set back since.
func (m *Memory) settle(now time.Time) {
	for _, t := range [...]*time.Time{&m.First, &m.LastSeen, &m.BestAt, &m.GoodAt, &m.GoodBefore[0], &m.GoodBefore[1], &m.WeakSince, &m.WeakAt} {
		if t.After(now) {
			*t = now
		}
	}
	for _, mark := range [...]struct {
		end  *time.Time
		life time.Duration
	}{{&m.ClassicalUntil, classicalLife}, {&m.BrokenUntil, brokenLife}, {&m.DownUntil, downLife}} {
		if !until(now, *mark.end, mark.life) {
			*mark.end = time.Time{}
		}
	}
}

// stood is the level of the session that was used, else the best of those that were kept
// open for nothing or were too weak for the floor; Unset: none stood.
func (s *Sighting) stood() Level {
	level := s.Level
	for i := range s.Steps {
		if s.Level == Unset {
			level = max(level, s.Steps[i].Level)
		}
	}
	return level
}

// afterHello takes in what the steps say of the host's ear for a large ClientHello: at
// one address modern failed and classical did not.
func (m *Memory) afterHello(s *Sighting) {
	var choked netip.AddrPort
	chokes := false
	for i := range s.Steps {
		t := &s.Steps[i]
		switch {
		case t.Rung == Modern && t.Reason.mayBeHello():
			choked, chokes = t.Addr, true
		case t.Rung == Classical && t.handshook() != Unset && chokes && t.Addr == choked:
			m.ClassicalUntil = s.At.Add(classicalLife)
		case t.Rung == Modern && t.handshook() != Unset, t.Rung == Classical && t.Reason.mayBeHello():
			m.ClassicalUntil = time.Time{} // modern works again, or classical does not help
		}
	}
}

// afterTLS takes in what the steps say of the host's TLS, and whether it is there at all.
func (m *Memory) afterTLS(s *Sighting) {
	var weak, failed, down, met bool
	stood := s.stood()
	for i := range s.Steps {
		t := &s.Steps[i]
		weak = weak || (t.Rung == Modern || t.Rung == Classical) && t.Reason.MayLower() && t.handshook() < Encrypted
		failed = failed || t.Reason.handshake()
		down = down || t.Reason.connect()
		met = met || t.Rung != RungUnset && !t.Reason.connect()
		stood = max(stood, t.handshook())
	}
	switch {
	case s.good():
		m.WeakSince, m.WeakAt = time.Time{}, time.Time{}
	case stood < Encrypted && (weak || stood != Unset):
		if m.weak(s.At).IsZero() {
			m.WeakSince = s.At
		}
		m.WeakAt = s.At
	}
	switch {
	case stood >= Legacy:
		m.BrokenUntil = time.Time{}
	case failed:
		m.BrokenUntil = s.At.Add(brokenLife)
	case stood != Unset:
		m.BrokenUntil = time.Time{} // no handshake was tried: it does not offer STARTTLS
	}
	switch {
	case met || s.Level != Unset:
		m.DownUntil = time.Time{}
	case down:
		m.DownUntil = s.At.Add(downLife)
	}
}

// handshook is the level of a TLS handshake that succeeded, whatever came of the session:
// a certificate that is not good enough is TLS all the same. Unset: none succeeded.
func (t *Tried) handshook() Level {
	switch {
	case t.Rung == RungUnset || t.Rung == Clear:
		return Unset
	case t.Level >= Legacy:
		return t.Level
	case t.Reason == ReasonUnset || t.Reason.peer():
		return min(Encrypted, t.Rung.Ceiling())
	}
	return Unset
}

// handshake reports whether the reason is a handshake that failed.
func (r Reason) handshake() bool {
	return r == HandshakeVersion || r == HandshakeCertificate || r.mayBeHello()
}

// mayBeHello reports whether a smaller ClientHello may cure the failure.
func (r Reason) mayBeHello() bool {
	return r == HandshakeAlert || r == HandshakeEOF || r == HandshakeStall
}

// peer reports whether the reason is a peer that did not prove itself in a handshake that
// succeeded.
func (r Reason) peer() bool {
	return r == CertificateExpired || r == CertificateMismatch || r == CertificateUntrusted || r == TLSAMismatch
}

// connect reports whether the reason is that there was no connection.
func (r Reason) connect() bool {
	return r == ConnectRefused || r == ConnectTimeout || r == ConnectUnreachable
}
