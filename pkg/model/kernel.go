package model

import (
	"net/netip"
	"strings"
)

// Route protocols by which a restarted agent knows its own routes (linux/rtnetlink.h, Calico's values).
const (
	ProtoBoot   = 3  // pods' routes, Felix's DeviceRouteProtocol default
	ProtoBIRD   = 12 // routes learned by BGP
	ProtoMargay = 80 // tunnel, same-subnet and blackhole routes
)

// RouteKind is the type of a route.
type RouteKind uint8

// Values of RouteKind.
const (
	RouteUnicast RouteKind = iota
	RouteBlackhole
)

// Route is one wanted route of the main table. Dst is its key.
type Route struct {
	Dst    netip.Prefix
	Kind   RouteKind
	Dev    string     // device name; "" for a blackhole
	Via    netip.Addr // next hop; not valid for a route that is directly on the link
	OnLink bool       // the next hop is on Dev's link whatever the routes say
	Proto  int        // ProtoBoot, ProtoBIRD or ProtoMargay
	Others Hops       // further next hops, each as good as the one above
}

// Hop is a next hop of a route.
type Hop struct {
	Dev    string
	Via    netip.Addr
	OnLink bool
}

// Hops is a list of next hops in a form that == compares: "DEVICE ADDRESS onlink " or "DEVICE ADDRESS - " each. Most routes
// have none.
type Hops string

// MakeHops puts a list together, in the order given.
func MakeHops(list []Hop) Hops {
	var out strings.Builder
	for _, h := range list {
		onlink := "-"
		if h.OnLink {
			onlink = "onlink"
		}
		out.WriteString(h.Dev + " " + h.Via.String() + " " + onlink + " ")
	}
	return Hops(out.String())
}

// List takes the list apart.
func (h Hops) List() (out []Hop) {
	words := strings.Fields(string(h))
	for ; len(words) > 2; words = words[3:] {
		if via, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, Hop{Dev: words[0], Via: via, OnLink: words[2] == "onlink"})
		}
	}
	return out
}

// IPIP is the wanted state of the kernel's IPIP device, tunl0.
type IPIP struct {
	Name string     // tunl0
	MTU  int        // bytes
	Addr netip.Addr // its own address, as /32; all other global ones are removed
}

// Neigh is one wanted permanent neighbour entry. Dev and IP are its key.
type Neigh struct {
	Dev string
	IP  netip.Addr
	MAC MAC
}

// FDB is one wanted permanent forwarding entry of a VXLAN device: frames for MAC go to the node at Dst. Dev and MAC are its key.
type FDB struct {
	Dev string
	MAC MAC
	Dst netip.Addr
}

// VXLAN is a wanted VXLAN device, nolearning, up.
type VXLAN struct {
	Name   string // vxlan.calico or vxlan-v6.calico
	VNI    int
	Port   int        // UDP destination port
	Parent string     // the underlay's device
	Local  netip.Addr // the node's address
	MAC    MAC        // see TunnelMAC
	MTU    int        // bytes
	Addr   netip.Addr // its own address, as /32 or /128; all other global ones are removed

	Checksum Checksum // who computes the checksums of what it sends
}

// Checksum says who computes the checksums of packets that leave by a device.
type Checksum string

// Values of Checksum.
const (
	ChecksumAny    Checksum = ""       // whoever does it now
	ChecksumSoft   Checksum = "soft"   // the kernel, before the device sees the packet
	ChecksumDevice Checksum = "device" // hardware, or the device below
)

// Sysctl is one wanted value below /proc/sys.
type Sysctl struct {
	Path  string // such as net/ipv4/conf/cali385152345a1/proxy_arp
	Value string
}

// NAT says how one family's traffic of pods to the outside is masqueraded. The zero value means not at all.
type NAT struct {
	// Sources are the networks whose traffic is masqueraded: pools with natOutgoing. Sorted.
	Sources []netip.Prefix
	// Spared are the destinations that see the pods' own addresses: all pools, and the nodes where it is so configured.
	// Sorted. Single addresses are prefixes of full length.
	Spared []netip.Prefix
	// Address is the source that the outside sees; not valid: that of the device that a packet leaves by.
	Address netip.Addr
	// Ports is the range that source ports are taken from; zero: the kernel's choice.
	Ports PortRange
	// Interface limits masquerading to packets that leave by it; a trailing + stands for any rest; "": all.
	Interface string
	// Tunnels are the devices of ours on which packets of the node itself must carry the device's own address, since
	// their source was chosen before a Service's address was rewritten to a pod's.
	Tunnels []string
	// Floating are addresses by which pods of this node are reached beside their own. Sorted by External, each of which is
	// there once.
	Floating []Floating
}

// Floating is an address that is translated to a pod's own where packets come in. What the pod sends keeps its own
// address as source, but for what it sends to itself by way of External.
type Floating struct{ External, Internal netip.Addr }

// PortRange is a range of TCP, UDP or SCTP ports, both ends included.
type PortRange struct{ Min, Max uint16 }
