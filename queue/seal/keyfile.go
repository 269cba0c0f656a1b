package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kind is what a key file holds. It is the file's first word, too.
type kind uint8

const (
	kindKEK     kind = iota + 1 // wraps the others
	kindRoot                    // names of lanes and cells
	kindEpoch                   // wraps message keys of one slice of time
	kindCarry                   // seals the table of message keys that outlived their epoch
	kindJournal                 // the tree of one day's journal keys
)

func kindWords() []string { return []string{"", "kek", "root", "epoch", "carry", "journal"} }

func (k kind) String() string {
	if w := kindWords(); int(k) < len(w) {
		return w[k]
	}
	return "unknown"
}

const (
	magic      = "SEALKEY\x01"
	keySize    = 32
	nonceSize  = 12
	tagSize    = 16
	metaSize   = len(magic) + 1 + 8 + 4 + 8 + 8
	headSize   = metaSize + nonceSize
	checkSize  = 8
	maxKeyFile = 1 << 30
	suffixKey  = ".key"
	suffixTemp = ".tmp"
	suffixDead = ".dead"
)

// meta is the open part of a key file.
type meta struct {
	kind    kind
	id      uint64
	gen     uint32 // grows when the file is written anew: wrapped by another KEK, or with less in it
	created time.Time
	kek     uint64 // that wraps it; 0 for a KEK itself
}

func (m *meta) name() string {
	return fmt.Sprintf("%s-%d.%d%s", m.kind, m.id, m.gen, suffixKey)
}

func (m *meta) encode() []byte {
	b := append(make([]byte, 0, headSize+64), magic...)
	b = append(b, byte(m.kind))
	b = binary.BigEndian.AppendUint64(b, m.id)
	b = binary.BigEndian.AppendUint32(b, m.gen)
	b = binary.BigEndian.AppendUint64(b, uint64(m.created.Unix()))
	return binary.BigEndian.AppendUint64(b, m.kek)
}

// Errors of a key file's form.
var (
	errNoKeyFile = errors.New("it is no key file of this program, or was changed")
	errZeroed    = errors.New("it was being destroyed")
)

// decodeMeta reads the open part of a key file.
func decodeMeta(b []byte) (m meta, err error) {
	if len(b) > 0 && zero(b) {
		return m, errZeroed
	}
	if len(b) < headSize+tagSize || string(b[:len(magic)]) != magic {
		return m, errNoKeyFile
	}
	p := b[len(magic):]
	m.kind, m.id, m.gen = kind(p[0]), binary.BigEndian.Uint64(p[1:]), binary.BigEndian.Uint32(p[9:])
	m.created, m.kek = time.Unix(int64(binary.BigEndian.Uint64(p[13:])), 0).UTC(), binary.BigEndian.Uint64(p[21:])
	if m.kind == 0 || int(m.kind) >= len(kindWords()) || (m.kind == kindKEK) != (m.kek == 0) {
		return m, errNoKeyFile
	}
	return m, nil
}

// sealFile makes a key file: the payload wrapped by a KEK, or a KEK as it is, with a check sum.
func sealFile(m *meta, wrap cipher.AEAD, nonce, payload []byte) []byte {
	b := m.encode()
	if m.kind == kindKEK {
		b = append(b, make([]byte, nonceSize)...)
		b = append(b, payload...)
		sum := sha256.Sum256(b)
		return append(b, sum[:checkSize]...)
	}
	head := len(b)
	b = append(b, nonce...)
	return wrap.Seal(b, nonce, payload, b[:head])
}

// openFile returns a key file's payload, in memory of its own.
func openFile(b []byte, wrap cipher.AEAD) ([]byte, error) {
	m, err := decodeMeta(b)
	if err != nil {
		return nil, err
	}
	if m.kind == kindKEK {
		if len(b) != headSize+keySize+checkSize {
			return nil, errNoKeyFile
		}
		sum := sha256.Sum256(b[:headSize+keySize])
		if !bytes.Equal(sum[:checkSize], b[headSize+keySize:]) {
			return nil, errNoKeyFile
		}
		return bytes.Clone(b[headSize : headSize+keySize]), nil
	}
	payload, err := wrap.Open(nil, b[metaSize:headSize], b[headSize:], b[:metaSize])
	if err != nil {
		return nil, errNoKeyFile
	}
	return payload, nil
}

// random returns fresh random octets (crypto/rand.Read never fails).
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// newAEAD is AES-256-GCM.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil // keys are 32 octets everywhere
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil
	}
	return aead
}

// keyDir is a directory of key files. Its methods are for one goroutine at a time.
type keyDir struct {
	disk disk
	path string
	// spared is told of a file that is not as it was written and can be read all the same; nil:
	// nobody is.
	spared func(name, wrong string)
}

func (d *keyDir) at(name string) string { return filepath.Join(d.path, name) }

// write makes a file durable under its name, whole or not at all: written aside,
// synced, renamed, and the directory synced.
func (d *keyDir) write(name string, content []byte) error {
	f, err := d.disk.Open(d.at(name+suffixTemp), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	both := twice(content)
	defer clear(both)
	if _, err = f.Write(both); err != nil {
		err = errors.Join(err, f.Close())
	} else {
		err = d.publish(f, name)
	}
	if err != nil {
		_ = d.disk.Remove(d.at(name + suffixTemp)) // nothing was sealed with it
		return fmt.Errorf("seal: key file %s cannot be written: %w", d.at(name), err)
	}
	return nil
}

// publish gives a file that was written aside its name. It closes the file.
func (d *keyDir) publish(f file, name string) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := d.disk.Rename(d.at(name+suffixTemp), d.at(name)); err != nil {
		return err
	}
	return d.disk.SyncDir(d.path)
}

// read returns a file's content. A file that others may read is refused: who has
// it has the mail.
func (d *keyDir) read(name string) ([]byte, error) {
	path := d.at(name)
	f, err := d.disk.Open(path, os.O_RDONLY)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("seal: key file %s cannot be read: it must belong to the user that runs sealpost: %w", path, err)
		}
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("seal: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("seal: %s is no plain file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("seal: key file %s is open to others (mode %04o): chmod 600 %s, and rotate the keys if somebody may have read it",
			path, info.Mode().Perm(), path)
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("seal: key file %s has %d octets", path, info.Size())
	}
	b := make([]byte, info.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("seal: key file %s: %w", path, err)
	}
	content, wrong := either(b)
	if wrong != "" && d.spared != nil {
		d.spared(name, wrong)
	}
	return content, nil
}

// mend puts a file right that can be read, in place: written anew under its name, what it had
// before would stay on the disk, and nobody would destroy it. The copy that is good is not touched.
func (d *keyDir) mend(name string) error {
	f, err := d.disk.Open(d.at(name), os.O_RDWR)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	b := make([]byte, info.Size())
	defer clear(b)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return errors.Join(err, f.Close())
	}
	content, wrong := either(b)
	if wrong == "" {
		return f.Close()
	}
	right := twice(content)
	defer clear(right)
	for at := 0; at < len(right) && err == nil; at += copyBlock {
		end := min(at+copyBlock, len(right))
		if !bytes.Equal(right[at:end], b[at:end]) {
			_, err = f.WriteAt(right[at:end], int64(at))
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// destroy makes files unreadable: out of the way by another name, overwritten,
// synced, removed. What a crash leaves half done, the next start ends; what an error
// leaves half done, the same call ends later.
func (d *keyDir) destroy(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	dead := make([]string, len(names))
	for i, name := range names {
		dead[i] = name
		if !strings.HasSuffix(name, suffixDead) {
			dead[i] = name + suffixDead
			if err := d.disk.Rename(d.at(name), d.at(dead[i])); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("seal: %w", err)
			}
		}
	}
	if err := d.disk.SyncDir(d.path); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	for _, name := range dead {
		if err := d.overwrite(name); err != nil {
			return fmt.Errorf("seal: key file %s could not be overwritten: %w", d.at(name), err)
		}
	}
	if err := d.disk.SyncDir(d.path); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// overwrite writes zeros over a file's content, in place, and removes it. A file that
// is not there is one that was destroyed before.
func (d *keyDir) overwrite(name string) error {
	f, err := d.disk.Open(d.at(name), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	left := info.Size()
	if strings.HasPrefix(name, tableWord) {
		left = min(left, 4096) // its key is what is destroyed
	}
	zeros := make([]byte, min(left, 64<<10))
	for at := int64(0); at < left && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), left-at)], at)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return d.disk.Remove(d.at(name))
}
