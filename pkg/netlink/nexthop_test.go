package netlink_test

import (
	"net/netip"
	"testing"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

func TestNextHop(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	n.Exec(t, "ip link set lo up", "ip link add va type veth peer name vb", "ip link set va up", "ip link set vb up",
		"ip addr add 192.0.2.1/24 dev va", "ip -6 addr add 2001:db8::1/64 dev va nodad",
		"ip route add 198.51.100.0/24 via 192.0.2.2", "ip route add 2001:db8:1::/64 via 2001:db8::2", "ip route add blackhole 203.0.113.0/24")
	for _, x := range []struct {
		to, dev, via string
		ok           bool
	}{
		{"192.0.2.7", "va", "", true},
		{"198.51.100.7", "va", "192.0.2.2", true},
		{"2001:db8::7", "va", "", true},
		{"2001:db8:1::7", "va", "2001:db8::2", true},
		{"192.0.2.1", "", "", false}, // its own
		{"203.0.113.1", "", "", false},
		{"10.0.0.1", "", "", false},
	} {
		want := netip.Addr{}
		if x.via != "" {
			want = netip.MustParseAddr(x.via)
		}
		dev, via, ok := c.NextHop(netip.MustParseAddr(x.to))
		if ok != x.ok || ok && (dev != x.dev || via != want) {
			t.Errorf("%s: by %s via %s, %v, want %+v", x.to, dev, via, ok, x)
		}
	}
}
