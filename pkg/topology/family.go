package topology

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// side is what one node is in one family.
type side struct {
	name   string
	addr   netip.Prefix // with its subnet's length
	tunnel netip.Addr
	mac    model.MAC
}

// family is the work of one address family.
type family struct {
	in     Input
	six    bool
	dev    string
	under  Underlay
	pools  []model.Pool
	self   side
	tunnel bool                         // the VXLAN device exists
	ipip   netip.Addr                   // of tunl0; not valid when it isn't wanted
	last   map[netip.Prefix]model.Route // in.Former by destination; nil until it is needed
	peers  map[string]*peer
	at     map[netip.Addr]*peer // who has an address
}

// peer is another node and what was found out about it.
type peer struct {
	side
	near     bool // in this node's subnet
	addrOK   bool // its address is its own
	tunnelOK bool // it can be reached by tunnel
	used     bool // some route goes by its tunnel
}

func newFamily(in Input, six bool) *family {
	f := &family{in: in, six: six, dev: VXLAN4, under: in.V4, peers: make(map[string]*peer, len(in.Nodes)), at: make(map[netip.Addr]*peer, len(in.Nodes))}
	if six {
		f.dev, f.under = VXLAN6, in.V6
	}
	for _, p := range in.Pools {
		if !p.CIDR.IsValid() || p.CIDR.Addr().Is4() == six {
			continue
		}
		f.pools = append(f.pools, p)
		f.tunnel = f.tunnel || encapsulates(p)
	}
	// Pools don't overlap; should some do, the smallest one counts.
	slices.SortFunc(f.pools, func(a, b model.Pool) int {
		return cmp.Or(cmp.Compare(b.CIDR.Bits(), a.CIDR.Bits()), cmp.Compare(a.Name, b.Name))
	})
	f.self = f.side(in.Nodes[in.Self])
	f.self.name = in.Self
	if f.self.mac == (model.MAC{}) {
		f.self.mac = model.TunnelMAC(in.Self, six)
	}
	f.tunnel = f.tunnel && f.self.addr.IsValid() && f.self.tunnel.IsValid()
	if !six && f.self.addr.IsValid() && slices.ContainsFunc(f.pools, f.wraps) {
		f.ipip = in.Nodes[in.Self].IPIPAddr4
	}
	return f
}

func encapsulates(p model.Pool) bool {
	return p.VXLAN == model.EncapAlways || p.VXLAN == model.EncapCrossSubnet
}

func (f *family) side(n model.Node) side {
	if f.six {
		return side{n.Name, n.Addr6, n.VXLANAddr6, n.VXLANMAC6}
	}
	return side{n.Name, n.Addr4, n.VXLANAddr4, n.VXLANMAC4}
}

func (f *family) device() model.VXLAN {
	return model.VXLAN{
		Name: f.dev, VNI: f.in.VNI, Port: f.in.Port, Parent: f.under.Parent, MTU: f.under.MTU,
		Local: f.self.addr.Addr(), MAC: f.self.mac, Addr: f.self.tunnel, Checksum: f.in.Checksum,
	}
}

// claim finds the peers and gives each address and MAC to one node: to this one first, then by name.
func (f *family) claim(w *Wanted) {
	addrs, tunnels, macs := map[netip.Addr]string{}, map[netip.Addr]string{}, map[model.MAC]string{}
	lose := func(what string, value fmt.Stringer, owner, name string) {
		v := "IPv4"
		if f.six {
			v = "IPv6"
		}
		line := fmt.Sprintf("%s %s %s is claimed by nodes %s and %s: %[4]s keeps it", v, what, value, owner, name)
		w.Conflicts = append(w.Conflicts, line)
		if owner == f.self.name && value == fmt.Stringer(f.self.addr.Addr()) {
			w.Shared = append(w.Shared, line)
		}
	}
	addrs[f.self.addr.Addr()], tunnels[f.self.tunnel], macs[f.self.mac] = f.self.name, f.self.name, f.self.name
	for _, name := range slices.Sorted(maps.Keys(f.in.Nodes)) {
		if name == f.in.Self {
			continue
		}
		p := &peer{side: f.side(f.in.Nodes[name])}
		p.name = name
		if !p.addr.IsValid() {
			continue
		}
		f.peers[name] = p
		p.near = f.self.addr.IsValid() && f.self.addr.Masked().Contains(p.addr.Addr()) && p.addr.Masked().Contains(f.self.addr.Addr())
		if owner, taken := addrs[p.addr.Addr()]; taken {
			lose("address", p.addr.Addr(), owner, name)
			continue
		}
		addrs[p.addr.Addr()], f.at[p.addr.Addr()], p.addrOK = name, p, true
		if !p.tunnel.IsValid() || p.mac == (model.MAC{}) {
			continue
		}
		if owner, taken := tunnels[p.tunnel]; taken {
			lose("tunnel address", p.tunnel, owner, name)
			continue
		}
		if owner, taken := macs[p.mac]; taken {
			lose("tunnel MAC", p.mac, owner, name)
			continue
		}
		tunnels[p.tunnel], macs[p.mac], p.tunnelOK = name, name, true
	}
}

// route returns the route for one block; not ok when it has none.
func (f *family) route(b model.Block) (model.Route, bool) {
	if b.Node == f.in.Self {
		return model.Route{Dst: b.CIDR, Kind: model.RouteBlackhole, Proto: model.ProtoMargay}, true
	}
	pool, ok := f.pool(b.CIDR)
	if !ok {
		return model.Route{}, false
	}
	return f.via(b.CIDR, b.Node, pool, f.fromDatastore(pool))
}

// loans returns the routes for the addresses of a block that live on other nodes than its owner, this one left out: here
// they are pods' routes. An owner does not wait for BGP, since an ADD waits for it.
func (f *family) loans(b model.Block) (out []model.Route) {
	if b.Loans == "" {
		return nil
	}
	pool, ok := f.pool(b.CIDR)
	if !ok {
		return nil
	}
	for _, l := range b.Loans.List() {
		if l.Node == f.in.Self || l.Node == b.Node || !b.CIDR.Contains(l.Addr) {
			continue
		}
		if r, ok := f.via(netip.PrefixFrom(l.Addr, l.Addr.BitLen()), l.Node, pool, b.Node == f.in.Self || f.fromDatastore(pool)); ok {
			out = append(out, r)
		}
	}
	return out
}

// via returns the route by which a node is reached for a destination in a pool. Without VXLAN there is one only if it is to come from the
// datastore.
func (f *family) via(dst netip.Prefix, node string, pool model.Pool, datastore bool) (model.Route, bool) {
	p := f.peers[node]
	if p == nil || !p.addrOK {
		return model.Route{}, false
	}
	switch {
	case pool.VXLAN == model.EncapAlways, pool.VXLAN == model.EncapCrossSubnet && !p.near:
		if !f.tunnel || !p.tunnelOK {
			return f.former(dst, p)
		}
		p.used = true
		return model.Route{Dst: dst, Dev: f.dev, Via: p.tunnel, OnLink: true, Proto: model.ProtoMargay}, true
	case !encapsulates(pool) && !datastore:
		return model.Route{}, false
	case f.wraps(pool) && (pool.IPIP == model.EncapAlways || !p.near):
		if !f.ipip.IsValid() {
			return model.Route{}, false
		}
		return model.Route{Dst: dst, Dev: IPIP4, Via: p.addr.Addr(), OnLink: true, Proto: model.ProtoMargay}, true
	case p.near && f.under.Parent != "":
		return model.Route{Dst: dst, Dev: f.under.Parent, Via: p.addr.Addr(), Proto: model.ProtoMargay}, true
	}
	return model.Route{}, false
}

// fromDatastore says whether the routes to the blocks of a pool without VXLAN come from Blocks, not from Learned.
func (f *family) fromDatastore(p model.Pool) bool {
	return f.in.ClusterRoutes || !f.in.BGP && p.IPIP != model.EncapAlways && p.IPIP != model.EncapCrossSubnet
}

// wraps says whether packets to a pool's addresses may go through tunl0, which knows IPv4 alone.
func (f *family) wraps(p model.Pool) bool {
	return !f.six && (p.IPIP == model.EncapAlways || p.IPIP == model.EncapCrossSubnet)
}

// pool returns the pool that a block lies in wholly.
func (f *family) pool(block netip.Prefix) (model.Pool, bool) {
	inside := func(p model.Pool) bool {
		return p.CIDR.Bits() <= block.Bits() && p.CIDR.Contains(block.Addr())
	}
	i := slices.IndexFunc(f.pools, inside)
	if i < 0 {
		return model.Pool{}, false
	}
	return f.pools[i], true
}

// entries appends the neighbour and forwarding entry of each peer that a route tunnels to.
func (f *family) entries(w *Wanted) {
	neighs, fdb := len(w.Neighs), len(w.FDB)
	for _, p := range f.peers {
		if p.used {
			w.Neighs = append(w.Neighs, model.Neigh{Dev: f.dev, IP: p.tunnel, MAC: p.mac})
			w.FDB = append(w.FDB, model.FDB{Dev: f.dev, MAC: p.mac, Dst: p.addr.Addr()})
		}
	}
	slices.SortFunc(w.Neighs[neighs:], func(a, b model.Neigh) int { return a.IP.Compare(b.IP) })
	slices.SortFunc(w.FDB[fdb:], func(a, b model.FDB) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
}
