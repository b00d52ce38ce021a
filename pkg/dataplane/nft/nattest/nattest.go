// Package nattest gives tests of masquerading and forwarding a small network of namespaces: a node with a pod, and two
// hosts behind it, in both families.
//
//	pod ──cali1── node ──eth0── outside
//	172.20.0.2      │    192.0.2.0/24, 2001:db8:1::/64
//	fd00:20::2      └────eth1── far
//	                     198.51.100.0/24, 2001:db8:2::/64
//
// The node is .1 and ::1 on its links, the hosts are .2 and ::2. They have routes to the pods by the node, so that a packet
// that is not masqueraded finds its way, too. Hosts tell who they see: that is what the tests look at.
package nattest

import (
	"testing"

	vnl "github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// Host is a namespace with servers of its own.
type Host struct {
	*nstest.NS
	conn *netlink.Conn
}

// Lab is the network.
type Lab struct {
	Node              *nstest.NS
	Pod, Outside, Far *Host
	Conn              *netlink.Conn // of the node
}

// Addresses of the lab, of each family in the order of Families.
var (
	PodAddr     = [2]string{"172.20.0.2", "fd00:20::2"}
	NodeAddr    = [2]string{"192.0.2.1", "2001:db8:1::1"}    // on eth0
	NodeFar     = [2]string{"198.51.100.1", "2001:db8:2::1"} // on eth1
	OutsideAddr = [2]string{"192.0.2.2", "2001:db8:1::2"}
	FarAddr     = [2]string{"198.51.100.2", "2001:db8:2::2"}
	// Second addresses of outside, in the pods' network and in none.
	RemotePod = [2]string{"172.20.9.9", "fd00:20::9:9"}
	Other     = [2]string{"203.0.113.5", "2001:db8:99::5"}
)

// Families are the names of the families, by their index in this package's variables.
var Families = [2]string{"IPv4", "IPv6"}

// New makes a lab. Outside and far answer on Port.
func New(tb testing.TB) *Lab {
	tb.Helper()
	l := &Lab{Node: newNS(tb), Pod: newHost(tb), Outside: newHost(tb), Far: newHost(tb)}
	l.Conn = l.Node.Conn(tb)
	Link(tb, l.Node, "cali1", l.Pod.NS, "eth0")
	Link(tb, l.Node, "eth0", l.Outside.NS, "eth0")
	Link(tb, l.Node, "eth1", l.Far.NS, "eth0")
	l.Node.Write(tb, "/proc/sys/net/ipv4/ip_forward", "1")
	l.Node.Write(tb, "/proc/sys/net/ipv6/conf/all/forwarding", "1")
	l.Node.Exec(tb,
		"ip addr add 192.0.2.1/24 dev eth0", "ip addr add 2001:db8:1::1/64 dev eth0 nodad",
		"ip addr add 198.51.100.1/24 dev eth1", "ip addr add 2001:db8:2::1/64 dev eth1 nodad",
		"ip addr add 169.254.1.1/32 dev cali1", "ip addr add fe80::1/64 dev cali1 nodad",
		"ip route add 172.20.0.2 dev cali1", "ip route add fd00:20::2 dev cali1",
		"ip route add 172.20.0.0/16 via 192.0.2.2", "ip route add fd00:20::/64 via 2001:db8:1::2",
		"ip route add 203.0.113.0/24 via 192.0.2.2", "ip route add 2001:db8:99::/64 via 2001:db8:1::2")
	l.Pod.Exec(tb, "ip addr add 172.20.0.2/32 dev eth0", "ip addr add fd00:20::2/128 dev eth0 nodad",
		"ip route add 169.254.1.1 dev eth0", "ip route add default via 169.254.1.1", "ip route add default via fe80::1 dev eth0")
	l.Outside.Exec(tb, "ip addr add 192.0.2.2/24 dev eth0", "ip addr add 2001:db8:1::2/64 dev eth0 nodad",
		"ip addr add 172.20.9.9/32 dev lo", "ip addr add fd00:20::9:9/128 dev lo nodad",
		"ip addr add 203.0.113.5/32 dev lo", "ip addr add 2001:db8:99::5/128 dev lo nodad",
		"ip route add default via 192.0.2.1", "ip route add default via 2001:db8:1::1")
	l.Far.Exec(tb, "ip addr add 198.51.100.2/24 dev eth0", "ip addr add 2001:db8:2::2/64 dev eth0 nodad",
		"ip route add default via 198.51.100.1", "ip route add default via 2001:db8:2::1")
	l.Outside.serve(tb)
	l.Far.serve(tb)
	for i := range Families {
		l.Pod.Reach(tb, OutsideAddr[i])
		l.Pod.Reach(tb, FarAddr[i])
	}
	return l
}

// NewHost makes a host that has nothing yet, but answers on Port.
func NewHost(tb testing.TB) *Host {
	tb.Helper()
	h := newHost(tb)
	h.serve(tb)
	return h
}

func newHost(tb testing.TB) *Host { return hostOf(tb, newNS(tb)) }

// newNS makes a namespace in which IPv6 addresses can be used at once.
func newNS(tb testing.TB) *nstest.NS {
	tb.Helper()
	n := nstest.New(tb)
	n.Write(tb, "/proc/sys/net/ipv6/conf/default/accept_dad", "0")
	return n
}

// Link connects two namespaces by devices that are up.
func Link(tb testing.TB, a *nstest.NS, dev string, b *nstest.NS, peer string) {
	tb.Helper()
	h, err := vnl.NewHandleAt(a.Handle)
	if err != nil {
		tb.Fatal(err)
	}
	defer h.Close()
	attrs := vnl.NewLinkAttrs()
	attrs.Name = dev
	if err := h.LinkAdd(&vnl.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: vnl.NsFd(b.Handle)}); err != nil {
		tb.Fatalf("link %s to %s: %v", dev, peer, err)
	}
	a.Exec(tb, "ip link set "+dev+" up")
	b.Exec(tb, "ip link set "+peer+" up")
}

// hostOf makes a host of a namespace: it can ask, but does not answer.
func hostOf(tb testing.TB, n *nstest.NS) *Host {
	tb.Helper()
	return &Host{NS: n, conn: n.Conn(tb)}
}

// KubeProxy makes the node a table as kube-proxy has one: with it, the kernel tracks connections, and translates those that
// it has begun to translate, whatever else there is.
func (l *Lab) KubeProxy(tb testing.TB) {
	tb.Helper()
	for _, family := range []string{"ip ", "ip6 "} {
		l.Node.Exec(tb, "nft add table "+family+"kube-proxy", "nft add chain "+family+"kube-proxy post { type nat hook postrouting priority 100 ; }",
			"nft add rule "+family+"kube-proxy post meta mark 0x4000 masquerade")
	}
}
