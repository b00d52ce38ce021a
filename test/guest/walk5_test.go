package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/test/lab"
)

// patience is how long a cluster may take for what it does in a second elsewhere.
const patience = time.Minute

// pool is walkthrough 5's, with an IPIP mode.
func pool(mode v3.EncapMode) v3.IPPoolSpec {
	return v3.IPPoolSpec{CIDR: "172.20.0.0/16", BlockSize: 26, IPIPMode: mode}
}

// build makes a lab whose agents speak BGP, with a pod on each node.
func build(t *testing.T, nodes, subnets int, mode v3.EncapMode) (*lab.Lab, []*lab.Pod) {
	t.Helper()
	l := cluster.New(t, lab.Options{Nodes: nodes, Subnets: subnets, Pools: []v3.IPPoolSpec{pool(mode)}, Stopped: true,
		Env: map[string]string{"CALICO_NETWORKING_BACKEND": "bird"}})
	for _, n := range l.Nodes {
		n.Start()
	}
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		n.WaitReady(patience)
		pods = append(pods, n.Pod("pod-"+n.Name))
	}
	l.WaitRoutes(patience)
	return l, pods
}

// meet checks that each pod reaches each other with packets as large as they may be.
func meet(t *testing.T, pods []*lab.Pod, mtu int) {
	t.Helper()
	for _, from := range pods {
		for _, to := range pods {
			if from == to {
				continue
			}
			if err := from.EchoFull(to.V4(), patience, mtu); err != nil {
				t.Errorf("%d bytes: %v", mtu, err)
			}
		}
	}
}

// blockOf returns the block that has an address.
func blockOf(t *testing.T, l *lab.Lab, addr netip.Addr) netip.Prefix {
	t.Helper()
	blocks, err := l.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	for cidr := range blocks {
		if cidr.Contains(addr) {
			return cidr
		}
	}
	t.Fatalf("no block has %s", addr)
	return netip.Prefix{}
}

// TestWalkthrough5IPIP looks at a node as walkthrough 5 does.
func TestWalkthrough5IPIP(t *testing.T) {
	l, pods := build(t, 3, 1, v3.EncapAlways)
	meet(t, pods, 1480)
	n, pod := l.Nodes[2], pods[2]
	run := func(line string) string {
		t.Helper()
		out, err := n.NS.Run(line)
		if err != nil {
			t.Error(err)
		}
		return out
	}

	own := blockOf(t, l, pod.V4())
	routes := []string{ // less what the machine itself has
		fmt.Sprintf("blackhole %s proto 80", own),
		fmt.Sprintf("%s dev %s scope link", pod.V4(), pod.HostVeth()),
	}
	table := []string{fmt.Sprintf("%s 0.0.0.0 255.255.255.255 UH %s", pod.V4(), pod.HostVeth())}
	for i, other := range l.Nodes[:2] {
		b := blockOf(t, l, pods[i].V4())
		routes = append(routes, fmt.Sprintf("%s via %s dev tunl0 proto bird onlink", b, other.Addr4.Addr()))
		table = append(table, fmt.Sprintf("%s %s 255.255.255.192 UG tunl0", b.Addr(), other.Addr4.Addr()))
	}
	have := slices.DeleteFunc(lines(run("ip route")), func(line string) bool { return strings.Contains(line, "eth0") })
	if slices.Sort(routes); !slices.Equal(have, routes) {
		t.Errorf("ip route says\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(routes, "\n"))
	}
	for _, want := range table { // without metric, reference and use counts, as route -n has them
		if !slices.ContainsFunc(lines(run("busybox route -n")), func(line string) bool {
			f := strings.Fields(line)
			return len(f) == 8 && strings.Join(append(f[:4:4], f[7]), " ") == want
		}) {
			t.Errorf("route -n has no %q:\n%s", want, run("busybox route -n"))
		}
	}

	link := run("ip -d link show tunl0")
	for _, want := range []string{"ipip", "remote any local any ttl inherit nopmtudisc", "mtu 1480", ",UP"} {
		if !strings.Contains(link, want) {
			t.Errorf("ip -d link show tunl0 has no %q:\n%s", want, link)
		}
	}
	if addr := run("ip -o -4 addr show tunl0"); !strings.Contains(addr, " "+tunnelOf(t, l, n).String()+"/32 ") {
		t.Errorf("tunl0 has not the address of the annotation %s: %s", tunnelOf(t, l, n), addr)
	}
	if err := mtuIs(pod.NS, "eth0", 1480); err != nil {
		t.Errorf("pod: %v", err)
	}

	ping := pods[0].Ping(pod.V4(), 100*time.Millisecond)
	inner := fmt.Sprintf("IP %s > %s: ICMP echo request", pods[0].V4(), pod.V4())
	shows(t, n.NS, "tunl0", "icmp", "link-type RAW", inner)
	shows(t, n.NS, "eth0", "proto 4", fmt.Sprintf("IP %s > %s: %s", l.Nodes[0].Addr4.Addr(), n.Addr4.Addr(), inner))
	if loss := ping.Stop(); loss.Lost > 0 {
		t.Error(loss)
	}

	for _, underlay := range []int{1400, 1500} {
		if err := l.SetMTU(underlay); err != nil {
			t.Fatal(err)
		}
		l.Within(patience, "tunl0 follows the underlay's MTU", func() error { return mtuIs(n.NS, "tunl0", underlay-20) })
	}
}

// mtuIs checks a device's MTU.
func mtuIs(ns *lab.NS, dev string, want int) error {
	link, err := ns.Run("ip link show " + dev)
	if err == nil && !strings.Contains(link, fmt.Sprintf(" mtu %d ", want)) {
		err = fmt.Errorf("MTU is not %d: %s", want, link)
	}
	return err
}

// lines are a text's, sorted.
func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		out = append(out, strings.TrimSpace(line))
	}
	slices.Sort(out)
	return out
}

// tunnelOf returns the address of a node's annotation, and checks that it is allocated to the node's handle.
func tunnelOf(t *testing.T, l *lab.Lab, n *lab.Node) netip.Addr {
	t.Helper()
	addr, err := netip.ParseAddr(n.Object().Annotations["projectcalico.org/IPv4IPIPTunnelAddr"])
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	l.Within(patience, "tunnel address is allocated to the node", func() error {
		blocks, err := l.Blocks()
		if err != nil {
			return err
		}
		for cidr, b := range blocks {
			for ordinal, index := range b.Spec.Allocations {
				if index == nil || block.AddrAt(cidr, ordinal) != addr {
					continue
				}
				if a := b.Spec.Attributes[*index]; a.HandleID != nil && *a.HandleID == "ipip-tunnel-addr-"+n.Name &&
					a.Secondary["node"] == n.Name && a.Secondary["type"] == "ipipTunnelAddress" {
					return nil
				}
				return errors.New("it is somebody else's")
			}
		}
		return errors.New("nobody has it")
	})
	return addr
}

// TestCrossSubnet: packets between subnets are encapsulated, within one they go as they are.
func TestCrossSubnet(t *testing.T) {
	l, pods := build(t, 3, 2, v3.EncapCrossSubnet) // node2 is in the second subnet
	meet(t, pods, 1480)
	a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	pa, pb, pc := pods[0], pods[1], pods[2]
	table, err := a.NS.Run("ip route")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("%s via %s dev tunl0 proto bird onlink", blockOf(t, l, pb.V4()), b.Addr4.Addr()),
		fmt.Sprintf("%s via %s dev eth0 proto bird", blockOf(t, l, pc.V4()), c.Addr4.Addr()),
	} {
		if !slices.Contains(lines(table), want) {
			t.Errorf("ip route has no %q:\n%s", want, table)
		}
	}
	far, near := pa.Ping(pb.V4(), 100*time.Millisecond), pa.Ping(pc.V4(), 100*time.Millisecond)
	shows(t, a.NS, "eth0", fmt.Sprintf("host %s or host %s and not arp", b.Addr4.Addr(), pc.V4()),
		fmt.Sprintf("IP %s > %s: IP %s > %s: ICMP echo request", a.Addr4.Addr(), b.Addr4.Addr(), pa.V4(), pb.V4()),
		fmt.Sprintf(" IP %s > %s: ICMP echo request", pa.V4(), pc.V4()))
	for _, loss := range lab.Stop(far, near) {
		if loss.Lost > 0 {
			t.Error(loss)
		}
	}
}
