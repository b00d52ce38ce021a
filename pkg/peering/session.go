package peering

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
)

// What BGP and TCP can take.
const (
	maxRestartTime = 4095 * time.Second // RFC 4724
	maxPassword    = 80                 // bytes; RFC 2385 as Linux has it
)

// neighbors fills in the sessions and the filters that they need.
func (b *builder) neighbors() {
	if b.self < 0 {
		return
	}
	taken := map[netip.Addr]bool{}
	for _, six := range []bool{false, true} {
		for y := range b.nodes {
			if y == b.self || b.byAddr[b.nodes[y].addr(six)] != y {
				continue
			}
			l := b.link(b.self, y, six)
			if !l.there() {
				continue
			}
			p := b.peer(y, six, l)
			taken[p.Address] = true
			if l.mesh {
				b.addMesh(p)
				continue
			}
			b.reflect(&p, b.nodes[y].cluster)
			// Both ends of a session that a reflector is part of tell all paths, for Services that several nodes announce.
			p.AddPaths = b.internal(&p) && (b.nodes[b.self].cluster.IsValid() || b.nodes[y].cluster.IsValid())
			b.add(p, l.peering)
		}
	}
	b.routers(taken)
	b.workloads(taken)
	b.lonely()
	slices.SortFunc(b.out.Peers, func(x, y bgp.Peer) int { return x.Address.Compare(y.Address) })
}

// routers adds the sessions with what is no node.
func (b *builder) routers(taken map[netip.Addr]bool) {
	self := &b.nodes[b.self]
	first := map[netip.Addr]*peering{}
	for _, p := range b.peerings {
		if p.far != nil || !p.near.has(b.nodes, b.self) || p.addr == self.addr4 || p.addr == self.addr6 {
			continue
		}
		if taken[p.addr] {
			if f := first[p.addr]; f != nil && f.port != p.port {
				b.fault("BGPPeer", p.name, "spec.peerIP %s has no session, since BGPPeer %s has one with this address on another port, and there can be one per address: delete one of them", p.spec.PeerIP, f.name)
			}
			continue
		}
		own := self.addr(p.addr.Is6())
		if !own.IsValid() {
			b.fault("BGPPeer", p.name, "spec.peerIP %s has no session with node %s, which has no address of this family: give it one (IP, IP6), or leave it out with spec.nodeSelector", p.addr, self.name)
			continue
		}
		taken[p.addr], first[p.addr] = true, p
		out := bgp.Peer{Kind: bgp.Node, Address: p.addr, Port: p.port, AS: p.as, LocalAS: link{peering: p}.localAS(), LocalAddress: own}
		if p.global {
			out.Kind = bgp.Global
		}
		if p.as == 0 {
			b.fault("BGPPeer", p.name, "spec.asNumber is missing, and %s is no node's address: set it to the AS of the router", p.addr)
		}
		if p.addr.Zone() != "" {
			b.fault("BGPPeer", p.name, "spec.peerIP %s is a link-local address, which is not supported: use the router's global address", p.addr)
		}
		b.reflect(&out, netip.Addr{})
		b.add(out, p)
	}
}

// workloads adds the sessions with pods of this node. The pods open them, to the node's address on their devices.
func (b *builder) workloads(taken map[netip.Addr]bool) {
	for _, p := range b.peerings {
		if p.pods == nil {
			continue
		}
		missing := map[bool]bool{}
		for _, w := range b.in.Workloads {
			if !p.pods.Matches(w.Labels) {
				continue
			}
			for _, a := range w.Addrs {
				if !peeringAddr(&b.conf, a.Is6()).IsValid() {
					missing[a.Is6()] = true
				} else if !taken[a] {
					taken[a] = true
					out := bgp.Peer{Kind: bgp.Node, Address: a, AS: p.as, LocalAS: link{peering: p}.localAS(), Passive: true}
					if p.global {
						out.Kind = bgp.Global
					}
					b.add(out, p)
				}
			}
		}
		for six := range missing {
			field := map[bool]string{false: "localWorkloadPeeringIPV4", true: "localWorkloadPeeringIPV6"}[six]
			b.fault("BGPPeer", p.name, "spec.localWorkloadSelector selects pods that have no session, since they have no address of the node to connect to: set spec.%s of BGPConfiguration default", field)
		}
	}
}

// peeringAddr is the node's address for its pods' sessions; not valid: there is none of this family.
func peeringAddr(c *v3.BGPConfigurationSpec, six bool) netip.Addr {
	text := c.LocalWorkloadPeeringIPV4
	if six {
		text = c.LocalWorkloadPeeringIPV6
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is6() != six {
		return netip.Addr{}
	}
	return a
}

// PeeringAddr is the address that this node has on the device of a pod with which it has a session; not valid: none of this family.
func (d *Directory) PeeringAddr(self string, six bool) netip.Addr {
	c := d.Config(self)
	return peeringAddr(&c, six)
}

// WithPods says whether any BGPPeer is about sessions with pods.
func (d *Directory) WithPods() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.peers {
		if p.LocalWorkloadSelector != "" {
			return true
		}
	}
	return false
}

// lonely notes which BGPPeers select nodes, but none that a session is possible with. One that has just joined has no address
// for a moment, which is nothing to tell of.
func (b *builder) lonely() {
	self := &b.nodes[b.self]
	for _, p := range b.peerings {
		if p.far == nil || !p.near.has(b.nodes, b.self) {
			continue
		}
		first, meets := "", false
		for y := range b.nodes {
			n := &b.nodes[y]
			if y == b.self || !p.far.has(b.nodes, y) {
				continue
			}
			meets = meets || n.addr4.IsValid() && self.addr4.IsValid() || n.addr6.IsValid() && self.addr6.IsValid()
			if first == "" || n.name < first {
				first = n.name
			}
		}
		if first != "" && !meets {
			b.fault("BGPPeer", p.name, "spec.peerSelector selects nodes such as %s, of which none has an address of a family that this node has: see that their agents run, and what IP and IP6 say", first)
		}
	}
}

// addMesh completes a session of the mesh.
func (b *builder) addMesh(p bgp.Peer) {
	if !b.usePassword(&p, b.conf.NodeMeshPassword, "BGPConfiguration", defaultName, "spec.nodeMeshPassword", "the mesh has no sessions until then") {
		return
	}
	if t := b.conf.NodeMeshMaxRestartTime; t != nil {
		if p.RestartTime = t.Duration.Round(time.Second); p.RestartTime > maxRestartTime {
			b.fault("BGPConfiguration", defaultName, "spec.nodeMeshMaxRestartTime %s is more than BGP can tell, and counts as %s: set it to that at most", t.Duration, maxRestartTime)
			p.RestartTime = maxRestartTime
		}
	}
	b.out.Peers = append(b.out.Peers, p)
}

// add completes a session that a BGPPeer makes.
func (b *builder) add(out bgp.Peer, p *peering) {
	s := p.spec
	if !b.usePassword(&out, s.Password, "BGPPeer", p.name, "spec.password", "there is no session until then") {
		return
	}
	if s.SourceAddress == v3.SourceNone {
		out.LocalAddress = netip.Addr{}
	}
	b.nextHop(&out, p)
	if s.TTLSecurity != nil {
		out.TTLSecurity = *s.TTLSecurity
	}
	if n := s.NumAllowedLocalASNumbers; n != nil {
		out.AllowOwnAS = uint8(min(max(*n, 0), math.MaxUint8))
	}
	if t := s.MaxRestartTime; t != nil {
		if out.RestartTime = t.Duration.Round(time.Second); out.RestartTime > maxRestartTime {
			b.fault("BGPPeer", p.name, "spec.maxRestartTime %s is more than BGP can tell: set it to %s at most", t.Duration, maxRestartTime)
		}
	}
	if t := s.KeepaliveTime; t != nil {
		hold := cmp.Or(b.in.Hold, bgp.DefaultHold)
		if out.Keepalive = t.Duration.Round(time.Second); out.Keepalive <= 0 || out.Keepalive >= hold {
			b.fault("BGPPeer", p.name, "spec.keepaliveTime %s is not used: set it to at least 1s, and less than the hold time of %s (CALICO_BGP_HOLD_TIME)", t.Duration, hold)
			out.Keepalive = 0
		}
	}
	b.useFilters(&out, p)
	b.gateway(&out, p)
	b.out.Peers = append(b.out.Peers, out)
}

// nextHop says which next hop the peer is told; keepOriginalNextHop counts towards other ASes alone, as in Calico.
func (b *builder) nextHop(out *bgp.Peer, p *peering) {
	mode := p.spec.NextHopMode
	switch {
	case mode == nil:
		if p.spec.KeepOriginalNextHop && !b.internal(out) {
			out.NextHop = bgp.NextHopKeep
		}
	case *mode != v3.NextHopAuto:
		if out.NextHop = bgp.NextHopMode(*mode); *mode != v3.NextHopSelf && *mode != v3.NextHopKeep {
			b.fault("BGPPeer", p.name, "spec.nextHopMode %q: want Auto, Self or Keep", *mode)
		}
	}
}

// gateway notes by which router the peer is reached.
func (b *builder) gateway(out *bgp.Peer, p *peering) {
	if p.spec.ReachableBy == "" || p.far != nil || out.Address != p.addr {
		return
	}
	via, err := netip.ParseAddr(p.spec.ReachableBy)
	if err != nil || via.Is4() != out.Address.Is4() {
		b.fault("BGPPeer", p.name, "spec.reachableBy %q has no effect: write the address of a router, of the family of spec.peerIP", p.spec.ReachableBy)
		return
	}
	b.gateways[out.Address] = via
}
