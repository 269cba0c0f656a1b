package memory

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// defaultLimit is how many hosts are remembered: some 100 MiB at most.
const defaultLimit = 200_000

// drawers is the number of parts that are locked, bounded and written apart.
const drawers = 256

// Options of a Book. All can be left out.
type Options struct {
	Shelf Shelf // nil: in memory only
	// Limit is how many hosts are remembered, about: each drawer has its share. 0: 200,000.
	Limit  int
	Logger *slog.Logger // nil: discard
}

// Book remembers hosts. It implements relay.Memory, and is safe for concurrent use.
type Book struct {
	shelf   Shelf
	log     *slog.Logger
	share   int // hosts in a drawer
	drawers [drawers]drawer

	strays []string // names on the shelf that no drawer has; Load fills it, Run empties it
	next   int      // the drawer that Run writes next
	failed bool     // the shelf failed when Run wrote last
}

// drawer is a part of the book: hosts by the hash of their names.
type drawer struct {
	mu    sync.RWMutex
	hosts map[policy.Domain]page
	dirty bool // not as it is on the shelf
}

// page is one host. It is a value, and what it points to is never changed.
type page struct {
	v4, v6 *policy.Memory // nil: never seen
	told   bool           // it was logged that the hold has ended
}

// of returns the memory of one family.
func (p page) of(ip6 bool) policy.Memory {
	m := p.v4
	if ip6 {
		m = p.v6
	}
	if m == nil {
		return policy.Memory{}
	}
	return *m
}

// held is policy.HostHeld for the page.
func (p page) held(now time.Time, hold time.Duration) (bool, time.Time) {
	v4, v6 := p.of(false), p.of(true)
	return policy.HostHeld(&v4, &v6, now, hold)
}

// fade is the page without what has faded.
func (p page) fade(now time.Time) page {
	for _, m := range [...]**policy.Memory{&p.v4, &p.v6} {
		if *m != nil && (*m).Faded(now) {
			*m = nil
		}
	}
	return p
}

func (p page) empty() bool { return p.v4 == nil && p.v6 == nil }

// New returns an empty book. Load fills it, Run keeps it.
func New(o Options) *Book {
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Book{shelf: o.Shelf, log: o.Logger, share: (o.Limit + drawers - 1) / drawers}
	for i := range b.drawers {
		b.drawers[i].hosts = make(map[policy.Domain]page)
	}
	return b
}

// drawer returns the host's drawer.
func (b *Book) drawer(host policy.Domain) *drawer { return &b.drawers[hash(host)] }

// hash is FNV-1a, folded. Values on the shelf are named by it.
func hash(host policy.Domain) uint8 {
	h := uint32(2166136261)
	for i := range len(host) {
		h = (h ^ uint32(host[i])) * 16777619
	}
	h ^= h >> 16
	return uint8(h ^ h>>8)
}

// Recall returns what is remembered of one address family of a host.
func (b *Book) Recall(host policy.Domain, ip6 bool) policy.Memory {
	d := b.drawer(host)
	d.mu.RLock()
	p := d.hosts[host]
	d.mu.RUnlock()
	m := p.v4
	if ip6 {
		m = p.v6
	}
	if m == nil {
		return policy.Memory{}
	}
	return *m
}

// Saw takes in what one attempt saw of one address family of a host.
func (b *Book) Saw(host policy.Domain, ip6 bool, s policy.Sighting) {
	s.At = s.At.UTC().Truncate(time.Second) // as it is on the shelf
	d := b.drawer(host)
	d.mu.Lock()
	before, known := d.hosts[host]
	after := before.saw(ip6, s)
	if after == before {
		d.mu.Unlock()
		return
	}
	if !known && len(d.hosts) >= b.share {
		d.makeRoom(s.At)
	}
	tell := after.changed(before, &s)
	d.hosts[host], d.dirty = after, true
	d.mu.Unlock()
	if tell != "" {
		b.tell(tell, host, after, &s)
	}
}

// saw is the page once s was seen; the same page when it says nothing new.
func (p page) saw(ip6 bool, s policy.Sighting) page {
	mine, other := &p.v4, &p.v6
	if ip6 {
		mine, other = other, mine
	}
	before := p.of(ip6)
	if m := before.After(s); m != before {
		*mine = &m
	}
	if *other != nil {
		if m := (*other).AfterOther(s); m != **other {
			*other = &m
		}
	}
	return p
}

// What is told of a host.
const (
	begins = "a host that was good for TLS offers less: its downgrade hold begins"
	ended  = "mail went with less to a host that was good for TLS: its downgrade hold is over, or none applies"
)

// changed says what is to be told of the change, and keeps in mind that it was: a hold
// begins with the first weaker answer, and has ended when mail went with less.
func (p *page) changed(before page, s *policy.Sighting) string {
	// A rule says how long a hold is; here it matters only that the host was good.
	good, end := p.held(s.At, policy.MemoryLife)
	_, was := before.held(s.At, policy.MemoryLife)
	switch {
	case !good || end.IsZero():
		p.told = false
	case s.Delivered && s.Level < policy.Encrypted && !p.told:
		p.told = true
		return ended
	case was.IsZero() && !s.Delivered:
		return begins
	}
	return ""
}

// tell logs a change.
func (b *Book) tell(what string, host policy.Domain, p page, s *policy.Sighting) {
	v4, v6 := p.of(false), p.of(true)
	_, end := p.held(s.At, policy.MemoryLife)
	attrs := []any{"mx", string(host), "best", max(v4.Best, v6.Best).String(), "achieved", s.Level.String(),
		"since", end.Add(-policy.MemoryLife).Format(time.RFC3339)}
	if n := len(s.Steps); n > 0 && s.Steps[n-1].Reason != policy.ReasonUnset {
		attrs = append(attrs, "reason", s.Steps[n-1].Reason.String())
	}
	b.log.Info(what, attrs...)
}

// makeRoom drops what has faded, or the host that is the least loss.
func (d *drawer) makeRoom(now time.Time) {
	if d.sweep(now) {
		return
	}
	var victim policy.Domain
	var least worth
	for host, p := range d.hosts {
		if w := p.worth(now); victim == "" || w.less(least) {
			victim, least = host, w
		}
	}
	delete(d.hosts, victim)
	d.dirty = true
}

// worth is what it would cost to forget a host.
type worth struct {
	rank int // 0: nothing is held to it; 1: remembered for TLS; 2: its hold is running
	seen time.Time
}

func (w worth) less(o worth) bool {
	return w.rank < o.rank || w.rank == o.rank && w.seen.Before(o.seen)
}

func (p page) worth(now time.Time) worth {
	var w worth
	switch held, end := p.held(now, policy.MemoryLife); {
	case held && !end.IsZero():
		w.rank = 2
	case held:
		w.rank = 1
	}
	for _, m := range [...]*policy.Memory{p.v4, p.v6} {
		if m != nil && m.LastSeen.After(w.seen) {
			w.seen = m.LastSeen
		}
	}
	return w
}

// sweep drops what has faded, and reports whether a host went.
func (d *drawer) sweep(now time.Time) bool {
	n := len(d.hosts)
	for host, p := range d.hosts {
		switch left := p.fade(now); {
		case left.empty():
			delete(d.hosts, host)
		case left != p:
			d.hosts[host] = left
		default:
			continue
		}
		d.dirty = true
	}
	return len(d.hosts) < n
}

// sweep drops what has faded.
func (b *Book) sweep(now time.Time) {
	for i := range b.drawers {
		d := &b.drawers[i]
		d.mu.Lock()
		d.sweep(now)
		d.mu.Unlock()
	}
}

// each calls fn with every host, drawer by drawer. fn is quick and does not call the book.
func (b *Book) each(fn func(policy.Domain, page)) {
	for i := range b.drawers {
		d := &b.drawers[i]
		d.mu.RLock()
		for host, p := range d.hosts {
			fn(host, p)
		}
		d.mu.RUnlock()
	}
}

// Held counts the hosts whose downgrade hold is running: they were good, offer less now,
// and are waited for.
func (b *Book) Held(hold time.Duration, now time.Time) int {
	n := 0
	b.each(func(_ policy.Domain, p page) {
		if held, end := p.held(now, hold); held && !end.IsZero() {
			n++
		}
	})
	return n
}

// Len is the number of hosts.
func (b *Book) Len() int {
	n := 0
	b.each(func(policy.Domain, page) { n++ })
	return n
}

// Entry is what is remembered of one address family of a host.
type Entry struct {
	Host   policy.Domain `json:"host"`
	IP6    bool          `json:"ip6"`
	Memory policy.Memory `json:"memory"`
}

// Entries returns all that is remembered, by host, IPv4 first.
func (b *Book) Entries() []Entry {
	var list []Entry
	b.each(func(host policy.Domain, p page) {
		if p.v4 != nil {
			list = append(list, Entry{host, false, *p.v4})
		}
		if p.v6 != nil {
			list = append(list, Entry{host, true, *p.v6})
		}
	})
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.Host, b.Host) })
	return list
}

// Forget drops what is remembered of a host and returns how many families that were: the
// operator's hand, when a host has changed for good.
func (b *Book) Forget(host policy.Domain) int {
	d := b.drawer(host)
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.hosts[host]
	if !ok {
		return 0
	}
	delete(d.hosts, host)
	d.dirty = true
	n := 0
	for _, m := range [...]*policy.Memory{p.v4, p.v6} {
		if m != nil {
			n++
		}
	}
	return n
}
