package smtpclient

import (
	"container/list"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// Connections across names: a provider has an MX name for each of its customers and one
// host behind them all. A connection that was opened for one name may carry the mail of
// another one at the same address, as RFC 9113 9.1.1 has it for HTTP/2, when what this
// name shows on a connection of its own is known to be the same, so that what is proved
// and recorded is the same. Nothing that speaks against a delivery counts there: not a
// level that is too low, not a refusal. Then the name gets a connection of its own, whose
// answer counts. Why it is sound: docs/adr/0017.

const (
	// faceAge is for how long a name is taken to show the face that it has shown, and for
	// how long one that was refused on another name's connection gets its own.
	faceAge = time.Hour
	// maxFaces bounds the names that are remembered; the longest unused goes.
	maxFaces = 8192
)

// face is a digest of all that a host shows of itself on a connection and that an outcome
// depends on: who shares its limits, address, rung, certificates, what was agreed on in
// the handshake, extensions. Two connections with one face prove the same to whoever
// judges them, and take the same commands.
type face [sha256.Size]byte

// none: the connection is for its own name only.
func (f face) none() bool { return f == face{} }

// faceOf returns the face of a connection. It has none in the clear, where nothing says
// that two names are one host, and where the host wants few domains on a connection
// (RFC 9422 RCPTDOMAINMAX).
func faceOf(c *conn) face {
	if c.tls == nil || len(c.tls.PeerCertificates) == 0 || c.ext.domMax > 0 {
		return face{}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %v %d %+v %d %d %d ", c.key.place.Provider, c.key.addr, c.key.rung, c.ext,
		c.tls.Version, c.tls.CipherSuite, c.tls.CurveID)
	d := digest(c.tls.PeerCertificates)
	h.Write(d[:])
	return face(h.Sum(nil))
}

// serves reports whether c may carry what goes to the key, whose face is f.
func (c *conn) serves(k key, f face) bool { return c.key == k || !f.none() && c.face == f }

// shown is the face that a name has shown.
type shown struct {
	key    key
	face   face
	at     time.Time // of the handshake in which it did
	barred time.Time // until then it gets its own connections
}

// faces remembers what names have shown on connections of their own, by all that the
// pool tells connections apart by. The lock of the pool is held for each call.
type faces struct {
	byKey map[key]*list.Element
	order list.List // of *shown, the longest unused first
}

// of returns the face that connections for the key show, the zero one when it is not known.
func (s *faces) of(k key, now time.Time) face {
	e := s.byKey[k]
	if e == nil {
		return face{}
	}
	v := e.Value.(*shown)
	if age := now.Sub(v.at); age < 0 || age >= faceAge {
		if !now.Before(v.barred) {
			s.drop(e)
		}
		return face{}
	}
	if now.Before(v.barred) {
		return face{}
	}
	s.order.MoveToBack(e)
	return v.face
}

// unknown reports whether a connection for the key may show a face that others have: none is known yet, and
// it may use theirs.
func (s *faces) unknown(k key, now time.Time) bool {
	e := s.byKey[k]
	return e == nil || s.of(k, now).none() && !now.Before(e.Value.(*shown).barred)
}

// saw remembers what a connection of the key's own has shown. A resumed session shows
// nothing: its certificate is that of the handshake before, which is no younger for it.
func (s *faces) saw(k key, f face, resumed bool, now time.Time) {
	e := s.byKey[k]
	switch {
	case e == nil && (resumed || f.none()):
		return
	case e == nil:
		e = s.add(k)
	case resumed && e.Value.(*shown).face == f:
		return
	}
	v := e.Value.(*shown)
	v.face, v.at = f, now
	if resumed { // something has changed
		v.face = face{}
	}
	s.order.MoveToBack(e)
}

// forget: what the key has shown does not hold any more.
func (s *faces) forget(k key) {
	if e := s.byKey[k]; e != nil {
		e.Value.(*shown).face = face{}
	}
}

// bar keeps the key from using others' connections for a while.
func (s *faces) bar(k key, now time.Time) {
	e := s.byKey[k]
	if e == nil {
		e = s.add(k)
	}
	e.Value.(*shown).barred = now.Add(faceAge)
}

func (s *faces) add(k key) *list.Element {
	e := s.order.PushBack(&shown{key: k})
	s.byKey[k] = e
	if s.order.Len() > maxFaces {
		s.drop(s.order.Front())
	}
	return e
}

func (s *faces) drop(e *list.Element) {
	delete(s.byKey, e.Value.(*shown).key)
	s.order.Remove(e)
}

// find returns the idle connection that was used last of those for the key, or else of
// those that show its face. The lock is held.
func (p *Pool) find(k key) *conn {
	if r, ok := p.shelf.keys[k]; ok {
		return r.last
	}
	if f := p.faces.of(k, p.o.Now()); !f.none() {
		return p.shelf.faces[f].last
	}
	return nil
}

// serves is conn.serves with what is known now. The lock is held.
func (p *Pool) serves(c *conn, k key) bool {
	return c.key == k || !c.face.none() && c.face == p.faces.of(k, p.o.Now())
}

// met takes note of what a new connection shows.
func (p *Pool) met(c *conn) {
	c.face = p.faceOf(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faces.saw(c.key, c.face, c.tls != nil && c.tls.DidResume, p.o.Now())
}

// bar gives the key connections of its own for a while.
func (p *Pool) bar(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faces.bar(k, p.o.Now())
}

// unmet: no connection of its own came about for the key.
func (p *Pool) unmet(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faces.forget(k)
}

// borrow measures a connection against a step for another name than it was opened for.
// When what it proves is not enough, that is for a connection of the name's own to show:
// ok is false, and c is given back.
func (p *Pool) borrow(c *conn, s policy.Step, k key) (e policy.Evidence, ok bool) {
	e = p.measure(c, s, p.o.Now())
	if _, f := s.Judge(e); f != nil {
		p.bar(k)
		p.release(c)
		return e, false
	}
	if p.o.Logger.Enabled(context.Background(), slog.LevelDebug) {
		p.o.Logger.Debug("connection of another name", "mx", k.host, "opened_as", c.key.host, "ip", k.addr)
	}
	return e, true
}

// borrowed reports whether the connection was opened for another name.
func (s *session) borrowed() bool { return s.c.key != s.key }

// manner is how the host is sent to: as plainly as the name under which the connection was
// opened needs it, and the host itself.
func (s *session) manner() (style, bool) {
	plain, share := s.p.quirks.manner(s.c.key.hostKey, s.c.ext, s.p.o)
	if !s.borrowed() {
		return plain, share
	}
	own, too := s.p.quirks.manner(s.key.hostKey, s.c.ext, s.p.o)
	return max(plain, own), share && too
}

// notThere: something went wrong that another name's connection may be to blame for, so
// this name gets its own from now on.
func (s *session) notThere() {
	if !s.borrowed() {
		return
	}
	s.p.bar(s.key)
}

// takeBack returns the recipients whose failure does not count, for it came on another
// name's connection: they are to be sent to on one of the name's own. What may have
// arrived is not among them, nor what failed for a reason of ours.
func (x *transaction) takeBack() (batch []int) {
	if !x.s.borrowed() || x.ctx.Err() != nil {
		return nil
	}
	wrong := false
	for _, i := range x.batch {
		f := x.results[i].Failure
		switch {
		case f == nil:
			continue
		case ofTheConnection(f.Reason):
			batch = append(batch, i)
			x.results[i] = relay.RecipientResult{}
		}
		wrong = wrong || f.Reason != policy.Internal
	}
	if wrong {
		x.s.notThere()
	}
	return batch
}

func ofTheConnection(r policy.Reason) bool {
	switch r {
	case policy.ReplyTemporary, policy.ReplyPermanent, policy.ReplyTimeout, policy.ProtocolError, policy.ConnectionLost:
		return true
	}
	return false
}
