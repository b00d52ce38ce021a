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
	pools, affinities, handles := c.mustCtl(t, "get", "ippools"), c.mustCtl(t, "get", "blockaffinities"), c.mustCtl(t, "get", "ipamhandles")
	for _, f := range c.families {
		network := pick(f, `[0-9.]+/\d+`, `[0-9a-f:]+/\d+`)
		wantLine(t, "kubectl get ippools", pools, f.pool()+` `+network+pick(f, " true", "( false)?")+` Never Always( false)?.*`)
		for _, n := range c.nodes {
			wantLine(t, "kubectl get blockaffinities", affinities, n.name+`-[0-9a-f-]+ `+network+` `+n.name+` confirmed`)
			wantLine(t, "kubectl get ipamhandles", handles, pick(f, "vxlan-tunnel-addr-", "vxlan-v6-tunnel-addr-")+n.name+` .*`)
		}
		pool := c.mustCtl(t, "get", "ippool", f.pool(), "-o", "yaml")
		for _, line := range []string{
			fmt.Sprintf("blockSize: %d", f.bits()-6), `cidr: ` + network, "ipipMode: Never", `nodeSelector: all\(\)`, "vxlanMode: Always",
		} {
			wantLine(t, "kubectl get ippool -o yaml", pool, line)
		}
		if nat := hasLine(pool, "natOutgoing: true"); nat != (f == v4) {
			t.Errorf("natOutgoing of %s is %t", f.pool(), nat)
		}
	}
	wantLine(t, "kubectl get ipamhandles", handles, `k8s-pod-network\.[0-9a-f]{64} .*`)
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

// TestWalkthrough3InsideAPod looks at a pod's interface, routes and neighbours, and at its host side.
func TestWalkthrough3InsideAPod(t *testing.T) {
	c := ready(t)
	mtu := c.podMTU(t, c.nodes[0])
	c.each(t, func(t *testing.T, f family) {
		for _, n := range c.nodes {
			c.lookAtHostSide(t, n, f)
			c.lookIntoPod(t, n, f, mtu)
		}
	})
}

// hostSide is the link-local address that the host side of each pod has by its MAC address: the pods' IPv6 gateway.
const hostSide = "fe80::ecee:eeff:feee:eeee"

// lookAtHostSide looks, and pings the pod: the node's own packet makes an ARP request, which an IPv4 pod learns from.
func (c *cluster) lookAtHostSide(t *testing.T, n node, f family) {
	t.Helper()
	addr, cali := n.tools.addr[f], model.HostVeth(namespace, n.tools.name)
	out := c.mustSh(t, n.shell, fmt.Sprintf(`
		family=%d cali=%s addr=%s answers=%s
		ip -o link show $cali
		ip -$family route show dev $cali
		ip -$family -o addr show dev $cali
		echo answers $(cat /proc/sys/net/ipv$family/conf/$cali/$answers)
		ip neigh flush to $addr
		ping -c 1 -W 2 $addr`, f, cali, addr, pick(f, "proxy_arp", "proxy_ndp")))
	wantLine(t, "host side", out, `\d+: `+cali+`@.* mtu \d+ .* state UP .* link/ether ee:ee:ee:ee:ee:ee .*`)
	wantLine(t, "host side's route", out, addr.String()+pick(f, ` scope link`, `( proto boot)? metric \d+ .*`))
	wantLine(t, "host side answers for all", out, `answers 1`)
	if f == v6 {
		wantLine(t, "host side's address", out, `\d+: `+cali+` inet6 `+hostSide+`/64 scope link .*`)
	}
	if have := strings.Count(out, cali+"    inet"); have != pick(f, 0, 1) {
		t.Errorf("host side has %d addresses, want none but the link-local one of IPv6:\n%s", have, out)
	}
}

func (c *cluster) lookIntoPod(t *testing.T, n node, f family, mtu int) {
	t.Helper()
	gateway := pick(f, "169.254.1.1", hostSide)
	out := c.mustSh(t, n.tools, fmt.Sprintf("ip -%d -o addr show eth0 scope global; ip link show eth0; ip -%[1]d route; ip -%[1]d neigh; route -n", f))
	wantLine(t, "ip addr", out, fmt.Sprintf(`\d+: eth0 inet6? %s/%d scope global .*`, n.tools.addr[f], f.bits()))
	wantLine(t, "ip addr", out, fmt.Sprintf(`\d+: eth0@\S+ .* mtu %d .*`, mtu))
	wantLine(t, "ip route", out, "default via "+gateway+" dev eth0"+pick(f, "", " metric .*"))
	wantLine(t, "ip neigh", out, gateway+` dev eth0 lladdr ee:ee:ee:ee:ee:ee( router)? PERMANENT`)
	if f == v4 {
		wantLine(t, "ip route", out, `169\.254\.1\.1 dev eth0 scope link`)
		wantLine(t, "ip neigh", out, n.addr[f].Addr().String()+` dev eth0 lladdr ee:ee:ee:ee:ee:ee .*`)
		wantLine(t, "route -n", out, `0\.0\.0\.0 169\.254\.1\.1 0\.0\.0\.0 UG 0 0 0 eth0`)
		wantLine(t, "route -n", out, `169\.254\.1\.1 0\.0\.0\.0 255\.255\.255\.255 UH 0 0 0 eth0`)
	}
}

// TestWalkthrough3NoDefaultGateway takes a node's default route away for a while: its pods must not notice.
func TestWalkthrough3NoDefaultGateway(t *testing.T) {
	c := several(t)
	c.each(t, func(t *testing.T, f family) {
		i := slices.IndexFunc(c.nodes[1:], func(n node) bool { return n.near(c.nodes[0], f) })
		if i < 0 {
			t.Skip("SKIPPED: needs two nodes in one subnet")
		}
		a, b := c.nodes[0], c.nodes[1+i]
		out := c.mustSh(t, b.shell, fmt.Sprintf(`
			was=$(ip -%d route show default) && [ -n "$was" ] && ip -%[1]d route del default || exit
			(sleep 2; ip -%[1]d route add $was) >/dev/null 2>&1 &
			echo gone`, f))
		wantLine(t, "default route", out, "gone")
		defer time.Sleep(2 * time.Second)
		if n := strings.Count(c.mustSh(t, a.tools, "ping -n -i 0.05 -c 20 "+b.tools.addr[f].String()), "time="); n != 20 {
			t.Errorf("%d of 20 pings were answered", n)
		}
	})
}

// TestWalkthrough4Blackhole looks at the routes that drop what is for addresses without a pod.
func TestWalkthrough4Blackhole(t *testing.T) {
	c := several(t)
	blocks, err := list[v3.IPAMBlockList](t.Context(), c, "ipamblocks")
	if err != nil {
		t.Fatal(err)
	}
	c.each(t, func(t *testing.T, f family) {
		for _, n := range c.nodes {
			routes, err := c.routes(t.Context(), n, f, "")
			if err != nil {
				t.Fatal(err)
			}
			own := blocksOf(blocks.Items, n, f)
			for _, cidr := range own {
				wantLine(t, "ip route", routes, "blackhole "+cidr+" proto 80")
				if f == v4 {
					wantLine(t, "route -n", c.mustSh(t, n.shell, "route -n"), netip.MustParsePrefix(cidr).Addr().String()+` 0\.0\.0\.0 255\.255\.255\.192 U 0 0 0 \*`)
				}
			}
			if have := strings.Count(routes, "blackhole"); have != len(own) || have == 0 {
				t.Errorf("%s has %d blackhole routes for %d blocks", n.name, have, len(own))
			}
		}
		// A packet for an address without a pod ends on the block's node; it would come back if it circled.
		free := freeAddress(t, blocks.Items, c.nodes[1], f)
		out, _ := c.sh(t.Context(), c.nodes[0].tools, "ping -n -i 0.05 -c 5 -W 1 "+free.String())
		if !strings.Contains(out, " 0 received") || strings.Contains(out, "exceeded") {
			t.Errorf("ping of %s, which no pod has: %s", free, out)
		}
	})
}

// freeAddress returns an address of a node's block that no pod has.
func freeAddress(t *testing.T, blocks []v3.IPAMBlock, n node, f family) netip.Addr {
	t.Helper()
	own := blocksOf(blocks, n, f)
	for _, b := range blocks {
		if slices.Contains(own, b.Spec.CIDR) && len(b.Spec.Unallocated) > 0 {
			a := netip.MustParsePrefix(b.Spec.CIDR).Addr()
			for range b.Spec.Unallocated[len(b.Spec.Unallocated)-1] {
				a = a.Next()
			}
			return a
		}
	}
	t.Fatalf("node %s has no free address", n.name)
	return netip.Addr{}
}
