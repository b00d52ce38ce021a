package model

import "net/netip"

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
}

// Sysctl is one wanted value below /proc/sys.
type Sysctl struct {
	Path  string // such as net/ipv4/conf/cali385152345a1/proxy_arp
	Value string
}
