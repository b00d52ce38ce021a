package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/model"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// wantLine fails the test unless a line of the text matches the pattern whole, any run of blanks being one.
func wantLine(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !hasLine(text, pattern) {
		t.Errorf("%s: no line matches %q in\n%s", what, pattern, text)
	}
}

func hasLine(text, pattern string) bool {
	re := regexp.MustCompile("^" + pattern + "$")
	return slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		return re.MatchString(strings.Join(strings.Fields(line), " "))
	})
}

// TestWalkthrough2Install looks at what an installation leaves: resources, the CNI configuration, probes, metrics.
func TestWalkthrough2Install(t *testing.T) {
	c := ready(t)
	wantLine(t, "kubectl get ippools", c.mustCtl(t, "get", "ippools"), `default-ipv4-ippool [0-9.]+/\d+ true Never Always( false)?`)
	affinities, handles := c.mustCtl(t, "get", "blockaffinities"), c.mustCtl(t, "get", "ipamhandles")
	for _, n := range c.nodes {
		wantLine(t, "kubectl get blockaffinities", affinities, n.name+`-[0-9-]+ [0-9.]+/\d+ `+n.name+` confirmed`)
		wantLine(t, "kubectl get ipamhandles", handles, `vxlan-tunnel-addr-`+n.name+` .*`)
	}
	wantLine(t, "kubectl get ipamhandles", handles, `k8s-pod-network\.[0-9a-f]{64} .*`)
	for _, line := range []string{"blockSize: 26", `cidr: [0-9.]+/\d+`, "ipipMode: Never", "natOutgoing: true", `nodeSelector: all\(\)`, "vxlanMode: Always"} {
		wantLine(t, "kubectl get ippool -o yaml", c.mustCtl(t, "get", "ippool", "default-ipv4-ippool", "-o", "yaml"), line)
	}
	for _, n := range c.nodes {
		checkConflist(t, n.name, c.mustSh(t, n.shell, "cat /host/etc/cni/net.d/10-*.conflist"))
		// Live, ready and measured, whatever is switched on.
		out := c.mustSh(t, n.shell, `curl -sSf -m 5 localhost:9099/liveness; curl -sSf -m 5 localhost:9099/readiness; curl -sSf -m 5 localhost:9091/metrics`)
		wantLine(t, "metrics of "+n.name, out, `felix_cluster_num_hosts `+fmt.Sprint(len(c.nodes)))
	}
}

func checkConflist(t *testing.T, node, text string) {
	t.Helper()
	var conf struct {
		Name    string
		Plugins []struct {
			Type         string
			Snat         bool
			Capabilities map[string]bool
		}
	}
	if err := json.Unmarshal([]byte(text), &conf); err != nil {
		t.Fatalf("conflist of %s: %v\n%s", node, err, text)
	}
	if conf.Name != "k8s-pod-network" || len(conf.Plugins) != 3 || conf.Plugins[0].Type != "margay" ||
		conf.Plugins[1].Type != "portmap" || !conf.Plugins[1].Snat || !conf.Plugins[1].Capabilities["portMappings"] ||
		conf.Plugins[2].Type != "bandwidth" || !conf.Plugins[2].Capabilities["bandwidth"] {
		t.Errorf("conflist of %s is not as it should be:\n%s", node, text)
	}
}

// uplinkMTU is the MTU of the device that has the node's address.
func (c *cluster) uplink(t *testing.T, n node) (dev string, mtu int) {
	t.Helper()
	out := c.mustSh(t, n.shell, fmt.Sprintf(`set -- $(ip -4 -o addr show to %s); echo $2 $(cat /sys/class/net/$2/mtu)`, n.addr.Addr()))
	if _, err := fmt.Sscan(out, &dev, &mtu); err != nil {
		t.Fatalf("uplink of %s: %v: %q", n.name, err, out)
	}
	return dev, mtu
}

// TestWalkthrough3InsideAPod looks at a pod's interface, routes and neighbours, and at its host side.
func TestWalkthrough3InsideAPod(t *testing.T) {
	c := ready(t)
	for _, n := range c.nodes {
		_, mtu := c.uplink(t, n)
		p := n.tools
		out := c.mustSh(t, p, "ip -4 -o addr show eth0; ip link show eth0; ip route")
		wantLine(t, "ip addr", out, `\d+: eth0 inet `+p.addr.String()+`/32 .*`)
		wantLine(t, "ip addr", out, fmt.Sprintf(`\d+: eth0@\S+ .* mtu %d .*`, mtu-50))
		wantLine(t, "ip route", out, `default via 169\.254\.1\.1 dev eth0`)
		wantLine(t, "ip route", out, `169\.254\.1\.1 dev eth0 scope link`)

		routes := c.mustSh(t, p, "route -n")
		wantLine(t, "route -n", routes, `0\.0\.0\.0 169\.254\.1\.1 0\.0\.0\.0 UG 0 0 0 eth0`)
		wantLine(t, "route -n", routes, `169\.254\.1\.1 0\.0\.0\.0 255\.255\.255\.255 UH 0 0 0 eth0`)

		// The node's own packet makes its ARP request, which the pod learns from.
		c.mustSh(t, n.shell, fmt.Sprintf("ip neigh flush to %s; ping -c 1 -W 2 %[1]s", p.addr))
		neighbours := c.mustSh(t, p, "ip neigh")
		wantLine(t, "neighbours", neighbours, `169\.254\.1\.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT`)
		wantLine(t, "neighbours", neighbours, n.addr.Addr().String()+` dev eth0 lladdr ee:ee:ee:ee:ee:ee .*`)

		cali := model.HostVeth(namespace, p.name)
		host := c.mustSh(t, n.shell, fmt.Sprintf(`ip -o link show %s; ip route show dev %[1]s; cat /proc/sys/net/ipv4/conf/%[1]s/proxy_arp; ip -4 addr show dev %[1]s`, cali))
		wantLine(t, "host side", host, `\d+: `+cali+`@.* mtu \d+ .* state UP .* link/ether ee:ee:ee:ee:ee:ee .*`)
		wantLine(t, "host side's route", host, p.addr.String()+` scope link`)
		wantLine(t, "proxy_arp", host, `1`)
		if strings.Contains(host, "inet ") {
			t.Errorf("host side has an address:\n%s", host)
		}
	}
}

// TestWalkthrough3NoDefaultGateway takes a node's default route away for a while: its pods must not notice.
func TestWalkthrough3NoDefaultGateway(t *testing.T) {
	c := several(t)
	i := slices.IndexFunc(c.nodes[1:], func(n node) bool { return n.addr.Masked() == c.nodes[0].addr.Masked() })
	if i < 0 {
		t.Skip("SKIPPED: needs two nodes in one subnet")
	}
	a, b := c.nodes[0], c.nodes[1+i]
	out := c.mustSh(t, b.shell, `
		was=$(ip route show default) && [ -n "$was" ] && ip route del default || exit
		(sleep 2; ip route add $was) >/dev/null 2>&1 &
		echo gone`)
	wantLine(t, "default route", out, "gone")
	defer time.Sleep(2 * time.Second)
	if n := strings.Count(c.mustSh(t, a.tools, "ping -n -i 0.05 -c 20 "+b.tools.addr.String()), "time="); n != 20 {
		t.Errorf("%d of 20 pings were answered", n)
	}
}

// TestWalkthrough4Blackhole looks at the routes that drop what is for addresses without a pod.
func TestWalkthrough4Blackhole(t *testing.T) {
	c := several(t)
	blocks, err := list[v3.IPAMBlockList](t.Context(), c, "ipamblocks")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		routes, table := c.mustSh(t, n.shell, "ip route"), c.mustSh(t, n.shell, "route -n")
		own := 0
		for _, b := range blocks.Items {
			if b.Spec.Affinity == nil || *b.Spec.Affinity != "host:"+n.name {
				continue
			}
			own++
			wantLine(t, "ip route", routes, "blackhole "+b.Spec.CIDR+" proto 80")
			wantLine(t, "route -n", table, netip.MustParsePrefix(b.Spec.CIDR).Addr().String()+` 0\.0\.0\.0 255\.255\.255\.192 U 0 0 0 \*`)
		}
		if have := strings.Count(routes, "blackhole"); have != own || own == 0 {
			t.Errorf("%s has %d blackhole routes for %d blocks", n.name, have, own)
		}
	}
	// A packet for an address without a pod ends on the block's node; it would come back if it circled.
	from, owner := c.nodes[0], c.nodes[1]
	free := freeAddress(t, blocks.Items, owner.name)
	out, _ := c.sh(t.Context(), from.tools, "ping -n -i 0.05 -c 5 -W 1 "+free.String())
	if !strings.Contains(out, " 0 received") || strings.Contains(out, "exceeded") {
		t.Errorf("ping of %s, which no pod has: %s", free, out)
	}
}

func freeAddress(t *testing.T, blocks []v3.IPAMBlock, node string) netip.Addr {
	t.Helper()
	for _, b := range blocks {
		if b.Spec.Affinity != nil && *b.Spec.Affinity == "host:"+node && len(b.Spec.Unallocated) > 0 {
			a := netip.MustParsePrefix(b.Spec.CIDR).Addr()
			for range b.Spec.Unallocated[len(b.Spec.Unallocated)-1] {
				a = a.Next()
			}
			return a
		}
	}
	t.Fatalf("node %s has no free address", node)
	return netip.Addr{}
}

// TestWalkthrough6VXLAN looks at the device, at routes, neighbours and forwarding entries, and at the wire.
func TestWalkthrough6VXLAN(t *testing.T) {
	c := several(t)
	blocks, err := list[v3.IPAMBlockList](t.Context(), c, "ipamblocks")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		dev, mtu := c.uplink(t, n)
		out := c.mustSh(t, n.shell, "ip -d link show vxlan.calico; ip -4 -o addr show vxlan.calico; ip route; route -n; ip neigh show dev vxlan.calico; bridge fdb show dev vxlan.calico")
		wantLine(t, "ip -d link", out, fmt.Sprintf(`\d+: vxlan\.calico: <\S*UP\S*> mtu %d .*`, mtu-50))
		wantLine(t, "ip -d link", out, fmt.Sprintf(`vxlan id 4096 local %s dev %s srcport 0 0 dstport 4789 nolearning .*`, n.addr.Addr(), dev))
		wantLine(t, "ip -d link", out, "link/ether "+model.TunnelMAC(n.name, false).String()+" .*")
		wantLine(t, "ip addr", out, `\d+: vxlan\.calico inet `+n.tunnel.String()+`/32 .*`)
		for _, b := range blocks.Items {
			for _, o := range c.nodes {
				if o.name == n.name || b.Spec.Affinity == nil || *b.Spec.Affinity != "host:"+o.name {
					continue
				}
				wantLine(t, "ip route", out, fmt.Sprintf("%s via %s dev vxlan.calico proto 80 onlink", b.Spec.CIDR, o.tunnel))
				wantLine(t, "route -n", out, fmt.Sprintf("%s %s 255.255.255.192 UG 0 0 0 vxlan.calico", netip.MustParsePrefix(b.Spec.CIDR).Addr(), o.tunnel))
				wantLine(t, "ip neigh", out, fmt.Sprintf("%s lladdr %s PERMANENT", o.tunnel, o.mac))
				wantLine(t, "bridge fdb", out, fmt.Sprintf("%s dst %s self permanent", o.mac, o.addr.Addr()))
			}
		}
	}
	a, b := c.nodes[0], c.nodes[1]
	dev, _ := c.uplink(t, a)
	wire := c.mustSh(t, a.shell, fmt.Sprintf(`
		tcpdump --help 2>&1 | grep -q -- '-Z user' && root='-Z root'
		timeout 10 tcpdump $root -l -n -i %s -c 2 'udp port 4789 and src %s and dst %s' 2>/dev/null &
		for i in 1 2 3 4 5 6; do ping -c 1 -W 1 %[4]s >/dev/null; sleep 0.3; done
		wait`, dev, a.addr.Addr(), b.addr.Addr(), b.web.addr))
	wantLine(t, "tcpdump", wire, fmt.Sprintf(`\S+ IP %s\.\d+ > %s\.4789: VXLAN, flags \[I\] \(0x08\), vni 4096`, a.addr.Addr(), b.addr.Addr()))
	wantLine(t, "tcpdump", wire, fmt.Sprintf(`IP \S+ > %s: ICMP echo request.*`, b.web.addr))
}
