package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ballastStep is how much of the reserve is read at once, in octets.
const ballastStep = 256 << 10

// examine looks whether the reserve is what was written, zeros, and writes what is not so
// anew, in place, which needs no space. What a file system never wrote it cannot spoil: of a
// reserve without data nothing is read. It ends early when the reserve is given up, or with stop.
func (b *ballast) examine(stop <-chan struct{}) {
	if b.path == "" {
		return
	}
	buf := make([]byte, ballastStep)
	for at := int64(0); ; {
		select {
		case <-stop:
			return
		default:
		}
		next, wrong, err := b.examineStep(at, buf)
		if err != nil && !errors.Is(err, io.EOF) {
			b.log.note(Damage{File: ballastName, What: fmt.Sprintf("the reserve cannot be read, or written, at octet %d: %v", at, err)})
		}
		if wrong >= 0 {
			b.log.note(Damage{File: ballastName, What: fmt.Sprintf("the octet at %d of the reserve was wrong and is put right", wrong), Mended: err == nil})
		}
		if err != nil {
			return
		}
		at = next
	}
}

// examineStep looks at the next data from an octet on, and says where to go on; io.EOF: at the end.
// It opens the file each time and holds the lock, so that space is free at once when the
// reserve is given up.
func (b *ballast) examineStep(at int64, buf []byte) (next, wrong int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.thrown {
		return 0, -1, io.EOF
	}
	f, err := os.OpenFile(b.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, -1, io.EOF
	}
	if err != nil {
		return 0, -1, err
	}
	defer f.Close()
	from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return 0, -1, io.EOF
	case err == nil:
		at = from
	}
	n, err := f.ReadAt(buf, at)
	if n == 0 {
		return 0, -1, err
	}
	next, wrong = at+int64(n), -1
	if zero(buf[:n]) {
		return next, -1, nil
	}
	wrong = at + int64(slices.IndexFunc(buf[:n], func(o byte) bool { return o != 0 }))
	clear(buf[:n])
	_, err = f.WriteAt(buf[:n], at)
	return next, wrong, errors.Join(err, f.Sync())
}
