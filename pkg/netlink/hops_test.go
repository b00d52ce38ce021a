package netlink_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// Routes with several next hops are read as they were written, in whatever order, and told from those with weights.
func TestHops(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "ip link add w0 type veth peer name w1", "ip link set w0 up", "ip link set w1 up",
		"ip addr add 192.168.1.1/24 dev w0", "ip addr add 2001:db8::1/64 dev w0 nodad")
	c := n.Conn(t)
	index, _ := c.Index("w0")
	for _, f := range []struct {
		family        uint8
		dst, one, two string
		tool          string
		metric        uint32
	}{
		{unix.AF_INET, "198.51.100.0/24", "192.168.1.2", "192.168.1.3", "ip ", 0},
		{unix.AF_INET6, "2001:db8:f::/48", "2001:db8::2", "2001:db8::3", "ip -6 ", netlink.DefaultMetric6},
	} {
		hops := []netlink.Hop{{OIF: index, Gw: netip.MustParseAddr(f.one)}, {OIF: index, Gw: netip.MustParseAddr(f.two), OnLink: f.family == unix.AF_INET}}
		want := netlink.Route{Dst: netip.MustParsePrefix(f.dst), Metric: f.metric, Proto: 12, Type: unix.RTN_UNICAST}
		other := want
		want.SetHops(slices.Clone(hops))
		slices.Reverse(hops)
		other.SetHops(append(hops, hops[0]))
		if want != other || want.Gw != hops[1].Gw || len(want.Others.List()) != 1 || want.Others.List()[0] != hops[0] || !want.Uses(index) || want.Uses(index+1) {
			t.Errorf("%+v and %+v", want, other)
		}
		list := func() netlink.Route {
			t.Helper()
			routes, err := c.Routes(f.family, 12)
			if err != nil || len(routes) != 1 {
				t.Fatalf("%v, %v", routes, err)
			}
			return routes[0]
		}
		if err := c.AddRoute(want); err != nil {
			t.Fatal(err)
		}
		if have := list(); have != want {
			t.Errorf("have %+v, want %+v", have, want)
		}
		if err := c.AddRoute(want); !errors.Is(err, unix.EEXIST) {
			t.Errorf("added twice: %v", err)
		}
		n.Exec(t, f.tool+"route replace "+f.dst+" proto 12 nexthop via "+f.one+" dev w0 nexthop via "+f.two+" dev w0 weight 3")
		if have := list(); !have.Odd {
			t.Errorf("weights are not seen: %+v", have)
		}
		if err := c.PutRoute(want); err != nil {
			t.Fatal(err)
		}
		if have := list(); have != want {
			t.Errorf("have %+v, want %+v", have, want)
		}
		for range 2 {
			if err := c.DeleteRoute(want); err != nil {
				t.Error(err)
			}
		}
		if routes, err := c.Routes(f.family, 12); err != nil || len(routes) != 0 {
			t.Errorf("left: %v, %v", routes, err)
		}
	}
}
