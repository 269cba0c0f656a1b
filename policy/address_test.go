package policy

import (
	"net/netip"
	"testing"
)

func TestRoutable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ip                   string
		assignable, routable bool
	}{
		{"8.8.8.8", true, true}, {"2606:4700::1", true, true}, {"100.63.255.255", true, true}, {"172.32.0.1", true, true},
		{"64:ff9b::808:808", true, true}, {"2002:808:808::1", true, true},
		{"10.1.2.3", true, false}, {"172.16.0.1", true, false}, {"192.168.1.1", true, false}, {"100.64.0.1", true, false},
		{"127.0.0.1", true, false}, {"169.254.169.254", true, false}, {"192.0.2.1", true, false}, {"198.18.0.1", true, false},
		{"::1", true, false}, {"fd00::1", true, false}, {"fe80::1", true, false}, {"fe80::1%eth0", true, false},
		{"2001:db8::1", true, false}, {"64:ff9b::a00:1", true, false}, {"2002:7f00:1::1", true, false},
		{"0.0.0.0", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"::", false, false},
		{"ff02::1", false, false}, {"ff02::1%eth0", false, false}, {"::ffff:8.8.8.8", false, false}, {"64:ff9b::e000:1", false, false},
	} {
		ip := netip.MustParseAddr(c.ip)
		if Assignable(ip) != c.assignable || Routable(ip) != c.routable {
			t.Errorf("%s: assignable %t, routable %t", c.ip, Assignable(ip), Routable(ip))
		}
	}
	if Assignable(netip.Addr{}) || Routable(netip.Addr{}) {
		t.Error("no address is one")
	}
}
