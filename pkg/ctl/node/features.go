package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// features are tried in this order, each in a fresh network namespace.
func features() []feature {
	return []feature{
		{name: "veth", try: tryVeth},
		{name: "vxlan", try: tryVXLAN},
		{name: "vxlan IPv6", need: "IPv6", try: tryVXLAN6},
		{name: "routes, neighbours", try: tryRoutes},
		{name: "sysctls", try: trySysctls},
		{name: "nftables", try: func() error { return tryNFT(nftables.TableFamilyIPv4) }},
		{name: "nftables IPv6", need: "natOutgoing of IPv6", try: func() error { return tryNFT(nftables.TableFamilyIPv6) }},
		{name: "iptables", need: "a FORWARD chain that drops, or nftablesMode Disabled,", try: func() error { return tryProgram("iptables") }},
		{name: "conntrack", need: "flushing of old connections", try: tryConntrack},
		{name: "ipip", need: "ipipMode", try: func() error { return tryLink("ipip") }},
		{name: "wireguard", need: "encryption", try: func() error { return tryLink("wireguard") }},
	}
}

const (
	host = "cali0"
	pod  = "pod0"
)

// tryVeth makes a pair with a fixed address on one side, as pods have.
func tryVeth() error {
	la := netlink.NewLinkAttrs()
	la.Name, la.HardwareAddr = host, net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: pod})
}

func tryVXLAN() error  { return vxlan(net.IPv4(127, 0, 0, 1)) }
func tryVXLAN6() error { return vxlan(net.IPv6loopback) }

func vxlan(local net.IP) error {
	la := netlink.NewLinkAttrs()
	la.Name = "vxlan0"
	if err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: la, VxlanId: 4096, Port: 4789, SrcAddr: local}); err != nil {
		return err
	}
	l, err := netlink.LinkByName(la.Name)
	if err != nil {
		return err
	}
	return netlink.NeighAppend(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: local, HardwareAddr: net.HardwareAddr{0x66, 1, 2, 3, 4, 5},
	})
}

// tryRoutes makes a blackhole, a pod's route, an onlink route and a permanent neighbour.
func tryRoutes() error {
	if err := tryVeth(); err != nil {
		return err
	}
	l, err := netlink.LinkByName(host)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return err
	}
	index := l.Attrs().Index
	dst := func(cidr string) *net.IPNet { _, n, _ := net.ParseCIDR(cidr); return n } // constants
	hop := net.IPv4(192, 0, 2, 9)
	return errors.Join(
		netlink.RouteReplace(&netlink.Route{Dst: dst("192.0.2.64/26"), Type: unix.RTN_BLACKHOLE, Protocol: 80}),
		netlink.RouteReplace(&netlink.Route{Dst: dst("192.0.2.65/32"), LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_BOOT}),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: index, IP: hop, State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{0x66, 1, 2, 3, 4, 5}}),
		netlink.AddrAdd(l, &netlink.Addr{IPNet: dst("192.0.2.1/32")}),
		netlink.RouteReplace(&netlink.Route{Dst: dst("192.0.2.128/26"), Gw: hop, LinkIndex: index, Flags: int(netlink.FLAG_ONLINK), Protocol: 80}),
	)
}

// trySysctls sets those that pods' interfaces need. /proc/sys/net shows those of the thread's own namespace.
func trySysctls() error {
	if err := tryVeth(); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{
		"ip_forward", "conf/" + host + "/proxy_arp", "conf/" + host + "/forwarding", "conf/" + host + "/route_localnet", "conf/" + host + "/rp_filter",
	} {
		errs = append(errs, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte("1"), 0))
	}
	return errors.Join(errs...)
}

// tryNFT makes a table with a set and a chain that masquerades.
func tryNFT(family nftables.TableFamily) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: "margay-try", Family: family})
	kind := nftables.TypeIPAddr
	if family == nftables.TableFamilyIPv6 {
		kind = nftables.TypeIP6Addr
	}
	if err := c.AddSet(&nftables.Set{Table: t, Name: "s", KeyType: kind, Interval: true}, nil); err != nil {
		return err
	}
	chain := c.AddChain(&nftables.Chain{
		Name: "c", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Masq{}}})
	return c.Flush()
}

func tryProgram(name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("program %s is not installed", name)
	}
	return exec.Command(path, "-w", "-t", "filter", "-S").Run()
}

func tryConntrack() error {
	_, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	return err
}

// tryLink makes a device of a kind without any settings.
func tryLink(kind string) error {
	la := netlink.NewLinkAttrs()
	la.Name = "try0"
	var l netlink.Link = &netlink.GenericLink{LinkAttrs: la, LinkType: kind}
	if kind == "ipip" {
		l = &netlink.Iptun{LinkAttrs: la, Local: net.IPv4(192, 0, 2, 1), Remote: net.IPv4(192, 0, 2, 2)}
	}
	return netlink.LinkAdd(l)
}
