package plugin

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a person sees who looks into a pod and at its host side.

var (
	nodeAddrs = []netip.Prefix{netip.MustParsePrefix("192.168.10.11/24"), netip.MustParsePrefix("fd00:10::11/64")}
	peerAddrs = []netip.Prefix{netip.MustParsePrefix("192.168.10.12/24"), netip.MustParsePrefix("fd00:10::12/64")}
)

// dualPod makes a lab with one pod of both families.
func dualPod(t *testing.T) (*lab, *ns) {
	l, pod := newLab(t), newNS(t)
	l.agent.addrs = []netip.Addr{pod4, pod6}
	l.add(call{id: "c1", pod: "web", netns: pod.path})
	return l, pod
}

func TestWalkthrough3PodInterface(t *testing.T) {
	_, pod := dualPod(t)
	eth0 := pod.link(t, "eth0")
	if eth0.Attrs().MTU != 1450 || eth0.Attrs().Flags&net.FlagUp == 0 || eth0.Attrs().OperState != netlink.OperUp {
		t.Errorf("eth0: mtu %d, flags %s, state %s", eth0.Attrs().MTU, eth0.Attrs().Flags, eth0.Attrs().OperState)
	}
	addrs, err := pod.nl.AddrList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		if a.Scope == int(netlink.SCOPE_UNIVERSE) {
			got = append(got, a.IPNet.String())
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("%s is tentative", a.IPNet)
			}
		}
	}
	if fmt.Sprint(got) != "[172.20.239.130/32 fd00:20::239:130/128]" {
		t.Errorf("addresses %v", got)
	}
}

func TestWalkthrough3PodRoutes(t *testing.T) {
	_, pod := dualPod(t)
	routes := func(family int) (got []string) {
		list, err := pod.nl.RouteList(pod.link(t, "eth0"), family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Dst.IP.IsLinkLocalUnicast() && family == netlink.FAMILY_V6 {
				continue // the kernel's own
			}
			got = append(got, fmt.Sprintf("%s via %v scope %s", r.Dst, r.Gw, r.Scope))
		}
		return got
	}
	want4 := "[0.0.0.0/0 via 169.254.1.1 scope universe 169.254.1.1/32 via <nil> scope link]"
	if got := fmt.Sprint(routes(netlink.FAMILY_V4)); got != want4 {
		t.Errorf("IPv4 routes\n got %s\nwant %s", got, want4)
	}
	want6 := "[fd00:20::239:130/128 via <nil> scope universe ::/0 via fe80::ecee:eeff:feee:eeee scope universe]"
	if got := fmt.Sprint(routes(netlink.FAMILY_V6)); got != want6 {
		t.Errorf("IPv6 routes\n got %s\nwant %s", got, want6)
	}
}

// Better than there: the gateway's entry is permanent, so that the first packet waits for nobody's answer.
func TestWalkthrough3PodNeighbours(t *testing.T) {
	_, pod := dualPod(t)
	for family, gw := range map[int]string{netlink.FAMILY_V4: "169.254.1.1", netlink.FAMILY_V6: "fe80::ecee:eeff:feee:eeee"} {
		neighs, err := pod.nl.NeighList(pod.link(t, "eth0").Attrs().Index, family)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range neighs {
			if n.State != netlink.NUD_NOARP {
				got = append(got, fmt.Sprintf("%s %s %#x", n.IP, n.HardwareAddr, n.State))
			}
		}
		if want := fmt.Sprintf("[%s ee:ee:ee:ee:ee:ee %#x]", gw, netlink.NUD_PERMANENT); fmt.Sprint(got) != want {
			t.Errorf("neighbours %v, want %s", got, want)
		}
	}
}

func TestWalkthrough3HostSide(t *testing.T) {
	l, pod := dualPod(t)
	const name = "cali68caf03a5f4" // sha1 of default.web
	veth := l.node.link(t, name)
	a := veth.Attrs()
	if a.HardwareAddr.String() != "ee:ee:ee:ee:ee:ee" || a.MTU != 1450 || a.Flags&net.FlagUp == 0 {
		t.Errorf("%s: %s, mtu %d, flags %s", name, a.HardwareAddr, a.MTU, a.Flags)
	}
	if a.ParentIndex != pod.link(t, "eth0").Attrs().Index {
		t.Errorf("%s is not the other side of eth0", name)
	}
	addrs, err := l.node.nl.AddrList(veth, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].IP.String() != "fe80::ecee:eeff:feee:eeee" || addrs[0].Flags&unix.IFA_F_TENTATIVE != 0 {
		t.Errorf("host side has addresses %v, want the gateway's link-local one alone and usable", addrs)
	}
	if err := l.node.do(func() error {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/proxy_arp")
		if err == nil && strings.TrimSpace(string(b)) != "1" {
			err = fmt.Errorf("proxy_arp is %s", b)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// A node without a default gateway, where proxy ARP for 169.254.1.1 has no answer, and one with: pods reach the node, the
// other node behind it, and are reached, all with their first packet.
func TestWalkthrough3Packets(t *testing.T) {
	for _, gateway := range []bool{false, true} {
		t.Run(fmt.Sprintf("default gateway %t", gateway), func(t *testing.T) {
			l, pod, peer := newLab(t), newNS(t), newNS(t)
			l.agent.addrs = []netip.Addr{pod4, pod6}
			wireUp(t, l.node, peer)
			if gateway {
				addRoutes(t, l.node, "uplink", netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
			}
			addRoutes(t, peer, "uplink", hostPrefix(pod4), hostPrefix(pod6))
			l.add(call{id: "c1", pod: "web", netns: pod.path})
			echo(t, pod, pod6, l.node)
			echo(t, pod, pod4, l.node)
			for _, to := range [][]netip.Prefix{nodeAddrs, peerAddrs} {
				for _, p := range to {
					server := l.node
					if to[0] == peerAddrs[0] {
						server = peer
					}
					echo(t, server, p.Addr(), pod)
				}
			}
		})
	}
}

// wireUp joins node and peer by a pair named uplink on both ends, with the addresses of both families.
func wireUp(t *testing.T, node, peer *ns) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "uplink", netlink.NsFd(peer.fd)
	if err := node.nl.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	for n, addrs := range map[*ns][]netip.Prefix{node: nodeAddrs, peer: peerAddrs} {
		link := n.link(t, "uplink")
		n.sysctl(t, "net/ipv6/conf/uplink/accept_dad", "0") // a node's uplink is long past that
		for _, p := range addrs {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
			if p.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := n.nl.AddrAdd(link, addr); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.nl.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	for n, addr := range map[*ns]netip.Addr{node: nodeAddrs[1].Addr(), peer: peerAddrs[1].Addr()} {
		if err := await("uplink", func() (bool, error) { return local(n.nl, n.link(t, "uplink"), addr) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		node.sysctl(t, "net/"+family+"/conf/all/forwarding", "1")
	}
}

// addRoutes sends the prefixes to the other end of the uplink.
func addRoutes(t *testing.T, n *ns, dev string, dsts ...netip.Prefix) {
	t.Helper()
	via := nodeAddrs
	if addrs, _ := n.nl.AddrList(n.link(t, dev), netlink.FAMILY_V4); addrs[0].IP.String() == nodeAddrs[0].Addr().String() {
		via = peerAddrs
	}
	for _, dst := range dsts {
		gw := via[0].Addr()
		if dst.Addr().Is6() {
			gw = via[1].Addr()
		}
		if err := n.nl.RouteAdd(&netlink.Route{LinkIndex: n.link(t, dev).Attrs().Index, Dst: ipNet(dst), Gw: gw.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
}

// echo sends one datagram from client to addr on server and waits for it to come back.
func echo(t *testing.T, server *ns, addr netip.Addr, client *ns) {
	t.Helper()
	var listener *net.UDPConn
	if err := server.do(func() (err error) {
		listener, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	}); err != nil {
		t.Fatalf("listen on %s: %v", addr, err)
	}
	defer listener.Close()
	go func() {
		b := make([]byte, 64)
		if n, from, err := listener.ReadFromUDP(b); err == nil {
			listener.WriteToUDP(b[:n], from)
		}
	}()
	err := client.do(func() error {
		conn, err := net.DialUDP("udp", nil, listener.LocalAddr().(*net.UDPAddr))
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Write([]byte("first packet")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		return err
	})
	if err != nil {
		t.Errorf("no answer from %s: %v", addr, err)
	}
}
