package peering

import (
	"cmp"
	"net/netip"
	"slices"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/selector"
)

// peering is a BGPPeer, taken apart.
type peering struct {
	name   string
	spec   *v3.BGPPeerSpec
	global bool // on the near side are all nodes
	auto   bool // the far side has the session, too
	near   side
	far    *side              // nil: addr is the far side
	pods   *selector.Selector // on the far side are these pods of the node, and no nodes
	addr   netip.Addr
	port   uint16 // of addr; 0: the usual one
	as     uint32 // of addr; 0: that of the node with this address
}

// side is a set of nodes.
type side struct {
	all  bool
	node string // just this one
	sel  *selector.Selector
	memo []int8 // of sel by node: 1 in, -1 not, 0 not asked yet
}

func (s *side) has(nodes []node, i int) bool {
	switch {
	case s.all:
		return true
	case s.sel == nil:
		return nodes[i].name == s.node
	}
	if s.memo == nil {
		s.memo = make([]int8, len(nodes))
	}
	if s.memo[i] == 0 {
		s.memo[i] = -1
		if s.sel.Matches(nodes[i].labels) {
			s.memo[i] = 1
		}
	}
	return s.memo[i] > 0
}

// readPeers reads the BGPPeers that have this node on one of their sides, those of all nodes first, then by name.
func (b *builder) readPeers() {
	for name, spec := range b.peers {
		if p := b.readPeer(name, spec); p != nil && b.self >= 0 && p.concerns(b.nodes, b.self) {
			b.peerings = append(b.peerings, p)
		}
	}
	slices.SortFunc(b.peerings, func(x, y *peering) int {
		if x.global != y.global {
			if x.global {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.name, y.name)
	})
}

// readPeer takes a BGPPeer apart; nil when it can be no session of this node.
func (b *builder) readPeer(name string, spec *v3.BGPPeerSpec) *peering {
	p := &peering{name: name, spec: spec, auto: spec.ReversePeering == nil || *spec.ReversePeering != v3.ReverseManual}
	bad := func(format string, args ...any) { b.fault("BGPPeer", name, format, args...) }
	switch {
	case spec.Node != "" && spec.NodeSelector != "":
		bad("spec.node and spec.nodeSelector cannot both be set: use one of them, or none for all nodes")
		return nil
	case spec.NodeSelector != "":
		sel, err := b.selectors.Parse(spec.NodeSelector)
		if err != nil {
			bad("spec.nodeSelector does not parse, so no node has this session: %v", err)
			return nil
		}
		p.near = side{sel: sel}
	default:
		p.global = spec.Node == ""
		p.near = side{all: p.global, node: spec.Node}
	}
	here := b.self >= 0 && p.near.has(b.nodes, b.self)
	switch {
	case spec.LocalWorkloadSelector != "":
		return b.readPods(p, here, bad)
	case spec.PeerSelector != "" && spec.PeerIP != "":
		bad("spec.peerIP and spec.peerSelector cannot both be set: use peerIP for a router, peerSelector for nodes of this cluster")
		return nil
	case spec.PeerSelector != "":
		sel, err := b.selectors.Parse(spec.PeerSelector)
		if err != nil {
			if here {
				bad("spec.peerSelector does not parse, so there is no session: %v", err)
			}
			return nil
		}
		p.far = &side{sel: sel}
		return p
	}
	if !p.readAddr() {
		if here {
			bad("spec.peerIP %q is no address: write it such as 192.168.42.1, 192.168.42.1:1790, fd00::1 or [fd00::1]:1790", spec.PeerIP)
		}
		return nil
	}
	return p
}

// readPods reads localWorkloadSelector and what belongs to it; nil when it can be no session of this node.
func (b *builder) readPods(p *peering, here bool, bad func(format string, args ...any)) *peering {
	sel, err := b.selectors.Parse(p.spec.LocalWorkloadSelector)
	switch {
	case !here:
		return nil
	case err != nil:
		bad("spec.localWorkloadSelector does not parse, so there is no session: %v", err)
		return nil
	case p.spec.PeerIP != "" || p.spec.PeerSelector != "":
		bad("spec.localWorkloadSelector cannot be set beside spec.peerIP or spec.peerSelector: make a BGPPeer of its own for the pods")
		return nil
	case p.spec.ASNumber == nil || *p.spec.ASNumber == 0:
		bad("spec.asNumber is missing: set it to the AS of the pods that spec.localWorkloadSelector selects")
		return nil
	}
	p.pods, p.far, p.as = sel, &side{}, uint32(*p.spec.ASNumber)
	return p
}

// readAddr reads peerIP and what belongs to it.
func (p *peering) readAddr() bool {
	if a, err := netip.ParseAddr(p.spec.PeerIP); err == nil {
		p.addr = a.Unmap()
	} else if ap, err := netip.ParseAddrPort(p.spec.PeerIP); err == nil && ap.Port() != 0 {
		p.addr, p.port = ap.Addr().Unmap(), ap.Port()
	} else {
		return false
	}
	if p.spec.ASNumber != nil {
		p.as = uint32(*p.spec.ASNumber)
	}
	return !p.addr.IsUnspecified() && !p.addr.IsMulticast()
}

func (p *peering) concerns(nodes []node, i int) bool {
	return p.near.has(nodes, i) || p.reaches(nodes, i, false) || p.reaches(nodes, i, true)
}

// reaches says whether a node is on the far side.
func (p *peering) reaches(nodes []node, i int, six bool) bool {
	if p.far != nil {
		return p.far.has(nodes, i)
	}
	return nodes[i].addr(six) == p.addr
}

// returns says whether a node on the far side has its half of the session by itself. One whose AS or port is not what
// the BGPPeer says is taken for something else that lives at the node's address.
func (p *peering) returns(nodes []node, i int, six bool) bool {
	if !p.auto || !p.reaches(nodes, i, six) {
		return false
	}
	return p.far != nil || (p.as == 0 || p.as == nodes[i].as) && (p.port == 0 || p.port == nodes[i].port)
}
