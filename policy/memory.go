package policy

import "time"

// How long what was seen of a host counts (policy: host memory; all own).
const (
	MemoryLife     = 30 * 24 * time.Hour // a level that was reached; it fades after that
	memoryGood     = 3                   // deliveries at encrypted or better from which a host is held to it
	classicalLife  = 24 * time.Hour      // a host that chokes on the large ClientHello; then modern is tried anew
	brokenLife     = time.Hour           // a host whose handshakes all failed goes behind its equals
	downLife       = 10 * time.Minute    // an address family that cannot be connected to goes last
	memoryIsRecent = 24 * time.Hour      // what a host offered last counts as what it will offer
)

// Memory is what was seen of one address family of a host (policy: host memory).
// It can raise a floor and choose an order, never lower a floor, and it fades. The
// zero value: never seen. It is a value; [Memory.After] makes the next one.
type Memory struct {
	// Best is the best level of a delivery in the last [MemoryLife], reached at BestAt last.
	Best   Level     `json:"best,omitempty"`
	BestAt time.Time `json:"best_at,omitzero"`
	// Last is the level of the last session that stood, at LastSeen.
	Last     Level     `json:"last,omitempty"`
	First    time.Time `json:"first,omitzero"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Good counts the deliveries at encrypted or better, the last one at GoodAt.
	Good    int       `json:"good,omitempty"`
	GoodAt  time.Time `json:"good_at,omitzero"`
	Version uint16    `json:"version,omitempty"` // TLS version of the last session
	// WeakSince is when the host first offered less than encrypted since GoodAt; zero: it does not.
	WeakSince time.Time `json:"weak_since,omitzero"`
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
	At    time.Time
	Steps []Tried
	// Level is that of the session that was used; Unset when none stood.
	Level Level
	// Delivered: the host took the mail for somebody.
	Delivered bool
	Version   uint16 // TLS version of the last session that stood; 0: none or in clear
}

// good reports whether the host is remembered for TLS: often enough and lately.
func (m *Memory) good(now time.Time) bool {
	return m.Good >= memoryGood && now.Sub(m.GoodAt) < MemoryLife
}

// Held reports whether the host keeps the floor encrypted at a time, and until when:
// it was good, and it offers less now, if at all, for less than hold (policy: downgrade
// hold). While it was not yet seen to offer less, until is zero.
func (m *Memory) Held(now time.Time, hold time.Duration) (held bool, until time.Time) {
	switch {
	case hold <= 0 || !m.good(now):
		return false, time.Time{}
	case m.WeakSince.IsZero():
		return true, time.Time{}
	}
	until = m.WeakSince.Add(hold)
	return now.Before(until), until
}

// KnownDANE reports whether the host was met at level dane in the last [MemoryLife].
func (m *Memory) KnownDANE(now time.Time) bool {
	return m.Best >= DANE && now.Sub(m.BestAt) < MemoryLife
}

// expect is the level that the host will probably offer; Unset: nobody knows.
func (m *Memory) expect(now time.Time) Level {
	switch {
	case now.Before(m.BrokenUntil):
		return Plaintext
	case now.Sub(m.LastSeen) < memoryIsRecent:
		return m.Last
	}
	return Unset
}

// Faded reports whether the memory says nothing any more and may be dropped.
func (m *Memory) Faded(now time.Time) bool {
	return now.Sub(m.LastSeen) >= MemoryLife && now.Sub(m.GoodAt) >= MemoryLife && now.Sub(m.BestAt) >= MemoryLife &&
		!now.Before(m.ClassicalUntil) && !now.Before(m.BrokenUntil) && !now.Before(m.DownUntil)
}

// After is the memory once s was seen. It is pure.
func (m Memory) After(s Sighting) Memory {
	if len(s.Steps) == 0 && s.Level == Unset {
		return m
	}
	if m.First.IsZero() {
		m.First = s.At
	}
	if s.Level != Unset {
		m.Last, m.LastSeen, m.Version = s.Level, s.At, s.Version
		m.BrokenUntil, m.DownUntil = time.Time{}, time.Time{}
	}
	if s.Delivered && s.Level >= Encrypted {
		if now := s.At; now.Sub(m.GoodAt) >= MemoryLife {
			m.Good = 0
		}
		m.Good, m.GoodAt = min(m.Good+1, 1000), s.At
	}
	if s.Delivered && (s.Level >= m.Best || s.At.Sub(m.BestAt) >= MemoryLife) {
		m.Best, m.BestAt = s.Level, s.At
	}
	m.afterTLS(s)
	return m
}

// afterTLS takes in what the steps say of the host's TLS.
func (m *Memory) afterTLS(s Sighting) {
	var weak, choked, failed, down bool
	for i := range s.Steps {
		t := &s.Steps[i]
		switch {
		case t.Reason == ReasonUnset && t.Rung == Classical && choked:
			m.ClassicalUntil = s.At.Add(classicalLife)
		case t.Reason == ReasonUnset && t.Rung == Modern, t.Rung == Classical && t.Reason.mayBeHello():
			m.ClassicalUntil = time.Time{} // modern works again, or classical does not help
		}
		choked = choked || t.Rung == Modern && t.Reason.mayBeHello()
		failed = failed || t.Reason.handshake()
		weak = weak || (t.Rung == Modern || t.Rung == Classical) && (t.Reason.noTLS() || t.Reason.handshake())
		down = down || t.Reason == ConnectRefused || t.Reason == ConnectTimeout || t.Reason == ConnectUnreachable
	}
	switch {
	case s.Level >= Encrypted:
		m.WeakSince = time.Time{}
	case (weak || s.Level != Unset) && m.WeakSince.IsZero() && m.Good > 0:
		m.WeakSince = s.At
	}
	if failed && s.Level < Encrypted {
		m.BrokenUntil = s.At.Add(brokenLife)
	}
	if down && s.Level == Unset {
		m.DownUntil = s.At.Add(downLife)
	}
}

// noTLS reports whether the reason is that STARTTLS was not to be had.
func (r Reason) noTLS() bool {
	return r == STARTTLSMissing || r == STARTTLSRefused || r == STARTTLSTemporary
}

// handshake reports whether the reason is a handshake that failed.
func (r Reason) handshake() bool { return r == HandshakeVersion || r.mayBeHello() }

// mayBeHello reports whether a smaller ClientHello may cure the failure.
func (r Reason) mayBeHello() bool {
	return r == HandshakeAlert || r == HandshakeEOF || r == HandshakeStall
}
