package lab

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddrOf returns the addresses that machine number would have in a node's subnet.
func (n *Node) AddrOf(number int) (v4, v6 netip.Prefix) { return nodeAddrs(n.subnet, 10+number) }

// AddAddrs gives addresses to the machine, beside those that it has.
func (n *Node) AddAddrs(addrs ...netip.Prefix) error {
	var lines []string
	for _, a := range addrs {
		line := "addr add " + a.String() + " dev eth0"
		if a.Addr().Is6() {
			line += " nodad"
		}
		lines = append(lines, line)
	}
	return n.NS.Batch(lines...)
}

// RemoveAddrs takes addresses from the machine. Others of the same subnet stay, as systemd has it set.
func (n *Node) RemoveAddrs(addrs ...netip.Prefix) error {
	if err := n.NS.SetSysctl("net/ipv4/conf/all/promote_secondaries", "1"); err != nil {
		return err
	}
	var lines []string
	for _, a := range addrs {
		lines = append(lines, "addr del "+a.String()+" dev eth0")
	}
	return n.NS.Batch(lines...)
}

// SetGateways sets the default routes anew: the kernel drops them with the last address.
func (n *Node) SetGateways() error {
	gw4, gw6 := nodeAddrs(n.subnet, 1)
	return n.NS.Batch("route replace default via "+gw4.Addr().String(), "route replace default via "+gw6.Addr().String())
}

// SetInternal tells the cluster the machine's addresses as kubelet does, as InternalIPs of the Node object, and has the lab
// take them for the node's own.
func (n *Node) SetInternal(v4, v6 netip.Prefix) error {
	n.Addr4, n.Addr6 = v4, v6
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	nodes := n.lab.Core.CoreV1().Nodes()
	node, err := nodes.Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	node.Status.Addresses = n.addresses()
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

func (n *Node) addresses() (out []corev1.NodeAddress) {
	for _, a := range []netip.Prefix{n.Addr4, n.Addr6} {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.Addr().String()})
	}
	return out
}

// SetMTU sets the MTU of the whole underlay: the machines' devices, and their ports of the fabric. The bridges follow the
// least of their ports.
func (l *Lab) SetMTU(mtu int) error {
	for _, n := range l.Nodes {
		if err := l.Fabric.Batch(fmt.Sprintf("link set n%d mtu %d", n.number, mtu)); err != nil {
			return err
		}
		if err := n.NS.Batch(fmt.Sprintf("link set eth0 mtu %d", mtu)); err != nil {
			return err
		}
	}
	return nil
}
