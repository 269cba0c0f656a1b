package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Shelf is where the book is kept: a few small values by name.
type Shelf interface {
	// Each calls fn with every value that was put, until it returns an error, and returns that.
	Each(ctx context.Context, fn func(name string, value []byte) error) error
	// Put keeps a value under a name; nil removes it. Durable when it returns nil.
	Put(ctx context.Context, name string, value []byte) error
}

const (
	writeEvery = 5 * time.Second
	sweepEvery = time.Hour
	// writeAtOnce is how many drawers are written in one go: with every drawer full and
	// changing all the time, that is 1 MiB a second, and each has its turn in 80 s.
	writeAtOnce = 16
	// lastWrite is how long Run may take to write everything when it ends.
	lastWrite = 30 * time.Second
)

const version = 1

// value is a drawer on the shelf.
type value struct {
	Version int      `json:"version"`
	Hosts   []record `json:"hosts"`
}

type record struct {
	Host policy.Domain  `json:"host"`
	V4   *policy.Memory `json:"v4,omitempty"`
	V6   *policy.Memory `json:"v6,omitempty"`
}

// name is a drawer's name on the shelf.
func name(i int) string { return fmt.Sprintf("%02x", i) }

// Load takes in what is on the shelf: once, before Run. The error is the shelf's; a value that
// cannot be read is logged and dropped.
func (b *Book) Load(ctx context.Context) error {
	if b.shelf == nil {
		return nil
	}
	now := time.Now()
	err := b.shelf.Each(ctx, func(name string, data []byte) error {
		if err := b.load(name, data, now); err != nil {
			b.log.Warn("a part of the host memory cannot be read and is dropped", "name", name, "error", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("host memory: %w", err)
	}
	return nil
}

// load takes in one value, as far as it can be read. What is not as it would be written
// now is written again, or removed.
func (b *Book) load(from string, data []byte, now time.Time) error {
	n, err := strconv.ParseUint(from, 16, 8)
	home := int(n)
	spoil := func() { b.drawers[home].spoil() }
	if err != nil || name(home) != from {
		home, spoil = -1, func() {}
		b.strays = append(b.strays, from) // its hosts go to their own drawers
	}
	var v value
	err = json.Unmarshal(data, &v)
	if err == nil && v.Version != version {
		err = fmt.Errorf("version %d: this program knows %d", v.Version, version)
	}
	if err != nil {
		spoil()
		return err
	}
	bad := 0
	for _, r := range v.Hosts {
		if d, err := policy.ParseDomain(string(r.Host)); err != nil || d != r.Host {
			bad++
			continue
		}
		at := int(hash(r.Host))
		if at != home {
			spoil()
			b.drawers[at].spoil()
		}
		b.drawers[at].put(r, now, b.share)
	}
	if bad > 0 {
		spoil()
		return fmt.Errorf("%d of %d names are no host names", bad, len(v.Hosts))
	}
	return nil
}

func (d *drawer) spoil() {
	d.mu.Lock()
	d.dirty = true
	d.mu.Unlock()
}

// put takes in a host from the shelf. What was seen since the start is newer, and stays.
func (d *drawer) put(r record, now time.Time, share int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, known := d.hosts[r.Host]
	if p.v4 == nil {
		p.v4 = r.V4
	}
	if p.v6 == nil {
		p.v6 = r.V6
	}
	if p = p.fade(now); p.empty() || !known && len(d.hosts) >= share {
		d.dirty = true
		return
	}
	d.hosts[r.Host] = p
}

// Run writes what changed to the shelf, every few seconds and once more when ctx is done,
// and drops what has faded. It returns when that is written. The shelf's errors are
// logged; what it did not take is offered again.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			b.write(last, drawers)
			return
		case now := <-tick.C:
			if now.Sub(swept) >= sweepEvery {
				swept = now
				b.sweep(now)
			}
			b.write(ctx, writeAtOnce)
		}
	}
}

// write writes up to so many changed drawers, each in its turn.
func (b *Book) write(ctx context.Context, most int) {
	if b.shelf == nil {
		return
	}
	err := b.clear(ctx)
	for range drawers {
		if err != nil || most == 0 {
			break
		}
		d := &b.drawers[b.next]
		if data, changed := d.pack(); changed {
			if err = b.shelf.Put(ctx, name(b.next), data); err != nil {
				d.spoil()
				break // its turn comes again
			}
			most--
		}
		b.next = (b.next + 1) % drawers
	}
	switch {
	case err != nil && !errors.Is(err, context.Canceled) && !b.failed:
		b.failed = true
		b.log.Warn("the host memory cannot be written; it is tried again", "error", err)
	case err == nil && b.failed:
		b.failed = false
		b.log.Info("the host memory is written again")
	}
}

// clear removes what no drawer has.
func (b *Book) clear(ctx context.Context) error {
	for len(b.strays) > 0 {
		if err := b.shelf.Put(ctx, b.strays[0], nil); err != nil {
			return err
		}
		b.strays = b.strays[1:]
	}
	return nil
}

// pack returns the drawer as it is to be on the shelf, nil when it is empty, if that is
// another than before.
func (d *drawer) pack() (data []byte, changed bool) {
	d.mu.Lock()
	if !d.dirty {
		d.mu.Unlock()
		return nil, false
	}
	d.dirty = false
	v := value{Version: version, Hosts: make([]record, 0, len(d.hosts))}
	for host, p := range d.hosts {
		v.Hosts = append(v.Hosts, record{host, p.v4, p.v6})
	}
	d.mu.Unlock()
	if len(v.Hosts) == 0 {
		return nil, true
	}
	slices.SortFunc(v.Hosts, func(a, b record) int { return cmp.Compare(a.Host, b.Host) })
	data, err := json.Marshal(v)
	return data, err == nil // the types marshal by construction
}
