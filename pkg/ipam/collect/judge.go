package collect

import (
	"net/netip"
	"slices"
)

// Why says why an address is left over; "" when it is not.
type Why string

// Values of Why.
const (
	PodGone      Why = "its pod does not exist"
	PodElsewhere Why = "its pod is a later one of the same name"
	PodEvicted   Why = "its pod was evicted"
	PodOtherAddr Why = "its pod has other addresses"
	NodeGone     Why = "its node does not exist"
	TunnelMoved  Why = "its node's tunnel has another address"
)

// Judge says why an allocation of a pod or tunnel is left over. node is nil when there is no such node. pod looks a pod
// up; one that is bound to another node than the allocation names may as well be missing in it.
func Judge(a *Alloc, addr netip.Addr, node *Node, pod func(PodKey) (PodState, bool)) Why {
	switch {
	case a.Released != 0 || a.Handle == "":
		return ""
	case a.Kind.Tunnel():
		return judgeTunnel(a, addr, node)
	case a.Kind != Pod:
		return ""
	}
	p, ok := pod(PodKey{a.Namespace, a.Name})
	switch {
	case !ok:
		return PodGone
	case p.Node != a.Node && a.Node != NameOf(""):
		return PodElsewhere
	case p.Evicted:
		return PodEvicted
	case len(p.Addrs) == 0 || slices.Contains(p.Addrs, addr):
		return ""
	}
	return PodOtherAddr
}

func judgeTunnel(a *Alloc, addr netip.Addr, node *Node) Why {
	if a.Node == NameOf("") {
		return "" // nobody can say whose it is
	}
	if node == nil {
		return NodeGone
	}
	// A node that says nothing, as before its agent's first start, keeps what it has.
	if now := node.Tunnels[a.Kind-TunnelIPIP]; now.IsValid() && now != addr {
		return TunnelMoved
	}
	return ""
}
