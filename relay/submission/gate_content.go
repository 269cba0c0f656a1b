package submission

import (
	"bufio"
	"errors"
	"io"
	"os"
	"time"
)

// beginContent starts the clocks for the octets of DATA (size < 0) or of a chunk.
func (g *gate) beginContent(size int64) {
	g.pieceBegan, g.pieceBytes = time.Now(), 0
	if size < 0 || g.began.IsZero() {
		g.began = g.pieceBegan
	}
	switch {
	case size < 0:
		g.phase, g.frame, g.dots = phaseData, framing{}, stuffing{}
	case size > 0:
		g.phase, g.left = phaseChunk, size
	}
}

// What a large content is read by: a TLS record at a time (RFC 8446 5.1), once it has turned out to be one.
const (
	wideRoom = 16 << 10
	wideFrom = 64 << 10 // octets of content
)

// widen gives a large content more room than commands need, until the next one is waited for. Nothing may be in the reader.
func (g *gate) widen() {
	if g.narrow != nil || g.pieceBytes < wideFrom || g.br.Buffered() > 0 {
		return
	}
	g.narrow = g.br
	g.br = g.server.wide.Get().(*bufio.Reader)
	g.br.Reset(g.conn)
}

// lessen takes the room away when nothing is in it any more.
func (g *gate) lessen() {
	if g.narrow == nil || g.br.Buffered() > 0 {
		return
	}
	wide := g.br
	g.br, g.narrow = g.narrow, nil
	wide.Reset(nil)
	g.server.wide.Put(wide)
}

// awaitContent waits for more content: each piece within the idle time, the whole
// within the total, and not slower than the minimum rate (libraries.md F4).
func (g *gate) awaitContent() error {
	g.widen()
	l := &g.server.limits
	idle := l.DataIdle
	if g.frame.bad {
		idle = min(idle, spoiltIdle)
	}
	deadline := time.Now().Add(idle)
	slowest := g.pieceBegan.Add(l.RateGrace + time.Duration(g.pieceBytes)*time.Second/time.Duration(l.MinRate))
	for _, t := range []time.Time{g.began.Add(l.DataTotal), slowest} {
		if t.Before(deadline) {
			deadline = t
		}
	}
	return g.await(deadline, waitFirm)
}

// dataReader is the content of DATA as the session reads it.
type dataReader struct{ g *gate }

// Read is readData.
func (r dataReader) Read(b []byte) (int, error) { return r.g.readData(b) }

// readData gives content up to the lone dot, without that and without the stuffing (RFC
// 5321 4.5.2), then io.EOF. The session reads here, past go-smtp, whose reader takes an
// octet at a time; go-smtp itself is given an empty content.
func (g *gate) readData(b []byte) (int, error) {
	for {
		switch g.phase {
		case phaseDot:
			return 0, io.EOF
		case phaseFailed:
			return 0, g.fail.smtp()
		}
		have, _ := g.br.Peek(min(g.br.Buffered(), len(b)))
		if len(have) == 0 {
			if err := g.awaitContent(); err != nil {
				return 0, g.broken(err)
			}
			continue
		}
		n, end := g.frame.feed(have)
		size := 0
		switch {
		case g.frame.none:
			size = g.dots.plain(b, have[:n])
		case !g.frame.bad:
			size = g.dots.copy(b, have[:n])
		}
		_, _ = g.br.Discard(n)
		g.pieceBytes += int64(n)
		switch {
		case end && g.frame.bad:
			return 0, g.refuse(errNewline())
		case g.pieceBytes > 2*g.door.maxBytes+maxFlood:
			g.ending = true // field notes S33: enough is enough
			return 0, g.refuse(errTooBig())
		case end:
			g.phase = phaseDot
		}
		if size > 0 {
			return size, nil
		}
	}
}

// finishData throws away what the session has left of the content, and goes on behind it.
func (g *gate) finishData() error {
	var b [512]byte
	for g.phase == phaseData {
		if _, err := g.readData(b[:]); err != nil && err != io.EOF {
			return err
		}
	}
	if g.phase == phaseDot {
		g.phase, g.pending = phaseCommand, []byte(".\r\n") // for go-smtp: no content
	}
	return nil
}

// readChunk gives the octets of a BDAT chunk. Their number is known, so a
// connection that ends too early is noticed however it ends (libraries.md F2).
func (g *gate) readChunk(b []byte) (int, error) {
	for g.br.Buffered() == 0 {
		if err := g.awaitContent(); err != nil {
			return 0, g.broken(err)
		}
	}
	n, err := g.br.Read(b[:min(int64(len(b)), g.left, int64(g.br.Buffered()))])
	g.pieceBytes += int64(n)
	if g.left -= int64(n); g.left == 0 {
		g.phase = phaseCommand
	}
	return n, err
}

// skipChunk throws the octets of a refused chunk away.
func (g *gate) skipChunk() bool {
	if g.skip > 2*g.door.maxBytes+maxFlood {
		g.ending = true
		return false
	}
	g.beginContent(0)
	for g.skip > 0 {
		if g.br.Buffered() == 0 {
			if err := g.awaitContent(); err != nil {
				g.hangUp(err)
				return false
			}
		}
		n, _ := g.br.Discard(int(min(g.skip, int64(g.br.Buffered()))))
		g.skip -= int64(n)
		g.pieceBytes += int64(n)
	}
	return true
}

// broken turns a read error inside content into the final word: what comes after
// is never looked at (libraries.md F1).
func (g *gate) broken(err error) error {
	g.ending = true
	switch {
	case g.phase == phaseData && g.frame.bad:
		return g.refuse(errNewline())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return g.refuse(errStalled())
	default:
		return g.refuse(errTruncated())
	}
}

func (g *gate) refuse(r *reply) error {
	g.phase, g.fail = phaseFailed, r
	return r.smtp()
}
