package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// TestWalkthrough6VXLAN looks at the device, at routes, neighbours and forwarding entries, and at the wire.
func TestWalkthrough6VXLAN(t *testing.T) {
	c := several(t)
	blocks, err := list[v3.IPAMBlockList](t.Context(), c, "ipamblocks")
	if err != nil {
		t.Fatal(err)
	}
	c.each(t, func(t *testing.T, f family) {
		for _, n := range c.nodes {
			c.lookAtDevice(t, n, f)
			c.lookAtPeers(t, n, f, blocks.Items)
		}
		a, b := c.nodes[0], c.nodes[1]
		c.onWire(t, a, f, []node{b}, nil)
	})
}

func (c *cluster) lookAtDevice(t *testing.T, n node, f family) {
	t.Helper()
	dev, up := f.vxlan(), c.uplink(t, n, f)
	out := c.mustSh(t, n.shell, fmt.Sprintf("ip -d link show %s; ip -%d -o addr show %[1]s scope global", dev, f))
	wantLine(t, "ip -d link", out, fmt.Sprintf(`\d+: %s: <\S*UP\S*> mtu %d .*`, dev, up.mtu-f.overhead()))
	wantLine(t, "ip -d link", out, fmt.Sprintf(`vxlan id 4096 local %s dev %s srcport 0 0 dstport 4789 nolearning .*`, n.addr[f].Addr(), up.dev))
	wantLine(t, "ip -d link", out, "link/ether "+model.TunnelMAC(n.name, f == v6).String()+" .*")
	wantLine(t, "ip addr", out, fmt.Sprintf(`\d+: %s inet6? %s/%d scope global .*`, dev, n.tunnel[f], f.bits()))
	if strings.Count(out, "inet") != 1 {
		t.Errorf("%s has more than the tunnel's address:\n%s", dev, out)
	}
}

// lookAtPeers looks for a node's ways to all other nodes' blocks.
func (c *cluster) lookAtPeers(t *testing.T, n node, f family, blocks []v3.IPAMBlock) {
	t.Helper()
	routes, err := c.routes(t.Context(), n, f, "")
	if err != nil {
		t.Fatal(err)
	}
	out := c.mustSh(t, n.shell, fmt.Sprintf("ip -%d neigh show dev %s; bridge fdb show dev %[2]s; route -n", f, f.vxlan()))
	for _, o := range c.nodes {
		if o.name == n.name {
			continue
		}
		for _, cidr := range blocksOf(blocks, o, f) {
			wantLine(t, "ip route", routes, fmt.Sprintf("%s via %s dev %s proto 80 onlink", cidr, o.tunnel[f], f.vxlan()))
			if f == v4 {
				wantLine(t, "route -n", out, fmt.Sprintf("%s %s 255.255.255.192 UG 0 0 0 vxlan.calico", netip.MustParsePrefix(cidr).Addr(), o.tunnel[f]))
			}
		}
		wantLine(t, "ip neigh", out, fmt.Sprintf("%s lladdr %s PERMANENT", o.tunnel[f], o.mac[f]))
		wantLine(t, "bridge fdb", out, fmt.Sprintf("%s dst %s self permanent", o.mac[f], o.addr[f].Addr()))
	}
}

// onWire pings from a node's pod to pods on other nodes and looks at the node's cable: those of tunnelled must be reached
// inside VXLAN, those of plain without.
func (c *cluster) onWire(t *testing.T, n node, f family, tunnelled, plain []node) {
	t.Helper()
	all := append(slices.Clone(tunnelled), plain...)
	wire := capture(t, c.onNode(t, n), c.uplink(t, n, f).dev, "udp port 4789 or icmp or icmp6", func() {
		for _, o := range all {
			c.mustSh(t, n.tools, "ping -n -c 3 -i 0.2 -W 2 "+o.web.addr[f].String())
		}
	})
	ip := pick(f, "IP", "IP6")
	for i, o := range all {
		want := i < len(tunnelled)
		vxlan := hasLine(wire, fmt.Sprintf(`\S+ %s %s\.\d+ > %s\.4789: VXLAN, flags \[I\] \(0x08\), vni 4096`, ip, n.addr[f].Addr(), o.addr[f].Addr()))
		// tcpdump writes the time before an outer packet, and an inner one on a line of its own.
		ping := fmt.Sprintf(`%s %s > %s: ICMP6?,? echo request.*`, ip, n.tools.addr[f], o.web.addr[f])
		inside, bare := hasLine(wire, ping), hasLine(wire, `\S+ `+ping)
		if vxlan != want || inside != want || bare == want {
			t.Errorf("from %s to %s: a VXLAN header: %t, the ping inside one: %t, the ping without: %t; want VXLAN: %t:\n%s",
				n.name, o.name, vxlan, inside, bare, want, wire)
		}
	}
}

// runner runs a bash script somewhere and fails the test if that fails.
type runner func(script string) string

// onNode runs scripts in a node's own namespaces.
func (c *cluster) onNode(t *testing.T, n node) runner {
	return func(script string) string { t.Helper(); return c.mustSh(t, n.shell, script) }
}

// capture returns what tcpdump sees on a device meanwhile.
func capture(t *testing.T, run runner, dev, filter string, meanwhile func()) string {
	t.Helper()
	var dir, pid string
	out := run(fmt.Sprintf(`
		cd $(mktemp -d)
		tcpdump --help 2>&1 | grep -q -- '-Z user' && root='-Z root'
		tcpdump $root --immediate-mode -l -n -i %s '%s' >wire 2>err </dev/null &
		for i in $(seq 100); do grep -q '^listening on' err && { echo $PWD $!; exit; }; sleep 0.05; done
		cat err >&2; exit 1`, dev, filter))
	if _, err := fmt.Sscan(out, &dir, &pid); err != nil {
		t.Fatalf("start tcpdump: %v: %q", err, out)
	}
	meanwhile()
	return run(fmt.Sprintf("sleep 0.3; kill -INT %s; while [ -e /proc/%[1]s ]; do sleep 0.05; done; cat %s/wire; rm -r %[2]s", pid, dir))
}

// TestWalkthrough8CrossSubnet looks at the wire in mode CrossSubnet: plain routes inside a subnet and VXLAN across, on one
// cluster at once.
func TestWalkthrough8CrossSubnet(t *testing.T) {
	c := several(t)
	c.each(t, func(t *testing.T, f family) {
		c.keepMode(t, f)
		c.setMode(t, f, "CrossSubnet")
		for _, n := range c.nodes {
			var near, far []node
			for _, o := range c.nodes {
				switch {
				case o.name == n.name:
				case n.near(o, f):
					near = append(near, o)
				default:
					far = append(far, o)
				}
			}
			c.onWire(t, n, f, far, near)
			t.Logf("%s: plain to %d nodes in its subnet, VXLAN to %d outside", n.name, len(near), len(far))
		}
	})
}
