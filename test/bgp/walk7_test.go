package bgp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// Walkthrough 7: both modes Never, so packets leave by the node's own interface, by routes "proto bird" to the peer node's
// address; over two subnets, whose router learns the blocks.
func TestWalkthrough7NoEncapsulation(t *testing.T) {
	l := bird(t, lab.Options{Nodes: 4, Subnets: 2, IPv6: true, Pools: []v3.IPPoolSpec{plain4, plain6}})
	router := runBIRD(t, l)
	apply(t, resource("BGPPeer", "fabric", "peerIP: 192.168.10.1", "asNumber: 65000"), resource("BGPPeer", "fabric-v6", "peerIP: 'fd00:10::1'", "asNumber: 65000"))
	pods := onePodEach(l)
	for _, n := range l.Nodes {
		for _, to := range l.Nodes {
			want4, want6 := fmt.Sprintf("via %s dev eth0 proto bird", to.Addr4.Addr()), fmt.Sprintf("via %s dev eth0 proto bird", to.Addr6.Addr())
			if n.Addr4.Masked() != to.Addr4.Masked() { // the peer node is behind the gateway
				gw4, gw6 := n.AddrOf(-9)
				want4, want6 = fmt.Sprintf("via %s dev eth0 proto bird", gw4.Addr()), fmt.Sprintf("via %s dev eth0 proto bird", gw6.Addr())
			}
			if n != to {
				l.Within(patience, n.Name+" has routes to "+to.Name, func() error { return routesTo(l, n.NS, to, want4, want6) })
			}
		}
	}
	for _, n := range l.Nodes {
		l.Within(patience, "the fabric's routes to "+n.Name, func() error {
			if err := routesTo(l, l.Fabric, n, "via "+n.Addr4.Addr().String(), "via "+n.Addr6.Addr().String()); err != nil {
				return fmt.Errorf("%w\n%s", err, router.birdc("show route"))
			}
			return nil
		})
	}
	c := l.Capture()
	meet(t, pods)
	wantPlain(t, c.Packets(), pods)
	for _, pod := range pods { // natOutgoing is off: the fabric's answer finds the pod by the block's route
		gw4, gw6 := pod.Node.AddrOf(-9)
		for _, gw := range []string{gw4.Addr().String(), gw6.Addr().String()} {
			if _, err := pod.NS.Run("ping -n -c 1 -W 5 " + gw); err != nil {
				t.Errorf("pod %s: %v", pod.Name, err)
			}
		}
	}
	for _, n := range l.Nodes {
		waitTable(l, n, 4, inMesh(l, n, 4, "192.168.10.1, global, up, Established")...)
		waitTable(l, n, 6, inMesh(l, n, 6, "fd00:10::1, global, up, Established")...)
	}
	if devices, err := l.Nodes[0].NS.Run("ip -br link"); err != nil || strings.Contains(devices, "vxlan") {
		t.Errorf("no pool has VXLAN, devices are %s (%v)", devices, err)
	}
}

// wantPlain checks that pods' pings crossed the fabric, and nothing that hides others' packets did.
func wantPlain(t *testing.T, packets []lab.Packet, pods []*lab.Pod) {
	t.Helper()
	pings := 0
	for _, p := range packets {
		if p.Port == 4789 || p.Proto == unix.IPPROTO_IPIP || p.Proto == unix.IPPROTO_IPV6 || p.Proto == unix.IPPROTO_GRE {
			t.Fatalf("a packet is encapsulated: %+v", p)
		}
		if p.Proto == unix.IPPROTO_ICMP && slices.ContainsFunc(pods, func(o *lab.Pod) bool { return o.V4() == p.Src }) {
			pings++
		}
	}
	if pings == 0 {
		t.Errorf("the capture of %d packets has none of pods' pings", len(packets))
	}
}
