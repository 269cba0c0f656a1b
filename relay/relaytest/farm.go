package relaytest

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// Farm is several hosts on one port and different loopback addresses: 127.0.0.2,
// 127.0.0.3 and so on. Close it.
type Farm struct {
	Port  uint16
	Hosts []*Host // in the order of their behaviours
}

// maxFarm is how many hosts fit: 127.0.0.2 to 127.0.3.254.
const maxFarm = 1000

// StartFarm starts a host for each behaviour, whose Addr it sets. The port is free
// on all of the addresses. An error leaves no host behind.
func StartFarm(list []Behaviour) (*Farm, error) {
	if len(list) == 0 || len(list) > maxFarm {
		return nil, fmt.Errorf("relaytest: a farm has 1 to %d hosts, not %d", maxFarm, len(list))
	}
	var err error
	for range 50 {
		var f *Farm
		if f, err = startFarm(list); err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

func startFarm(list []Behaviour) (*Farm, error) {
	f := &Farm{}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 2})
	for _, b := range list {
		b.Addr = netip.AddrPortFrom(ip, f.Port).String()
		h, err := Start(b)
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		f.Hosts = append(f.Hosts, h)
		f.Port = h.Addr().Port()
		ip = ip.Next()
	}
	return f, nil
}

// Host returns the host of that name, nil when there is none.
func (f *Farm) Host(name string) *Host {
	for _, h := range f.Hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// Close ends all hosts.
func (f *Farm) Close() error {
	var all []error
	for _, h := range f.Hosts {
		all = append(all, h.Close())
	}
	return errors.Join(all...)
}
