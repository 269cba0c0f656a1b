package seal

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sealpost/sealpost/queue"
)

// Sizes of a body's parts.
const (
	frameSize = 64 << 10
	smallSize = 16 << 10 // most messages are smaller
)

// frames is the number of frames of a body; an empty one has one, which is empty.
func frames(size int64) int { return max(1, int((size+frameSize-1)/frameSize)) }

// appendFrameNonce is a frame's nonce: its number. The key is the message's alone.
func appendFrameNonce(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint64(append(b, frameNonce, 0, 0, 0), uint64(n))
}

// appendFrameAAD is what a frame is bound to.
func appendFrameAAD(b []byte, id queue.ID, n int, last byte) []byte {
	b = append(append(b, frameNonce), id...)
	return append(binary.BigEndian.AppendUint32(b, uint32(n)), last)
}

// frameAAD has room for that.
const frameAAD = 1 + idSize + 4 + 1

// buffers are those of bodies on their way. They are zeroed before they come back.
type buffers struct{ small, large sync.Pool }

// Each has room for an octet of the next frame, and for a tag.
const (
	smallBuffer = smallSize + 1 + tagSize
	largeBuffer = frameSize + 1 + tagSize
)

func (p *buffers) get(large bool) *[]byte {
	pool, size := &p.small, smallBuffer
	if large {
		pool, size = &p.large, largeBuffer
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (p *buffers) put(b *[]byte, used int) {
	if b == nil {
		return
	}
	clear((*b)[:used])
	if len(*b) == largeBuffer {
		p.large.Put(b)
	} else {
		p.small.Put(b)
	}
}

// sealer seals a body on its way into the store. What comes out is as long as what
// went in; the frames' tags go into the record.
type sealer struct {
	ctx  context.Context
	r    io.Reader
	aead cipher.AEAD
	id   queue.ID
	pool *buffers

	buf   *[]byte
	n     int    // octets of the next frame in buf
	out   []byte // sealed, not given yet: a part of buf
	spill int    // octets behind out that belong to the next frame: 0 or 1
	next  byte
	tags  []byte
	size  int64
	done  bool
	err   error
	nonce [nonceSize]byte
	aad   [frameAAD]byte
}

// Read gives sealed octets.
func (s *sealer) Read(p []byte) (int, error) {
	if len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.err = s.frame(); s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	if len(s.out) == 0 && s.done {
		s.err = io.EOF
		return n, io.EOF
	}
	return n, nil
}

// frame reads and seals the next frame. To know whether it is the last one it reads
// an octet further.
func (s *sealer) frame() error {
	if s.buf == nil {
		s.buf = s.pool.get(false)
	}
	if s.spill > 0 {
		(*s.buf)[0], s.n, s.spill = s.next, 1, 0
	}
	last, err := s.fill()
	if err != nil {
		return err
	}
	number, size, end := len(s.tags)/tagSize, s.n, byte(1)
	if !last {
		size, end = frameSize, 0
		s.next, s.spill = (*s.buf)[frameSize], 1
	}
	b := (*s.buf)[:size]
	b = s.aead.Seal(b[:0], appendFrameNonce(s.nonce[:0], number), b, appendFrameAAD(s.aad[:0], s.id, number, end))
	s.tags = append(s.tags, b[size:]...)
	s.out, s.done = b[:size], last
	s.size += int64(size)
	s.n = 0
	return nil
}

// fill reads until there is an octet more than a frame, or to the end of the body.
func (s *sealer) fill() (last bool, err error) {
	for idle := 0; s.n <= frameSize; {
		if err := s.ctx.Err(); err != nil {
			return false, err
		}
		room := len(*s.buf) - tagSize
		if s.n == room {
			s.grow()
			continue
		}
		m, err := s.r.Read((*s.buf)[s.n:room])
		s.n += m
		switch {
		case err == io.EOF:
			if s.n <= frameSize {
				return true, nil
			}
			s.r = eof{}
			return false, nil
		case err != nil:
			return false, err
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return false, io.ErrNoProgress
			}
		}
	}
	return false, nil
}

// grow takes a buffer of a whole frame.
func (s *sealer) grow() {
	large := s.pool.get(true)
	copy(*large, (*s.buf)[:s.n])
	s.pool.put(s.buf, s.n)
	s.buf = large
}

// release gives the buffer back.
func (s *sealer) release() {
	if s.buf != nil {
		used := len(*s.buf)
		if used == smallBuffer {
			used = min(used, max(s.n, int(s.size))+tagSize)
		}
		s.pool.put(s.buf, used)
	}
	s.buf, s.out = nil, nil
	if s.err == nil {
		s.err = errors.New("seal: the body was given back")
	}
}

// eof is a reader at its end.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// opener reads a sealed body. It is for one goroutine.
type opener struct {
	inner queue.Body
	aead  cipher.AEAD
	id    queue.ID
	tags  []byte
	size  int64
	pool  *buffers
	told  func(error)

	buf   *[]byte
	rest  []byte
	frame int
	err   error
	nonce [nonceSize]byte
	aad   [frameAAD]byte
}

// newOpener checks that a body is as long as it was.
func newOpener(inner queue.Body, s *secret, id queue.ID) (*opener, error) {
	o := &opener{inner: inner, aead: s.aead, id: id, tags: s.tags, size: inner.Size()}
	if n := len(s.tags) / tagSize; o.size < 0 || frames(o.size) != n {
		return nil, &Damage{Message: id, What: fmt.Sprintf("body of %d octets where %d frames were sealed", o.size, n), Err: ErrDamaged}
	}
	return o, nil
}

// Size is the number of octets in all.
func (o *opener) Size() int64 { return o.size }

// Read gives no octet of a frame that does not open.
func (o *opener) Read(p []byte) (int, error) {
	for len(o.rest) == 0 {
		if o.err != nil {
			return 0, o.err
		}
		o.err = o.load()
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

// load opens the next frame; io.EOF after the last one.
func (o *opener) load() error {
	last := o.frame == frames(o.size)-1
	if o.frame == frames(o.size) {
		return o.atEnd()
	}
	want, end := int64(frameSize), byte(0)
	if last {
		want, end = o.size-int64(o.frame)*frameSize, 1
	}
	if o.buf == nil {
		o.buf = o.pool.get(o.size > smallSize)
	}
	b := (*o.buf)[:want+tagSize]
	if n, err := io.ReadFull(o.inner, b[:want]); err != nil {
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		return o.damaged(fmt.Sprintf("frame %d of the body is cut short after %d octets", o.frame, n))
	}
	copy(b[want:], o.tags[o.frame*tagSize:(o.frame+1)*tagSize])
	plain, err := o.aead.Open(b[:0], appendFrameNonce(o.nonce[:0], o.frame), b, appendFrameAAD(o.aad[:0], o.id, o.frame, end))
	if err != nil {
		return o.damaged(fmt.Sprintf("frame %d of the body", o.frame))
	}
	o.rest = plain
	o.frame++
	return nil
}

// atEnd checks that nothing follows.
func (o *opener) atEnd() error {
	var one [1]byte
	if n, _ := o.inner.Read(one[:]); n > 0 {
		return o.damaged("something behind the end of the body")
	}
	return io.EOF
}

func (o *opener) damaged(what string) error {
	d := &Damage{Message: o.id, What: what, Err: ErrDamaged}
	if o.told != nil {
		o.told(d)
	}
	return d
}

// Close gives the buffer back.
func (o *opener) Close() error {
	if o.buf != nil {
		o.pool.put(o.buf, int(min(o.size, frameSize))+tagSize)
		o.buf, o.rest = nil, nil
	}
	if o.err == nil {
		o.err = errors.New("seal: body is closed")
	}
	return o.inner.Close()
}
