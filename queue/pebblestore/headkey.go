package pebblestore

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// Names of the key's halves, in PKCS #8 and PKIX as PEM (RFC 8410): openssl reads them.
const (
	keyFile       = "journal.pem"
	PublicKeyFile = "journal.pub"
	pemPrivate    = "PRIVATE KEY"
	pemPublic     = "PUBLIC KEY"
)

// loadKey reads the signing key of a directory, or makes one.
func loadKey(disk vfs.FS, dir string, log logger) (ed25519.PrivateKey, error) {
	path := disk.PathJoin(dir, keyFile)
	b, err := readFile(disk, path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(disk, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("key of the journal: %w", err)
	}
	key, whole := chooseKey(b, publicIn(disk, dir))
	if key == nil {
		return nil, fmt.Errorf("key of the journal: %s is no Ed25519 key in PEM: restore it from a copy, or move it away to go on with a new one", path)
	}
	if !whole {
		log.Errorf("key of the journal: %s or %s is damaged: what is whole is used, and both are written anew; look at the disk", path, PublicKeyFile)
		err = storeKey(disk, dir, key)
	}
	return key, err
}

// publicIn is the public half in a directory; nil when there is none, or it is damaged.
func publicIn(disk vfs.FS, dir string) ed25519.PublicKey {
	f, err := disk.Open(disk.PathJoin(dir, PublicKeyFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil
	}
	public, err := ParsePublicKey(b)
	if err != nil {
		return nil
	}
	return public
}

// chooseKey picks the key out of a file that holds it twice: the copy that fits with the public
// half, or where that is damaged both. whole is false when something does not fit; the key is
// nil when nothing does.
func chooseKey(b []byte, public ed25519.PublicKey) (key ed25519.PrivateKey, whole bool) {
	var copies []ed25519.PrivateKey
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil && block.Type == pemPrivate {
			if key, ok := parsed.(ed25519.PrivateKey); ok {
				copies = append(copies, key)
			}
		}
	}
	for i, key := range copies {
		fits := key.Public().(ed25519.PublicKey).Equal(public)
		twice := len(copies) == 2 && copies[1-i].Equal(key)
		if fits || twice {
			return key, fits && twice
		}
	}
	return nil, false
}

// readFile reads a private key. One that others may read is refused: who has it can
// write another journal.
func readFile(disk vfs.FS, path string) (b []byte, err error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if fd := f.Fd(); fd != vfs.InvalidFd {
		var st unix.Stat_t
		if err := unix.Fstat(int(fd), &st); err != nil {
			return nil, err
		}
		if st.Mode&0o077 != 0 {
			return nil, fmt.Errorf("%s is open to others (mode %04o): chmod 600 %s", path, st.Mode&0o777, path)
		}
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// writeFile makes a file with mode 0600 durable under its name, whole or not at all.
func writeFile(disk vfs.FS, dir, name string, content []byte) error {
	path := disk.PathJoin(dir, name)
	f, err := disk.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if fd := f.Fd(); fd != vfs.InvalidFd {
		err = unix.Fchmod(int(fd), 0o600)
	}
	if err == nil {
		_, err = f.Write(bytes.Clone(content)) // vfs may change what it writes, and does so under -race
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncFS(disk, dir)
}

func syncFS(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeKey makes a key.
func makeKey(disk vfs.FS, dir string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("key of the journal: %w", err)
	}
	if err := storeKey(disk, dir, key); err != nil {
		return nil, err
	}
	return key, syncFS(disk, disk.PathDir(dir))
}

// storeKey writes both halves, the public one first: a private key without it would be one
// that nobody can check against.
func storeKey(disk vfs.FS, dir string, key ed25519.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: private})
	err = writeFile(disk, dir, PublicKeyFile, pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: public}))
	if err == nil {
		err = writeFile(disk, dir, keyFile, append(append(block, 0x0a), block...)) // openssl reads the first
	}
	if err != nil {
		return fmt.Errorf("key of the journal: %w", err)
	}
	return nil
}

// ParsePublicKey reads the public half of a journal's key.
func ParsePublicKey(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemPublic {
		return nil, errors.New("it is no public key in PEM: use " + PublicKeyFile + " of the key directory")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("it is no Ed25519 key: use " + PublicKeyFile + " of the key directory")
	}
	return key, nil
}
