package submission

import (
	"net/netip"
	"sync"
)

// registry knows the open connections: it limits their number and reaches them
// when the server drains (libraries.md F12, F13).
type registry struct {
	total, perAddress int

	mu       sync.Mutex
	draining bool
	gates    map[*gate]struct{}
	count    map[netip.Prefix]int
	empty    chan struct{} // closed when draining and nothing is left; nil before
}

func newRegistry(l Limits) *registry {
	return &registry{
		total: l.Connections, perAddress: l.PerAddress,
		gates: map[*gate]struct{}{}, count: map[netip.Prefix]int{},
	}
}

// network is the unit that limits are counted for: one IPv4 address, one IPv6 /64.
func network(a netip.Addr) netip.Prefix {
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 32
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// add admits a gate, or says why not.
func (r *registry) add(g *gate) *reply {
	n := network(g.peer.addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.draining:
		return errGoingDown()
	case len(r.gates) >= r.total || r.count[n] >= r.perAddress:
		return errBusy()
	}
	r.gates[g] = struct{}{}
	r.count[n]++
	return nil
}

// replace puts a gate in another's place.
func (r *registry) replace(old, g *gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.gates[old]; !ok {
		return
	}
	delete(r.gates, old)
	r.gates[g] = struct{}{}
	if r.draining {
		g.drain()
	}
}

func (r *registry) remove(g *gate) {
	n := network(g.peer.addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.gates[g]; !ok {
		return
	}
	delete(r.gates, g)
	if r.count[n]--; r.count[n] <= 0 {
		delete(r.count, n)
	}
	if r.draining && len(r.gates) == 0 {
		r.closeEmpty()
	}
}

func (r *registry) closeEmpty() {
	select {
	case <-r.empty:
	default:
		close(r.empty)
	}
}

// drain asks every session to end. The channel is closed when none is left.
func (r *registry) drain() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.draining {
		r.draining, r.empty = true, make(chan struct{})
		for g := range r.gates {
			g.drain()
		}
		if len(r.gates) == 0 {
			close(r.empty)
		}
	}
	return r.empty
}

// kill ends every connection at once.
func (r *registry) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.gates {
		g.kill()
	}
}
