package bgp

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// Walkthrough 8: encapsulated only when the two nodes are in different subnets, plain routing inside one. VXLAN's routes come
// from the datastore also where BGP is spoken.
func TestWalkthrough8CrossSubnet(t *testing.T) {
	cross4, cross6 := plain4, plain6
	cross4.VXLANMode, cross6.VXLANMode = v3.EncapCrossSubnet, v3.EncapCrossSubnet
	l := bird(t, lab.Options{Nodes: 4, Subnets: 2, IPv6: true, Pools: []v3.IPPoolSpec{cross4, cross6}})
	pods := onePodEach(l)
	for _, n := range l.Nodes {
		for _, to := range l.Nodes {
			if n == to {
				continue
			}
			want4, want6 := fmt.Sprintf("via %s dev eth0 proto 80", to.Addr4.Addr()), fmt.Sprintf("via %s dev eth0 proto 80", to.Addr6.Addr())
			if n.Addr4.Masked() != to.Addr4.Masked() {
				tunnels := to.Object().Annotations
				want4 = "via " + tunnels["projectcalico.org/IPv4VXLANTunnelAddr"] + " dev vxlan.calico proto 80"
				want6 = "via " + tunnels["projectcalico.org/IPv6VXLANTunnelAddr"] + " dev vxlan-v6.calico proto 80"
			}
			l.Within(patience, n.Name+" has routes to "+to.Name, func() error { return routesTo(l, n.NS, to, want4, want6) })
		}
	}
	c := l.Capture()
	meet(t, pods)
	plain, inside := 0, 0
	at := func(p lab.Packet) (from, to *lab.Pod) {
		src, dst := p.Src, p.Dst
		if p.Port == 4789 {
			src, dst = p.InnerSrc, p.InnerDst
		}
		for _, pod := range pods {
			if slices.Contains(pod.Addrs, src) {
				from = pod
			}
			if slices.Contains(pod.Addrs, dst) {
				to = pod
			}
		}
		return from, to
	}
	for _, p := range c.Packets() {
		if p.Proto == unix.IPPROTO_IPIP {
			t.Fatalf("a packet is in IPIP: %+v", p)
		}
		from, to := at(p)
		if from == nil || to == nil {
			continue
		}
		if together := from.Node.Addr4.Masked() == to.Node.Addr4.Masked(); together == (p.Port == 4789) {
			t.Fatalf("from %s to %s: %+v", from.Node.Name, to.Node.Name, p)
		} else if together {
			plain++
		} else {
			inside++
		}
	}
	if plain == 0 || inside == 0 {
		t.Errorf("the capture has %d plain packets of pods, %d in VXLAN", plain, inside)
	}
	for _, n := range l.Nodes {
		waitTable(l, n, 4, inMesh(l, n, 4)...)
	}
}
