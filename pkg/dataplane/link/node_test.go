package link_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/dataplane/link"
	"github.com/margay-net/margay/pkg/dataplane/neigh"
	"github.com/margay-net/margay/pkg/dataplane/route"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
	"github.com/margay-net/margay/pkg/topology"
)

// cluster is two nodes, a wire between them, and one pod on each.
type cluster struct {
	nodes, pods [2]*nstest.NS
	in          topology.Input
}

func pod(i int, six bool) netip.Addr {
	if six {
		return netip.MustParseAddr(fmt.Sprintf("fd00:20:0:%d::5", i+1))
	}
	return netip.AddrFrom4([4]byte{172, 20, byte(i + 1), 5})
}

func path(n *nstest.NS) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.Handle)) }

func newCluster(t *testing.T) *cluster {
	c := &cluster{in: topology.Input{Nodes: map[string]model.Node{}, V4: topology.Underlay{Parent: "up0", MTU: 1450}, V6: topology.Underlay{Parent: "up0", MTU: 1430}, VNI: 4096, Port: 4789}}
	c.in.Pools = []model.Pool{{Name: "4", CIDR: netip.MustParsePrefix("172.20.0.0/16"), VXLAN: model.EncapAlways}, {Name: "6", CIDR: netip.MustParsePrefix("fd00:20::/32"), VXLAN: model.EncapAlways}}
	for i := range c.nodes {
		c.nodes[i], c.pods[i] = nstest.New(t), nstest.New(t)
	}
	c.nodes[0].Exec(t, "ip link add up0 type veth peer name up0 netns "+path(c.nodes[1]))
	for i, n := range c.nodes {
		name, b4, b6 := fmt.Sprint("node-", i+1), netip.PrefixFrom(pod(i, false), 26).Masked(), netip.PrefixFrom(pod(i, true), 122).Masked()
		a4, a6 := netip.MustParsePrefix(fmt.Sprintf("192.168.10.1%d/24", i)), netip.MustParsePrefix(fmt.Sprintf("2001:db8::1%d/64", i))
		n.Exec(t, "ip link set up0 up", "ip addr add "+a4.String()+" dev up0", "ip addr add "+a6.String()+" dev up0 nodad",
			"ip link add cali1 address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns "+path(c.pods[i]))
		p := c.pods[i]
		p.Exec(t, "ip link set eth0 up", "ip addr add "+pod(i, false).String()+"/32 dev eth0", "ip addr add "+pod(i, true).String()+"/128 dev eth0 nodad",
			"ip route add 169.254.1.1 dev eth0 scope link", "ip route add default via 169.254.1.1 dev eth0", "ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0",
			"ip -6 neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0", "ip -6 route add default via fe80::1 dev eth0")
		c.in.Nodes[name] = model.Node{Name: name, Addr4: a4, Addr6: a6, VXLANAddr4: b4.Addr(), VXLANAddr6: b6.Addr(), VXLANMAC4: model.TunnelMAC(name, false), VXLANMAC6: model.TunnelMAC(name, true)}
		c.in.Blocks = append(c.in.Blocks, model.Block{CIDR: b4, Node: name}, model.Block{CIDR: b6, Node: name})
	}
	return c
}

// run runs node i's data plane as the agent does. set has it follow the topology anew.
func (c *cluster) run(t *testing.T, i int) (set func()) {
	n := c.nodes[i]
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", i+1)
	links, routes, neighs := link.New(n.Conn(t), "/proc/sys", log, reconcile.Hooks{}), route.New(n.Conn(t), log, reconcile.Hooks{}), neigh.New(n.Conn(t), log, reconcile.Hooks{})
	routes.Follow(neighs.Reaches, neighs.Kick)
	neighs.Follow(routes.Written, routes.Kick)
	for _, run := range []func(context.Context) error{links.Run, routes.Run, neighs.Run} {
		nstest.Go(t, run)
	}
	set = func() {
		in := c.in
		in.Self = fmt.Sprint("node-", i+1)
		w := topology.Build(in)
		links.SetVXLAN(w.VXLAN)
		routes.SetCluster(w.Routes)
		neighs.SetNeighs(w.Neighs)
		neighs.SetFDB(w.FDB)
	}
	both := link.Families{V4: true, V6: true}
	links.SetForwarding(both)
	links.SetEndpoints(nil)
	routes.SetEndpoints(nil)
	set()
	if err := links.PutEndpoint(t.Context(), link.Endpoint{Dev: "cali1", Families: both}); err != nil {
		t.Error(err)
	}
	var pods []model.Route
	for _, six := range []bool{false, true} {
		a := pod(i, six)
		pods = append(pods, model.Route{Dst: netip.PrefixFrom(a, a.BitLen()), Dev: "cali1", Proto: model.ProtoBoot})
	}
	if err := routes.PutEndpoint(t.Context(), pods); err != nil {
		t.Error(err)
	}
	return set
}

func (c *cluster) reach(six bool) bool {
	_, err := c.pods[0].Try("ping -c 1 -W 0.1 " + pod(1, six).String())
	return err == nil
}

// Two nodes made from the topology's word alone reach each other's pods, and do so again soon after somebody took
// the devices, routes or neighbours away.
func TestPodsReachEachOther(t *testing.T) {
	nstest.Root(t)
	c := newCluster(t)
	if _, err := c.pods[0].Try("ping -V"); err != nil {
		nstest.Need(t, "ping(8)")
	}
	c.run(t, 0)
	c.run(t, 1)
	both := func() bool { return c.reach(false) && c.reach(true) }
	t.Log("from empty: ", nstest.Within(t, 3*time.Second, "pods reach each other", both))
	for _, lines := range []string{
		"ip link del vxlan.calico; ip link del vxlan-v6.calico",
		"ip link set vxlan.calico down; ip link set vxlan-v6.calico down",
		"ip addr flush scope global dev vxlan.calico; ip -6 addr flush scope global dev vxlan-v6.calico",
		"ip route flush proto 80; ip -6 route flush proto 80",
		"ip neigh flush nud permanent dev vxlan.calico; ip -6 neigh flush nud permanent dev vxlan-v6.calico",
	} {
		for _, line := range strings.Split(lines, "; ") {
			c.nodes[0].Exec(t, line)
		}
		t.Logf("%s: %s", lines, nstest.Within(t, time.Second, lines, both))
	}
}

// A route by tunnel comes after the neighbour and forwarding entry of its next hop, and they go after it: no packet meets a
// tunnel that knows no way.
func TestTunnelRoutesHaveNeighbours(t *testing.T) {
	nstest.Root(t)
	c := newCluster(t)
	n := c.nodes[0]
	var mu sync.Mutex
	vias, neighs, fdb := map[netip.Prefix]netip.Addr{}, map[netip.Addr]netlink.MAC{}, map[netlink.MAC]bool{}
	var bad []string
	n.Monitor(t, func(e netlink.Event) bool {
		mu.Lock()
		defer mu.Unlock()
		switch e.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if r, ok := e.Route(); ok && r.OnLink && !e.Deleted() {
				vias[r.Dst] = r.Gw
			} else {
				delete(vias, r.Dst)
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			switch m, _ := e.Neigh(); {
			case m.FDB:
				fdb[m.MAC] = !e.Deleted()
			case e.Deleted():
				delete(neighs, m.IP)
			case m.State&unix.NUD_PERMANENT != 0:
				neighs[m.IP] = m.MAC
			}
		}
		for dst, via := range vias {
			if !fdb[neighs[via]] {
				bad = append(bad, fmt.Sprintf("%s via %s: event %d, neighbours %v", dst, via, e.Type, neighs))
			}
		}
		return true
	}, netlink.GroupRoute4, netlink.GroupRoute6, netlink.GroupNeigh)
	routes := func(tunnels bool) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(vias) == 2 == tunnels && len(vias) == len(neighs)
		}
	}
	set := c.run(t, 0)
	nstest.Within(t, 3*time.Second, "there are routes by tunnel", routes(true))
	for range 50 {
		for _, mode := range []model.Encap{model.EncapNever, model.EncapAlways} {
			for i := range c.in.Pools {
				c.in.Pools[i].VXLAN = mode
			}
			set()
			nstest.Within(t, time.Second, fmt.Sprintf("routes have mode %s", mode), routes(mode == model.EncapAlways))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(bad) > 0 {
		t.Errorf("%d times a route's next hop was not known; first: %s", len(bad), bad[0])
	}
}
