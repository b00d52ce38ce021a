package model

import "net/netip"

// BGPNode is what BGP must know of a node beside its addresses.
type BGPNode struct {
	Labels    map[string]string // as selectors see them
	AS        uint32            // annotation projectcalico.org/ASNumber; 0: BGPConfiguration's
	ClusterID netip.Addr        // annotation projectcalico.org/RouteReflectorClusterID: it is a route reflector
}

// BGPKind is a kind of object that sessions follow from.
type BGPKind int

// Values of BGPKind, and their number.
const (
	BGPConfigurations BGPKind = iota
	BGPPeers
	BGPFilters
	BGPNodes
	BGPKinds
)
