package peering

import (
	"cmp"
	"net/netip"

	"github.com/margay-net/margay/pkg/bgp"
)

// link says why a node has a session with another one; the zero value: it has none.
type link struct {
	*peering      // nil in the mesh
	reverse  bool // the peering is seen from its far side
	mesh     bool
}

func (l link) there() bool { return l.mesh || l.peering != nil }

// link finds what node x's session with node y comes from, in one family.
func (b *builder) link(x, y int, six bool) link {
	from, to := b.nodes[x].addr(six), b.nodes[y].addr(six)
	if !from.IsValid() || !to.IsValid() || from == to {
		return link{}
	}
	for _, p := range b.peerings {
		if p.near.has(b.nodes, x) && p.reaches(b.nodes, y, six) {
			return link{peering: p}
		}
	}
	for _, p := range b.peerings {
		if p.returns(b.nodes, x, six) && p.near.has(b.nodes, y) {
			return link{peering: p, reverse: true}
		}
	}
	return link{mesh: b.nodes[x].mesh && b.nodes[y].mesh}
}

// localAS is the AS that the node shows the other one; 0: its own.
func (l link) localAS() uint32 {
	if l.peering == nil || l.reverse || l.spec.LocalASNumber == nil {
		return 0
	}
	return uint32(*l.spec.LocalASNumber)
}

// peer is this node's session with another one.
func (b *builder) peer(y int, six bool, l link) bgp.Peer {
	self, other := &b.nodes[b.self], &b.nodes[y]
	back := b.link(y, b.self, six)
	p := bgp.Peer{Kind: bgp.Node, Address: other.addr(six), Port: other.port, AS: other.as, LocalAS: l.localAS(), LocalAddress: self.addr(six)}
	if as := back.localAS(); as != 0 {
		p.AS = as
	}
	// Calico's nodes compare the texts, too.
	p.Passive = back.there() && p.Address.String() > p.LocalAddress.String()
	if l.mesh {
		p.Kind = bgp.Mesh
		return p
	}
	if !l.reverse {
		if l.global {
			p.Kind = bgp.Global
		}
		if l.port != 0 {
			p.Port = l.port
		}
		if l.as != 0 && l.as != p.AS && p.Port == other.port {
			b.fault("BGPPeer", l.name, "spec.asNumber %d is not that of node %s, whose address spec.peerIP %s is: leave it out, or set it to %d", l.as, other.name, p.Address, p.AS)
		}
		if l.as != 0 {
			p.AS = l.as
		}
	}
	return p
}

// reflect makes the peer our client if we are a route reflector, unless it is one of the same cluster.
func (b *builder) reflect(p *bgp.Peer, cluster netip.Addr) {
	if own := b.nodes[b.self].cluster; own.IsValid() && own != cluster && b.internal(p) {
		p.Client, p.ClusterID = true, own
	}
}

// internal says whether the session is one within an AS.
func (b *builder) internal(p *bgp.Peer) bool {
	return p.AS == cmp.Or(p.LocalAS, b.nodes[b.self].as)
}
