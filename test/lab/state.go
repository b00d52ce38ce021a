package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/topology"
)

// vxlanDevices are the devices whose entries are all ours.
var vxlanDevices = []string{topology.VXLAN4, topology.VXLAN6}

// protocols are those that our routes have, pods' among others' of theirs.
var protocols = []uint8{model.ProtoMargay, model.ProtoBoot, model.ProtoBIRD}

// State is what a node's kernel has of ours, a line each, sorted.
type State []string

// Cluster is the state without pods' routes.
func (s State) Cluster() State {
	return slices.DeleteFunc(slices.Clone(s), func(line string) bool { return strings.HasPrefix(line, "pod ") })
}

// Diff says what differs, a line each; empty when nothing does.
func (s State) Diff(was State) string {
	var out []string
	for _, line := range was {
		if !slices.Contains(s, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range s {
		if !slices.Contains(was, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// names returns the devices' names by index.
func (n *NS) names() map[int]string {
	out := map[int]string{}
	_ = n.Do(func() error {
		devs, err := net.Interfaces()
		for _, d := range devs {
			out[d.Index] = d.Name
		}
		return err
	})
	return out
}

// Veths returns the names of the host sides of pods' pairs.
func (n *Node) Veths() (out []string) {
	for _, name := range n.NS.names() {
		if strings.HasPrefix(name, "cali") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// State lists our routes, neighbours, forwarding entries and VXLAN devices.
func (n *Node) State() State {
	n.lab.t.Helper()
	c, err := n.NS.Conn()
	if err != nil {
		n.lab.t.Fatal(err)
	}
	defer c.Close()
	s, err := stateOf(c, n.NS.names())
	for try := 0; errors.Is(err, unix.ENODEV) && try < 5; try++ { // a device went while it was looked at
		s, err = stateOf(c, n.NS.names())
	}
	if err != nil {
		n.lab.t.Fatalf("%s: %v", n.Name, err)
	}
	slices.Sort(s)
	return s
}

func stateOf(c *netlink.Conn, names map[int]string) (State, error) {
	s, err := routeLines(c, names)
	if err != nil {
		return nil, err
	}
	more, err := vxlanLines(c, names)
	return append(s, more...), err
}

func routeLines(c *netlink.Conn, names map[int]string) (s State, err error) {
	for _, family := range netlink.Families {
		for _, proto := range protocols {
			routes, err := c.Routes(family, proto)
			if err != nil {
				return nil, err
			}
			for _, r := range routes {
				if proto == model.ProtoBIRD && r.Metric == 32 {
					continue // a BIRD's on the node
				}
				if line := routeLine(r, names); line != "" {
					s = append(s, line)
				}
			}
		}
	}
	return s, nil
}

// routeLine writes a route; "" when it is not ours.
func routeLine(r netlink.Route, names map[int]string) string {
	dev := names[r.OIF]
	kind := "route "
	if r.Proto == model.ProtoBoot {
		if !strings.HasPrefix(dev, "cali") {
			return ""
		}
		kind = "pod "
	}
	line := kind + r.Dst.String()
	if r.Type == unix.RTN_BLACKHOLE {
		line = kind + "blackhole " + r.Dst.String()
	}
	if r.Gw.IsValid() {
		line += " via " + r.Gw.String()
	}
	if dev != "" {
		line += " dev " + dev
	}
	if r.OnLink {
		line += " onlink"
	}
	if r.Proto == model.ProtoBIRD {
		line += " proto bird"
	}
	return line
}

func vxlanLines(c *netlink.Conn, names map[int]string) (s State, err error) {
	for _, dev := range vxlanDevices {
		l, err := c.Link(dev)
		if errors.Is(err, netlink.ErrNoDevice) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s = append(s, fmt.Sprintf("link %s up %t mtu %d mac %x vni %d port %d parent %s local %s learning %t", dev, l.Up, l.MTU, l.MAC,
			l.VXLAN.VNI, l.VXLAN.Port, names[l.VXLAN.Parent], l.VXLAN.Local, l.VXLAN.Learning))
		addrs, err := c.Addrs(l.Index)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if a.Global {
				s = append(s, fmt.Sprintf("addr %s dev %s", a.Prefix, dev))
			}
		}
		var all []netlink.Neigh
		for _, family := range netlink.Families {
			neighs, err := c.Neighs(family, l.Index)
			if err != nil {
				return nil, err
			}
			all = append(all, neighs...)
		}
		fdb, err := c.FDB(l.Index)
		if err != nil {
			return nil, err
		}
		for _, x := range append(all, fdb...) {
			if x.State&unix.NUD_PERMANENT != 0 {
				s = append(s, neighLine(x, dev))
			}
		}
	}
	return s, nil
}

func neighLine(x netlink.Neigh, dev string) string {
	if x.FDB {
		return fmt.Sprintf("fdb %x to %s dev %s", x.MAC, x.IP, dev)
	}
	return fmt.Sprintf("neigh %s at %x dev %s", x.IP, x.MAC, dev)
}

// Blocks returns the blocks by CIDR, those marked deleted left out.
func (l *Lab) Blocks() (map[netip.Prefix]*v3.IPAMBlock, error) {
	list, err := objects[v3.IPAMBlock](l, "ipamblocks")
	if err != nil {
		return nil, err
	}
	out := map[netip.Prefix]*v3.IPAMBlock{}
	for _, b := range list {
		cidr, err := netip.ParsePrefix(b.Spec.CIDR)
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", b.Name, err)
		}
		if !b.Spec.Deleted {
			out[cidr] = b
		}
	}
	return out, nil
}

// objects lists the objects of one of our resources.
func objects[T any](l *Lab, resource string) (out []*T, err error) {
	ctx, cancel := l.ctx(10 * time.Second)
	defer cancel()
	list, err := l.any.Resource(v3.GroupVersion.WithResource(resource)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		o := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, o); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// routed lists the destinations that a node should route, or drop: the blocks of the nodes that exist, and what of them other
// nodes have borrowed.
func (l *Lab) routed(blocks map[netip.Prefix]*v3.IPAMBlock, n *Node) (want []string) {
	exists := func(name string) bool {
		return slices.ContainsFunc(l.Nodes, func(o *Node) bool { return o.Name == name })
	}
	for cidr, b := range blocks {
		if exists(block.Owner(b)) {
			want = append(want, cidr.String())
		}
		for _, loan := range block.Loans(b) {
			if addr := block.AddrAt(cidr, loan.Ordinal); loan.Node != n.Name && exists(loan.Node) {
				want = append(want, netip.PrefixFrom(addr, addr.BitLen()).String())
			}
		}
	}
	slices.Sort(want)
	return want
}

// WaitRoutes waits until each node routes, or drops, just the blocks of the nodes that exist, and borrowed addresses. It fits labs in which every
// node reaches every other.
func (l *Lab) WaitRoutes(d time.Duration) time.Duration {
	l.t.Helper()
	return l.Within(d, "each node routes each block", func() error {
		blocks, err := l.Blocks()
		if err != nil {
			return err
		}
		for _, n := range l.Nodes {
			want := l.routed(blocks, n)
			var have []string
			for _, line := range n.State() {
				if rest, ok := strings.CutPrefix(line, "route "); ok {
					have = append(have, strings.Fields(strings.TrimPrefix(rest, "blackhole "))[0])
				}
			}
			slices.Sort(have)
			if !slices.Equal(have, want) {
				return fmt.Errorf("%s routes %v, blocks are %v", n.Name, have, want)
			}
		}
		return nil
	})
}
