package submission

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
	"golang.org/x/crypto/argon2"
)

// Cost of new hashes: OWASP's second choice for argon2id, about 20 ms.
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	saltLength   = 16
	keyLength    = 32
	// scramIterations is RFC 7677 4's "at least 4096" made current.
	scramIterations = 16384
	scramName       = "SCRAM-SHA-256"
)

// Hash is a password hash: argon2id with its cost, salt and key.
type Hash struct {
	time, memory uint32 // memory in KiB
	threads      uint8
	salt, key    []byte
}

// HashPassword hashes a password with argon2id and a fresh salt, in PHC string form.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errors.New("password is empty")
	}
	h := Hash{time: argonTime, memory: argonMemory, threads: argonThreads, salt: make([]byte, saltLength)}
	_, _ = rand.Read(h.salt) // never fails (crypto/rand)
	h.key = h.derive(password, keyLength)
	return h.String(), nil
}

// ParseHash reads a PHC string, "$argon2id$v=19$m=19456,t=2,p=1$salt$key", base64
// without padding. Costs beyond 1 GiB, 20 passes or 16 threads are refused.
func ParseHash(s string) (Hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return Hash{}, errors.New("password_hash: not an argon2id hash in PHC form ($argon2id$v=19$m=...,t=...,p=...$salt$key): make one with `sealpost user passwd`")
	}
	if parts[2] != "v=19" {
		return Hash{}, fmt.Errorf("password_hash: argon2 version %q: only v=19 is known", parts[2])
	}
	h, err := parseCost(parts[3])
	if err != nil {
		return Hash{}, err
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return Hash{}, errors.New("password_hash: the salt is not base64 of 8 to 64 octets")
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return Hash{}, errors.New("password_hash: the key is not base64 of 16 to 64 octets")
	}
	return h, nil
}

func parseCost(s string) (h Hash, err error) {
	bad := fmt.Errorf("password_hash: cost %q is not m=KiB,t=passes,p=threads within 8..1048576, 1..20 and 1..16", s)
	fields := strings.Split(s, ",")
	if len(fields) != 3 {
		return h, bad
	}
	var n [3]uint64
	for i, prefix := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(fields[i], prefix)
		if n[i], err = strconv.ParseUint(digits, 10, 32); !ok || err != nil {
			return h, bad
		}
	}
	if n[0] < 8 || n[0] > 1<<20 || n[1] < 1 || n[1] > 20 || n[2] < 1 || n[2] > 16 {
		return h, bad
	}
	return Hash{memory: uint32(n[0]), time: uint32(n[1]), threads: uint8(n[2])}, nil
}

// String writes the hash in PHC form.
func (h Hash) String() string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s",
		h.memory, h.time, h.threads, e.EncodeToString(h.salt), e.EncodeToString(h.key))
}

// Matches reports whether the password is the hashed one. It takes the hash's cost
// in time and memory; the zero Hash matches nothing.
func (h Hash) Matches(password string) bool {
	if len(h.key) == 0 {
		return false
	}
	return subtle.ConstantTimeCompare(h.derive(password, len(h.key)), h.key) == 1
}

func (h Hash) derive(password string, n int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(n))
}

// DeriveSCRAM makes the verifier that SCRAM-SHA-256 needs (RFC 5802 3, RFC 7677), in
// the form "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", base64. It fails for
// passwords that SASLprep (RFC 4013) does not allow.
func DeriveSCRAM(password string) (string, error) {
	if password == "" {
		return "", errors.New("password is empty")
	}
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return "", fmt.Errorf("password not usable with SCRAM: %w", err)
	}
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt)
	c, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	if err != nil {
		return "", fmt.Errorf("deriving the SCRAM verifier: %w", err)
	}
	e := base64.StdEncoding
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramName, c.Iters, e.EncodeToString(salt),
		e.EncodeToString(c.StoredKey), e.EncodeToString(c.ServerKey)), nil
}

// parseSCRAM reads what DeriveSCRAM wrote.
func parseSCRAM(s string) (c scram.StoredCredentials, err error) {
	bad := errors.New("scram: not of the form SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey: make one with `sealpost user passwd`")
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != scramName {
		return c, bad
	}
	iterations, salt, ok1 := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	if !ok1 || !ok2 {
		return c, bad
	}
	e := base64.StdEncoding
	rawSalt, err1 := e.DecodeString(salt)
	storedKey, err2 := e.DecodeString(stored)
	serverKey, err3 := e.DecodeString(server)
	n, err4 := strconv.Atoi(iterations)
	if errors.Join(err1, err2, err3, err4) != nil || len(storedKey) != 32 || len(serverKey) != 32 || len(rawSalt) < 8 {
		return c, bad
	}
	if n < 4096 || n > 10_000_000 {
		return c, fmt.Errorf("scram: %d iterations: 4096 to 10000000 (RFC 7677 4)", n)
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(rawSalt), Iters: n}, StoredKey: storedKey, ServerKey: serverKey,
	}, nil
}
