package pebblestore

import (
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS checks what is read of tables. One wrong octet of a block is put right on the
// way, so that the next compaction writes it right; a block that is worse is said to be
// damaged at once. (Pebble would look for a wrong bit first, for seconds a block.)
type tableFS struct {
	vfs.FS
	log   logger
	check *checker
}

func (t tableFS) Unwrap() vfs.FS { return t.FS }

// Open opens a file for reading.
func (t tableFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := t.FS.Open(name, opts...)
	if err != nil || filepath.Ext(name) != ".sst" {
		return f, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return tableFile{f, t, name, st.Size()}, nil
}

type tableFile struct {
	vfs.File
	fs   tableFS
	name string
	size int64
}

// ReadAt reads a block with its trailer, or what a table ends with.
func (f tableFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if n < len(p) || len(p) <= blockTrailer {
		return n, err
	}
	block, start, mend := p, off, f.fs.check.mendBlock
	if off+int64(n) == f.size {
		if n < footerSize {
			return n, err
		}
		block, start, mend = p[n-footerSize:], f.size-footerSize, f.fs.check.mendFooter
	}
	at, ok := mend(block)
	base := filepath.Base(f.name)
	switch {
	case !ok:
		f.fs.log.note(Damage{File: base, Messages: messageNames(block),
			What: fmt.Sprintf("%d octets from %d on cannot be read", len(block), start)})
		return 0, fmt.Errorf("%w: %s: %d octets from %d on do not check", pebble.ErrCorruption, base, len(block), start)
	case at >= 0:
		f.fs.log.note(Damage{File: base, What: fmt.Sprintf("the octet at %d is wrong: it is put right when it is read", start+int64(at)), Mended: true})
	}
	return n, err
}
