package submission

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// throttle counts failed logins in leaky buckets, by network and by user name. Its
// memory is bounded. A network from which a user has logged in before is judged by
// a bucket of its own, so that strangers cannot lock an application out.
type throttle struct {
	limits Limits

	mu       sync.Mutex
	networks map[netip.Prefix]*bucket
	users    map[[32]byte]*bucket
	known    map[pair]*bucket // of those that have logged in
}

type pair struct {
	network netip.Prefix
	user    [32]byte
}

type bucket struct {
	level float64 // failures not forgiven yet, at the time of at
	at    time.Time
}

// maxBuckets bounds each of the maps.
const maxBuckets = 10000

func newThrottle(l Limits) *throttle {
	return &throttle{
		limits: l, networks: map[netip.Prefix]*bucket{}, users: map[[32]byte]*bucket{}, known: map[pair]*bucket{},
	}
}

func (t *throttle) key(a netip.Addr, user string) pair {
	return pair{network(a), sha256.Sum256([]byte(user))}
}

// blocked reports whether this network may not try this name now.
func (t *throttle) blocked(a netip.Addr, user string) bool {
	k, now := t.key(a, user), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.known[k]; b != nil {
		return t.drained(b, now) > float64(t.limits.AuthPerAddress)-1
	}
	return t.drained(t.networks[k.network], now) > float64(t.limits.AuthPerAddress)-1 ||
		t.drained(t.users[k.user], now) > float64(t.limits.AuthPerUser)-1
}

// failed counts a failure and says how long the reply should wait.
func (t *throttle) failed(a netip.Addr, user string) time.Duration {
	k, now := t.key(a, user), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.known[k]; b != nil {
		t.pour(b, now)
	}
	level := t.pour(bucketFor(t, t.networks, k.network, now), now)
	level = max(level, t.pour(bucketFor(t, t.users, k.user, now), now)/2)
	return t.limits.AuthDelay << min(4, max(0, int(level)-1))
}

// succeeded remembers that this network knows this user's password.
func (t *throttle) succeeded(a netip.Addr, user string) {
	k, now := t.key(a, user), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	bucketFor(t, t.known, k, now).at = now
}

func (t *throttle) pour(b *bucket, now time.Time) float64 {
	b.level, b.at = t.drained(b, now)+1, now
	return b.level
}

func (t *throttle) drained(b *bucket, now time.Time) float64 {
	if b == nil {
		return 0
	}
	return max(0, b.level-float64(now.Sub(b.at))/float64(t.limits.AuthForgive))
}

func bucketFor[K comparable](t *throttle, m map[K]*bucket, k K, now time.Time) *bucket {
	b := m[k]
	if b != nil {
		return b
	}
	if len(m) >= maxBuckets {
		for old, b := range m { // first what is forgiven, then anything: bounded before fair
			if t.drained(b, now) == 0 || len(m) > maxBuckets*9/10 {
				delete(m, old)
			}
		}
	}
	b = &bucket{at: now}
	m[k] = b
	return b
}
