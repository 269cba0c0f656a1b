package submission

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/xdg-go/scram"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Credential lets an application submit mail.
type Credential struct {
	Name         string
	PasswordHash string // PHC string of HashPassword; "": no PLAIN and LOGIN
	SCRAM        string // verifier of DeriveSCRAM; "": no SCRAM
	// Senders are the addresses ("a@example.com") and domains ("@example.com") that may
	// stand in MAIL and in From. Empty: any. The null reverse path is allowed when Senders is
	// empty or has "<>": an application that may send bounces says so.
	Senders []string
	Floor   policy.Level // the account's floor; Unset: none
	Rate    Rate
}

// Rate is a limit on messages. The zero value is no limit.
type Rate struct {
	PerSecond float64
	Burst     int // at once; 0: one second's worth, at least 1
}

// cacheTime is how long a password that was right needs no hashing.
const cacheTime = 10 * time.Minute

// account is a credential at work.
type account struct {
	Credential
	hash      Hash
	scram     scram.StoredCredentials
	addresses map[queue.Address]bool
	domains   map[policy.Domain]bool
	null      bool
	limiter   *rate.Limiter // nil: no limit
}

// accounts is one immutable set of credentials, with what is remembered about it. A
// new set starts with an empty memory.
type accounts struct {
	byName    map[string]*account
	passwords bool // one has a password hash
	scrams    bool // one has a SCRAM verifier
	dummy     Hash // for names that do not exist: the same work as for those that do
	key       [32]byte
	server    *scram.Server
	flight    singleflight.Group

	mu    sync.Mutex
	right map[[32]byte]time.Time // keyed hash of name and password, until when; at most one for each account
}

// SetCredentials replaces all credentials at once. All mistakes are reported
// together, and then nothing changes. Sessions of a credential that is gone or has a
// new password must authenticate again.
func (s *Server) SetCredentials(cs []Credential) error {
	n := &accounts{byName: make(map[string]*account, len(cs)), right: map[[32]byte]time.Time{}}
	_, _ = rand.Read(n.key[:])
	old := s.accounts.Load()
	var errs []error
	for _, c := range cs {
		a, err := newAccount(c)
		if err == nil && n.byName[c.Name] != nil {
			err = errors.New("the name is there twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("submission: credential %q: %w", c.Name, err))
			continue
		}
		if old != nil && old.byName[c.Name] != nil && old.byName[c.Name].Rate == c.Rate {
			a.limiter = old.byName[c.Name].limiter // a reload is not a new allowance
		}
		n.add(a)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	if n.server, err = scram.SHA256.NewServer(n.verifier); err != nil {
		return fmt.Errorf("submission: SCRAM: %w", err)
	}
	s.accounts.Store(n)
	return nil
}

func (n *accounts) add(a *account) {
	n.byName[a.Name] = a
	n.scrams = n.scrams || a.SCRAM != ""
	if a.PasswordHash != "" {
		n.passwords = true
		if a.hash.memory*a.hash.time > n.dummy.memory*n.dummy.time {
			n.dummy = Hash{time: a.hash.time, memory: a.hash.memory, threads: a.hash.threads, salt: n.key[:saltLength], key: n.key[:]}
		}
	}
}

func newAccount(c Credential) (*account, error) {
	a := &account{Credential: c, addresses: map[queue.Address]bool{}, domains: map[policy.Domain]bool{}}
	var errs []error
	if c.Name == "" || len(c.Name) > 128 || !plainWord(c.Name) || !ascii(c.Name) || printable(c.Name) != c.Name {
		errs = append(errs, errors.New("name must be 1 to 128 printable ASCII characters without spaces"))
	}
	if c.PasswordHash == "" && c.SCRAM == "" {
		errs = append(errs, errors.New("password_hash is missing: make one with `sealpost user passwd`"))
	}
	var err error
	if c.PasswordHash != "" {
		if a.hash, err = ParseHash(c.PasswordHash); err != nil {
			errs = append(errs, err)
		}
	}
	if c.SCRAM != "" {
		if a.scram, err = parseSCRAM(c.SCRAM); err != nil {
			errs = append(errs, err)
		}
	}
	for _, sender := range c.Senders {
		if err := a.allow(sender); err != nil {
			errs = append(errs, fmt.Errorf("senders: %w", err))
		}
	}
	if c.Rate.PerSecond < 0 || c.Rate.Burst < 0 {
		errs = append(errs, errors.New("rate must not be negative"))
	}
	if c.Rate.PerSecond > 0 {
		burst := c.Rate.Burst
		set(&burst, max(1, int(c.Rate.PerSecond)))
		a.limiter = rate.NewLimiter(rate.Limit(c.Rate.PerSecond), burst)
	}
	return a, errors.Join(errs...)
}

func (a *account) allow(sender string) error {
	if sender == "<>" {
		a.null = true
		return nil
	}
	if name, ok := strings.CutPrefix(sender, "@"); ok {
		d, err := queue.ParseDomain(name)
		if err != nil {
			return fmt.Errorf("%q: %w", sender, err)
		}
		a.domains[d] = true
		return nil
	}
	addr, err := queue.ParseAddress(sender)
	if err != nil || addr.IsNull() {
		return fmt.Errorf("%q is neither an address nor @domain", sender)
	}
	a.addresses[addr] = true
	return nil
}

// allows reports whether the account may send as this address.
func (a *account) allows(s queue.Address) bool {
	switch {
	case len(a.Senders) == 0:
		return true
	case s.IsNull():
		return a.null
	default:
		return a.domains[s.Domain] || a.addresses[s]
	}
}

// same reports whether a login with b is still one with a.
func (a *account) same(b *account) bool {
	return a != nil && a.PasswordHash == b.PasswordHash && a.SCRAM == b.SCRAM
}

// verifier looks a SCRAM verifier up. A name without one gets a made-up verifier
// with a stable salt, so that nobody learns which names exist (RFC 5802 9).
func (n *accounts) verifier(name string) (scram.StoredCredentials, error) {
	if a := n.byName[name]; a != nil && a.SCRAM != "" {
		return a.scram, nil
	}
	m := hmac.New(sha256.New, n.key[:])
	m.Write([]byte("scram\x00" + name))
	salt := m.Sum(nil)
	m.Write([]byte("key"))
	key := m.Sum(nil)
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt[:saltLength]), Iters: scramIterations}, StoredKey: key, ServerKey: key,
	}, nil
}

// login finds the account for a name and password: nil when they are not right. It
// fails only when there was no time to find out.
func (n *accounts) login(ctx context.Context, slots chan struct{}, name, password string) (*account, error) {
	a := n.byName[name]
	var mac [32]byte
	m := hmac.New(sha256.New, n.key[:])
	fmt.Fprintf(m, "%d\x00%s\x00%s", len(name), name, password)
	m.Sum(mac[:0])
	n.mu.Lock()
	cached := time.Now().Before(n.right[mac])
	n.mu.Unlock()
	if cached {
		return a, nil
	}
	// Equal attempts at once cost one hash: a pool of workers starting up.
	result := n.flight.DoChan(string(mac[:]), func() (any, error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		h := n.dummy
		if a != nil && a.PasswordHash != "" {
			h = a.hash
		}
		ok := h.Matches(password) && a != nil && a.PasswordHash != ""
		if ok {
			n.mu.Lock()
			n.right[mac] = time.Now().Add(cacheTime)
			n.mu.Unlock()
		}
		return ok, nil
	})
	select {
	case r := <-result:
		if r.Val.(bool) {
			return a, nil
		}
		return nil, nil
	case <-ctx.Done():
		return nil, errAuthBusy()
	}
}
