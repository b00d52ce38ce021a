package netlink_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

func TestRoutesAreFilteredAndRoundTrip(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	n.Exec(t, "ip link add va type veth peer name vb", "ip link set va up", "ip link set vb up", "ip addr add 192.0.2.1/24 dev va",
		"ip -6 addr add 2001:db8::1/64 dev va nodad",
		"ip route add 198.51.100.0/24 via 192.0.2.2 proto static", "ip route add 203.0.113.0/24 dev va proto 80 table 100")
	index, up := c.Index("va")
	if index == 0 || !up || !c.Exists(index) || c.Exists(index+1000) {
		t.Fatalf("index %d, up %v", index, up)
	}
	routes := []netlink.Route{
		{Dst: netip.MustParsePrefix("10.0.0.0/26"), Proto: 80, Type: unix.RTN_BLACKHOLE},
		{Dst: netip.MustParsePrefix("10.0.0.64/26"), Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Gw: netip.MustParseAddr("10.0.0.64"), OnLink: true},
		{Dst: netip.MustParsePrefix("10.0.0.128/26"), Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Gw: netip.MustParseAddr("192.0.2.2")},
		{Dst: netip.MustParsePrefix("10.0.0.1/32"), Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Scope: unix.RT_SCOPE_LINK},
		{Dst: netip.MustParsePrefix("fd00::/122"), Metric: 1024, Proto: 80, Type: unix.RTN_BLACKHOLE},
		{Dst: netip.MustParsePrefix("fd00::40/122"), Metric: 1024, Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Gw: netip.MustParseAddr("fd00::40"), OnLink: true},
		{Dst: netip.MustParsePrefix("fd00::80/122"), Metric: 1024, Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Gw: netip.MustParseAddr("2001:db8::2")},
		{Dst: netip.MustParsePrefix("fd00::1/128"), Metric: 1024, Proto: 80, Type: unix.RTN_UNICAST, OIF: index},
	}
	for _, r := range routes {
		if err := c.PutRoute(r); err != nil {
			t.Fatalf("%v: %v", r, err)
		}
	}
	have := list(t, c)
	if len(have) != len(routes) {
		t.Fatalf("%d routes, want %d: %v", len(have), len(routes), have)
	}
	for _, r := range routes {
		if !slices.Contains(have, r) {
			t.Errorf("%+v is not among\n%+v", r, have)
		}
		if err := errors.Join(c.DeleteRoute(r), c.DeleteRoute(r)); err != nil {
			t.Error(err)
		}
	}
	if have := list(t, c); len(have) != 0 {
		t.Errorf("left: %v", have)
	}
	if out := n.Exec(t, "ip route show table all"); !strings.Contains(out, "198.51.100.0/24") || !strings.Contains(out, "203.0.113.0/24") {
		t.Errorf("foreign routes are gone: %s", out)
	}
}

func list(t *testing.T, c *netlink.Conn) (all []netlink.Route) {
	t.Helper()
	for _, family := range netlink.Families {
		routes, err := c.Routes(family, 80)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, routes...)
	}
	return all
}

// The kernel replaces across route types in one step: whoever looks never finds the destination without a route.
func TestReplaceAcrossTypesIsAtomic(t *testing.T) {
	for _, dst := range []string{"10.0.0.0/26", "fd00::/122"} {
		t.Run(dst, func(t *testing.T) {
			n := nstest.New(t)
			c, watch := n.Conn(t), n.Conn(t)
			n.Exec(t, "ip link add va type veth peer name vb", "ip link set va up", "ip link set vb up", "ip addr add 192.0.2.1/24 dev va", "ip -6 addr add 2001:db8::1/64 dev va nodad")
			index, _ := c.Index("va")
			p := netip.MustParsePrefix(dst)
			hole := netlink.Route{Dst: p, Proto: 80, Type: unix.RTN_BLACKHOLE}
			via := netlink.Route{Dst: p, Proto: 80, Type: unix.RTN_UNICAST, OIF: index, Gw: p.Addr().Next(), OnLink: true}
			direct := netlink.Route{Dst: p, Proto: 80, Type: unix.RTN_UNICAST, OIF: index}
			family := uint8(unix.AF_INET)
			if p.Addr().Is6() {
				family = unix.AF_INET6
				hole.Metric, via.Metric, direct.Metric = 1024, 1024, 1024
			} else {
				direct.Scope = unix.RT_SCOPE_LINK
			}
			if err := c.PutRoute(hole); err != nil {
				t.Fatal(err)
			}
			var missing atomic.Int32
			nstest.Go(t, func(ctx context.Context) error {
				for ctx.Err() == nil {
					routes, err := watch.Routes(family, 80)
					if err != nil {
						return err
					}
					if len(routes) != 1 {
						missing.Add(1)
					}
				}
				return nil
			})
			for i := range 600 {
				r := []netlink.Route{via, direct, hole}[i%3]
				if err := c.PutRoute(r); err != nil {
					t.Fatalf("%v: %v", r, err)
				}
			}
			if n := missing.Load(); n != 0 {
				t.Errorf("%d looks did not find exactly one route", n)
			}
		})
	}
}

func TestOwnEventsAreMarked(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	sub, err := c.Subscribe(netlink.GroupRoute4)
	if err != nil {
		t.Fatal(err)
	}
	var own, foreign atomic.Int32
	nstest.Go(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(e netlink.Event) {
			if e.Own {
				own.Add(1)
			} else {
				foreign.Add(1)
			}
		}, func() {})
	})
	r := netlink.Route{Dst: netip.MustParsePrefix("10.0.0.0/26"), Proto: 80, Type: unix.RTN_BLACKHOLE}
	if err := errors.Join(c.PutRoute(r), c.DeleteRoute(r)); err != nil {
		t.Fatal(err)
	}
	n.Exec(t, "ip route add blackhole 10.0.0.0/26")
	nstest.Within(t, time.Second, "two own events and a foreign one", func() bool { return own.Load() == 2 && foreign.Load() == 1 })
}

func TestOverrunIsReported(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	sub, err := c.SubscribeBuffer(4096, netlink.GroupRoute4)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for i := range 200 {
		r := netlink.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24), Proto: 80, Type: unix.RTN_BLACKHOLE}
		if err := c.PutRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 {
		if err := sub.Receive(func(netlink.Event) {}); err != nil {
			if !errors.Is(err, netlink.ErrOverrun) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Error("no overrun was reported")
}

func TestNeighsOfOneDevice(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	n.Exec(t, "ip link add vx type vxlan id 5 dstport 4790 nolearning", "ip link set vx up", "ip link add va type veth peer name vb", "ip link set va up",
		"ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev va", "bridge fdb add 02:00:00:00:00:09 dev va self permanent")
	index, _ := c.Index("vx")
	want := []netlink.Neigh{
		{Index: index, IP: netip.MustParseAddr("10.0.0.1"), MAC: netlink.MAC{2, 1}},
		{Index: index, IP: netip.MustParseAddr("fd00::1"), MAC: netlink.MAC{2, 2}},
		{Index: index, FDB: true, IP: netip.MustParseAddr("192.0.2.7"), MAC: netlink.MAC{2, 1}},
	}
	for _, w := range want {
		if err := c.PutNeigh(w); err != nil {
			t.Fatal(err)
		}
	}
	look := func() (all []netlink.Neigh) {
		for _, f := range netlink.Families {
			neighs, err := c.Neighs(f, index)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, neighs...)
		}
		fdb, err := c.FDB(index)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fdb...)
		return slices.DeleteFunc(all, func(n netlink.Neigh) bool { return n.State&unix.NUD_PERMANENT == 0 })
	}
	have := look()
	if len(have) != len(want) {
		t.Fatalf("have %v, want %v", have, want)
	}
	for i, w := range want {
		if h := have[i]; h.IP != w.IP || h.MAC != w.MAC || h.FDB != w.FDB || h.Index != index {
			t.Errorf("have %v, want %v", h, w)
		}
		if err := errors.Join(c.DeleteNeigh(w), c.DeleteNeigh(w)); err != nil {
			t.Error(err)
		}
	}
	if have := look(); len(have) != 0 {
		t.Errorf("left: %v", have)
	}
}

func TestNetconfEvents(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	n.Exec(t, "ip link add va type veth peer name vb")
	index, _ := c.Index("va")
	sub, err := c.Subscribe(netlink.GroupNetconf4, netlink.GroupNetconf6)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan int, 100)
	nstest.Go(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(e netlink.Event) {
			if i, ok := e.Netconf(); ok {
				seen <- i
			}
		}, func() {})
	})
	for _, file := range []string{"ipv4/conf/va/proxy_arp", "ipv4/conf/va/forwarding", "ipv6/conf/va/proxy_ndp", "ipv6/conf/va/forwarding"} {
		n.Write(t, "/proc/sys/net/"+file, "1")
		select {
		case i := <-seen:
			if i != index {
				t.Errorf("%s: event for %d, want %d", file, i, index)
			}
		case <-time.After(time.Second):
			t.Errorf("%s: no event", file)
		}
	}
}

func BenchmarkPutRoute(b *testing.B) {
	n := nstest.New(b)
	c := n.Conn(b)
	for i := range b.N {
		r := netlink.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Proto: 80, Type: unix.RTN_BLACKHOLE}
		if err := c.PutRoute(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList10kRoutes(b *testing.B) {
	n := nstest.New(b)
	c := n.Conn(b)
	var lines []string
	for i := range 10000 {
		lines = append(lines, fmt.Sprintf("route add blackhole 10.%d.%d.0/26 proto 80", i/250, i%250))
	}
	n.Batch(b, lines...)
	b.ReportAllocs()
	for b.Loop() {
		if routes, err := c.Routes(unix.AF_INET, 80); err != nil || len(routes) != 10000 {
			b.Fatal(len(routes), err)
		}
	}
}
