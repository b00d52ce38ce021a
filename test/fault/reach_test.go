package fault

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/test/lab"
)

// TestPodsReachEachOther makes a cluster as the guide's walkthrough does, with the default pools that the first agent
// makes, and looks at devices, routes and packets.
func TestPodsReachEachOther(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true, Pools: []v3.IPPoolSpec{}, Env: map[string]string{
		"NO_DEFAULT_POOLS": "", "CALICO_IPV4POOL_CIDR": "172.20.0.0/16", "CALICO_IPV4POOL_VXLAN": "Always",
		"CALICO_IPV6POOL_CIDR": "fd00:172:20::/112", "CALICO_IPV6POOL_VXLAN": "Always",
	}})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		for i := range 2 {
			pods = append(pods, n.Pod(fmt.Sprintf("%s-pod%d", n.Name, i)))
		}
	}
	l.WaitRoutes(30 * time.Second)
	capture := l.Capture()
	pairs := 0
	for _, from := range pods {
		for _, to := range pods {
			for _, addr := range to.Addrs {
				if err := from.Echo(addr, 10*time.Second); err != nil {
					t.Error(err)
				}
				pairs++
			}
		}
		for _, addr := range []netip.Addr{from.Node.Addr4.Addr(), from.Node.Addr6.Addr()} {
			if err := from.Echo(addr, 10*time.Second); err != nil {
				t.Errorf("own node: %v", err)
			}
		}
		if err := from.Check(); err != nil {
			t.Errorf("CHECK %s: %v", from.Name, err)
		}
	}
	t.Logf("%d pairs of pod and address reach each other", pairs)
	checkCapture(t, pods, capture.Packets())
	for _, n := range l.Nodes {
		checkDevices(t, n)
	}
	l.Agrees(30 * time.Second)
	for _, p := range pods {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// checkCapture: packets between nodes' pods are VXLAN between the nodes, and none of them is seen outside of it.
func checkCapture(t *testing.T, pods []*lab.Pod, packets []lab.Packet) {
	t.Helper()
	owner := map[netip.Addr]*lab.Pod{}
	for _, p := range pods {
		for _, a := range p.Addrs {
			owner[a] = p
		}
	}
	inside := map[[2]netip.Addr]int{}
	for _, p := range packets {
		if owner[p.Src] != nil && owner[p.Dst] != nil {
			t.Fatalf("packet between pods on the underlay as it is: %+v", p)
		}
		from, to := owner[p.InnerSrc], owner[p.InnerDst]
		if p.Port != 4789 || from == nil || to == nil {
			continue
		}
		want := [2]netip.Addr{from.Node.Addr4.Addr(), to.Node.Addr4.Addr()}
		if p.InnerSrc.Is6() {
			want = [2]netip.Addr{from.Node.Addr6.Addr(), to.Node.Addr6.Addr()}
		}
		if p.VNI != 4096 || p.Src != want[0] || p.Dst != want[1] {
			t.Fatalf("VXLAN packet %+v, want VNI 4096 and %v", p, want)
		}
		inside[[2]netip.Addr{p.InnerSrc, p.InnerDst}]++
	}
	for _, from := range pods {
		for _, to := range pods {
			if from.Node == to.Node {
				continue
			}
			for i := range from.Addrs {
				if inside[[2]netip.Addr{from.Addrs[i], to.Addrs[i]}] == 0 {
					t.Errorf("no VXLAN packet from %s to %s", from.Addrs[i], to.Addrs[i])
				}
			}
		}
	}
	t.Logf("%d packets on the underlay, %d pairs of pods in VXLAN", len(packets), len(inside))
}

// checkDevices compares with what the guide shows.
func checkDevices(t *testing.T, n *lab.Node) {
	t.Helper()
	state := n.State()
	for _, want := range []string{
		fmt.Sprintf("link vxlan.calico up true mtu 1450 mac %x vni 4096 port 4789 parent eth0 local %s learning false", [6]byte(model.TunnelMAC(n.Name, false)), n.Addr4.Addr()),
		fmt.Sprintf("link vxlan-v6.calico up true mtu 1430 mac %x vni 4096 port 4789 parent eth0 local %s learning false", [6]byte(model.TunnelMAC(n.Name, true)), n.Addr6.Addr()),
	} {
		if !slices.Contains(state, want) {
			t.Errorf("%s lacks %q", n.Name, want)
		}
	}
	counts := map[string]int{}
	for _, line := range state {
		counts[strings.Fields(line)[0]]++
	}
	// Two other nodes in two families, and two blackholes.
	if counts["neigh"] != 4 || counts["fdb"] != 4 || counts["route"] != 6 || counts["addr"] != 2 || counts["pod"] != 4 {
		t.Errorf("%s has %v:\n%s", n.Name, counts, strings.Join(state, "\n"))
	}
	// The remote block's next hop is its first address: that node's tunnel address.
	for _, line := range state {
		f := strings.Fields(line)
		if f[0] == "route" && f[1] != "blackhole" {
			if first := netip.MustParsePrefix(f[1]).Addr(); f[3] != first.String() || !strings.HasSuffix(line, "onlink") {
				t.Errorf("%s: %q: want via %s … onlink", n.Name, line, first)
			}
		}
	}
	out, err := n.NS.Run("ip route show")
	t.Logf("%s: %v\n%s", n.Name, err, out)
}
